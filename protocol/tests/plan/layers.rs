//! What lies between disks and filesystems: opened and closed in the right order, with keys where they belong.

use crate::fixtures::{DISK, NAMES, blank_disks, devices, fixture, options, plan};
use cygnet_protocol::plan::{self, Action, Input, Options, Refusal, SecretRef, Stage, Step};
use std::collections::BTreeSet;

fn argvs(steps: &[Step]) -> Vec<String> {
    steps.iter().flat_map(Step::actions).map(|action| action.argv().join(" ")).collect()
}

fn unmounted(name: &str) -> Vec<String> {
    argvs(&plan(name).1.unmount())
}

#[test]
fn what_was_opened_is_closed_innermost_first() {
    assert_eq!(
        unmounted("luks-lvm"),
        ["umount /mnt/home", "umount /mnt/boot", "umount /mnt", "vgchange -a n pool", "cryptsetup close crypted"]
    );
    assert_eq!(
        unmounted("luks-on-mdadm"),
        [
            "umount /mnt/boot",
            "umount /mnt",
            "cryptsetup close crypted",
            "mdadm --stop /dev/md/raid1",
            "mdadm --stop /dev/md/boot"
        ]
    );
    // LUKS on a volume of a pool, and a pool on LUKS.
    assert_eq!(
        unmounted("x-zvol-swap-luks"),
        ["swapoff /dev/zvol/p/swap", "umount /mnt/zl", "cryptsetup close zl", "zpool export p"]
    );
    assert_eq!(
        unmounted("x-zfs-on-luks"),
        ["umount /mnt/boot", "umount /mnt", "zpool export rpool", "cryptsetup close crypted"]
    );
    // parted's mapping of a partition would keep the LUKS device open.
    let closings = unmounted("x-gpt-on-zvol-and-mapper");
    let at =
        |text: &str| closings.iter().position(|argv| argv == text).unwrap_or_else(|| panic!("{text}: {closings:?}"));
    assert!(at("dmsetup remove --retry /dev/mapper/c1") < at("cryptsetup close c"));
    assert!(at("swapoff /dev/disk/by-id/md-name-any:r5-part1") < at("mdadm --stop /dev/md/r5"));
    assert_eq!(
        unmounted("x-deps-order")[4..],
        ["zpool export p1", "zpool export alone", "vgchange -a n v1", "mdadm --stop /dev/md/m1"]
    );
}

#[test]
fn after_a_restart_it_is_opened_outermost_first_and_nothing_is_made() {
    let remounted = |name: &str| {
        let steps = plan(name).1.remount();
        assert!(steps.iter().all(|step| step.phase() == Stage::Mount || matches!(step, Step::UnlockBcachefs { .. })));
        argvs(&steps)
            .into_iter()
            .filter(|argv| !argv.starts_with("mount ") && !argv.starts_with("udevadm "))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        remounted("luks-lvm"),
        [
            "cryptsetup open /dev/disk/by-partlabel/disk-main-luks crypted --allow-discards --key-file /tmp/secret.key",
            "vgchange -a y pool",
        ]
    );
    // By the full name, which disko forgets.
    assert_eq!(
        remounted("x-zvol-swap-luks"),
        [
            "zpool import -f -N -R /mnt -d /dev/vda1 p",
            "zfs load-key -L file:///tmp/k p/enc",
            "cryptsetup open /dev/zvol/p/enc zl --key-file /tmp/k",
            "swapon --discard=once --priority=5 --options=defaults /dev/zvol/p/swap",
        ]
    );
    let mapper = remounted("x-gpt-on-zvol-and-mapper");
    assert_eq!(mapper[..2], ["cryptsetup open /dev/vda c --key-file /k", "partprobe /dev/mapper/c"]);
    assert_eq!(mapper[2], "mdadm --assemble /dev/md/r5 /dev/vdb /dev/vdc");
    assert_eq!(remounted("bcachefs").len(), 1);
}

/// A link to a partition of an array is there only when udev has looked at the array that was assembled just before.
#[test]
fn after_a_restart_every_device_is_waited_for_before_it_is_used() {
    for name in ["mdadm", "luks-lvm", "lvm-raid", "luks-on-mdadm", "x-rpi5-zfs-legacy", "tests-zfs-encrypted-root"] {
        let mut waited = BTreeSet::new();
        for step in plan(name).1.remount() {
            let used = match &step {
                Step::WaitForDevice { path, .. } => {
                    waited.insert(path.clone());
                    continue;
                }
                Step::Mount { source, .. } if source.starts_with("/dev/") => vec![source.clone()],
                Step::SwapOn { device, .. } | Step::OpenLuks { device, .. } => vec![device.clone()],
                Step::AssembleArray { members, .. } => members.clone(),
                _ => continue,
            };
            for device in used {
                assert!(waited.contains(&device), "{name}: {device} is used without having been waited for");
            }
        }
    }
}

