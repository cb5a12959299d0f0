//! What ZFS wrote on a device, without asking the kernel: the output of zdb(8). Pure.
//!
//! A pool is never imported to look at it, not even read-only: an import runs kernel code on whatever the disk holds, which
//! can panic or hang the Pi, and holds all members exclusively meanwhile. zdb reads in a process of its own, which can
//! only harm itself.

use std::collections::BTreeMap;

const LABEL_BYTES: u64 = 256 << 10;
/// Two blocks of padding come before the list of names and values; that begins with how it is packed, and is never zero
/// there (`vdev_label_t` in sys/vdev_impl.h, `nvs_header_t` in nvpair.c).
const LIST_AT: u64 = 16 << 10;

/// Where labels of a device of this size have something other than zeros, bytes: two at the start, two at the end.
pub fn places(size: u64) -> Vec<u64> {
    let end = size - size % LABEL_BYTES;
    let labels = [Some(0), Some(LABEL_BYTES), end.checked_sub(2 * LABEL_BYTES), end.checked_sub(LABEL_BYTES)];
    let mut places: Vec<u64> = labels.into_iter().flatten().map(|label| label + LIST_AT).collect();
    places.retain(|place| *place < end);
    places.dedup();
    places
}

/// A label (`zdb -l`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Label {
    /// Name of the pool.
    pub pool: String,
    /// GUID of the pool.
    pub pool_guid: String,
    /// 0 active, 1 exported, 2 destroyed, … (`pool_state_t`).
    pub state: u64,
    /// Host that wrote it.
    pub host: Option<String>,
    /// GUID of this member.
    pub guid: String,
    /// GUID and last path of all members of this member's group, itself included.
    pub members: Vec<(String, String)>,
}

impl Label {
    /// The first label that can be read; `None` if there is none, or one that names no pool: spares and caches have those.
    pub fn parse(text: &str) -> Option<Self> {
        let mut label = Self::default();
        let mut guid = String::new();
        let mut in_tree = false;
        for line in text.lines() {
            if line.starts_with("LABEL ") && !label.pool.is_empty() {
                break;
            }
            let indent = line.len() - line.trim_start().len();
            let Some((key, value)) = line.trim().split_once(": ") else {
                in_tree |= line.trim() == "vdev_tree:";
                continue;
            };
            let value = value.trim_matches('\'');
            if in_tree && indent > 4 {
                match key {
                    "guid" => value.clone_into(&mut guid),
                    "path" => label.members.push((guid.clone(), value.to_owned())),
                    _ => {}
                }
                continue;
            }
            in_tree = false;
            match key {
                "name" => value.clone_into(&mut label.pool),
                "state" => label.state = value.parse().unwrap_or_default(),
                "pool_guid" => value.clone_into(&mut label.pool_guid),
                "hostname" => label.host = Some(value.to_owned()).filter(|host| !host.is_empty()),
                "guid" => value.clone_into(&mut label.guid),
                _ => {}
            }
        }
        (!label.pool.is_empty()).then_some(label)
    }

    /// The state in a word.
    pub fn state(&self) -> &'static str {
        match self.state {
            0 => "active",
            1 => "exported",
            2 => "destroyed",
            3 => "spare",
            4 => "cache",
            _ => "unknown",
        }
    }

    /// The other members: where they are now, or where they were last. `labels` are those of all devices by path.
    pub fn others(&self, labels: &BTreeMap<String, Label>) -> Vec<String> {
        let mut here: BTreeMap<&str, &str> = BTreeMap::new();
        for (path, label) in labels.iter().filter(|(_, label)| label.pool_guid == self.pool_guid) {
            here.insert(&label.guid, path);
        }
        let absent = self.members.iter().filter(|(guid, _)| !here.contains_key(guid.as_str()));
        let mut others: Vec<String> =
            here.iter().filter(|(guid, _)| **guid != self.guid).map(|(_, path)| (*path).to_owned()).collect();
        others.sort();
        others.extend(absent.filter(|(guid, _)| *guid != self.guid).map(|(_, path)| format!("{path}, not here")));
        others
    }
}

