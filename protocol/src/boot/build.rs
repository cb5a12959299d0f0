//! What is in a U-Boot binary: the environment that was compiled in, and whether it can do what the switch needs.
//!
//! A `uboot.env` replaces the environment that was compiled in wholly, with all its load addresses, and those differ from
//! build to build. So ours is made of the very binary that is on the card. There is no table that says where it lies:
//! `default_environment[]` (include/env_default.h) is `name=value` strings with a NUL behind each and one more at the end,
//! and `bootcmd` is in it.

use std::collections::BTreeMap;
use std::fmt;

/// The largest binary that is read, bytes; the largest of Debian's has 1.2 MB.
pub const MOST: usize = 8 * 1024 * 1024;
/// The longest value that is taken for one, bytes.
const LONGEST: usize = 8 * 1024;
/// Without these nothing can be loaded.
pub(super) const NEEDED: [&str; 3] = ["scriptaddr", "kernel_addr_r", "ramdisk_addr_r"];
/// What is called, and by which text in the binary one sees that it is there. Names of commands that end another string
/// (`env`, `usb`, `test`) share its bytes (ld(1), SHF_MERGE), so their help is looked for.
const COMMANDS: [(&str, &[u8]); 5] = [
    ("fatload", b"\0fatload\0"),
    ("fatwrite", b"\0fatwrite\0"),
    ("env export", b"env export [-t"),
    ("env import", b"env import [-d] [-t"),
    ("bootflow scan", b"\0bootflow\0"),
];
/// And this where the SSD is at USB.
const USB: (&str, &[u8]) = ("usb start", b"start - start (scan) USB");

/// Why a card's U-Boot can't be the switch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSwitch {
    /// The file is not U-Boot.
    #[error("{0} is not U-Boot: it has no environment with a bootcmd in it")]
    NotUBoot(String),
    /// Its environment can't be told from other text, or lacks what every build has.
    #[error("{file} is a U-Boot whose environment is not understood: {why}")]
    Unknown {
        /// The file.
        file: String,
        /// What.
        why: String,
    },
    /// It starts systems in another way than `bootflow scan`.
    #[error("{file} starts systems by `{bootcmd}`, not by `bootflow scan`")]
    OtherWay {
        /// The file.
        file: String,
        /// What it has instead.
        bootcmd: String,
    },
    /// It lacks a command.
    #[error("{file} has no command `{command}`")]
    Lacks {
        /// The file.
        file: String,
        /// The command.
        command: &'static str,
    },
    /// It keeps its environment somewhere else than on the FAT partition.
    #[error("{0} does not read its environment from uboot.env on the FAT partition")]
    OtherPlace(String),
    /// What we add is too much.
    #[error("the environment of {file} has {bytes} bytes with what the switch needs, {most} are possible")]
    TooLong {
        /// The file.
        file: String,
        /// So many.
        bytes: usize,
        /// The most.
        most: usize,
    },
}

impl NoSwitch {
    /// The likely cause, and what to do.
    #[must_use]
    pub fn advice(&self) -> (&'static str, &'static str) {
        match self {
            NoSwitch::NotUBoot(_) => (
                "The card's image starts a kernel directly, without U-Boot.",
                "Use an image with U-Boot (nixpkgs' and cygnet's have it), or install with `--boot-from ssd` and pull the card afterwards.",
            ),
            NoSwitch::Unknown { .. } => (
                "It is a build that cygnet has not seen.",
                "Flash the card with cygnet's image; or install with `--boot-from ssd` and pull the card afterwards.",
            ),
            NoSwitch::OtherWay { .. } => (
                "It is older than U-Boot v2023.10, or was given a bootcmd of its own.",
                "Flash the card with a newer image; or install with `--boot-from ssd` and pull the card afterwards.",
            ),
            NoSwitch::Lacks { .. } | NoSwitch::TooLong { .. } => (
                "It was built with fewer commands, or with a larger environment, than U-Boot's own configuration for this board.",
                "Flash the card with cygnet's or nixpkgs' image; or install with `--boot-from ssd` and pull the card afterwards.",
            ),
            NoSwitch::OtherPlace(_) => (
                "It was built for another board, or with its environment in another place.",
                "Flash the card with cygnet's or nixpkgs' image; or install with `--boot-from ssd` and pull the card afterwards.",
            ),
        }
    }
}

/// A release of U-Boot, which are counted by year and month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// 2025.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{:02}", self.year, self.month)
    }
}

/// What was found in a binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The name of its file.
    pub file: String,
    /// The release that it says it is.
    pub release: Option<Release>,
    /// The environment that was compiled in, in its own order.
    pub defaults: Vec<(String, String)>,
    /// How it looks for systems: `bootflow scan`, with the flags that this build knows.
    pub scan: String,
    /// It reads `uboot.env` from a FAT partition.
    pub in_fat: bool,
    usb: bool,
}

