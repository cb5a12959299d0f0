//! Whether the board's own firmware will find what it needs on the disks of a layout.
//!
//! Sources, all public: raspberrypi/documentation (documentation/asciidoc/computers/raspberry-pi: `boot-msd.adoc`,
//! `boot-nvme.adoc`, `bootflow-legacy.adoc`, `eeprom-bootloader.adoc`), raspberrypi/rpi-eeprom (release notes; issues #120
//! whole-disk FAT, #126 MBR type 0xef, #130 GPT without basic data or EFI partitions, #359 FAT16 in a GPT), and
//! raspberrypi/firmware (issues #1711 the boot ROM does not know 0xef, #1457 and #1628 hybrid MBRs).
//!
//! There are two kinds of boards. Up to the Pi 3 and the Zero 2 a ROM that cannot be changed loads `bootcode.bin` from a
//! FAT partition; since the Pi 4 a boot loader in an EEPROM does, which knows GPT since 2020. `bootflow-legacy.adoc` says
//! that the ROM of the Pi 3 reads GPT on USB disks, but neither says with which types nor whether `start.elf` follows;
//! on SD cards people report that it does not, and a hybrid MBR costs nothing: so a GPT alone is refused there.

use super::DiskFacts;
use super::refusal::Refusal;
use crate::disko::{Content, Devices, Disk, Filesystem, Gpt, Hybrid, Partition, Table, TableEntry, TableFormat, join};
use std::collections::BTreeMap;

/// What boots a Raspberry Pi.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loader {
    /// The boot ROM, which reads MBRs.
    Rom(UsbBoot),
    /// The boot loader in the EEPROM; whether it can have a disk on PCIe.
    Eeprom { pcie: bool },
}

/// Whether a boot ROM boots from USB (`boot-msd.adoc`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UsbBoot {
    /// As delivered.
    Yes,
    /// Once a bit is set that can be set only once.
    AfterBit,
    /// Only with `bootcode.bin` on a card.
    No,
}

/// By the name in the device tree; `None` for what is no Raspberry Pi.
fn loader(model: &str) -> Option<Loader> {
    let name = model.strip_prefix("Raspberry Pi ")?;
    let is =
        |prefix: &str| name == prefix || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with([' ', '+']));
    Some(if is("4") || is("400") || is("Compute Module 4S") {
        Loader::Eeprom { pcie: false }
    } else if is("3 Model B Plus") || is("Zero 2 W") || is("Zero 2") {
        Loader::Rom(UsbBoot::Yes)
    } else if is("3") || is("Compute Module 3") || is("2 Model B Rev 1.2") || is("2 Model B Rev 1.3") {
        Loader::Rom(UsbBoot::AfterBit)
    } else if is("2")
        || is("Zero")
        || is("Zero W")
        || is("Model")
        || is("Compute Module Rev")
        || name == "Compute Module"
    {
        Loader::Rom(UsbBoot::No)
    } else {
        // Compute Module 4 and 5, Pi 5, 500, and what comes after them.
        Loader::Eeprom { pcie: true }
    })
}

/// Whether it is known what a board with this name in the device tree boots from.
#[must_use]
pub fn is_known(model: &str) -> bool {
    loader(model).is_some()
}

/// What firmware makes of one FAT file system.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sight {
    Found,
    /// It may not, because of this.
    Perhaps(String),
    /// It does not, because of this; and what helps.
    Hidden {
        why: String,
        remedy: &'static str,
    },
}

const HYBRID: &str = concat!(
    "give that partition hybrid = { mbrPartitionType = \"0x0c\"; mbrBootableFlag = false; } and its table ",
    "efiGptPartitionFirst = false, or use a table with format = \"msdos\""
);
const GPT_TYPE: &str = "set type = \"EF00\" (or \"0700\") on that partition";
const FS_TYPE: &str = "set fs-type = \"fat32\" on that partition";
const LAYER: &str = "put the FAT file system on a partition of its own";

/// Types of an MBR by which the boot ROM knows FAT.
const FAT_IN_MBR: [u8; 6] = [0x01, 0x04, 0x06, 0x0b, 0x0c, 0x0e];

/// GPT types that the EEPROM's boot loader looks into: EFI system and basic data, as GUIDs or in sgdisk's short form.
fn is_firmware_type(code: &str) -> bool {
    let code = code.to_ascii_uppercase();
    ["EF00", "0700", "0100", "0400", "0600", "0B00", "0C00", "0E00"].contains(&code.as_str())
        || code == "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
        || code == "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
}

