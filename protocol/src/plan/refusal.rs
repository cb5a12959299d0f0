//! Why a layout is not carried out on these disks.

use super::facts::human_bytes;
use crate::disko::DiskoError;
use crate::fault::{Fault, FaultCode, sentence};
use serde::{Deserialize, Serialize};

/// A reason to touch nothing. [`Self::what`], [`Self::cause`] and [`Self::remedy`] are the three parts a person reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[error("{}", self.what())]
pub enum Refusal {
    /// No attached disk has this path.
    UnknownDisk {
        /// Disk's name in the layout.
        disk: String,
        /// The path it gives.
        device: String,
        /// Disks that could have been meant: path, model, size.
        candidates: Vec<String>,
    },
    /// The path leads to several disks.
    AmbiguousDisk {
        /// Disk's name in the layout.
        disk: String,
        /// The path it gives.
        device: String,
        /// Kernel paths of the disks.
        matches: Vec<String>,
    },
    /// Another disk has the same serial number, so that the same link would be made for both.
    SharedSerial {
        /// Disk's name in the layout.
        disk: String,
        /// The path it gives.
        device: String,
        /// The serial number.
        serial: String,
        /// Kernel paths of all disks that have it.
        disks: Vec<String>,
        /// A link that tells this one apart, if there is one.
        by_path: Option<String>,
    },
    /// The target is the disk the agent itself runs from.
    RunningDisk {
        /// Disk's name in the layout.
        disk: String,
        /// Kernel path.
        device: String,
    },
    /// Two disks of the layout are the same disk.
    SameDisk {
        /// The two names in the layout.
        disks: [String; 2],
        /// Kernel path.
        device: String,
    },
    /// The kernel refuses writes.
    ReadOnly {
        /// Disk's name in the layout.
        disk: String,
        /// Kernel path.
        device: String,
    },
    /// Mounted, swapped on, or held.
    InUse {
        /// Disk's name in the layout.
        disk: String,
        /// Kernel path.
        device: String,
        /// By what.
        by: Vec<String>,
    },
    /// `destroy = false` on a disk that is not blank.
    KeepsContents {
        /// Disk's name in the layout.
        disk: String,
        /// Kernel path.
        device: String,
        /// What is on it.
        contents: Vec<String>,
    },
    /// A sector size nothing here was made for.
    SectorSize {
        /// Disk's name in the layout.
        disk: String,
        /// Logical sector size in bytes.
        bytes: u32,
    },
    /// The partitions do not fit.
    DiskTooSmall {
        /// Disk's name in the layout.
        disk: String,
        /// Size of the disk in bytes.
        size: u64,
        /// What the partitions of fixed size need together, in bytes.
        needed: u64,
        /// The partition that found no room.
        partition: String,
    },
    /// The start and end of a partition leave nothing, or overlap another.
    NoRoom {
        /// Path into the layout.
        path: String,
        /// First sector it would have.
        first_lba: u64,
        /// Last sector it would have.
        last_lba: u64,
    },
    /// Another attached disk has a partition of the same name.
    LabelTaken {
        /// Path into the layout.
        path: String,
        /// GPT partition name.
        label: String,
        /// Kernel path of the other partition.
        other: String,
    },
    /// Another attached disk has a pool of the same name.
    PoolNameTaken {
        /// Pool name.
        pool: String,
        /// Kernel path of its member.
        other: String,
    },
    /// The system to install does not fit.
    ClosureTooBig {
        /// What backs `/nix/store`.
        store: String,
        /// Its size in bytes.
        available: u64,
        /// What the system needs there in bytes: NAR size, a tenth more, and 64 MiB.
        needed: u64,
    },
    /// Nothing is mounted at `/`.
    NoRoot,
    /// Nothing is mounted anywhere.
    NothingMounted,
    /// `/nix/store` would be in memory.
    StoreInMemory {
        /// Mountpoint of the filesystem that would hold it.
        mountpoint: String,
    },
    /// A dataset wants a passphrase typed.
    KeyFromPrompt {
        /// Dataset.
        dataset: String,
    },
    /// A LUKS device wants a passphrase typed.
    NeedsPassphrase {
        /// Path into the layout.
        path: String,
        /// Its name.
        name: String,
    },
    /// Something else on this machine has the name that an array, a volume group or a LUKS device is to have.
    NameTaken {
        /// What it is: “array”, “volume group”, “LUKS device”.
        kind: String,
        /// The name.
        name: String,
        /// Path of what has it.
        other: String,
    },
    /// A file with a key or a passphrase is not there, nor can it be put there.
    NoKeyFile {
        /// Its path on the machine that is installed.
        file: String,
    },
    /// The board's firmware will not find its files.
    FirmwareHidden {
        /// The board as the device tree calls it.
        board: String,
        /// Path into the layout of the partition that comes nearest.
        path: Option<String>,
        /// Why it is not found.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// Something would be destroyed, and that was forbidden.
    WouldDestroy {
        /// By disk: its name in the layout, its kernel path, and what is on it.
        losses: Vec<String>,
    },
    /// Something else is where the layout asks for something, and is to be kept.
    Differs {
        /// Path into the layout.
        path: String,
        /// What is there.
        there: String,
        /// What the layout asks for.
        wanted: String,
    },
    /// Something is not there, and nothing is to be made.
    Missing {
        /// Path into the layout.
        path: String,
        /// What the layout asks for.
        wanted: String,
    },
    /// The layout itself is wrong.
    Layout {
        /// Where.
        path: String,
        /// What is wrong.
        what: String,
        /// What to do.
        remedy: String,
    },
}

impl From<DiskoError> for Refusal {
    fn from(error: DiskoError) -> Self {
        Self::Layout { path: error.path, what: error.what, remedy: error.remedy }
    }
}

fn listed(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join("; ") }
}

