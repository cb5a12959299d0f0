//! Layouts that are not accepted: edited, cut short, unsupported, or impossible.

use cygnet_protocol::disko::{self, DiskoError};
use serde_json::{Value, json};
use std::path::Path;

mod layers;
mod releases;

fn file(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/disko").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn layout() -> Value {
    file("x-rpi5-zfs-legacy.json")["devices"].clone()
}

fn refused(layout: &Value) -> DiskoError {
    let error = disko::parse(layout.to_string()).unwrap_err();
    assert!(!error.path.is_empty() && !error.what.is_empty() && !error.remedy.is_empty(), "{error:?}");
    error
}

/// Sets one value of the layout, and wants this error.
#[track_caller]
fn edited(pointer: &str, value: Value, path: &str, what: &str) {
    let mut layout = layout();
    *layout.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
    let error = refused(&layout);
    assert_eq!(error.path, path);
    assert!(error.what.contains(what), "{error}");
}

#[test]
fn layouts_that_cannot_work_are_refused_although_disko_takes_them() {
    let all = file("refused.json");
    for (name, path, what) in [
        ("x-err-cycle", "mdadm.m.content", "is made of itself: lvm_vg.v → mdadm.m → lvm_vg.v"),
        ("x-err-disk-content-null", "disk.main.content", "null"),
        ("x-gpt-after-100pct", "disk.main.content.partitions.b", "all the remaining space"),
        ("x-same-device-twice", "disk.n.device", "also the device of disk “m”"),
        ("x-same-mountpoint", "disk.m.content.partitions.b", "is mounted at /data"),
        ("x-unclean-root", "disk", "no disks are defined"),
        ("x-undefined-pool", "disk.m.content.partitions.a.content.pool", "no pool “nope”"),
    ] {
        let error = refused(&all[name]);
        assert_eq!(error.path, path, "{name}: {error}");
        assert!(error.what.contains(what), "{name}: {error}");
    }
    // Nothing is wrong with this one before somebody wants to install on it.
    assert!(disko::parse(all["x-err-no-mountpoints"].to_string()).is_ok());
}

/// What disko refuses to evaluate never gets to us from it; somebody may have written the JSON by hand.
#[test]
fn what_disko_does_not_evaluate_is_refused_with_its_place() {
    let base = file("simple-efi.json")["devices"].clone();
    let partition = "/disk/main/content/partitions/ESP";
    for (name, pointer, value, path, what) in [
        (
            "x-err-content-type",
            "/content/type",
            json!("ext4"),
            "ESP.content.type",
            "“ext4” is not a content type of disko",
        ),
        ("x-err-size-decimal", "/size", json!("10.5G"), "ESP.size", "“10.5G” is not a size disko accepts"),
        ("x-err-size-percent", "/size", json!("50%"), "ESP.size", "“50%” is not a size disko accepts"),
        ("x-err-type-ef0", "/type", json!("EF0"), "ESP.type", "“EF0” is not a partition type sgdisk knows"),
    ] {
        let mut layout = base.clone();
        *layout.pointer_mut(&format!("{partition}{pointer}")).unwrap() = value;
        let error = refused(&layout);
        assert_eq!(error.path, format!("disk.main.content.partitions.{path}"), "{name}");
        assert!(error.what.contains(what), "{name}: {error}");
    }
    let mut relative = base.clone();
    relative["disk"]["main"]["device"] = "sda".into();
    assert!(refused(&relative).to_string().starts_with("disk.main.device: “sda” is not an absolute path under /dev"));
    let mut missing = base;
    missing["disk"]["main"].as_object_mut().unwrap().remove("device");
    assert_eq!(refused(&missing).to_string(), "disk.main.device: is missing");
}

