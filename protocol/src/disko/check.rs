//! What disko evaluates without complaint although it cannot be carried out, or would destroy something twice.

use super::model::{Content, DatasetKind, Devices, Group, Mode, Pool, Topology};
use super::size::{Place, place};
use super::{DiskoError, node};
use std::collections::{BTreeMap, BTreeSet};

/// Runs every check; the first finding is the error.
pub(super) fn check(devices: &Devices) -> Result<(), DiskoError> {
    if devices.disks.is_empty() {
        let remedy = "import your disko configuration, and define disko.devices.disk";
        return Err(DiskoError::new("disk", "no disks are defined", remedy));
    }
    one_device_per_disk(devices)?;
    nothing_after_the_rest(devices)?;
    labels_are_unique(devices)?;
    pools_have_members(devices)?;
    mountpoints_are_unique(devices)
}

fn one_device_per_disk(devices: &Devices) -> Result<(), DiskoError> {
    let mut seen = BTreeMap::new();
    for (name, disk) in &devices.disks {
        if let Some(other) = seen.insert(&disk.device, name) {
            let what = format!("{} is also the device of disk “{other}”", disk.device);
            return Err(DiskoError::new(
                &format!("{}.device", node::join("disk", name)),
                what,
                "give every disk a device of its own",
            ));
        }
    }
    Ok(())
}

fn nothing_after_the_rest(devices: &Devices) -> Result<(), DiskoError> {
    for (name, disk) in &devices.disks {
        let Content::Gpt(gpt) = &disk.content else {
            continue;
        };
        let all = |text: &str| place(text, 512) == Some(Place::Default);
        let Some(at) = gpt.partitions.iter().position(|p| all(&p.start) && all(&p.end)) else {
            continue;
        };
        let rest = gpt.partitions.get(at + 1..).unwrap_or_default();
        if let (Some(greedy), Some(late)) = (gpt.partitions.get(at), rest.first()) {
            let path = node::join(&format!("{}.content.partitions", node::join("disk", name)), &late.key);
            let what = format!("comes after “{}”, which takes all the remaining space", greedy.key);
            let remedy = format!("give “{}” a size or a higher priority number, so that it is made last", greedy.key);
            return Err(DiskoError::new(&path, what, remedy));
        }
    }
    Ok(())
}

fn labels_are_unique(devices: &Devices) -> Result<(), DiskoError> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (name, disk) in &devices.disks {
        let Content::Gpt(gpt) = &disk.content else {
            continue;
        };
        for partition in &gpt.partitions {
            let path = node::join(&format!("{}.content.partitions", node::join("disk", name)), &partition.key);
            // Two labels may differ and still get one link, hence the path; equal labels with distinct UUIDs are confusing
            // but work, unless nothing but the label tells them apart.
            if let Some(other) = seen.insert(partition.device.clone(), path.clone()) {
                let what = format!("would be found under {}, and so would {other}", partition.device);
                return Err(DiskoError::new(&path, what, "give every partition a label (and uuid) of its own"));
            }
        }
    }
    Ok(())
}

