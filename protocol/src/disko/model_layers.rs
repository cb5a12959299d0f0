//! A layout that was understood: what lies between disks and filesystems, and filesystems over several devices.

use super::model::{Content, Hooks};
use std::collections::BTreeMap;

/// A partition table written with parted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// gpt or msdos.
    pub format: TableFormat,
    /// In order; the first is number 1.
    pub partitions: Vec<TableEntry>,
    /// Scripts.
    pub hooks: Hooks,
}

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFormat {
    /// GUID partition table.
    Gpt,
    /// MBR.
    Msdos,
}

/// One partition of a [`Table`]. Strings are as parted reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableEntry {
    /// Number, from 1, by which the kernel will call it.
    pub number: u32,
    /// What parted is given first: the name (gpt), or primary, logical, extended (msdos).
    pub first_word: String,
    /// Filesystem hint.
    pub fs_type: Option<String>,
    /// Start.
    pub start: String,
    /// End.
    pub end: String,
    /// Flags set to on.
    pub flags: Vec<String>,
    /// `boot` set to on.
    pub bootable: bool,
    /// What is put in it.
    pub content: Option<Content>,
}

/// A LUKS device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Luks {
    /// Name under `/dev/mapper` while it is open.
    pub name: String,
    /// What opens it.
    pub key: LuksKey,
    /// `keyFileSize`, bytes.
    pub key_size: Option<u64>,
    /// `keyFileOffset`, bytes.
    pub key_offset: Option<u64>,
    /// Files with further keys.
    pub additional_keys: Vec<String>,
    /// Pass discards on.
    pub allow_discards: bool,
    /// Do without dm-crypt's work queues.
    pub bypass_workqueues: bool,
    /// Arguments for luksFormat, each one word.
    pub format_arguments: Vec<String>,
    /// Arguments for open, each one word.
    pub open_arguments: Vec<String>,
    /// What is put in it.
    pub content: Option<Content>,
    /// Scripts.
    pub hooks: Hooks,
}

/// What opens a [`Luks`] device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LuksKey {
    /// All of a file, or the part that size and offset say.
    File(String),
    /// A file's text without the line ends behind it.
    PasswordFile(String),
    /// A passphrase somebody gives.
    Asked,
}

/// A member of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayMember {
    /// Name of the array.
    pub array: String,
    /// Scripts.
    pub hooks: Hooks,
}

/// An array of md(4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// Name under `/dev/md`.
    pub name: String,
    /// RAID level.
    pub level: i64,
    /// Metadata version as mdadm reads it.
    pub metadata: String,
    /// Arguments for mdadm --create, each one word.
    pub arguments: Vec<String>,
    /// What is put on it.
    pub content: Option<Content>,
    /// Scripts.
    pub hooks: Hooks,
}

/// A member of a volume group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhysicalVolume {
    /// Name of the volume group.
    pub group: String,
    /// Scripts.
    pub hooks: Hooks,
}

/// An LVM volume group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeGroup {
    /// Name.
    pub name: String,
    /// In the order they are made.
    pub volumes: Vec<LogicalVolume>,
    /// Scripts.
    pub hooks: Hooks,
}

/// A logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalVolume {
    /// Attribute name in the layout.
    pub key: String,
    /// Name.
    pub name: String,
    /// Size as lvcreate reads it, or a percentage.
    pub size: String,
    /// `--type`, or thinlv.
    pub kind: Option<String>,
    /// Thin pool it is in.
    pub thin_pool: Option<String>,
    /// Arguments for lvcreate, each one word.
    pub arguments: Vec<String>,
    /// What is put in it.
    pub content: Option<Content>,
}

/// A btrfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Btrfs {
    /// Arguments for mkfs.btrfs, each one word.
    pub arguments: Vec<String>,
    /// Where the top of it is mounted in the installed system.
    pub mountpoint: Option<String>,
    /// Mount options.
    pub mount_options: Vec<String>,
    /// Subvolumes, parents first.
    pub subvolumes: Vec<BtrfsSubvolume>,
    /// Swap files at its top.
    pub swap_files: Vec<SwapFile>,
    /// Scripts.
    pub hooks: Hooks,
}

/// A subvolume of a btrfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BtrfsSubvolume {
    /// Attribute name in the layout.
    pub key: String,
    /// Path from the top of the filesystem.
    pub name: String,
    /// Arguments for btrfs subvolume create, each one word.
    pub arguments: Vec<String>,
    /// Where it is mounted in the installed system.
    pub mountpoint: Option<String>,
    /// Mount options.
    pub mount_options: Vec<String>,
    /// Swap files in it.
    pub swap_files: Vec<SwapFile>,
}

/// A swap file on a btrfs. The installed system uses it; the installation does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapFile {
    /// Path from the subvolume.
    pub path: String,
    /// Size as btrfs(8) reads it.
    pub size: String,
}

/// A member of a bcachefs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BcachefsMember {
    /// Key of the filesystem.
    pub filesystem: String,
    /// Label.
    pub label: String,
    /// Arguments for bcachefs format before the device, each one word.
    pub arguments: Vec<String>,
    /// Scripts.
    pub hooks: Hooks,
}

/// A bcachefs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BcachefsFilesystem {
    /// The name its members know it by.
    pub name: String,
    /// UUID it is made with.
    pub uuid: String,
    /// A file whose text is its passphrase; unencrypted without.
    pub password_file: Option<String>,
    /// Arguments for bcachefs format, each one word.
    pub arguments: Vec<String>,
    /// Where the top of it is mounted in the installed system.
    pub mountpoint: Option<String>,
    /// Mount options.
    pub mount_options: Vec<String>,
    /// By name, which is the path from the top.
    pub subvolumes: BTreeMap<String, BcachefsSubvolume>,
    /// Scripts.
    pub hooks: Hooks,
}

/// A subvolume of a bcachefs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BcachefsSubvolume {
    /// Path from the top of the filesystem.
    pub name: String,
    /// Where it is mounted in the installed system.
    pub mountpoint: Option<String>,
    /// Mount options.
    pub mount_options: Vec<String>,
}
