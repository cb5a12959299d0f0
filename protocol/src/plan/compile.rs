//! From a layout and facts to a plan: every decision in order.

use super::capacity::{self, Sizes};
use super::gpt::{self, Extent};
use super::refusal::Refusal;
use super::step::{HookTime, Stage, Step};
use super::{DiskFacts, Options, Plan, PlannedDisk, format, mounting, target};
use crate::disko::{Content, Devices, Disk, Hooks, join};
use std::collections::BTreeMap;

/// Makes the plan, or says why there is none. Pure: the same input gives the same plan and digest.
///
/// `disks` are the facts of every disk of the machine, those the layout does not name included.
///
/// # Errors
/// [`Refusal`], the first reason found; the disks' identity is judged before anything that depends on their size.
pub fn compile(devices: &Devices, disks: &[DiskFacts], options: &Options) -> Result<Plan, Refusal> {
    let targets = target::find(devices, disks)?;
    target::names_are_free(devices, &targets, disks)?;

    let mut extents: BTreeMap<&str, Vec<Extent>> = BTreeMap::new();
    for (name, (disk, facts)) in &targets {
        extents.insert(name, place(name, disk, facts)?);
    }
    let tree = mounting::tree(devices)?;
    capacity::check(devices, &tree, &Sizes { targets: &targets, extents: &extents }, options)?;

    let mut steps = Vec::new();
    for (disk, facts) in targets.values() {
        steps.extend(format::destroy(disk, facts));
    }
    for (name, (disk, facts)) in &targets {
        let extents = extents.get(name).map(Vec::as_slice).unwrap_or_default();
        steps.extend(format::partition(name, disk, facts, extents));
    }
    for (name, (disk, _)) in &targets {
        steps.extend(format::fill(name, disk));
    }
    for (key, nodev) in &devices.nodev {
        for when in [HookTime::PreCreate, HookTime::PostCreate] {
            steps.extend(format::hook(&join("nodev", key), &nodev.hooks, when, Stage::Format));
        }
    }
    for (key, pool) in &devices.pools {
        steps.extend(format::pool(key, pool, devices)?);
    }
    steps.extend(mounting::mount(devices, &tree, options));

    let planned = targets
        .iter()
        .map(|(name, (disk, facts))| PlannedDisk {
            name: (*name).to_owned(),
            device: disk.device.clone(),
            destroy: disk.destroy,
            facts: (*facts).clone(),
        })
        .collect();
    let warnings = warnings(devices, &steps);
    Ok(Plan::new(planned, steps, warnings))
}

fn place(name: &str, disk: &Disk, facts: &DiskFacts) -> Result<Vec<Extent>, Refusal> {
    let Content::Gpt(table) = &disk.content else {
        return Ok(Vec::new());
    };
    let sector = facts.logical_sector_bytes;
    gpt::place_all(&table.partitions, facts.size_bytes, sector).map_err(|no_room| {
        let partition = table.partitions.get(no_room.index).map(|partition| partition.key.clone()).unwrap_or_default();
        let needed = gpt::needed(&table.partitions, sector);
        if needed > facts.size_bytes {
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
        for partition in gpt.partitions.iter().filter(|partition| partition.device != partition.disko_device) {
            warnings.push(format!(
                "the installed system will look for {}, but udev calls it {}; use letters, digits and - in labels",
                partition.disko_device, partition.device
            ));
        }
    }
    let unmounting = |hooks: &Hooks| !(hooks.pre_unmount.is_empty() && hooks.post_unmount.is_empty());
    if all_hooks(devices).any(unmounting) {
        warnings.push("preUnmountHook and postUnmountHook of the layout will not be run".to_owned());
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

fn all_hooks(devices: &Devices) -> impl Iterator<Item = &Hooks> {
    fn of(content: &Content) -> Vec<&Hooks> {
        match content {
            Content::Gpt(gpt) => {
                let inner = gpt.partitions.iter().filter_map(|partition| partition.content.as_ref()).flat_map(of);
                std::iter::once(&gpt.hooks).chain(inner).collect()
            }
            Content::Filesystem(filesystem) => vec![&filesystem.hooks],
            Content::Swap(swap) => vec![&swap.hooks],
            Content::Zfs(member) => vec![&member.hooks],
        }
    }
    let disks = devices.disks.values().flat_map(|disk| std::iter::once(&disk.hooks).chain(of(&disk.content)));
    let pools = devices
        .pools
        .values()
        .flat_map(|pool| std::iter::once(&pool.hooks).chain(pool.datasets.iter().map(|dataset| &dataset.hooks)));
    disks.chain(pools).chain(devices.nodev.values().map(|nodev| &nodev.hooks))
}
