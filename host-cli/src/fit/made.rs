//! What a plan makes, by every name the installed system can find it under.

use cygnet_protocol::disko::numbered;
use cygnet_protocol::plan::{Mode, PartitionFacts, Plan, Step, TARGET};
use std::collections::{BTreeMap, BTreeSet};

/// Something that can be mounted or swapped on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// Its names, as [`canonical`] writes them.
    pub names: BTreeSet<String>,
    /// What is on it; `None` if the plan puts nothing there.
    pub fstype: Option<String>,
    /// Paths of btrfs subvolumes, without a slash in front.
    pub subvolumes: BTreeSet<String>,
}

/// What is mounted where during the installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Device or dataset.
    pub source: String,
    /// Type.
    pub fstype: String,
    /// Options.
    pub options: Vec<String>,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// Devices.
    pub volumes: Vec<Volume>,
    /// Datasets that can be mounted, the pools' own among them.
    pub datasets: BTreeSet<String>,
    /// By path in the installed system.
    pub mounts: BTreeMap<String, Mount>,
    /// The user's own scripts, which may make anything.
    pub scripts: Vec<String>,
    /// Whether there is a pool.
    pub pools: bool,
}

/// One spelling for the names of a device that mean the same: udev's links, the tags of fstab(5), LVM's two paths.
pub fn canonical(name: &str) -> String {
    let tags = [
        ("PARTLABEL=", "/dev/disk/by-partlabel/"),
        ("PARTUUID=", "/dev/disk/by-partuuid/"),
        ("LABEL=", "/dev/disk/by-label/"),
        ("UUID=", "/dev/disk/by-uuid/"),
    ];
    for (tag, directory) in tags {
        let value = name.strip_prefix(tag).map(str::to_owned);
        if let Some(value) = value.or_else(|| name.strip_prefix(directory).map(decoded)) {
            let value = value.trim_matches('"');
            let value = if tag.contains("UUID") { value.to_ascii_lowercase() } else { value.to_owned() };
            return format!("{tag}{value}");
        }
    }
    if let Some(array) = name.strip_prefix("/dev/disk/by-id/md-name-") {
        let array = array.split_once(':').map_or(array, |(_, name)| name);
        return format!("/dev/md/{array}");
    }
    let parts: Vec<&str> = name.strip_prefix("/dev/").map(|rest| rest.split('/').collect()).unwrap_or_default();
    match parts.as_slice() {
        [group, volume] if !["mapper", "md", "disk", "zvol"].contains(group) => {
            format!("/dev/mapper/{}-{}", group.replace('-', "--"), volume.replace('-', "--"))
        }
        _ => name.to_owned(),
    }
}

