//! The chip, its driver, its firmware, its interface.

use super::air::scans_fail;
use super::patience::{self, waited};
use super::{Finding, say};
use crate::online::diagnosis::{Code, Diagnosis};
use crate::online::kernel::KernelSign;
use crate::online::link::Link;
use crate::online::observation::{ModuleState, Observations};

const MODULE: &str = "brcmfmac";

pub(super) fn sdio(o: &Observations) -> Finding {
    let detail = o.hardware.sdio.join(" ");
    // A chip that does not work while the voltage is low, does not work because it is.
    if let Some((_, failed)) = failure(o)
        && under_voltage_seen(o)
        && blames_power(failed.code)
    {
        return Finding::fault(no_power(o, &failed), "voltage too low");
    }
    if let Some((link, diagnosis)) = failure(o)
        && link == Link::Sdio
    {
        let short = if diagnosis.code == Code::SdioStuck { "hangs" } else { "does not answer" };
        return Finding::fault(diagnosis, short);
    }
    if o.hardware.under_voltage {
        return Finding::warning(low_voltage(o), "voltage too low");
    }
    match (&o.radio, o.hardware.expects_sdio, o.hardware.sdio.is_empty()) {
        (None, true, true) => Finding::busy(Link::Sdio, "waiting for the chip"),
        (_, false, true) => Finding::unused(Link::Sdio),
        (Some(_), true, true) | (_, _, false) => Finding::up(Link::Sdio, detail),
    }
}

pub(super) fn driver(o: &Observations) -> Finding {
    if let Some(radio) = &o.radio {
        return Finding::up(Link::Driver, radio.driver.clone());
    }
    if let Some((Link::Driver, diagnosis)) = failure(o) {
        let short = match diagnosis.code {
            Code::NotLoaded => "not loaded",
            Code::NoVendorModule => "vendor's module missing",
            _ => "not in the image",
        };
        return Finding::fault(diagnosis, short);
    }
    match o.hardware.driver {
        ModuleState::Loaded => Finding::up(Link::Driver, MODULE),
        ModuleState::Available => Finding::busy(Link::Driver, "loading"),
        ModuleState::Unknown | ModuleState::Missing => Finding::unused(Link::Driver),
    }
}

pub(super) fn firmware(o: &Observations) -> Finding {
    if let Some((Link::Firmware, diagnosis)) = failure(o) {
        let short = match diagnosis.code {
            Code::NoFirmware => "file missing",
            Code::Nvram => "NVRAM or CLM refused",
            _ => "does not run",
        };
        return Finding::fault(diagnosis, short);
    }
    let signs = Signs::of(o);
    match (signs.version, o.radio.is_some(), signs.base) {
        (Some(version), ..) => Finding::up(Link::Firmware, name_of(version)),
        (None, true, base) => Finding::up(Link::Firmware, base.unwrap_or_default()),
        (None, false, Some(base)) if waited(o) < patience::FIRMWARE => Finding::busy(Link::Firmware, base),
        (None, false, base) => Finding::odd(Link::Firmware, base.unwrap_or_default()),
    }
}

pub(super) fn interface(o: &Observations) -> Finding {
    if let Some(radio) = &o.radio {
        return Finding::up(Link::Interface, format!("{} ({})", radio.interface, radio.phy));
    }
    match failure(o) {
        Some((Link::Interface, diagnosis)) => Finding::fault(diagnosis, "none"),
        Some(_) | None => Finding::busy(Link::Interface, "waiting for it"),
    }
}

/// What the kernel's log says since the driver was loaded, put together. Of several complaints the first is kept: the
/// others follow from it.
#[derive(Default)]
struct Signs<'a> {
    /// `brcm/brcmfmac43455-sdio`.
    base: Option<&'a str>,
    chip: Option<&'a str>,
    /// Set if the firmware runs, and has not died since.
    version: Option<&'a str>,
    missing: Vec<&'a str>,
    dead: Option<&'a str>,
    refused: Option<&'a str>,
    vendor: Option<&'a str>,
    stuck: Option<&'a str>,
    removed: Option<&'a str>,
}

impl<'a> Signs<'a> {
    fn of(o: &'a Observations) -> Self {
        let mut signs = Self::default();
        for sign in &o.hardware.kernel {
            match sign {
                KernelSign::FirmwareMissing { file } => signs.missing.push(file),
                KernelSign::FirmwareWanted { base, chip } => {
                    (signs.base, signs.chip) = (Some(base.as_str()), Some(chip.as_str()))
                }
                // Whatever went wrong before, it got over it.
                KernelSign::FirmwareRuns { version } => {
                    signs = Self { base: signs.base, chip: signs.chip, version: Some(version), ..Self::default() };
                }
                KernelSign::FirmwareDead { line } => (signs.dead, signs.version) = (signs.dead.or(Some(line)), None),
                KernelSign::CalibrationRefused { line } => signs.refused = signs.refused.or(Some(line)),
                KernelSign::VendorModuleMissing { vendor } => signs.vendor = Some(vendor),
                KernelSign::SdioFound { .. } => (signs.removed, signs.stuck) = (None, None),
                KernelSign::SdioRemoved { host } => signs.removed = Some(host),
                KernelSign::SdioStuck { line } => signs.stuck = signs.stuck.or(Some(line)),
                KernelSign::UnderVoltage | KernelSign::VoltageNormal => {}
                KernelSign::NoRegulatoryDatabase | KernelSign::ScanError { .. } => {}
            }
        }
        signs
    }

