//! disko's types, field by field: LUKS, md arrays, LVM, btrfs and bcachefs.

use super::model::{
    Array, ArrayMember, BcachefsFilesystem, BcachefsMember, BcachefsSubvolume, Btrfs, BtrfsSubvolume, LogicalVolume,
    Luks, LuksKey, PhysicalVolume, SwapFile, VolumeGroup,
};
use super::node::Node;
use super::read::{Ground, content, expect_type, mount_options, mounting, same_device, words};
use super::{DiskoError, names, size};
use std::collections::BTreeMap;

/// A LUKS device.
pub(super) fn luks(mut node: Node, ground: &Ground) -> Result<Luks, DiskoError> {
    let hooks = node.hooks()?;
    expect_type(&mut node, "luks")?;
    same_device(&mut node, &ground.device)?;
    let name = node.string("name")?;
    names::component(&node.at("name"), "cryptsetup(8)", &name)?;
    let file = |node: &Node, key: &str, file: Option<String>| -> Result<Option<String>, DiskoError> {
        file.iter().try_for_each(|file| names::file(&node.at(key), file))?;
        Ok(file)
    };
    // Whatever NixOS has for boot.initrd.luks.devices may stand in settings; these are what disko acts on.
    let mut settings = node.child("settings")?;
    let of_settings = settings.maybe_string("keyFile")?;
    let of_settings = file(&settings, "keyFile", of_settings)?;
    let key_size = settings.maybe_bytes("keyFileSize")?;
    let key_offset = settings.maybe_bytes("keyFileOffset")?;
    let allow_discards = settings.maybe_boolean("allowDiscards")?;
    let bypass_workqueues = settings.maybe_boolean("bypassWorkqueues")?;
    let asked = node.boolean("askPassword")?;
    let password_file = node.optional_string("passwordFile")?;
    let password_file = file(&node, "passwordFile", password_file)?;
    let key_file = node.optional_string("keyFile")?;
    let key_file = file(&node, "keyFile", key_file)?;
    let key = match (of_settings, asked, password_file, key_file) {
        (Some(file), ..) => LuksKey::File(file),
        (None, true, ..) => LuksKey::Asked,
        (None, false, Some(file), _) => LuksKey::PasswordFile(file),
        (None, false, None, Some(file)) => LuksKey::File(file),
        (None, false, None, None) => {
            let what = "has neither settings.keyFile, passwordFile nor askPassword = true";
            return Err(DiskoError::new(node.path(), what, "say where its key comes from"));
        }
    };
    let additional_keys = node.strings("additionalKeyFiles")?;
    for (i, file) in additional_keys.iter().enumerate() {
        names::file(&format!("{}[{i}]", node.at("additionalKeyFiles")), file)?;
    }
    node.boolean("initrdUnlock")?;
    node.ignore("extraFido2EnrollArgs");
    let format_arguments = words(&mut node, "extraFormatArgs")?;
    let open_arguments = words(&mut node, "extraOpenArgs")?;
    let inner = Ground::whole(format!("/dev/mapper/{name}"));
    let content = node.optional_child("content")?.map(|node| content(node, &inner)).transpose()?;
    node.finish()?;
    Ok(Luks {
        name,
        key,
        key_size,
        key_offset,
        additional_keys,
        allow_discards,
        bypass_workqueues,
        format_arguments,
        open_arguments,
        content,
        hooks,
    })
}

/// A member of an array.
pub(super) fn array_member(mut node: Node, ground: &Ground) -> Result<ArrayMember, DiskoError> {
    let hooks = node.hooks()?;
    expect_type(&mut node, "mdraid")?;
    same_device(&mut node, &ground.device)?;
    let array = node.string("name")?;
    node.finish()?;
    Ok(ArrayMember { array, hooks })
}

