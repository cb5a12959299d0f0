//! Where the report is written: the FAT partition of the disk that the Pi runs from.

use crate::firmware::{Firmware, FirmwareError, replace};
use std::io;

/// The file.
pub const NAME: &str = "REPORT.TXT";
/// What it is called until it is whole; 8.3, so that it has no second name.
const NEW: &str = "REPORT.NEW";

/// Why there is no report on the card.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// There is nowhere to write it.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// The file could not be written.
    #[error("writing it to {partition}: {source}")]
    Write {
        /// The partition.
        partition: String,
        /// Why.
        source: io::Error,
    },
}

/// Writes the report to the firmware partition of `disk`.
pub fn write(disk: Option<&str>, text: &[u8]) -> Result<(), PlaceError> {
    let mut firmware = Firmware::open(disk)?;
    firmware.make_writable()?;
    replace(firmware.path(), NAME, NEW, text)
        .map_err(|source| PlaceError::Write { partition: firmware.partition.clone(), source })
}
