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