impl Refusal {
    /// What happened.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::UnknownDisk { disk, device, .. } => {
                format!("disk “{disk}”: there is no {device} on this machine")
            }
            Self::AmbiguousDisk { disk, device, matches } => {
                format!("disk “{disk}”: {device} names several disks: {}", listed(matches))
            }
            Self::SharedSerial { disk, device, serial, disks, .. } => format!(
                "disk “{disk}”: {device} goes by the serial number {serial}, which several disks have: {}",
                listed(disks)
            ),
            Self::RunningDisk { disk, device } => {
                format!("disk “{disk}”: {device} is the disk this system runs from")
            }
            Self::SameDisk { disks: [one, two], device } => {
                format!("disks “{one}” and “{two}” of the layout are the same disk, {device}")
            }
            Self::ReadOnly { disk, device } => format!("disk “{disk}”: {device} is read-only"),
            Self::InUse { disk, device, by } => {
                format!("disk “{disk}”: {device} is in use: {}", listed(by))
            }
            Self::KeepsContents { disk, device, contents } => {
                format!("disk “{disk}” has destroy = false, and {device} is not blank: {}", listed(contents))
            }
            Self::SectorSize { disk, bytes } => {
                format!("disk “{disk}” has logical sectors of {bytes} bytes")
            }
            Self::DiskTooSmall { disk, size, needed, partition } => format!(
                "disk “{disk}” is too small: it has {}, its partitions need {}; “{partition}” found no room",
                human_bytes(*size),
                human_bytes(*needed)
            ),
            Self::NoRoom { path, first_lba, last_lba } => {
                format!("{path} would go from sector {first_lba} to {last_lba}, which is not free space")
            }
            Self::LabelTaken { path, label, other } => {
                format!("{path} is to be called “{label}”, and {other} on another disk is called that too")
            }
            Self::PoolNameTaken { pool, other } => {
                format!("the pool is to be called “{pool}”, and {other} on another disk belongs to a pool called that")
            }
            Self::ClosureTooBig { store, available, needed } => format!(
                "the system does not fit: it needs {}, and {store}, which holds /nix/store, has {}",
                human_bytes(*needed),
                human_bytes(*available)
            ),
            Self::NoRoot => "the layout mounts nothing at /".to_owned(),
            Self::NothingMounted => "no mountpoint is given anywhere in disko.devices".to_owned(),
            Self::StoreInMemory { mountpoint } => {
                format!("/nix/store would be kept in memory, by the filesystem mounted at {mountpoint}")
            }
            Self::KeyFromPrompt { dataset } => {
                format!("dataset {dataset} asks for its passphrase at the keyboard")
            }
            Self::NeedsPassphrase { path, name } => {
                format!("{path}: the LUKS device “{name}” needs a passphrase, which cannot be given yet")
            }
            Self::NameTaken { kind, name, other } => {
                format!("the {kind} is to be called “{name}”, and {other} on this machine is called that already")
            }
            Self::NoKeyFile { file } => {
                format!("the layout takes a key from {file}, which is not on the Pi, and cannot be put there")
            }
            Self::FirmwareHidden { board, path, .. } => match path {
                Some(path) => format!("the {board} cannot boot from this layout: its firmware will not find {path}"),
                None => format!("the {board} cannot boot from this layout: it has no partition for the firmware"),
            },
            Self::WouldDestroy { losses } => format!("the plan would destroy what is on {}", listed(losses)),
            Self::Differs { path, there, wanted } => {
                format!("{path}: there is {there}, where the layout asks for {wanted}")
            }
            Self::Missing { path, wanted } => format!("{path}: there is nothing, where the layout asks for {wanted}"),
            Self::Layout { path, what, .. } => format!("{path}: {what}"),
        }
    }

    /// The likely cause.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::UnknownDisk { candidates, .. } => format!(
                "the disk is not plugged in, not powered, or has another name here; disks that are here: {}",
                listed(candidates)
            ),
            Self::AmbiguousDisk { .. } | Self::SharedSerial { .. } => {
                "some USB adapters report the same serial number for every disk behind them".to_owned()
            }
            Self::RunningDisk { .. } => {
                "the layout's device path belongs to the card or disk that was booted".to_owned()
            }
            Self::SameDisk { .. } => "both device paths lead to it".to_owned(),
            Self::ReadOnly { .. } => "a write-protect switch, or a disk that locked itself when it wore out".to_owned(),
            Self::InUse { .. } => "an earlier installation left it mounted, or the running system uses it".to_owned(),
            Self::KeepsContents { .. } => {
                "installing onto existing partitions is not supported; this disk would have to be blank".to_owned()
            }
            Self::SectorSize { .. } => "only 512 and 4096 are known to work".to_owned(),
            Self::DiskTooSmall { .. } => "the layout was written for a larger disk".to_owned(),
            Self::NoRoom { .. } => "its start or end overlaps another partition or lies outside the disk".to_owned(),
            Self::LabelTaken { .. } => {
                "the layout finds partitions by name, so the installed system could mount the wrong one".to_owned()
            }
            Self::PoolNameTaken { .. } => {
                "pools are imported by name, so the installed system could import the wrong one".to_owned()
            }
            Self::ClosureTooBig { .. } => {
                "the size counts the unpacked store paths, a tenth for metadata, and 64 MiB".to_owned()
            }
            Self::NoRoot => "no filesystem or dataset has mountpoint = \"/\"".to_owned(),
            Self::NothingMounted => {
                "disk, mdadm, lvm_vg, zpool and nodev have no filesystem, dataset or subvolume with one".to_owned()
            }
            Self::NeedsPassphrase { .. } => {
                "it has askPassword = true, or no key at all, and nobody sits at the machine".to_owned()
            }
            Self::StoreInMemory { .. } => {
                "the longest mountpoint above /nix/store is a filesystem without a disk".to_owned()
            }
            Self::KeyFromPrompt { .. } => {
                "it has encryption without keylocation, or keylocation = \"prompt\", and nobody sits at the machine"
                    .to_owned()
            }
            Self::NameTaken { .. } => {
                "it is on a disk that is not installed on, or was left by something else".to_owned()
            }
            Self::NoKeyFile { .. } => "it is a place for devices or for the new system, or a directory".to_owned(),
            Self::FirmwareHidden { why, .. } => why.clone(),
            Self::WouldDestroy { .. } => "--keep-data allows no step that loses anything that exists".to_owned(),
            Self::Differs { .. } => {
                "this mode keeps what is there, and the disk was not made by this layout".to_owned()
            }
            Self::Missing { .. } => "the mode mount makes nothing, and the disk was not made by this layout".to_owned(),
            Self::Layout { .. } => "disko does not accept or could not carry out this layout".to_owned(),
        }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::UnknownDisk { disk, .. } => {
                format!("plug the disk in, or set disko.devices.disk.{disk}.device to one of the paths above")
            }
            Self::AmbiguousDisk { disk, .. } => {
                format!("unplug the other disk, or set disko.devices.disk.{disk}.device to a by-path link")
            }
            Self::SharedSerial { disk, by_path: Some(link), .. } => {
                format!("unplug the other disk, or set disko.devices.disk.{disk}.device to {link}")
            }
            Self::SharedSerial { disk, by_path: None, .. } => {
                format!("unplug the other disk, or set disko.devices.disk.{disk}.device to a by-path link")
            }
            Self::RunningDisk { disk, .. } | Self::SameDisk { disks: [_, disk], .. } => {
                format!("set disko.devices.disk.{disk}.device to the disk you mean to install on")
            }
            Self::ReadOnly { .. } => "release the write protection, or use another disk".to_owned(),
            Self::InUse { .. } => concat!(
                "unmount, swapoff, export or stop what is named (mdadm --stop, vgchange -an, cryptsetup close), ",
                "or restart the machine"
            )
            .to_owned(),
            Self::KeepsContents { disk, .. } => format!(
                "back up what you need, and set disko.devices.disk.{disk}.destroy = true, or blank the disk yourself"
            ),
            Self::SectorSize { .. } => "use another disk, or another USB adapter".to_owned(),
            Self::DiskTooSmall { .. } => "use a larger disk, or make the partitions smaller".to_owned(),
            Self::NoRoom { .. } => "remove start, end and alignment, and give sizes only".to_owned(),
            Self::LabelTaken { .. } => "unplug or wipe the other disk, or set another label".to_owned(),
            Self::PoolNameTaken { .. } => "unplug or wipe the other disk, or rename the pool".to_owned(),
            Self::ClosureTooBig { .. } => "make that partition larger, or install a smaller system".to_owned(),
            Self::NoRoot => "give one filesystem or dataset mountpoint = \"/\"".to_owned(),
            Self::NothingMounted => "give the filesystems of the layout mountpoints".to_owned(),
            Self::NeedsPassphrase { .. } => concat!(
                "set passwordFile = \"/tmp/…\" or settings.keyFile, and put that file on the Pi ",
                "before you install"
            )
            .to_owned(),
            Self::StoreInMemory { .. } => "mount a filesystem of a disk at /nix".to_owned(),
            Self::KeyFromPrompt { .. } => concat!(
                "set keylocation = \"file:///tmp/…\", send that file, ",
                "and set keylocation=prompt in the pool's postCreateHook"
            )
            .to_owned(),
            Self::NameTaken { kind, .. } => {
                format!("close or stop it, unplug the disk it is on, or give the {kind} another name in the layout")
            }
            Self::NoKeyFile { file } => format!(
                "plug in the device that {file} is on, or name a file in /tmp in the layout, and give it with --secret"
            ),
            Self::WouldDestroy { .. } => concat!(
                "install on a blank disk, or back up what you need and leave --keep-data out; ",
                "--disk NAME=DEVICE chooses another disk"
            )
            .to_owned(),
            Self::Differs { .. } => concat!(
                "change the layout to what is there, choose another disk with --disk NAME=DEVICE, or, if nothing on ",
                "it is needed any more, install with --mode destroy,format,mount"
            )
            .to_owned(),
            Self::Missing { .. } => "let what is missing be made: --mode format,mount".to_owned(),
            Self::FirmwareHidden { remedy, .. } | Self::Layout { remedy, .. } => remedy.clone(),
        }
    }

    /// The kind of fault this is.
    #[must_use]
    pub fn code(&self) -> FaultCode {
        match self {
            Self::UnknownDisk { .. } | Self::AmbiguousDisk { .. } | Self::SharedSerial { .. } => FaultCode::UnknownDisk,
            Self::RunningDisk { .. } => FaultCode::RunningDisk,
            Self::ReadOnly { .. } | Self::InUse { .. } | Self::KeepsContents { .. } => FaultCode::DiskBusy,
            Self::DiskTooSmall { .. } | Self::NoRoom { .. } | Self::ClosureTooBig { .. } => FaultCode::DiskTooSmall,
            Self::FirmwareHidden { .. } => FaultCode::NotBootable,
            Self::WouldDestroy { .. } => FaultCode::WouldDestroy,
            Self::Differs { .. }
            | Self::Missing { .. }
            | Self::SameDisk { .. }
            | Self::SectorSize { .. }
            | Self::LabelTaken { .. }
            | Self::PoolNameTaken { .. }
            | Self::NoRoot
            | Self::NothingMounted
            | Self::StoreInMemory { .. }
            | Self::KeyFromPrompt { .. }
            | Self::NeedsPassphrase { .. }
            | Self::NameTaken { .. }
            | Self::NoKeyFile { .. }
            | Self::Layout { .. } => FaultCode::BadLayout,
        }
    }
}

impl From<&Refusal> for Fault {
    fn from(refusal: &Refusal) -> Self {
        Self::new(refusal.code(), sentence(&refusal.what()), sentence(&refusal.cause()), sentence(&refusal.remedy()))
    }
}
