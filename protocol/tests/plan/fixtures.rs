//! Layouts with what the real disko made of them: see `fixtures/disko/README.md`.

use cygnet_protocol::disko::{self, Devices};
use cygnet_protocol::plan::{self, DiskFacts, Options, Plan};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Size of the images disko was run on.
pub const DISK: u64 = 32 << 30;

/// Every layout disko accepts and we do.
pub const NAMES: [&str; 48] = [
    "bcachefs",
    "boot-raid1",
    "btrfs-subvolumes",
    "docs-table-to-gpt",
    "gpt-name-with-whitespace",
    "hybrid-mbr",
    "legacy-table",
    "long-device-name",
    "luks-btrfs-subvolumes",
    "luks-interactive-login",
    "luks-lvm",
    "luks-on-mdadm",
    "lvm-raid",
    "lvm-sizes-sort",
    "lvm-thin",
    "mdadm",
    "multi-device-no-deps",
    "non-root-zfs",
    "simple-efi",
    "stand-alone",
    "swap",
    "tests-zfs-encrypted-root",
    "tmpfs",
    "tpl-nixos-anywhere-examples",
    "tpl-single-disk-ext4",
    "tpl-single-ext4-luks-and-double-zfs-mirror",
    "x-deps-order",
    "x-err-type-lower",
    "x-fs-args-quoting",
    "x-gpt-label-hexcase",
    "x-gpt-on-zvol-and-mapper",
    "x-gpt-priority-order",
    "x-hooks",
    "x-luks-askpassword",
    "x-mdadm-mirror-zfs-boot",
    "x-nodev-bind",
    "x-root-dataset-override",
    "x-rpi-hybrid-eefirst",
    "x-rpi5-zfs-legacy",
    "x-zfs-encrypted-poolroot",
    "x-zfs-on-luks",
    "x-zfs-quoting",
    "x-zfs-raidz1",
    "x-zfs-topology-paths",
    "x-zfs-wholedisk-mirror",
    "x-zvol-swap-luks",
    "zfs",
    "zfs-with-vdevs",
];

/// With its default order of entries, disko breaks a hybrid MBR; what it records is no GPT at all.
pub const BROKEN_BY_DISKO: &str = "x-rpi-hybrid-eefirst";

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

/// An entry of an MBR.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MbrEntry {
    pub boot: u8,
    #[serde(rename = "type")]
    pub kind: String,
    pub first_lba: u32,
    pub sectors: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fixture {
    pub devices: serde_json::Value,
    pub device_order: Vec<(String, String)>,
    pub mount_order: Vec<String>,
    pub partitions: BTreeMap<String, Vec<Partition>>,
    pub mbr: BTreeMap<String, Vec<MbrEntry>>,
    pub format: Vec<Vec<String>>,
    pub mount: Vec<Vec<String>>,
    pub unmount: Vec<Vec<String>>,
}

fn file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/disko").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()))
}

pub fn fixture(name: &str) -> Fixture {
    serde_json::from_slice(&file(&format!("{name}.json"))).unwrap()
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
    Options { require_root: false, passphrases: true, ..Options::default() }
}

pub fn plan(name: &str) -> (Fixture, Plan) {
    let fixture = fixture(name);
    let devices = devices(&fixture);
    let plan = plan::compile(&devices, &blank_disks(&devices), &options());
    (fixture, plan.unwrap_or_else(|refusal| panic!("{name}: {refusal}")))
}
