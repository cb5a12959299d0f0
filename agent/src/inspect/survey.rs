//! What is on the disks in more words than a digest covers: members, hosts, bytes in use, health.
//!
//! [`Survey::make`] asks the tools, [`Survey::layer`] makes of the answers what people read; the rest is in between.

use super::labels::{self, Label};
use super::layers::{Lvm, PVS, Raid, VGS};
use super::lsblk::Device;
use super::{health, usage};
use crate::run::{capture, capture_within, is_there, whatever_it_says};
use cygnet_protocol::disks::{Content, Health, Layer};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

/// How long a tool may take to read a disk; one that fails would keep it for minutes.
const PATIENCE: Duration = Duration::from_secs(20);

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only what merely reads a few sectors: an installation is running.
    Quiet,
    /// All.
    Full,
}

/// The answers.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// ZFS labels by device.
    labels: BTreeMap<String, Label>,
    /// Arrays by member.
    raids: BTreeMap<String, Raid>,
    lvm: Lvm,
    /// Bytes in use, and of how many, by device.
    usage: BTreeMap<String, usage::Usage>,
    /// Datasets and their bytes by the pool's GUID.
    pools: BTreeMap<String, (u64, u64)>,
    /// Imported pools by member.
    imported: BTreeMap<String, String>,
    /// Devices of a filesystem or array with this UUID.
    sharing: BTreeMap<String, Vec<String>>,
}

/// All devices, those on others included, each once.
fn all(devices: &[Device]) -> BTreeMap<&str, &Device> {
    let mut found = BTreeMap::new();
    let mut stack: Vec<&Device> = devices.iter().collect();
    while let Some(device) = stack.pop() {
        found.insert(device.path.as_str(), device);
        stack.extend(&device.children);
    }
    found
}

/// Runs a tool that reads a disk, for as long as patience lasts; whatever it ends with, what it printed counts.
fn ask(argv: &[&str], device: &str) -> Option<String> {
    whatever_it_says(PATIENCE, &[argv, &[device]].concat())
}

impl Survey {
    /// Asks the tools. Nothing is written, imported, assembled or mounted, and no device is opened exclusively.
    ///
    /// `imported` has the pool of each member that is in use, by any of its names, `links` what these lead to.
    pub fn make(
        devices: &[Device],
        imported: &BTreeMap<String, String>,
        links: &[(String, String)],
        depth: Depth,
    ) -> Self {
        let mut survey = Self::default();
        for (name, pool) in imported {
            let node = links.iter().find(|(link, _)| link == name).map_or(name, |(_, node)| node);
            survey.imported.insert(node.clone(), pool.clone());
        }
        let all = all(devices);
        for (path, device) in &all {
            survey.ask_about(path, device);
        }
        if all.values().any(|device| device.fstype.as_deref() == Some("LVM2_member")) {
            let told = |argv: &[&str]| capture(argv).unwrap_or_default();
            survey.lvm = Lvm::parse(&told(&PVS), &told(&VGS));
        }
        if depth == Depth::Full {
            survey.count_datasets();
        }
        survey
    }

    fn ask_about(&mut self, path: &str, device: &Device) {
        let Some(fstype) = device.fstype.as_deref() else {
            // Of a disk that was taken out of a pool carelessly, blkid says nothing: its labels contradict something else.
            if matches!(device.kind.as_str(), "disk" | "part") {
                self.read_label(path);
            }
            return;
        };
        match fstype {
            "zfs_member" => self.read_label(path),
            "linux_raid_member" => {
                let raid = ask(&["mdadm", "--examine", "--export"], path).and_then(|text| Raid::parse(&text));
                self.raids.extend(raid.map(|raid| (path.to_owned(), raid)));
            }
            _ => {
                let told = usage::question(fstype).and_then(|argv| ask(argv, path));
                let usage = told.and_then(|text| usage::answer(fstype, &text));
                self.usage.extend(usage.map(|usage| (path.to_owned(), usage)));
            }
        }
        if let (Some(uuid), "btrfs" | "linux_raid_member" | "bcachefs") = (&device.uuid, fstype) {
            self.sharing.entry(uuid.clone()).or_default().push(path.to_owned());
        }
    }

    fn read_label(&mut self, path: &str) {
        if !may_have_label(path) {
            return;
        }
        // It fails where it cannot read every label, and prints the others.
        let label = ask(&["zdb", "-l"], path).and_then(|text| Label::parse(&text));
        self.labels.extend(label.map(|label| (path.to_owned(), label)));
    }