#[test]
fn secrets_are_named_and_never_in_a_command() {
    let (_, asked) = plan("x-luks-askpassword");
    let secret = SecretRef::Person { name: "crypted".to_owned() };
    assert_eq!(asked.secrets(), std::slice::from_ref(&secret));
    assert!(asked.key_files().is_empty());
    let inputs: Vec<Action> = asked
        .steps
        .iter()
        .flat_map(Step::actions)
        .filter(|action| matches!(action, Action::RunWithInput { .. }))
        .collect();
    let given = Input::Secret { secret };
    assert_eq!(inputs.len(), 2);
    for action in inputs {
        let Action::RunWithInput { argv, input } = action else { panic!("filtered") };
        assert!(argv.windows(2).any(|pair| pair == ["--key-file", "-"]), "{argv:?}");
        assert_eq!(input, given);
    }

    let (_, plan) = plan("luks-btrfs-subvolumes");
    assert_eq!(plan.key_files(), ["/tmp/additionalSecret.key", "/tmp/secret.key"]);
    assert!(plan.secrets().is_empty());
}

#[test]
fn a_passphrase_that_nobody_can_give_is_refused_by_name() {
    let devices = devices(&fixture("x-luks-askpassword"));
    let refused = plan::compile(&devices, &blank_disks(&devices), &Options::default()).unwrap_err();
    let path = "disk.a.content.partitions.crypt.content".to_owned();
    assert_eq!(refused, Refusal::NeedsPassphrase { path: path.clone(), name: "crypted".to_owned() });
    assert!(refused.what().contains(&path) && refused.remedy().contains("passwordFile"), "{refused}");
}

#[test]
fn a_pool_asks_for_its_passphrase_where_somebody_can_give_it() {
    let mut fixture = fixture("x-rpi5-zfs-legacy");
    for (option, value) in [("encryption", "on"), ("keyformat", "passphrase")] {
        fixture.devices["zpool"]["rpool"]["rootFsOptions"][option] = value.into();
    }
    let devices = devices(&fixture);
    let plan = plan::compile(&devices, &blank_disks(&devices), &options()).unwrap();
    assert_eq!(plan.secrets(), [SecretRef::Person { name: "rpool".to_owned() }]);
    let load: Vec<Action> =
        plan.remount().iter().filter(|step| matches!(step, Step::LoadKey { .. })).flat_map(Step::actions).collect();
    assert!(matches!(load.as_slice(), [Action::RunWithInput { .. }]), "{load:?}");
}

#[test]
fn a_store_inside_luks_is_measured_and_one_on_a_volume_group_is_not() {
    let too_big = Options { closure_nar_size: Some(DISK), ..options() };
    let too_big = Options { require_root: true, ..too_big };
    let compiled = |name: &str| {
        let devices = devices(&fixture(name));
        plan::compile(&devices, &blank_disks(&devices), &too_big)
    };
    assert!(matches!(compiled("luks-interactive-login"), Err(Refusal::ClosureTooBig { .. })));
    assert!(matches!(compiled("x-zfs-on-luks"), Err(Refusal::ClosureTooBig { .. })));
    assert!(matches!(compiled("btrfs-subvolumes"), Err(Refusal::ClosureTooBig { .. })));
    assert!(compiled("luks-lvm").is_ok());
    assert!(compiled("x-deps-order").is_ok());
}

#[test]
fn every_plan_reads_well_and_survives_the_wire() {
    for name in NAMES {
        let (_, plan) = plan(name);
        let json = serde_json::to_string(&plan).unwrap();
        let back: plan::Plan = serde_json::from_str(&json).unwrap();
        assert_eq!(back, plan, "{name}");
        assert!(back.is_intact(), "{name}");
        for step in plan.steps.iter().chain(&plan.unmount()).chain(&plan.remount()) {
            let sentence = step.sentence();
            assert!(sentence.starts_with(char::is_uppercase) && !sentence.ends_with('.'), "{name}: {sentence}");
            assert!(!step.actions().is_empty(), "{name}: {sentence} does nothing");
        }
        assert!(plan.render().contains(plan.digest.as_str()), "{name}");
    }
}

#[test]
fn a_layout_that_mounts_nothing_is_refused() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/disko/refused.json");
    let all: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let devices = cygnet_protocol::disko::parse(all["x-err-no-mountpoints"].to_string()).unwrap();
    let refused = plan::compile(&devices, &blank_disks(&devices), &options()).unwrap_err();
    assert_eq!(refused, Refusal::NothingMounted);
    assert!(refused.what().contains("disko.devices"));
}