/// One member of `mdadm`.
pub(super) fn array(_: &str, mut node: Node) -> Result<Array, DiskoError> {
    let hooks = node.hooks()?;
    expect_type(&mut node, "mdadm")?;
    let name = node.string("name")?;
    names::component(&node.at("name"), "mdadm(8)", &name)?;
    let level = node.integer("level")?;
    if !matches!(level, 0 | 1 | 4 | 5 | 6 | 10) {
        return Err(node.error("level", format!("is {level}, which is no RAID level"), "use 0, 1, 4, 5, 6 or 10"));
    }
    let metadata = node.string("metadata")?;
    if !matches!(metadata.as_str(), "1" | "1.0" | "1.1" | "1.2" | "default" | "ddf" | "imsm" | "0.90") {
        let what = format!("“{metadata}” is not a version mdadm(8) knows");
        return Err(node.error("metadata", what, "use default, 1.0, 1.1 or 1.2"));
    }
    let arguments = node.strings("extraArgs")?;
    let ground = Ground { device: format!("/dev/md/{name}"), array: Some(name.clone()), whole: true };
    let content = node.optional_child("content")?.map(|node| content(node, &ground)).transpose()?;
    node.finish()?;
    Ok(Array { name, level, metadata, arguments, content, hooks })
}

/// A member of a volume group.
pub(super) fn physical_volume(mut node: Node, ground: &Ground) -> Result<PhysicalVolume, DiskoError> {
    let hooks = node.hooks()?;
    expect_type(&mut node, "lvm_pv")?;
    same_device(&mut node, &ground.device)?;
    let group = node.string("vg")?;
    node.finish()?;
    Ok(PhysicalVolume { group, hooks })
}

/// One member of `lvm_vg`.
pub(super) fn group(_: &str, mut node: Node) -> Result<VolumeGroup, DiskoError> {
    let hooks = node.hooks()?;
    expect_type(&mut node, "lvm_vg")?;
    let name = node.string("name")?;
    names::component(&node.at("name"), "lvm(8)", &name)?;
    let mut sorted = Vec::new();
    for (key, mut member) in node.members("lvs")? {
        let priority = member.integer("priority")?;
        sorted.push((priority, volume(&name, key, member)?));
    }
    // disko sorts by priority, then attribute name, which they come in.
    sorted.sort_by_key(|(priority, _)| *priority);
    node.finish()?;
    Ok(VolumeGroup { name, volumes: sorted.into_iter().map(|(_, volume)| volume).collect(), hooks })
}

fn volume(group: &str, key: String, mut node: Node) -> Result<LogicalVolume, DiskoError> {
    let name = node.string("name")?;
    names::component(&node.at("name"), "lvm(8)", &name)?;
    let kind = node.optional_string("lvm_type")?;
    const KINDS: [&str; 9] = ["mirror", "raid0", "raid1", "raid4", "raid5", "raid6", "raid10", "thin-pool", "thinlv"];
    if kind.as_deref().is_some_and(|kind| !KINDS.contains(&kind)) {
        let what = "is not a kind of volume disko knows";
        return Err(node.error("lvm_type", what, "use mirror, raid0 to raid10, thin-pool or thinlv; or leave it out"));
    }
    let thin = kind.as_deref() == Some("thinlv");
    let size = node.string("size")?;
    if !size::is_lvm_size(&size) || thin && size.contains('%') {
        let what = format!("“{size}” is not a size lvcreate(8) accepts here");
        return Err(node.error(
            "size",
            what,
            "write a number and a unit, such as 10G; or a percentage, such as 100%FREE",
        ));
    }
    let thin_pool = node.optional_string("pool")?;
    match &thin_pool {
        Some(pool) => names::component(&node.at("pool"), "lvm(8)", pool)?,
        None if thin => return Err(node.error("pool", "is null", "name the thin pool that this volume is in")),
        None => {}
    }
    let arguments = words(&mut node, "extraArgs")?;
    let ground = Ground::part(format!("/dev/{group}/{name}"));
    let content = node.optional_child("content")?.map(|node| content(node, &ground)).transpose()?;
    node.finish()?;
    Ok(LogicalVolume { key, name, size, kind, thin_pool, arguments, content })
}

/// A path inside a filesystem that is mounted elsewhere for a moment: it must not lead out of it.
fn inner_path(node: &Node, key: &str, text: &str) -> Result<(), DiskoError> {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    if !parts.is_empty() && !parts.iter().any(|part| matches!(*part, "." | "..")) && !text.starts_with('-') {
        return Ok(());
    }
    let what = format!("“{text}” is not a path inside the filesystem");
    Err(node.error(key, what, "write it from the top of the filesystem, such as /home"))
}