/// The type that an entry of a hybrid MBR gets; sgdisk guesses it from the type in the GPT.
fn mbr_type(partition: &Partition, hybrid: &Hybrid) -> Option<u8> {
    let Some(text) = &hybrid.mbr_type else {
        let first = partition.type_code.get(..2).filter(|_| partition.type_code.len() == 4)?;
        return match u8::from_str_radix(first, 16).ok()? {
            // All of these are "basic data" in a GPT, and come back as the first of that name.
            0x01 | 0x04 | 0x06 | 0x0b | 0x0c | 0x0e => Some(0x07),
            other => Some(other),
        };
    };
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    u8::from_str_radix(hex, 16).ok()
}

/// A FAT file system that the layout mounts.
struct Fat<'a> {
    path: String,
    bus: Option<&'a str>,
    sight: Sight,
}

fn is_fat(content: Option<&Content>) -> bool {
    let fat = |filesystem: &Filesystem| {
        matches!(filesystem.format.as_str(), "vfat" | "fat" | "msdos") && filesystem.mountpoint.is_some()
    };
    matches!(content, Some(Content::Filesystem(filesystem)) if fat(filesystem))
}

fn in_gpt(gpt: &Gpt, partition: &Partition, loader: Loader, usb: bool) -> Sight {
    let hybrids: Vec<(&Partition, &Hybrid)> =
        gpt.partitions.iter().filter_map(|other| Some((other, other.hybrid.as_ref()?))).collect();
    let place = hybrids.iter().position(|(other, _)| other.number == partition.number);
    let kind = partition.hybrid.as_ref().and_then(|hybrid| mbr_type(partition, hybrid));
    let first = place == Some(0) && !gpt.efi_first;
    match loader {
        Loader::Rom(_) => {
            let why = match (place, kind) {
                _ if hybrids.is_empty() => "the disk has only a GPT, and the board's boot ROM reads MBRs".to_owned(),
                (None, _) => {
                    "it is not among the entries of the hybrid MBR, which is all that the boot ROM reads".into()
                }
                (_, kind) if !kind.is_some_and(|kind| FAT_IN_MBR.contains(&kind)) => {
                    let kind = kind.map_or("a type of its own".to_owned(), |kind| format!("type 0x{kind:02x}"));
                    format!("its entry in the hybrid MBR has {kind}, which the boot ROM does not take for FAT")
                }
                _ if gpt.efi_first => {
                    "the first entry of the hybrid MBR is the one that protects the GPT (efiGptPartitionFirst)".into()
                }
                _ if first => return Sight::Found,
                _ if usb => return Sight::Perhaps("it is not the first entry of the hybrid MBR".to_owned()),
                _ => "it is not the first entry of the hybrid MBR".to_owned(),
            };
            Sight::Hidden { why, remedy: HYBRID }
        }
        Loader::Eeprom { .. } => {
            let by_mbr = first && kind.is_some_and(|kind| FAT_IN_MBR.contains(&kind) || kind == 0xef);
            match (is_firmware_type(&partition.type_code), hybrids.is_empty(), by_mbr) {
                (true, true, _) | (true, false, true) => Sight::Found,
                (true, false, false) => Sight::Perhaps(
                    concat!(
                        "the disk has a hybrid MBR in which it is not the first entry, or not of type 0x0c; ",
                        "versions of the firmware differ in which of the two tables they read"
                    )
                    .to_owned(),
                ),
                (false, _, true) => Sight::Perhaps(format!(
                    "its type in the GPT is {}; firmware that reads the GPT passes it over",
                    partition.type_code
                )),
                (false, _, false) => Sight::Hidden {
                    why: format!(
                        "its type is {}, and the firmware looks into EFI system and basic data partitions only",
                        partition.type_code
                    ),
                    remedy: GPT_TYPE,
                },
            }
        }
    }
}

fn in_table(table: &Table, entry: &TableEntry, loader: Loader, usb: bool) -> Sight {
    let flag = |names: &[&str]| entry.flags.iter().any(|flag| names.contains(&flag.as_str()));
    let fat = entry.fs_type.as_deref().is_some_and(|kind| kind.starts_with("fat"));
    match (table.format, loader) {
        (TableFormat::Gpt, Loader::Rom(_)) => Sight::Hidden {
            why: "the disk has only a GPT, and the board's boot ROM reads MBRs".to_owned(),
            remedy: "set format = \"msdos\" on the table",
        },
        // parted: the boot flag of a GPT is the type EFI system.
        (TableFormat::Gpt, Loader::Eeprom { .. }) if fat || entry.bootable || flag(&["boot", "esp", "msftdata"]) => {
            Sight::Found
        }
        (TableFormat::Msdos, Loader::Rom(_)) if flag(&["esp"]) => Sight::Hidden {
            why: "its type is 0xef, which the boot ROM does not know".to_owned(),
            remedy: "remove the flag esp, and set fs-type = \"fat32\" on that partition",
        },
        (TableFormat::Msdos, Loader::Rom(_)) if fat && entry.number != 1 && !usb => Sight::Hidden {
            why: "it is not the first partition, the only one that the boot ROM looks into on a card".to_owned(),
            remedy: "list it first",
        },
        (TableFormat::Msdos, _) if fat || flag(&["esp"]) => Sight::Found,
        (TableFormat::Gpt | TableFormat::Msdos, _) => Sight::Hidden {
            why: "parted gives it the type of a Linux partition, into which the firmware does not look".to_owned(),
            remedy: FS_TYPE,
        },
    }
}

