//! What `cygnet disks` tells: every disk of the Pi, what is on it now, and whether a plan may take it.
//!
//! Unlike [`crate::plan::DiskFacts`] nothing of this is covered by a digest, so it may hold what changes by itself: bytes
//! in use, health, mounts.

use crate::plan::human_bytes;
use serde::{Deserialize, Serialize};

/// All disks, in the kernel's order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskList {
    /// Every whole disk.
    pub disks: Vec<DiskReport>,
    /// What could not be looked at, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One whole disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskReport {
    /// The kernel's path: `/dev/sda`.
    pub path: String,
    /// Links below `/dev/disk/by-id`, sorted.
    pub by_id: Vec<String>,
    /// Links below `/dev/disk/by-path`, sorted.
    pub by_path: Vec<String>,
    /// Model as the disk reports it.
    pub model: Option<String>,
    /// Serial number as the disk reports it.
    pub serial: Option<String>,
    /// World-wide name.
    pub wwn: Option<String>,
    /// How it is attached: `usb`, `nvme`, `sata`, `mmc`, `virtio`, …
    pub bus: Option<String>,
    /// Size, bytes.
    pub size_bytes: u64,
    /// Logical sector size, bytes.
    pub logical_sector_bytes: u32,
    /// Physical sector size, bytes.
    pub physical_sector_bytes: u32,
    /// Removable medium.
    pub removable: bool,
    /// The kernel refuses writes.
    pub read_only: bool,
    /// The running system lives on it.
    pub is_running_disk: bool,
    /// What it says of its health.
    pub health: Health,
    /// What is on it.
    pub holds: Layer,
    /// Why no plan may take it; empty if one may.
    pub objections: Vec<String>,
    /// What to know before a plan takes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A disk's own judgement (SMART, or NVMe's health log).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Health {
    /// What it comes to.
    pub verdict: Verdict,
    /// Why it is not known, or what fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Temperature, degrees Celsius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub celsius: Option<i64>,
    /// Time it was powered on, hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<u64>,
    /// Rated endurance used up, percent; may go beyond 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worn_percent: Option<u64>,
}

/// What a disk thinks of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It expects to go on.
    Passed,
    /// It expects to fail.
    Failing,
    /// Nobody could ask it.
    #[default]
    Unknown,
}

/// A disk, a partition, or a device made of such, and what lies on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Layer {
    /// Device node.
    pub path: String,
    /// What lsblk(8) calls its type: `disk`, `part`, `crypt`, `lvm`, `raid1`, …
    pub kind: String,
    /// Size, bytes.
    pub size_bytes: u64,
    /// Name of the partition in its table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What its first and last blocks say it is; several if an old signature was left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contents: Vec<Content>,
    /// Where it is mounted; `[SWAP]` for active swap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<String>,
    /// What lies on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Layer>,
}

