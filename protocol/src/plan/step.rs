//! The steps of a plan: what is done, in the words of the tools that do it.
//!
//! A step is data. What it runs is in [`super::action`], what it says to people in [`super::sentence`].

use super::parts::{BcachefsDevice, BootMark, HookTime, HybridEntry, Span, Stage, SwapFile, Vdev};
use super::secret::{Key, SecretRef};
use crate::disko::Variable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Tables on disks are written in the stage of that name; those on arrays and LUKS devices when these are made.
fn partition_stage() -> Stage {
    Stage::Partition
}

fn is_partition_stage(stage: &Stage) -> bool {
    *stage == Stage::Partition
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
    /// Remove the superblock of an old member of an array.
    ClearArrayMember {
        /// The old member.
        device: String,
    },
    /// Remove an old LVM physical volume.
    RemovePhysicalVolume {
        /// The old physical volume.
        device: String,
    },
    /// Overwrite with zeros where signatures of the disk, its old and its new partitions can be.
    EraseLabels {
        /// Whole disk.
        device: String,
        /// What is overwritten.
        spans: Vec<Span>,
    },
    /// Stop unless that is all zeros now, and neither `blkid` nor `zpool import` finds anything on the disk.
    ProveBlank {
        /// Whole disk.
        device: String,
        /// What must be zeros.
        spans: Vec<Span>,
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
        /// Whole disk, array or LUKS device.
        device: String,
        /// Partition for disks, Format for others.
        #[serde(default = "partition_stage", skip_serializing_if = "is_partition_stage")]
        stage: Stage,
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
        /// First sector this will get, in logical sectors; unknown on a device that is still to be made.
        first_lba: Option<u64>,
        /// Last sector (inclusive) this will get, in logical sectors.
        last_lba: Option<u64>,
        /// Logical sector size in bytes.
        sector_bytes: Option<u32>,
        /// Partition for disks, Format for others.
        #[serde(default = "partition_stage", skip_serializing_if = "is_partition_stage")]
        stage: Stage,
    },
    /// Set what makes firmware boot from partitions, when the table is complete: half of a table is never booted from.
    MarkBootable {
        /// Whole disk, array or LUKS device.
        device: String,
        /// Which, and how.
        marks: Vec<BootMark>,
        /// Partition for disks, Format for others.
        #[serde(default = "partition_stage", skip_serializing_if = "is_partition_stage")]
        stage: Stage,
    },
    /// Write an MBR that shows some of the GPT's partitions to firmware that knows no GPT.
    MakeHybridMbr {
        /// Whole disk, array or LUKS device.
        device: String,
        /// Entries, in their order.
        entries: Vec<HybridEntry>,
        /// Whether the entry that protects the GPT comes before them.
        protective_first: bool,
        /// Partition for disks, Format for others.
        #[serde(default = "partition_stage", skip_serializing_if = "is_partition_stage")]
        stage: Stage,
    },
    /// `parted mklabel`.
    CreateTable {
        /// Whole disk, array or LUKS device.
        device: String,
        /// gpt or msdos.
        format: String,
        /// Partition for disks, Format for others.
        #[serde(default = "partition_stage", skip_serializing_if = "is_partition_stage")]
        stage: Stage,
    },
    /// `parted mkpart`.
    CreateTablePartition {
        /// Whole disk, array or LUKS device.
        device: String,
        /// Partition number, from 1.
        number: u32,
        /// Name (gpt), or primary, logical, extended (msdos).
        name: String,
        /// Filesystem hint.
        fs_type: Option<String>,
        /// Start as parted reads it.
        start: String,
        /// End as parted reads it.
        end: String,
        /// Flags to set.
        flags: Vec<String>,
        /// Partition for disks, Format for others.
        #[serde(default = "partition_stage", skip_serializing_if = "is_partition_stage")]
        stage: Stage,
    },
    /// `cryptsetup luksFormat`.
    FormatLuks {
        /// Partition, disk, volume or array.
        device: String,
        /// What will open it.
        key: Key,
        /// Extra arguments, verbatim.
        arguments: Vec<String>,
    },
    /// `cryptsetup open`.
    OpenLuks {
        /// The LUKS device.
        device: String,
        /// Name under `/dev/mapper`.
        name: String,
        /// What opens it.
        key: Key,
        /// Pass discards on.
        allow_discards: bool,
        /// Do without dm-crypt's work queues.
        bypass_workqueues: bool,
        /// Extra arguments, verbatim.
        arguments: Vec<String>,
        /// Keep these flags in the header (when it is made); without it this is done after a restart.
        persistent: bool,
    },
    /// `cryptsetup luksAddKey`.
    AddLuksKey {
        /// The LUKS device.
        device: String,
        /// File with the further key.
        path: String,
        /// What opens it already.
        key: Key,
    },
    /// `mdadm --create`.
    CreateArray {
        /// Name under `/dev/md`.
        name: String,
        /// RAID level.
        level: i64,
        /// Metadata version as mdadm reads it.
        metadata: String,
        /// Device paths.
        members: Vec<String>,
        /// Extra arguments, verbatim.
        arguments: Vec<String>,
    },
    /// `pvcreate`.
    CreatePhysicalVolume {
        /// Device.
        device: String,
    },
    /// `vgcreate`.
    CreateVolumeGroup {
        /// Name.
        group: String,
        /// Device paths.
        members: Vec<String>,
        /// Kernel modules its volumes need.
        modules: Vec<String>,
    },
    /// `lvcreate`.
    CreateLogicalVolume {
        /// Volume group.
        group: String,
        /// Name.
        name: String,
        /// Size as lvcreate reads it, or a percentage; a bare one is of what is free.
        size: String,
        /// `--type`, or thinlv.
        kind: Option<String>,
        /// The thin pool that a thinlv is in.
        thin_pool: Option<String>,
        /// Extra arguments, verbatim.
        arguments: Vec<String>,
    },
    /// `mkfs.btrfs`.
    MakeBtrfs {
        /// Device.
        device: String,
        /// Extra arguments, verbatim.
        arguments: Vec<String>,
    },
    /// `btrfs subvolume create`, on the filesystem mounted at [`super::WORKPLACE`], and swap files in it.
    CreateSubvolume {
        /// Device of the filesystem.
        device: String,
        /// Path from its top.
        name: String,
        /// Extra arguments, verbatim.
        arguments: Vec<String>,
        /// Swap files in it.
        swap_files: Vec<SwapFile>,
    },
    /// `btrfs filesystem mkswapfile` at the top of the filesystem.
    CreateSwapFiles {
        /// Device of the filesystem.
        device: String,
        /// Which.
        files: Vec<SwapFile>,
    },
    /// `bcachefs format`.
    MakeBcachefs {
        /// UUID.
        uuid: String,
        /// Members.
        devices: Vec<BcachefsDevice>,
        /// Passphrase, if it is encrypted.
        secret: Option<SecretRef>,
        /// Extra arguments, verbatim.
        arguments: Vec<String>,
    },
    /// `bcachefs unlock`.
    UnlockBcachefs {
        /// UUID.
        uuid: String,
        /// Passphrase.
        secret: SecretRef,
    },
    /// `bcachefs subvolume create`, on the filesystem mounted at [`super::WORKPLACE`].
    CreateBcachefsSubvolume {
        /// UUID of the filesystem.
        uuid: String,
        /// Path from its top.
        name: String,
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
        /// Passphrase of the root dataset, if somebody gives it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<SecretRef>,
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
        /// Its passphrase, if somebody gives it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<SecretRef>,
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
        /// Its passphrase, if somebody gives it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<SecretRef>,
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
        /// Location the key had when the dataset was created: `file://…`, or prompt.
        location: String,
    },
    /// `mdadm --assemble` (after a restart); udev may have done so already.
    AssembleArray {
        /// Name under `/dev/md`.
        name: String,
        /// Device paths.
        members: Vec<String>,
    },
    /// Let the kernel see the partitions on an opened LUKS device (after a restart).
    ReadTable {
        /// Device under `/dev/mapper`.
        device: String,
    },
    /// `vgchange -a y` (after a restart); udev may have done so already.
    ActivateVolumeGroup {
        /// Name.
        group: String,
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
    /// `mdadm --stop`.
    StopArray {
        /// Name under `/dev/md`.
        name: String,
    },
    /// `vgchange -a n`.
    DeactivateVolumeGroup {
        /// Name.
        group: String,
    },
    /// `cryptsetup close`.
    CloseLuks {
        /// Name under `/dev/mapper`.
        name: String,
    },
    /// Remove what parted mapped for the partitions of a LUKS device, which hold it open.
    RemovePartitions {
        /// Paths under `/dev/mapper`.
        partitions: Vec<String>,
    },
    /// Make something unless it is there already; what is there is opened, where that is what it takes.
    Ensure {
        /// What makes it.
        step: Box<Step>,
    },
    /// Remove what an interrupted step may have left, before it is done again.
    ClearAway {
        /// That step.
        step: Box<Step>,
    },
    /// Export a pool, so that the installed system may import it under its own host id. This forgets its keys, too.
    ExportPool {
        /// Pool name.
        pool: String,
    },
}

impl Step {
    /// The step itself, or what it makes sure of.
    #[must_use]
    pub fn made(&self) -> &Self {
        match self {
            Self::Ensure { step } => step,
            step => step,
        }
    }

    /// The stage this step belongs to.
    #[must_use]
    pub fn phase(&self) -> Stage {
        match self {
            Self::Deactivate { .. }
            | Self::ClearPoolLabel { .. }
            | Self::ClearArrayMember { .. }
            | Self::RemovePhysicalVolume { .. }
            | Self::EraseLabels { .. }
            | Self::ProveBlank { .. }
            | Self::ZapTable { .. } => Stage::Destroy,
            Self::WipeSignatures { stage, .. }
            | Self::WaitForDevice { stage, .. }
            | Self::Hook { stage, .. }
            | Self::ClearTable { stage, .. }
            | Self::CreatePartition { stage, .. }
            | Self::MarkBootable { stage, .. }
            | Self::MakeHybridMbr { stage, .. }
            | Self::CreateTable { stage, .. }
            | Self::CreateTablePartition { stage, .. } => *stage,
            Self::ClearAway { step } | Self::Ensure { step } => step.phase(),
            Self::MakeFilesystem { .. }
            | Self::MakeSwap { .. }
            | Self::FormatLuks { .. }
            | Self::OpenLuks { persistent: true, .. }
            | Self::AddLuksKey { .. }
            | Self::CreateArray { .. }
            | Self::CreatePhysicalVolume { .. }
            | Self::CreateVolumeGroup { .. }
            | Self::CreateLogicalVolume { .. }
            | Self::MakeBtrfs { .. }
            | Self::CreateSubvolume { .. }
            | Self::CreateSwapFiles { .. }
            | Self::MakeBcachefs { .. }
            | Self::UnlockBcachefs { .. }
            | Self::CreateBcachefsSubvolume { .. }
            | Self::CreatePool { .. }
            | Self::SetProperties { .. }
            | Self::CreateDataset { .. }
            | Self::CreateVolume { .. } => Stage::Format,
            Self::Mount { .. }
            | Self::SwapOn { .. }
            | Self::ImportPool { .. }
            | Self::LoadKey { .. }
            | Self::OpenLuks { persistent: false, .. }
            | Self::AssembleArray { .. }
            | Self::ReadTable { .. }
            | Self::ActivateVolumeGroup { .. } => Stage::Mount,
            Self::Unmount { .. }
            | Self::SwapOff { .. }
            | Self::StopArray { .. }
            | Self::DeactivateVolumeGroup { .. }
            | Self::CloseLuks { .. }
            | Self::RemovePartitions { .. }
            | Self::ExportPool { .. } => Stage::Unmount,
        }
    }
}
