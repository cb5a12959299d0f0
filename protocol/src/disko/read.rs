//! disko's types, field by field: disks, what is on them, and nodev.

use super::model::{Content, Devices, Disk, Filesystem, Hooks, Nodev, Swap, ZfsMember};
use super::node::Node;
use super::{DiskoError, names, read_layers, read_pool, read_table};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a content lies on, as disko spells it.
pub(super) struct Ground {
    /// Device path.
    pub device: String,
    /// The mdadm array it is, if it is one: disko calls partitions on it otherwise.
    pub array: Option<String>,
    /// Whether a partition table may be put on it.
    pub whole: bool,
}

impl Ground {
    /// A disk, or something opened that acts as one.
    pub(super) fn whole(device: impl Into<String>) -> Self {
        Self { device: device.into(), array: None, whole: true }
    }

    /// A partition or volume.
    pub(super) fn part(device: impl Into<String>) -> Self {
        Self { device: device.into(), array: None, whole: false }
    }
}

/// Reads the whole of `config.disko.devices`.
pub(super) fn devices(value: Value) -> Result<Devices, DiskoError> {
    let mut node = Node::new(String::new(), value)?;
    let devices = Devices {
        disks: each(&mut node, "disk", disk)?,
        arrays: each(&mut node, "mdadm", read_layers::array)?,
        groups: each(&mut node, "lvm_vg", read_layers::group)?,
        pools: each(&mut node, "zpool", read_pool::pool)?,
        bcachefs: each(&mut node, "bcachefs_filesystems", read_layers::bcachefs_filesystem)?,
        nodev: each(&mut node, "nodev", nodev)?,
        notes: Vec::new(),
    };
    node.finish()?;
    Ok(devices)
}

fn each<T>(
    node: &mut Node,
    key: &str,
    read: impl Fn(&str, Node) -> Result<T, DiskoError>,
) -> Result<BTreeMap<String, T>, DiskoError> {
    node.members(key)?.into_iter().map(|(name, member)| Ok((name.clone(), read(&name, member)?))).collect()
}

/// Takes `type`, which in these places has only one legal value.
pub(super) fn expect_type(node: &mut Node, expected: &str) -> Result<(), DiskoError> {
    let found = node.string("type")?;
    if found == expected {
        return Ok(());
    }
    Err(node.error("type", format!("is “{found}”, and only “{expected}” can stand here"), "do not edit disko's JSON"))
}

fn disk(_: &str, mut node: Node) -> Result<Disk, DiskoError> {
    let hooks = node.hooks()?;
    expect_type(&mut node, "disk")?;
    let device = node.string("device")?;
    names::device_path(&node.at("device"), &device)?;
    let destroy = node.boolean("destroy")?;
    for field in ["name", "imageName", "imageSize"] {
        node.ignore(field);
    }
    let Some(content) = node.optional_child("content")? else {
        return Err(node.error("content", "is null", "give the disk content, or remove it from the layout"));
    };
    let content = self::content(content, &Ground::whole(&device))?;
    node.finish()?;
    Ok(Disk { device, destroy, content, hooks })
}

/// disko bakes the device path into every descendant. One that differs was edited, and would send a mkfs elsewhere.
pub(super) fn same_device(node: &mut Node, expected: &str) -> Result<(), DiskoError> {
    let device = node.string("device")?;
    if device == expected {
        return Ok(());
    }
    let what = format!("is {device}, and what it lies on is {expected}");
    Err(node.error("device", what, "set device on the disk only, and label on the partition only"))
}

/// Content that lies on `ground`.
pub(super) fn content(mut node: Node, ground: &Ground) -> Result<Content, DiskoError> {
    let kind = node.peek_str("type").unwrap_or_default().to_owned();
    match kind.as_str() {
        "filesystem" | "swap" | "zfs" => {
            let hooks = node.hooks()?;
            node.ignore("type");
            same_device(&mut node, &ground.device)?;
            match kind.as_str() {
                "filesystem" => filesystem(node, hooks).map(Content::Filesystem),
                "swap" => swap(node, hooks).map(Content::Swap),
                _ => {
                    let pool = node.string("pool")?;
                    node.finish()?;
                    Ok(Content::Zfs(ZfsMember { pool, hooks }))
                }
            }
        }
        "gpt" | "table" if !ground.whole => Err(node.error(
            "type",
            "a partition table inside a partition or volume is impossible",
            "use gpt and table on whole disks, arrays and LUKS devices only",
        )),
        "gpt" => read_table::gpt(node, ground).map(Content::Gpt),
        "table" => read_table::table(node, ground).map(Content::Table),
        "luks" => read_layers::luks(node, ground).map(|luks| Content::Luks(Box::new(luks))),
        "mdraid" => read_layers::array_member(node, ground).map(Content::Mdraid),
        "lvm_pv" => read_layers::physical_volume(node, ground).map(Content::LvmPv),
        "btrfs" => read_layers::btrfs(node, ground).map(Content::Btrfs),
        "bcachefs" => read_layers::bcachefs_member(node, ground).map(Content::Bcachefs),
        _ => {
            let found = node.string("type")?;
            let what = format!("“{found}” is not a content type of disko");
            let remedy = "use gpt, table, filesystem, swap, zfs, luks, mdraid, lvm_pv, btrfs or bcachefs (ext4 is a format of filesystem)";
            Err(node.error("type", what, remedy))
        }
    }
}

