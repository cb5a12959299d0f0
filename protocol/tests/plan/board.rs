//! Layouts from which a board boots, may boot, or does not.

use crate::facts::{SSD, layout, parsed, ssd};
use crate::fixtures::{DISK, fixture};
use cygnet_protocol::disko;
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::plan::{self, DiskFacts, Options, Plan, Refusal};
use serde_json::{Value, json};

const PI3: &str = "Raspberry Pi 3 Model B Rev 1.2";
const PI4: &str = "Raspberry Pi 4 Model B Rev 1.5";
const PI5: &str = "Raspberry Pi 5 Model B Rev 1.0";
const CM4: &str = "Raspberry Pi Compute Module 4 Rev 1.1";

fn on(layout: &Value, board: &str, bus: &str) -> Result<Plan, Refusal> {
    let devices = disko::parse(layout.to_string()).unwrap();
    let blank = |device: &str| DiskFacts { bus: Some(bus.to_owned()), ..DiskFacts::blank(device, DISK) };
    let disks: Vec<DiskFacts> = devices.disks.values().map(|disk| blank(&disk.device)).collect();
    let options =
        Options { require_root: false, passphrases: true, board: Some(board.to_owned()), ..Options::default() };
    plan::compile(&devices, &disks, &options)
}

/// The layout's firmware partition is a vfat called FIRMWARE, of type 0700; its /boot another, of type EF00.
fn partition<'a>(layout: &'a mut Value, key: &str) -> &'a mut Value {
    &mut layout["disk"].as_object_mut().unwrap().values_mut().next().unwrap()["content"]["partitions"][key]
}

fn only_firmware() -> Value {
    let mut layout = layout();
    let partitions =
        layout["disk"].as_object_mut().unwrap().values_mut().next().unwrap()["content"]["partitions"].as_object_mut();
    for (key, partition) in partitions.unwrap() {
        if key != "FIRMWARE" && partition["content"]["format"] == "vfat" {
            partition["content"]["mountpoint"] = Value::Null;
        }
    }
    layout
}

fn refused(layout: &Value, board: &str, bus: &str) -> (String, String, String) {
    let refusal = on(layout, board, bus).unwrap_err();
    assert_eq!(refusal.code(), FaultCode::NotBootable, "{refusal:?}");
    (refusal.what(), refusal.cause(), refusal.remedy())
}

fn doubts(layout: &Value, board: &str, bus: &str) -> String {
    let warnings = on(layout, board, bus).unwrap().warnings;
    let about_boards: Vec<String> = warnings.into_iter().filter(|text| text.starts_with("the Raspberry")).collect();
    about_boards.join("; ")
}

#[test]
fn a_layout_made_for_a_board_boots_there() {
    assert_eq!(doubts(&layout(), PI5, "usb"), "");
    assert!(doubts(&layout(), PI5, "nvme").contains("December 2023"));
    assert!(doubts(&layout(), CM4, "nvme").contains("BOOT_ORDER"));
    assert!(doubts(&layout(), PI4, "usb").contains("September 2020"));
    assert!(doubts(&layout(), PI4, "nvme").contains("does not boot from NVMe"));
    // Nobody knows what another board's firmware reads.
    assert_eq!(doubts(&fixture("swap").devices, "linux,dummy-virt", "virtio"), "");
}

/// With the card in, what would be a refusal is a sentence, and nothing of the plan's digest.
#[test]
fn a_card_that_stays_in_has_the_firmware() {
    let devices = disko::parse(layout().to_string()).unwrap();
    let blank = |device: &str| DiskFacts { bus: Some("usb".to_owned()), ..DiskFacts::blank(device, DISK) };
    let disks: Vec<DiskFacts> = devices.disks.values().map(|disk| blank(&disk.device)).collect();
    let of = |board: &str, from_card| {
        let board = Some(board.to_owned());
        let options = Options { require_root: false, passphrases: true, board, from_card, ..Options::default() };
        plan::compile(&devices, &disks, &options)
    };
    assert!(of(PI3, false).is_err());
    let plan = of(PI3, true).unwrap();
    let told: Vec<&String> = plan.warnings.iter().filter(|text| text.contains("the card must stay in")).collect();
    assert!(matches!(told[..], [one] if one.contains(PI3) && one.contains("GPT")), "{told:?}");
    let (alone, with) = (of(PI4, false).unwrap(), of(PI4, true).unwrap());
    assert_eq!(alone.digest, with.digest);
    assert!(alone.warnings.iter().any(|text| text.contains("September 2020")));
    assert!(!with.warnings.iter().any(|text| text.contains("September 2020")), "{:?}", with.warnings);
}

#[test]
fn a_boot_rom_reads_no_gpt() {
    let (what, cause, remedy) = refused(&layout(), PI3, "usb");
    assert!(what.contains(PI3) && what.contains("partitions."), "{what}");
    assert!(cause.contains("GPT") && remedy.contains("0x0c") && remedy.contains("msdos"), "{cause} {remedy}");
    refused(&layout(), "Raspberry Pi Zero 2 W Rev 1.0", "mmc");
    let (_, cause, _) = refused(&fixture("legacy-table").devices, PI3, "usb");
    assert!(cause.contains("GPT"), "{cause}");
}

