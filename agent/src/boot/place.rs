//! Finds the card's FAT partition. Card and SSD may have the same labels, so the card is known by its controller.

use crate::firmware::{Firmware, FirmwareError};
use crate::inspect;
use cygnet_protocol::boot::{DIRECTORY, SWITCH};
use cygnet_protocol::fault::{Fault, FaultCode};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Where the kernel has its disks.
const BLOCK: &str = "/sys/block";

/// Which system runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// The card's own.
    Card,
    /// The SSD's.
    Ssd,
}

/// The FAT partitions of all disks whose name in `/dev` is wanted, mounted read-only one after the other.
pub fn fat_partitions(wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = Firmware> {
    let disks = fs::read_dir(BLOCK).into_iter().flatten().flatten();
    let names = disks.map(|disk| format!("/dev/{}", disk.file_name().to_string_lossy()));
    names.filter(move |disk| is_disk(disk) && wanted(disk)).flat_map(|disk| Firmware::all_fat(&disk))
}

/// The same of every disk that this system does not run from.
pub fn fat_of_others() -> impl Iterator<Item = Firmware> {
    let running = inspect::running_disk_set();
    fat_partitions(move |disk| !running.contains(disk))
}

/// Whether that is a disk on which a system may be.
fn is_disk(disk: &str) -> bool {
    let name = disk.trim_start_matches("/dev/");
    ["sd", "nvme", "vd", "mmcblk"].iter().any(|start| name.starts_with(start)) && !name.contains("boot")
}

/// The card's first partition, mounted read-only, and which system runs.
pub fn open(board: &str) -> Result<(Firmware, Runs), Fault> {
    let running = inspect::running_disk_set();
    let disks: BTreeSet<String> = fs::read_dir(BLOCK)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let kind = |disk: &str| fs::read_to_string(Path::new(BLOCK).join(disk).join("device/type")).unwrap_or_default();
    let mut last = FirmwareError::None;
    for disk in cards(board, &disks, &kind) {
        let disk = format!("/dev/{disk}");
        let runs = if running.contains(&disk) { Runs::Card } else { Runs::Ssd };
        match Firmware::open_first(&disk) {
            // In QEMU card and SSD are on the same bus: the card is what runs, or has the switch on it.
            Ok(fat) if runs == Runs::Card || is_pi(board) || fat.path().join(DIRECTORY).join(SWITCH).exists() => {
                return Ok((fat, runs));
            }
            Ok(_) => {}
            Err(error) => last = error,
        }
    }
    Err(Fault::new(
        FaultCode::NoSwitch,
        format!("There is no card with a switch: {last}."),
        "No card is in the slot, its first partition is not FAT, or nothing was ever installed from it with the card staying in.",
        "Put the card in that the Pi was installed from. A Pi whose card was pulled on purpose starts its SSD by itself.",
    ))
}

fn is_pi(board: &str) -> bool {
    board.starts_with("Raspberry Pi")
}

/// The disks that may be the card: on a Raspberry Pi what is in the SD slot, elsewhere virtio disks.
fn cards<'a>(board: &str, disks: &'a BTreeSet<String>, kind: &dyn Fn(&str) -> String) -> Vec<&'a str> {
    let is_card = |disk: &&String| match is_pi(board) {
        // An eMMC has `MMC` there (Documentation/ABI/testing/sysfs-class-mmc-host, drivers/mmc/core/bus.c).
        true => disk.starts_with("mmcblk") && !disk.contains("boot") && matches!(kind(disk).trim(), "SD" | "MMC"),
        false => disk.starts_with("vd"),
    };
    disks.iter().filter(is_card).map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_devices_are_no_disks() {
        assert!(is_disk("/dev/sda") && is_disk("/dev/nvme0n1") && is_disk("/dev/vdb"));
        assert!(!is_disk("/dev/zram0") && !is_disk("/dev/loop0") && !is_disk("/dev/mmcblk1boot0"));
    }

    #[test]
    fn the_card_is_known_by_its_controller() {
        let disks: BTreeSet<String> =
            ["sda", "mmcblk0", "mmcblk0boot0", "mmcblk1", "nvme0n1", "vda", "zram0"].map(str::to_owned).into();
        let kind = |disk: &str| if disk == "mmcblk1" { "SDIO\n" } else { "SD\n" }.to_owned();
        assert_eq!(cards("Raspberry Pi 4 Model B Rev 1.5", &disks, &kind), ["mmcblk0"]);
        assert_eq!(cards("linux,dummy-virt", &disks, &kind), ["vda"]);
    }
}
