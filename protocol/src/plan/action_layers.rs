//! What a step runs, continued: parted, hybrid MBRs, and the layers between disks and filesystems.

use super::action::{Action, Input, announce, asking, reread, run, tolerated};
use super::parts::SwapFile;
use super::secret::Key;
use super::step::Step;

fn settle() -> [Action; 2] {
    [run(["udevadm", "trigger", "--subsystem-match=block"]), run(["udevadm", "settle", "--timeout", "120"])]
}

/// Standard input is the key file, so that no secret is ever in an argv or a file.
fn key_arguments(key: &Key) -> Vec<String> {
    let (path, size, offset) = match key {
        Key::File { path, size, offset } => (path.as_str(), size, offset),
        Key::Secret { size, offset, .. } => ("-", size, offset),
    };
    let mut argv = vec!["--key-file".to_owned(), path.to_owned()];
    argv.extend(size.iter().flat_map(|size| ["--keyfile-size".to_owned(), size.to_string()]));
    argv.extend(offset.iter().flat_map(|offset| ["--keyfile-offset".to_owned(), offset.to_string()]));
    argv
}

fn opening(action: Action, key: &Key) -> Action {
    match key {
        Key::File { .. } => action,
        Key::Secret { secret, .. } => asking(action, Some(secret)),
    }
}

/// Does something at the top of a filesystem, mounted for as long as it takes.
fn at_the_top(mount: Action, inside: Vec<Action>) -> Vec<Action> {
    let mut actions = vec![run(["mkdir", "-p", super::WORKPLACE]), mount];
    actions.extend(inside);
    actions.push(run(["umount", super::WORKPLACE]));
    actions
}

/// Mounts the top of a btrfs.
pub(super) fn top_of(device: &str) -> Action {
    run(["mount", device, super::WORKPLACE, "-o", "subvol=/"])
}

pub(super) fn on_btrfs(device: &str, inside: Vec<Action>) -> Vec<Action> {
    at_the_top(top_of(device), inside)
}

/// Makes the directories that lead to `path`, if there are any.
fn parent(path: &str) -> Option<Action> {
    let (directory, _) = path.rsplit_once('/')?;
    (directory.trim_end_matches('/') != super::WORKPLACE).then(|| run(["mkdir", "-p", directory]))
}

fn swap_files(top: &str, files: &[SwapFile]) -> Vec<Action> {
    let make = |file: &SwapFile| {
        let path = format!("{top}/{}", file.path);
        let directories = file.path.contains('/').then(|| parent(&path)).flatten();
        let argv = ["btrfs", "filesystem", "mkswapfile", "--size", &file.size, &path].map(str::to_owned);
        directories.into_iter().chain([run(argv)])
    };
    files.iter().flat_map(make).collect()
}

