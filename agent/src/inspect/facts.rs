//! From what lsblk, udev and zpool say to the facts that a plan is judged by. Pure.

use super::lsblk::Device;
use cygnet_protocol::plan::{DiskFacts, Fingerprint, PartitionFacts, PlannedDisk, human_bytes};
use std::collections::{BTreeMap, BTreeSet};

/// Whole disks that could be installed on; no CD drives, RAM disks, or devices made of others.
pub fn is_disk(device: &Device) -> bool {
    device.kind == "disk"
        && !["zram", "ram", "fd", "zd", "mtdblock"].iter().any(|prefix| device.name.starts_with(prefix))
        && !device.name.contains("boot") // mmcblk0boot0 and boot1, the eMMC's hardware partitions
        && device.size > 0
}

/// The facts of one disk. `start` gives a partition's first sector of 512 bytes by its kernel name, `held` tells whether
/// the kernel lends a disk to nobody else.
pub fn of(
    device: &Device,
    links: &[(String, String)],
    pools: &BTreeMap<String, String>,
    running: &BTreeSet<String>,
    start: &dyn Fn(&str) -> u64,
    held: &dyn Fn(&str) -> bool,
) -> DiskFacts {
    let mut in_use = uses(device, links, pools);
    // The second disk of a mounted btrfs, a pool under a path that udev has forgotten, a mount in another namespace:
    // nobody tells of these, and the tools that write do not ask.
    if in_use.is_empty() && held(&device.path) {
        in_use.push(format!(
            "{} is held by the kernel or a program (a mounted file system, RAID, swap or pool)",
            device.path
        ));
    }
    let trimmed = |text: &Option<String>| text.as_ref().map(|t| printable(t.trim())).filter(|t| !t.is_empty());
    let partitions: Vec<PartitionFacts> = device
        .children
        .iter()
        .filter(|child| child.kind == "part")
        .map(|child| PartitionFacts {
            path: child.path.clone(),
            start: start(&child.name),
            size_bytes: child.size,
            part_uuid: child.partuuid.clone(),
            part_label: child.partlabel.clone(),
            fstype: child.fstype.clone(),
            uuid: child.uuid.clone(),
            label: child.label.clone(),
        })
        .collect();
    DiskFacts {
        requested: Vec::new(),
        kernel_path: device.path.clone(),
        links: links.iter().filter(|(_, to)| *to == device.path).map(|(link, _)| link.clone()).collect(),
        model: trimmed(&device.model),
        serial: trimmed(&device.serial),
        wwn: trimmed(&device.wwn),
        bus: trimmed(&device.tran),
        size_bytes: device.size,
        logical_sector_bytes: u32::try_from(device.sector).ok().filter(|s| *s != 0).unwrap_or(512),
        read_only: device.ro,
        removable: device.rm,
        is_running_disk: running.contains(&device.path),
        in_use,
        contents: contents(device, &partitions),
        fingerprint: Fingerprint {
            partition_table_uuid: device.ptuuid.clone(),
            fstype: device.fstype.clone(),
            uuid: device.uuid.clone(),
            label: device.label.clone(),
            partitions,
        },
    }
}

/// Who uses the disk or something on it, in words.
fn uses(device: &Device, links: &[(String, String)], pools: &BTreeMap<String, String>) -> Vec<String> {
    let mut words = Vec::new();
    for mountpoint in device.mountpoints.iter().flatten() {
        words.push(match mountpoint.as_str() {
            "[SWAP]" => format!("{} is active swap", device.path),
            _ => format!("{} is mounted at {mountpoint}", device.path),
        });
    }
    let names = |path: &str| *path == device.path || links.iter().any(|(link, to)| link == path && *to == device.path);
    for pool in pools.iter().filter(|(path, _)| names(path)).map(|(_, pool)| pool) {
        words.push(format!("{} is a member of the imported pool {pool}", device.path));
    }
    for child in &device.children {
        if child.kind != "part" {
            words.push(format!("{} is held by {} ({})", device.path, child.path, child.kind));
        }
        words.extend(uses(child, links, pools));
    }
    words
}

/// What is on it, in words.
fn contents(device: &Device, partitions: &[PartitionFacts]) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(fstype) = &device.fstype {
        words.push(describe(fstype, device.label.as_deref()));
    }
    if let Some(table) = &device.pttype {
        words.push(format!("{table} partition table with {} partition(s)", partitions.len()));
    }
    for partition in partitions {
        let what =
            partition.fstype.as_deref().map_or("nothing known".into(), |fs| describe(fs, partition.label.as_deref()));
        let name = partition.part_label.as_ref().map(|label| format!(" “{label}”")).unwrap_or_default();
        words.push(format!("{}{name}: {what}, {}", partition.path, human_bytes(partition.size_bytes)));
    }
    words.iter().map(|text| printable(text)).collect()
}

