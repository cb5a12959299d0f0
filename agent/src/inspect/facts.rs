//! From what lsblk, udev and zpool say to the facts that a plan is judged by. Pure.

use super::lsblk::Device;
use cygnet_protocol::plan::{DiskFacts, Fingerprint, PartitionFacts, human_bytes};
use std::collections::{BTreeMap, BTreeSet};

/// Whole disks that could be installed on; no CD drives, RAM disks, or devices made of others.
pub fn is_disk(device: &Device) -> bool {
    device.kind == "disk"
        && !["zram", "ram", "fd", "zd", "mtdblock"].iter().any(|prefix| device.name.starts_with(prefix))
        && !device.name.contains("boot") // mmcblk0boot0 and boot1, the eMMC's hardware partitions
        && device.size > 0
}

/// The facts of one disk. `start` gives a partition's first sector of 512 bytes by its kernel name.
pub fn of(
    device: &Device,
    links: &[(String, String)],
    pools: &BTreeMap<String, String>,
    running: &BTreeSet<String>,
    start: &dyn Fn(&str) -> u64,
) -> DiskFacts {
    let trimmed = |text: &Option<String>| text.as_ref().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
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
        in_use: uses(device, links, pools),
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
    words
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

/// `major:minor` of what `path` lies on, from proc_pid_mountinfo(5). None for pseudo file systems.
pub fn device_of(mountinfo: &str, path: &str) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for line in mountinfo.lines() {
        let mut fields = line.split(' ');
        let (number, point) = (fields.nth(2)?, fields.nth(1)?);
        let inside =
            point == "/" || path == point || path.strip_prefix(point).is_some_and(|rest| rest.starts_with('/'));
        // A later mount on the same point hides the earlier one.
        if inside && best.is_none_or(|(length, _)| point.len() >= length) {
            best = Some((point.len(), number));
        }
    }
    best.map(|(_, number)| number.to_owned()).filter(|number| !number.starts_with("0:"))
}

/// What changed on a disk, in words.
pub fn difference(name: &str, before: &DiskFacts, now: &DiskFacts) -> String {
    if (&before.serial, &before.model, before.size_bytes) != (&now.serial, &now.model, now.size_bytes) {
        return format!(
            "{name} was {} ({}), now it is {} ({})",
            before.model.as_deref().unwrap_or("a disk"),
            human_bytes(before.size_bytes),
            now.model.as_deref().unwrap_or("a disk"),
            human_bytes(now.size_bytes)
        );
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
        let card = of(disks[0], &links, &pools, &running, &|_| 0);
        assert!(card.is_running_disk && card.in_use == ["/dev/vda is mounted at /"]);
        let ssd = of(disks[1], &links, &pools, &running, &|_| 2048);
        assert_eq!((ssd.size_bytes, ssd.removable, ssd.model.as_deref()), (500_107_862_016, true, Some("PSSD T7")));
        assert_eq!(ssd.in_use, ["/dev/sdb1 is a member of the imported pool tank"]);
        assert_eq!(ssd.contents[1], "/dev/sdb1 “disk-ssd-zfs”: member of the ZFS pool tank, 1 GiB");
        assert_eq!(ssd.fingerprint.partitions[0].start, 2048);
        assert!(lsblk::parse("").unwrap().is_empty() && lsblk::parse("{").is_err());
    }

    #[test]
    fn the_innermost_mount_counts() {
        let table = "1 0 8:2 / / rw - ext4 x rw\n2 1 0:5 / /proc rw - proc x rw\n3 1 8:1 / /boot rw - vfat x rw\n4 3 0:9 / /boot rw - autofs x rw\n5 4 8:3 / /boot rw - vfat x rw\n";
        assert_eq!(device_of(table, "/usr/bin/x").as_deref(), Some("8:2"));
        assert_eq!(device_of(table, "/boot").as_deref(), Some("8:3"));
        assert_eq!(device_of(table, "/bootx").as_deref(), Some("8:2"));
        assert_eq!(device_of(table, "/proc/1"), None);
    }
}
