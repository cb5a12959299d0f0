//! The environment that makes U-Boot do as [`super::switch`] says.
//!
//! All of it is what was compiled into the binary on the card, or what the image's own `uboot.env` had in its place, but for `bootcmd`,
//! `preboot` (which starts USB, see below) and `bootdelay` (-2: no key stops it, and no noise on an open serial line). What we
//! add begins with `cygnet`.
//!
//! - Nothing is done at USB on the way to the card: up to v2025.10 U-Boot's EFI boot manager comes before `boot_targets` and
//!   would start an SSD that has `EFI/BOOT/BOOTAA64.EFI`. For the same reason USB is stopped again after an SSD with nothing
//!   to start.
//! - No sum is formed: `setexpr` is hexadecimal and takes any text for a number. Each count has a line of its own.
//! - Lost or damaged, the file is as if there were none: U-Boot takes what was compiled in, and that starts the card.

use super::build::{self, Build, NoSwitch};
use super::switch::{MOST_STARTS, READ, Start, Switch};
use super::{DIRECTORY, SWITCH};
use std::fmt::Write;

/// `CONFIG_ENV_SIZE` of the Raspberry Pis' configurations, bytes.
pub const SIZE: usize = 0x4000;
/// The CRC32 in front.
const CRC: usize = 4;
/// Says that the rest is the image's own environment, not the binary's.
const GIVEN: &str = "cygnet_given";
/// And this was its preboot.
const PREBOOT: &str = "cygnet_preboot";
/// What no variable of a build may be called, and what we may write over.
const OURS: &str = "cygnet";

/// What U-Boot calls the disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    /// The card's FAT partition, as `fatload` has it: `mmc 0:1`.
    pub fat: String,
    /// The card, as `boot_targets` has it: `mmc`.
    pub card: String,
    /// Every disk but the card, likewise: `usb`.
    pub others: String,
    /// What has to be done before the card's FAT partition can be read.
    pub find_card: Option<String>,
    /// The others are at USB, which has to be started, and stopped again.
    pub usb: bool,
}

impl Devices {
    /// Of a Raspberry Pi: the card in its slot, the SSD at USB.
    #[must_use]
    pub fn of_pi() -> Self {
        Self { fat: "mmc 0:1".into(), card: "mmc".into(), others: "usb".into(), find_card: None, usb: true }
    }

    /// Of QEMU's `virt`: the card is the first virtio device, `disks` is how many virtio devices there may be.
    #[must_use]
    pub fn of_virt(disks: u8) -> Self {
        let others: Vec<String> = (1..disks.max(2)).map(|number| format!("virtio{number}")).collect();
        Self {
            fat: "virtio 0:1".into(),
            card: "virtio0".into(),
            others: others.join(" "),
            find_card: Some("virtio scan".into()),
            usb: false,
        }
    }
}

/// Variables and their values, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    variables: Vec<(String, String)>,
}

/// Why a file is no environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// It has another length.
    #[error("it has {0} bytes instead of {SIZE}")]
    Length(usize),
    /// Its bytes are not those that were written.
    #[error("its checksum is wrong")]
    Checksum,
    /// A variable is not one.
    #[error("it has something in it that is no variable")]
    Variable,
}

impl Environment {
    /// The environment for a card with this U-Boot on it, and with this `uboot.env` if it has one.
    ///
    /// # Errors
    /// If that U-Boot can't start the SSD, the card's own environment starts systems in another way, or the new one is too
    /// long for it.
    pub fn for_card(build: &Build, devices: &Devices, there: Option<&Environment>) -> Result<Self, NoSwitch> {
        if devices.usb {
            build.with_usb()?;
        }
        let (base, given) = base(build, there)?;
        let changed = |name: &str| matches!(name, "bootcmd" | "preboot" | "bootdelay") || name.starts_with(OURS);
        let mut variables = vec![("bootcmd".to_owned(), bootcmd()), ("bootdelay".to_owned(), "-2".to_owned())];
        variables.extend(scripts(build, base, devices));
        if given {
            variables.push((GIVEN.to_owned(), "yes".to_owned()));
            variables.push((PREBOOT.to_owned(), preboot(base).to_owned()));
        }
        variables.extend(base.iter().filter(|(name, value)| !changed(name) && !value.is_empty()).cloned());
        let environment = Self { variables };
        match environment.length() {
            bytes if bytes > SIZE => Err(NoSwitch::TooLong { file: build.file.clone(), bytes, most: SIZE }),
            _ => Ok(environment),
        }
    }