/// Names on a disk are anybody's: nothing in them may move the cursor of who reads the plan.
fn printable(text: &str) -> String {
    cygnet_protocol::text::line(text)
}

fn describe(fstype: &str, label: Option<&str>) -> String {
    match (fstype, label) {
        ("zfs_member", Some(pool)) => format!("member of the ZFS pool {pool}"),
        (_, Some(label)) => format!("{fstype} “{label}”"),
        (_, None) => fstype.to_owned(),
    }
}

/// Member device → pool, from `zpool list -H -P -v`: an unindented line is a pool, indented ones with a path its members.
pub fn imported(text: &str) -> BTreeMap<String, String> {
    let mut pool = String::new();
    let mut members = BTreeMap::new();
    for line in text.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        if !line.starts_with(char::is_whitespace) {
            name.clone_into(&mut pool);
        } else if name.starts_with('/') {
            members.insert(name.to_owned(), pool.clone());
        }
    }
    members
}

/// A line of proc_pid_mountinfo(5), as far as it tells what a mount lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `major:minor`; the major number 0 stands for file systems that are not on exactly one block device.
    pub number: String,
    /// Type.
    pub fstype: String,
    /// Source: a device node, a dataset, or anything.
    pub source: String,
}

/// The mount that `path` lies on.
pub fn mount_of(mountinfo: &str, path: &str) -> Option<Mount> {
    let mut best: Option<(usize, Mount)> = None;
    for line in mountinfo.lines() {
        let (about, on) = line.split_once(" - ").unwrap_or((line, ""));
        let mut fields = about.split(' ');
        let (Some(number), Some(point)) = (fields.nth(2), fields.nth(1)) else { continue };
        let mut on = on.split(' ').map(str::to_owned);
        let inside =
            point == "/" || path == point || path.strip_prefix(point).is_some_and(|rest| rest.starts_with('/'));
        // A later mount on the same point hides the earlier one.
        if inside && best.as_ref().is_none_or(|(length, _)| point.len() >= *length) {
            let (fstype, source) = (on.next().unwrap_or_default(), on.next().unwrap_or_default());
            best = Some((point.len(), Mount { number: number.to_owned(), fstype, source }));
        }
    }
    best.map(|(_, mount)| mount)
}

impl Mount {
    /// The device nodes it lies on, when its number does not tell: the members of its pool, or its source.
    pub fn nodes(&self, pools: &dyn Fn() -> BTreeMap<String, String>) -> Vec<String> {
        match self.fstype.as_str() {
            "zfs" => {
                let pool = self.source.split('/').next().unwrap_or_default();
                pools().into_iter().filter(|(_, of)| of == pool).map(|(member, _)| member).collect()
            }
            _ if self.source.starts_with("/dev/") => vec![self.source.clone()],
            _ => Vec::new(),
        }
    }
}

/// What is no longer as it was planned, in words; `None` if all is. Once the disks are formatted, only what a disk is
/// counts, not what is on it or how the kernel calls it.
pub fn changed(planned: &[PlannedDisk], now: &[DiskFacts], formatted: bool) -> Option<String> {
    let words: Vec<String> = planned
        .iter()
        .filter_map(|disk| {
            let named: Vec<&DiskFacts> = now
                .iter()
                .filter(|facts| facts.kernel_path == disk.device || facts.links.contains(&disk.device))
                .collect();
            let [facts] = named.as_slice() else {
                return Some(match named.len() {
                    0 => format!("disk {} ({}) is gone", disk.name, disk.device),
                    _ => format!("several disks are called {} now", disk.device),
                });
            };
            let same = if formatted { is_the_same_disk(&disk.facts, facts) } else { disk.facts == **facts };
            (!same).then(|| difference(&disk.name, &disk.facts, facts))
        })
        .collect();
    if words.is_empty() { None } else { Some(words.join("; ")) }
}

fn is_the_same_disk(before: &DiskFacts, now: &DiskFacts) -> bool {
    let identity = |facts: &DiskFacts| {
        let DiskFacts { model, serial, wwn, size_bytes, logical_sector_bytes, .. } = facts.clone();
        (model, serial, wwn, size_bytes, logical_sector_bytes)
    };
    identity(before) == identity(now) && !now.is_running_disk
}

