//! What was seen of a layout, without what is different each time, and what two of them differ in.
//!
//! Pure: text in, lines out.

use super::cases::Allowed;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Lines by section.
pub type Facts = BTreeMap<String, Vec<String>>;

/// What is put aside: lines of a kind of section that begin with this, blanks aside.
///
/// Identifiers, times, how full it is, how long the kernel needs for a hash, and whom it is shown by.
const ASIDE: &[(&str, &[&str])] = &[
    ("blkid", &["DEVNAME=", "UUID=", "UUID_SUB=", "PTUUID=", "PART_ENTRY_UUID=", "PART_ENTRY_DISK="]),
    ("sgdisk-p", &["Disk identifier (GUID)"]),
    ("sgdisk-i", &["Partition unique GUID"]),
    ("sgdisk-O", &["MBR disk identifier"]),
    ("sfdisk", &["label-id"]),
    ("luksDump", &["UUID:", "Time cost:", "Memory:", "Threads:", "Iterations:", "Salt:", "Digest:"]),
    (
        "mdadm",
        &[
            "Creation Time",
            "Update Time",
            "UUID",
            "Events",
            "State :",
            "Resync Status",
            "Rebuild Status",
            "Active Devices",
            "Working Devices",
        ],
    ),
    (
        "ext4",
        &[
            "Filesystem UUID",
            "Last mounted on",
            "Filesystem created",
            "Last mount time",
            "Last write time",
            "Mount count",
            "Last checked",
            "Free blocks",
            "Free inodes",
            "Directory Hash Seed",
            "Journal checksum",
            "Checksum:",
            "Journal sequence",
            "Journal start",
            "Lifetime writes",
            "Checksum seed",
            "Next check after",
            "Journal features",
            "Orphan file inode",
        ],
    ),
    ("zpool-status", &["scan:", "action:", "status:", "see:", "config:", "errors:"]),
];

/// Properties of pools that are put aside.
const POOL_ASIDE: &[&str] = &[
    "allocated",
    "alloc",
    "capacity",
    "free",
    "fragmentation",
    "guid",
    "load_guid",
    "dedupratio",
    "leaked",
    "expandsize",
    "bcloneused",
    "bclonesaved",
    "bcloneratio",
    "checkpoint",
    "freeing",
    "dedup_table_size",
    "last_scrubbed_txg",
    "dedupcached",
];

/// Properties of datasets that are put aside.
const DATASET_ASIDE: &[&str] = &[
    "available",
    "used",
    "referenced",
    "compressratio",
    "refcompressratio",
    "written",
    "usedbydataset",
    "usedbychildren",
    "usedbyrefreservation",
    "usedbysnapshots",
    "logicalused",
    "logicalreferenced",
    "creation",
    "guid",
    "createtxg",
    "objsetid",
    "snapshots_changed",
    "pbkdf2salt",
    "mounted",
    "keystatus",
];

/// Reads what [`super::look`] printed.
pub fn facts(printed: &str) -> Facts {
    let names: Vec<(&str, &str)> =
        printed.lines().filter_map(|line| line.strip_prefix('@').and_then(|line| line.split_once(' '))).collect();
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut section: Option<String> = None;
    for line in printed.lines().filter(|line| !line.starts_with('@')) {
        if let Some(name) = line.strip_prefix("== ") {
            let name = renamed(name, &names);
            sections.entry(name.clone()).or_default();
            section = Some(name);
            continue;
        }
        // Complaints of opening stand before any section, and are seen.
        let section = section.clone().unwrap_or_else(|| "opening".to_owned());
        sections.entry(section).or_default().push(without_random_names(&renamed(line, &names)));
    }
    sections.into_iter().map(|(section, lines)| (section.clone(), kept(&section, &lines))).collect()
}