impl Build {
    /// Looks into the binary that is called `file`.
    ///
    /// # Errors
    /// If it is not U-Boot, not understood, or can't be the switch.
    pub fn find(file: &str, binary: &[u8]) -> Result<Self, NoSwitch> {
        let file = file.to_owned();
        let unknown = |why: &str| NoSwitch::Unknown { file: file.clone(), why: why.to_owned() };
        if binary.len() > MOST {
            return Err(unknown("the file is too large"));
        }
        let found: Vec<Vec<(String, String)>> =
            places(binary, b"\0bootcmd=").filter_map(|at| block(binary, at + 1)).collect();
        let is_whole = |block: &&Vec<(String, String)>| {
            NEEDED.iter().all(|name| block.iter().any(|(known, value)| known == name && !value.is_empty()))
        };
        let mut whole = found.iter().filter(is_whole);
        let defaults = match (whole.next(), whole.next(), found.is_empty()) {
            (Some(one), None, _) => one.clone(),
            (Some(_), Some(_), _) => return Err(unknown("there is more than one in it")),
            (None, _, true) => return Err(NoSwitch::NotUBoot(file)),
            (None, _, false) => return Err(unknown("it lacks load addresses")),
        };
        let mut names = BTreeMap::new();
        for (name, value) in &defaults {
            if names.insert(name.as_str(), value.as_str()).is_some() {
                return Err(unknown("a name is in it twice"));
            }
        }
        let bootcmd = names.get("bootcmd").copied().unwrap_or_default().trim();
        if !is_scan(bootcmd) {
            let bootcmd = bootcmd.chars().take(60).collect();
            return Err(NoSwitch::OtherWay { file, bootcmd });
        }
        let scan = bootcmd.to_owned();
        if let Some((command, _)) = COMMANDS.iter().find(|(_, text)| places(binary, text).next().is_none()) {
            return Err(NoSwitch::Lacks { file, command });
        }
        let has = |text: &[u8]| places(binary, text).next().is_some();
        Ok(Self { release: release(binary), in_fat: has(b"uboot.env\0"), usb: has(USB.1), file, defaults, scan })
    }

    /// The value of a variable that was compiled in.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.defaults.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// That it can start disks at USB.
    ///
    /// # Errors
    /// If it can't.
    pub fn with_usb(&self) -> Result<(), NoSwitch> {
        if self.usb { Ok(()) } else { Err(NoSwitch::Lacks { file: self.file.clone(), command: USB.0 }) }
    }
}

/// `bootflow scan`, or that with flags.
pub(super) fn is_scan(bootcmd: &str) -> bool {
    let flags = |rest: &str| {
        let letters = rest.strip_prefix(" -");
        letters.is_some_and(|letters| !letters.is_empty() && letters.bytes().all(|b| b.is_ascii_lowercase()))
    };
    bootcmd.strip_prefix("bootflow scan").is_some_and(|rest| rest.is_empty() || flags(rest))
}

/// Where `text` begins, each time.
fn places<'a>(binary: &'a [u8], text: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    binary.windows(text.len()).enumerate().filter(move |(_, window)| *window == text).map(|(at, _)| at)
}

/// The strings around the one that begins at `at`, back to the first and on to the empty one.
fn block(binary: &[u8], at: usize) -> Option<Vec<(String, String)>> {
    let mut start = at;
    // Each step goes back over one string and its NUL.
    while let Some(before) = binary.get(..start.checked_sub(1)?) {
        let begin = before.iter().rposition(|byte| *byte == 0).map_or(0, |nul| nul + 1);
        if begin == 0 || entry(before.get(begin..)?).is_none() {
            break;
        }
        start = begin;
    }
    let mut entries = Vec::new();
    let mut rest = binary.get(start..)?;
    let mut bytes = 0;
    loop {
        let end = rest.iter().take(LONGEST + 64).position(|byte| *byte == 0)?;
        let (text, tail) = rest.split_at_checked(end)?;
        if text.is_empty() {
            return Some(entries);
        }
        bytes += text.len() + 1;
        if bytes > super::environment::SIZE {
            return None;
        }
        entries.push(entry(text)?);
        rest = tail.get(1..)?;
    }
}

/// `name=value`, if it is that and nothing else.
pub(super) fn entry(text: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= LONGEST)?;
    let (name, value) = text.split_once('=')?;
    let good = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) && !name.is_empty();
    let printable = value.bytes().all(|b| (b' '..=b'~').contains(&b) || b == b'\t' || b == b'\n');
    (good && printable).then(|| (name.to_owned(), value.to_owned()))
}