/// What changed on a disk, in words.
pub fn difference(name: &str, before: &DiskFacts, now: &DiskFacts) -> String {
    if !is_the_same_disk(before, now) {
        let described = |facts: &DiskFacts| {
            let serial = facts.serial.as_ref().map(|serial| format!(", serial number {serial}")).unwrap_or_default();
            let running = if facts.is_running_disk { ", which the Pi runs from" } else { "" };
            let model = facts.model.as_deref().unwrap_or("a disk");
            format!("{model} ({}{serial}){running}", human_bytes(facts.size_bytes))
        };
        return format!("{name} was {}, now it is {}", described(before), described(now));
    }
    let list =
        |facts: &DiskFacts| if facts.contents.is_empty() { "nothing".to_owned() } else { facts.contents.join(", ") };
    if before.contents != now.contents {
        return format!("on {name} was {}, now there is {}", list(before), list(now));
    }
    if before.in_use != now.in_use {
        return format!("{name} came into use: {}", now.in_use.join(", "));
    }
    format!("the partition table or the identifiers on {name} are others")
}

#[cfg(test)]
mod tests {
    use super::super::lsblk;
    use super::*;

    const LSBLK: &str = r#"{"blockdevices":[
      {"name":"vda","path":"/dev/vda","type":"disk","size":4294967296,"ro":false,"rm":false,"model":null,"serial":"CYGCARD",
       "wwn":null,"tran":"virtio","fstype":"ext4","label":null,"uuid":"u","pttype":null,"ptuuid":null,"partuuid":null,
       "partlabel":null,"mountpoints":["/"],"log-sec":512},
      {"name":"sdb","path":"/dev/sdb","type":"disk","size":"500107862016","ro":"0","rm":"1","model":"PSSD T7 ","serial":"S1",
       "wwn":"0x5","tran":"usb","fstype":null,"label":null,"uuid":null,"pttype":"gpt","ptuuid":"p","partuuid":null,
       "partlabel":null,"mountpoints":[null],"log-sec":"512","children":[
         {"name":"sdb1","path":"/dev/sdb1","type":"part","size":1073741824,"ro":false,"rm":true,"model":null,"serial":null,
          "wwn":null,"tran":null,"fstype":"zfs_member","label":"tank","uuid":"1","pttype":"gpt","ptuuid":"p","partuuid":"q",
          "partlabel":"disk-ssd-zfs","mountpoints":[null],"log-sec":512}]},
      {"name":"zram0","path":"/dev/zram0","type":"disk","size":100,"mountpoints":["[SWAP]"],"log-sec":4096}]}"#;

    #[test]
    fn facts_are_drawn_from_lsblk_of_any_version() {
        let devices = lsblk::parse(LSBLK).unwrap();
        let disks: Vec<&Device> = devices.iter().filter(|d| is_disk(d)).collect();
        assert_eq!(disks.len(), 2);
        let links = [("/dev/disk/by-partlabel/disk-ssd-zfs".to_owned(), "/dev/sdb1".to_owned())];
        let pools = imported("tank\t9G\n\t/dev/disk/by-partlabel/disk-ssd-zfs\t9G\n");
        let running = BTreeSet::from(["/dev/vda".to_owned()]);
        let card = of(disks[0], &links, &pools, &running, &|_| 0, &|_| true);
        assert!(card.is_running_disk && card.in_use == ["/dev/vda is mounted at /"]);
        let ssd = of(disks[1], &links, &pools, &running, &|_| 2048, &|_| true);
        assert_eq!((ssd.size_bytes, ssd.removable, ssd.model.as_deref()), (500_107_862_016, true, Some("PSSD T7")));
        assert_eq!(ssd.in_use, ["/dev/sdb1 is a member of the imported pool tank"]);
        assert_eq!(ssd.contents[1], "/dev/sdb1 “disk-ssd-zfs”: member of the ZFS pool tank, 1 GiB");
        assert_eq!(ssd.fingerprint.partitions[0].start, 2048);
        let mut odd = disks[1].clone();
        odd.model = Some("T7\u{1b}[2K".into());
        odd.children[0].partlabel = Some("a\rb".into());
        let odd = of(&odd, &links, &pools, &running, &|_| 2048, &|_| false);
        let shown = format!("{:?}{}", odd.model, odd.contents.join(" "));
        assert!(shown.contains("a\u{fffd}b") && !shown.contains(char::is_control), "{shown}");
        // What only the kernel knows of: nothing is mounted, and no pool is known under a present path.
        let nothing = BTreeMap::new();
        let busy = of(disks[1], &links, &nothing, &running, &|_| 2048, &|path| path == "/dev/sdb");
        assert!(busy.in_use.len() == 1 && busy.in_use[0].contains("held by the kernel"), "{:?}", busy.in_use);
        assert!(of(disks[1], &links, &nothing, &running, &|_| 2048, &|_| false).in_use.is_empty());
        assert!(lsblk::parse("").unwrap().is_empty() && lsblk::parse("{").is_err());
    }

    #[test]
    fn the_innermost_mount_counts() {
        let table = "1 0 8:2 / / rw - ext4 x rw\n2 1 0:5 / /proc rw - proc x rw\n3 1 8:1 / /boot rw - vfat x rw\n4 3 0:9 / /boot rw - autofs x rw\n5 4 8:3 / /boot rw - vfat x rw\n";
        let number = |path: &str| mount_of(table, path).map(|mount| mount.number).unwrap();
        assert_eq!(number("/usr/bin/x"), "8:2");
        assert_eq!(number("/boot"), "8:3");
        assert_eq!(number("/bootx"), "8:2");
        assert!(number("/proc/1").starts_with("0:"));
        // Not even a broken line keeps the disk of the running system from being found.
        assert_eq!(mount_of("1\n\n2 1 8:2 / / rw - ext4 /dev/sda2 rw\n", "/x").unwrap().number, "8:2");
    }

    #[test]
    fn a_root_without_a_device_number_of_its_own_is_traced_to_its_disks() {
        let table = "1 0 0:30 / / rw shared:1 - zfs card/root rw\n2 1 0:31 / /nix rw - btrfs /dev/sdc2 rw\n3 1 0:32 / /tmp rw - tmpfs tmpfs rw\n";
        let pools = || imported("card\t9G\n\t/dev/sda1\t9G\n\t/dev/sdb1\t9G\ncardinal\t9G\n\t/dev/sdd1\t9G\n");
        let nodes = |path: &str| mount_of(table, path).unwrap().nodes(&pools);
        assert_eq!(nodes("/usr"), ["/dev/sda1", "/dev/sdb1"]);
        assert_eq!(nodes("/nix/store"), ["/dev/sdc2"]);
        assert!(nodes("/tmp").is_empty());
    }

    #[test]
    fn a_disk_that_is_another_or_changed_is_noticed_before_it_is_destroyed() {
        let facts = DiskFacts {
            kernel_path: "/dev/sda".into(),
            links: vec!["/dev/disk/by-id/usb-x".into()],
            model: Some("T7".into()),
            serial: Some("S1".into()),
            size_bytes: 1 << 40,
            logical_sector_bytes: 512,
            ..DiskFacts::default()
        };
        let device = "/dev/disk/by-id/usb-x".to_owned();
        let planned = [PlannedDisk { name: "ssd".into(), device, destroy: true, facts: facts.clone() }];
        let both = |now: &[DiskFacts]| (changed(&planned, now, false), changed(&planned, now, true));
        assert_eq!(both(std::slice::from_ref(&facts)), (None, None));

        // Written to, or found under another name: that matters until it is formatted.
        let (fresh, formatted) = both(&[DiskFacts { contents: vec!["ext4 “photos”".into()], ..facts.clone() }]);
        assert!(fresh.unwrap().contains("photos") && formatted.is_none());
        let (fresh, formatted) = both(&[DiskFacts { kernel_path: "/dev/sdb".into(), ..facts.clone() }]);
        assert!(fresh.is_some() && formatted.is_none());
        assert!(both(&[DiskFacts { in_use: vec!["mounted".into()], ..facts.clone() }]).0.unwrap().contains("mounted"));

        // Another disk under its name, none, or two: never.
        let another = DiskFacts { serial: Some("S2".into()), ..facts.clone() };
        let (fresh, formatted) = both(std::slice::from_ref(&another));
        assert!(fresh.unwrap().contains("serial number S2") && formatted.is_some());
        assert!(matches!(both(&[]), (Some(_), Some(_))));
        assert!(matches!(both(&[facts.clone(), facts.clone()]), (Some(_), Some(_))));
        assert!(matches!(both(&[DiskFacts { is_running_disk: true, ..facts }]), (Some(_), Some(_))));
    }
}
