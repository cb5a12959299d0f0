//! Filling devices: filesystems, and what lies between them and disks.

use super::Options;
use super::format::hook;
use super::partition;
use super::parts::{BcachefsDevice, HookTime, Stage, SwapFile};
use super::refusal::Refusal;
use super::secret::{Key, SecretRef};
use super::step::Step;
use crate::disko::{Array, BcachefsFilesystem, Btrfs, Content, Devices, Luks, LuksKey, Placed, Top, VolumeGroup};

/// Makes what a layout asks for, once the disks are partitioned.
pub(super) struct Maker<'a> {
    /// The layout.
    pub devices: &'a Devices,
    /// What the person decides.
    pub options: &'a Options,
}

fn waited_for(path: &str) -> Step {
    Step::WaitForDevice { path: path.to_owned(), within: None, stage: Stage::Format }
}

fn wiped(device: &str) -> Step {
    Step::WipeSignatures { device: device.to_owned(), stage: Stage::Format }
}

fn swap_files(files: &[crate::disko::SwapFile]) -> Vec<SwapFile> {
    files.iter().map(|file| SwapFile { path: file.path.clone(), size: file.size.clone() }).collect()
}

/// What opens a LUKS device, as the steps name it.
pub(super) fn key(luks: &Luks) -> Key {
    let (size, offset) = (luks.key_size, luks.key_offset);
    match &luks.key {
        LuksKey::File(path) => Key::File { path: path.clone(), size, offset },
        LuksKey::PasswordFile(path) => {
            Key::Secret { secret: SecretRef::PasswordFile { path: path.clone() }, size, offset }
        }
        LuksKey::Asked => Key::Secret { secret: SecretRef::Person { name: luks.name.clone() }, size, offset },
    }
}