/// The text that udev wrote as the name of a link: `\xhh` for each byte that it does not like.
pub fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = match rest {
            [b'\\', b'x', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => Some([*a, *b]),
            _ => None,
        };
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { rest.get(4..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The names that the arguments of a mkfs give: its label, and its UUID if that is fixed.
fn given(format: &str, arguments: &[String]) -> Vec<String> {
    let (label, uuid): (&[&str], &[&str]) = match format {
        "vfat" | "fat" | "msdos" => (&["-n"], &["-i"]),
        "f2fs" => (&["-l"], &["-U"]),
        "exfat" => (&["-L", "-n"], &["-U"]),
        "xfs" => (&["-L"], &[]),
        _ => (&["-L", "--label"], &["-U", "--uuid"]),
    };
    let value = |flags: &[&str]| {
        arguments.iter().enumerate().find_map(|(at, argument)| {
            let flag = flags.iter().find(|flag| argument.starts_with(**flag))?;
            let rest = argument.strip_prefix(flag)?;
            let rest =
                if flag.starts_with("--") { rest.strip_prefix('=').or(rest.is_empty().then_some(""))? } else { rest };
            if rest.is_empty() { arguments.get(at + 1).cloned() } else { Some(rest.to_owned()) }
        })
    };
    let mut names: Vec<String> = value(label).map(|label| format!("LABEL={label}")).into_iter().collect();
    let uuid = match format {
        "xfs" => arguments.iter().find_map(|argument| Some(argument.split_once("uuid=")?.1.to_owned())),
        // mkfs.fat wants eight hex digits; blkid(8) shows them in two halves.
        "vfat" | "fat" | "msdos" => value(uuid).and_then(|id| {
            let id = id.replace('-', "");
            Some(format!("{}-{}", id.get(..4)?, id.get(4..)?))
        }),
        _ => value(uuid),
    };
    names.extend(uuid.map(|uuid| format!("UUID={}", uuid.to_ascii_lowercase())));
    names
}

impl Made {
    /// From the plan's steps.
    pub fn of(plan: &Plan) -> Self {
        let mut made = Self::default();
        if plan.mode.keeps() {
            plan.disks.iter().flat_map(|disk| &disk.facts.fingerprint.partitions).for_each(|there| made.kept(there));
        }
        for step in plan.steps.iter().map(Step::made) {
            made.step(plan, step);
        }
        made
    }

    fn step(&mut self, plan: &Plan, step: &Step) {
        match step {
            Step::CreatePartition { device, number, label, uuid, .. } => {
                let volume = self.partition(plan, device, *number);
                volume.names.insert(format!("PARTLABEL={label}"));
                volume.names.extend(uuid.iter().map(|uuid| format!("PARTUUID={}", uuid.to_ascii_lowercase())));
            }
            Step::CreateTablePartition { device, number, name, .. } => {
                let label = format!("PARTLABEL={}", decoded(name));
                self.partition(plan, device, *number).names.insert(label);
            }
            Step::MakeFilesystem { device, format, arguments } => self.filled(plan, device, format, arguments),
            Step::MakeSwap { device, arguments } => self.filled(plan, device, "swap", arguments),
            Step::MakeBtrfs { device, arguments } => self.filled(plan, device, "btrfs", arguments),
            Step::CreateSubvolume { device, name, .. } => {
                let name = name.trim_matches('/').to_owned();
                self.volume(plan, device).subvolumes.insert(name);
            }
            Step::MakeBcachefs { uuid, devices: _, .. } => {
                let volume = self.volume(plan, &format!("/dev/disk/by-uuid/{uuid}"));
                volume.fstype = Some("bcachefs".to_owned());
            }
            Step::CreatePool { pool, .. } | Step::ImportPool { pool, .. } => {
                self.pools = true;
                self.datasets.insert(pool.clone());
            }
            Step::CreateDataset { dataset, .. } => {
                self.datasets.insert(dataset.clone());
            }
            Step::Hook { script, .. } => self.scripts.push(script.clone()),
            Step::Mount { source, target, fstype, options } => {
                let at = target.strip_prefix(TARGET).unwrap_or(target);
                let at = if at.is_empty() { "/" } else { at };
                if plan.mode == Mode::Mount {
                    self.opened(plan, source, fstype, options);
                }
                let (source, fstype, options) = (source.clone(), fstype.clone(), options.clone());
                self.mounts.insert(at.to_owned(), Mount { source, fstype, options });
            }
            _ => {}
        }
    }

    /// A partition that is there already, under all its names.
    fn kept(&mut self, there: &PartitionFacts) {
        let named = |key: &str, value: &Option<String>| value.as_ref().map(|value| format!("{key}={value}"));
        let PartitionFacts { path, part_uuid, part_label, fstype, uuid, label, .. } = there;
        let keys = [("PARTUUID", part_uuid), ("PARTLABEL", part_label), ("UUID", uuid), ("LABEL", label)];
        let names = keys.iter().filter_map(|(key, value)| named(key, value)).chain([path.clone()]);
        let names = names.map(|name| canonical(&name)).collect();
        self.volumes.push(Volume { names, fstype: fstype.clone(), ..Volume::default() });
    }

    /// What a plan mounts that makes nothing is there, or will be missed at once.
    fn opened(&mut self, plan: &Plan, source: &str, fstype: &str, options: &[String]) {
        if fstype == "zfs" {
            self.datasets.insert(source.to_owned());
            return;
        }
        let subvolumes = options.iter().filter_map(|option| option.strip_prefix("subvol="));
        let subvolumes: Vec<String> = subvolumes.map(|name| name.trim_matches('/').to_owned()).collect();
        let volume = self.volume(plan, source);
        volume.fstype = Some(fstype.to_owned());
        volume.subvolumes.extend(subvolumes);
    }

    fn filled(&mut self, plan: &Plan, device: &str, format: &str, arguments: &[String]) {
        let volume = self.volume(plan, device);
        volume.fstype = Some(format.to_owned());
        volume.names.extend(given(format, arguments));
    }

    /// A partition, by its number on the disk under each of the disk's names.
    fn partition(&mut self, plan: &Plan, device: &str, number: u32) -> &mut Volume {
        let disk = plan.disks.iter().find(|disk| disk.device == device);
        let others = disk.into_iter().flat_map(|disk| disk.facts.links.iter().chain([&disk.facts.kernel_path]));
        let names: BTreeSet<String> = others
            .map(String::as_str)
            .chain([device])
            .filter_map(|name| numbered(name, number))
            .map(|name| canonical(&name))
            .collect();
        self.volumes.push(Volume { names, ..Volume::default() });
        let last = self.volumes.len() - 1;
        &mut self.volumes[last]
    }

    /// The volume of this name; a new one if there is none yet.
    fn volume(&mut self, plan: &Plan, device: &str) -> &mut Volume {
        let name = canonical(device);
        let found = self.volumes.iter().position(|volume| volume.names.contains(&name));
        let at = found.unwrap_or_else(|| {
            let disk = plan.disks.iter().find(|disk| disk.device == device);
            let others = disk.into_iter().flat_map(|disk| disk.facts.links.iter().chain([&disk.facts.kernel_path]));
            let names = others.map(|name| canonical(name)).chain([name]).collect();
            self.volumes.push(Volume { names, ..Volume::default() });
            self.volumes.len() - 1
        });
        &mut self.volumes[at]
    }

    /// The volume that the installed system finds under this name.
    pub fn find(&self, name: &str) -> Option<&Volume> {
        let name = canonical(name);
        self.volumes.iter().find(|volume| volume.names.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_the_same_are_the_same() {
        for (one, other) in [
            ("PARTLABEL=disk-main-ESP", "/dev/disk/by-partlabel/disk-main-ESP"),
            ("LABEL=with blank", r"/dev/disk/by-label/with\x20blank"),
            (r"/dev/disk/by-partlabel/a\x5Eb", r"/dev/disk/by-partlabel/a\x5eb"),
            ("UUID=ABCD-1234", "/dev/disk/by-uuid/abcd-1234"),
            ("/dev/pool/my-root", "/dev/mapper/pool-my--root"),
            ("/dev/md/boot", "/dev/disk/by-id/md-name-any:boot"),
        ] {
            assert_eq!(canonical(one), canonical(other), "{one}");
        }
        assert_eq!(canonical("/dev/sda1"), "/dev/sda1");
        assert_eq!(canonical("/dev/zvol/tank/swap"), "/dev/zvol/tank/swap");
    }

    #[test]
    fn a_mkfs_gives_label_and_uuid() {
        let given = |format: &str, line: &str| {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            super::given(format, &arguments).join(" ")
        };
        assert_eq!(given("vfat", "-F 32 -n BOOT -i abcd1234"), "LABEL=BOOT UUID=abcd-1234");
        assert_eq!(given("vfat", "-nBOOT"), "LABEL=BOOT");
        assert_eq!(given("ext4", "-L root -U 0F5C"), "LABEL=root UUID=0f5c");
        assert_eq!(given("xfs", "-L x -m uuid=77"), "LABEL=x UUID=77");
        assert_eq!(given("btrfs", "--label=data --uuid 5"), "LABEL=data UUID=5");
        assert_eq!(given("swap", "-L"), "");
        assert_eq!(given("ext4", "-m 1"), "");
    }
}
