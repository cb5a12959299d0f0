//! What the agent saw of a disk: who it is, how big it is, and what would be lost.
//!
//! The agent fills this from `lsblk --json --bytes -O`, the links under `/dev/disk`, and its own mount table. Nothing here
//! is decided: facts go in, [`super::compile`] judges them, and every one of them is covered by the plan's digest.

use serde::{Deserialize, Serialize};

/// One whole disk of the machine, whether the layout names it or not.
///
/// Give [`super::compile`] the facts of *every* disk: those the layout does not name are the candidates an error
/// offers, and are searched for partition labels that would collide with ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskFacts {
    /// Paths the layout uses for this disk, each resolved by the agent (`readlink -f`) to [`Self::kernel_path`].
    /// Paths listed in [`Self::links`] need not be repeated here.
    #[serde(default)]
    pub requested: Vec<String>,
    /// The kernel's own path, such as `/dev/sda` or `/dev/nvme0n1`.
    pub kernel_path: String,
    /// Every link under `/dev/disk/` that leads to the whole disk, sorted.
    #[serde(default)]
    pub links: Vec<String>,
    /// Model name as the disk reports it.
    #[serde(default)]
    pub model: Option<String>,
    /// Serial number as the disk reports it.
    #[serde(default)]
    pub serial: Option<String>,
    /// World-wide name, if it has one.
    #[serde(default)]
    pub wwn: Option<String>,
    /// How it is attached: `usb`, `nvme`, `sata`, `mmc`, `virtio`, …
    #[serde(default)]
    pub bus: Option<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical sector size in bytes: 512, or 4096 on "4Kn" disks.
    pub logical_sector_bytes: u32,
    /// The kernel refuses writes.
    #[serde(default)]
    pub read_only: bool,
    /// Removable medium.
    #[serde(default)]
    pub removable: bool,
    /// The running system (the card) lives on it.
    #[serde(default)]
    pub is_running_disk: bool,
    /// What uses it now, in words: mounts, active swap, holders, imported pools (which `lsblk` does not show as holders).
    #[serde(default)]
    pub in_use: Vec<String>,
    /// What is on it now, in words, for the person who confirms.
    #[serde(default)]
    pub contents: Vec<String>,
    /// What identifies its present contents.
    #[serde(default)]
    pub fingerprint: Fingerprint,
}

impl DiskFacts {
    /// A disk of this many bytes with nothing on it, as which a layout can be looked at without any machine.
    #[must_use]
    pub fn blank(device: &str, bytes: u64) -> Self {
        Self {
            kernel_path: device.to_owned(),
            model: Some("blank disk".to_owned()),
            size_bytes: bytes,
            logical_sector_bytes: 512,
            ..Self::default()
        }
    }
}

/// What identifies the present contents of a disk, as `blkid` tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// UUID of the partition table (`PTUUID`).
    #[serde(default)]
    pub partition_table_uuid: Option<String>,
    /// Signature on the whole disk (`TYPE`), when it has no partition table.
    #[serde(default)]
    pub fstype: Option<String>,
    /// `UUID` of that signature.
    #[serde(default)]
    pub uuid: Option<String>,
    /// `LABEL` of that signature.
    #[serde(default)]
    pub label: Option<String>,
    /// Partitions, in table order.
    #[serde(default)]
    pub partitions: Vec<PartitionFacts>,
}

impl Fingerprint {
    /// Nothing recognisable is on the disk.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.partition_table_uuid.is_none() && self.fstype.is_none() && self.partitions.is_empty()
    }

    /// Whether all there is was there `before`, too; a new table without partitions counts as nothing. So is a disk whose
    /// contents were being removed when that was interrupted, and no other disk that only calls itself the same.
    #[must_use]
    pub fn is_rest_of(&self, before: &Self) -> bool {
        let table = self.partitions.is_empty() || self.partition_table_uuid == before.partition_table_uuid;
        let signature = self.fstype.is_none() || (&self.fstype, &self.uuid) == (&before.fstype, &before.uuid);
        let known = |now: &PartitionFacts| {
            before.partitions.iter().any(|old| {
                (old.start, old.size_bytes, &old.part_uuid) == (now.start, now.size_bytes, &now.part_uuid)
                    && (now.fstype.is_none() || (&now.fstype, &now.uuid) == (&old.fstype, &old.uuid))
            })
        };
        table && signature && self.partitions.iter().all(known)
    }
}

