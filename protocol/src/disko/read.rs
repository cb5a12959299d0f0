//! disko's types, field by field: disks, partitions, what is in them, and nodev.

use super::model::{Content, Devices, Disk, Filesystem, Gpt, Hooks, Nodev, Partition, Swap, ZfsMember};
use super::node::Node;
use super::{DiskoError, names, read_pool, size};
use serde_json::Value;
use std::collections::BTreeMap;

const LATER: &str = "use gpt, filesystem, swap and zfs; or partition this disk with disko itself";
/// Content types disko has and we have not.
const UNSUPPORTED: [&str; 7] = ["luks", "lvm_pv", "mdraid", "btrfs", "bcachefs", "table", "bcachefs_filesystem"];

fn unsupported(path: &str, what: &str) -> DiskoError {
    DiskoError::new(path, format!("{what} is not supported yet"), LATER)
}

/// Reads the whole of `config.disko.devices`.
pub(super) fn devices(value: Value) -> Result<Devices, DiskoError> {
    let mut node = Node::new(String::new(), value)?;
    for (key, what) in [("mdadm", "mdadm"), ("lvm_vg", "LVM"), ("bcachefs_filesystems", "bcachefs")] {
        if let Some((_, first)) = node.members(key)?.into_iter().next() {
            return Err(unsupported(first.path(), what));
        }
    }
    let devices = Devices {
        disks: each(&mut node, "disk", disk)?,
        pools: each(&mut node, "zpool", read_pool::pool)?,
        nodev: each(&mut node, "nodev", nodev)?,
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
    let content = match content.peek_str("type") {
        Some("gpt") => Content::Gpt(gpt(content, &device)?),
        _ => leaf(content, &[&device])?,
    };
    node.finish()?;
    Ok(Disk { device, destroy, content, hooks })
}

fn gpt(mut node: Node, disk: &str) -> Result<Gpt, DiskoError> {
    let hooks = node.hooks()?;
    expect_type(&mut node, "gpt")?;
    same_device(&mut node, &[disk])?;
    node.ignore("efiGptPartitionFirst");
    let mut sorted = Vec::new();
    for (key, mut member) in node.members("partitions")? {
        sorted.push((member.integer("priority")?, key, member));
    }
    // disko sorts by priority, then attribute name; the position is the partition's number.
    sorted.sort_by(|(a, key_a, _), (b, key_b, _)| (a, key_a).cmp(&(b, key_b)));
    if sorted.len() > 128 {
        return Err(node.error("partitions", "has more than 128 members", "a GPT holds 128 partitions"));
    }
    let partitions =
        (1..).zip(sorted).map(|(number, (_, key, member))| partition(number, key, member)).collect::<Result<_, _>>()?;
    node.finish()?;
    Ok(Gpt { partitions, hooks })
}

fn partition(number: u32, key: String, mut node: Node) -> Result<Partition, DiskoError> {
    node.ignore("name");
    let index = node.integer("_index")?;
    if index != i64::from(number) {
        let what = format!("is {index}, and by priority and name this is partition {number}");
        return Err(node.error("_index", what, "give every partition a name of its own, and do not edit disko's JSON"));
    }
    if let Some(hybrid) = node.optional_child("hybrid")? {
        return Err(unsupported(hybrid.path(), "a hybrid MBR"));
    }
    let type_code = node.string("type")?;
    if !names::is_type_code(&type_code) {
        let what = format!("“{type_code}” is not a partition type sgdisk knows");
        return Err(node.error("type", what, "use 4 hex digits from `sgdisk --list-types`, such as 8300, or a GUID"));
    }
    let size = node.string("size")?;
    if !size::is_size(&size) {
        let what = format!("“{size}” is not a size disko accepts");
        return Err(node.error("size", what, "write a whole number and K, M, G, T or P, such as 10G; or 100%"));
    }
    let place = |node: &mut Node, field: &str| -> Result<String, DiskoError> {
        let text = node.string(field)?;
        if size::place(&text, 512).is_none() {
            let what = format!("“{text}” is not a position sgdisk reads");
            return Err(node.error(field, what, "write [+-], a whole number, and K, M, G, T, P or s, such as +10G"));
        }
        Ok(text)
    };
    let start = place(&mut node, "start")?;
    let end = place(&mut node, "end")?;
    let alignment = match u64::try_from(node.integer("alignment")?) {
        Ok(sectors) if sectors <= 65536 => sectors,
        _ => return Err(node.error("alignment", "is not from 0 to 65536", "leave it out")),
    };
    let mut attributes = Vec::new();
    for (path, bit) in node.list("attributes")? {
        match bit.as_u64().and_then(|bit| u8::try_from(bit).ok()) {
            Some(bit @ 0..=63) => attributes.push(bit),
            _ => {
                return Err(DiskoError::new(&path, "is not an attribute bit", "use whole numbers from 0 to 63"));
            }
        }
    }
    attributes.sort_unstable();
    attributes.dedup();
    let uuid = node.optional_string("uuid")?;
    if uuid.as_deref().is_some_and(|uuid| !names::is_guid(uuid)) {
        return Err(node.error("uuid", "is not a GUID", "write it as uuidgen(1) prints it, or leave it out"));
    }
    let label = node.string("label")?;
    if label.is_empty() || label.encode_utf16().count() > 36 || !label.is_ascii() {
        let remedy = "use 1 to 36 letters, digits, - or _ (a GPT holds no more, and disko takes ASCII only)";
        return Err(node.error("label", format!("“{label}” cannot be a partition's name"), remedy));
    }
    let device = names::partition_path(&label, uuid.as_deref());
    let disko_device = names::disko_partition_path(&label, uuid.as_deref());
    same_device(&mut node, &[&disko_device])?;
    let content = node.optional_child("content")?.map(|content| leaf(content, &[&disko_device])).transpose()?;
    node.finish()?;
    let uuid = uuid.map(|uuid| uuid.to_ascii_lowercase());
    Ok(Partition {
        key,
        number,
        label,
        type_code,
        attributes,
        start,
        end,
        alignment,
        uuid,
        device,
        disko_device,
        content,
    })
}

/// disko bakes the device path into every descendant. One that differs was edited, and would send a mkfs elsewhere.
fn same_device(node: &mut Node, expected: &[&str]) -> Result<(), DiskoError> {
    let device = node.string("device")?;
    if expected.contains(&device.as_str()) {
        return Ok(());
    }
    let what = format!("is {device}, and what it lies on is {}", expected.join(" or "));
    Err(node.error("device", what, "set device on the disk only, and label on the partition only"))
}

/// Content that lies directly on `devices` (one path, as disko spells it).
pub(super) fn leaf(mut node: Node, devices: &[&str]) -> Result<Content, DiskoError> {
    let kind = node.peek_str("type").unwrap_or_default().to_owned();
    match kind.as_str() {
        "filesystem" => {
            let hooks = node.hooks()?;
            node.ignore("type");
            same_device(&mut node, devices)?;
            filesystem(node, hooks).map(Content::Filesystem)
        }
        "swap" => {
            let hooks = node.hooks()?;
            node.ignore("type");
            same_device(&mut node, devices)?;
            swap(node, hooks).map(Content::Swap)
        }
        "zfs" => {
            let hooks = node.hooks()?;
            node.ignore("type");
            same_device(&mut node, devices)?;
            let pool = node.string("pool")?;
            node.finish()?;
            Ok(Content::Zfs(ZfsMember { pool, hooks }))
        }
        "gpt" => {
            Err(node.error("type", "a partition table inside a partition is impossible", "use gpt on whole disks only"))
        }
        known if UNSUPPORTED.contains(&known) => Err(unsupported(node.path(), known)),
        _ => {
            let found = node.string("type")?;
            let what = format!("“{found}” is not a content type of disko");
            Err(node.error("type", what, "use gpt, filesystem, swap or zfs (ext4 is a format of filesystem)"))
        }
    }
}

fn filesystem(mut node: Node, hooks: Hooks) -> Result<Filesystem, DiskoError> {
    let format = node.string("format")?;
    if !names::is_filesystem_type(&format) {
        return Err(node.error("format", format!("“{format}” is not a filesystem"), "use vfat, ext4, f2fs or xfs"));
    }
    if matches!(format.as_str(), "swap" | "zfs" | "btrfs" | "bcachefs") {
        let what = format!("“{format}” is not made with mkfs.{format} here");
        return Err(node.error("format", what, "use content of type swap or zfs; btrfs is not supported yet"));
    }
    let arguments = node.strings("extraArgs")?;
    let (mountpoint, mount_options) = mounting(&mut node)?;
    node.finish()?;
    Ok(Filesystem { format, arguments, mountpoint, mount_options, hooks })
}

pub(super) fn mounting(node: &mut Node) -> Result<(Option<String>, Vec<String>), DiskoError> {
    let at = node.optional_string("mountpoint")?;
    if let Some(at) = &at {
        names::mountpoint(&node.at("mountpoint"), at)?;
    }
    Ok((at, mount_options(node)?))
}

/// Options end up as `-o WORD`; disko splices some of them into shell text, so what the shell would change is refused.
pub(super) fn mount_options(node: &mut Node) -> Result<Vec<String>, DiskoError> {
    let options = node.strings("mountOptions")?;
    for (i, option) in options.iter().enumerate() {
        if option.is_empty() || option.chars().any(|c| c.is_whitespace() || "'\"`$;&|<>\\*?(){}#".contains(c)) {
            let what = format!("“{option}” is not one mount option");
            return Err(node.error_in("mountOptions", i, what, "write one option in each list element"));
        }
    }
    Ok(options)
}

fn swap(mut node: Node, hooks: Hooks) -> Result<Swap, DiskoError> {
    if node.boolean("randomEncryption")? {
        return Err(unsupported(&node.at("randomEncryption"), "randomEncryption"));
    }
    node.ignore("resumeDevice");
    let mut arguments = Vec::new();
    for (i, argument) in node.strings("extraArgs")?.iter().enumerate() {
        // disko splices these into shell text, where "-L x" becomes two words.
        if argument.chars().any(|c| "'\"`$;&|<>\\*?(){}#~[]".contains(c)) {
            let what = format!("“{argument}” would be changed by the shell disko gives it to");
            return Err(node.error_in("extraArgs", i, what, "use plain words only"));
        }
        arguments.extend(argument.split_whitespace().map(str::to_owned));
    }
    let discard = node.optional_string("discardPolicy")?;
    if discard.as_deref().is_some_and(|policy| !matches!(policy, "once" | "pages" | "both")) {
        return Err(node.error("discardPolicy", "is not a policy swapon(8) knows", "use once, pages or both"));
    }
    let priority = node.optional_integer("priority")?;
    if priority.is_some_and(|priority| !(-1..=32767).contains(&priority)) {
        return Err(node.error("priority", "is not from -1 to 32767", "see swapon(8)"));
    }
    let mount_options = mount_options(&mut node)?;
    node.finish()?;
    Ok(Swap { arguments, mount_options, discard, priority, hooks })
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
    let (mountpoint, mount_options) = mounting(&mut node)?;
    node.finish()?;
    Ok(Nodev { fstype, device, mountpoint, mount_options, hooks })
}
