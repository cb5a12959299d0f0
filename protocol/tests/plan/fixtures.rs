//! Layouts with what the real disko made of them: see `fixtures/disko/README.md`.

use cygnet_protocol::disko::{self, Devices};
use cygnet_protocol::plan::{self, DiskFacts, Options, Plan};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Size of the images disko was run on.
pub const DISK: u64 = 32 << 30;

/// Every layout disko and we carry out alike.
pub const NAMES: [&str; 24] = [
    "docs-table-to-gpt",
    "gpt-name-with-whitespace",
    "long-device-name",
    "multi-device-no-deps",
    "non-root-zfs",
    "simple-efi",
    "swap",
    "tests-zfs-encrypted-root",
    "tmpfs",
    "tpl-single-disk-ext4",
    "x-err-type-lower",
    "x-gpt-label-hexcase",
    "x-gpt-priority-order",
    "x-hooks",
    "x-nodev-bind",
    "x-root-dataset-override",
    "x-rpi5-zfs-legacy",
    "x-zfs-encrypted-poolroot",
    "x-zfs-quoting",
    "x-zfs-raidz1",
    "x-zfs-topology-paths",
    "x-zfs-wholedisk-mirror",
    "zfs",
    "zfs-with-vdevs",
];

/// A partition as sgdisk reads it back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Partition {
    pub number: u32,
    pub first_lba: u64,
    pub last_lba: u64,
    pub name: String,
    pub type_guid: String,
    pub attributes: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fixture {
    pub devices: serde_json::Value,
    pub device_order: Vec<(String, String)>,
    pub mount_order: Vec<String>,
    pub partitions: BTreeMap<String, Vec<Partition>>,
    pub format: Vec<Vec<String>>,
    pub mount: Vec<Vec<String>>,
}

fn file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/disko").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()))
}

pub fn fixture(name: &str) -> Fixture {
    let mut fixture: Fixture = serde_json::from_slice(&file(&format!("{name}.json"))).unwrap();
    if name == "swap" {
        // Its encrypted swap is refused for now; without the encryption, it has the most intricate positions of all.
        let swap = fixture.devices.pointer_mut("/disk/main/content/partitions/encryptedSwap/content/randomEncryption");
        *swap.unwrap() = false.into();
    }
    fixture
}

pub fn devices(fixture: &Fixture) -> Devices {
    disko::parse(serde_json::to_vec(&fixture.devices).unwrap()).unwrap()
}

/// Facts of blank 32 GiB disks for every disk of the layout.
pub fn blank_disks(devices: &Devices) -> Vec<DiskFacts> {
    ('a'..='z')
        .zip(devices.disks.values())
        .map(|(letter, disk)| DiskFacts {
            requested: vec![disk.device.clone()],
            kernel_path: format!("/dev/test{letter}"),
            size_bytes: DISK,
            logical_sector_bytes: 512,
            ..DiskFacts::default()
        })
        .collect()
}

pub fn options() -> Options {
    Options { require_root: false, ..Options::default() }
}

pub fn plan(name: &str) -> (Fixture, Plan) {
    let fixture = fixture(name);
    let devices = devices(&fixture);
    let plan = plan::compile(&devices, &blank_disks(&devices), &options());
    (fixture, plan.unwrap_or_else(|refusal| panic!("{name}: {refusal}")))
}
