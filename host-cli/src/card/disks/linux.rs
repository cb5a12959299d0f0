//! lsblk(8), util-linux 2.37 and newer.

use super::Disk;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const COLUMNS: &str = "NAME,PATH,TYPE,SIZE,MODEL,VENDOR,SERIAL,TRAN,RM,HOTPLUG,RO,MOUNTPOINTS,SUBSYSTEMS";

/// Asks it.
pub fn ask() -> Result<Vec<Disk>> {
    let mut command = Command::new("lsblk");
    let output = command.args(["--json", "--bytes", "--output", COLUMNS]).stdin(Stdio::null()).output();
    let output = output.context("running lsblk (util-linux)")?;
    anyhow::ensure!(output.status.success(), "lsblk says: {}", String::from_utf8_lossy(&output.stderr).trim());
    // The kernel's word on whether an mmcblk is a card or soldered in.
    let kind = |name: &str| std::fs::read_to_string(format!("/sys/block/{name}/device/type")).unwrap_or_default();
    parse(&output.stdout, |name| kind(name).trim() == "SD")
}

#[derive(Deserialize)]
struct Output {
    blockdevices: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    name: String,
    path: PathBuf,
    #[serde(rename = "type")]
    kind: String,
    size: Option<u64>,
    model: Option<String>,
    vendor: Option<String>,
    serial: Option<String>,
    tran: Option<String>,
    #[serde(default)]
    rm: bool,
    #[serde(default)]
    hotplug: bool,
    #[serde(default)]
    ro: bool,
    #[serde(default)]
    mountpoints: Vec<Option<String>>,
    subsystems: Option<String>,
    #[serde(default)]
    children: Vec<Node>,
}

/// Reads what it says; `is_sd` tells whether the disk of this name is an SD card.
fn parse(json: &[u8], is_sd: impl Fn(&str) -> bool) -> Result<Vec<Disk>> {
    let output: Output = serde_json::from_slice(json).context("reading what lsblk says")?;
    // rom: a DVD. Disks of no size: an empty slot of a reader, zram.
    let disks = output.blockdevices.into_iter().filter(|node| matches!(node.kind.as_str(), "disk" | "loop"));
    Ok(disks.map(|node| disk(node, &is_sd)).collect())
}

fn disk(node: Node, is_sd: impl Fn(&str) -> bool) -> Disk {
    let mut disk = Disk {
        removable: node.kind == "disk"
            && (node.rm || node.hotplug || node.tran.as_deref() == Some("usb") || is_sd(&node.name)),
        in_file: node.kind == "loop",
        model: said([node.vendor.as_deref(), node.model.as_deref()]),
        serial: said([None, node.serial.as_deref()]),
        size: node.size.unwrap_or(0),
        bus: node
            .tran
            .clone()
            .or_else(|| node.subsystems.as_deref()?.split(':').find(|s| *s == "mmc").map(str::to_owned)),
        read_only: node.ro,
        path: node.path.clone(),
        ..Disk::default()
    };
    gather(&node, &mut disk);
    disk
}

fn said(parts: [Option<&str>; 2]) -> Option<String> {
    let words: Vec<&str> = parts.into_iter().flatten().map(str::trim).filter(|part| !part.is_empty()).collect();
    Some(words.join(" ")).filter(|text| !text.is_empty())
}

