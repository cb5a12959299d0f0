//! diskutil(8): `list -plist` for what there is and where it is mounted, `info -plist` for what a disk is.

use super::Disk;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Asks it.
pub fn ask() -> Result<Vec<Disk>> {
    let list = diskutil(&["list", "-plist"])?;
    let mut disks = Vec::new();
    for whole in whole(&list)? {
        // What was taken out meanwhile is none.
        if let Ok(info) = diskutil(&["info", "-plist", &whole]) {
            disks.extend(disk(&list, &info)?);
        }
    }
    Ok(disks)
}

fn diskutil(arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("diskutil").args(arguments).stdin(Stdio::null()).output().context("running diskutil")?;
    anyhow::ensure!(output.status.success(), "diskutil says: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(output.stdout)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    all_disks_and_partitions: Vec<Entry>,
}

/// A disk, a partition, or an APFS volume.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    device_identifier: String,
    mount_point: Option<String>,
    #[serde(default)]
    partitions: Vec<Entry>,
    #[serde(default, rename = "APFSVolumes")]
    volumes: Vec<Entry>,
    /// Of an APFS container: the partitions that it is on.
    #[serde(default, rename = "APFSPhysicalStores")]
    stores: Vec<Store>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Store {
    device_identifier: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    device_identifier: String,
    media_name: Option<String>,
    #[serde(rename = "IORegistryEntryName")]
    registry_name: Option<String>,
    bus_protocol: Option<String>,
    virtual_or_physical: Option<String>,
    total_size: Option<u64>,
    size: Option<u64>,
    #[serde(default)]
    removable_media: bool,
    #[serde(default)]
    removable_media_or_external_device: bool,
    writable_media: Option<bool>,
}

fn whole(list: &[u8]) -> Result<Vec<String>> {
    let list: List = plist::from_bytes(list).context("reading what diskutil lists")?;
    Ok(list.all_disks_and_partitions.into_iter().map(|entry| entry.device_identifier).collect())
}

/// The disk, unless it is an APFS container, which is made of others.
fn disk(list: &[u8], info: &[u8]) -> Result<Option<Disk>> {
    let list: List = plist::from_bytes(list).context("reading what diskutil lists")?;
    let info: Info = plist::from_bytes(info).context("reading what diskutil says of a disk")?;
    let image = info.bus_protocol.as_deref() == Some("Disk Image");
    if info.virtual_or_physical.as_deref() == Some("Virtual") && !image {
        return Ok(None);
    }
    let device = |name: &str| PathBuf::from(format!("/dev/{name}"));
    let name = &info.device_identifier;
    let (mut mounts, mut partitions, mut identifiers) = (Vec::new(), Vec::new(), vec![name.clone()]);
    for entry in list.all_disks_and_partitions.iter().filter(|entry| entry.device_identifier == *name) {
        mounts.extend(entry.mount_point.clone());
        for partition in &entry.partitions {
            mounts.extend(partition.mount_point.clone());
            partitions.push(device(&partition.device_identifier));
            identifiers.push(partition.device_identifier.clone());
        }
    }
    for container in &list.all_disks_and_partitions {
        if container.stores.iter().any(|store| identifiers.contains(&store.device_identifier)) {
            mounts.extend(container.volumes.iter().filter_map(|volume| volume.mount_point.clone()));
        }
    }
    Ok(Some(Disk {
        path: device(name),
        model: info.media_name.filter(|name| !name.is_empty()).or(info.registry_name),
        serial: None,
        size: info.total_size.or(info.size).unwrap_or(0),
        bus: info.bus_protocol,
        removable: (info.removable_media || info.removable_media_or_external_device) && !image,
        read_only: info.writable_media == Some(false),
        in_file: image,
        mounts,
        holders: vec![],
        partitions,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
 <key>AllDisks</key><array><string>disk0</string><string>disk0s1</string><string>disk3</string><string>disk4</string></array>
 <key>AllDisksAndPartitions</key><array>
  <dict><key>Content</key><string>GUID_partition_scheme</string><key>DeviceIdentifier</key><string>disk0</string>
   <key>OSInternal</key><false/>
   <key>Partitions</key><array><dict><key>Content</key><string>Apple_APFS</string>
    <key>DeviceIdentifier</key><string>disk0s1</string><key>DiskUUID</key><string>1</string><key>Size</key><integer>494384795648</integer></dict></array>
   <key>Size</key><integer>500277792768</integer></dict>
  <dict><key>APFSPhysicalStores</key><array><dict><key>DeviceIdentifier</key><string>disk0s1</string></dict></array>
   <key>APFSVolumes</key><array><dict><key>DeviceIdentifier</key><string>disk3s1</string><key>MountPoint</key><string>/</string>
    <key>Size</key><integer>494384795648</integer><key>VolumeName</key><string>Macintosh HD</string></dict></array>
   <key>Content</key><string>EF57347C-0000-11AA-AA11-00306543ECAC</string><key>DeviceIdentifier</key><string>disk3</string>
   <key>Partitions</key><array/><key>Size</key><integer>494384795648</integer></dict>
  <dict><key>Content</key><string>FDisk_partition_scheme</string><key>DeviceIdentifier</key><string>disk4</string>
   <key>Partitions</key><array><dict><key>Content</key><string>Windows_FAT_32</string><key>DeviceIdentifier</key><string>disk4s1</string>
     <key>MountPoint</key><string>/Volumes/FIRMWARE</string><key>Size</key><integer>31457280</integer><key>VolumeName</key><string>FIRMWARE</string></dict>
    <dict><key>Content</key><string>Linux</string><key>DeviceIdentifier</key><string>disk4s2</string><key>Size</key><integer>2768240640</integer></dict></array>
   <key>Size</key><integer>31914983424</integer></dict>
 </array>
 <key>WholeDisks</key><array><string>disk0</string><string>disk3</string><string>disk4</string></array>
</dict></plist>"#;

    fn info(keys: &str) -> Vec<u8> {
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist version=\"1.0\"><dict>{keys}</dict></plist>")
            .into_bytes()
    }

    #[test]
    fn cards_are_told_from_the_disks_of_the_machine() {
        assert_eq!(whole(LIST.as_bytes()).unwrap(), ["disk0", "disk3", "disk4"]);
        let card = info(
            "<key>BusProtocol</key><string>Secure Digital</string><key>DeviceIdentifier</key><string>disk4</string>
             <key>Ejectable</key><true/><key>IORegistryEntryName</key><string>Apple SDXC Reader Media</string><key>Internal</key><true/>
             <key>MediaName</key><string>Built In SDXC Reader</string><key>RemovableMedia</key><true/>
             <key>RemovableMediaOrExternalDevice</key><true/><key>TotalSize</key><integer>31914983424</integer>
             <key>VirtualOrPhysical</key><string>Physical</string><key>WholeDisk</key><true/><key>WritableMedia</key><true/>",
        );
        let card = disk(LIST.as_bytes(), &card).unwrap().unwrap();
        assert!(card.is_card());
        assert_eq!((card.path.to_str(), card.size, card.partitions.len()), (Some("/dev/disk4"), 31_914_983_424, 2));
        assert_eq!(
            (card.model.as_deref(), card.mounts.as_slice()),
            (Some("Built In SDXC Reader"), &["/Volumes/FIRMWARE".to_owned()][..])
        );
        let ssd = info(
            "<key>BusProtocol</key><string>Apple Fabric</string><key>DeviceIdentifier</key><string>disk0</string>
             <key>Internal</key><true/><key>MediaName</key><string>APPLE SSD AP0512Q</string><key>RemovableMedia</key><false/>
             <key>RemovableMediaOrExternalDevice</key><false/><key>Size</key><integer>500277792768</integer>
             <key>VirtualOrPhysical</key><string>Physical</string><key>WritableMedia</key><true/>",
        );
        let ssd = disk(LIST.as_bytes(), &ssd).unwrap().unwrap();
        assert!(!ssd.is_card() && ssd.mounts == ["/"]);
        let container = info(
            "<key>DeviceIdentifier</key><string>disk3</string><key>VirtualOrPhysical</key><string>Virtual</string>
             <key>RemovableMedia</key><false/><key>Size</key><integer>1</integer>",
        );
        assert_eq!(disk(LIST.as_bytes(), &container).unwrap(), None);
        assert!(whole(b"no plist").is_err() && disk(LIST.as_bytes(), b"").is_err());
    }
}