/// One partition that exists now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionFacts {
    /// Kernel path, such as `/dev/sda1`.
    pub path: String,
    /// First sector, in units of 512 bytes as sysfs counts.
    pub start: u64,
    /// Size in bytes.
    pub size_bytes: u64,
    /// `PARTUUID`.
    #[serde(default)]
    pub part_uuid: Option<String>,
    /// `PARTLABEL`, decoded.
    #[serde(default)]
    pub part_label: Option<String>,
    /// `TYPE` of the signature inside, such as `ext4`, `swap`, `zfs_member`.
    #[serde(default)]
    pub fstype: Option<String>,
    /// `UUID` of that signature.
    #[serde(default)]
    pub uuid: Option<String>,
    /// `LABEL` of that signature (for `zfs_member`: the pool's name).
    #[serde(default)]
    pub label: Option<String>,
}

/// Bytes in the unit a person reads: `512 MiB`, `1.8 TiB`. Exact multiples have no fraction.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut size = 1_u64;
    while unit + 1 < UNITS.len() && bytes / size >= 1024 {
        size *= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("bytes");
    if bytes.is_multiple_of(size) {
        return format!("{} {name}", bytes / size);
    }
    let tenths = (u128::from(bytes) * 10 + u128::from(size) / 2) / u128::from(size);
    match tenths % 10 {
        0 => format!("{} {name}", tenths / 10),
        tenth => format!("{}.{tenth} {name}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::{Fingerprint, PartitionFacts, human_bytes};

    #[test]
    fn what_is_left_of_a_disk_is_known_again_and_another_disk_is_not() {
        let partition = |start, fstype: Option<&str>, uuid: &str| PartitionFacts {
            start,
            size_bytes: 1 << 30,
            part_uuid: Some(format!("part-{start}")),
            fstype: fstype.map(str::to_owned),
            uuid: fstype.map(|_| uuid.to_owned()),
            ..PartitionFacts::default()
        };
        let table = |uuid: &str, partitions: Vec<PartitionFacts>| Fingerprint {
            partition_table_uuid: Some(uuid.to_owned()),
            partitions,
            ..Fingerprint::default()
        };
        let before = table("t", vec![partition(2048, Some("ext4"), "u"), partition(4096, None, "")]);
        assert!(before.is_rest_of(&before) && Fingerprint::default().is_rest_of(&before));
        assert!(table("t", vec![partition(2048, None, "")]).is_rest_of(&before));
        assert!(table("new", Vec::new()).is_rest_of(&before));
        assert!(!table("other", vec![partition(2048, Some("ext4"), "u")]).is_rest_of(&before));
        assert!(!table("t", vec![partition(2048, Some("ext4"), "another")]).is_rest_of(&before));
        assert!(!table("t", vec![partition(8192, None, "")]).is_rest_of(&before));
        let whole = Fingerprint { fstype: Some("ext4".into()), uuid: Some("u".into()), ..Fingerprint::default() };
        assert!(!whole.is_rest_of(&before) && whole.is_rest_of(&whole));
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(human_bytes(0), "0 bytes");
        assert_eq!(human_bytes(512 << 20), "512 MiB");
        assert_eq!(human_bytes(32 << 30), "32 GiB");
        assert_eq!(human_bytes(1_000_204_886_016), "931.5 GiB");
        assert_eq!(human_bytes(u64::MAX), "16384 PiB");
    }
}
