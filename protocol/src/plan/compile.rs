//! From a layout and facts to a plan: every decision in order.

use super::capacity::{self, Sizes};
use super::gpt::{self, Extent};
use super::keep::Kept;
use super::layers::Maker;
use super::refusal::Refusal;
use super::step::Step;
use super::{
    DiskFacts, Mode, Options, Plan, PlannedDisk, board, destroy, limits, mbr, mounting, partition, serial, target,
};
use crate::disko::{Content, Devices, Disk, Hooks, Placed, Top, join};
use std::collections::BTreeMap;

/// Makes the plan, or says why there is none. Pure: the same input gives the same plan and digest.
///
/// `disks` are the facts of every disk of the machine, those the layout does not name included.
///
/// # Errors
/// [`Refusal`], the first reason found; the disks' identity is judged before anything that depends on their size.
pub fn compile(devices: &Devices, disks: &[DiskFacts], options: &Options) -> Result<Plan, Refusal> {
    let targets = target::find(devices, disks, options.mode)?;
    target::names_are_free(devices, &targets, disks)?;

    let mode = options.mode;
    let kept = Kept::find(devices, &targets, mode)?;
    let mut extents: BTreeMap<&str, Vec<Extent>> = BTreeMap::new();
    for (name, (disk, facts)) in &targets {
        if !mode.keeps() {
            mbr::check(name, disk, facts)?;
        }
        extents.insert(name, place(name, disk, facts, &kept)?);
    }
    let tree = mounting::tree(devices)?;
    // What is in use of a file system that is kept is not known, nor what of the system is there already.
    let known = Options { closure_nar_size: options.closure_nar_size.filter(|_| !mode.keeps()), ..options.clone() };
    let sizes = Sizes { targets: &targets, extents: &extents };
    let store = capacity::check(devices, &tree, &sizes, &known)?;
    limits::check(devices, &sizes)?;
    let doubts = match &options.board {
        Some(model) if options.from_card => board::without_card(devices, &targets, model),
        Some(model) => board::check(devices, &targets, model)?,
        None => Vec::new(),
    };

    // A circle was refused when the layout was read.
    let order = devices.order().unwrap_or_default();
    let mut steps = Vec::new();
    for (name, (disk, facts)) in targets.iter().filter(|_| !mode.keeps()) {
        let extents = extents.get(name).map(Vec::as_slice).unwrap_or_default();
        steps.extend(destroy::destroy(disk, facts, extents));
    }
    for (name, (disk, facts)) in order.iter().filter_map(|top| disk_of(*top, &targets)) {
        let extents = extents.get(name).map(Vec::as_slice).unwrap_or_default();
        steps.extend(partition::of_disk(name, disk, facts, extents, &kept));
    }
    let maker = Maker { devices, options };
    let mut made = Vec::new();
    for top in &order {
        made.push((*top, maker.top(*top)?));
    }
    steps.extend(made.iter().flat_map(|(_, steps)| steps.clone()));
    if mode.keeps() {
        steps = kept.careful(devices, steps);
    }
    steps.extend(mounting::mount(devices, &order, &tree, options));
    let unmounting = |hooks: &Hooks| !(hooks.pre_unmount.is_empty() && hooks.post_unmount.is_empty());
    if all_hooks(devices).into_iter().any(unmounting) {
        steps.extend(mounting::unmount(devices, &made, &tree, options));
    }

    let planned = targets
        .iter()
        .map(|(name, (disk, facts))| PlannedDisk {
            name: (*name).to_owned(),
            device: disk.device.clone(),
            destroy: disk.destroy && !mode.keeps(),
            facts: (*facts).clone(),
        })
        .collect();
    let mut warnings: Vec<String> =
        devices.notes.iter().cloned().chain(warnings(devices, &steps)).chain(doubts).collect();
    warnings.extend(targets.iter().filter_map(|(name, (disk, facts))| serial::doubt(name, &disk.device, facts)));
    let plan = Plan::new(mode, planned, steps, warnings, store);
    Ok(if mode == Mode::Mount { plan.only_mounting() } else { plan })
}

/// The disk that a node of the top level is, with its name.
fn disk_of<'a, T: Copy>(top: Top<'a>, disks: &BTreeMap<&str, T>) -> Option<(&'a str, T)> {
    match top {
        Top::Disk(name) => Some((name, *disks.get(name)?)),
        Top::Bcachefs(_) | Top::Group(_) | Top::Array(_) | Top::Nodev(_) | Top::Pool(_) => None,
    }
}

fn place(name: &str, disk: &Disk, facts: &DiskFacts, kept: &Kept<'_>) -> Result<Vec<Extent>, Refusal> {
    let Content::Gpt(table) = &disk.content else {
        return Ok(Vec::new());
    };
    let sector = facts.logical_sector_bytes;
    kept.place(name, &table.partitions, facts).map_err(|no_room| {
        let partition = table.partitions.get(no_room.index).map(|partition| partition.key.clone()).unwrap_or_default();
        let needed = gpt::needed(&table.partitions, sector);
        if needed > facts.size_bytes && !kept.has_table(name) {
            Refusal::DiskTooSmall { disk: name.to_owned(), size: facts.size_bytes, needed, partition }
        } else {
            Refusal::NoRoom {
                path: join(&format!("{}.content.partitions", join("disk", name)), &partition),
                first_lba: no_room.first,
                last_lba: no_room.last,
            }
        }
    })
}

fn warnings(devices: &Devices, steps: &[Step]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, disk) in &devices.disks {
        if !disk.device.starts_with("/dev/disk/") {
            warnings.push(format!(
                "disk “{name}” is named {}, which can be another disk after a restart; its link in /dev/disk/by-id cannot",
                disk.device
            ));
        }
        let Content::Gpt(gpt) = &disk.content else {
            continue;
        };
        for partition in gpt.partitions.iter().filter(|partition| !partition.is_found()) {
            warnings.push(format!(
                "the installed system will look for {}, but udev calls it {}; use letters, digits and - in labels",
                partition.disko_device, partition.device
            ));
        }
    }
    for (key, group) in devices.groups.iter().filter(|(_, group)| group.volumes.is_empty()) {
        if devices.members_of(Top::Group(key)).is_empty() {
            warnings.push(format!("volume group “{}” has no members and no volumes, and is not made", group.name));
        }
    }
    for step in steps {
        match step {
            Step::MakeSwap { device, .. } if device.starts_with("/dev/zvol/") => {
                warnings.push(format!("swap on {device}: OpenZFS can deadlock when memory is short"));
            }
            _ => {}
        }
    }
    warnings
}

fn all_hooks(devices: &Devices) -> Vec<&Hooks> {
    let mut hooks: Vec<&Hooks> = devices.contents().iter().map(Placed::hooks).collect();
    hooks.extend(devices.disks.values().map(|disk| &disk.hooks));
    hooks.extend(devices.arrays.values().map(|array| &array.hooks));
    hooks.extend(devices.groups.values().map(|group| &group.hooks));
    hooks.extend(devices.bcachefs.values().map(|filesystem| &filesystem.hooks));
    hooks.extend(devices.nodev.values().map(|nodev| &nodev.hooks));
    for pool in devices.pools.values() {
        hooks.push(&pool.hooks);
        hooks.extend(pool.datasets.iter().map(|dataset| &dataset.hooks));
    }
    hooks
}