/// What remains of a section.
fn kept(section: &str, lines: &[String]) -> Vec<String> {
    let kind = section.split(' ').next().unwrap_or_default();
    let aside = ASIDE.iter().find(|(of, _)| *of == kind).map_or(&[][..], |(_, aside)| aside);
    let remains = |line: &&String| {
        let line = line.trim();
        // Salts and digests go on for lines of hex.
        let bytes = line.split(' ').all(|word| word.len() == 2 && word.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let is_aside = aside.iter().any(|start| line.starts_with(start)) || kind == "luksDump" && bytes;
        !(line.is_empty() || is_aside)
    };
    let mut kept: Vec<String> = match kind {
        "lsblk" => return tree(&lines.join("\n")),
        "zpool-get" | "zfs-get" => lines.iter().filter_map(|line| property(kind, line)).collect(),
        "mdadm" => lines.iter().filter(remains).map(|line| without_numbers(line)).collect(),
        "btrfs" => lines.iter().filter(remains).map(|line| without_generation(line)).collect(),
        _ => lines.iter().filter(remains).map(|line| single_blanks(line)).collect(),
    };
    if matches!(kind, "vgs" | "pvs" | "lvs" | "zfs-list") {
        kept.sort();
    }
    kept
}

fn single_blanks(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A line of `zpool get -H` or `zfs get -H`: name, property, value, source.
fn property(kind: &str, line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split('\t').collect();
    let &[name, property, value, source] = fields.as_slice() else { return Some(line.to_owned()) };
    let aside = if kind == "zpool-get" { POOL_ASIDE } else { DATASET_ASIDE };
    if aside.contains(&property) {
        return None;
    }
    // What is written makes an enabled feature active.
    let value = if property.starts_with("feature@") && value == "active" { "enabled" } else { value };
    Some(format!("{name} {property} {value} ({source})"))
}

/// The table of members begins with two numbers of the kernel's.
fn without_numbers(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        [number, _, _, device, rest @ ..] if [number, device].iter().all(|word| word.parse::<u32>().is_ok()) => {
            // A member that is still being filled is one all the same.
            let rest: Vec<&str> =
                rest.iter().filter(|word| !matches!(**word, "spare" | "rebuilding")).copied().collect();
            format!("{number} {device} {}", rest.join(" "))
        }
        words => words.join(" "),
    }
}

/// `ID 256 gen 8 top level 5 path home`
fn without_generation(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["ID", id, "gen", _, rest @ ..] => format!("ID {id} {}", rest.join(" ")),
        words => words.join(" "),
    }
}

/// lsblk's tree, one line for each device with the way that leads there.
fn tree(json: &str) -> Vec<String> {
    fn add(device: &Value, above: &str, lines: &mut BTreeSet<String>) {
        let name = format!("{above}/{}", device["name"].as_str().unwrap_or("?"));
        let mut line = name.clone();
        for (key, value) in device.as_object().into_iter().flatten() {
            if key != "name" && key != "children" && !value.is_null() {
                line.push_str(&format!(" {key}={value}"));
            }
        }
        lines.insert(line);
        device["children"].as_array().into_iter().flatten().for_each(|child| add(child, &name, lines));
    }
    let mut lines = BTreeSet::new();
    match serde_json::from_str::<Value>(json) {
        Ok(all) => {
            all["blockdevices"].as_array().into_iter().flatten().for_each(|device| add(device, "", &mut lines));
            lines.into_iter().collect()
        }
        Err(error) => vec![format!("not understood: {error}"), json.to_owned()],
    }
}

/// Calls devices by the names that both sides share: the kernel's and the serial numbers are others.
fn renamed(line: &str, names: &[(&str, &str)]) -> String {
    let mut line = line.to_owned();
    for (from, to) in names {
        let mut done = String::new();
        let mut rest = line.as_str();
        while let Some(at) = rest.find(from) {
            let (before, behind) = (&rest[..at], &rest[at + from.len()..]);
            done.push_str(before);
            let alone = !before.ends_with(|letter: char| letter.is_ascii_alphanumeric());
            let partition = |letter: char| match from.ends_with(|last: char| last.is_ascii_digit()) {
                true => letter == 'p',
                false => letter.is_ascii_digit(),
            };
            let ends = behind.chars().next().is_none_or(|next| !next.is_ascii_alphanumeric() || partition(next));
            done.push_str(if alone && ends { to } else { from });
            if alone && ends && behind.starts_with(partition) {
                done.push('-');
            }
            rest = behind;
        }
        done.push_str(rest);
        line = done;
    }
    line
}

