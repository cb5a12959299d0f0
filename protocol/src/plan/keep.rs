//! Keeping what is there (`format,mount` and `mount`): what of a layout the disks have already, and what contradicts it.
//!
//! Partitions and what fills them are compared here, with the facts, so that a contradiction is known before anything is
//! confirmed. What lies deeper (datasets, volumes, a filesystem within LUKS) can only be seen once it is opened: those
//! steps become [`Step::Ensure`], and the agent looks before each. Nothing is ever overwritten: where something else is
//! than the layout asks for, the plan is refused or the installation stops.

use super::facts::{DiskFacts, Fingerprint, PartitionFacts};
use super::gpt::{self, Extent};
use super::mode::Mode;
use super::parts::{Stage, SwapFile};
use super::refusal::Refusal;
use super::step::Step;
use crate::disko::{Content, Devices, Disk, Filesystem, Gpt, Partition, Placed, TableFormat, Top, join, numbered};
use std::collections::{BTreeMap, BTreeSet};

/// A GPT's UUID is as long as every other; msdos has 8 hex digits.
const GPT_UUID: usize = 36;

/// What a layout's disks have already, by the disks' names.
pub(super) struct Kept<'a> {
    disks: BTreeMap<&'a str, KeptDisk<'a>>,
}

#[derive(Default)]
struct KeptDisk<'a> {
    table: bool,
    partitions: BTreeMap<u32, &'a PartitionFacts>,
}

impl<'a> Kept<'a> {
    /// Of disks that are made anew: nothing.
    pub(super) fn nothing() -> Self {
        Self { disks: BTreeMap::new() }
    }