/// What a device holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Content {
    /// A partition table.
    Table {
        /// `gpt` or `dos`.
        format: String,
        /// Number of partitions that the kernel sees.
        partitions: u64,
    },
    /// A filesystem.
    Filesystem {
        /// Such as `ext4`.
        format: String,
        /// Label.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
        /// Bytes in use, where it tells without being mounted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        used_bytes: Option<u64>,
        /// Size of the filesystem, bytes, where it tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total_bytes: Option<u64>,
        /// Other devices of the same filesystem.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        others: Vec<String>,
    },
    /// Swap space.
    Swap {
        /// Label.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// A member of a ZFS pool.
    Pool {
        /// Name of the pool.
        name: String,
        /// Its GUID.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        guid: Option<String>,
        /// `active` (never exported), `exported`, `destroyed`, `imported` (here and now), or what zdb(8) says.
        state: String,
        /// Host that used it last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// Its other members: where they are now, or where they were last.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        others: Vec<String>,
        /// Filesystems and volumes, without snapshots.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        datasets: Option<u64>,
        /// What these refer to, bytes; snapshots not counted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        used_bytes: Option<u64>,
    },
    /// A member of an md array.
    Raid {
        /// Name of the array, with the host it belongs to: `nas:0`.
        name: String,
        /// Such as `raid1`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        level: Option<String>,
        /// How many members it has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        devices: Option<u64>,
        /// Its other members that are here.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        others: Vec<String>,
    },
    /// An LVM physical volume.
    Lvm {
        /// The volume group, if it is in one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        /// Logical volumes of the group.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        volumes: Option<u64>,
        /// Its other physical volumes.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        others: Vec<String>,
    },
    /// A LUKS volume.
    Luks {
        /// 1 or 2.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        /// Label.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// A bcache device.
    Bcache,
    /// Something else that blkid(8) knows.
    Other {
        /// Its name for it.
        format: String,
        /// Label.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
}

fn quoted(label: Option<&String>) -> String {
    label.map(|label| format!(" “{label}”")).unwrap_or_default()
}

fn with_others(words: String, what: &str, others: &[String]) -> String {
    match others {
        [] => words,
        [one] => format!("{words} (other {what}: {one})"),
        several => format!("{words} (other {what}s: {})", several.join(", ")),
    }
}

fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

impl Content {
    /// What it is, in words, and what of it would be lost.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Table { format, partitions } => {
                let format = if format == "dos" { "MBR" } else { format };
                format!("{} partition table with {}", format.to_uppercase(), count(*partitions, "partition"))
            }
            Self::Filesystem { format, label, used_bytes, total_bytes, others } => {
                let used = match (used_bytes, total_bytes) {
                    (Some(used), Some(total)) => format!(", {} in use of {}", human_bytes(*used), human_bytes(*total)),
                    (Some(used), None) => format!(", {} in use", human_bytes(*used)),
                    (None, _) => String::new(),
                };
                with_others(format!("{format}{}{used}", quoted(label.as_ref())), "device", others)
            }
            Self::Swap { label } => format!("swap{}", quoted(label.as_ref())),
            Self::Pool { name, state, host, others, datasets, used_bytes, .. } => {
                let mut words = format!("member of the ZFS pool {name}");
                match state.as_str() {
                    "imported" => words.push_str(", imported now"),
                    "destroyed" => words.push_str(", destroyed"),
                    _ => {}
                }
                if let Some(host) = host {
                    words.push_str(&format!(", last used by host {host}"));
                }
                words.extend(datasets.map(|datasets| format!(", {}", count(datasets, "dataset"))));
                words.extend(used_bytes.map(|used| format!(", {} in use", human_bytes(used))));
                with_others(words, "member", others)
            }
            Self::Raid { name, level, devices, others } => {
                let about: Vec<String> =
                    level.iter().cloned().chain(devices.map(|devices| format!("of {devices}"))).collect();
                let about = if about.is_empty() { String::new() } else { format!(", {}", about.join(" ")) };
                with_others(format!("member of RAID {name}{about}"), "member", others)
            }
            Self::Lvm { group: None, .. } => "LVM physical volume in no volume group".to_owned(),
            Self::Lvm { group: Some(group), volumes, others } => {
                let volumes = volumes.map(|volumes| format!(", {}", count(volumes, "volume"))).unwrap_or_default();
                with_others(format!("LVM volume group {group}{volumes}"), "member", others)
            }
            Self::Luks { version, label } => {
                format!("LUKS{} volume{}", version.as_deref().unwrap_or_default(), quoted(label.as_ref()))
            }
            Self::Bcache => "bcache device".to_owned(),
            Self::Other { format, label } => format!("{format}{}", quoted(label.as_ref())),
        }
    }

    /// The group it belongs to and that group's members on other devices, if losing this one harms them.
    #[must_use]
    pub fn shared(&self) -> Option<(String, &[String])> {
        let (what, others) = match self {
            Self::Pool { name, state, others, .. } if state != "destroyed" => (format!("the ZFS pool {name}"), others),
            Self::Raid { name, others, .. } => (format!("the RAID {name}"), others),
            Self::Lvm { group: Some(group), others, .. } => (format!("the volume group {group}"), others),
            Self::Filesystem { format, label, others, .. } => {
                (format!("the {format} filesystem{}", quoted(label.as_ref())), others)
            }
            _ => return None,
        };
        if others.is_empty() { None } else { Some((what, others)) }
    }
}

impl Layer {
    /// One line for everything that is on this device and above, with its path.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let name = self.name.as_ref().map(|name| format!(" “{name}”")).unwrap_or_default();
        let mut lines: Vec<String> =
            self.contents.iter().map(|content| format!("{}{name}: {}", self.path, content.words())).collect();
        if lines.is_empty() && self.kind == "part" {
            lines.push(format!("{}{name}: nothing known, {}", self.path, human_bytes(self.size_bytes)));
        }
        lines.extend(self.children.iter().flat_map(Self::words));
        lines
    }

    /// This layer and all above it.
    pub fn walk(&self) -> impl Iterator<Item = &Self> {
        let mut stack = vec![self];
        std::iter::from_fn(move || {
            let next = stack.pop()?;
            stack.extend(next.children.iter().rev());
            Some(next)
        })
    }
}
