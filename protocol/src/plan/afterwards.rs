//! What follows from a plan's steps later: unmounting, and mounting again after a restart.

use super::Plan;
use super::action::{Action, Input};
use super::mode::Mode;
use super::mounting::binds;
use super::parts::Stage;
use super::secret::{Key, SecretRef};
use super::step::Step;
use crate::disko::numbered;

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
            match step.made() {
                Step::Mount { source, target, fstype, .. } => layout.mounts.push(MountPoint {
                    target: target.clone(),
                    source: source.clone(),
                    fstype: fstype.clone(),
                }),
                Step::CreatePool { pool, .. } | Step::ImportPool { pool, .. } => layout.pools.push(pool.clone()),
                Step::SwapOn { device, .. } => layout.swaps.push(device.clone()),
                _ => {}
            }
        }
        layout
    }

    /// Undoes the mounting: swap off, unmount in reverse order, close what was opened in reverse order. With the hooks
    /// of the layout around it, if it has such.
    #[must_use]
    pub fn unmount(&self) -> Vec<Step> {
        let own: Vec<Step> = self.steps.iter().filter(|step| step.phase() == Stage::Unmount).cloned().collect();
        if !own.is_empty() {
            return own;
        }
        let TargetLayout { mounts, swaps, .. } = self.target_layout();
        let swaps = swaps.into_iter().rev().map(|device| Step::SwapOff { device });
        let mounts = mounts.into_iter().rev().map(|mount| Step::Unmount { target: mount.target });
        swaps.chain(mounts).chain(closings(&self.steps)).collect()
    }

    /// Mounts the formatted disks again after a restart: assemble arrays, open LUKS devices, activate volume groups, import
    /// pools, load keys from where they were when the plan was carried out, in the order in which all that was made; then
    /// the plan's own mount steps (hooks included).
    #[must_use]
    pub fn remount(&self) -> Vec<Step> {
        if self.mode == Mode::Mount {
            return self.steps.iter().filter(|step| step.phase() <= Stage::Mount).cloned().collect();
        }
        self.remount_all()
    }

    fn remount_all(&self) -> Vec<Step> {
        let mut steps = self.reopen(self.steps.len());
        for step in self.steps.iter().filter(|step| step.phase() == Stage::Mount) {
            // What was just assembled or opened has partitions and links that udev is still about to make.
            steps.extend(device_used(step).map(waited_for));
            steps.push(step.clone());
        }
        steps
    }

    /// Opens what the first `done` steps made.
    pub(super) fn reopen(&self, done: usize) -> Vec<Step> {
        let made = self.steps.get(..done).unwrap_or(&self.steps);
        let mut steps = Vec::new();
        for step in made.iter().map(Step::made) {
            match step {
                Step::CreateArray { members, .. } | Step::CreateVolumeGroup { members, .. } => {
                    steps.extend(members.iter().map(|member| waited_for(member)));
                }
                Step::OpenLuks { device, name, key, allow_discards, bypass_workqueues, arguments, .. } => {
                    steps.push(waited_for(device));
                    steps.push(Step::OpenLuks {
                        device: device.clone(),
                        name: name.clone(),
                        key: key.clone(),
                        allow_discards: *allow_discards,
                        bypass_workqueues: *bypass_workqueues,
                        arguments: arguments.clone(),
                        persistent: false,
                    });
                    let device = format!("/dev/mapper/{name}");
                    if !partitions_on(made, &device).is_empty() {
                        steps.push(Step::ReadTable { device });
                    }
                }
                Step::UnlockBcachefs { .. } => steps.push(step.clone()),
                _ => {}
            }
            steps.extend(self.opening(step));
        }
        steps
    }

    /// What opens the thing that this step makes, where it is there already.
    pub(super) fn opening(&self, step: &Step) -> Vec<Step> {
        let mut steps = Vec::new();
        match step {
            Step::CreateArray { name, members, .. } => {
                steps.push(Step::AssembleArray { name: name.clone(), members: members.clone() });
            }
            Step::CreateVolumeGroup { group, .. } => steps.push(Step::ActivateVolumeGroup { group: group.clone() }),
            Step::CreatePool { pool, vdevs, .. } => {
                let mut search: Vec<String> =
                    vdevs.iter().flat_map(|vdev| &vdev.members).map(|member| self.searched(member)).collect();
                search.sort();
                search.dedup();
                steps.push(Step::ImportPool { pool: pool.clone(), search });
            }
            _ => {}
        }
        steps.extend(
            zfs_key(step).map(|(dataset, location)| Step::LoadKey {
                dataset: dataset.to_owned(),
                location: location.to_owned(),
            }),
        );
        steps
    }

    /// The same, with everything only opened and mounted.
    pub(super) fn only_mounting(self) -> Self {
        let last = self.steps.iter().filter(|step| step.phase() == Stage::Unmount).cloned();
        let steps = self.remount_all().into_iter().chain(last).collect();
        let Self { disks, warnings, store, .. } = self;
        Self::new(Mode::Mount, disks, steps, warnings, store)
    }

    /// Secrets that somebody has to give, each once.
    #[must_use]
    pub fn secrets(&self) -> Vec<SecretRef> {
        let mut secrets: Vec<SecretRef> =
            self.inputs().filter(|secret| matches!(secret, SecretRef::Person { .. })).collect();
        secrets.sort();
        secrets.dedup();
        secrets
    }

    fn inputs(&self) -> impl Iterator<Item = SecretRef> {
        self.steps.iter().flat_map(Step::actions).filter_map(|action| match action {
            Action::RunWithInput { input: Input::Secret { secret }, .. } => Some(secret),
            _ => None,
        })
    }

    /// Files with keys and passphrases the layout names; they must exist before formatting begins.
    #[must_use]
    pub fn key_files(&self) -> Vec<String> {
        let made = || self.steps.iter().map(Step::made);
        let of_zfs = made().filter_map(key_location).filter_map(|location| location.strip_prefix("file://"));
        let of_luks = made().filter_map(|step| match step {
            Step::FormatLuks { key: Key::File { path, .. }, .. }
            | Step::OpenLuks { key: Key::File { path, .. }, .. }
            | Step::AddLuksKey { path, .. } => Some(path.as_str()),
            _ => None,
        });
        let mut files: Vec<String> = of_zfs.chain(of_luks).map(str::to_owned).collect();
        files.extend(self.inputs().filter_map(|secret| match secret {
            SecretRef::PasswordFile { path } => Some(path),
            SecretRef::Person { .. } => None,
        }));
        files.sort();
        files.dedup();
        files
    }

    /// zpool(8) partitions whole disks and puts the data on the first partition. Searching the directory of links would
    /// find any pool of that name.
    pub(super) fn searched(&self, member: &str) -> String {
        let is_disk = self.disks.iter().any(|disk| disk.device == member);
        match (is_disk, member.starts_with("/dev/disk/"), member.ends_with(|c: char| c.is_ascii_digit())) {
            (false, ..) => member.to_owned(),
            (true, true, _) => format!("{member}-part1"),
            (true, false, true) => format!("{member}p1"),
            (true, false, false) => format!("{member}1"),
        }
    }
}