    /// All variables, in the order of the file.
    #[must_use]
    pub fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// The value of one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        value(&self.variables, name)
    }

    /// Whether it is one that [`Self::for_card`] has made, of whatever build.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.get("cygnet_read").is_some() && self.get("bootcmd") == Some(&bootcmd())
    }

    /// One `name=value` a line, as `env import -t` reads it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.variables {
            // Writing to a string does not fail. A newline in a value is written with a backslash (env export -t does so).
            let _ = writeln!(text, "{name}={}", value.replace('\\', "\\\\").replace('\n', "\\\n"));
        }
        text
    }

    /// The file: its CRC32 in little-endian order, `name=value` with a NUL behind each, NULs up to [`SIZE`].
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        self.render_in(SIZE)
    }

    /// The same for a build with another `CONFIG_ENV_SIZE`, bytes; QEMU's has 0x40000, in flash memory.
    #[must_use]
    pub fn render_in(&self, size: usize) -> Vec<u8> {
        let mut data = Vec::with_capacity(size);
        for (name, value) in &self.variables {
            data.extend(format!("{name}={value}\0").into_bytes());
        }
        data.resize(size.saturating_sub(CRC), 0);
        let mut file = crc32fast::hash(&data).to_le_bytes().to_vec();
        file.append(&mut data);
        file
    }

    /// Reads such a file.
    ///
    /// # Errors
    /// If U-Boot would not take it.
    pub fn parse(file: &[u8]) -> Result<Self, Damaged> {
        if file.len() != SIZE {
            return Err(Damaged::Length(file.len()));
        }
        let (crc, data) = file.split_first_chunk::<CRC>().ok_or(Damaged::Length(file.len()))?;
        if u32::from_le_bytes(*crc) != crc32fast::hash(data) {
            return Err(Damaged::Checksum);
        }
        let mut variables = Vec::new();
        for text in data.split(|byte| *byte == 0).take_while(|text| !text.is_empty()) {
            variables.push(build::entry(text).ok_or(Damaged::Variable)?);
        }
        Ok(Self { variables })
    }

    /// Bytes of the file that are needed.
    fn length(&self) -> usize {
        CRC + self.variables.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>() + 1
    }
}

/// Variables, and whether they are the image's own.
type Base<'a> = (&'a [(String, String)], bool);

/// What the environment is made from: the binary's, or the image's own, which U-Boot takes in its place with all that is in it. Addresses are
/// in it, for one, moved by whoever found that the kernel lies over the initial RAM disk.
fn base<'a>(build: &'a Build, there: Option<&'a Environment>) -> Result<Base<'a>, NoSwitch> {
    let Some(there) = there else { return Ok((&build.defaults, false)) };
    // Of whatever release of cygnet.
    if there.get("cygnet_read").is_some() {
        let given = there.get(GIVEN).is_some();
        return Ok((if given { &there.variables } else { &build.defaults }, given));
    }
    match there.get("bootcmd") {
        Some(bootcmd) if !build::is_scan(bootcmd.trim()) => {
            Err(NoSwitch::OtherWay { file: super::ENVIRONMENT.to_owned(), bootcmd: bootcmd.chars().take(60).collect() })
        }
        _ if !build::NEEDED.iter().all(|name| there.get(name).is_some_and(|value| !value.is_empty())) => {
            Err(NoSwitch::Unknown { file: super::ENVIRONMENT.to_owned(), why: "it lacks load addresses".to_owned() })
        }
        _ => Ok((&there.variables, true)),
    }
}

fn preboot(base: &[(String, String)]) -> &str {
    value(base, PREBOOT).or_else(|| value(base, "preboot")).unwrap_or_default()
}

fn value<'a>(variables: &'a [(String, String)], name: &str) -> Option<&'a str> {
    variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// What `echo` says when a start comes to that; the tests in the virtual Pi wait for these.
pub mod says {
    /// The trial begins.
    pub const TRIAL: &str = "cygnet: trial";
    /// A confirmed system starts.
    pub const SSD: &str = "cygnet: ssd";
    /// There is nothing on the SSD that could be started.
    pub const NOTHING: &str = "cygnet: nothing to start on the SSD";
    /// The card starts.
    pub const CARD: &str = "cygnet: card";
    /// The switch could not be written.
    pub const NOT_WRITTEN: &str = "cygnet: the card cannot be written";
}