impl Maker<'_> {
    /// Makes everything of one node of the top level, after whatever it is made of.
    pub(super) fn top(&self, top: Top<'_>) -> Result<Vec<Step>, Refusal> {
        let owner = top.path();
        match top {
            Top::Disk(name) => match self.devices.disks.get(name) {
                Some(disk) => {
                    let mut steps = Vec::new();
                    for placed in self.devices.outermost(top) {
                        steps.extend(self.fill(&placed)?);
                    }
                    steps.extend(hook(&owner, &disk.hooks, HookTime::PostCreate, Stage::Format));
                    Ok(steps)
                }
                None => Ok(Vec::new()),
            },
            Top::Array(name) => self.devices.arrays.get(name).map_or(Ok(Vec::new()), |array| self.array(top, array)),
            Top::Group(name) => self.devices.groups.get(name).map_or(Ok(Vec::new()), |group| self.group(top, group)),
            Top::Pool(name) => self.devices.pools.get(name).map_or(Ok(Vec::new()), |pool| self.pool(name, pool)),
            Top::Bcachefs(name) => {
                Ok(self.devices.bcachefs.get(name).map(|made| self.bcachefs(top, made)).unwrap_or_default())
            }
            Top::Nodev(name) => {
                let hooks = self.devices.nodev.get(name).map(|nodev| &nodev.hooks);
                let times = [HookTime::PreCreate, HookTime::PostCreate];
                let steps = hooks
                    .into_iter()
                    .flat_map(|hooks| times.into_iter().filter_map(|when| hook(&owner, hooks, when, Stage::Format)));
                Ok(steps.collect())
            }
        }
    }

    /// Puts a content where it belongs.
    pub(super) fn fill(&self, placed: &Placed<'_>) -> Result<Vec<Step>, Refusal> {
        let hooks = placed.hooks();
        let device = placed.device.as_str();
        let is_disk = matches!(placed.top, Top::Disk(_)) && placed.around.len() == 1;
        let is_table = matches!(placed.content, Content::Gpt(_) | Content::Table(_));
        let mut steps = Vec::new();
        // The table of a disk is there already, and the hook before it has been run.
        if !(is_disk && is_table) {
            steps.extend(hook(&placed.path, hooks, HookTime::PreCreate, Stage::Format));
        }
        match placed.content {
            Content::Gpt(_) | Content::Table(_) => {
                if !is_disk {
                    steps.extend(partition::of_other(placed));
                }
                for inner in placed.inner() {
                    // A signature of something older may lie exactly here, now that the disk is divided anew.
                    steps.push(wiped(&inner.device));
                    steps.extend(self.fill(&inner)?);
                }
            }
            Content::Filesystem(filesystem) => steps.push(Step::MakeFilesystem {
                device: device.to_owned(),
                format: filesystem.format.clone(),
                arguments: filesystem.arguments.clone(),
            }),
            Content::Swap(swap) => {
                if !swap.random_encryption {
                    steps.push(Step::MakeSwap { device: device.to_owned(), arguments: swap.arguments.clone() });
                }
            }
            Content::Luks(luks) => steps.extend(self.luks(placed, luks)?),
            Content::LvmPv(_) => steps.push(Step::CreatePhysicalVolume { device: device.to_owned() }),
            Content::Btrfs(btrfs) => steps.extend(make_btrfs(device, btrfs)),
            // Made with what they are members of.
            Content::Zfs(_) | Content::Mdraid(_) | Content::Bcachefs(_) => {}
        }
        steps.extend(hook(&placed.path, hooks, HookTime::PostCreate, Stage::Format));
        Ok(steps)
    }

    fn luks(&self, placed: &Placed<'_>, luks: &Luks) -> Result<Vec<Step>, Refusal> {
        let key = key(luks);
        if luks.key == LuksKey::Asked && !self.options.passphrases {
            return Err(Refusal::NeedsPassphrase { path: placed.path.clone(), name: luks.name.clone() });
        }
        let device = placed.device.clone();
        let mut steps = vec![
            Step::FormatLuks { device: device.clone(), key: key.clone(), arguments: luks.format_arguments.clone() },
            Step::OpenLuks {
                device: device.clone(),
                name: luks.name.clone(),
                key: key.clone(),
                allow_discards: luks.allow_discards,
                bypass_workqueues: luks.bypass_workqueues,
                arguments: luks.open_arguments.clone(),
                persistent: true,
            },
        ];
        let more = luks.additional_keys.iter();
        steps.extend(more.map(|path| Step::AddLuksKey {
            device: device.clone(),
            path: path.clone(),
            key: key.clone(),
        }));
        steps.push(waited_for(&format!("/dev/mapper/{}", luks.name)));
        for inner in placed.inner() {
            steps.extend(self.fill(&inner)?);
        }
        Ok(steps)
    }

    fn array(&self, top: Top<'_>, array: &Array) -> Result<Vec<Step>, Refusal> {
        let owner = top.path();
        let device = format!("/dev/md/{}", array.name);
        let mut steps: Vec<Step> = hook(&owner, &array.hooks, HookTime::PreCreate, Stage::Format).into_iter().collect();
        steps.push(Step::CreateArray {
            name: array.name.clone(),
            level: array.level,
            metadata: array.metadata.clone(),
            members: self.member_paths(top),
            arguments: array.arguments.clone(),
        });
        steps.push(waited_for(&device));
        steps.push(wiped(&device));
        for placed in self.devices.outermost(top) {
            steps.extend(self.fill(&placed)?);
        }
        steps.extend(hook(&owner, &array.hooks, HookTime::PostCreate, Stage::Format));
        Ok(steps)
    }

    fn group(&self, top: Top<'_>, group: &VolumeGroup) -> Result<Vec<Step>, Refusal> {
        let owner = top.path();
        let mut steps: Vec<Step> = hook(&owner, &group.hooks, HookTime::PreCreate, Stage::Format).into_iter().collect();
        let members = self.member_paths(top);
        if !members.is_empty() {
            let mut by_key: Vec<_> = group.volumes.iter().collect();
            by_key.sort_by(|a, b| a.key.cmp(&b.key));
            let kinds = by_key.into_iter().filter_map(|volume| volume.kind.as_deref()).filter(|kind| *kind != "thinlv");
            let mut modules = vec!["dm-snapshot".to_owned()];
            for module in kinds.map(|kind| format!("dm-{kind}")) {
                if !modules.contains(&module) {
                    modules.push(module);
                }
            }
            steps.push(Step::CreateVolumeGroup { group: group.name.clone(), members, modules });
        }
        for volume in &group.volumes {
            steps.push(Step::CreateLogicalVolume {
                group: group.name.clone(),
                name: volume.name.clone(),
                size: volume.size.clone(),
                kind: volume.kind.clone(),
                thin_pool: volume.thin_pool.clone(),
                arguments: volume.arguments.clone(),
            });
        }
        for placed in self.devices.outermost(top) {
            steps.push(waited_for(&placed.device));
            steps.extend(self.fill(&placed)?);
        }
        steps.extend(hook(&owner, &group.hooks, HookTime::PostCreate, Stage::Format));
        Ok(steps)
    }

    fn bcachefs(&self, top: Top<'_>, filesystem: &BcachefsFilesystem) -> Vec<Step> {
        let owner = top.path();
        let hooks = &filesystem.hooks;
        let mut steps: Vec<Step> = hook(&owner, hooks, HookTime::PreCreate, Stage::Format).into_iter().collect();
        let devices = self.devices.members_of(top);
        let devices = devices.into_iter().filter_map(|placed| match placed.content {
            Content::Bcachefs(member) => Some(BcachefsDevice {
                device: placed.device.clone(),
                label: member.label.clone(),
                arguments: member.arguments.clone(),
            }),
            _ => None,
        });
        let secret = filesystem.password_file.as_ref().map(|path| SecretRef::PasswordFile { path: path.clone() });
        let uuid = &filesystem.uuid;
        steps.push(Step::MakeBcachefs {
            uuid: uuid.clone(),
            devices: devices.collect(),
            secret: secret.clone(),
            arguments: filesystem.arguments.clone(),
        });
        steps.push(waited_for(&format!("/dev/disk/by-uuid/{uuid}")));
        steps.extend(secret.map(|secret| Step::UnlockBcachefs { uuid: uuid.clone(), secret }));
        let subvolumes = filesystem.subvolumes.values();
        steps.extend(
            subvolumes
                .map(|subvolume| Step::CreateBcachefsSubvolume { uuid: uuid.clone(), name: subvolume.name.clone() }),
        );
        steps.extend(hook(&owner, hooks, HookTime::PostCreate, Stage::Format));
        steps
    }

    fn member_paths(&self, top: Top<'_>) -> Vec<String> {
        self.devices.members_of(top).into_iter().map(|placed| placed.device).collect()
    }
}

fn make_btrfs(device: &str, btrfs: &Btrfs) -> Vec<Step> {
    let device = device.to_owned();
    let mut steps = vec![Step::MakeBtrfs { device: device.clone(), arguments: btrfs.arguments.clone() }];
    if !btrfs.swap_files.is_empty() {
        steps.push(Step::CreateSwapFiles { device: device.clone(), files: swap_files(&btrfs.swap_files) });
    }
    steps.extend(btrfs.subvolumes.iter().map(|subvolume| Step::CreateSubvolume {
        device: device.clone(),
        name: subvolume.name.clone(),
        arguments: subvolume.arguments.clone(),
        swap_files: swap_files(&subvolume.swap_files),
    }));
    steps
}