#[test]
fn a_hybrid_mbr_must_show_the_firmware_first_and_as_fat() {
    let mut layout = only_firmware();
    let set = |layout: &mut Value, kind: Value, first: bool| {
        partition(layout, "FIRMWARE")["hybrid"] = json!({"mbrPartitionType": kind, "mbrBootableFlag": false});
        layout["disk"].as_object_mut().unwrap().values_mut().next().unwrap()["content"]["efiGptPartitionFirst"] =
            first.into();
    };
    set(&mut layout, "0x0c".into(), false);
    assert!(doubts(&layout, PI3, "usb").contains("program_usb_boot_mode"));
    assert_eq!(doubts(&layout, "Raspberry Pi 3 Model B Plus Rev 1.3", "usb"), "");
    assert_eq!(doubts(&layout, PI5, "usb"), "");

    set(&mut layout, "0x0c".into(), true);
    assert!(refused(&layout, PI3, "usb").1.contains("efiGptPartitionFirst"));
    assert!(doubts(&layout, PI5, "usb").contains("hybrid MBR"));
    // sgdisk makes 0x07 of basic data, 0xef of an EFI system partition.
    set(&mut layout, Value::Null, false);
    assert!(refused(&layout, PI3, "usb").1.contains("0x07"));
    partition(&mut layout, "FIRMWARE")["type"] = "EF00".into();
    assert!(refused(&layout, PI3, "usb").1.contains("0xef"));
    set(&mut layout, "uefi".into(), false);
    assert!(refused(&layout, PI3, "usb").1.contains("type"));
    set(&mut layout, "83".into(), false);
    assert!(refused(&layout, PI3, "usb").1.contains("0x83"));

    // Another partition is shown instead of it, or before it.
    let hybrid = json!({"mbrPartitionType": "0x0c", "mbrBootableFlag": false});
    partition(&mut layout, "FIRMWARE")["hybrid"] = Value::Null;
    let other = layout["disk"].as_object().unwrap().values().next().unwrap()["content"]["partitions"].clone();
    let other = other.as_object().unwrap().keys().find(|key| *key != "FIRMWARE").unwrap().clone();
    partition(&mut layout, &other)["hybrid"] = hybrid;
    assert!(refused(&layout, PI3, "usb").1.contains("not among the entries"));
}

#[test]
fn the_type_in_a_gpt_is_what_an_eeprom_goes_by() {
    let mut layout = only_firmware();
    for good in ["EF00", "ef00", "0700", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"] {
        partition(&mut layout, "FIRMWARE")["type"] = good.into();
        assert_eq!(doubts(&layout, PI5, "usb"), "", "{good}");
    }
    partition(&mut layout, "FIRMWARE")["type"] = "8300".into();
    let (_, cause, remedy) = refused(&layout, PI5, "usb");
    assert!(cause.contains("8300") && remedy.contains("EF00"), "{cause} {remedy}");
}

#[test]
fn a_layout_without_a_partition_for_the_firmware_is_refused() {
    let (what, cause, remedy) = refused(&fixture("stand-alone").devices, PI4, "usb");
    assert!(what.contains("no partition for the firmware"), "{what}");
    assert!(cause.contains("no FAT") && remedy.contains("vfat"), "{cause} {remedy}");
    // Its mirror of FAT has md's own data at the end.
    assert!(on(&fixture("boot-raid1").devices, PI4, "usb").is_ok());
    let mut array = fixture("boot-raid1").devices;
    array["mdadm"]["boot"]["metadata"] = "1.2".into();
    assert!(refused(&array, PI4, "usb").2.contains("1.0"));
}

#[test]
fn partitions_of_a_legacy_table_need_their_hint() {
    let entry = |fs_type: Value, flags: Value| {
        let mut layout = fixture("stand-alone").devices;
        let disk = layout["disk"].as_object_mut().unwrap().values_mut().next().unwrap();
        let entry = &mut disk["content"]["partitions"][0];
        entry["fs-type"] = fs_type;
        entry["flags"] = flags;
        entry["content"]["format"] = "vfat".into();
        layout
    };
    assert!(refused(&entry(Value::Null, json!([])), PI3, "usb").2.contains("fat32"));
    assert!(refused(&entry(Value::Null, json!([])), PI4, "usb").2.contains("fat32"));
    assert!(on(&entry("fat32".into(), json!([])), PI3, "usb").is_ok());
    assert!(refused(&entry("fat32".into(), json!(["esp"])), PI3, "usb").1.contains("0xef"));
    assert!(on(&entry("fat32".into(), json!(["esp"])), PI4, "usb").is_ok());
}

#[test]
fn keeping_data_allows_only_blank_disks() {
    let compile = |facts: DiskFacts| plan::compile(&parsed(&layout()), &[facts], &Options::default()).unwrap();
    assert_eq!(compile(DiskFacts { links: vec![], ..DiskFacts::blank(SSD, 1 << 40) }).keeps_data(), Ok(()));
    let refusal = compile(ssd()).keeps_data().unwrap_err();
    assert_eq!(refusal.code(), FaultCode::WouldDestroy);
    assert!(refusal.what().contains("oldpool") && refusal.what().contains("/dev/sda"), "{}", refusal.what());
    // What nobody can name is something, too.
    let mut nameless = ssd();
    nameless.contents.clear();
    assert!(compile(nameless).keeps_data().is_err());
}

#[test]
fn the_room_for_the_store_is_told() {
    let compile = |size| {
        let options = Options { closure_nar_size: size, ..Options::default() };
        plan::compile(&parsed(&layout()), &[ssd()], &options).unwrap()
    };
    let store = compile(Some(1 << 30)).store.unwrap();
    assert_eq!((store.holder.as_str(), store.mountpoint.as_str()), ("the pool rpool", "/nix"));
    assert_eq!(store.system_bytes, Some(plan::space_needed(1 << 30)));
    assert_eq!(store.free_bytes, Some(store.size_bytes - plan::space_needed(1 << 30)));
    let text = compile(Some(1 << 30)).render();
    assert!(text.contains("/nix/store will be on the pool rpool") && text.contains("free after it"), "{text}");
    assert_eq!(compile(None).store.unwrap().free_bytes, None);
}
