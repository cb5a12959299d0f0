//! The steps of a plan: what is done, in the words of the tools that do it.
//!
//! A step is data. What it runs is in [`super::action`], what it says to people in [`super::sentence`].

use crate::disko::Variable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    /// They are unmounted and the pools exported; never part of a [`super::Plan`]'s own steps.
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

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Take old swap on the disk out of use, should something have activated it since the facts were gathered.
    Deactivate {
        /// Partition with a swap signature.
        device: String,
    },
    /// Remove the ZFS labels of an old pool member, which `wipefs` leaves in part.
    ClearPoolLabel {
        /// The old member.
        device: String,
    },
    /// Remove every signature `blkid` would recognise.
    WipeSignatures {
        /// Whole disk or partition.
        device: String,
        /// Destroy for what was there, Format for what happened to lie under a new partition.
        stage: Stage,
    },
    /// Remove both GPT copies and the MBR.
    ZapTable {
        /// Whole disk.
        device: String,
    },
    /// Write an empty GPT.
    ClearTable {
        /// Whole disk.
        device: String,
    },
    /// Add one partition.
    CreatePartition {
        /// Whole disk.
        device: String,
        /// Partition number, from 1.
        number: u32,
        /// GPT partition name.
        label: String,
        /// sgdisk type code (4 hex digits) or a type GUID.
        type_code: String,
        /// GPT attribute bits to set.
        attributes: Vec<u8>,
        /// Start as sgdisk reads it.
        start: String,
        /// End as sgdisk reads it.
        end: String,
        /// `--set-alignment`, in sectors; 0 leaves sgdisk's own.
        alignment: u64,
        /// Fixed PARTUUID, or a random one.
        uuid: Option<String>,
        /// First sector this will get, in logical sectors.
        first_lba: u64,
        /// Last sector (inclusive) this will get, in logical sectors.
        last_lba: u64,
        /// Logical sector size in bytes.
        sector_bytes: u32,
    },
    /// Wait until udev has made a device node or link.
    WaitForDevice {
        /// The path to appear.
        path: String,
        /// Kernel path of the disk it must be a partition of, so that another disk's equal label is not taken for it.
        within: Option<String>,
        /// Partition, or Format for zvols.
        stage: Stage,
    },
    /// `mkfs.<format>`.
    MakeFilesystem {
        /// Partition, disk or zvol.
        device: String,
        /// Such as `vfat`, `ext4`.
        format: String,
        /// Extra arguments, verbatim.
        arguments: Vec<String>,
    },
    /// `mkswap`.
    MakeSwap {
        /// Partition, disk or zvol.
        device: String,
        /// Extra arguments, verbatim.
        arguments: Vec<String>,
    },
    /// `zpool create`.
    CreatePool {
        /// Pool name.
        pool: String,
        /// Pool properties (`-o`).
        properties: BTreeMap<String, String>,
        /// Properties of the root dataset (`-O`).
        root_properties: BTreeMap<String, String>,
        /// Members by group.
        vdevs: Vec<Vdev>,
    },
    /// `zfs set -u`: the root dataset's properties once more, now with its mountpoint.
    SetProperties {
        /// Dataset.
        dataset: String,
        /// Properties.
        properties: BTreeMap<String, String>,
    },
    /// `zfs create -up`.
    CreateDataset {
        /// Dataset.
        dataset: String,
        /// Properties.
        properties: BTreeMap<String, String>,
    },
    /// `zfs create -V`.
    CreateVolume {
        /// Dataset.
        dataset: String,
        /// Size as zfs(8) reads it.
        size: String,
        /// Properties.
        properties: BTreeMap<String, String>,
        /// Extra arguments, verbatim.
        arguments: Vec<String>,
    },
    /// A script of the user's.
    Hook {
        /// Node of the layout it belongs to, as a path into the JSON (`zpool.rpool`).
        owner: String,
        /// When it runs.
        when: HookTime,
        /// Create hooks of a disk run before its partitions are made, all others with the formatting.
        stage: Stage,
        /// Bash text, verbatim.
        script: String,
        /// Variables disko defines for it.
        variables: BTreeMap<String, Variable>,
    },
    /// Mount one filesystem.
    Mount {
        /// Device, dataset, or what a nodev filesystem calls its source.
        source: String,
        /// Absolute path under `/mnt`, without a trailing slash.
        target: String,
        /// Filesystem type as mount(8) reads it.
        fstype: String,
        /// Options, without the words only fstab knows.
        options: Vec<String>,
    },
    /// Use a swap device during the installation.
    SwapOn {
        /// Device.
        device: String,
        /// disko's `discardPolicy`: once, pages or both.
        discard: Option<String>,
        /// Priority.
        priority: Option<i64>,
        /// Options, without the words only fstab knows.
        options: Vec<String>,
    },
    /// Import a pool without mounting anything (after a restart).
    ImportPool {
        /// Pool name.
        pool: String,
        /// Where to search: its members themselves, so that another disk's pool of the same name is not taken for it; of
        /// members that are whole disks, which zpool(8) has partitioned, the first partition.
        search: Vec<String>,
    },
    /// Load the key of an encryption root (after a restart).
    LoadKey {
        /// Dataset.
        dataset: String,
        /// `file://` location the key had when the dataset was created.
        location: String,
    },
    /// Unmount.
    Unmount {
        /// Absolute path under `/mnt`.
        target: String,
    },
    /// Stop using a swap device.
    SwapOff {
        /// Device.
        device: String,
    },
    /// Export a pool, so that the installed system may import it under its own host id. This forgets its keys, too.
    ExportPool {
        /// Pool name.
        pool: String,
    },
}

impl Step {
    /// The stage this step belongs to.
    #[must_use]
    pub fn phase(&self) -> Stage {
        match self {
            Self::Deactivate { .. } | Self::ClearPoolLabel { .. } | Self::ZapTable { .. } => Stage::Destroy,
            Self::WipeSignatures { stage, .. } | Self::WaitForDevice { stage, .. } | Self::Hook { stage, .. } => *stage,
            Self::ClearTable { .. } | Self::CreatePartition { .. } => Stage::Partition,
            Self::MakeFilesystem { .. }
            | Self::MakeSwap { .. }
            | Self::CreatePool { .. }
            | Self::SetProperties { .. }
            | Self::CreateDataset { .. }
            | Self::CreateVolume { .. } => Stage::Format,
            Self::Mount { .. } | Self::SwapOn { .. } | Self::ImportPool { .. } | Self::LoadKey { .. } => Stage::Mount,
            Self::Unmount { .. } | Self::SwapOff { .. } | Self::ExportPool { .. } => Stage::Unmount,
        }
    }
}