    /// Compares the layout with what is there.
    pub(super) fn find(
        devices: &'a Devices,
        targets: &BTreeMap<&'a str, (&'a Disk, &'a DiskFacts)>,
        mode: Mode,
    ) -> Result<Self, Refusal> {
        let mut kept = Self::nothing();
        if !mode.keeps() {
            return Ok(kept);
        }
        for (name, (disk, facts)) in targets {
            kept.disks.insert(name, on_disk(name, disk, facts, mode)?);
        }
        // What lies on an array, a pool or within LUKS cannot be seen yet.
        let is_there = |placed: &Placed<'_>| {
            let Top::Disk(name) = placed.top else { return None };
            let (disk, facts) = targets.get(name)?;
            let divided = matches!(disk.content, Content::Gpt(_) | Content::Table(_));
            let signature = match placed.around.len() {
                1 => match pool_on(facts).filter(|_| matches!(placed.content, Content::Zfs(_))) {
                    Some(there) => Some((there.fstype.as_deref(), there.label.as_deref())),
                    None => Some((facts.fingerprint.fstype.as_deref(), facts.fingerprint.label.as_deref())),
                },
                2 if divided => {
                    kept.partition(devices, placed).map(|there| (there.fstype.as_deref(), there.label.as_deref()))
                }
                _ => return None,
            };
            let (fstype, label) = signature.unwrap_or_default();
            Some(fits(placed, fstype, label, mode))
        };
        let mut members: BTreeMap<Top<'_>, Vec<(String, bool)>> = BTreeMap::new();
        for placed in devices.contents() {
            let Some(there) = is_there(&placed).transpose()? else { continue };
            if let Some(container) = devices.joins(placed.content) {
                members.entry(container).or_default().push((placed.place().to_owned(), there));
            }
        }
        for (container, members) in members {
            let missing = members.iter().find(|(_, there)| !there);
            if let (Some((path, _)), true) = (missing, members.iter().any(|(_, there)| *there)) {
                return Err(Refusal::Differs {
                    path: path.clone(),
                    there: "nothing".to_owned(),
                    wanted: format!("a member of {}, which is there already", container.path()),
                });
            }
        }
        Ok(kept)
    }

    /// Whether the disk has its partition table already.
    pub(super) fn has_table(&self, disk: &str) -> bool {
        self.disks.get(disk).is_some_and(|kept| kept.table)
    }

    /// Whether the disk has the partition of this number already.
    pub(super) fn has(&self, disk: &str, number: u32) -> bool {
        self.disks.get(disk).is_some_and(|kept| kept.partitions.contains_key(&number))
    }

    /// Places partitions: those that are there where they are, and the others in what is free.
    pub(super) fn place(
        &self,
        name: &str,
        partitions: &[Partition],
        facts: &DiskFacts,
    ) -> Result<Vec<Extent>, gpt::NoRoom> {
        let sector = facts.logical_sector_bytes;
        if !self.has_table(name) {
            return gpt::place_all(partitions, facts.size_bytes, sector);
        }
        let extent = |there: &PartitionFacts| gpt::extent(there.start, there.size_bytes, sector);
        let used: Vec<Extent> = facts.fingerprint.partitions.iter().map(extent).collect();
        let there = |number: u32| self.disks.get(name)?.partitions.get(&number).map(|there| extent(there));
        gpt::place_rest(partitions, used, &there, facts.size_bytes, sector)
    }

    fn partition(&self, devices: &Devices, placed: &Placed<'_>) -> Option<&'a PartitionFacts> {
        let Top::Disk(name) = placed.top else { return None };
        let number = match &devices.disks.get(name)?.content {
            Content::Gpt(gpt) => gpt.partitions.iter().find(|found| found.device == placed.device)?.number,
            Content::Table(table) => {
                let disk = &devices.disks.get(name)?.device;
                let mut entries = table.partitions.iter();
                entries.find(|entry| numbered(disk, entry.number).as_ref() == Some(&placed.device))?.number
            }
            _ => return None,
        };
        self.disks.get(name)?.partitions.get(&number).copied()
    }

    /// The partitions that are still to be made, by their paths.
    fn new_partitions(&self, devices: &Devices) -> BTreeSet<String> {
        let of_disk = |(name, disk): (&String, &Disk)| -> Vec<String> {
            match &disk.content {
                Content::Gpt(gpt) => {
                    let new = gpt.partitions.iter().filter(|partition| !self.has(name, partition.number));
                    new.map(|partition| partition.device.clone()).collect()
                }
                Content::Table(table) => {
                    let new = table.partitions.iter().filter(|entry| !self.has(name, entry.number));
                    new.filter_map(|entry| numbered(&disk.device, entry.number)).collect()
                }
                _ => Vec::new(),
            }
        };
        devices.disks.iter().flat_map(of_disk).collect()
    }

    /// Steps that make things, as steps that look first. Only what lies under a new partition is wiped.
    pub(super) fn careful(&self, devices: &Devices, steps: Vec<Step>) -> Vec<Step> {
        let new = self.new_partitions(devices);
        let keep = |step: Step| match &step {
            Step::WipeSignatures { device, stage: Stage::Format } if !new.contains(device) => None,
            _ if makes(&step) => Some(Step::Ensure { step: Box::new(step) }),
            _ => Some(step),
        };
        steps.into_iter().flat_map(one_by_one).filter_map(keep).collect()
    }
}

/// Swap files each in a step of their own: the subvolume that one is in may be there without it.
fn one_by_one(step: Step) -> Vec<Step> {
    let one = |device: &str, path: String, size: &str| Step::CreateSwapFiles {
        device: device.to_owned(),
        files: vec![SwapFile { path, size: size.to_owned() }],
    };
    match step {
        Step::CreateSwapFiles { device, files } => {
            files.iter().map(|file| one(&device, file.path.clone(), &file.size)).collect()
        }
        Step::CreateSubvolume { device, name, arguments, swap_files } => {
            let within = |file: &SwapFile| format!("{}/{}", name.trim_matches('/'), file.path);
            let files: Vec<Step> = swap_files.iter().map(|file| one(&device, within(file), &file.size)).collect();
            let bare = Step::CreateSubvolume { device: device.clone(), name, arguments, swap_files: Vec::new() };
            [bare].into_iter().chain(files).collect()
        }
        step => vec![step],
    }
}

