//! What disko evaluates without complaint although it cannot be carried out, or would destroy something twice.

use super::model::{Content, DatasetKind, Devices, Group, Mode, Pool, Topology};
use super::size::{Place, place};
use super::walk::{Placed, Top};
use super::{DiskoError, names, node};
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
    names_are_unique(devices)?;
    tables_can_be_numbered(devices)?;
    members_belong_to_something(devices)?;
    nothing_is_made_of_itself(devices)?;
    containers_have_members(devices)?;
    mountpoints_are_unique(devices)?;
    super::at_boot::check(devices)
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

/// Every GPT of the layout, with the path of its partitions.
fn tables(devices: &Devices) -> impl Iterator<Item = (String, &super::Gpt)> {
    devices.contents().into_iter().filter_map(|placed| match placed.content {
        Content::Gpt(gpt) => Some((format!("{}.partitions", placed.path), gpt)),
        _ => None,
    })
}

fn nothing_after_the_rest(devices: &Devices) -> Result<(), DiskoError> {
    for (path, gpt) in tables(devices) {
        let all = |text: &str| place(text, 512) == Some(Place::Default);
        let Some(at) = gpt.partitions.iter().position(|p| all(&p.start) && all(&p.end)) else {
            continue;
        };
        let rest = gpt.partitions.get(at + 1..).unwrap_or_default();
        if let (Some(greedy), Some(late)) = (gpt.partitions.get(at), rest.first()) {
            let path = node::join(&path, &late.key);
            let what = format!("comes after “{}”, which takes all the remaining space", greedy.key);
            let remedy = format!("give “{}” a size or a higher priority number, so that it is made last", greedy.key);
            return Err(DiskoError::new(&path, what, remedy));
        }
    }
    Ok(())
}

fn labels_are_unique(devices: &Devices) -> Result<(), DiskoError> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (path, gpt) in tables(devices) {
        for partition in &gpt.partitions {
            let path = node::join(&path, &partition.key);
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

/// Pools, arrays, volume groups, volumes, and what LUKS opens are found by name.
fn names_are_unique(devices: &Devices) -> Result<(), DiskoError> {
    let mut seen = BTreeSet::new();
    let mut add = |kind: &str, name: &str, path: String| -> Result<(), DiskoError> {
        if seen.insert(format!("{kind} {name}")) {
            return Ok(());
        }
        Err(DiskoError::new(
            &path,
            format!("another {kind} has this name"),
            format!("give every {kind} a name of its own"),
        ))
    };
    for (key, pool) in &devices.pools {
        add("pool", &pool.name, Top::Pool(key).path())?;
    }
    for (key, array) in &devices.arrays {
        add("array", &array.name, Top::Array(key).path())?;
    }
    for (key, filesystem) in &devices.bcachefs {
        add("bcachefs", &filesystem.name, Top::Bcachefs(key).path())?;
    }
    for (key, group) in &devices.groups {
        add("volume group", &group.name, Top::Group(key).path())?;
        for volume in &group.volumes {
            let path = node::join(&format!("{}.lvs", Top::Group(key).path()), &volume.key);
            add("volume", &format!("{}/{}", group.name, volume.name), path.clone())?;
            if let Some(pool) = &volume.thin_pool {
                let is_pool =
                    |other: &super::LogicalVolume| other.name == *pool && other.kind.as_deref() == Some("thin-pool");
                if !group.volumes.iter().any(is_pool) {
                    let what = format!("there is no thin pool “{pool}” in the volume group");
                    let remedy = "define it with lvm_type = \"thin-pool\", or correct the name";
                    return Err(DiskoError::new(&format!("{path}.pool"), what, remedy));
                }
            }
        }
    }
    for placed in devices.contents() {
        if let Content::Luks(luks) = placed.content {
            add("LUKS device", &luks.name, format!("{}.name", placed.path))?;
        }
    }
    Ok(())
}

fn tables_can_be_numbered(devices: &Devices) -> Result<(), DiskoError> {
    for placed in devices.contents() {
        let Content::Table(table) = placed.content else {
            continue;
        };
        let filled = table.partitions.iter().any(|entry| entry.content.is_some());
        if filled && names::numbered(&placed.device, 1).is_none() {
            let what = format!("nobody knows how the kernel calls partitions of {}", placed.device);
            let remedy = "use a path that disko knows, such as /dev/sda or one in /dev/disk/by-id; or use gpt";
            return Err(DiskoError::new(&placed.path, what, remedy));
        }
    }
    Ok(())
}

fn members_belong_to_something(devices: &Devices) -> Result<(), DiskoError> {
    for placed in devices.contents() {
        let (field, kind, option, name) = match placed.content {
            Content::Zfs(member) => ("pool", "pool", "zpool", &member.pool),
            Content::Mdraid(member) => ("name", "array", "mdadm", &member.array),
            Content::LvmPv(member) => ("vg", "volume group", "lvm_vg", &member.group),
            Content::Bcachefs(member) => ("filesystem", "bcachefs", "bcachefs_filesystems", &member.filesystem),
            _ => continue,
        };
        if devices.joins(placed.content).is_none() {
            let what = format!("there is no {kind} “{name}” in the layout");
            let remedy = format!("define disko.devices.{option}.{name}, or correct the name");
            return Err(DiskoError::new(&format!("{}.{field}", placed.path), what, remedy));
        }
        if matches!((placed.content, placed.top), (Content::Zfs(_), Top::Pool(_))) {
            return Err(DiskoError::new(placed.place(), "a pool on a zvol deadlocks", "use a partition"));
        }
    }
    Ok(())
}

fn nothing_is_made_of_itself(devices: &Devices) -> Result<(), DiskoError> {
    if devices.order().is_some() {
        return Ok(());
    }
    let contents = devices.contents();
    let joins: Vec<(Top<'_>, Top<'_>, &Placed<'_>)> =
        contents.iter().filter_map(|placed| Some((placed.top, devices.joins(placed.content)?, placed))).collect();
    // Whoever follows the memberships from a node and comes back to it has found a circle.
    for (start, ..) in &joins {
        let (mut chain, mut at) = (vec![start.path()], *start);
        while let Some((_, next, placed)) = joins.iter().find(|(from, ..)| *from == at) {
            chain.push(next.path());
            if next == start {
                let what = format!("is made of itself: {}", chain.join(" → "));
                return Err(DiskoError::new(&placed.path, what, "take one of them out of the circle"));
            }
            if chain.len() > joins.len() + 1 {
                break;
            }
            at = *next;
        }
    }
    Err(DiskoError::new("", "arrays, volume groups or pools are made of each other in a circle", "break the circle"))
}

/// A device that belongs to a pool.
pub(crate) struct Member<'a> {
    /// Where it is.
    pub placed: Placed<'a>,
}

impl Devices {
    /// The members of a pool, in the order disko lists them.
    pub(crate) fn members(&self, pool: &Pool) -> Vec<Member<'_>> {
        let key = self.pools.iter().find(|(_, other)| other.name == pool.name).map(|(key, _)| key);
        let members = key.map(|key| self.members_of(Top::Pool(key))).unwrap_or_default();
        members.into_iter().map(|placed| Member { placed }).collect()
    }
}

impl Member<'_> {
    /// Whether a topology means this device: by its path, or by the name of the disk whose partition `zfs` it is.
    pub(crate) fn is(&self, given: &str) -> bool {
        let placed = &self.placed;
        if given.starts_with('/') {
            given == placed.disko_device || given == placed.device
        } else {
            placed.top == Top::Disk(given) && placed.partition == Some("zfs")
        }
    }
}

