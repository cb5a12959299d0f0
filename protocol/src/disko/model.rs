//! A layout that was understood.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub use super::model_layers::{
    Array, ArrayMember, BcachefsFilesystem, BcachefsMember, BcachefsSubvolume, Btrfs, BtrfsSubvolume, LogicalVolume,
    Luks, LuksKey, PhysicalVolume, SwapFile, Table, TableEntry, TableFormat, VolumeGroup,
};

/// `config.disko.devices`. Maps are keyed by attribute name, in byte order, which is the order disko works in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// `disk`.
    pub disks: BTreeMap<String, Disk>,
    /// `mdadm`.
    pub arrays: BTreeMap<String, Array>,
    /// `lvm_vg`.
    pub groups: BTreeMap<String, VolumeGroup>,
    /// `zpool`.
    pub pools: BTreeMap<String, Pool>,
    /// `bcachefs_filesystems`.
    pub bcachefs: BTreeMap<String, BcachefsFilesystem>,
    /// `nodev`.
    pub nodev: BTreeMap<String, Nodev>,
    /// What was passed over, each a sentence for the plan's warnings.
    pub notes: Vec<String>,
}

/// The user's scripts around one node of the layout; empty is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// `preCreateHook`.
    pub pre_create: String,
    /// `postCreateHook`.
    pub post_create: String,
    /// `preMountHook`.
    pub pre_mount: String,
    /// `postMountHook`.
    pub post_mount: String,
    /// `preUnmountHook`.
    pub pre_unmount: String,
    /// `postUnmountHook`.
    pub post_unmount: String,
    /// The node's options, which disko defines as shell variables. Only filled when there is a hook.
    pub variables: BTreeMap<String, Variable>,
}

impl Hooks {
    /// No script at all.
    #[must_use]
    pub fn are_empty(&self) -> bool {
        let Self { pre_create, post_create, pre_mount, post_mount, pre_unmount, post_unmount, variables: _ } = self;
        [pre_create, post_create, pre_mount, post_mount, pre_unmount, post_unmount].iter().all(|hook| hook.is_empty())
    }
}

/// A variable disko defines for a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Variable {
    /// A string; `null` is the empty string, booleans are `1` and the empty string.
    Text(String),
    /// A bash array.
    List(Vec<String>),
    /// A bash associative array.
    Map(BTreeMap<String, String>),
}

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Absolute path under `/dev`.
    pub device: String,
    /// Whether what is on it may be destroyed.
    pub destroy: bool,
    /// What is put on it.
    pub content: Content,
    /// Scripts.
    pub hooks: Hooks,
}

/// What fills a disk, a partition, a volume, an array or an opened LUKS device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A GUID partition table written with sgdisk; not inside partitions and volumes.
    Gpt(Gpt),
    /// disko's legacy `table`, written with parted; not inside partitions and volumes.
    Table(Table),
    /// Encryption.
    Luks(Box<Luks>),
    /// A member of an mdadm array.
    Mdraid(ArrayMember),
    /// A member of a volume group.
    LvmPv(PhysicalVolume),
    /// A btrfs with its subvolumes.
    Btrfs(Btrfs),
    /// A member of a bcachefs.
    Bcachefs(BcachefsMember),
    /// A filesystem.
    Filesystem(Filesystem),
    /// Swap.
    Swap(Swap),
    /// A pool member.
    Zfs(ZfsMember),
}

/// A GUID partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt {
    /// In the order they are created; the first is number 1.
    pub partitions: Vec<Partition>,
    /// Of a hybrid MBR: whether the entry that protects the GPT comes first.
    pub efi_first: bool,
    /// Scripts.
    pub hooks: Hooks,
}

/// The MBR entry that a partition of a hybrid MBR gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hybrid {
    /// Type as sfdisk reads it; sgdisk's guess otherwise.
    pub mbr_type: Option<String>,
    /// Active.
    pub bootable: bool,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Attribute name in the layout.
    pub key: String,
    /// Number, from 1.
    pub number: u32,
    /// GPT partition name.
    pub label: String,
    /// sgdisk type code, or type GUID.
    pub type_code: String,
    /// GPT attribute bits to set, sorted, each once.
    pub attributes: Vec<u8>,
    /// Start, as sgdisk reads it.
    pub start: String,
    /// End, as sgdisk reads it.
    pub end: String,
    /// Alignment in sectors, 0 for sgdisk's own.
    pub alignment: u64,
    /// Fixed PARTUUID, lower case.
    pub uuid: Option<String>,
    /// The path udev will make for it.
    pub device: String,
    /// The path disko writes into the installed system's configuration for it; differs for labels with odd characters.
    pub disko_device: String,
    /// Its entry in a hybrid MBR.
    pub hybrid: Option<Hybrid>,
    /// What is put in it.
    pub content: Option<Content>,
}

