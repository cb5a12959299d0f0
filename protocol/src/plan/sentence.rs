//! A step in the words of the person who confirms it.

use super::facts::human_bytes;
use super::parts::{BootMark, HybridEntry, SwapFile, Vdev};
use super::secret::SecretRef;
use super::step::Step;
use crate::disko::names::type_name;
use std::collections::BTreeMap;

fn words(items: &[String]) -> String {
    if items.is_empty() { String::new() } else { format!(" ({})", items.join(" ")) }
}

fn pairs(map: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if pairs.is_empty() { String::new() } else { format!(": {}", pairs.join(", ")) }
}

fn with(secret: Option<&SecretRef>) -> String {
    secret.map(|secret| format!(", with {secret}")).unwrap_or_default()
}

fn swap(files: &[SwapFile]) -> String {
    files.iter().map(|file| format!(", a swap file {} of {}", file.path, file.size)).collect()
}

fn attribute(bit: u8) -> String {
    match bit {
        0 => "required attribute".to_owned(),
        1 => "no-block-io attribute".to_owned(),
        2 => "legacy-boot attribute".to_owned(),
        bit => format!("attribute bit {bit}"),
    }
}

fn group(vdev: &Vdev) -> String {
    let words = [vdev.class.as_deref(), vdev.mode.as_deref()];
    let words: Vec<&str> = words.into_iter().flatten().chain(vdev.members.iter().map(String::as_str)).collect();
    words.join(" ")
}