    /// The file without which this chip does not run: the one that is nobody's in particular. The board's own
    /// (`….raspberrypi,4-model-b.bin`) is always tried first and may be missing; so may the CLM and TxCap blobs.
    fn needed(&self) -> Vec<&'a str> {
        let is_generic = |file: &&str| match file.rsplit_once('.') {
            Some((base, "bin" | "txt")) => match self.base {
                Some(wanted) => base == wanted,
                None => base.rsplit('/').next().is_some_and(|name| !name.contains('.')),
            },
            _ => false,
        };
        let mut needed: Vec<&str> = self.missing.iter().copied().filter(is_generic).collect();
        needed.sort_unstable();
        needed.dedup();
        needed
    }
}

/// True if the chip was seen to work in this attempt: then what the log said before is history.
fn works(o: &Observations) -> bool {
    let scans = o.scan.done > 0 && !scans_fail(o);
    o.radio.is_some() && (o.attempt.connected.is_some() || scans || waited(o) < patience::RECONNECT)
}

/// What is wrong from the chip to the interface, and with which link; the earliest cause, which need not be the first
/// link that suffers.
fn failure(o: &Observations) -> Option<(Link, Diagnosis)> {
    if works(o) {
        return None;
    }
    let diagnosis = of_bus(o).or_else(|| of_driver(o)).or_else(|| of_firmware(o)).or_else(|| of_interface(o))?;
    Some((diagnosis.link, diagnosis))
}

fn of_bus(o: &Observations) -> Option<Diagnosis> {
    let signs = Signs::of(o);
    if let Some(line) = signs.stuck.map(|line| line.trim_end_matches('.')) {
        return Some(say(
            Code::SdioStuck,
            format!("The WiFi chip's SDIO bus hangs: “{line}”."),
            "The chip or its controller is in a state that a restart does not clear, as the chip keeps its power.",
            "Take the power supply off for ten seconds and plug it in again. If it comes back, use a stronger supply.",
        ));
    }
    let gone = o.radio.is_none() && o.hardware.expects_sdio && o.hardware.sdio.is_empty();
    if !gone || waited(o) < patience::SDIO {
        return None;
    }
    let (what, cause) = match signs.removed {
        Some(host) => (
            format!("The WiFi chip was there, and left the SDIO bus {host}."),
            "The chip lost its power or its firmware crashed so that it does not answer.",
        ),
        None => (
            format!("There is no WiFi chip on any SDIO bus of this {}.", board(o)),
            "The device tree of the image switches the WiFi off (`disable-wifi`) or is another board's, or the chip hangs or is broken.",
        ),
    };
    Some(say(
        Code::NoSdio,
        what,
        cause,
        "Take the power supply off for ten seconds. If that does not help, look for `dtoverlay=disable-wifi` in config.txt on the card, or plug in a cable.",
    ))
}

fn of_driver(o: &Observations) -> Option<Diagnosis> {
    if o.radio.is_some() {
        return None;
    }
    let signs = Signs::of(o);
    let chip = o.hardware.sdio.first().map_or_else(String::new, |id| format!(" {id}"));
    if o.hardware.driver == ModuleState::Missing {
        return Some(say(
            Code::NoModule,
            format!("The image has no module {MODULE}, the driver of the WiFi chip{chip}."),
            "The image was built without it: tools that keep only the modules something depends on drop it.",
            format!(
                "Build the image again with `boot.kernelModules = [ \"{MODULE}\" ]` and the kernel's modules, or plug in a cable."
            ),
        ));
    }
    let loaded = o.hardware.driver == ModuleState::Loaded;
    let missing = o.hardware.vendor_module == ModuleState::Missing && loaded && waited(o) >= patience::INTERFACE;
    if signs.vendor.is_some() || missing && signs.version.is_none() && signs.dead.is_none() && signs.needed().is_empty()
    {
        let module = signs.vendor.map_or_else(|| format!("{MODULE}-wcc or {MODULE}-cyw"), |v| format!("{MODULE}-{v}"));
        return Some(say(
            Code::NoVendorModule,
            format!("The driver {MODULE} is there, but it asked for {module} and did not get it."),
            "No module depends on it, so tools that follow dependencies leave it out of the image or the initrd.",
            format!(
                "Build the image again with `boot.kernelModules = [ \"{MODULE}-wcc\" \"{MODULE}-cyw\" \"{MODULE}\" ]`, and the same in the initrd if the driver is loaded there."
            ),
        ));
    }
    if o.hardware.driver == ModuleState::Available && waited(o) >= patience::DRIVER {
        return Some(say(
            Code::NotLoaded,
            format!("The driver {MODULE} is in the image, but was not loaded for the chip{chip}."),
            "It is blacklisted, or udev did not know the chip.",
            format!(
                "Look for `blacklist {MODULE}` (`boot.blacklistedKernelModules`), and build the image with `boot.kernelModules = [ \"{MODULE}\" ]`."
            ),
        ));
    }
    None
}