impl Step {
    /// What the steps that [`Step::actions`] does not know itself run.
    pub(super) fn layer_actions(&self) -> Vec<Action> {
        match self {
            Self::MarkBootable { device, marks, .. } => {
                let bits = marks.iter().flat_map(|mark| mark.attributes.iter().map(|bit| (mark.number, *bit)));
                let mut sgdisk: Vec<String> = bits.map(|(n, bit)| format!("--attributes={n}:set:{bit}")).collect();
                let mut actions = Vec::new();
                if !sgdisk.is_empty() {
                    sgdisk.insert(0, "sgdisk".to_owned());
                    sgdisk.push(device.clone());
                    actions.push(run(sgdisk));
                }
                let flags = marks.iter().flat_map(|mark| mark.flags.iter().map(|flag| (mark.number.to_string(), flag)));
                actions.extend(flags.map(|(n, flag)| run(["parted", "-s", device, "--", "set", &n, flag, "on"])));
                actions.extend(reread(device));
                actions
            }
            Self::MakeHybridMbr { device, entries, protective_first, .. } => {
                let mut numbers: Vec<String> = entries.iter().map(|entry| entry.number.to_string()).collect();
                if !protective_first {
                    numbers.push("EE".to_owned());
                }
                let nested = ["sfdisk", "--label-nested", "dos"];
                let mut actions = vec![run(["sgdisk", "-h", &numbers.join(":"), device])];
                for entry in entries {
                    let number = entry.mbr_number.to_string();
                    let kind = entry.mbr_type.iter();
                    actions
                        .extend(kind.map(|kind| run(nested.into_iter().chain(["--part-type", device, &number, kind]))));
                }
                // Last, when the table is complete.
                for entry in entries.iter().filter(|entry| entry.bootable) {
                    let number = entry.mbr_number.to_string();
                    actions.push(run(nested.into_iter().chain(["--activate", device, &number])));
                }
                actions.extend(announce(device));
                actions
            }
            Self::CreateTable { device, format, .. } => vec![run(["parted", "-s", device, "--", "mklabel", format])],
            Self::CreateTablePartition { device, number, name, fs_type, start, end, flags, .. } => {
                let mut argv = ["parted", "-s", device, "--", "mkpart", name].map(str::to_owned).to_vec();
                argv.extend(fs_type.clone());
                argv.extend([start.clone(), end.clone()]);
                let mut actions = vec![run(argv)];
                actions.extend(reread(device));
                let number = number.to_string();
                let set = |flag: &String| run(["parted", "-s", device, "--", "set", &number, flag, "on"]);
                actions.extend(flags.iter().map(set));
                if !flags.is_empty() {
                    actions.extend(announce(device));
                }
                actions
            }
            Self::FormatLuks { device, key, arguments } => {
                let mut argv = ["cryptsetup", "-q", "luksFormat", device].map(str::to_owned).to_vec();
                argv.extend_from_slice(arguments);
                argv.extend(key_arguments(key));
                vec![opening(run(argv), key)]
            }
            Self::OpenLuks { device, name, key, allow_discards, bypass_workqueues, arguments, persistent } => {
                let mut argv = ["cryptsetup", "open", device, name].map(str::to_owned).to_vec();
                if *allow_discards {
                    argv.push("--allow-discards".to_owned());
                }
                if *bypass_workqueues {
                    argv.extend(["--perf-no_read_workqueue", "--perf-no_write_workqueue"].map(str::to_owned));
                }
                argv.extend_from_slice(arguments);
                argv.extend(key_arguments(key));
                if *persistent {
                    argv.push("--persistent".to_owned());
                }
                vec![opening(run(argv), key)]
            }
            Self::AddLuksKey { device, path, key } => {
                let mut argv = ["cryptsetup", "luksAddKey", device, path].map(str::to_owned).to_vec();
                argv.extend(key_arguments(key));
                vec![opening(run(argv), key)]
            }
            Self::CreateArray { name, level, metadata, members, arguments } => {
                let device = format!("/dev/md/{name}");
                let mut argv = ["mdadm", "--create", &device].map(str::to_owned).to_vec();
                argv.push(format!("--level={level}"));
                argv.push(format!("--raid-devices={}", members.len()));
                argv.push(format!("--metadata={metadata}"));
                argv.extend(["--force", "--homehost=any"].map(str::to_owned));
                argv.extend_from_slice(arguments);
                argv.extend_from_slice(members);
                // It asks whether metadata at the start is meant, and whether members that were something else are.
                let create = Action::RunWithInput { argv, input: Input::Text { text: "y\n".to_owned() } };
                let mut actions = vec![create];
                actions.extend(reread(&device));
                actions.push(run(["sgdisk", "--zap-all", &device]));
                actions
            }
            Self::CreatePhysicalVolume { device } => vec![run(["pvcreate", device])],
            Self::CreateVolumeGroup { group, members, modules } => {
                // A kernel that has them built in may know no modules; lvcreate says so if one is missing.
                let modules = modules.iter().map(|module| tolerated(run(["modprobe", module])));
                let create = ["vgcreate", group].into_iter().chain(members.iter().map(String::as_str));
                modules.chain([run(create)]).collect()
            }
            Self::CreateLogicalVolume { group, name, size, kind, thin_pool, arguments } => {
                let thin = kind.as_deref() == Some("thinlv");
                let flag = match (thin, size.contains('%')) {
                    (true, _) => "-V",
                    (false, true) => "-l",
                    (false, false) => "-L",
                };
                let size = if size.ends_with('%') { format!("{size}FREE") } else { size.clone() };
                let mut argv = ["lvcreate", "--yes", flag, &size, "-n", name].map(str::to_owned).to_vec();
                match (thin, thin_pool, kind) {
                    (true, Some(pool), _) => argv.push(format!("--thinpool={pool}")),
                    (false, _, Some(kind)) => argv.push(format!("--type={kind}")),
                    (true, None, _) | (false, _, None) => {}
                }
                argv.extend_from_slice(arguments);
                argv.push(group.clone());
                vec![run(argv)]
            }
            Self::MakeBtrfs { device, arguments } => {
                let argv = ["mkfs.btrfs", device].into_iter().chain(arguments.iter().map(String::as_str));
                vec![run(argv)]
            }
            Self::CreateSubvolume { device, name, arguments, swap_files: files } => {
                let path = format!("{}/{name}", super::WORKPLACE);
                let create = ["btrfs", "subvolume", "create", &path].map(str::to_owned);
                let mut inside: Vec<Action> = parent(&path).into_iter().collect();
                inside.push(run(create.into_iter().chain(arguments.iter().cloned())));
                inside.extend(swap_files(&path, files));
                on_btrfs(device, inside)
            }
            Self::CreateSwapFiles { device, files } => on_btrfs(device, swap_files(super::WORKPLACE, files)),
            Self::MakeBcachefs { uuid, devices, secret, arguments } => {
                let mut argv = ["bcachefs", "format"].map(str::to_owned).to_vec();
                for member in devices {
                    argv.push(format!("--label={}", member.label));
                    argv.extend_from_slice(&member.arguments);
                    argv.push(member.device.clone());
                }
                argv.push(format!("--uuid={uuid}"));
                argv.extend_from_slice(arguments);
                if secret.is_some() {
                    argv.push("--encrypted".to_owned());
                }
                let mut actions = vec![asking(run(argv), secret.as_ref())];
                actions.extend(settle());
                actions
            }
            Self::UnlockBcachefs { uuid, secret } => {
                let device = format!("/dev/disk/by-uuid/{uuid}");
                vec![asking(run(["bcachefs", "unlock", "-k", "session", &device]), Some(secret))]
            }
            Self::CreateBcachefsSubvolume { uuid, name } => {
                let device = format!("/dev/disk/by-uuid/{uuid}");
                let path = format!("{}/{name}", super::WORKPLACE);
                let mount = run(["mount", "-t", "bcachefs", "-o", "X-mount.mkdir", &device, super::WORKPLACE]);
                let create = run(["bcachefs", "subvolume", "create", &path]);
                at_the_top(mount, parent(&path).into_iter().chain([create]).collect())
            }
            Self::AssembleArray { name, members } => {
                let device = format!("/dev/md/{name}");
                let argv = ["mdadm", "--assemble", &device].into_iter().chain(members.iter().map(String::as_str));
                vec![tolerated(run(argv)), Action::WaitForDevice { path: device.clone(), within: None }]
            }
            Self::ReadTable { device } => reread(device).into(),
            Self::ActivateVolumeGroup { group } => vec![run(["vgchange", "-a", "y", group])],
            Self::StopArray { name } => vec![run(["mdadm".to_owned(), "--stop".to_owned(), format!("/dev/md/{name}")])],
            Self::DeactivateVolumeGroup { group } => vec![run(["vgchange", "-a", "n", group])],
            Self::CloseLuks { name } => vec![run(["cryptsetup", "close", name])],
            Self::RemovePartitions { partitions } => {
                partitions.iter().map(|partition| tolerated(run(["dmsetup", "remove", "--retry", partition]))).collect()
            }
            // What Step::actions answers itself.
            Self::Deactivate { .. }
            | Self::ClearPoolLabel { .. }
            | Self::ClearArrayMember { .. }
            | Self::RemovePhysicalVolume { .. }
            | Self::EraseLabels { .. }
            | Self::ProveBlank { .. }
            | Self::WipeSignatures { .. }
            | Self::ZapTable { .. }
            | Self::ClearTable { .. }
            | Self::CreatePartition { .. }
            | Self::WaitForDevice { .. }
            | Self::MakeFilesystem { .. }
            | Self::MakeSwap { .. }
            | Self::CreatePool { .. }
            | Self::SetProperties { .. }
            | Self::CreateDataset { .. }
            | Self::CreateVolume { .. }
            | Self::Hook { .. }
            | Self::Mount { .. }
            | Self::SwapOn { .. }
            | Self::ImportPool { .. }
            | Self::LoadKey { .. }
            | Self::Unmount { .. }
            | Self::SwapOff { .. }
            | Self::ClearAway { .. }
            | Self::Ensure { .. }
            | Self::ExportPool { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Stage;

    #[test]
    fn only_the_disk_that_changed_is_looked_at_anew() {
        let device = "/dev/disk/by-id/usb-x".to_owned();
        let stage = Stage::Partition;
        let flags = vec!["boot".to_owned()];
        let (name, end) = ("primary".to_owned(), "100%".to_owned());
        let steps = [
            Step::ZapTable { device: device.clone() },
            Step::MakeHybridMbr { device: device.clone(), entries: Vec::new(), protective_first: true, stage },
            Step::CreateTablePartition {
                device,
                number: 1,
                name,
                fs_type: None,
                start: "1M".into(),
                end,
                flags,
                stage,
            },
        ];
        for step in steps {
            let triggers: Vec<Vec<String>> =
                step.actions().iter().map(Action::argv).filter(|argv| argv.contains(&"trigger".to_owned())).collect();
            assert!(!triggers.is_empty());
            for argv in triggers {
                assert!(argv.contains(&"--name-match=/dev/disk/by-id/usb-x".to_owned()), "{argv:?}");
            }
        }
    }
}
