//! Disks that are not touched.

use crate::facts::{SSD, card, layout, parsed, ssd};
use cygnet_protocol::plan::{self, DiskFacts, Options, Refusal};

fn refused(disks: &[DiskFacts]) -> Refusal {
    refusal(&layout(), disks, &Options::default())
}

fn refusal(layout: &serde_json::Value, disks: &[DiskFacts], options: &Options) -> Refusal {
    let refusal = plan::compile(&parsed(layout), disks, options).unwrap_err();
    for part in [refusal.what(), refusal.cause(), refusal.remedy()] {
        assert!(!part.is_empty() && part.lines().count() == 1, "{refusal:?}: {part:?}");
    }
    // The agent sends it, the laptop shows it.
    let json = serde_json::to_string(&refusal).unwrap();
    assert_eq!(serde_json::from_str::<Refusal>(&json).unwrap(), refusal);
    refusal
}

#[test]
fn a_disk_that_is_not_there_is_answered_with_those_that_are() {
    let other = DiskFacts { links: vec!["/dev/disk/by-id/ata-other".to_owned()], ..ssd() };
    let refusal = refused(&[card(), other]);
    let Refusal::UnknownDisk { candidates, .. } = &refusal else { panic!("{refusal:?}") };
    assert_eq!(candidates, &["/dev/disk/by-id/ata-other (PSSD T7, 931.5 GiB)"]);
    assert!(matches!(refused(&[]), Refusal::UnknownDisk { .. }));
}

#[test]
fn the_wrong_disks_are_refused() {
    let with = |change: fn(&mut DiskFacts)| {
        let mut facts = ssd();
        change(&mut facts);
        refused(&[card(), facts])
    };
    assert!(matches!(with(|disk| disk.is_running_disk = true), Refusal::RunningDisk { .. }));
    assert!(matches!(with(|disk| disk.read_only = true), Refusal::ReadOnly { .. }));
    assert!(matches!(with(|disk| disk.in_use.push("/data".into())), Refusal::InUse { .. }));
    assert!(matches!(with(|disk| disk.logical_sector_bytes = 520), Refusal::SectorSize { .. }));
    assert!(matches!(with(|disk| disk.logical_sector_bytes = 0), Refusal::SectorSize { .. }));
    assert!(matches!(with(|disk| disk.size_bytes = 0), Refusal::DiskTooSmall { .. }));
    assert!(matches!(with(|disk| disk.size_bytes = 10 << 30), Refusal::DiskTooSmall { .. }));

    let twin = DiskFacts { kernel_path: "/dev/sdb".to_owned(), ..ssd() };
    assert!(matches!(refused(&[ssd(), twin]), Refusal::AmbiguousDisk { .. }));
}

#[test]
fn two_names_for_one_disk_are_noticed() {
    let mut layout = layout();
    let text = layout["disk"]["ssd"].to_string().replace(SSD, "/dev/sda").replace("by-partlabel/", "by-partlabel/x");
    let mut twin: serde_json::Value = serde_json::from_str(&text).unwrap();
    for partition in twin["content"]["partitions"].as_object_mut().unwrap().values_mut() {
        partition["label"] = format!("x{}", partition["label"].as_str().unwrap()).into();
        partition["content"]["mountpoint"] = serde_json::Value::Null;
        if partition["content"]["type"] != "filesystem" {
            partition["content"] = serde_json::Value::Null;
        }
    }
    layout["disk"]["twin"] = twin;
    let refusal = refusal(&layout, &[card(), ssd()], &Options::default());
    assert!(matches!(refusal, Refusal::SameDisk { .. }), "{refusal:?}");
}

#[test]
fn a_disk_to_be_kept_must_be_blank() {
    let mut layout = layout();
    layout["disk"]["ssd"]["destroy"] = false.into();
    let refused = refusal(&layout, &[ssd()], &Options::default());
    assert!(matches!(refused, Refusal::KeepsContents { .. }));
    let blank = DiskFacts { fingerprint: plan::Fingerprint::default(), contents: vec![], ..ssd() };
    let plan = plan::compile(&parsed(&layout), &[blank], &Options::default()).unwrap();
    assert!(plan.steps.iter().all(|step| step.phase() != plan::Stage::Destroy));
}

#[test]
fn names_another_disk_already_has_are_refused() {
    let mut other = card();
    other.fingerprint.partitions[0].part_label = Some("FIRMWARE".to_owned());
    assert!(matches!(refused(&[other, ssd()]), Refusal::LabelTaken { .. }));

    let mut other = card();
    other.fingerprint.partitions[0].fstype = Some("zfs_member".to_owned());
    other.fingerprint.partitions[0].label = Some("rpool".to_owned());
    assert!(matches!(refused(&[other, ssd()]), Refusal::PoolNameTaken { .. }));

    // On the disk that is destroyed they do no harm.
    let mut again = ssd();
    again.fingerprint.partitions[0].part_label = Some("FIRMWARE".to_owned());
    assert!(plan::compile(&parsed(&layout()), &[again], &Options::default()).is_ok());
}