impl Step {
    /// What this step does, as a sentence without its full stop.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Deactivate { device } => {
                format!("Stop using old swap on {device}, if it is in use")
            }
            Self::ClearPoolLabel { device } => format!("Remove the ZFS labels from {device}"),
            Self::ClearArrayMember { device } => format!("Remove the RAID superblock from {device}"),
            Self::RemovePhysicalVolume { device } => format!("Remove the LVM physical volume {device}"),
            Self::EraseLabels { device, spans } => {
                let bytes = spans.iter().fold(0_u64, |sum, span| sum.saturating_add(span.length));
                format!("Write zeros ({}) on {device} where old and new partitions begin and end", human_bytes(bytes))
            }
            Self::ProveBlank { device, .. } => format!("Stop unless nothing is found on {device} any more"),
            Self::WipeSignatures { device, .. } => format!("Remove all signatures from {device}"),
            Self::ZapTable { device } => format!("Remove the partition table of {device}"),
            Self::ClearTable { device, .. } => format!("Write an empty GPT on {device}"),
            Self::CreatePartition {
                device,
                number,
                label,
                type_code,
                attributes,
                uuid,
                start,
                end,
                first_lba,
                last_lba,
                sector_bytes,
                ..
            } => {
                let size = match (first_lba, last_lba, sector_bytes) {
                    (Some(first), Some(last), Some(sector)) => {
                        let sectors = last.saturating_sub(*first).saturating_add(1);
                        human_bytes(sectors.saturating_mul(u64::from(*sector)))
                    }
                    _ => format!("from {start} to {end}"),
                };
                let kind = type_name(type_code).map_or_else(|| format!("type {type_code}"), str::to_owned);
                let mut sentence = format!("Create partition {number} “{label}” on {device}: {size}, {kind}");
                for bit in attributes {
                    sentence.push_str(", ");
                    sentence.push_str(&attribute(*bit));
                }
                if let Some(uuid) = uuid {
                    sentence.push_str(", UUID ");
                    sentence.push_str(uuid);
                }
                sentence
            }
            Self::WaitForDevice { path, .. } => format!("Wait for {path}"),
            Self::MakeFilesystem { device, format, arguments } => {
                format!("Make a {format} filesystem on {device}{}", words(arguments))
            }
            Self::MakeSwap { device, arguments } => {
                format!("Make swap space on {device}{}", words(arguments))
            }
            Self::CreatePool { pool, properties, root_properties, vdevs, secret } => {
                let groups: Vec<String> = vdevs.iter().map(group).collect();
                format!(
                    "Create pool “{pool}” on {}{}{}{}",
                    groups.join(", "),
                    pairs(properties),
                    pairs(root_properties).replacen(": ", "; root dataset ", 1),
                    with(secret.as_ref())
                )
            }
            Self::SetProperties { dataset, properties } => {
                format!("Set properties of dataset {dataset}{}", pairs(properties))
            }
            Self::CreateDataset { dataset, properties, secret } => {
                format!("Create dataset {dataset}{}{}", pairs(properties), with(secret.as_ref()))
            }
            Self::CreateVolume { dataset, size, properties, arguments, secret } => {
                let with = with(secret.as_ref());
                format!("Create volume {dataset} of {size}{}{}{with}", words(arguments), pairs(properties))
            }
            Self::MarkBootable { device, marks, .. } => {
                let mark = |mark: &BootMark| {
                    let attributes = mark.attributes.iter().map(|bit| attribute(*bit));
                    let how: Vec<String> = attributes.chain(mark.flags.iter().cloned()).collect();
                    format!("partition {} ({})", mark.number, how.join(", "))
                };
                let marks: Vec<String> = marks.iter().map(mark).collect();
                format!("Make {device} bootable from {}", marks.join(" and "))
            }
            Self::MakeHybridMbr { device, entries, .. } => {
                let entry = |entry: &HybridEntry| {
                    let kind = entry.mbr_type.as_ref().map(|kind| format!(" as type {kind}")).unwrap_or_default();
                    let active = if entry.bootable { ", active" } else { "" };
                    format!("partition {}{kind}{active}", entry.number)
                };
                let entries: Vec<String> = entries.iter().map(entry).collect();
                format!("Write a hybrid MBR on {device} that shows {}", entries.join(" and "))
            }
            Self::CreateTable { device, format, .. } => format!("Write an empty {format} partition table on {device}"),
            Self::CreateTablePartition { device, number, name, fs_type, start, end, flags, .. } => {
                let hint = fs_type.as_ref().map(|hint| format!(", for {hint}")).unwrap_or_default();
                let flags = if flags.is_empty() { String::new() } else { format!(", {}", flags.join(", ")) };
                format!("Create partition {number} “{name}” on {device}: from {start} to {end}{hint}{flags}")
            }
            Self::FormatLuks { device, key, arguments } => {
                format!("Make a LUKS device of {device}, opened by {key}{}", words(arguments))
            }
            Self::OpenLuks { device, name, key, allow_discards, bypass_workqueues, arguments, .. } => {
                let mut flags: Vec<String> = arguments.clone();
                flags.extend(allow_discards.then(|| "discards allowed".to_owned()));
                flags.extend(bypass_workqueues.then(|| "without work queues".to_owned()));
                format!("Open the LUKS device {device} as “{name}” with {key}{}", words(&flags))
            }
            Self::AddLuksKey { device, path, key } => {
                format!("Let the key in {path} open the LUKS device {device}, too (with {key})")
            }
            Self::CreateArray { name, level, metadata, members, arguments } => {
                let members = members.join(" ");
                let metadata = if metadata == "default" { String::new() } else { format!(", metadata {metadata}") };
                format!("Create RAID {level} array “{name}” on {members}{metadata}{}", words(arguments))
            }
            Self::CreatePhysicalVolume { device } => format!("Make {device} an LVM physical volume"),
            Self::CreateVolumeGroup { group, members, .. } => {
                format!("Create volume group “{group}” on {}", members.join(" "))
            }
            Self::CreateLogicalVolume { group, name, size, kind, thin_pool, arguments } => {
                let kind = kind.as_ref().map(|kind| format!(", {kind}")).unwrap_or_default();
                let pool = thin_pool.as_ref().map(|pool| format!(" in {pool}")).unwrap_or_default();
                let size = if size.ends_with('%') { format!("{size} of what is free") } else { size.clone() };
                format!("Create logical volume {group}/{name}: {size}{kind}{pool}{}", words(arguments))
            }
            Self::MakeBtrfs { device, arguments } => format!("Make a btrfs filesystem on {device}{}", words(arguments)),
            Self::CreateSubvolume { device, name, arguments, swap_files } => {
                format!("Create subvolume {name} on {device}{}{}", words(arguments), swap(swap_files))
            }
            Self::CreateSwapFiles { device, files } => format!("Write to the btrfs on {device}{}", swap(files)),
            Self::MakeBcachefs { uuid, devices, secret, arguments } => {
                let members: Vec<String> =
                    devices.iter().map(|member| format!("{}{}", member.device, words(&member.arguments))).collect();
                let (members, with) = (members.join(" "), with(secret.as_ref()));
                format!("Make a bcachefs filesystem {uuid} on {members}{}{with}", words(arguments))
            }
            Self::UnlockBcachefs { uuid, secret } => format!("Unlock the bcachefs {uuid} with {secret}"),
            Self::CreateBcachefsSubvolume { uuid, name } => format!("Create subvolume {name} on the bcachefs {uuid}"),
            Self::AssembleArray { name, members } => format!("Assemble array “{name}” from {}", members.join(" ")),
            Self::ReadTable { device } => format!("Read the partition table of {device}"),
            Self::ActivateVolumeGroup { group } => format!("Activate volume group “{group}”"),
            Self::StopArray { name } => format!("Stop array “{name}”"),
            Self::DeactivateVolumeGroup { group } => format!("Deactivate volume group “{group}”"),
            Self::CloseLuks { name } => format!("Close the LUKS device “{name}”"),
            Self::RemovePartitions { partitions } => format!("Let go of {}", partitions.join(", ")),
            Self::Hook { owner, when, script, .. } => {
                let lines: Vec<&str> = script.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
                format!("Run the {} of {owner}: {}", when.option(), lines.join(" ⏎ "))
            }
            Self::Mount { source, target, fstype, options } => {
                let options: Vec<String> = options.iter().filter(|option| *option != "defaults").cloned().collect();
                format!("Mount {source} at {target} as {fstype}{}", words(&options))
            }
            Self::SwapOn { device, .. } => format!("Use swap on {device} during the installation"),
            Self::ImportPool { pool, .. } => format!("Import pool “{pool}” without mounting it"),
            Self::LoadKey { dataset, location } => {
                format!("Load the key of dataset {dataset} from {location}")
            }
            Self::Unmount { target } => format!("Unmount {target}"),
            Self::SwapOff { device } => format!("Stop using swap on {device}"),
            Self::ExportPool { pool } => format!("Export pool “{pool}”"),
            Self::Ensure { step } => format!("{}, unless it is there", step.sentence()),
            Self::ClearAway { step } => format!("Clear away what the interrupted step left: {}", step.sentence()),
        }
    }
}