/// `U-Boot 2025.01-3+deb13u1 (…)`.
fn release(binary: &[u8]) -> Option<Release> {
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u16>().ok();
    places(binary, b"U-Boot 20").find_map(|at| {
        let text = binary.get(at + 7..at + 14)?;
        let (year, month) = (number(text.get(..4)?)?, number(text.get(5..7)?)?);
        let month = u8::try_from(month).ok().filter(|month| (1..=12).contains(month))?;
        (text.get(4) == Some(&b'.')).then_some(Release { year, month })
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As in Debian's rpi_4 of 2025.01: what is around it, its order and its values.
    pub const RPI_4: &str = "bootcmd=bootflow scan\0bootdelay=2\0baudrate=115200\0preboot=pci enum; usb start;\0\
        loadaddr=0x1000000\0arch=arm\0boot_targets=mmc usb pxe dhcp\0scriptaddr=0x02400000\0fdt_high=ffffffffffffffff\0\
        stdin=serial,usbkbd\0fdt_addr_r=0x02600000\0ramdisk_addr_r=0x02700000\0pxefile_addr_r=0x02500000\0\
        kernel_addr_r=0x00080000\0\0";

    pub fn binary(environment: &str) -> Vec<u8> {
        let mut bytes = vec![0x14, 0, 0, 0x14, 0xd5, 0x03, 0x20, 0x1f, 0];
        bytes.extend(b"U-Boot 2025.01-3+deb13u1 (Jun 24 2026 - 09:07:15 +0000)\0x=y\0\xff\xfe\0");
        bytes.extend(environment.as_bytes());
        bytes.extend(
            b"\0fatload\0fatwrite\0bootflow\0uboot.env\0\
            env export [-t | -b | -c]\0env import [-d] [-t [-r]\0start - start (scan) USB controller\0",
        );
        bytes
    }

    #[test]
    fn what_was_compiled_in_is_found() {
        let build = Build::find("u-boot-rpi4.bin", &binary(RPI_4)).unwrap();
        assert_eq!(build.release, Some(Release { year: 2025, month: 1 }));
        assert_eq!(build.release.unwrap().to_string(), "v2025.01");
        assert_eq!(build.defaults.len(), 14);
        assert_eq!(build.defaults[0], ("bootcmd".into(), "bootflow scan".into()));
        assert_eq!(build.get("kernel_addr_r"), Some("0x00080000"));
        assert_eq!((build.scan.as_str(), build.in_fat, build.with_usb()), ("bootflow scan", true, Ok(())));
        let first = RPI_4.replacen("bootcmd", "bootargs=quiet\0bootcmd", 1);
        let build = Build::find("x", &binary(&first)).unwrap();
        assert_eq!(build.defaults[0].0, "bootargs", "what comes before bootcmd belongs to it");
        let flags = RPI_4.replacen("scan", "scan -lb", 1);
        assert_eq!(Build::find("x", &binary(&flags)).unwrap().scan, "bootflow scan -lb");
    }

    #[test]
    fn what_cannot_be_the_switch_is_refused_with_advice() {
        let find = |bytes: &[u8]| Build::find("k.img", bytes).unwrap_err();
        let change = |from: &str, to: &str| find(&binary(&RPI_4.replacen(from, to, 1)));
        let without = |text: &str| {
            let bytes = binary(RPI_4);
            let at = places(&bytes, text.as_bytes()).next().unwrap();
            let mut bytes = bytes;
            bytes[at + 1] = b'X';
            Build::find("k.img", &bytes)
        };
        let refusals = [
            find(b"\x7fELF, a kernel"),
            change("scriptaddr", "scriptaddx"),
            change("bootflow scan", "run distro_bootcmd"),
            change("bootflow scan", "bootflow scan; poweroff"),
            without("\0fatwrite\0").unwrap_err(),
            without("env import [").unwrap_err(),
            without("start - start (scan)").unwrap().with_usb().unwrap_err(),
            change("arch=arm", "arch=arm\0arch=arm"),
            find(&[binary(RPI_4), binary(RPI_4)].concat()),
            find(&vec![0; MOST + 1]),
        ];
        for refusal in &refusals {
            let (cause, remedy) = refusal.advice();
            assert!(refusal.to_string().contains("k.img") && cause.ends_with('.') && remedy.ends_with('.'));
        }
        assert!(matches!(refusals[0], NoSwitch::NotUBoot(_)));
        assert!(matches!(&refusals[2], NoSwitch::OtherWay { bootcmd, .. } if bootcmd == "run distro_bootcmd"));
        assert!(matches!(refusals[3], NoSwitch::OtherWay { .. }));
        assert!(matches!(refusals[4], NoSwitch::Lacks { command: "fatwrite", .. }));
        assert!(!without("uboot.env").unwrap().in_fat);
    }

    #[test]
    fn any_bytes_are_survived() {
        for cut in 0..binary(RPI_4).len() {
            let bytes = &binary(RPI_4)[..cut];
            let _ = Build::find("x", bytes);
        }
        let mut endless = b"\0bootcmd=".to_vec();
        endless.resize(100_000, b'a');
        assert!(Build::find("x", &endless).is_err());
        assert!(Build::find("x", b"\0bootcmd=x\0\0").is_err());
        assert!(Build::find("x", b"bootcmd=x\0\0").is_err());
    }
}
