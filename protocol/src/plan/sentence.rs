//! A step in the words of the person who confirms it.

use super::facts::human_bytes;
use super::step::{Step, Vdev};
use crate::disko::names::type_name;
use std::collections::BTreeMap;

fn words(items: &[String]) -> String {
    if items.is_empty() { String::new() } else { format!(" ({})", items.join(" ")) }
}

fn pairs(map: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if pairs.is_empty() { String::new() } else { format!(": {}", pairs.join(", ")) }
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
            Self::WipeSignatures { device, .. } => format!("Remove all signatures from {device}"),
            Self::ZapTable { device } => format!("Remove the partition table of {device}"),
            Self::ClearTable { device } => format!("Write an empty GPT on {device}"),
            Self::CreatePartition {
                device,
                number,
                label,
                type_code,
                attributes,
                uuid,
                first_lba,
                last_lba,
                sector_bytes,
                ..
            } => {
                let sectors = last_lba.saturating_sub(*first_lba).saturating_add(1);
                let size = human_bytes(sectors.saturating_mul(u64::from(*sector_bytes)));
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
            Self::CreatePool { pool, properties, root_properties, vdevs } => {
                let groups: Vec<String> = vdevs.iter().map(group).collect();
                format!(
                    "Create pool “{pool}” on {}{}{}",
                    groups.join(", "),
                    pairs(properties),
                    pairs(root_properties).replacen(": ", "; root dataset ", 1)
                )
            }
            Self::SetProperties { dataset, properties } => {
                format!("Set properties of dataset {dataset}{}", pairs(properties))
            }
            Self::CreateDataset { dataset, properties } => format!("Create dataset {dataset}{}", pairs(properties)),
            Self::CreateVolume { dataset, size, properties, arguments } => {
                format!("Create volume {dataset} of {size}{}{}", words(arguments), pairs(properties))
            }
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
        }
    }
}