/// A btrfs.
pub(super) fn btrfs(mut node: Node, ground: &Ground) -> Result<Btrfs, DiskoError> {
    let hooks = node.hooks()?;
    expect_type(&mut node, "btrfs")?;
    same_device(&mut node, &ground.device)?;
    let arguments = words(&mut node, "extraArgs")?;
    let (mountpoint, options) = mounting(&mut node, false)?;
    let swap_files = swap_files(&mut node)?;
    let mut subvolumes = Vec::new();
    for (key, mut member) in node.members("subvolumes")? {
        expect_type(&mut member, "btrfs_subvol")?;
        let name = member.string("name")?;
        inner_path(&member, "name", &name)?;
        let arguments = words(&mut member, "extraArgs")?;
        let (mountpoint, mount_options) = mounting(&mut member, false)?;
        let swap_files = self::swap_files(&mut member)?;
        member.finish()?;
        subvolumes.push(BtrfsSubvolume { key, name, arguments, mountpoint, mount_options, swap_files });
    }
    node.finish()?;
    Ok(Btrfs { arguments, mountpoint, mount_options: options, subvolumes, swap_files, hooks })
}

fn swap_files(node: &mut Node) -> Result<Vec<SwapFile>, DiskoError> {
    let mut files = Vec::new();
    for (_, mut member) in node.members("swap")? {
        let path = member.string("path")?;
        inner_path(&member, "path", &path)?;
        let size = member.string("size")?;
        if !size::is_lvm_size(&size) || size.contains('%') {
            let what = format!("“{size}” is not a size btrfs(8) accepts");
            return Err(member.error("size", what, "write a whole number and K, M, G or T, such as 4G"));
        }
        member.optional_integer("priority")?;
        member.strings("options")?;
        member.finish()?;
        files.push(SwapFile { path, size });
    }
    Ok(files)
}

/// A member of a bcachefs.
pub(super) fn bcachefs_member(mut node: Node, ground: &Ground) -> Result<BcachefsMember, DiskoError> {
    let hooks = node.hooks()?;
    expect_type(&mut node, "bcachefs")?;
    same_device(&mut node, &ground.device)?;
    let filesystem = node.string("filesystem")?;
    let label = node.string("label")?;
    if !label.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c)) {
        return Err(node.error("label", format!("“{label}” is not a label"), "use letters, digits, . _ and -"));
    }
    let arguments = words(&mut node, "extraFormatArgs")?;
    node.finish()?;
    Ok(BcachefsMember { filesystem, label, arguments, hooks })
}

/// One member of `bcachefs_filesystems`.
pub(super) fn bcachefs_filesystem(_: &str, mut node: Node) -> Result<BcachefsFilesystem, DiskoError> {
    let hooks = node.hooks()?;
    expect_type(&mut node, "bcachefs_filesystem")?;
    let name = node.string("name")?;
    let uuid = node.string("uuid")?;
    if !names::is_guid(&uuid) {
        return Err(node.error("uuid", format!("“{uuid}” is not a UUID"), "leave it out, and disko makes one"));
    }
    let password_file = node.optional_string("passwordFile")?;
    password_file.iter().try_for_each(|file| names::file(&node.at("passwordFile"), file))?;
    let arguments = words(&mut node, "extraFormatArgs")?;
    let (mountpoint, options) = mounting(&mut node, false)?;
    let mut subvolumes = BTreeMap::new();
    for (key, mut member) in node.members("subvolumes")? {
        expect_type(&mut member, "bcachefs_subvolume")?;
        let name = member.string("name")?;
        inner_path(&member, "name", &name)?;
        let mountpoint = member.optional_string("mountpoint")?;
        mountpoint.iter().try_for_each(|at| names::mountpoint(&member.at("mountpoint"), at))?;
        let mount_options = mount_options(&mut member, false)?;
        member.finish()?;
        subvolumes.insert(key, BcachefsSubvolume { name, mountpoint, mount_options });
    }
    node.finish()?;
    Ok(BcachefsFilesystem {
        name,
        uuid,
        password_file,
        arguments,
        mountpoint,
        mount_options: options,
        subvolumes,
        hooks,
    })
}