fn containers_have_members(devices: &Devices) -> Result<(), DiskoError> {
    for (key, pool) in &devices.pools {
        grouping(devices, pool, &Top::Pool(key).path())?;
    }
    for (key, array) in &devices.arrays {
        let least = match array.level {
            0 | 1 => 1,
            6 => 4,
            _ => 2,
        };
        let members = devices.members_of(Top::Array(key)).len();
        if members < least {
            let what = format!("has {members} members, and level {} needs at least {least}", array.level);
            let remedy =
                format!("add content = {{ type = \"mdraid\"; name = \"{}\"; }} to disks or partitions", array.name);
            return Err(DiskoError::new(&Top::Array(key).path(), what, remedy));
        }
    }
    for (key, group) in &devices.groups {
        // One without anything in it is not made at all.
        if devices.members_of(Top::Group(key)).is_empty() && !group.volumes.is_empty() {
            let remedy =
                format!("add content = {{ type = \"lvm_pv\"; vg = \"{}\"; }} to disks or partitions", group.name);
            return Err(DiskoError::new(&Top::Group(key).path(), "has no members", remedy));
        }
    }
    for key in devices.bcachefs.keys() {
        if devices.members_of(Top::Bcachefs(key)).is_empty() {
            let remedy =
                format!("add content = {{ type = \"bcachefs\"; filesystem = \"{key}\"; }} to disks or partitions");
            return Err(DiskoError::new(&Top::Bcachefs(key).path(), "has no members", remedy));
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
    let members = devices.members(pool);
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
            let what = format!("{} belongs to the pool, and no group names it", forgotten.placed.device);
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
    for placed in devices.contents() {
        match placed.content {
            Content::Filesystem(filesystem) => add(filesystem.mountpoint.as_deref(), placed.place().to_owned())?,
            Content::Btrfs(btrfs) => {
                add(btrfs.mountpoint.as_deref(), placed.place().to_owned())?;
                for subvolume in &btrfs.subvolumes {
                    let path = node::join(&format!("{}.subvolumes", placed.path), &subvolume.key);
                    add(subvolume.mountpoint.as_deref(), path)?;
                }
            }
            _ => {}
        }
    }
    for (key, pool) in &devices.pools {
        let path = format!("{}.datasets", Top::Pool(key).path());
        let mut names = BTreeSet::new();
        for dataset in &pool.datasets {
            let path = node::join(&path, &dataset.key);
            if !names.insert(&dataset.name) {
                let what = format!("another dataset is called {} too", dataset.name);
                return Err(DiskoError::new(&path, what, "give every dataset a name of its own"));
            }
            match dataset.kind {
                DatasetKind::Filesystem { .. } => add(dataset.mounted_at(), path.clone())?,
                DatasetKind::Volume { .. } => {}
            }
        }
    }
    for (key, filesystem) in &devices.bcachefs {
        let path = Top::Bcachefs(key).path();
        add(filesystem.mountpoint.as_deref(), path.clone())?;
        for (key, subvolume) in &filesystem.subvolumes {
            add(subvolume.mountpoint.as_deref(), node::join(&format!("{path}.subvolumes"), key))?;
        }
    }
    for (key, nodev) in &devices.nodev {
        add(nodev.mountpoint.as_deref(), Top::Nodev(key).path())?;
    }
    Ok(())
}

/// `/boot//` and `/boot` are one place.
pub(crate) fn normal(at: &str) -> String {
    let parts: Vec<&str> = at.split('/').filter(|part| !part.is_empty()).collect();
    format!("/{}", parts.join("/"))
}
