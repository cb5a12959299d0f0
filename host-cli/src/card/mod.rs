//! A card, from any laptop: what is on it, and what is to be.
//!
//! [`disks`] knows which disks may be cards, [`medium`] opens one or an image. [`image`] unpacks what [`flash`] writes and
//! reads back. Settings are put together by [`settings`], with keys that [`host_key`] makes, those of [`keys`] that may log in, and networks that [`wifi`] finds,
//! and go to the FAT partition ([`partitions`], [`fat`], over [`blocks`], through [`wide`] where it is a small FAT32) as [`configure`] tells; [`pins`] notes the key in the
//! home that [`account`] finds, [`in_use`] knows which files are no cards, [`age`] says it in another word. [`manifest`] describes an image to others.

pub mod account;
pub mod age;
pub mod blocks;
pub mod configure;
pub mod disks;
pub mod fat;
pub mod flash;
pub mod host_key;
pub mod image;
pub mod in_use;
pub mod keys;
pub mod manifest;
pub mod medium;
pub mod partitions;
pub mod pins;
pub mod settings;
pub mod wide;
pub mod wifi;

/// What the agent leaves on the FAT partition: which settings it took, and which it ignored.
pub const STAMP: &str = "cygnet.txt";