/// Whether this step makes something that could be there already, and must not be made twice.
fn makes(step: &Step) -> bool {
    matches!(
        step,
        Step::ClearTable { .. }
            | Step::CreatePartition { .. }
            | Step::CreateTable { .. }
            | Step::CreateTablePartition { .. }
            | Step::FormatLuks { .. }
            | Step::AddLuksKey { .. }
            | Step::CreateArray { .. }
            | Step::CreatePhysicalVolume { .. }
            | Step::CreateVolumeGroup { .. }
            | Step::CreateLogicalVolume { .. }
            | Step::MakeFilesystem { .. }
            | Step::MakeSwap { .. }
            | Step::MakeBtrfs { .. }
            | Step::CreateSubvolume { .. }
            | Step::CreateSwapFiles { .. }
            | Step::MakeBcachefs { .. }
            | Step::CreateBcachefsSubvolume { .. }
            | Step::CreatePool { .. }
            | Step::CreateDataset { .. }
            | Step::CreateVolume { .. }
    )
}

fn on_disk<'a>(name: &str, disk: &'a Disk, facts: &'a DiskFacts, mode: Mode) -> Result<KeptDisk<'a>, Refusal> {
    let path = format!("{}.content", join("disk", name));
    let differs =
        |path: String, there: String, wanted: &str| Refusal::Differs { path, there, wanted: wanted.to_owned() };
    let Fingerprint { partition_table_uuid: table, fstype, partitions, .. } = &facts.fingerprint;
    let (is_gpt, wanted) = match &disk.content {
        Content::Gpt(_) => (true, "a GPT"),
        Content::Table(entries) => match entries.format {
            TableFormat::Gpt => (true, "a GPT"),
            TableFormat::Msdos => (false, "an msdos partition table"),
        },
        Content::Zfs(_) if pool_on(facts).is_some() => return Ok(KeptDisk::default()),
        _ if table.is_some() || !partitions.is_empty() => {
            return Err(differs(path, "a partition table".to_owned(), wanted_by(&disk.content)));
        }
        _ => return Ok(KeptDisk::default()),
    };
    let Some(uuid) = table else {
        return match fstype {
            Some(fstype) => Err(differs(path, fstype.clone(), wanted)),
            None if mode == Mode::Mount => Err(Refusal::Missing { path, wanted: wanted.to_owned() }),
            None => Ok(KeptDisk::default()),
        };
    };
    if (uuid.len() == GPT_UUID) != is_gpt {
        let there = if is_gpt { "a partition table that is no GPT" } else { "a GPT" };
        return Err(differs(path, there.to_owned(), wanted));
    }
    let there: BTreeMap<u32, &PartitionFacts> =
        partitions.iter().filter_map(|there| Some((number(&there.path)?, there))).collect();
    let mut kept = KeptDisk { table: true, partitions: BTreeMap::new() };
    let wanted: Vec<(u32, String, Option<&Partition>)> = match &disk.content {
        Content::Gpt(Gpt { partitions, .. }) => {
            let place = |partition: &Partition| join(&format!("{path}.partitions"), &partition.key);
            partitions.iter().map(|partition| (partition.number, place(partition), Some(partition))).collect()
        }
        Content::Table(entries) => {
            let all = entries.partitions.iter().enumerate();
            all.map(|(at, entry)| (entry.number, format!("{path}.partitions[{at}]"), None)).collect()
        }
        _ => Vec::new(),
    };
    for (number, path, partition) in wanted {
        match (there.get(&number), partition) {
            (Some(found), partition) => {
                if let Some(partition) = partition.filter(|partition| !is_it(partition, found)) {
                    let name = found.part_label.as_deref().unwrap_or("without a name");
                    let there = format!("{}, which is called “{name}”", found.path);
                    return Err(differs(path, there, &format!("partition {number} called “{}”", partition.label)));
                }
                kept.partitions.insert(number, found);
            }
            (None, _) if mode == Mode::Mount => {
                return Err(Refusal::Missing { path, wanted: format!("partition {number}") });
            }
            (None, _) => {}
        }
    }
    Ok(kept)
}

