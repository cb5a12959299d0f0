//! Keeping what is there: nothing that exists is ever wiped, cleared away or made twice, and what contradicts is refused.

use crate::fixtures::{NAMES, blank_disks, devices, fixture, options, plan};
use cygnet_protocol::plan::{
    self, DiskFacts, Fingerprint, Mode, Options, PartitionFacts, Plan, Refusal, Stage, Step, layout_hash,
};

fn in_mode(mode: Mode) -> Options {
    Options { mode, ..options() }
}

/// The disks as they are once this plan was carried out, as far as a disk's facts tell.
fn made_by(plan: &Plan) -> Vec<DiskFacts> {
    let signature = |device: &str| {
        plan.steps.iter().find_map(|step| match step {
            Step::MakeFilesystem { device: on, format, .. } if on == device => {
                let fstype = if format == "fat" { "vfat" } else { format };
                Some((fstype.to_owned(), None))
            }
            Step::MakeSwap { device: on, .. } if on == device => Some(("swap".to_owned(), None)),
            Step::MakeBtrfs { device: on, .. } if on == device => Some(("btrfs".to_owned(), None)),
            Step::FormatLuks { device: on, .. } if on == device => Some(("crypto_LUKS".to_owned(), None)),
            Step::CreatePhysicalVolume { device: on } if on == device => Some(("LVM2_member".to_owned(), None)),
            Step::CreateArray { members, .. } if members.iter().any(|on| on == device) => {
                Some(("linux_raid_member".to_owned(), None))
            }
            Step::MakeBcachefs { devices, .. } if devices.iter().any(|on| on.device == device) => {
                Some(("bcachefs".to_owned(), None))
            }
            Step::CreatePool { pool, vdevs, .. }
                if vdevs.iter().flat_map(|vdev| &vdev.members).any(|on| on == device) =>
            {
                Some(("zfs_member".to_owned(), Some(pool.clone())))
            }
            _ => None,
        })
    };
    let of_disk = |disk: &plan::PlannedDisk| {
        let mut facts = disk.facts.clone();
        let mut now = Fingerprint::default();
        for step in &plan.steps {
            match step {
                Step::ClearTable { device, .. } if *device == disk.device => {
                    now.partition_table_uuid = Some("2f2a6d5e-0000-4000-8000-000000000001".to_owned());
                }
                Step::CreateTable { device, format, .. } if *device == disk.device => {
                    let uuid = if format == "gpt" { "2f2a6d5e-0000-4000-8000-000000000001" } else { "2f2a6d5e" };
                    now.partition_table_uuid = Some(uuid.to_owned());
                }
                Step::CreatePartition { device, number, label, uuid, first_lba, last_lba, .. }
                    if *device == disk.device =>
                {
                    let path = match uuid {
                        Some(uuid) => format!("/dev/disk/by-partuuid/{}", uuid.to_ascii_lowercase()),
                        None => cygnet_protocol::disko::partition_path(label, None),
                    };
                    let (fstype, name) = signature(&path).unzip();
                    now.partitions.push(PartitionFacts {
                        path: format!("{}{number}", facts.kernel_path),
                        start: first_lba.unwrap(),
                        size_bytes: (last_lba.unwrap() - first_lba.unwrap() + 1) * 512,
                        part_uuid: Some(uuid.clone().unwrap_or_else(|| format!("some-{number}"))),
                        part_label: Some(label.clone()),
                        fstype,
                        uuid: None,
                        label: name.flatten(),
                    });
                }
                Step::CreateTablePartition { device, number, .. } if *device == disk.device => {
                    let path = cygnet_protocol::disko::numbered(device, *number).unwrap();
                    let (fstype, name) = signature(&path).unzip();
                    now.partitions.push(PartitionFacts {
                        path: format!("{}{number}", facts.kernel_path),
                        fstype,
                        label: name.flatten(),
                        ..PartitionFacts::default()
                    });
                }
                _ => {}
            }
        }
        if now.partition_table_uuid.is_none() {
            let (fstype, label) = signature(&disk.device).unzip();
            let (fstype, label): (Option<String>, Option<String>) = (fstype, label.flatten());
            if fstype.as_deref() == Some("zfs_member") {
                // zpool(8) partitions a whole disk.
                now.partition_table_uuid = Some("2f2a6d5e-0000-4000-8000-000000000002".to_owned());
                let path = format!("{}1", facts.kernel_path);
                now.partitions.push(PartitionFacts { path, fstype, label, ..PartitionFacts::default() });
            } else {
                (now.fstype, now.label) = (fstype, label);
            }
        }
        facts.fingerprint = now;
        facts
    };
    plan.disks.iter().map(of_disk).collect()
}