/// What is known of partition or disk by its content: the FAT file systems that lie right there, and members of arrays.
fn on_disk<'a>(
    name: &str,
    disk: &Disk,
    facts: &'a DiskFacts,
    loader: Loader,
    wanted: &dyn Fn(Option<&Content>) -> bool,
) -> Vec<Fat<'a>> {
    let path = join("disk", name);
    let bus = facts.bus.as_deref();
    let usb = bus == Some("usb");
    match &disk.content {
        Content::Gpt(gpt) => {
            let partitions = gpt.partitions.iter().filter(|partition| wanted(partition.content.as_ref()));
            let path = |partition: &Partition| join(&format!("{path}.content.partitions"), &partition.key);
            partitions
                .map(|partition| Fat { path: path(partition), bus, sight: in_gpt(gpt, partition, loader, usb) })
                .collect()
        }
        Content::Table(table) => {
            let entries = table.partitions.iter().filter(|entry| wanted(entry.content.as_ref()));
            let path = |entry: &TableEntry| format!("{path}.content.partitions.{}", entry.number - 1);
            entries.map(|entry| Fat { path: path(entry), bus, sight: in_table(table, entry, loader, usb) }).collect()
        }
        // A disk that is one FAT file system boots, too (rpi-eeprom#120).
        content if wanted(Some(content)) => vec![Fat { path, bus, sight: Sight::Found }],
        _ => Vec::new(),
    }
}

/// FAT on a RAID of whole partitions is read through any member, if md keeps its own data at the end (md(4)).
fn on_arrays<'a>(devices: &Devices, targets: &BTreeMap<&str, (&Disk, &'a DiskFacts)>, loader: Loader) -> Vec<Fat<'a>> {
    let mut found = Vec::new();
    for (key, array) in devices.arrays.iter().filter(|(_, array)| is_fat(array.content.as_ref())) {
        let path = join("mdadm", key);
        if array.level != 1 || !["0", "0.9", "0.90", "1.0"].contains(&array.metadata.as_str()) {
            let why = "it is on an array whose members do not look like FAT".to_owned();
            let remedy = "set level = 1 and metadata = \"1.0\" on the array";
            found.push(Fat { path, bus: None, sight: Sight::Hidden { why, remedy } });
            continue;
        }
        let member =
            |content: Option<&Content>| matches!(content, Some(Content::Mdraid(member)) if member.array == array.name);
        for (name, (disk, facts)) in targets {
            found.extend(on_disk(name, disk, facts, loader, &member));
        }
    }
    found
}

fn about_the_bus(loader: Loader, model: &str, bus: Option<&str>) -> Option<String> {
    let text = match (loader, bus?) {
        (Loader::Rom(UsbBoot::AfterBit), "usb") => concat!(
            "boots from USB only after program_usb_boot_mode=1 in the config.txt of a card has set a bit in it, once ",
            "for all; `vcgencmd otp_dump | grep 17:` says 3020000a if it is set"
        ),
        (Loader::Rom(UsbBoot::No), "usb") => "boots from USB only with bootcode.bin on a card",
        (Loader::Eeprom { pcie: false }, "usb") => concat!(
            "boots from USB, and from a GPT, only with a boot loader of September 2020 or newer in its EEPROM, ",
            "and from a card before USB unless BOOT_ORDER says otherwise"
        ),
        (Loader::Rom(_) | Loader::Eeprom { pcie: false }, "nvme") => "does not boot from NVMe disks",
        (Loader::Eeprom { pcie: true }, "nvme") => concat!(
            "boots from NVMe only with a boot loader of July 2021 (Compute Module 4) or December 2023 (Pi 5) or newer ",
            "in its EEPROM, and a 6 in its BOOT_ORDER"
        ),
        _ => return None,
    };
    Some(format!("the {model} {text}"))
}

/// What is missing on a layout that the card starts, so that its firmware is the card's: only what pulling the card would cost.
pub(super) fn without_card(
    devices: &Devices,
    targets: &BTreeMap<&str, (&Disk, &DiskFacts)>,
    model: &str,
) -> Vec<String> {
    match check(devices, targets, model) {
        Ok(_) => Vec::new(),
        Err(refusal) => {
            vec![format!(
                "the card must stay in: the {model} would find no firmware on the SSD ({})",
                refusal.cause().trim_end_matches('.')
            )]
        }
    }
}