/// The partition with the data of a whole disk that zpool(8) was given: it makes a table of its own.
fn pool_on(facts: &DiskFacts) -> Option<&PartitionFacts> {
    let first = facts.fingerprint.partitions.iter().find(|there| number(&there.path) == Some(1));
    first.filter(|there| there.fstype.as_deref() == Some("zfs_member"))
}

/// The same partition: by its fixed UUID, or by its name.
fn is_it(partition: &Partition, found: &PartitionFacts) -> bool {
    match (&partition.uuid, &found.part_uuid) {
        (Some(wanted), Some(there)) => wanted.eq_ignore_ascii_case(there),
        (Some(_), None) => false,
        (None, _) => found.part_label.as_ref() == Some(&partition.label),
    }
}

/// The number at the end of a partition's path.
fn number(path: &str) -> Option<u32> {
    let digits = path.len() - path.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    path.get(path.len() - digits..)?.parse().ok()
}

/// Whether what is there is what is wanted; refused if it is something else, or must be there and is not.
fn fits(placed: &Placed<'_>, fstype: Option<&str>, label: Option<&str>, mode: Mode) -> Result<bool, Refusal> {
    let wanted = match placed.content {
        Content::Gpt(_) | Content::Table(_) => return Ok(true),
        // Made at every boot of the installed system.
        Content::Swap(swap) if swap.random_encryption && matches!(fstype, None | Some("swap")) => return Ok(true),
        Content::Filesystem(Filesystem { format, .. }) => format.clone(),
        Content::Zfs(member) => format!("a member of the pool {}", member.pool),
        content => wanted_by(content).to_owned(),
    };
    let path = placed.place().to_owned();
    let Some(fstype) = fstype else {
        return match mode {
            Mode::Mount => Err(Refusal::Missing { path, wanted }),
            Mode::Destroy | Mode::Format => Ok(false),
        };
    };
    let right = match placed.content {
        Content::Filesystem(Filesystem { format, .. }) => same_filesystem(format, fstype),
        Content::Zfs(member) => fstype == "zfs_member" && label.is_none_or(|label| label == member.pool),
        content => signature(content) == Some(fstype),
    };
    if right {
        return Ok(true);
    }
    let called = label.map(|label| format!(" “{label}”")).unwrap_or_default();
    Err(Refusal::Differs { path, there: format!("{fstype}{called}"), wanted })
}

/// What blkid(8) calls what such a content leaves on its device.
fn signature(content: &Content) -> Option<&'static str> {
    match content {
        Content::Swap(_) => Some("swap"),
        Content::Luks(_) => Some("crypto_LUKS"),
        Content::LvmPv(_) => Some("LVM2_member"),
        Content::Mdraid(_) => Some("linux_raid_member"),
        Content::Zfs(_) => Some("zfs_member"),
        Content::Btrfs(_) => Some("btrfs"),
        Content::Bcachefs(_) => Some("bcachefs"),
        Content::Gpt(_) | Content::Table(_) | Content::Filesystem(_) => None,
    }
}

fn wanted_by(content: &Content) -> &'static str {
    match content {
        Content::Swap(_) => "swap",
        Content::Luks(_) => "a LUKS device",
        Content::LvmPv(_) => "an LVM physical volume",
        Content::Mdraid(_) => "a member of an array",
        Content::Zfs(_) => "a member of a pool",
        Content::Btrfs(_) => "btrfs",
        Content::Bcachefs(_) => "bcachefs",
        Content::Gpt(_) | Content::Table(_) => "a partition table",
        Content::Filesystem(_) => "a filesystem",
    }
}

/// Whether `mkfs.<format>` makes what blkid(8) calls `fstype`. mkfs.ext4 without a journal makes what it calls ext2.
#[must_use]
pub fn same_filesystem(format: &str, fstype: &str) -> bool {
    let family = |name: &str| match name {
        "fat" | "msdos" | "vfat" => "vfat".to_owned(),
        "ext2" | "ext3" | "ext4" => "ext".to_owned(),
        other => other.to_owned(),
    };
    family(format) == family(fstype)
}