#[test]
fn edited_partitions_are_refused_with_their_path() {
    const ZFS: &str = "/disk/ssd/content/partitions/zfs";
    const PATH: &str = "disk.ssd.content.partitions.zfs";
    for (field, value, what) in [
        ("size", json!("10GiB"), "not a size"),
        ("size", json!("10.5G"), "not a size"),
        ("size", json!("50%"), "not a size"),
        ("size", json!("10g"), "not a size"),
        ("size", json!(-1), "should be a string, and is a number"),
        ("size", json!(null), "should be a string"),
        ("end", json!("100%"), "not a position"),
        ("start", json!("1XB"), "not a position"),
        ("start", json!("1 MiB"), "not a position"),
        ("start", json!("99999999999999999999G"), "not a position"),
        ("type", json!("EF0"), "not a partition type"),
        ("type", json!("ZZZZ"), "not a partition type"),
        ("type", json!("1234"), "not a partition type"),
        ("uuid", json!("not-a-uuid"), "not a GUID"),
        ("label", json!(""), "cannot be a partition's name"),
        ("label", json!("zwölf"), "cannot be a partition's name"),
        ("label", json!("a label of more than thirty-six characters"), "cannot be a partition's name"),
        ("label", json!("line\nbreak"), "control character"),
        ("label", json!("other"), ""),
        ("alignment", json!(-8), "not from 0"),
        ("attributes", json!([64]), "not an attribute bit"),
        ("attributes", json!(["2"]), "not an attribute bit"),
        ("priority", json!("first"), "should be a whole number"),
        ("_index", json!(1), "this is partition 4"),
        ("device", json!("/dev/disk/by-partlabel/ESP"), "not known to lead to this partition"),
        ("device", json!("/dev/disk/by-label/x"), "not known to lead to this partition"),
        ("content", json!([]), "should be an object, and is a list"),
    ] {
        let mut layout = layout();
        layout.pointer_mut(ZFS).unwrap()[field] = value;
        let error = refused(&layout);
        let expected = match (field, what) {
            ("attributes", _) => format!("{PATH}.attributes[0]"),
            ("label", "") => format!("{PATH}.device"),
            _ => format!("{PATH}.{field}"),
        };
        assert_eq!(error.path, expected, "{error}");
        assert!(error.what.contains(what), "{field}: {error}");
    }
}

#[test]
fn edited_disks_pools_and_contents_are_refused_with_their_path() {
    edited("/disk/ssd/device", json!("sda"), "disk.ssd.device", "not an absolute path");
    edited("/disk/ssd/device", json!("/etc/passwd"), "disk.ssd.device", "not an absolute path under /dev");
    edited("/disk/ssd/device", json!("/dev/../etc"), "disk.ssd.device", "not an absolute path under /dev");
    edited("/disk/ssd/content/device", json!("/dev/sdb"), "disk.ssd.content.device", "what it lies on is");
    edited("/disk/ssd/destroy", json!("yes"), "disk.ssd.destroy", "should be a boolean");
    edited("/disk/ssd/type", json!("disc"), "disk.ssd.type", "only “disk”");
    edited("/disk/ssd/preCreateHook", json!(["a"]), "disk.ssd.preCreateHook", "should be a string");
    edited("/disk", json!([]), "disk", "should be an object");

    let zfs = "disk.ssd.content.partitions.zfs.content";
    let pointer = "/disk/ssd/content/partitions/zfs/content";
    edited(&format!("{pointer}/pool"), json!("tank"), &format!("{zfs}.pool"), "no pool “tank”");
    edited(&format!("{pointer}/type"), json!("ext4"), &format!("{zfs}.type"), "not a content type");
    edited(&format!("{pointer}/type"), json!("gpt"), &format!("{zfs}.type"), "partition table inside");
    edited(&format!("{pointer}/device"), json!("/dev/sdb"), &format!("{zfs}.device"), "what it lies on is");
    edited(pointer, json!(null), "zpool.rpool", "has 0 members");

    let esp = "/disk/ssd/content/partitions/ESP/content";
    let path = "disk.ssd.content.partitions.ESP.content";
    edited(&format!("{esp}/format"), json!("../../bin/sh"), &format!("{path}.format"), "not a filesystem");
    edited(&format!("{esp}/format"), json!("swap"), &format!("{path}.format"), "not made with mkfs.swap");
    edited(&format!("{esp}/mountpoint"), json!("boot"), &format!("{path}.mountpoint"), "not an absolute path");
    edited(&format!("{esp}/mountpoint"), json!("/../etc"), &format!("{path}.mountpoint"), "not an absolute path");
    edited(&format!("{esp}/extraArgs"), json!("-F32"), &format!("{path}.extraArgs"), "should be a list");
    edited(&format!("{esp}/extraArgs"), json!([32]), &format!("{path}.extraArgs[0]"), "should be a string");
    edited(&format!("{esp}/mountpoint"), json!("/boot/firmware/"), "disk.ssd.content.partitions.ESP", "and so is");

    edited("/zpool/rpool/mode", json!("raidz9"), "zpool.rpool.mode", "not a way to group");
    edited("/zpool/rpool/mode", json!("mirror"), "zpool.rpool", "has 1 members, and mirror needs at least 2");
    edited("/zpool/rpool/name", json!("raidzilla"), "zpool.rpool.name", "not a name zpool(8) accepts");
    edited("/zpool/rpool/options/ashift", json!(12), "zpool.rpool.options.ashift", "should be a string");
    let nix = "zpool.rpool.datasets.\"local/nix\"";
    edited("/zpool/rpool/datasets/local~1nix/_name", json!("tank/nix"), &format!("{nix}._name"), "should be “rpool");
    edited(
        "/zpool/rpool/datasets/local~1nix/mountpoint",
        json!("/"),
        "zpool.rpool.datasets.\"system/root\"",
        "and so is",
    );
    edited("/zpool/rpool/datasets/local~1nix/type", json!("zfs"), &format!("{nix}.type"), "not a kind of dataset");

    let swap = "/disk/ssd/content/partitions/swap/content";
    let path = "disk.ssd.content.partitions.swap.content";
    edited(
        &format!("{swap}/randomEncryption"),
        json!("yes"),
        &format!("{path}.randomEncryption"),
        "should be a boolean",
    );
    edited(&format!("{swap}/discardPolicy"), json!("all"), &format!("{path}.discardPolicy"), "not a policy");
    edited(&format!("{swap}/priority"), json!(99999), &format!("{path}.priority"), "not from -1");
    edited(&format!("{swap}/extraArgs"), json!(["$(reboot)"]), &format!("{path}.extraArgs[0]"), "shell");
}

