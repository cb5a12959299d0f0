//! Facts of a disk that was in use before, for the tests about refusals and digests.

use crate::fixtures::fixture;
use cygnet_protocol::disko::{self, Devices};
use cygnet_protocol::plan::{DiskFacts, Fingerprint, PartitionFacts};

pub const SSD: &str = "/dev/disk/by-id/usb-Samsung_PSSD_T7_S5SYNS0R700159M-0:0";

pub fn layout() -> serde_json::Value {
    fixture("x-rpi5-zfs-legacy").devices
}

pub fn parsed(layout: &serde_json::Value) -> Devices {
    disko::parse(serde_json::to_vec(layout).unwrap()).unwrap()
}

fn part(path: &str, start: u64, size: u64, fstype: &str, label: &str) -> PartitionFacts {
    PartitionFacts {
        path: path.to_owned(),
        start,
        size_bytes: size,
        part_uuid: Some(format!("0f5c0e2a-0000-4000-8000-0000000000{:02x}", path.len() + start as usize % 7)),
        part_label: Some(format!("old-{label}")),
        fstype: Some(fstype.to_owned()),
        uuid: Some("ABCD-1234".to_owned()),
        label: Some(label.to_owned()),
    }
}

/// The SSD of the layout, 1 TB, with an older system on it.
pub fn ssd() -> DiskFacts {
    DiskFacts {
        requested: vec![],
        kernel_path: "/dev/sda".to_owned(),
        links: vec![SSD.to_owned(), "/dev/disk/by-path/platform-usb-0:2:1.0-scsi-0:0:0:0".to_owned()],
        model: Some("PSSD T7".to_owned()),
        serial: Some("S5SYNS0R700159M".to_owned()),
        wwn: Some("0x5000000000000001".to_owned()),
        bus: Some("usb".to_owned()),
        size_bytes: 1_000_204_886_016,
        logical_sector_bytes: 512,
        read_only: false,
        removable: false,
        is_running_disk: false,
        in_use: vec![],
        contents: vec![
            "vfat “BOOT”, 512 MiB, on /dev/sda1".to_owned(),
            "swap, 4 GiB, on /dev/sda2".to_owned(),
            "ZFS pool “oldpool”, 927 GiB, on /dev/sda3".to_owned(),
        ],
        fingerprint: Fingerprint {
            partition_table_uuid: Some("11111111-2222-4333-8444-555555555555".to_owned()),
            partitions: vec![
                part("/dev/sda1", 2048, 512 << 20, "vfat", "BOOT"),
                part("/dev/sda2", 1_050_624, 4 << 30, "swap", "swap"),
                part("/dev/sda3", 9_439_232, 927 << 30, "zfs_member", "oldpool"),
            ],
            ..Fingerprint::default()
        },
    }
}

/// The card the agent runs from.
pub fn card() -> DiskFacts {
    DiskFacts {
        kernel_path: "/dev/mmcblk0".to_owned(),
        model: Some("SD32G".to_owned()),
        size_bytes: 32 << 30,
        logical_sector_bytes: 512,
        is_running_disk: true,
        removable: true,
        in_use: vec!["/ is mounted from /dev/mmcblk0p2".to_owned()],
        fingerprint: Fingerprint {
            partition_table_uuid: Some("2178694e".to_owned()),
            partitions: vec![part("/dev/mmcblk0p1", 8192, 512 << 20, "vfat", "CYGNET")],
            ..Fingerprint::default()
        },
        ..DiskFacts::default()
    }
}