#[test]
fn a_system_that_does_not_fit_is_refused_with_both_numbers() {
    let small = DiskFacts { size_bytes: 16 << 30, ..ssd() };
    let with = |size| Options { closure_nar_size: Some(size), ..Options::default() };
    // 16 GiB less 1 + 1 + 8 GiB and alignment leaves almost 6 for the pool.
    let refusal = refusal(&layout(), std::slice::from_ref(&small), &with(6 << 30));
    assert_eq!(
        refusal.what(),
        "the system does not fit: it needs 6.7 GiB, and the pool rpool, which holds /nix/store, has 6 GiB"
    );
    assert!(plan::compile(&parsed(&layout()), &[small], &with(5 << 30)).is_ok());
    assert_eq!(plan::space_needed(u64::MAX), u64::MAX);
}

#[test]
fn a_layout_without_a_root_or_with_its_store_in_memory_is_refused() {
    let mut rootless = layout();
    rootless["zpool"]["rpool"]["datasets"]["system/root"]["mountpoint"] = "/elsewhere".into();
    assert_eq!(refusal(&rootless, &[ssd()], &Options::default()), Refusal::NoRoot);

    let mut volatile = layout();
    volatile["zpool"]["rpool"]["datasets"]["local/nix"]["mountpoint"] = serde_json::Value::Null;
    volatile["zpool"]["rpool"]["datasets"]["system/root"]["mountpoint"] = serde_json::Value::Null;
    volatile["nodev"]["/"] = serde_json::json!({
        "type": "nodev", "fsType": "tmpfs", "device": "tmpfs", "mountpoint": "/", "mountOptions": ["mode=755"]
    });
    let refused = refusal(&volatile, &[ssd()], &Options::default());
    assert_eq!(refused, Refusal::StoreInMemory { mountpoint: "/".to_owned() });

    // With /nix on the pool the same root is fine, and so it is bound from elsewhere on it.
    volatile["zpool"]["rpool"]["datasets"]["local/nix"]["mountpoint"] = "/persist".into();
    volatile["nodev"]["/nix"] = serde_json::json!({
        "type": "nodev", "fsType": "none", "device": "/persist/nix", "mountpoint": "/nix", "mountOptions": ["bind"]
    });
    let big = Options { closure_nar_size: Some(1 << 50), ..Options::default() };
    assert!(matches!(refusal(&volatile, &[ssd()], &big), Refusal::ClosureTooBig { .. }));
    assert!(plan::compile(&parsed(&volatile), &[ssd()], &Options::default()).is_ok());
}

#[test]
fn a_passphrase_nobody_can_type_is_refused() {
    let mut layout = layout();
    layout["zpool"]["rpool"]["rootFsOptions"]["encryption"] = "on".into();
    layout["zpool"]["rpool"]["rootFsOptions"]["keyformat"] = "passphrase".into();
    let refused = refusal(&layout, &[ssd()], &Options::default());
    assert_eq!(refused, Refusal::KeyFromPrompt { dataset: "rpool".to_owned() });
}

#[test]
fn a_start_inside_another_partition_is_refused() {
    let mut layout = layout();
    layout["disk"]["ssd"]["content"]["partitions"]["ESP"]["start"] = "500M".into();
    let refused = refusal(&layout, &[ssd()], &Options::default());
    assert!(matches!(refused, Refusal::NoRoom { .. }), "{refused:?}");
}

#[test]
fn a_fat_that_is_larger_than_a_fat_can_be_is_refused_before_the_wipe() {
    let mut layout = layout();
    let firmware = &mut layout["disk"]["ssd"]["content"]["partitions"]["FIRMWARE"];
    (firmware["size"], firmware["end"]) = ("3T".into(), "+3T".into());
    let huge = DiskFacts { size_bytes: 8 << 40, ..ssd() };
    let refused = refusal(&layout, std::slice::from_ref(&huge), &Options::default());
    let Refusal::Layout { path, what, .. } = &refused else { panic!("{refused:?}") };
    assert!(path.contains("FIRMWARE") && what.contains("FAT"), "{path} {what}");
    // With sectors of 4096 bytes it can be.
    let large = DiskFacts { logical_sector_bytes: 4096, ..huge };
    assert!(plan::compile(&parsed(&layout), &[large], &Options::default()).is_ok());
}