#[test]
fn equal_labels_are_refused() {
    let mut layout = layout();
    let esp = layout.pointer_mut("/disk/ssd/content/partitions/ESP").unwrap();
    esp["label"] = "FIRMWARE".into();
    esp["device"] = "/dev/disk/by-partlabel/FIRMWARE".into();
    esp["content"]["device"] = "/dev/disk/by-partlabel/FIRMWARE".into();
    let error = refused(&layout);
    assert!(error.what.contains("/dev/disk/by-partlabel/FIRMWARE"), "{error}");
}

#[test]
fn every_object_refuses_fields_it_does_not_know_and_wants_those_it_needs() {
    fn objects(value: &Value, pointer: &str, found: &mut Vec<String>) {
        if let Value::Object(map) = value {
            found.push(pointer.to_owned());
            for (key, value) in map {
                objects(value, &format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
    }
    // Maps keyed by the user's own names: an entry there is not a field, but must be an object, too.
    let layout = layout();
    let mut found = Vec::new();
    objects(&layout, "", &mut found);
    assert!(found.len() > 30);
    for pointer in found {
        if pointer.ends_with("ptions") {
            continue;
        }
        let mut edited = layout.clone();
        edited.pointer_mut(&pointer).unwrap()["surprise"] = 1.into();
        let error = refused(&edited);
        assert!(error.path.ends_with("surprise"), "{pointer}: {error}");
    }
    for needed in ["device", "content", "type"] {
        let mut edited = layout.clone();
        edited["disk"]["ssd"].as_object_mut().unwrap().remove(needed);
        assert_eq!(refused(&edited).path, format!("disk.ssd.{needed}"));
    }
}

#[test]
fn a_layout_cut_short_anywhere_is_an_error() {
    for name in ["simple-efi.json", "x-rpi5-zfs-legacy.json"] {
        let text = file(name)["devices"].to_string();
        for end in 0..text.len() {
            let error = disko::parse(&text.as_bytes()[..end]).unwrap_err();
            assert_eq!(error.path, "disko.devices", "{name} at {end}");
        }
        assert!(disko::parse(&text).is_ok());
    }
}

#[test]
fn bytes_that_are_no_layout_are_errors() {
    let deep = "[".repeat(100_000);
    let long = " ".repeat(2 << 20);
    let twice = r#"{"disk":{},"disk":{}}"#;
    for text in ["", "null", "[]", "1", "{}", "\u{feff}{}", "{\"disk\":null}", "{} {}", &deep, &long, twice] {
        assert!(disko::parse(text).is_err(), "{:.20}", text);
    }
    assert!(disko::parse([0xff, 0xfe, 0x00]).is_err());
    assert!(disko::parse(twice).unwrap_err().what.contains("twice"));
}

/// A flipped byte either leaves a layout or gives an error, never a panic.
#[test]
fn damaged_bytes_never_panic() {
    let text = layout().to_string().into_bytes();
    for at in 0..text.len() {
        for byte in [b'"', b'0', b'-', b'}', 0xff] {
            let mut damaged = text.clone();
            damaged[at] = byte;
            let _ = disko::parse(&damaged);
        }
    }
}

fn moved(layout: &Value, moves: &[(&str, &str)]) -> Result<Value, DiskoError> {
    let moves: Vec<_> = moves.iter().map(|(name, device)| ((*name).to_owned(), (*device).to_owned())).collect();
    let mut layout = layout.clone();
    disko::retarget(&mut layout, &moves).map(|()| layout)
}

#[test]
fn a_disk_can_be_put_onto_another_device() {
    let other = "/dev/disk/by-id/nvme-other";
    let devices = disko::parse(moved(&layout(), &[("ssd", other)]).unwrap().to_string()).unwrap();
    assert_eq!(devices.disks["ssd"].device, other);
    let unknown = moved(&layout(), &[("sdd", "/dev/sda")]).unwrap_err();
    assert!(unknown.what.contains("sdd") && unknown.remedy.contains("ssd"), "{unknown:?}");
    for bad in ["sda", "", "/etc/passwd", "/dev/../etc"] {
        assert!(moved(&layout(), &[("ssd", bad)]).is_err(), "{bad}");
    }
    assert!(moved(&serde_json::json!({}), &[("ssd", other)]).is_err());
    assert!(moved(&serde_json::json!({"disk": {"ssd": 3}}), &[("ssd", other)]).is_err());
}

#[test]
fn what_a_disk_s_path_is_part_of_follows_it() {
    // Members by path, and two disks that change places.
    let members = file("x-zfs-topology-paths.json")["devices"].clone();
    let path = |name: &str| members["disk"][name]["device"].as_str().unwrap().to_owned();
    let (one, two) = (path("d1"), path("d2"));
    let swapped = moved(&members, &[("d1", &two), ("d2", &one)]).unwrap();
    let devices = disko::parse(swapped.to_string()).unwrap();
    assert_eq!((&devices.disks["d1"].device, &devices.disks["d2"].device), (&two, &one));
    assert_ne!(swapped["zpool"], members["zpool"]);
    let same = moved(&members, &[("d1", &two)]).unwrap();
    assert!(disko::parse(same.to_string()).is_err(), "two disks have one device");

    // Partitions of a legacy table are found by number, and every kind of path numbers them in its own way.
    let table = file("stand-alone.json")["devices"].clone();
    let name = table["disk"].as_object().unwrap().keys().next().unwrap().clone();
    for (device, first) in [
        ("/dev/nvme0n1", "/dev/nvme0n1p1"),
        ("/dev/disk/by-id/usb-x", "/dev/disk/by-id/usb-x-part1"),
        ("/dev/sdq", "/dev/sdq1"),
    ] {
        let there = moved(&table, &[(&name, device)]).unwrap();
        disko::parse(there.to_string()).unwrap();
        assert!(there.to_string().contains(&format!("\"{first}\"")), "{there}");
    }
    assert!(moved(&table, &[(&name, "/dev/strange")]).unwrap_err().what.contains("partitions of /dev/strange"));
}

#[test]
fn every_layout_can_be_moved_and_stays_what_it_is() {
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/disko")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".json") || name == "refused.json" {
            continue;
        }
        let layout = file(&name)["devices"].clone();
        if disko::parse(layout.to_string()).is_err() {
            continue;
        }
        let names: Vec<String> = layout["disk"].as_object().unwrap().keys().cloned().collect();
        let device = |name: &str| format!("/dev/disk/by-id/usb-moved-{name}");
        let moves: Vec<_> = names.iter().map(|name| (name.clone(), device(name))).collect();
        let mut there = layout.clone();
        disko::retarget(&mut there, &moves).unwrap();
        let devices = disko::parse(there.to_string()).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(devices.disks.iter().all(|(name, disk)| disk.device == device(name)), "{name}");
        // And back again.
        let back: Vec<_> = names
            .iter()
            .map(|name| (name.clone(), layout["disk"][name]["device"].as_str().unwrap().to_owned()))
            .collect();
        disko::retarget(&mut there, &back).unwrap();
        assert_eq!(there, layout, "{name}");
    }
}