/// Refuses a layout from which the board cannot boot; answers with warnings where it may not.
pub(super) fn check(
    devices: &Devices,
    targets: &BTreeMap<&str, (&Disk, &DiskFacts)>,
    model: &str,
) -> Result<Vec<String>, Refusal> {
    let Some(loader) = loader(model) else {
        return Ok(Vec::new());
    };
    let mut found: Vec<Fat<'_>> =
        targets.iter().flat_map(|(name, (disk, facts))| on_disk(name, disk, facts, loader, &is_fat)).collect();
    found.extend(on_arrays(devices, targets, loader));

    let seen = |fat: &&Fat<'_>| fat.sight == Sight::Found;
    if let Some(fat) = found.iter().find(seen) {
        return Ok(about_the_bus(loader, model, fat.bus).into_iter().collect());
    }
    let perhaps = found.iter().find_map(|fat| match &fat.sight {
        Sight::Perhaps(why) => Some((fat, why)),
        Sight::Found | Sight::Hidden { .. } => None,
    });
    if let Some((fat, why)) = perhaps {
        let doubt = format!("the {model} may not find its firmware on {}: {why}", fat.path);
        return Ok(about_the_bus(loader, model, fat.bus).into_iter().chain([doubt]).collect());
    }
    let board = model.to_owned();
    Err(match found.into_iter().next() {
        Some(Fat { path, sight: Sight::Hidden { why, remedy }, .. }) => {
            Refusal::FirmwareHidden { board, path: Some(path), why, remedy: remedy.to_owned() }
        }
        _ => {
            let below = devices.contents().iter().any(|placed| is_fat(Some(placed.content)));
            let why = match below {
                true => "the only FAT file system is inside encryption or a volume".to_owned(),
                false => "it mounts no FAT file system".to_owned(),
            };
            let remedy = match below {
                true => LAYER,
                false => {
                    "add a partition with type = \"EF00\", format = \"vfat\" and mountpoint = \"/boot/firmware\" (or \"/boot\")"
                }
            };
            Refusal::FirmwareHidden { board, path: None, why, remedy: remedy.to_owned() }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_are_told_apart_by_their_names() {
        for (model, expected) in [
            ("Raspberry Pi Model B Plus Rev 1.2", Loader::Rom(UsbBoot::No)),
            ("Raspberry Pi 2 Model B Rev 1.1", Loader::Rom(UsbBoot::No)),
            ("Raspberry Pi 2 Model B Rev 1.2", Loader::Rom(UsbBoot::AfterBit)),
            ("Raspberry Pi Zero W Rev 1.1", Loader::Rom(UsbBoot::No)),
            ("Raspberry Pi Zero 2 W Rev 1.0", Loader::Rom(UsbBoot::Yes)),
            ("Raspberry Pi 3 Model B Rev 1.2", Loader::Rom(UsbBoot::AfterBit)),
            ("Raspberry Pi 3 Model B Plus Rev 1.3", Loader::Rom(UsbBoot::Yes)),
            ("Raspberry Pi 3 Model A Plus Rev 1.0", Loader::Rom(UsbBoot::AfterBit)),
            ("Raspberry Pi Compute Module Rev 1.1", Loader::Rom(UsbBoot::No)),
            ("Raspberry Pi Compute Module 3 Plus Rev 1.0", Loader::Rom(UsbBoot::AfterBit)),
            ("Raspberry Pi 4 Model B Rev 1.5", Loader::Eeprom { pcie: false }),
            ("Raspberry Pi 400 Rev 1.1", Loader::Eeprom { pcie: false }),
            ("Raspberry Pi Compute Module 4 Rev 1.1", Loader::Eeprom { pcie: true }),
            ("Raspberry Pi Compute Module 4S Rev 1.0", Loader::Eeprom { pcie: false }),
            ("Raspberry Pi 5 Model B Rev 1.0", Loader::Eeprom { pcie: true }),
            ("Raspberry Pi 500 Rev 1.0", Loader::Eeprom { pcie: true }),
            ("Raspberry Pi Compute Module 5 Rev 1.0", Loader::Eeprom { pcie: true }),
            ("Raspberry Pi 6 Model B", Loader::Eeprom { pcie: true }),
        ] {
            assert_eq!(loader(model), Some(expected), "{model}");
        }
        for other in ["linux,dummy-virt", "unknown board", "Radxa ROCK 5B", ""] {
            assert!(loader(other).is_none() && !is_known(other), "{other}");
        }
    }
}
