//! What the kernel says of the WiFi chip, read from the lines of its log.

use serde::{Deserialize, Serialize};

/// A line of the kernel's log that means something to us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "sign")]
pub enum KernelSign {
    /// A firmware file was not found. The board's own name of it is always tried first, and may be missing.
    FirmwareMissing {
        /// `brcm/brcmfmac43455-sdio.bin`.
        file: String,
    },
    /// The driver says which firmware it wants.
    FirmwareWanted {
        /// `brcm/brcmfmac43455-sdio`.
        base: String,
        /// `BCM4345/6`.
        chip: String,
    },
    /// The firmware runs and said its version.
    FirmwareRuns {
        /// As it said.
        version: String,
    },
    /// It did not start, or has crashed.
    FirmwareDead {
        /// The line.
        line: String,
    },
    /// The CLM or NVRAM file was refused.
    CalibrationRefused {
        /// The line.
        line: String,
    },
    /// The vendor's module could not be had.
    VendorModuleMissing {
        /// `wcc`, `cyw`, `bca`.
        vendor: String,
    },
    /// A card was found on the SDIO bus.
    SdioFound {
        /// `mmc1`.
        host: String,
    },
    /// A card was removed from it, by itself.
    SdioRemoved {
        /// `mmc1`.
        host: String,
    },
    /// The controller hangs.
    SdioStuck {
        /// The line.
        line: String,
    },
    /// The supply voltage is too low.
    UnderVoltage,
    /// And is right again.
    VoltageNormal,
    /// The regulatory database was not found or not trusted.
    NoRegulatoryDatabase,
    /// The driver could not scan.
    ScanError {
        /// The line.
        line: String,
    },
}

/// Reads one line of the kernel's log, with or without the prefixes of /dev/kmsg, dmesg(1) or a journal.
///
/// The texts are those of `drivers/net/wireless/broadcom/brcm80211/brcmfmac`, `drivers/mmc`, `net/wireless/reg.c` and
/// `drivers/hwmon/raspberrypi-hwmon.c`. A CLM blob that is merely not there is harmless, and no sign.
pub fn read(line: &str) -> Option<KernelSign> {
    let message = message(line);
    of_files(message).or_else(|| of_firmware(message)).or_else(|| of_bus(message)).or_else(|| of_surroundings(message))
}

fn of_files(message: &str) -> Option<KernelSign> {
    let ours = message.starts_with("brcmfmac") || message.contains(" brcm/") || message.contains(" cypress/");
    if !ours {
        return None;
    }
    let missing = between(message, "Direct firmware load for ", " failed with error")
        .or_else(|| between(message, "firmware: failed to load ", " ("));
    if let Some(file) = missing {
        return Some(KernelSign::FirmwareMissing { file: short(file) });
    }
    if message.contains("brcmf_fw_alloc_request: using ") || message.contains("brcmf_fw_map_chip_to_name: using ") {
        let (base, chip) = message.split_once(": using ")?.1.split_once(" for chip ")?;
        let base = base.strip_suffix(".bin").unwrap_or(base);
        return Some(KernelSign::FirmwareWanted { base: short(base), chip: short(chip) });
    }
    None
}

fn of_firmware(message: &str) -> Option<KernelSign> {
    let brcmfmac = message.starts_with("brcmfmac") || message.contains("brcmf_");
    if !brcmfmac {
        return None;
    }
    let line = || short(message);
    if let Some(vendor) = between(message, "brcmf_fwvid_request_module: mod=", ": failed") {
        return Some(KernelSign::VendorModuleMissing { vendor: short(vendor) });
    }
    if message.contains("brcmf_c_preinit_dcmds: Firmware") {
        let (_, version) = message.split_once("Firmware: ").or_else(|| message.split_once("Firmware version = "))?;
        return Some(KernelSign::FirmwareRuns { version: short(version) });
    }
    if any(message, &["clmload_status failed", "CLM blob file failed", "clmload failed"])
        || message.to_ascii_lowercase().contains("nvram") && any(message, &["fail", "error", "invalid"])
    {
        return Some(KernelSign::CalibrationRefused { line: line() });
    }
    if any(message, DEAD) {
        return Some(KernelSign::FirmwareDead { line: line() });
    }
    let scan = any(message, &["scan error", "brcmf_do_escan: error", "brcmf_run_escan: error", "escan failed"])
        || message.contains("set chanspec") && message.contains("fail");
    scan.then(|| KernelSign::ScanError { line: line() })
}

