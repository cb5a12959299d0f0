//! What steps are made of: when they happen, and the things they list.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The part of the installation a step belongs to, in the order they happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// What is on the disks now is removed.
    Destroy,
    /// Partition tables are written.
    Partition,
    /// Filesystems, swap, pools and datasets are made.
    Format,
    /// The new system's filesystems are mounted under `/mnt`.
    Mount,
    /// They are unmounted and the pools exported. Only a layout with unmount hooks has such steps in its
    /// [`super::Plan`]; otherwise they follow from the others.
    Unmount,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Destroy => "destroy",
            Self::Partition => "partition",
            Self::Format => "format",
            Self::Mount => "mount",
            Self::Unmount => "unmount",
        })
    }
}

/// When, relative to its node of the layout, a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookTime {
    /// disko's `preCreateHook`.
    PreCreate,
    /// disko's `postCreateHook`.
    PostCreate,
    /// disko's `preMountHook`.
    PreMount,
    /// disko's `postMountHook`.
    PostMount,
    /// disko's `preUnmountHook`.
    PreUnmount,
    /// disko's `postUnmountHook`.
    PostUnmount,
}

impl HookTime {
    /// The name of disko's option.
    #[must_use]
    pub fn option(self) -> &'static str {
        match self {
            Self::PreCreate => "preCreateHook",
            Self::PostCreate => "postCreateHook",
            Self::PreMount => "preMountHook",
            Self::PostMount => "postMountHook",
            Self::PreUnmount => "preUnmountHook",
            Self::PostUnmount => "postUnmountHook",
        }
    }
}

/// A group of pool members: `mirror a b`, `raidz1 a b c`, or (without a mode) plain `a b`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vdev {
    /// Allocation class keyword (`spare`, `log`, `dedup`, `special`, `cache`); `None` is the ordinary one.
    pub class: Option<String>,
    /// `mirror`, `raidz`, `raidz1` … or `None` for a stripe.
    pub mode: Option<String>,
    /// Device paths.
    pub members: Vec<String>,
}

/// An entry of a hybrid MBR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HybridEntry {
    /// Number of the partition in the GPT.
    pub number: u32,
    /// Number of its entry in the MBR.
    pub mbr_number: u32,
    /// Type as sfdisk reads it; otherwise sgdisk's choice stays.
    pub mbr_type: Option<String>,
    /// Active.
    pub bootable: bool,
}

/// A swap file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwapFile {
    /// Path from the top of its subvolume.
    pub path: String,
    /// Size as btrfs(8) reads it.
    pub size: String,
}

/// What makes firmware boot from a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootMark {
    /// Number of the partition.
    pub number: u32,
    /// GPT attribute bits to set, with sgdisk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<u8>,
    /// Flags to set, with parted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

/// A part of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Where it begins, bytes.
    pub offset: u64,
    /// Length, bytes.
    pub length: u64,
}

/// A member of a bcachefs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BcachefsDevice {
    /// Device path.
    pub device: String,
    /// Label.
    pub label: String,
    /// Extra arguments, verbatim.
    pub arguments: Vec<String>,
}
