//! disko's types, field by field: pools and datasets.

use super::model::{Dataset, DatasetKind, Group, Mode, Pool, Topology};
use super::node::Node;
use super::properties::{self, Owner};
use super::read::{Ground, content, expect_type, mount_options, mounting};
use super::{DiskoError, names};
use std::collections::BTreeMap;

fn properties(node: &mut Node, key: &str, owner: Owner) -> Result<BTreeMap<String, String>, DiskoError> {
    let map = node.string_map(key)?;
    match map.keys().find(|name| !names::is_property(name)) {
        None => properties::check(&node.at(key), owner, &map).map(|()| map),
        Some(name) => {
            let path = super::node::join(&node.at(key), name);
            Err(DiskoError::new(&path, "is not a property name", "see zfsprops(7) and zpoolprops(7)"))
        }
    }
}

/// One member of `zpool`.
pub(super) fn pool(_: &str, mut node: Node) -> Result<Pool, DiskoError> {
    let hooks = node.hooks()?;
    expect_type(&mut node, "zpool")?;
    let name = node.string("name")?;
    names::pool(&node.at("name"), &name)?;
    let mode = match node.string_or_child("mode")? {
        Ok(word) => Mode::Simple(vdev_mode(&node.at("mode"), word)?),
        Err(mut outer) => {
            let topology = topology(outer.child("topology")?)?;
            outer.finish()?;
            Mode::Topology(topology)
        }
    };
    let options = properties(&mut node, "options", Owner::Pool)?;
    let root_options = properties(&mut node, "rootFsOptions", Owner::Root)?;
    // The implicit dataset `__root` repeats these two, and disko acts on that one.
    let (_, _) = mounting(&mut node, false)?;
    let datasets = node
        .members("datasets")?
        .into_iter()
        .map(|(key, member)| dataset(&name, key, member))
        .collect::<Result<_, _>>()?;
    node.finish()?;
    Ok(Pool { name, mode, options, root_options, datasets, hooks })
}

fn vdev_mode(path: &str, word: String) -> Result<Option<String>, DiskoError> {
    match word.as_str() {
        "" => Ok(None),
        "mirror" | "raidz" | "raidz1" | "raidz2" | "raidz3" => Ok(Some(word)),
        _ => Err(DiskoError::new(
            path,
            format!("“{word}” is not a way to group pool members"),
            "use mirror, raidz, raidz1, raidz2, raidz3, or nothing",
        )),
    }
}

fn topology(mut node: Node) -> Result<Topology, DiskoError> {
    expect_type(&mut node, "topology")?;
    let groups = |node: &mut Node, key: &str| -> Result<Vec<Group>, DiskoError> {
        node.children_list(key)?
            .into_iter()
            .map(|mut group| {
                let mode = group.string("mode")?;
                let mode = vdev_mode(&group.at("mode"), mode)?;
                let members = group.strings("members")?;
                group.finish()?;
                Ok(Group { mode, members })
            })
            .collect()
    };
    let topology = Topology {
        vdev: groups(&mut node, "vdev")?,
        spare: node.strings("spare")?,
        log: groups(&mut node, "log")?,
        dedup: groups(&mut node, "dedup")?,
        special: groups(&mut node, "special")?,
        cache: node.strings("cache")?,
    };
    node.finish()?;
    Ok(topology)
}

fn dataset(pool: &str, key: String, mut node: Node) -> Result<Dataset, DiskoError> {
    let hooks = node.hooks()?;
    let kind = node.string("type")?;
    let short = node.string("name")?;
    let owner = if kind == "zfs_volume" { Owner::Volume } else { Owner::Filesystem };
    let options = properties(&mut node, "options", owner)?;
    match kind.as_str() {
        "zfs_fs" => {
            let name = node.string("_name")?;
            let create = node.boolean("_createFilesystem")?;
            let expected = if create { format!("{pool}/{short}") } else { pool.to_owned() };
            if name != expected {
                let what = format!("is “{name}”, and should be “{expected}”");
                return Err(node.error("_name", what, "do not edit disko's JSON"));
            }
            names::dataset(node.path(), &name)?;
            let (mountpoint, mount_options) = mounting(&mut node, false)?;
            node.finish()?;
            let kind = DatasetKind::Filesystem { create, mountpoint, mount_options };
            Ok(Dataset { key, name, options, kind, hooks })
        }
        "zfs_volume" => {
            let name = format!("{pool}/{short}");
            names::dataset(node.path(), &name)?;
            let Some(size) = node.optional_string("size")? else {
                return Err(node.error("size", "is null", "give the volume a size, such as 10G"));
            };
            if !is_volume_size(&size) {
                let what = format!("“{size}” is not a size zfs(8) accepts");
                return Err(node.error("size", what, "write a number and K, M, G or T, such as 10G"));
            }
            let arguments = node.strings("extraArgs")?;
            mount_options(&mut node, false)?;
            let device = format!("/dev/zvol/{name}");
            let content =
                node.optional_child("content")?.map(|node| content(node, &Ground::part(device))).transpose()?;
            node.finish()?;
            let kind = DatasetKind::Volume { size, arguments, content: content.map(Box::new) };
            Ok(Dataset { key, name, options, kind, hooks })
        }
        other => {
            let what = format!("“{other}” is not a kind of dataset");
            Err(node.error("type", what, "use zfs_fs or zfs_volume"))
        }
    }
}

fn is_volume_size(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(number.len()..).unwrap_or_default().to_ascii_uppercase();
    let digits = |part: &str| !part.is_empty() && part.len() < 19 && part.bytes().all(|c| c.is_ascii_digit());
    let good_number = match number.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(number),
    };
    let unit = unit.strip_suffix('B').unwrap_or(&unit);
    let unit = unit.strip_suffix('I').unwrap_or(unit);
    good_number && matches!(unit, "" | "K" | "M" | "G" | "T" | "P" | "E")
}
