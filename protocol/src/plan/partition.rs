//! Writing partition tables: gpt with sgdisk, hybrid MBRs, and disko's legacy tables with parted.

use super::facts::DiskFacts;
use super::format::hook;
use super::gpt::Extent;
use super::keep::Kept;
use super::parts::{BootMark, HookTime, HybridEntry, Stage};
use super::step::Step;
use crate::disko::{Content, Disk, Gpt, Placed, Table, TableFormat, join, numbered};

/// Writes the partition table of a disk, or what it lacks, and whatever its hooks do before.
pub(super) fn of_disk(name: &str, disk: &Disk, facts: &DiskFacts, extents: &[Extent], kept: &Kept<'_>) -> Vec<Step> {
    let owner = join("disk", name);
    let stage = Stage::Partition;
    let mut steps: Vec<Step> = hook(&owner, &disk.hooks, HookTime::PreCreate, stage).into_iter().collect();
    let content = format!("{owner}.content");
    let within = Some(facts.kernel_path.clone());
    let there = There { table: kept.has_table(name), partition: &|number| kept.has(name, number) };
    match &disk.content {
        Content::Gpt(table) => {
            steps.extend(hook(&content, &table.hooks, HookTime::PreCreate, stage));
            let known = Some((extents, facts.logical_sector_bytes));
            steps.extend(gpt(&disk.device, table, known, within, stage, &there));
        }
        Content::Table(entries) => {
            steps.extend(hook(&content, &entries.hooks, HookTime::PreCreate, stage));
            steps.extend(table(&disk.device, entries, within, stage, &there));
        }
        _ => {}
    }
    steps
}

/// What of a table is there already.
struct There<'a> {
    table: bool,
    partition: &'a dyn Fn(u32) -> bool,
}

/// Whether a table on an array or a LUKS device is there is seen when that is opened.
const NOTHING: There<'static> = There { table: false, partition: &|_| false };

/// Writes the partition table of an array or an opened LUKS device.
pub(super) fn of_other(placed: &Placed<'_>) -> Vec<Step> {
    let stage = Stage::Format;
    match placed.content {
        Content::Gpt(partitions) => gpt(&placed.device, partitions, None, None, stage, &NOTHING),
        Content::Table(entries) => table(&placed.device, entries, None, stage, &NOTHING),
        _ => Vec::new(),
    }
}

/// GPT attribute by which firmware and U-Boot choose a partition: legacy BIOS bootable (UEFI specification, 5.3.3).
const BOOT_ATTRIBUTE: u8 = 2;

/// parted's flags that make firmware boot from a partition: the active flag, the type of an ESP, [`BOOT_ATTRIBUTE`].
const BOOT_FLAGS: [&str; 3] = ["boot", "esp", "legacy_boot"];

/// The step that comes when the table is complete, unless there is nothing to mark.
fn mark(device: &str, marks: Vec<BootMark>, stage: Stage) -> Option<Step> {
    (!marks.is_empty()).then(|| Step::MarkBootable { device: device.to_owned(), marks, stage })
}

fn gpt(
    device: &str,
    gpt: &Gpt,
    known: Option<(&[Extent], u32)>,
    within: Option<String>,
    stage: Stage,
    there: &There<'_>,
) -> Vec<Step> {
    let clear = Step::ClearTable { device: device.to_owned(), stage };
    let mut steps: Vec<Step> = Some(clear).filter(|_| !there.table).into_iter().collect();
    let mut marks = Vec::new();
    let new = |number: u32| !(there.partition)(number);
    for (index, partition) in gpt.partitions.iter().enumerate().filter(|(_, partition)| new(partition.number)) {
        let (last, attributes): (Vec<u8>, Vec<u8>) =
            partition.attributes.iter().partition(|bit| **bit == BOOT_ATTRIBUTE);
        if !last.is_empty() {
            marks.push(BootMark { number: partition.number, attributes: vec![BOOT_ATTRIBUTE], flags: Vec::new() });
        }
        let extent = known.and_then(|(extents, _)| extents.get(index));
        steps.push(Step::CreatePartition {
            device: device.to_owned(),
            number: partition.number,
            label: partition.label.clone(),
            type_code: partition.type_code.clone(),
            attributes,
            start: partition.start.clone(),
            end: partition.end.clone(),
            alignment: partition.alignment,
            uuid: partition.uuid.clone(),
            first_lba: extent.map(|extent| extent.first),
            last_lba: extent.map(|extent| extent.last),
            sector_bytes: known.map(|(_, sector)| sector),
            stage,
        });
    }
    // Before a hybrid MBR, which sgdisk might write anew.
    steps.extend(mark(device, marks, stage));
    let first = if gpt.efi_first { 2 } else { 1 };
    let hybrids = gpt.partitions.iter().filter_map(|partition| Some((partition, partition.hybrid.as_ref()?)));
    let entries: Vec<HybridEntry> = (first..)
        .zip(hybrids)
        .map(|(mbr_number, (partition, hybrid))| HybridEntry {
            number: partition.number,
            mbr_number,
            mbr_type: hybrid.mbr_type.clone(),
            bootable: hybrid.bootable,
        })
        .collect();
    if entries.iter().any(|entry| new(entry.number)) {
        steps.push(Step::MakeHybridMbr { device: device.to_owned(), entries, protective_first: gpt.efi_first, stage });
    }
    let wait = |path: &String| Step::WaitForDevice { path: path.clone(), within: within.clone(), stage };
    steps.extend(gpt.partitions.iter().map(|partition| wait(&partition.device)));
    steps
}

fn table(device: &str, table: &Table, within: Option<String>, stage: Stage, there: &There<'_>) -> Vec<Step> {
    let format = match table.format {
        TableFormat::Gpt => "gpt",
        TableFormat::Msdos => "msdos",
    };
    let create = Step::CreateTable { device: device.to_owned(), format: format.to_owned(), stage };
    let mut steps: Vec<Step> = Some(create).filter(|_| !there.table).into_iter().collect();
    let mut marks = Vec::new();
    for entry in table.partitions.iter().filter(|entry| !(there.partition)(entry.number)) {
        let boot = entry.bootable.then(|| "boot".to_owned());
        let mut flags: Vec<String> = boot.into_iter().chain(entry.flags.iter().cloned()).collect();
        // Later ones may replace what an earlier one did, so their order stays.
        let first = flags.iter().position(|flag| BOOT_FLAGS.contains(&flag.as_str())).unwrap_or(flags.len());
        let last = flags.split_off(first);
        if !last.is_empty() {
            marks.push(BootMark { number: entry.number, attributes: Vec::new(), flags: last });
        }
        steps.push(Step::CreateTablePartition {
            device: device.to_owned(),
            number: entry.number,
            name: entry.first_word.clone(),
            fs_type: entry.fs_type.clone(),
            start: entry.start.clone(),
            end: entry.end.clone(),
            flags,
            stage,
        });
    }
    steps.extend(mark(device, marks, stage));
    let filled = table.partitions.iter().filter(|entry| entry.content.is_some());
    let paths = filled.filter_map(|entry| numbered(device, entry.number));
    steps.extend(paths.map(|path| Step::WaitForDevice { path, within: within.clone(), stage }));
    steps
}