/// zpool partitions a whole disk by itself, and calls the partition `zfs-` and 64 random bits in hex.
fn without_random_names(line: &str) -> String {
    const PREFIX: &str = "zfs-";
    const DIGITS: usize = 16;
    let mut pieces = line.split(PREFIX);
    let mut done = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.bytes().take_while(u8::is_ascii_hexdigit).count();
        done.push_str(PREFIX);
        done.push_str(if digits == DIGITS { &piece[DIGITS..] } else { piece });
    }
    done
}

/// What is different, in words, and the titles of the differences that were seen and are allowed.
pub fn differences(ours: &Facts, disko: &Facts, allowed: &[Allowed]) -> (Vec<String>, BTreeSet<&'static str>) {
    let mut words = Vec::new();
    let mut seen = BTreeSet::new();
    let sections: BTreeSet<&String> = ours.keys().chain(disko.keys()).collect();
    let nothing = Vec::new();
    for section in sections {
        let (a, b) = (ours.get(section).unwrap_or(&nothing), disko.get(section).unwrap_or(&nothing));
        let mut explained = false;
        let mut only = |side: &[String], other: &[String]| -> Vec<String> {
            let missing = side.iter().filter(|line| !other.contains(line));
            let unexplained = missing.filter(|line| {
                let why = allowed.iter().find(|allowed| line.contains(allowed.shows));
                explained |= why.is_some();
                seen.extend(why.map(|allowed| allowed.title));
                why.is_none()
            });
            unexplained.cloned().collect()
        };
        let (mut left, mut right) = (only(a, b), only(b, a));
        if left.is_empty() && right.is_empty() && a != b && !explained {
            // The same lines in another order, or more often.
            (left, right) = (a.clone(), b.clone());
        }
        if !(left.is_empty() && right.is_empty()) {
            words.push(format!("{section}\n    ours:  {}\n    disko: {}", shown(&left), shown(&right)));
        }
    }
    (words, seen)
}