fn gather(node: &Node, disk: &mut Disk) {
    for at in node.mountpoints.iter().flatten() {
        if !disk.mounts.contains(at) {
            disk.mounts.push(at.clone());
        }
    }
    for child in &node.children {
        match child.kind.as_str() {
            "part" => disk.partitions.push(child.path.clone()),
            kind => disk.holders.push(format!("{} ({kind})", child.path.display())),
        }
        gather(child, disk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// lsblk 2.38 and 2.41 print this; put together from a laptop with an NVMe, a USB reader and an internal SD slot.
    const LSBLK: &str = r#"{"blockdevices": [
      {"name":"sda","path":"/dev/sda","type":"disk","size":31914983424,"model":"Storage Device  ","vendor":"Generic ","serial":"000000001532",
       "tran":"usb","rm":true,"hotplug":true,"ro":false,"mountpoints":[null],"subsystems":"block:scsi:usb:pci","children":[
        {"name":"sda1","path":"/dev/sda1","type":"part","size":31457280,"model":null,"vendor":null,"serial":null,"tran":null,
         "rm":true,"hotplug":true,"ro":false,"mountpoints":["/media/me/FIRMWARE"],"subsystems":"block:scsi:usb:pci"},
        {"name":"sda2","path":"/dev/sda2","type":"part","size":2768240640,"model":null,"vendor":null,"serial":null,"tran":null,
         "rm":true,"hotplug":true,"ro":false,"mountpoints":[null],"subsystems":"block:scsi:usb:pci"}]},
      {"name":"nvme0n1","path":"/dev/nvme0n1","type":"disk","size":512110190592,"model":"SAMSUNG MZVLB512","vendor":null,"serial":"S4",
       "tran":"nvme","rm":false,"hotplug":false,"ro":false,"mountpoints":[null],"subsystems":"block:nvme:pci","children":[
        {"name":"nvme0n1p1","path":"/dev/nvme0n1p1","type":"part","size":536870912,"model":null,"vendor":null,"serial":null,
         "tran":"nvme","rm":false,"hotplug":false,"ro":false,"mountpoints":["/boot/efi"],"subsystems":"block:nvme:pci"},
        {"name":"nvme0n1p2","path":"/dev/nvme0n1p2","type":"part","size":511570000000,"model":null,"vendor":null,"serial":null,
         "tran":"nvme","rm":false,"hotplug":false,"ro":false,"mountpoints":[null],"subsystems":"block:nvme:pci","children":[
          {"name":"root","path":"/dev/mapper/root","type":"crypt","size":511550000000,"model":null,"vendor":null,"serial":null,
           "tran":null,"rm":false,"hotplug":false,"ro":false,"mountpoints":["/nix/store","/"],"subsystems":"block"}]}]},
      {"name":"mmcblk0","path":"/dev/mmcblk0","type":"disk","size":15931539456,"model":null,"vendor":null,"serial":"0x1234",
       "tran":null,"rm":false,"hotplug":false,"ro":true,"mountpoints":[null],"subsystems":"block:mmc:mmc_host:pci"},
      {"name":"sdb","path":"/dev/sdb","type":"disk","size":0,"model":"Card Reader","vendor":"X","serial":null,"tran":"usb",
       "rm":true,"hotplug":true,"ro":false,"mountpoints":[null],"subsystems":"block:scsi:usb:pci"},
      {"name":"loop0","path":"/dev/loop0","type":"loop","size":41943040,"model":null,"vendor":null,"serial":null,"tran":null,
       "rm":false,"hotplug":false,"ro":false,"mountpoints":[],"subsystems":"block"},
      {"name":"sr0","path":"/dev/sr0","type":"rom","size":1073741312,"model":"DVD","vendor":"X","serial":null,"tran":"sata",
       "rm":true,"hotplug":true,"ro":false,"mountpoints":[null],"subsystems":"block:scsi:pci"}]}"#;

    #[test]
    fn cards_are_told_from_the_disks_of_the_machine() {
        let disks = parse(LSBLK.as_bytes(), |name| name == "mmcblk0").unwrap();
        let names: Vec<_> = disks.iter().map(|disk| disk.path.display().to_string()).collect();
        assert_eq!(names, ["/dev/sda", "/dev/nvme0n1", "/dev/mmcblk0", "/dev/sdb", "/dev/loop0"]);
        assert_eq!(disks.iter().map(Disk::is_card).collect::<Vec<_>>(), [true, false, true, false, false]);
        let card = &disks[0];
        assert_eq!(card.model.as_deref(), Some("Generic Storage Device"));
        assert_eq!((card.mounts.as_slice(), card.partitions.len()), (&["/media/me/FIRMWARE".to_owned()][..], 2));
        assert_eq!(disks[1].holders, ["/dev/mapper/root (crypt)"]);
        assert!(disks[1].mounts.contains(&"/".to_owned()));
        assert_eq!((disks[2].bus.as_deref(), disks[2].read_only), (Some("mmc"), true));
        assert!(card.has("/dev/sda2".as_ref()) && !card.has("/dev/sdb".as_ref()));
        // Soldered in.
        assert!(!parse(LSBLK.as_bytes(), |_| false).unwrap()[2].is_card());
        assert!(parse(b"{", |_| false).is_err());
    }
}