/// What brcmfmac says when the firmware does not run, or runs no more. Single commands that were not answered in time
/// (`resumed on timeout`) are left out: chips that work say that too, now and then.
const DEAD: &[&str] = &[
    "HT Avail timeout",
    "HT Avail request error",
    "brcmf_attach failed",
    "dongle is not responding",
    "firmware halted",
    "Firmware has halted or crashed",
    "dongle image file download failed",
    "brcmf_bus_started: failed",
    "bus is down. we have nothing to do",
    "probe with driver brcmfmac failed",
];

fn of_bus(message: &str) -> Option<KernelSign> {
    let (host, said) = message.split_once(": ")?;
    let number = host.strip_prefix("mmc")?;
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let host = short(host);
    if said.starts_with("new ") && said.contains("SDIO card") {
        Some(KernelSign::SdioFound { host })
    } else if said.starts_with("card ") && said.ends_with(" removed") {
        Some(KernelSign::SdioRemoved { host })
    } else if said.contains("never released inhibit bit") || said.contains("whilst initialising SDIO card") {
        Some(KernelSign::SdioStuck { line: short(message) })
    } else {
        None
    }
}

fn of_surroundings(message: &str) -> Option<KernelSign> {
    if any(message, &["Undervoltage detected", "Under-voltage detected"]) {
        Some(KernelSign::UnderVoltage)
    } else if message.contains("Voltage normalised") {
        Some(KernelSign::VoltageNormal)
    } else if any(message, &["failed to load regulatory.db", "regulatory.db is malformed"]) {
        Some(KernelSign::NoRegulatoryDatabase)
    } else {
        None
    }
}

fn any(message: &str, parts: &[&str]) -> bool {
    parts.iter().any(|part| message.contains(part))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

/// The message without what /dev/kmsg (`6,339,5140900,-;`), dmesg (`<6>[   12.3] `) or a journal (`… kernel: `) puts
/// before it.
fn message(line: &str) -> &str {
    let mut rest = line.trim();
    if let Some((head, message)) = rest.split_once(';')
        && head.contains(',')
        && head.starts_with(|c: char| c.is_ascii_digit())
        && !head.contains(char::is_whitespace)
    {
        rest = message;
    }
    if let Some((_, message)) = rest.split_once(" kernel: ") {
        rest = message;
    }
    for (open, close) in [('<', '>'), ('[', ']')] {
        if let Some(message) = rest.strip_prefix(open).and_then(|inner| inner.split_once(close)) {
            rest = message.1.trim_start();
        }
    }
    rest
}

/// The kernel's words end up on a screen: no control characters, and not without end.
fn short(text: &str) -> String {
    crate::text::line(text).chars().take(160).collect::<String>().trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_taken_off() {
        for line in [
            "mmc1: card 0001 removed",
            "<6>[  352.820282] mmc1: card 0001 removed\n",
            "[Wed Jan 26 18:40:14 2022] mmc1: card 0001 removed",
            "6,1204,352820282,-;mmc1: card 0001 removed",
            "4,1204,352820282,-,caller=T12;mmc1: card 0001 removed",
            "Dec  4 19:10:59 raspberrypi kernel: [352820.282033] mmc1: card 0001 removed",
        ] {
            assert_eq!(read(line), Some(KernelSign::SdioRemoved { host: "mmc1".into() }), "{line}");
        }
    }

    #[test]
    fn what_means_nothing_is_nothing() {
        for line in [
            "",
            " SUBSYSTEM=mmc",
            "[",
            "<",
            ";",
            "mmc1: queuing unknown CIS tuple 0x80 (2 bytes)",
            "mmc0: new high speed SDHC card at address aaaa",
            "brcmfmac: brcmf_c_process_clm_blob: no clm_blob available (err=-2), device may have limited channels available",
            "platform regulatory.0: Direct firmware load for regulatory.db failed with error -2",
            "bluetooth hci0: Direct firmware load for brcm.hcd failed with error -2",
            "brcmfmac: brcmf_fw_alloc_request: using brcm/x",
            "usbcore: registered new interface driver brcmfmac",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn what_the_kernel_quotes_is_made_harmless() {
        let line = format!("brcmfmac: HT Avail timeout \x1b[2J{}", "x".repeat(999));
        let Some(KernelSign::FirmwareDead { line }) = read(&line) else { panic!() };
        assert!(line.chars().count() <= 160 && !line.contains('\x1b'));
    }
}