fn of_firmware(o: &Observations) -> Option<Diagnosis> {
    let signs = Signs::of(o);
    let chip = signs.chip.map_or_else(|| "the WiFi chip".to_string(), |chip| format!("the chip {chip}"));
    let needed = signs.needed();
    if !needed.is_empty() && o.radio.is_none() {
        return Some(say(
            Code::NoFirmware,
            format!("{chip} needs the firmware file {}, which was not found.", needed.join(" and "))
                .replacen("the ", "The ", 1),
            "The firmware is not in the image, or the driver was loaded in the initrd, where there is none.",
            "Build the image with `hardware.enableRedistributableFirmware = true`; if it has the file, keep brcmfmac out of the initrd's modules.",
        ));
    }
    if let Some(line) = signs.refused {
        return Some(say(
            Code::Nvram,
            format!("{chip} refused its NVRAM or CLM file: “{line}”.").replacen("the ", "The ", 1),
            "The files of the firmware are of different versions, or of another board: two firmware packages were mixed.",
            "Build the image with one firmware package only, and with the board's own NVRAM file.",
        ));
    }
    let silent =
        signs.base.is_some() && signs.version.is_none() && o.radio.is_none() && waited(o) >= patience::FIRMWARE;
    let (what, seen) = match (signs.dead, silent) {
        (Some(line), _) => (format!("The firmware of {chip} does not run: “{line}”."), line),
        (None, true) => {
            (format!("The firmware of {chip} was asked for {} s ago and said nothing since.", waited(o) / 1000), "")
        }
        (None, false) => return None,
    };
    let cause = if seen.contains("HT Avail") {
        "The chip's clock does not start: it hangs since an earlier crash, or its NVRAM file is another board's."
    } else {
        "The firmware crashed, or the chip does not get enough power."
    };
    Some(say(
        Code::FirmwareDead,
        what,
        cause,
        "Wait for the agent to reload the driver; if that does not help, take the power supply off for ten seconds.",
    ))
}

fn of_interface(o: &Observations) -> Option<Diagnosis> {
    if o.radio.is_some() || waited(o) < patience::INTERFACE {
        return None;
    }
    let driver = match o.hardware.driver {
        ModuleState::Loaded => format!("The driver {MODULE} is loaded, but there is"),
        ModuleState::Unknown | ModuleState::Available | ModuleState::Missing => "There is".to_string(),
    };
    Some(say(
        Code::NoInterface,
        format!("{driver} no wireless interface after {} s.", waited(o) / 1000),
        "The driver did not take the chip, or the board has no WiFi at all.",
        "Take the power supply off for ten seconds, or plug in a cable. If the board has no WiFi, take the networks out of the settings.",
    ))
}

fn under_voltage_seen(o: &Observations) -> bool {
    o.hardware.under_voltage || o.hardware.kernel.contains(&KernelSign::UnderVoltage)
}

/// Which faults low voltage explains: those of a chip that is there by halves, and not those of a missing file.
fn blames_power(code: Code) -> bool {
    matches!(code, Code::NoSdio | Code::SdioStuck | Code::Nvram | Code::FirmwareDead | Code::NoInterface)
}

fn no_power(o: &Observations, failed: &Diagnosis) -> Diagnosis {
    let when = if o.hardware.under_voltage { "is" } else { "was" };
    say(
        Code::UnderVoltage,
        format!("The supply voltage {when} too low (below 4.63 V), and the WiFi chip fails: {}", failed.what),
        "The power supply or its cable is too weak for this board with what is plugged into it.",
        SUPPLY,
    )
}

/// As a warning: it works all the same, for now.
pub(super) fn low_voltage(o: &Observations) -> Diagnosis {
    say(
        Code::UnderVoltage,
        format!("The supply voltage of this {} is too low (below 4.63 V).", board(o)),
        "The power supply or its cable is too weak for this board with what is plugged into it.",
        SUPPLY,
    )
}

const SUPPLY: &str =
    "Use the official power supply for this board with its own cable, and unplug or separately power USB disks.";

fn board(o: &Observations) -> &str {
    if o.hardware.compatible.is_empty() { "board" } else { &o.hardware.compatible }
}

/// `BCM4345/6 wl0: Jan  4 2021 19:56:29 version 7.45.229 (617f1f5 CY) FWID 01-2dbd9d2e`: the version is enough.
fn name_of(version: &str) -> String {
    let number = version.split_once(" version ").and_then(|(_, rest)| rest.split_whitespace().next());
    let chip = version.split_whitespace().next().filter(|word| !word.ends_with(':'));
    match (chip, number) {
        (Some(chip), Some(number)) => format!("{chip} {number}"),
        (None, Some(number)) => number.to_string(),
        (_, None) => version.chars().take(40).collect(),
    }
}
