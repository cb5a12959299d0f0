//! What follows from a plan's steps later: unmounting, and mounting again after a restart.

use super::Plan;
use super::step::{Stage, Step};
use std::collections::BTreeMap;

/// One filesystem of the new system, mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// Absolute path under `/mnt`.
    pub target: String,
    /// Device or dataset.
    pub source: String,
    /// Type.
    pub fstype: String,
}

/// What the installation holds open on the target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetLayout {
    /// In the order they are mounted.
    pub mounts: Vec<MountPoint>,
    /// Pools, in the order they are created.
    pub pools: Vec<String>,
    /// Swap devices in use.
    pub swaps: Vec<String>,
}

impl Plan {
    /// Mounts, pools and swap, as the steps leave them.
    #[must_use]
    pub fn target_layout(&self) -> TargetLayout {
        let mut layout = TargetLayout::default();
        for step in &self.steps {
            match step {
                Step::Mount { source, target, fstype, .. } => layout.mounts.push(MountPoint {
                    target: target.clone(),
                    source: source.clone(),
                    fstype: fstype.clone(),
                }),
                Step::CreatePool { pool, .. } => layout.pools.push(pool.clone()),
                Step::SwapOn { device, .. } => layout.swaps.push(device.clone()),
                _ => {}
            }
        }
        layout
    }

    /// Undoes the mounting: swap off, unmount in reverse order, export pools in reverse order.
    #[must_use]
    pub fn unmount(&self) -> Vec<Step> {
        let TargetLayout { mounts, pools, swaps } = self.target_layout();
        let swaps = swaps.into_iter().rev().map(|device| Step::SwapOff { device });
        let mounts = mounts.into_iter().rev().map(|mount| Step::Unmount { target: mount.target });
        let pools = pools.into_iter().rev().map(|pool| Step::ExportPool { pool });
        swaps.chain(mounts).chain(pools).collect()
    }

    /// Mounts the formatted disks again after a restart: import pools, load keys from the files they were created with,
    /// then the plan's own mount steps (hooks included).
    #[must_use]
    pub fn remount(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for step in &self.steps {
            if let Step::CreatePool { pool, vdevs, .. } = step {
                let mut search: Vec<String> =
                    vdevs.iter().flat_map(|vdev| &vdev.members).map(|member| self.searched(member)).collect();
                search.sort();
                search.dedup();
                steps.push(Step::ImportPool { pool: pool.clone(), search });
            }
        }
        steps.extend(
            self.keys().map(|(dataset, location)| Step::LoadKey {
                dataset: dataset.to_owned(),
                location: location.to_owned(),
            }),
        );
        steps.extend(self.steps.iter().filter(|step| step.phase() == Stage::Mount).cloned());
        steps
    }

    /// Files with encryption keys the layout names (`keylocation=file://…`); they must exist before formatting begins.
    #[must_use]
    pub fn key_files(&self) -> Vec<String> {
        let mut files: Vec<String> =
            self.keys().filter_map(|(_, location)| location.strip_prefix("file://")).map(str::to_owned).collect();
        files.sort();
        files.dedup();
        files
    }

    /// zpool(8) partitions whole disks and puts the data on the first partition. Searching the directory of links would
    /// find any pool of that name.
    fn searched(&self, member: &str) -> String {
        let is_disk = self.disks.iter().any(|disk| disk.device == member);
        match (is_disk, member.starts_with("/dev/disk/"), member.ends_with(|c: char| c.is_ascii_digit())) {
            (false, ..) => member.to_owned(),
            (true, true, _) => format!("{member}-part1"),
            (true, false, true) => format!("{member}p1"),
            (true, false, false) => format!("{member}1"),
        }
    }

    fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
        fn location(map: &BTreeMap<String, String>) -> Option<&str> {
            map.get("keylocation").map(String::as_str).filter(|location| *location != "none")
        }
        self.steps.iter().filter_map(|step| match step {
            Step::CreatePool { pool, root_properties, .. } => Some((pool.as_str(), location(root_properties)?)),
            Step::CreateDataset { dataset, properties, .. } | Step::CreateVolume { dataset, properties, .. } => {
                Some((dataset.as_str(), location(properties)?))
            }
            _ => None,
        })
    }
}
