//! The answer to `cygnet disks`, and what a plan says is lost.

use super::lsblk::Device;
use super::survey::{self, Depth, Survey};
use super::{Seen, held, look};
use cygnet_protocol::disks::{DiskList, DiskReport, Layer};
use cygnet_protocol::fault::Fault;
use cygnet_protocol::plan::{DiskFacts, Plan, objections, shares_its_serial};

/// Every disk and what is on it. While an installation runs, it does not notice.
pub fn list(installing: bool) -> Result<DiskList, Fault> {
    let (depth, seen) = if installing {
        // To ask whether a disk is held is to hold it for a moment.
        (Depth::Quiet, look(&|_| false)?)
    } else {
        (Depth::Full, look(&held)?)
    };
    let survey = Survey::make(&seen.devices, &seen.pools, &seen.links, depth);
    let disks = seen.facts.iter().filter_map(|facts| {
        let device = seen.devices.iter().find(|device| device.path == facts.kernel_path)?;
        Some(report(device, facts, &seen.facts, survey.layer(device), depth))
    });
    let notes = if installing {
        vec![
            "an installation is running: disks were not asked for their health, pools not for their datasets"
                .to_owned(),
        ]
    } else {
        Vec::new()
    };
    Ok(DiskList { disks: disks.collect(), notes })
}

fn report(device: &Device, facts: &DiskFacts, all: &[DiskFacts], holds: Layer, depth: Depth) -> DiskReport {
    let below = |directory: &str| -> Vec<String> {
        facts.links.iter().filter(|link| link.starts_with(directory)).cloned().collect()
    };
    let mut warnings: Vec<String> = shares_its_serial(facts, all).into_iter().collect();
    warnings.extend(losses_elsewhere(&holds, &[&facts.kernel_path]));
    DiskReport {
        path: facts.kernel_path.clone(),
        by_id: below("/dev/disk/by-id/"),
        by_path: below("/dev/disk/by-path/"),
        model: facts.model.clone(),
        serial: facts.serial.clone(),
        wwn: facts.wwn.clone(),
        bus: facts.bus.clone(),
        size_bytes: facts.size_bytes,
        logical_sector_bytes: facts.logical_sector_bytes,
        physical_sector_bytes: u32::try_from(device.physical_sector).unwrap_or_default(),
        removable: facts.removable,
        read_only: facts.read_only,
        is_running_disk: facts.is_running_disk,
        health: survey::health(&facts.kernel_path, depth),
        holds,
        objections: objections(facts),
        warnings,
    }
}

/// Adds to a plan what is lost with each disk, and what that does to members of the same pool, array or group elsewhere.
pub(super) fn losses(plan: &mut Plan, seen: &Seen) {
    let survey = Survey::make(&seen.devices, &seen.pools, &seen.links, Depth::Full);
    let gone: Vec<String> = plan.disks.iter().map(|disk| disk.facts.kernel_path.clone()).collect();
    let gone: Vec<&String> = gone.iter().collect();
    let mut warnings = Vec::new();
    for disk in plan.disks.iter().filter(|disk| disk.destroy) {
        let device = seen.devices.iter().find(|device| device.path == disk.facts.kernel_path);
        let Some(layer) = device.map(|device| survey.layer(device)) else { continue };
        let words = layer.words();
        if !words.is_empty() {
            plan.losses.insert(disk.name.clone(), words);
        }
        warnings.extend(losses_elsewhere(&layer, &gone));
    }
    warnings.sort();
    warnings.dedup();
    plan.warnings.extend(warnings);
}

/// What is harmed on disks other than `gone`, in words.
fn losses_elsewhere(layer: &Layer, gone: &[&String]) -> Vec<String> {
    let is_elsewhere = |member: &&String| {
        let device = member.trim_end_matches(", not here");
        !gone.iter().any(|disk| device == disk.as_str() || crate::install::steps::is_partition_of(device, disk))
    };
    let shared = layer.walk().flat_map(|layer| layer.contents.iter().filter_map(|content| content.shared()));
    let mut words: Vec<String> = shared
        .filter_map(|(what, others)| {
            let others: Vec<String> = others.iter().filter(is_elsewhere).cloned().collect();
            (!others.is_empty())
                .then(|| format!("{what} loses a member, and has others elsewhere: {}", others.join(", ")))
        })
        .collect();
    words.sort();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::disks::Content;

    #[test]
    fn members_elsewhere_are_warned_of_and_those_that_go_too_are_not() {
        let raid = |others: &[&str]| Layer {
            contents: vec![Content::Raid {
                name: "nas:0".into(),
                level: None,
                devices: None,
                others: others.iter().map(|other| (*other).to_owned()).collect(),
            }],
            ..Layer::default()
        };
        let (a, b) = ("/dev/zza".to_owned(), "/dev/zzb".to_owned());
        let elsewhere = losses_elsewhere(&raid(&["/dev/zzb1"]), &[&a]);
        assert_eq!(elsewhere, ["the RAID nas:0 loses a member, and has others elsewhere: /dev/zzb1"]);
        assert!(losses_elsewhere(&raid(&["/dev/zzb1"]), &[&a, &b]).is_empty());
        assert!(losses_elsewhere(&raid(&["/dev/zzb"]), &[&a, &b]).is_empty());
        assert!(losses_elsewhere(&raid(&[]), &[&a]).is_empty());
        let absent = losses_elsewhere(&raid(&["/dev/disk/by-id/x, not here"]), &[&a]);
        assert!(absent[0].ends_with("by-id/x, not here"), "{absent:?}");
    }
}
