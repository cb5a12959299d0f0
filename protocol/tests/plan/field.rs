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