/// One `if` over all that the switch can say; what it can't say is the card.
fn bootcmd() -> String {
    let mut command = String::from(
        "run cygnet_read; echo \"cygnet: ${cygnet} ${cygnet_tries}\"; setenv cygnet_was \"${cygnet_tries}\"; ",
    );
    let mut word = "if";
    for state in Switch::ALL {
        let (name, tries) = state.words();
        let run = match state.at_power_on() {
            Start::Card => continue,
            Start::Trial { .. } => "run cygnet_trial".to_owned(),
            Start::SsdUncounted => "run cygnet_keep".to_owned(),
            Start::Ssd { write, .. } => format!("setenv cygnet_next {}; run cygnet_stay", write.words().1),
        };
        let _ = write!(command, "{word} test \"${{cygnet}}-${{cygnet_tries}}\" = {name}-{tries}; then {run}; ");
        word = "elif";
    }
    let _ = write!(command, "fi; run cygnet_card; run cygnet_last; sleep 10; reset");
    command
}

/// The variables that `bootcmd` runs.
fn scripts(build: &Build, base: &[(String, String)], devices: &Devices) -> Vec<(String, String)> {
    let Devices { fat, card, others, .. } = devices;
    let scan = &build.scan;
    let find_card = devices.find_card.as_ref().map(|command| format!("{command}; ")).unwrap_or_default();
    // On a Pi 4 USB is behind PCIe, which the build's own preboot starts first.
    let preboot = preboot(base).trim().trim_end_matches(';').trim();
    let start = match devices.usb {
        false => String::new(),
        true if preboot.contains("usb start") => format!("{preboot}; "),
        true => "usb start; ".to_owned(),
    };
    let stop = if devices.usb { "; usb stop" } else { "" };
    let (once, gone) = (Switch::Once.at_power_on(), says::NOTHING);
    let (ran, back) = match once {
        Start::Trial { write, back } => (write.words(), back.words()),
        // Not so; and then nothing would be started.
        Start::Card | Start::Ssd { .. } | Start::SsdUncounted => (Switch::Card.words(), Switch::Card.words()),
    };
    let variables = [
        ("cygnet_file", format!("{DIRECTORY}/{SWITCH}")),
        (
            "cygnet_read",
            format!(
                "{find_card}setenv cygnet card; setenv cygnet_tries 0; if fatload {fat} ${{scriptaddr}} ${{cygnet_file}} \
                 {READ:x}; then env import -t ${{scriptaddr}} ${{filesize}} cygnet cygnet_tries; fi"
            ),
        ),
        (
            "cygnet_write",
            format!(
                "env export -t ${{scriptaddr}} cygnet cygnet_tries && fatwrite {fat} ${{scriptaddr}} ${{cygnet_file}} \
                 ${{filesize}}"
            ),
        ),
        ("cygnet_ssd", format!("{start}setenv boot_targets {others}; {scan}{stop}")),
        ("cygnet_card", format!("echo {}; setenv boot_targets {card}; {scan}", says::CARD)),
        (
            "cygnet_trial",
            format!(
                "setenv cygnet {}; setenv cygnet_tries {}; if run cygnet_write; then echo {}; run cygnet_ssd; echo {gone}; \
                 setenv cygnet_tries {}; run cygnet_write; else echo {}; fi",
                ran.0,
                ran.1,
                says::TRIAL,
                back.1,
                says::NOT_WRITTEN,
            ),
        ),
        (
            "cygnet_stay",
            format!(
                "setenv cygnet_tries ${{cygnet_next}}; if run cygnet_write; then echo {ssd}; else echo {}; echo {ssd}; fi; \
                 run cygnet_ssd; echo {gone}; setenv cygnet_tries ${{cygnet_was}}; run cygnet_write",
                says::NOT_WRITTEN,
                ssd = says::SSD,
            ),
        ),
        ("cygnet_keep", format!("echo {}; run cygnet_ssd; echo {gone}", says::SSD)),
        // A card without a system of its own: whatever there is, rather than nothing.
        (
            "cygnet_last",
            format!("echo cygnet: nothing to start on the card; {start}setenv boot_targets {card} {others}; {scan}"),
        ),
    ];
    const { assert!(MOST_STARTS < 10, "one digit, so that the file keeps its length") };
    variables.map(|(name, value)| (name.to_owned(), value)).into()
}

#[cfg(test)]
mod tests;
