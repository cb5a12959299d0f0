//! Whether the system to install fits where `/nix/store` will be, and how much room is left there.

use super::gpt::Extent;
use super::mounting::{Backing, Tree};
use super::refusal::Refusal;
use super::{DiskFacts, Options};
use crate::disko::{Devices, Disk, Mode, Origin, Pool};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The room where `/nix/store` will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSpace {
    /// What holds it: a device, or “the pool NAME”.
    pub holder: String,
    /// Where that is mounted in the installed system.
    pub mountpoint: String,
    /// Its size in bytes, before the file system's own data.
    pub size_bytes: u64,
    /// What the system needs there in bytes, [`space_needed`]; unknown if no system was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_bytes: Option<u64>,
    /// What is left in bytes when the system is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
}

/// Bytes a system of this NAR size needs: itself, a tenth for metadata and blocks half used, and 64 MiB for its database
/// and logs.
#[must_use]
pub fn space_needed(nar_size: u64) -> u64 {
    nar_size.saturating_add(nar_size / 10).saturating_add(64 << 20)
}

/// Disks and where their partitions will be.
pub(super) struct Sizes<'a> {
    /// By name.
    pub targets: &'a BTreeMap<&'a str, (&'a Disk, &'a DiskFacts)>,
    /// By name of the disk.
    pub extents: &'a BTreeMap<&'a str, Vec<Extent>>,
}

impl Sizes<'_> {
    fn disk(&self, name: &str) -> u64 {
        self.targets.get(name).map_or(0, |(_, facts)| facts.size_bytes)
    }

    fn partition(&self, name: &str, index: usize) -> u64 {
        let sector = self.targets.get(name).map_or(512, |(_, facts)| facts.logical_sector_bytes);
        self.extents.get(name).and_then(|extents| extents.get(index)).map_or(0, |extent| extent.bytes(sector))
    }

    /// The size of what lies there; unknown for what is still to be made.
    pub(super) fn origin(&self, origin: Origin<'_>) -> Option<u64> {
        match origin {
            Origin::Disk(disk) => Some(self.disk(disk)),
            Origin::Partition(disk, index) => Some(self.partition(disk, index)),
            Origin::Elsewhere => None,
        }
    }

    /// What a pool can hold, before its own metadata; unknown if a member's size is.
    fn pool(&self, devices: &Devices, pool: &Pool) -> Option<u64> {
        let members = devices.members(pool);
        let sizes: Option<Vec<u64>> = members.iter().map(|member| self.origin(member.placed.origin)).collect();
        let sizes = sizes?;
        let size = |device: &str| -> u64 {
            let found = members.iter().zip(&sizes).find(|(member, _)| member.is(device));
            found.map_or(0, |(_, size)| *size)
        };
        let group = |mode: Option<&str>, sizes: Vec<u64>| -> u64 {
            let least = sizes.iter().min().copied().unwrap_or(0);
            let count = sizes.len() as u64;
            match mode {
                None => sizes.iter().fold(0, |sum, size| sum.saturating_add(*size)),
                Some("mirror") => least,
                Some("raidz2") => least.saturating_mul(count.saturating_sub(2)),
                Some("raidz3") => least.saturating_mul(count.saturating_sub(3)),
                Some(_) => least.saturating_mul(count.saturating_sub(1)),
            }
        };
        Some(match &pool.mode {
            Mode::Simple(mode) => group(mode.as_deref(), sizes.clone()),
            Mode::Topology(topology) => topology.vdev.iter().fold(0, |sum, vdev| {
                let sizes = vdev.members.iter().map(|member| size(member)).collect();
                sum.saturating_add(group(vdev.mode.as_deref(), sizes))
            }),
        })
    }
}

/// Refuses a layout that has no root, keeps the store in memory, or has too little room for it. Answers with the room
/// there is, where that can be known.
pub(super) fn check(
    devices: &Devices,
    tree: &Tree<'_>,
    sizes: &Sizes<'_>,
    options: &Options,
) -> Result<Option<StoreSpace>, Refusal> {
    if tree.mounts.is_empty() && !devices.disks.is_empty() {
        return Err(Refusal::NothingMounted);
    }
    if !options.require_root {
        return Ok(None);
    }
    if !tree.mounts.iter().any(|mounted| crate::disko::normal(mounted.at) == "/") {
        return Err(Refusal::NoRoot);
    }
    let mut place = "/nix/store".to_owned();
    // Each bind mount leads to another place; more hops than mounts would be a circle.
    for _ in 0..=tree.mounts.len() {
        let below =
            |at: &str| at == "/" || place == at || place.strip_prefix(at).is_some_and(|rest| rest.starts_with('/'));
        let holds = |at: &str| below(&crate::disko::normal(at));
        let holder = tree.mounts.iter().filter(|mounted| holds(mounted.at)).max_by_key(|mounted| mounted.at.len());
        let Some(mounted) = holder else {
            return Err(Refusal::NoRoot);
        };
        let (store, available) = match &mounted.backing {
            Backing::Memory => {
                return Err(Refusal::StoreInMemory { mountpoint: mounted.at.to_owned() });
            }
            Backing::Bind(source) => {
                let at = crate::disko::normal(mounted.at);
                let rest = place.strip_prefix(&at).unwrap_or(&place).to_owned();
                place = crate::disko::normal(&format!("{source}/{rest}"));
                continue;
            }
            // How much room there is cannot be known here.
            Backing::Elsewhere => return Ok(None),
            Backing::Device(origin) => match sizes.origin(*origin) {
                Some(size) => (mounted.source.clone(), size),
                None => return Ok(None),
            },
            Backing::Pool(key) => {
                match devices.pools.get(*key).and_then(|pool| Some((pool, sizes.pool(devices, pool)?))) {
                    Some((pool, size)) => (format!("the pool {}", pool.name), size),
                    None => return Ok(None),
                }
            }
        };
        let needed = options.closure_nar_size.map(space_needed);
        return match needed {
            Some(needed) if needed > available => Err(Refusal::ClosureTooBig { store, available, needed }),
            _ => Ok(Some(StoreSpace {
                holder: store,
                mountpoint: crate::disko::normal(mounted.at),
                size_bytes: available,
                system_bytes: needed,
                free_bytes: needed.map(|needed| available - needed),
            })),
        };
    }
    Err(Refusal::NoRoot)
}