    /// In a process of its own, and the first to go should memory become short.
    fn count_datasets(&mut self) {
        let idle = self.labels.iter().filter(|(path, label)| label.state < 2 && !self.imported.contains_key(*path));
        let guids: BTreeSet<String> = idle.map(|(_, label)| label.pool_guid.clone()).collect();
        let mut polite = Vec::new();
        if is_there("choom") {
            polite.extend(["choom", "--adjust", "1000", "--"]);
        }
        polite.extend(["zdb", "-e", "-p", "/dev", "-d"]);
        for guid in guids {
            let told = capture_within(PATIENCE, &[&polite[..], &[&guid]].concat());
            let datasets = told.ok().and_then(|text| labels::datasets(&text));
            self.pools.extend(datasets.map(|datasets| (guid, datasets)));
        }
    }

    /// What is on a device and above it.
    pub fn layer(&self, device: &Device) -> Layer {
        Layer {
            path: device.path.clone(),
            kind: device.kind.clone(),
            size_bytes: device.size,
            name: device.partlabel.as_deref().map(printable).filter(|name| !name.is_empty()),
            contents: self.contents(device),
            mounts: device.mountpoints.iter().flatten().map(|at| printable(at)).collect(),
            children: device.children.iter().map(|child| self.layer(child)).collect(),
        }
    }

    fn contents(&self, device: &Device) -> Vec<Content> {
        let path = device.path.as_str();
        let mut contents = Vec::new();
        let is_table = device.kind != "part";
        if let Some(table) = device.pttype.as_ref().filter(|_| is_table) {
            let partitions = device.children.iter().filter(|child| child.kind == "part").count() as u64;
            contents.push(Content::Table { format: printable(table), partitions });
        }
        let label = device.label.as_deref().map(printable).filter(|label| !label.is_empty());
        let others = || {
            let sharing = device.uuid.as_ref().and_then(|uuid| self.sharing.get(uuid));
            sharing.into_iter().flatten().filter(|other| *other != path).cloned().collect::<Vec<_>>()
        };
        match device.fstype.as_deref() {
            Some("zfs_member") if !self.labels.contains_key(path) => contents.push(Content::Pool {
                name: label.unwrap_or_else(|| "without a name".to_owned()),
                guid: device.uuid.clone(),
                state: "unknown".to_owned(),
                host: None,
                others: Vec::new(),
                datasets: None,
                used_bytes: None,
            }),
            Some("zfs_member") | None => {}
            Some("swap") => contents.push(Content::Swap { label }),
            Some("crypto_LUKS") => {
                contents.push(Content::Luks { version: device.fsver.as_deref().map(printable), label });
            }
            Some("bcache") => contents.push(Content::Bcache),
            Some("linux_raid_member") => {
                let raid = self.raids.get(path).cloned().unwrap_or_default();
                contents.push(Content::Raid {
                    name: raid.name.as_deref().map(printable).or(label).unwrap_or_else(|| "without a name".to_owned()),
                    level: raid.level,
                    devices: raid.devices,
                    others: others(),
                });
            }
            Some("LVM2_member") => {
                let own = device.uuid.as_deref().and_then(|uuid| self.lvm.of(uuid));
                contents.push(match own {
                    Some(own) => Content::Lvm { group: own.group, volumes: own.volumes, others: own.others },
                    None => Content::Other { format: "LVM physical volume".to_owned(), label },
                });
            }
            Some(format) => {
                let usage = self.usage.get(path);
                contents.push(Content::Filesystem {
                    format: printable(format),
                    label,
                    used_bytes: usage.map(|(used, _)| *used),
                    total_bytes: usage.map(|(_, total)| *total),
                    others: others(),
                });
            }
        }
        contents.extend(self.labels.get(path).map(|label| self.pool(path, label)));
        contents
    }

    fn pool(&self, path: &str, label: &Label) -> Content {
        let size = self.pools.get(&label.pool_guid);
        let state = if self.imported.contains_key(path) { "imported" } else { label.state() };
        Content::Pool {
            name: printable(&label.pool),
            guid: Some(label.pool_guid.clone()),
            state: state.to_owned(),
            host: label.host.as_deref().map(printable),
            others: label.others(&self.labels).iter().map(|other| printable(other)).collect(),
            datasets: size.map(|(datasets, _)| *datasets),
            used_bytes: size.map(|(_, used)| *used),
        }
    }
}

