//! Layouts with LUKS, arrays, LVM, btrfs, bcachefs, parted's tables and hybrid MBRs that were edited or make no sense.

use crate::{file, refused};
use cygnet_protocol::disko;
use serde_json::{Value, json};

/// Sets one value of a layout that is right, and wants this error.
#[track_caller]
fn edited(name: &str, pointer: &str, value: Value, path: &str, what: &str) {
    let mut layout = file(&format!("{name}.json"))["devices"].clone();
    assert!(disko::parse(layout.to_string()).is_ok(), "{name}");
    *layout.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
    let error = refused(&layout);
    assert_eq!(error.path, path, "{error}");
    assert!(error.what.contains(what), "{error}");
}

#[test]
fn luks() {
    let at = "/disk/main/content/partitions/luks/content";
    let path = "disk.main.content.partitions.luks.content";
    let luks = |field: &str, value: Value, what: &str| {
        edited("luks-interactive-login", &format!("{at}/{field}"), value, &format!("{path}.{field}"), what);
    };
    luks("name", json!("../sda"), "not a name cryptsetup(8) accepts");
    luks("name", json!("control"), "not a name");
    luks("passwordFile", json!("secret.key"), "not an absolute path");
    luks("extraFormatArgs", json!("--pbkdf"), "should be a list");
    luks("settings", json!([]), "should be an object");
    luks("askPassword", json!("no"), "should be a boolean");
    luks("device", json!("/dev/sdb"), "what it lies on is");
    let bad = json!(["$(reboot)"]);
    edited("luks-interactive-login", &format!("{at}/extraOpenArgs"), bad, &format!("{path}.extraOpenArgs[0]"), "shell");
    let nothing = json!(null);
    edited("luks-interactive-login", &format!("{at}/passwordFile"), nothing, path, "has neither settings.keyFile");
    let settings = json!({"keyFile": "/k", "keyFileSize": -1});
    let size = format!("{path}.settings.keyFileSize");
    edited("luks-interactive-login", &format!("{at}/settings"), settings, &size, "a number of bytes");
    let inner = format!("{at}/content/device");
    edited("luks-interactive-login", &inner, json!("/dev/mapper/x"), &format!("{path}.content.device"), "what it lies");
}

#[test]
fn arrays_and_volume_groups() {
    edited("mdadm", "/mdadm/raid1/level", json!(3), "mdadm.raid1.level", "no RAID level");
    edited("mdadm", "/mdadm/raid1/level", json!("1"), "mdadm.raid1.level", "should be a whole number");
    edited("mdadm", "/mdadm/raid1/metadata", json!("2.0"), "mdadm.raid1.metadata", "not a version");
    edited("mdadm", "/mdadm/raid1/name", json!("a/b"), "mdadm.raid1.name", "not a name mdadm(8) accepts");
    edited("mdadm", "/mdadm/raid1/level", json!(6), "mdadm.raid1", "has 2 members, and level 6 needs at least 4");
    let member = "disk.disk1.content.partitions.mdadm.content.name";
    edited("mdadm", "/disk/disk1/content/partitions/mdadm/content/name", json!("md"), member, "no array “md”");

    let lv = "/lvm_vg/mainpool/lvs";
    edited("lvm-thin", &format!("{lv}/home/size"), json!("10 M"), "lvm_vg.mainpool.lvs.home.size", "not a size");
    edited("lvm-thin", &format!("{lv}/home/size"), json!("50%"), "lvm_vg.mainpool.lvs.home.size", "not a size");
    edited("lvm-thin", &format!("{lv}/raw/size"), json!("50%DISK"), "lvm_vg.mainpool.lvs.raw.size", "not a size");
    edited("lvm-thin", &format!("{lv}/home/pool"), json!(null), "lvm_vg.mainpool.lvs.home.pool", "null");
    edited("lvm-thin", &format!("{lv}/home/pool"), json!("raw"), "lvm_vg.mainpool.lvs.home.pool", "no thin pool “raw”");
    edited("lvm-thin", &format!("{lv}/home/lvm_type"), json!("raid7"), "lvm_vg.mainpool.lvs.home.lvm_type", "kind");
    edited("lvm-thin", &format!("{lv}/raw/name"), json!("thinpool"), "lvm_vg.mainpool.lvs.raw", "another volume");
    let vg = "disk.main.content.partitions.primary.content.vg";
    edited("lvm-thin", "/disk/main/content/partitions/primary/content/vg", json!("x"), vg, "no volume group “x”");
    edited("lvm-thin", "/disk/main/content/partitions/primary/content", json!(null), "lvm_vg.mainpool", "no members");
}