impl Partition {
    /// Whether there is such a link as the installed system will look for.
    pub(crate) fn is_found(&self) -> bool {
        let by_label = super::names::partition_path(&self.label, None);
        let is_spelled = self.disko_device.starts_with("/dev/disk/by-part");
        !is_spelled || self.disko_device == self.device || self.disko_device == by_label
    }
}

/// A filesystem made by `mkfs.<format>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// Such as `vfat`.
    pub format: String,
    /// Arguments for mkfs, each one word.
    pub arguments: Vec<String>,
    /// Where it is mounted in the installed system.
    pub mountpoint: Option<String>,
    /// Mount options.
    pub mount_options: Vec<String>,
    /// Scripts.
    pub hooks: Hooks,
}

/// Swap space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// Arguments for mkswap, each one word.
    pub arguments: Vec<String>,
    /// Mount options.
    pub mount_options: Vec<String>,
    /// once, pages or both.
    pub discard: Option<String>,
    /// Priority.
    pub priority: Option<i64>,
    /// The installed system encrypts it with a new key at each boot; nothing is made of it before.
    pub random_encryption: bool,
    /// Scripts.
    pub hooks: Hooks,
}

/// A member of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZfsMember {
    /// The pool.
    pub pool: String,
    /// Scripts.
    pub hooks: Hooks,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Name.
    pub name: String,
    /// How members are grouped.
    pub mode: Mode,
    /// Pool properties.
    pub options: BTreeMap<String, String>,
    /// Properties of the root dataset.
    pub root_options: BTreeMap<String, String>,
    /// Datasets in the order they are made.
    pub datasets: Vec<Dataset>,
    /// Scripts.
    pub hooks: Hooks,
}

/// How a pool's members are grouped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// All members in one group: a stripe (`None`), `mirror`, `raidz1`, …
    Simple(Option<String>),
    /// Groups written out.
    Topology(Topology),
}

/// A pool's groups written out. Members are device paths, or names of disks whose partition `zfs` is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// Ordinary groups.
    pub vdev: Vec<Group>,
    /// Spares.
    pub spare: Vec<String>,
    /// Log devices.
    pub log: Vec<Group>,
    /// Deduplication tables.
    pub dedup: Vec<Group>,
    /// Metadata and small blocks.
    pub special: Vec<Group>,
    /// Read cache.
    pub cache: Vec<String>,
}

/// One group of a topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// `mirror`, `raidz1`, …; `None` for single devices.
    pub mode: Option<String>,
    /// Members.
    pub members: Vec<String>,
}

/// A dataset or volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Attribute name in the layout.
    pub key: String,
    /// Full name, with the pool.
    pub name: String,
    /// Properties.
    pub options: BTreeMap<String, String>,
    /// What it is.
    pub kind: DatasetKind,
    /// Scripts.
    pub hooks: Hooks,
}

/// Filesystem or volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatasetKind {
    /// `zfs_fs`.
    Filesystem {
        /// False for the pool's root dataset, which `zpool create` has made.
        create: bool,
        /// Where it is mounted in the installed system.
        mountpoint: Option<String>,
        /// Mount options.
        mount_options: Vec<String>,
    },
    /// `zfs_volume`.
    Volume {
        /// Size as zfs(8) reads it.
        size: String,
        /// Arguments for zfs create, each one word.
        arguments: Vec<String>,
        /// What is put in it.
        content: Option<Box<Content>>,
    },
}

/// A filesystem without a device of its own: tmpfs, a bind mount, nfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodev {
    /// Type as mount(8) reads it.
    pub fstype: String,
    /// Source as mount(8) reads it.
    pub device: String,
    /// Where it is mounted in the installed system.
    pub mountpoint: Option<String>,
    /// Mount options.
    pub mount_options: Vec<String>,
    /// Scripts.
    pub hooks: Hooks,
}

impl Dataset {
    /// Where this is mounted during the installation: disko skips what would not mount itself.
    #[must_use]
    pub fn mounted_at(&self) -> Option<&str> {
        let option = |key: &str| self.options.get(key).map(String::as_str);
        match &self.kind {
            DatasetKind::Filesystem { mountpoint: Some(at), .. }
                if option("mountpoint") != Some("none") && option("canmount") != Some("off") =>
            {
                Some(at)
            }
            _ => None,
        }
    }
}
