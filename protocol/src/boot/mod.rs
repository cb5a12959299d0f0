//! How a Pi whose card stays in starts its SSD: once on trial, for good when that was confirmed, and from the card else.
//!
//! Nothing here reads a disk. [`way`] says which board and bus can do it at all, and by what. [`switch`] is the one sector
//! on the card that everybody reads and writes, and who may write what when. [`config_txt`] says which U-Boot a card
//! starts, [`build`] what that binary has in it, and [`environment`] makes of that the `uboot.env` whose `bootcmd` does as
//! [`switch`] says. [`trial`] is what a trial leaves behind, and what follows from it; [`menu`] is what the
//! SSD has to start.

pub mod build;
pub mod config_txt;
pub mod environment;
pub mod menu;
pub mod switch;
pub mod trial;
pub mod way;

/// The directory of the switch on the card's FAT partition, and of a trial's log on the SSD's.
pub const DIRECTORY: &str = "cygnet";
/// The switch, below [`DIRECTORY`].
pub const SWITCH: &str = "boot";
/// The number of the trial that was armed last, beside [`SWITCH`]: the log of another one is not this one's.
pub const NUMBER: &str = "number";
/// U-Boot's environment, at the top of the card's FAT partition (CONFIG_ENV_FAT_FILE).
pub const ENVIRONMENT: &str = "uboot.env";
