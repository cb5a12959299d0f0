//! What file systems cannot hold. mkfs would say so after the disk was wiped, or make something that is smaller than it looks.

use super::capacity::Sizes;
use super::facts::human_bytes;
use super::refusal::Refusal;
use crate::disko::{Content, Devices, Filesystem, Origin};

/// FAT counts sectors in 32 bits.
const FAT_SECTORS: u64 = u32::MAX as u64;
/// The most clusters of a FAT12 and a FAT16, and of how many bytes mkfs.fat(8) makes one at most.
const FAT12_CLUSTERS: u64 = 4084;
const FAT16_CLUSTERS: u64 = 65_524;
const CLUSTER_BYTES: u64 = 64 << 10;

/// Refuses a file system that is larger than its format can be.
pub(super) fn check(devices: &Devices, sizes: &Sizes<'_>) -> Result<(), Refusal> {
    for placed in devices.contents() {
        let Content::Filesystem(filesystem) = placed.content else { continue };
        let (Some(size), Some(sector)) = (sizes.origin(placed.origin), sector(placed.origin, sizes)) else { continue };
        let Some((name, most)) = most(filesystem, sector) else { continue };
        if size > most {
            return Err(Refusal::Layout {
                path: placed.place().to_owned(),
                what: format!(
                    "has {}, and {name} on a disk with sectors of {sector} bytes can have {} at most",
                    human_bytes(size),
                    human_bytes(most)
                ),
                remedy: "make the partition smaller, or take another format, such as ext4".to_owned(),
            });
        }
    }
    Ok(())
}

fn sector(origin: Origin<'_>, sizes: &Sizes<'_>) -> Option<u64> {
    let (Origin::Disk(disk) | Origin::Partition(disk, _)) = origin else { return None };
    sizes.targets.get(disk).map(|(_, facts)| u64::from(facts.logical_sector_bytes))
}

/// The name of a format, and how many bytes it can have; `None` where that is more than any disk has.
fn most(filesystem: &Filesystem, sector: u64) -> Option<(&'static str, u64)> {
    if !matches!(filesystem.format.as_str(), "vfat" | "fat" | "msdos") {
        return None;
    }
    let argument = |option: &str| {
        let words = &filesystem.arguments;
        let at = words.iter().position(|word| word.starts_with(option))?;
        let glued = words.get(at)?.strip_prefix(option).filter(|rest| !rest.is_empty());
        glued.or_else(|| words.get(at + 1).map(String::as_str))?.parse::<u64>().ok()
    };
    let sector = argument("-S").unwrap_or(sector);
    Some(match argument("-F") {
        Some(12) => ("a FAT12", FAT12_CLUSTERS * CLUSTER_BYTES),
        Some(16) => ("a FAT16", FAT16_CLUSTERS * CLUSTER_BYTES),
        Some(_) | None => ("a FAT32", FAT_SECTORS.saturating_mul(sector)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disko::Hooks;

    #[test]
    fn what_a_fat_can_hold_depends_on_its_kind_and_its_sectors() {
        let fat = |arguments: &[&str], sector| {
            let filesystem = Filesystem {
                format: "vfat".into(),
                arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
                mountpoint: None,
                mount_options: Vec::new(),
                hooks: Hooks::default(),
            };
            most(&filesystem, sector).unwrap().1
        };
        let tib = 1 << 40;
        assert!(fat(&[], 512) < 2 * tib && fat(&["-F", "32"], 512) > 2 * tib - (1 << 20));
        assert!(fat(&["-F32", "-n", "BOOT"], 4096) > 15 * tib);
        assert!(fat(&["-S", "4096"], 512) > 15 * tib);
        assert!(fat(&["-F", "16"], 512) < 4 << 30 && fat(&["-F12"], 512) < 256 << 20);
    }
}
