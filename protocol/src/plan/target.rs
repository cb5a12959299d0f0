//! Which disk is meant, and whether it may be touched.

use super::facts::{DiskFacts, human_bytes};
use super::mode::Mode;
use super::refusal::Refusal;
use super::serial;
use crate::disko::{Content, Devices, Disk, join};
use std::collections::BTreeMap;

/// Finds every disk of the layout among `disks`. Answers in the layout's order.
pub(super) fn find<'a>(
    devices: &'a Devices,
    disks: &'a [DiskFacts],
    mode: Mode,
) -> Result<BTreeMap<&'a str, (&'a Disk, &'a DiskFacts)>, Refusal> {
    let mut targets: BTreeMap<&str, (&Disk, &DiskFacts)> = BTreeMap::new();
    for (name, disk) in &devices.disks {
        let facts = one(name, &disk.device, disks)?;
        if let Some((other, _)) = targets.iter().find(|(_, (_, other))| other.kernel_path == facts.kernel_path) {
            return Err(Refusal::SameDisk {
                disks: [(*other).to_owned(), name.clone()],
                device: facts.kernel_path.clone(),
            });
        }
        may_be_touched(name, disk, facts, mode)?;
        serial::is_told_apart(name, &disk.device, facts, disks)?;
        targets.insert(name, (disk, facts));
    }
    Ok(targets)
}

fn one<'a>(name: &str, device: &str, disks: &'a [DiskFacts]) -> Result<&'a DiskFacts, Refusal> {
    let is_it = |facts: &&DiskFacts| {
        facts.kernel_path == device || facts.requested.iter().chain(&facts.links).any(|path| path == device)
    };
    let found: Vec<&DiskFacts> = disks.iter().filter(is_it).collect();
    match found.as_slice() {
        [facts] => Ok(facts),
        [] => Err(Refusal::UnknownDisk {
            disk: name.to_owned(),
            device: device.to_owned(),
            candidates: disks.iter().filter(|facts| !facts.is_running_disk).map(described).collect(),
        }),
        several => Err(Refusal::AmbiguousDisk {
            disk: name.to_owned(),
            device: device.to_owned(),
            matches: several.iter().map(|facts| facts.kernel_path.clone()).collect(),
        }),
    }
}

/// A path a person can put into a layout, and enough to recognise the disk.
fn described(facts: &DiskFacts) -> String {
    let by_id = |link: &&String| {
        link.strip_prefix("/dev/disk/by-id/").is_some_and(|id| !id.starts_with("wwn-") && !id.starts_with("nvme-eui."))
    };
    let path = facts.links.iter().find(by_id).unwrap_or(&facts.kernel_path);
    let model = facts.model.as_deref().unwrap_or("no model name");
    format!("{path} ({model}, {})", human_bytes(facts.size_bytes))
}

/// Why no plan may take a disk, whatever the layout; empty if one may.
#[must_use]
pub fn objections(facts: &DiskFacts) -> Vec<String> {
    let mut words = Vec::new();
    if facts.is_running_disk {
        words.push("the Pi runs from it".to_owned());
    }
    if facts.read_only {
        words.push("it is read-only".to_owned());
    }
    words.extend(facts.in_use.iter().cloned());
    if !matches!(facts.logical_sector_bytes, 512 | 4096) {
        words.push(format!("it has logical sectors of {} bytes", facts.logical_sector_bytes));
    }
    words
}

fn may_be_touched(name: &str, disk: &Disk, facts: &DiskFacts, mode: Mode) -> Result<(), Refusal> {
    let (disk_name, device) = (name.to_owned(), facts.kernel_path.clone());
    if facts.is_running_disk {
        return Err(Refusal::RunningDisk { disk: disk_name, device });
    }
    if facts.read_only {
        return Err(Refusal::ReadOnly { disk: disk_name, device });
    }
    if !facts.in_use.is_empty() {
        return Err(Refusal::InUse { disk: disk_name, device, by: facts.in_use.clone() });
    }
    if !matches!(facts.logical_sector_bytes, 512 | 4096) {
        return Err(Refusal::SectorSize { disk: disk_name, bytes: facts.logical_sector_bytes });
    }
    if !disk.destroy && !mode.keeps() && !facts.fingerprint.is_blank() {
        return Err(Refusal::KeepsContents { disk: disk_name, device, contents: facts.contents.clone() });
    }
    Ok(())
}

/// Disks that stay attached must not carry names by which the new system would find the wrong partition or pool.
pub(super) fn names_are_free(
    devices: &Devices,
    targets: &BTreeMap<&str, (&Disk, &DiskFacts)>,
    disks: &[DiskFacts],
) -> Result<(), Refusal> {
    let is_target = |facts: &DiskFacts| targets.values().any(|(_, target)| target.kernel_path == facts.kernel_path);
    let others: Vec<&DiskFacts> = disks.iter().filter(|facts| !is_target(facts)).collect();
    let partitions = || others.iter().flat_map(|facts| &facts.fingerprint.partitions);
    for (name, (disk, _)) in targets {
        let Content::Gpt(gpt) = &disk.content else {
            continue;
        };
        for partition in &gpt.partitions {
            let taken = partitions().find(|other| match &partition.uuid {
                Some(uuid) => other.part_uuid.as_ref().is_some_and(|theirs| theirs.eq_ignore_ascii_case(uuid)),
                None => other.part_label.as_ref() == Some(&partition.label),
            });
            if let Some(other) = taken {
                return Err(Refusal::LabelTaken {
                    path: join(&format!("{}.content.partitions", join("disk", name)), &partition.key),
                    label: partition.uuid.clone().unwrap_or_else(|| partition.label.clone()),
                    other: other.path.clone(),
                });
            }
        }
    }
    for pool in devices.pools.values() {
        let member = |fstype: &Option<String>, label: &Option<String>| {
            fstype.as_deref() == Some("zfs_member") && label.as_ref() == Some(&pool.name)
        };
        let whole = others.iter().find(|facts| member(&facts.fingerprint.fstype, &facts.fingerprint.label));
        let part = partitions().find(|other| member(&other.fstype, &other.label));
        let other = whole.map(|facts| &facts.kernel_path).or(part.map(|other| &other.path));
        if let Some(other) = other {
            return Err(Refusal::PoolNameTaken { pool: pool.name.clone(), other: other.clone() });
        }
    }
    Ok(())
}