fn waited_for(device: &str) -> Step {
    Step::WaitForDevice { path: device.to_owned(), within: None, stage: Stage::Mount }
}

/// The device that a step mounts or swaps on.
fn device_used(step: &Step) -> Option<&str> {
    let device = match step {
        Step::Mount { source, options, .. } if !binds(options) => source,
        Step::SwapOn { device, .. } => device,
        _ => return None,
    };
    device.starts_with("/dev/").then_some(device.as_str())
}

fn key_location(step: &Step) -> Option<&str> {
    match step {
        Step::LoadKey { location, .. } => Some(location.as_str()),
        step => zfs_key(step).map(|(_, location)| location),
    }
}

/// The dataset that a step makes an encryption root, and where its key is.
pub(super) fn zfs_key(step: &Step) -> Option<(&str, &str)> {
    let (name, properties, secret) = match step {
        Step::CreatePool { pool, root_properties, secret, .. } => (pool, root_properties, secret),
        Step::CreateDataset { dataset, properties, secret }
        | Step::CreateVolume { dataset, properties, secret, .. } => (dataset, properties, secret),
        _ => return None,
    };
    let location = properties.get("keylocation").map(String::as_str).filter(|location| *location != "none");
    Some((name, location.or(secret.as_ref().map(|_| "prompt"))?))
}

/// Partitions that these steps make on a device that is not a disk, by their paths.
fn partitions_on(steps: &[Step], device: &str) -> Vec<String> {
    let numbers = steps.iter().map(Step::made).filter_map(|step| match step {
        Step::CreatePartition { device: on, number, .. } | Step::CreateTablePartition { device: on, number, .. }
            if on == device =>
        {
            Some(*number)
        }
        _ => None,
    });
    numbers.filter_map(|number| numbered(device, number)).collect()
}

/// Lets go of what these steps opened or made, in reverse order.
pub(super) fn closings(steps: &[Step]) -> Vec<Step> {
    let mut closings = Vec::new();
    for step in steps.iter().rev() {
        match step.made() {
            Step::CreatePool { pool, .. } | Step::ImportPool { pool, .. } => {
                closings.push(Step::ExportPool { pool: pool.clone() })
            }
            Step::CreateArray { name, .. } | Step::AssembleArray { name, .. } => {
                closings.push(Step::StopArray { name: name.clone() });
            }
            Step::CreateVolumeGroup { group, .. } | Step::ActivateVolumeGroup { group } => {
                closings.push(Step::DeactivateVolumeGroup { group: group.clone() });
            }
            Step::OpenLuks { name, .. } => {
                let partitions = partitions_on(steps, &format!("/dev/mapper/{name}"));
                if !partitions.is_empty() {
                    closings.push(Step::RemovePartitions { partitions });
                }
                closings.push(Step::CloseLuks { name: name.clone() });
            }
            _ => {}
        }
    }
    closings
}