/// Members of pool `name` as (device path as the layout spells it, our path, disk, partition), in disko's order.
fn members<'a>(devices: &'a Devices, name: &str) -> Vec<Member<'a>> {
    let mut found = Vec::new();
    for (disk_name, disk) in &devices.disks {
        match &disk.content {
            Content::Zfs(member) if member.pool == name => {
                found.push(Member {
                    device: &disk.device,
                    disko_device: &disk.device,
                    disk: disk_name,
                    partition: None,
                });
            }
            Content::Gpt(gpt) => {
                for partition in &gpt.partitions {
                    if matches!(&partition.content, Some(Content::Zfs(member)) if member.pool == name) {
                        found.push(Member {
                            device: &partition.device,
                            disko_device: &partition.disko_device,
                            disk: disk_name,
                            partition: Some(&partition.key),
                        });
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// A device that belongs to a pool.
pub(crate) struct Member<'a> {
    /// The path udev makes.
    pub device: &'a str,
    /// The path disko writes.
    pub disko_device: &'a str,
    /// Disk it is on.
    pub disk: &'a str,
    /// Partition it is, unless it is the whole disk.
    pub partition: Option<&'a str>,
}

impl Devices {
    /// The members of a pool, in the order disko lists them: by disk, then by partition number.
    pub(crate) fn members(&self, pool: &str) -> Vec<Member<'_>> {
        members(self, pool)
    }
}

impl Member<'_> {
    /// Whether a topology means this device: by its path, or by the name of the disk whose partition `zfs` it is.
    pub(crate) fn is(&self, given: &str) -> bool {
        if given.starts_with('/') {
            given == self.disko_device || given == self.device
        } else {
            given == self.disk && self.partition == Some("zfs")
        }
    }
}

fn pools_have_members(devices: &Devices) -> Result<(), DiskoError> {
    let mut names = BTreeSet::new();
    for (key, pool) in &devices.pools {
        if !names.insert(pool.name.as_str()) {
            return Err(DiskoError::new(
                &node::join("zpool", key),
                "another pool has this name",
                "give every pool a name of its own",
            ));
        }
    }
    for (name, disk) in &devices.disks {
        let here = |path: String, content: &Content| match content {
            Content::Zfs(member) if !names.contains(member.pool.as_str()) => {
                let what = format!("there is no pool “{}” in the layout", member.pool);
                let remedy = format!("define disko.devices.zpool.{}, or correct the name", member.pool);
                Err(DiskoError::new(&path, what, remedy))
            }
            _ => Ok(()),
        };
        let path = format!("{}.content", node::join("disk", name));
        match &disk.content {
            Content::Gpt(gpt) => {
                for partition in &gpt.partitions {
                    let path = node::join(&format!("{path}.partitions"), &partition.key);
                    partition.content.iter().try_for_each(|content| here(format!("{path}.content.pool"), content))?;
                }
            }
            content => here(format!("{path}.pool"), content)?,
        }
    }
    for (key, pool) in &devices.pools {
        grouping(devices, pool, &node::join("zpool", key))?;
        for dataset in &pool.datasets {
            let DatasetKind::Volume { content: Some(content), .. } = &dataset.kind else {
                continue;
            };
            if matches!(**content, Content::Zfs(_)) {
                let path = node::join(&format!("{}.datasets", node::join("zpool", key)), &dataset.key);
                return Err(DiskoError::new(&path, "a pool on a zvol deadlocks", "use a partition"));
            }
        }
    }
    Ok(())
}

fn enough(path: &str, mode: Option<&str>, members: usize) -> Result<(), DiskoError> {
    let least = match mode {
        None => 1,
        Some("mirror" | "raidz" | "raidz1") => 2,
        Some("raidz2") => 3,
        Some(_) => 4,
    };
    if members >= least {
        return Ok(());
    }
    let mode = mode.unwrap_or("a pool");
    let what = format!("has {members} members, and {mode} needs at least {least}");
    Err(DiskoError::new(path, what, "add partitions with content = { type = \"zfs\"; pool = …; }"))
}

fn grouping(devices: &Devices, pool: &Pool, path: &str) -> Result<(), DiskoError> {
    let members = members(devices, &pool.name);
    let topology = match &pool.mode {
        Mode::Simple(mode) => return enough(path, mode.as_deref(), members.len()),
        Mode::Topology(topology) => topology,
    };
    let Topology { vdev, spare, log, dedup, special, cache } = topology;
    let path = format!("{path}.mode.topology");
    if vdev.is_empty() {
        return Err(DiskoError::new(&path, "has no vdev", "name at least one group in vdev"));
    }
    let groups: Vec<&Group> = [vdev, log, dedup, special].into_iter().flatten().collect();
    for group in &groups {
        enough(&path, group.mode.as_deref(), group.members.len())?;
    }
    let named: Vec<&String> = groups.iter().map(|group| &group.members).chain([spare, cache]).flatten().collect();
    for name in &named {
        let times = named.iter().filter(|other| *other == name).count();
        let matching = members.iter().filter(|member| member.is(name)).count();
        if times != 1 || matching != 1 {
            let what = format!("“{name}” is named {times} times, and {matching} members of the pool answer to it");
            let remedy = "name each zfs partition of the pool once, by its device path or its disk's name";
            return Err(DiskoError::new(&path, what, remedy));
        }
    }
    match members.iter().find(|member| !named.iter().any(|name| member.is(name))) {
        None => Ok(()),
        Some(forgotten) => {
            let what = format!("{} belongs to the pool, and no group names it", forgotten.device);
            Err(DiskoError::new(&path, what, "name it in vdev, spare, log, dedup, special or cache"))
        }
    }
}

fn mountpoints_are_unique(devices: &Devices) -> Result<(), DiskoError> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut add = |at: Option<&str>, path: String| -> Result<(), DiskoError> {
        let Some(at) = at else { return Ok(()) };
        match seen.insert(normal(at), path.clone()) {
            None => Ok(()),
            Some(other) => {
                let what = format!("is mounted at {at}, and so is {other}");
                Err(DiskoError::new(&path, what, "give every filesystem a mountpoint of its own"))
            }
        }
    };
    let content_at = |content: &Content| match content {
        Content::Filesystem(filesystem) => filesystem.mountpoint.clone(),
        _ => None,
    };
    for (name, disk) in &devices.disks {
        let path = format!("{}.content", node::join("disk", name));
        match &disk.content {
            Content::Gpt(gpt) => {
                for partition in &gpt.partitions {
                    let at = partition.content.as_ref().and_then(content_at);
                    add(at.as_deref(), node::join(&format!("{path}.partitions"), &partition.key))?;
                }
            }
            content => add(content_at(content).as_deref(), path)?,
        }
    }
    for (key, pool) in &devices.pools {
        let path = format!("{}.datasets", node::join("zpool", key));
        let mut names = BTreeSet::new();
        for dataset in &pool.datasets {
            let path = node::join(&path, &dataset.key);
            if !names.insert(&dataset.name) {
                let what = format!("another dataset is called {} too", dataset.name);
                return Err(DiskoError::new(&path, what, "give every dataset a name of its own"));
            }
            add(dataset.mounted_at(), path.clone())?;
            if let DatasetKind::Volume { content: Some(content), .. } = &dataset.kind {
                add(content_at(content).as_deref(), path)?;
            }
        }
    }
    for (key, nodev) in &devices.nodev {
        add(nodev.mountpoint.as_deref(), node::join("nodev", key))?;
    }
    Ok(())
}

/// `/boot//` and `/boot` are one place.
pub(crate) fn normal(at: &str) -> String {
    let parts: Vec<&str> = at.split('/').filter(|part| !part.is_empty()).collect();
    format!("/{}", parts.join("/"))
}