/// Whether there is something where ZFS has its labels, or nobody knows. zdb takes long to say that there is none, and most
/// disks and partitions have none.
fn may_have_label(path: &str) -> bool {
    let look = || -> io::Result<bool> {
        let mut file = File::open(path)?;
        let size = file.seek(SeekFrom::End(0))?;
        let mut start = [0; 8];
        for place in labels::places(size) {
            file.read_exact_at(&mut start, place)?;
            if start != [0; 8] {
                return Ok(true);
            }
        }
        Ok(false)
    };
    look().unwrap_or(true)
}

/// Asks a disk for its health.
pub fn health(disk: &str, depth: Depth) -> Health {
    if depth == Depth::Quiet {
        // Some USB adapters reset themselves when they are asked.
        return health::unknown("not asked while an installation is running");
    }
    if !is_there(health::COMMAND[0]) {
        return health::unknown("the image on the card has no smartctl");
    }
    match ask(&health::COMMAND, disk) {
        Some(text) => health::parse(&text),
        None => health::unknown("the disk did not answer"),
    }
}

fn printable(text: &str) -> String {
    crate::run::printable(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::lsblk;
    use super::*;

    fn words(lsblk: &str, survey: &Survey) -> Vec<String> {
        lsblk::parse(lsblk).unwrap().iter().flat_map(|device| survey.layer(device).words()).collect()
    }

    #[test]
    fn a_pool_is_told_by_its_labels() {
        let label = Label::parse(include_str!("recorded/zdb-label.txt")).unwrap();
        let other = Label { guid: "13945007935364557054".into(), ..label.clone() };
        let survey = Survey {
            pools: BTreeMap::from([(label.pool_guid.clone(), (3, 41 << 30))]),
            labels: BTreeMap::from([("/dev/vdb1".into(), label), ("/dev/vdc1".into(), other)]),
            ..Survey::default()
        };
        let words = words(include_str!("recorded/lsblk-pool.json"), &survey);
        let wanted =
            "member of the ZFS pool tank, last used by host pi, 3 datasets, 41 GiB in use (other member: /dev/vdc1)";
        assert!(words.iter().any(|line| line.starts_with("/dev/vdb1") && line.ends_with(wanted)), "{words:#?}");
        assert!(words.contains(&"/dev/vdb: GPT partition table with 2 partitions".to_owned()), "{words:#?}");
    }

    #[test]
    fn only_what_may_have_a_label_is_asked_for_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_string_lossy().into_owned();
        file.as_file().set_len((8 << 20) + 4096).unwrap();
        file.as_file().write_all_at(b"a boot sector", 0).unwrap();
        assert!(!may_have_label(&path));
        // The last of the four, packed as XDR.
        let last = labels::places((8 << 20) + 4096)[3];
        file.as_file().write_all_at(&[1, 1, 0, 0], last).unwrap();
        assert!(may_have_label(&path) && may_have_label("/nowhere"));
    }

    #[test]
    fn arrays_are_told_with_their_other_members() {
        let mut survey = Survey::default();
        let raid = Raid::parse(include_str!("recorded/mdadm-examine.txt")).unwrap();
        for path in ["/dev/vdd2", "/dev/vde1"] {
            survey.raids.insert(path.into(), raid.clone());
            survey.sharing.entry("1003998b-9dd9-88c4-eef9-df81d6d43419".into()).or_default().push(path.into());
        }
        let words = words(include_str!("recorded/lsblk-raid.json"), &survey);
        let wanted = "/dev/vdd2: member of RAID nas:y, raid1 of 2 (other member: /dev/vde1)";
        assert!(words.contains(&wanted.to_owned()), "{words:#?}");
        // The array that could not be asked about is still called by what blkid knows.
        assert!(words.contains(&"/dev/vdd1: member of RAID nas:x".to_owned()), "{words:#?}");
    }

    #[test]
    fn what_is_in_an_open_luks_volume_is_told_too() {
        let usage = usage::answer("ext4", include_str!("recorded/dumpe2fs.txt")).unwrap();
        let survey = Survey {
            lvm: Lvm::parse(include_str!("recorded/pvs.json"), include_str!("recorded/vgs.json")),
            usage: BTreeMap::from([("/dev/mapper/vg0-one".into(), usage)]),
            ..Survey::default()
        };
        let words = words(include_str!("recorded/lsblk-luks.json"), &survey);
        assert_eq!(
            words,
            [
                "/dev/vdf: LUKS2 volume",
                "/dev/mapper/vault: LVM volume group vg0, 2 volumes",
                "/dev/mapper/vg0-one: ext4 “root”, 11.8 MiB in use of 100 MiB",
                "/dev/mapper/vg0-two: swap",
            ]
        );
    }
}