fn shown(lines: &[String]) -> String {
    if lines.is_empty() { "(the same, without these)".to_owned() } else { lines.join("\n           ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: &str = "@vdb disk0\n@vdc disk1\n@virtio-CYG0 disk0\n@virtio-CYG1 disk1\n@md127 md/raid1\n@zd0 zvol/p/swap\n\
        == lsblk\n{\"blockdevices\":[{\"name\":\"vdb\",\"type\":\"disk\",\"size\":2147483648,\"label\":null,\"children\":[\
        {\"name\":\"vdb1\",\"type\":\"part\",\"size\":1048576}]},{\"name\":\"zd0\",\"type\":\"disk\",\"size\":1}]}\n\
        == blkid /dev/vdb1\nDEVNAME=/dev/vdb1\nUUID=1-2\nTYPE=ext4\nPART_ENTRY_SIZE=2048\n\
        == mdadm /dev/md127\n        UUID : 1:2\n     Raid Level : raid1\n   0     254       17        0      active sync   /dev/vdb1\n\
        == luksDump /dev/vdb1\n\tCipher: aes-xts-plain64\n\tSalt: aa bb\n\t      cc dd\n\
        == zpool-get p\np\tsize\t2G\t-\np\tguid\t12\t-\np\tfeature@x\tactive\tlocal\n\
        == zfs-get\np\tcompression\tlz4\tlocal\np\tused\t5\t-\n\
        == btrfs /dev/vdc\nID 256 gen 9 top level 5 path home\n\
        == sgdisk-p /dev/vdc\n 1 2048 4175871 2.0 GiB BF01 zfs-1642d35a8710c780\n\
        == zpool-status p\n /dev/disk/by-id/virtio-CYG0-part1 ONLINE\n /dev/disk/by-id/virtio-CYG10-part1 ONLINE\n";

    fn compared(change: impl Fn(&str) -> String) -> Vec<String> {
        differences(&facts(&change(SEEN)), &facts(SEEN), &[]).0
    }

    #[test]
    fn what_is_other_each_time_is_put_aside() {
        let facts = facts(SEEN);
        assert_eq!(
            facts["lsblk"],
            [
                "/disk0 size=2147483648 type=\"disk\"",
                "/disk0/disk0-1 size=1048576 type=\"part\"",
                "/zvol/p/swap size=1 type=\"disk\""
            ]
        );
        assert_eq!(facts["blkid /dev/disk0-1"], ["TYPE=ext4", "PART_ENTRY_SIZE=2048"]);
        assert_eq!(facts["mdadm /dev/md/raid1"], ["Raid Level : raid1", "0 0 active sync /dev/disk0-1"]);
        assert_eq!(facts["luksDump /dev/disk0-1"], ["Cipher: aes-xts-plain64"]);
        assert_eq!(facts["zpool-get p"], ["p size 2G (-)", "p feature@x enabled (local)"]);
        assert_eq!(facts["sgdisk-p /dev/disk1"], ["1 2048 4175871 2.0 GiB BF01 zfs-"]);
        let members = ["disk0-part1", "virtio-CYG10-part1"].map(|name| format!("/dev/disk/by-id/{name} ONLINE"));
        assert_eq!(facts["zpool-status p"], members);
        let same = |from: &'static str, to: &'static str| compared(|text| text.replace(from, to));
        for (from, to) in [
            ("vdb", "vdq"),
            ("1-2", "3-4"),
            ("md127", "md126"),
            ("gen 9", "gen 11"),
            ("\tactive", "\tenabled"),
            ("aa bb", "11 22"),
            ("254", "253"),
            ("CYG0", "CYG7"),
            ("zfs-1642d35a8710c780", "zfs-893a33ef0bebf2f7"),
        ] {
            assert!(same(from, to).is_empty(), "{from} became {to}: {:?}", same(from, to));
        }
    }

    #[test]
    fn everything_else_is_a_failure_that_shows_both_sides() {
        for (from, to) in [
            ("TYPE=ext4", "TYPE=xfs"),
            ("1048576", "1048577"),
            ("raid1\n", "raid0\n"),
            ("aes-xts", "aes-cbc"),
            ("lz4", "zstd"),
            ("lz4\tlocal", "lz4\tdefault"),
            ("path home", "path nix"),
            ("active sync", "faulty"),
            ("feature@x\tactive", "feature@x\tdisabled"),
            ("== btrfs /dev/vdc", "== btrfs /dev/vdb"),
            ("@vdc disk1\n", ""),
            ("CYG0-part1", "CYG0-part2"),
            ("CYG0-part1", "CYG1-part1"),
            ("zfs-1642d35a8710c780", "zfs-1642d35a8710c78"),
        ] {
            let said = compared(|text| text.replace(from, to));
            assert!(!said.is_empty(), "{from} became {to} and nothing was said");
            assert!(said[0].contains("ours: ") && said[0].contains("disko: "));
        }
        let cut = compared(|text| {
            text.lines().filter(|line| !line.contains("path home")).fold(String::new(), |all, line| all + line + "\n")
        });
        assert_eq!(cut.len(), 1);
        assert!(compared(|text| format!("cryptsetup: no\n{text}"))[0].starts_with("opening"));
    }

    #[test]
    fn a_difference_is_allowed_by_its_name_only_and_where_it_shows() {
        let other = facts(&SEEN.replace("lz4", "zstd").replace("aes-xts", "aes-cbc"));
        let allowed = [Allowed { title: "Another compression", shows: "p compression" }];
        let (words, seen) = differences(&other, &facts(SEEN), &allowed);
        assert_eq!(words.len(), 1);
        assert!(words[0].contains("aes-cbc") && words[0].contains("aes-xts"), "{words:?}");
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["Another compression"]);
        assert!(differences(&facts(SEEN), &facts(SEEN), &allowed).1.is_empty());
    }
}
