//! Layouts that people have, each with what is right: `fixtures/field`.

use crate::fixtures::options;
use cygnet_protocol::disko::{self, DiskoError};
use cygnet_protocol::plan::{self, DiskFacts, Plan, Step};
use serde_json::{Value, json};
use std::path::Path;

fn layout(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/field/{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn plan_of(layout: &Value) -> Result<Plan, DiskoError> {
    let devices = disko::parse(layout.to_string())?;
    let disks: Vec<DiskFacts> =
        devices.disks.values().map(|disk| DiskFacts::blank(&disk.device, 1_048_576_000 * 512)).collect();
    Ok(plan::compile(&devices, &disks, &options()).unwrap())
}

fn plan(name: &str) -> Plan {
    plan_of(&layout(name)).unwrap()
}

/// First and last sector of the partitions.
fn partitions(plan: &Plan) -> Vec<(u64, u64)> {
    let span = |step: &Step| match step {
        Step::CreatePartition { first_lba, last_lba, .. } => first_lba.zip(*last_lba),
        _ => None,
    };
    plan.steps.iter().filter_map(span).collect()
}

#[test]
fn a_layout_of_disko_1_12_is_that_of_1_13() {
    let old = layout("disko-1.12-json");
    let mut new = old.clone();
    for partition in ["ESP", "zfs"] {
        new["disk"]["m"]["content"]["partitions"][partition]["attributes"] = json!([]);
    }
    assert_eq!(plan_of(&old).unwrap(), plan_of(&new).unwrap());
    assert!(plan_of(&old).unwrap().warnings.is_empty());
}

#[test]
fn the_whole_of_config_disko_is_taken() {
    let whole = layout("whole-disko-json");
    assert_eq!(plan_of(&whole).unwrap(), plan_of(&whole["disko"]["devices"]).unwrap());
}

#[test]
fn a_partition_by_another_link_of_the_same_disk_is_that_partition() {
    let plan = plan("partition-device-link");
    assert_eq!(partitions(&plan), [(2048, 2_099_199), (2_099_200, 1_048_573_951)]);
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    let mut layout = layout("partition-device-link");
    let boot = &mut layout["disk"]["m"]["content"]["partitions"]["ESP"];
    boot["device"] = "/dev/disk/by-label/BOOT".into();
    let error = plan_of(&layout).unwrap_err();
    assert_eq!(error.path, "disk.m.content.partitions.ESP.device");
}

fn argvs(plan: &Plan) -> Vec<String> {
    plan.steps.iter().flat_map(Step::actions).map(|action| action.argv().join(" ")).collect()
}

#[test]
fn the_units_of_positions_are_sgdisk_s() {
    assert_eq!(partitions(&plan("sgdisk-units")), [(2048, 1_050_623), (1_050_624, 1_048_573_951)]);
}

#[test]
fn the_source_of_a_bind_mount_is_made_before_it_is_mounted() {
    let argvs = argvs(&plan("bind-from-new-filesystem"));
    let at =
        |start: &str| argvs.iter().position(|argv| argv.starts_with(start)).unwrap_or_else(|| panic!("no {start}"));
    let (persist, made) =
        (at("mount /dev/disk/by-partlabel/disk-m-root /mnt/persist"), at("mkdir -p /mnt/persist/nix"));
    let bound = at("mount /mnt/persist/nix /mnt/nix");
    assert!(persist < made && made < bound, "{argvs:#?}");
    // Only what is under /mnt is ours to make, and only for bind mounts.
    assert_eq!(argvs.iter().filter(|argv| argv.starts_with("mkdir")).count(), 1);
}

#[test]
fn words_for_fstab_are_left_out_of_joined_options_too() {
    let argvs = argvs(&plan("mount-options-with-commas"));
    let mounts: Vec<&String> = argvs.iter().filter(|argv| argv.starts_with("mount ")).collect();
    assert!(mounts.iter().any(|argv| argv.contains("-o noatime -o X-mount.mkdir")), "{mounts:#?}");
    for word in ["nofail", "noauto", "x-systemd"] {
        assert!(!mounts.iter().any(|argv| argv.contains(word)), "{word}: {mounts:#?}");
    }
}

#[test]
fn properties_in_the_wrong_list_are_refused_by_name() {
    let error = plan_of(&layout("zpool-properties-swapped")).unwrap_err();
    assert!(error.path.starts_with("zpool.") && error.path.contains(".rootFsOptions."), "{error}");
    assert!(error.what.contains("zpool create -O") && error.remedy.contains("options of the pool"), "{error:?}");
    let mut other = layout("disko-1.12-json");
    other["zpool"]["p"]["options"] = json!({"encryption": "on"});
    let error = plan_of(&other).unwrap_err();
    assert_eq!(error.path, "zpool.p.options.encryption");
    assert!(error.remedy.contains("rootFsOptions"), "{error:?}");
}

#[test]
fn a_dataset_that_is_mounted_only_at_boot_hides_nothing() {
    let with = |root: Value, datasets: &[(&str, Value)]| {
        let mut layout = layout("disko-1.12-json");
        let pool = &mut layout["zpool"]["p"];
        pool["rootFsOptions"] = root.clone();
        pool["datasets"]["__root"]["options"] = root;
        for (name, options) in datasets {
            let mut own = pool["datasets"]["root"].clone();
            own["name"] = json!(name);
            own["_name"] = json!(format!("p/{name}"));
            own["mountpoint"] = Value::Null;
            own["options"] = options.clone();
            pool["datasets"][*name] = own;
        }
        plan_of(&layout)
    };
    let none = || json!({"mountpoint": "none"});
    for (options, hidden) in [
        (json!({"mountpoint": "/nix"}), Some("/nix/store")),
        (json!({"mountpoint": "/var"}), Some("/var/empty")),
        (json!({"mountpoint": "/var", "canmount": "off"}), None),
        (json!({"mountpoint": "/var", "canmount": "noauto"}), None),
        (json!({"mountpoint": "legacy"}), None),
        (json!({"mountpoint": "/data"}), None),
        (json!({}), None),
    ] {
        match (with(none(), &[("x", options.clone())]), hidden) {
            (Ok(_), None) => {}
            (Err(error), Some(hidden)) => {
                assert_eq!(error.path, "zpool.p.datasets.x.options.mountpoint");
                assert!(error.what.contains(hidden) && error.remedy.contains("mountpoint = \"/"), "{error:?}");
            }
            (result, _) => panic!("{options}: {result:?}"),
        }
    }
    // The property is inherited, and a pool has one without saying so.
    let error = with(json!({"mountpoint": "/"}), &[("var", json!({}))]).unwrap_err();
    assert!(error.what.contains("/bin/sh") || error.what.contains("at /var"), "{error:?}");
    let error =
        with(none(), &[("a", json!({"mountpoint": "/", "canmount": "off"})), ("a/nix", json!({}))]).unwrap_err();
    assert_eq!(error.path, "zpool.p.datasets.\"a/nix\"");
    assert!(error.what.contains("p/a/nix at /nix,"), "{error:?}");
    assert!(with(json!({}), &[("nix", json!({}))]).is_ok(), "that is /p/nix");
}

#[test]
fn swap_with_a_random_key_is_not_resumed_from() {
    let mut layout = layout("disko-1.12-json");
    let swap = json!({
        "type": "swap", "device": "/dev/disk/by-partlabel/disk-m-ESP", "extraArgs": [], "randomEncryption": true,
        "resumeDevice": true,
    });
    layout["disk"]["m"]["content"]["partitions"]["ESP"]["content"] = swap;
    let error = plan_of(&layout).unwrap_err();
    assert_eq!(error.path, "disk.m.content.partitions.ESP.content.resumeDevice");
    layout["disk"]["m"]["content"]["partitions"]["ESP"]["content"]["resumeDevice"] = false.into();
    plan_of(&layout).unwrap();
}

#[test]
fn an_mbr_does_not_reach_the_end_of_a_large_disk() {
    let table = json!({"disk": {"sd": {"type": "disk", "device": "/dev/sda", "content": {
    "type": "table", "device": "/dev/sda", "format": "msdos", "partitions": [
        {"_index": 1, "name": "a", "part-type": "primary", "fs-type": null, "start": "1MiB", "end": "1TiB", "flags": [],
         "bootable": false, "content": {"type": "filesystem", "device": "/dev/sda1", "format": "ext4", "extraArgs": [],
             "mountpoint": "/data", "mountOptions": ["defaults"]}},
        {"_index": 2, "name": "b", "part-type": "primary", "fs-type": null, "start": "1TiB", "end": "100%", "flags": [],
         "bootable": false, "content": null},
    ]}}}});
    let devices = disko::parse(table.to_string()).unwrap();
    let of = |devices: &disko::Devices, bytes: u64, sector: u32| {
        let disk = DiskFacts { logical_sector_bytes: sector, ..DiskFacts::blank("/dev/sda", bytes) };
        plan::compile(devices, &[disk], &options())
    };
    for (bytes, sector) in [(2 << 40, 512), (4 << 40, 4096)] {
        of(&devices, bytes, sector).unwrap_or_else(|refusal| panic!("{bytes} {sector}: {refusal}"));
    }
    let refusal = of(&devices, 4 << 40, 512).unwrap_err();
    assert!(refusal.what().starts_with("disk.sd.content.partitions[1].end: is behind"), "{refusal}");
    assert!(refusal.what().contains("2 TiB") && refusal.remedy().contains("gpt"), "{refusal}");
    let mut gpt = table;
    gpt["disk"]["sd"]["content"]["format"] = "gpt".into();
    assert!(of(&disko::parse(gpt.to_string()).unwrap(), 4 << 40, 512).is_ok());
}