#[test]
fn on_blank_disks_all_is_made_and_looked_at_before() {
    for name in NAMES {
        let (fixture, all) = plan(name);
        let devices = devices(&fixture);
        let kept = plan::compile(&devices, &blank_disks(&devices), &in_mode(Mode::Format)).unwrap();
        assert!(kept.is_intact() && kept.digest != all.digest, "{name}");
        assert!(kept.steps.iter().all(|step| step.phase() != Stage::Destroy), "{name}");
        assert!(kept.disks.iter().all(|disk| !disk.destroy), "{name}");
        let made = |plan: &Plan| -> Vec<Vec<String>> {
            let of_layout = plan.steps.iter().filter(|step| {
                step.phase() != Stage::Destroy
                    && !matches!(step.made(), Step::WipeSignatures { stage: Stage::Format, .. })
            });
            let mut argv: Vec<_> = of_layout.flat_map(Step::actions).map(|action| action.argv()).collect();
            // Swap files are made one by one, each with its filesystem mounted anew.
            argv.iter_mut().flatten().for_each(|word| *word = word.replace("//", "/"));
            argv.retain(|argv| !["mount", "umount", "mkdir"].contains(&argv[0].as_str()));
            argv
        };
        assert_eq!(made(&kept), made(&all), "{name}");
    }
}

#[test]
fn what_was_made_is_kept_and_only_opened() {
    for name in NAMES {
        let (fixture, all) = plan(name);
        let devices = devices(&fixture);
        let disks = made_by(&all);
        let again = plan::compile(&devices, &disks, &in_mode(Mode::Format));
        let again = again.unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        for step in &again.steps {
            let destroys = matches!(
                step,
                Step::ClearTable { stage: Stage::Partition, .. }
                    | Step::CreateTable { stage: Stage::Partition, .. }
                    | Step::WipeSignatures { .. }
            );
            assert!(!destroys && step.phase() != Stage::Destroy, "{name}: {step:?}");
            assert!(step.phase() != Stage::Partition || !matches!(step, Step::Ensure { .. }), "{name}: {step:?}");
        }
        assert!(again.keeps_data().is_ok(), "{name}");

        let opens = |step: &Step| step.phase() >= Stage::Mount || matches!(step, Step::UnlockBcachefs { .. });
        let mounted = plan::compile(&devices, &disks, &in_mode(Mode::Mount)).unwrap();
        assert!(mounted.is_intact(), "{name}");
        assert!(mounted.steps.iter().all(opens), "{name}: {:?}", mounted.steps);
        // What is opened is closed, and going on after a restart is the same once more.
        assert_eq!(mounted.remount(), all.remount(), "{name}");
        assert_eq!(mounted.target_layout(), all.target_layout(), "{name}");
        let closes = |plan: &Plan| -> Vec<Step> {
            plan.unmount().into_iter().filter(|step| !matches!(step, Step::RemovePartitions { .. })).collect()
        };
        assert_eq!(closes(&mounted), closes(&all), "{name}");
        let again: Vec<String> = mounted.wanted().into_iter().map(|wanted| wanted.name).collect();
        for wanted in all.wanted_again() {
            assert!(again.contains(&wanted.name), "{name}: {wanted} is not asked for");
        }
    }
}

#[test]
fn nothing_is_mounted_of_blank_disks() {
    for name in ["simple-efi", "zfs", "luks-lvm", "mdadm", "legacy-table"] {
        let fixture = fixture(name);
        let devices = devices(&fixture);
        let refusal = plan::compile(&devices, &blank_disks(&devices), &in_mode(Mode::Mount)).unwrap_err();
        assert!(matches!(refusal, Refusal::Missing { .. }), "{name}: {refusal}");
    }
}

