//! Layouts of other releases than the newest, and what people give for a layout.

use crate::{file, layout, refused};
use cygnet_protocol::disko;
use serde_json::{Value, json};

const ZFS: &str = "/disk/ssd/content/partitions/zfs";

fn notes(layout: &Value) -> Vec<String> {
    disko::parse(layout.to_string()).unwrap_or_else(|error| panic!("{error}")).notes
}

#[test]
fn what_is_unknown_and_says_nothing_is_passed_over_with_a_note() {
    assert!(notes(&layout()).is_empty());
    for (value, text) in
        [(json!(null), "null"), (json!(false), "false"), (json!(""), "\"\""), (json!([]), "[]"), (json!({}), "{}")]
    {
        let mut layout = layout();
        layout.pointer_mut(ZFS).unwrap()["futureField"] = value;
        let notes = notes(&layout);
        let [note] = notes.as_slice() else { panic!("{notes:?}") };
        assert!(note.starts_with("disk.ssd.content.partitions.zfs.futureField is no field"), "{note}");
        assert!(note.contains(&format!("({text})")), "{note}");
    }
}

#[test]
fn what_is_unknown_and_says_something_is_refused_by_name() {
    for value in [json!(true), json!(0), json!("x"), json!(["x"]), json!({"x": null}), json!([[]])] {
        let mut layout = layout();
        layout.pointer_mut(ZFS).unwrap()["futureField"] = value.clone();
        let error = refused(&layout);
        assert_eq!(error.path, "disk.ssd.content.partitions.zfs.futureField");
        assert!(error.what.contains(&value.to_string()) && error.what.contains("whether it destroys"), "{error}");
        assert!(error.remedy.contains("update cygnet"), "{error:?}");
    }
    let mut layout = layout();
    layout.pointer_mut(ZFS).unwrap()["futureField"] = "ü\u{1b}".repeat(1000).into();
    let what = refused(&layout).what;
    assert!(what.len() < 400 && !what.contains('\u{1b}'), "{what}");
}

#[test]
fn tokens_of_luks_cannot_be_enrolled_from_afar() {
    let at = "/disk/main/content/partitions/luks/content";
    let mut layout = file("luks-interactive-login.json")["devices"].clone();
    let luks = layout.pointer_mut(at).unwrap();
    luks["enrollFido2"] = false.into();
    luks["enrollRecovery"] = false.into();
    luks["extraFido2EnrollArgs"] = json!(["--fido2-parameters-in-header=false"]);
    assert!(notes(&layout).is_empty());
    for field in ["enrollFido2", "enrollRecovery"] {
        let mut layout = layout.clone();
        layout.pointer_mut(at).unwrap()[field] = true.into();
        let error = refused(&layout);
        assert_eq!(error.path, format!("disk.main.content.partitions.luks.content.{field}"));
        assert!(error.what.starts_with("is true") && error.remedy.contains("systemd-cryptenroll"), "{error:?}");
    }
}

#[test]
fn what_is_too_old_says_so() {
    let update = "nix flake update disko";
    let mut table = file("legacy-table.json")["devices"].clone();
    table["disk"]["main"]["content"]["partitions"][0]["index"] = 1.into();
    let error = refused(&table);
    assert_eq!(error.path, "disk.main.content.partitions[0].index");
    assert!(error.what.contains("older than 1.1") && error.remedy.contains(update), "{error:?}");
    let mut pool = layout();
    pool["zpool"]["rpool"]["datasets"]["local/nix"]["zfs_type"] = "filesystem".into();
    pool["zpool"]["rpool"]["datasets"]["local/nix"]["type"] = "zfs_dataset".into();
    assert!(refused(&pool).remedy.contains(update));
    // Not evaluated at all, or by a release before contents had a device.
    let mut raw = layout();
    raw["disk"]["ssd"]["content"].as_object_mut().unwrap().remove("device");
    let error = refused(&raw);
    assert!(error.remedy.contains(update) && error.remedy.contains("config.disko.devices"), "{error:?}");
}

#[test]
fn the_whole_of_config_disko_and_a_module_are_taken() {
    let plain = disko::parse(layout().to_string()).unwrap();
    for given in [
        json!({"disko": {"devices": layout()}}),
        json!({"devices": layout(), "enableConfig": true, "rootMountPoint": "/mnt"}),
        json!({"config": {"disko": {"devices": layout()}}}),
        json!({"devices": layout()}),
    ] {
        assert_eq!(disko::parse(given.to_string()).unwrap(), plain);
        assert_eq!(disko::devices_of(given), layout());
    }
    // A disk may have one of these names.
    let mut odd = layout();
    let disk = odd["disk"]["ssd"].take();
    odd["disk"] = json!({"disko": disk});
    assert_eq!(disko::devices_of(odd.clone()), odd);
    assert_eq!(disko::devices_of(json!({"devices": 3})), json!({"devices": 3}));
}

#[test]
fn a_partition_may_be_named_by_a_link_of_its_disk() {
    let device = layout()["disk"]["ssd"]["device"].as_str().unwrap().to_owned();
    let with = |link: &str| {
        let mut layout = layout();
        let partition = layout.pointer_mut(ZFS).unwrap();
        partition["device"] = link.into();
        partition["content"]["device"] = link.into();
        layout
    };
    let mine = with(&format!("{device}-part4"));
    let devices = disko::parse(mine.to_string()).unwrap();
    let cygnet_protocol::disko::Content::Gpt(gpt) = &devices.disks["ssd"].content else { panic!("{devices:?}") };
    assert_eq!(gpt.partitions[3].disko_device, format!("{device}-part4"));
    for other in [format!("{device}-part1"), "/dev/disk/by-label/x".to_owned(), "/dev/sda4".to_owned()] {
        let error = refused(&with(&other));
        assert_eq!(error.path, "disk.ssd.content.partitions.zfs.device");
        assert!(error.what.contains(&other) && error.what.contains("/dev/disk/by-partlabel/"), "{error}");
    }
}
