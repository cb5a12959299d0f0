//! The switch on the card: who starts next, the card's system or the SSD's.
//!
//! What the switch can say and what U-Boot makes of it is in [`cygnet_protocol::boot`]; here it is read and written. [`place`]
//! finds the card's FAT partition, from the card's system and from the SSD's, [`file`] writes there so that it is on the card.
//! [`arm`] gives U-Boot its environment and the order for a trial. On the installed system [`confirm`] ends a trial well, and
//! [`trial`] ends it otherwise, with [`journal`]'s log left behind. [`back`] is what the card's agent makes of that.
//! [`vcio`] tells the firmware of a Pi 5, and [`command`] and [`menu`] are for people: `cygnetd switch`, `cygnetd menu`.

pub mod arm;
pub mod back;
pub mod command;
pub mod confirm;
mod file;
mod journal;
pub mod menu;
mod place;
pub mod trial;
mod vcio;