/// Filesystems and volumes of a pool without snapshots, and the bytes they refer to, from `zdb -d`.
pub fn datasets(text: &str) -> Option<(u64, u64)> {
    let mut count = 0;
    let mut bytes = 0_u64;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("Dataset ") else { continue };
        // `Dataset tank/a [ZPL], ID 68, cr_txg 9, 20.0M, 8 objects`; names have no brackets.
        let Some((name, about)) = rest.split_once(" [") else { continue };
        let mut fields = about.split(", ");
        let kind = fields.next().unwrap_or_default().trim_end_matches(']');
        if name.contains('@') || !matches!(kind, "ZPL" | "ZVOL") {
            continue;
        }
        count += 1;
        bytes = bytes.saturating_add(fields.nth(2).and_then(size)?);
    }
    (count > 0).then_some((count, bytes))
}

/// `24.5K` as bytes.
fn size(text: &str) -> Option<u64> {
    let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let factor: u64 = match unit {
        "" | "B" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        "P" => 1 << 50,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    (number.is_finite() && number >= 0.0).then_some((number * factor as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_tells_its_pool_and_the_other_half_of_the_mirror() {
        let label = Label::parse(include_str!("recorded/zdb-label.txt")).unwrap();
        assert_eq!((label.pool.as_str(), label.state(), label.host.as_deref()), ("tank", "exported", Some("pi")));
        assert_eq!(label.pool_guid, "18206461257597909337");
        assert_eq!(label.guid, "15722603873116612066");
        let alone = BTreeMap::from([("/dev/vdb1".to_owned(), label.clone())]);
        assert_eq!(label.others(&alone), ["/dev/disk/by-id/virtio-CYGB-part1, not here"]);
        let other = Label { guid: "13945007935364557054".into(), ..label.clone() };
        let both = BTreeMap::from([("/dev/vdb1".to_owned(), label.clone()), ("/dev/vdc1".to_owned(), other)]);
        assert_eq!(label.others(&both), ["/dev/vdc1"]);
    }

    #[test]
    fn labels_are_at_both_ends_in_whole_quarters_of_a_mebibyte() {
        let quarter = LABEL_BYTES;
        let starts = |size| places(size).iter().map(|place| place - LIST_AT).collect::<Vec<_>>();
        assert_eq!(starts((4 << 30) + 512), [0, quarter, (4 << 30) - 2 * quarter, (4 << 30) - quarter]);
        assert_eq!(starts(3 * quarter), [0, quarter, quarter * 2]);
        assert!(starts(quarter - 1).is_empty() && starts(0).is_empty());
    }

    #[test]
    fn a_log_device_and_a_label_at_the_end_that_was_left_are_read() {
        let log = Label::parse(include_str!("recorded/zdb-label-log.txt")).unwrap();
        assert_eq!((log.pool.as_str(), log.members.len()), ("tank", 1));
        let stale = Label::parse(include_str!("recorded/zdb-label-stale.txt")).unwrap();
        assert_eq!((stale.pool.as_str(), stale.pool_guid.as_str()), ("raw", "10495261652225277999"));
        assert!(stale.others(&BTreeMap::new()).is_empty());
    }

    #[test]
    fn no_label_is_no_label() {
        assert_eq!(Label::parse("failed to unpack label 0\nfailed to unpack label 1\n"), None);
        assert_eq!(Label::parse(""), None);
        assert_eq!(Label::parse("LABEL 0\n    name:\n    state: x\nvdev_tree:\npath: ''\n"), None);
    }

    #[test]
    fn datasets_are_counted_without_their_snapshots() {
        let (count, bytes) = datasets(include_str!("recorded/zdb-datasets.txt")).unwrap();
        assert_eq!(count, 4);
        assert!((20 << 20..22 << 20).contains(&bytes), "{bytes}");
        assert_eq!(datasets("zdb: can't open 'tank': No such file or directory\n"), None);
        assert_eq!(datasets("Dataset tank [ZPL], ID 1, cr_txg 1, 1Q, 2 objects\n"), None);
        assert_eq!((size("24.5K"), size("0"), size("x"), size("1e999M")), (Some(25088), Some(0), None, None));
    }
}
