//! What a person gives the Pi before its first boot: `cygnet.toml` on the card's FAT partition, which every laptop can write.
//!
//! [`config`] is what it says, [`read`] how it is read, with the line of each fault and never a value; [`hostname`] what may be
//! a host's name, [`authorized_key`] whose key may log in, [`write`] how it is written. The host refuses a file with any fault; the Pi takes what is good of it and tells
//! the rest, because there is nobody there to correct it. [`says`] is what a file speaks of, good or not, [`redact`] the file
//! without what was taken of it and is secret, and [`foreign`] what other programs' files say of the same things. `fuzzing` judges
//! what all these make of any bytes.

pub mod authorized_key;
pub mod config;
pub mod foreign;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod hostname;
pub mod read;
pub mod redact;
pub mod says;
pub mod write;

pub use config::{CardConfig, HostKey};
pub use read::{Fault, Reading, read};
pub use write::write;

/// The file's name, in the root directory of the FAT partition.
pub const FILE: &str = "cygnet.toml";
/// The most bytes of it, and of every other file that is read there.
pub const LIMIT: usize = 64 * 1024;