#[test]
fn subvolumes() {
    let at = "/disk/main/content/partitions/root/content";
    let path = "disk.main.content.partitions.root.content";
    let home = format!("{path}.subvolumes.\"/home\"");
    let edit = |field: &str, value: Value, path: &str, what: &str| {
        edited("btrfs-subvolumes", &format!("{at}/{field}"), value, path, what);
    };
    edit("subvolumes/~1home/name", json!("/../x"), &format!("{home}.name"), "not a path inside");
    edit("subvolumes/~1home/name", json!("/"), &format!("{home}.name"), "not a path inside");
    edit("subvolumes/~1home/mountpoint", json!("home"), &format!("{home}.mountpoint"), "not an absolute path");
    edit("subvolumes/~1home/mountpoint", json!("/nix"), &format!("{path}.subvolumes.\"/nix\""), "and so is");
    edit("subvolumes/~1home/type", json!("subvol"), &format!("{home}.type"), "only “btrfs_subvol”");
    edit("swap/swapfile/size", json!("20%"), &format!("{path}.swap.swapfile.size"), "not a size btrfs(8)");
    edit("swap/swapfile/path", json!("../x"), &format!("{path}.swap.swapfile.path"), "not a path inside");
    edit("extraArgs", json!(["-f", "`id`"]), &format!("{path}.extraArgs[1]"), "shell");

    let bcachefs = "bcachefs_filesystems.relies_on_external_subvolume";
    let at = "/bcachefs_filesystems/relies_on_external_subvolume";
    edited("bcachefs", &format!("{at}/uuid"), json!("1"), &format!("{bcachefs}.uuid"), "not a UUID");
    edited("bcachefs", "/disk/vde/content", json!(null), "disk.vde.content", "null");
    let member = "disk.vde.content.partitions.vdd1.content.filesystem";
    let at = "/disk/vde/content/partitions/vdd1/content/filesystem";
    edited("bcachefs", at, json!("x"), member, "no bcachefs “x”");
}

#[test]
fn tables() {
    let path = "disk.main.content.partitions[0]";
    let edit = |field: &str, value: Value, what: &str| {
        let pointer = format!("/disk/main/content/partitions/0/{field}");
        edited("legacy-table", &pointer, value, &format!("{path}.{field}"), what);
    };
    edit("start", json!("1X"), "not a position parted reads");
    edit("end", json!(500), "should be a string");
    edit("name", json!(null), "is empty");
    edit("part-type", json!("third"), "not a kind of partition");
    edit("fs-type", json!("-s"), "not a type parted knows");
    edit("_index", json!(2), "this is number 1");
    edited("legacy-table", "/disk/main/content/format", json!("mbr"), "disk.main.content.format", "not a table");
    let flags = json!(["boot;"]);
    edited("legacy-table", "/disk/main/content/partitions/0/flags", flags, &format!("{path}.flags[0]"), "not a flag");
    let device = json!("/dev/sda5");
    let content = format!("{path}.content.device");
    edited("legacy-table", "/disk/main/content/partitions/0/content/device", device, &content, "what it lies on is");

    // The second partition would be number 5, and disko calls it 2.
    let mut logical = file("stand-alone.json")["devices"].clone();
    let disk = logical["disk"].as_object().unwrap().keys().next().unwrap().clone();
    let table = logical.pointer_mut(&format!("/disk/{disk}/content/partitions")).unwrap().as_array_mut().unwrap();
    let mut second = table[0].clone();
    second["_index"] = 2.into();
    second["part-type"] = "logical".into();
    second["content"]["device"] = "/dev/sda2".into();
    table.push(second);
    let error = refused(&logical);
    assert_eq!(error.path, format!("disk.{disk}.content.partitions[1].content"));
    assert!(error.what.contains("is on partition 5, and disko would look for it on partition 2"), "{error}");
}

#[test]
fn hybrid_tables() {
    let at = "/disk/main/content/partitions";
    let path = "disk.main.content.partitions";
    let kind = format!("{path}.TOW-BOOT-FI.hybrid.mbrPartitionType");
    edited(
        "hybrid-mbr",
        &format!("{at}/TOW-BOOT-FI/hybrid/mbrPartitionType"),
        json!("0xccc"),
        &kind,
        "not an MBR type",
    );
    let flag = format!("{path}.TOW-BOOT-FI.hybrid.mbrBootableFlag");
    edited("hybrid-mbr", &format!("{at}/TOW-BOOT-FI/hybrid/mbrBootableFlag"), json!(1), &flag, "should be a boolean");
    edited(
        "hybrid-mbr",
        "/disk/main/content/efiGptPartitionFirst",
        json!(null),
        "disk.main.content.efiGptPartitionFirst",
        "boolean",
    );
}

#[test]
fn every_object_refuses_fields_it_does_not_know() {
    fn objects(value: &Value, pointer: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.push(pointer.to_owned());
                for (key, value) in map {
                    objects(value, &format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")), found);
                }
            }
            Value::Array(items) => {
                for (i, value) in items.iter().enumerate() {
                    objects(value, &format!("{pointer}/{i}"), found);
                }
            }
            _ => {}
        }
    }
    for name in ["luks-lvm", "lvm-thin", "boot-raid1", "btrfs-subvolumes", "bcachefs", "hybrid-mbr", "legacy-table"] {
        let layout = file(&format!("{name}.json"))["devices"].clone();
        let mut found = Vec::new();
        objects(&layout, "", &mut found);
        for pointer in found {
            // Whatever NixOS has for LUKS devices may stand there.
            if pointer.ends_with("/settings") {
                continue;
            }
            let mut edited = layout.clone();
            edited.pointer_mut(&pointer).unwrap()["surprise"] = 1.into();
            let error = refused(&edited);
            assert!(error.path.ends_with("surprise"), "{name} {pointer}: {error}");
        }
    }
}