#[test]
fn what_is_something_else_is_refused_with_its_path() {
    let (fixture, all) = plan("luks-lvm");
    let devices = devices(&fixture);
    let with = |change: &dyn Fn(&mut Fingerprint)| {
        let mut disks = made_by(&all);
        change(&mut disks[0].fingerprint);
        plan::compile(&devices, &disks, &in_mode(Mode::Format))
    };
    let refused = |change: &dyn Fn(&mut Fingerprint), texts: &[&str]| {
        let refusal = with(change).unwrap_err();
        assert!(matches!(refusal, Refusal::Differs { .. }), "{refusal}");
        texts.iter().for_each(|text| assert!(refusal.to_string().contains(text), "{refusal} does not say {text}"));
    };
    refused(&|now| now.partitions[1].fstype = Some("ntfs".into()), &["disk.main.content.partitions.luks", "ntfs"]);
    refused(&|now| now.partitions[1].part_label = Some("photos".into()), &["luks", "“photos”"]);
    refused(&|now| now.partition_table_uuid = Some("0badcafe".into()), &["disk.main.content", "no GPT"]);
    let whole = Fingerprint { fstype: Some("ext4".into()), ..Fingerprint::default() };
    refused(&|now| *now = whole.clone(), &["disk.main.content", "ext4"]);

    // What is missing is made: where there is room, and nothing else is wiped.
    let made = with(&|now| drop(now.partitions.pop())).unwrap();
    let wiped: Vec<&Step> = made.steps.iter().filter(|step| matches!(step, Step::WipeSignatures { .. })).collect();
    assert_eq!(wiped.len(), 1, "{wiped:?}");
    let placed = |plan: &Plan| {
        plan.steps.iter().find_map(|step| match step.made() {
            Step::CreatePartition { number: 2, first_lba, last_lba, .. } => Some((*first_lba, *last_lba)),
            _ => None,
        })
    };
    assert!(placed(&made).is_some());
    assert_eq!(placed(&made), placed(&all));
}

#[test]
fn only_what_was_seen_not_to_be_there_is_cleared_away() {
    for name in NAMES {
        let fixture = fixture(name);
        let devices = devices(&fixture);
        let plan = plan::compile(&devices, &blank_disks(&devices), &in_mode(Mode::Format)).unwrap();
        for at in 0..=plan.steps_until_formatted() {
            // The next step may have found its thing there: then it is not ours.
            assert!(plan.go_on(at, None).clear.is_empty(), "{name} {at}");
            assert!(plan.go_on(at, at.checked_sub(1)).clear.is_empty(), "{name} {at}");
            let go_on = plan.go_on(at, Some(at));
            assert_eq!(go_on.from, at.min(plan.steps_until_formatted()), "{name}");
            for step in &go_on.clear {
                let Step::ClearAway { step } = step else { panic!("{name}: {step:?}") };
                assert!(matches!(step.as_ref(), Step::Ensure { .. }), "{name}: {step:?}");
            }
        }
    }
}

#[test]
fn each_mode_is_an_installation_of_its_own() {
    let (fixture, all) = plan("zfs");
    let devices = devices(&fixture);
    let kept = plan::compile(&devices, &blank_disks(&devices), &in_mode(Mode::Format)).unwrap();
    let text = serde_json::to_string(&kept).unwrap();
    assert!(
        text.contains(r#""mode":"format,mount""#) && !serde_json::to_string(&all).unwrap().contains("\"mode\":\"d")
    );
    // The mode is part of what is confirmed.
    let other: Plan = serde_json::from_str(&text.replace("format,mount", "destroy,format,mount")).unwrap();
    assert!(serde_json::from_str::<Plan>(&text).unwrap().is_intact() && !other.is_intact());
    let hashes: Vec<String> = Mode::ALL.into_iter().map(|mode| layout_hash(&fixture.devices, mode)).collect();
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
}