fn filesystem(mut node: Node, hooks: Hooks) -> Result<Filesystem, DiskoError> {
    let format = node.string("format")?;
    if !names::is_filesystem_type(&format) {
        return Err(node.error("format", format!("“{format}” is not a filesystem"), "use vfat, ext4, f2fs or xfs"));
    }
    if matches!(format.as_str(), "swap" | "zfs") {
        let what = format!("“{format}” is not made with mkfs.{format}");
        return Err(node.error("format", what, "use content of type swap or zfs"));
    }
    let arguments = node.strings("extraArgs")?;
    let (mountpoint, mount_options) = mounting(&mut node, true)?;
    node.finish()?;
    Ok(Filesystem { format, arguments, mountpoint, mount_options, hooks })
}

pub(super) fn mounting(node: &mut Node, blanks: bool) -> Result<(Option<String>, Vec<String>), DiskoError> {
    let at = node.optional_string("mountpoint")?;
    if let Some(at) = &at {
        names::mountpoint(&node.at("mountpoint"), at)?;
    }
    Ok((at, mount_options(node, blanks)?))
}

/// Options end up as `-o WORD`; disko splices most of them into shell text, so what the shell would change is refused. It
/// quotes those of a filesystem, where `blanks` are kept, therefore.
pub(super) fn mount_options(node: &mut Node, blanks: bool) -> Result<Vec<String>, DiskoError> {
    let options = node.strings("mountOptions")?;
    for (i, option) in options.iter().enumerate() {
        let breaks = |c: char| c.is_whitespace() && !(blanks && c == ' ');
        if option.is_empty() || option.chars().any(|c| breaks(c) || "'\"`$;&|<>\\*?(){}#".contains(c)) {
            let what = format!("“{option}” is not one mount option");
            return Err(node.error_in("mountOptions", i, what, "write one option in each list element"));
        }
    }
    Ok(options)
}

/// Arguments that disko splices into shell text, where "-L x" becomes two words.
pub(super) fn words(node: &mut Node, key: &str) -> Result<Vec<String>, DiskoError> {
    let mut words = Vec::new();
    for (i, argument) in node.strings(key)?.iter().enumerate() {
        if argument.chars().any(|c| "'\"`$;&|<>\\*?(){}#~[]".contains(c)) {
            let what = format!("“{argument}” would be changed by the shell disko gives it to");
            return Err(node.error_in(key, i, what, "use plain words only"));
        }
        words.extend(argument.split_whitespace().map(str::to_owned));
    }
    Ok(words)
}

fn swap(mut node: Node, hooks: Hooks) -> Result<Swap, DiskoError> {
    let random_encryption = node.boolean("randomEncryption")?;
    if node.maybe_boolean("resumeDevice")? && random_encryption {
        let what = "can't be where randomEncryption is: after a restart nobody has the key of what was saved";
        return Err(node.error("resumeDevice", what, "leave one of the two out"));
    }
    let arguments = words(&mut node, "extraArgs")?;
    let discard = node.optional_string("discardPolicy")?;
    if discard.as_deref().is_some_and(|policy| !matches!(policy, "once" | "pages" | "both")) {
        return Err(node.error("discardPolicy", "is not a policy swapon(8) knows", "use once, pages or both"));
    }
    let priority = node.optional_integer("priority")?;
    if priority.is_some_and(|priority| !(-1..=32767).contains(&priority)) {
        return Err(node.error("priority", "is not from -1 to 32767", "see swapon(8)"));
    }
    let mount_options = mount_options(&mut node, true)?;
    node.finish()?;
    Ok(Swap { arguments, mount_options, discard, priority, random_encryption, hooks })
}

fn nodev(_: &str, mut node: Node) -> Result<Nodev, DiskoError> {
    let hooks = node.hooks()?;
    expect_type(&mut node, "nodev")?;
    let fstype = node.string("fsType")?;
    if !names::is_filesystem_type(&fstype) {
        return Err(node.error("fsType", format!("“{fstype}” is not a filesystem type"), "use tmpfs, or none to bind"));
    }
    let device = node.string("device")?;
    if device.is_empty() || device.starts_with('-') {
        return Err(node.error("device", format!("“{device}” cannot be mounted"), "give the source to mount"));
    }
    let (mountpoint, mount_options) = mounting(&mut node, false)?;
    node.finish()?;
    Ok(Nodev { fstype, device, mountpoint, mount_options, hooks })
}
