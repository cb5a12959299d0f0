//! Systems and layouts that fit, and that do not.

use super::*;
use crate::fit::{fstab, initrd::Contents};
use cygnet_protocol::disko;
use cygnet_protocol::plan::{self, DiskFacts, Options};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const PI4: &str = "Raspberry Pi 4 Model B Rev 1.5";

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/fixtures/disko").join(name);
    let text = std::fs::read_to_string(path.with_extension("json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["devices"].clone()
}

fn plan(layout: &Value, bus: &str) -> Plan {
    let devices = disko::parse(layout.to_string()).unwrap();
    let blank = |device: &str| DiskFacts {
        bus: Some(bus.to_owned()),
        links: vec!["/dev/disk/by-path/platform-x".to_owned()],
        ..DiskFacts::blank(device, 64 << 30)
    };
    let disks: Vec<DiskFacts> = devices.disks.values().map(|disk| blank(&disk.device)).collect();
    let options = Options { require_root: false, passphrases: true, ..Options::default() };
    plan::compile(&devices, &disks, &options).unwrap()
}

/// What NixOS makes of a layout, as disko's module tells it.
fn fstab_of(plan: &Plan) -> String {
    let made = Made::of(plan);
    let line = |(at, mount): (&String, &Mount)| {
        let options = if mount.options.is_empty() { "defaults".to_owned() } else { mount.options.join(",") };
        format!("{} {} {} {options} 0 0\n", mount.source, at.replace(' ', "\\040"), mount.fstype)
    };
    made.mounts.iter().map(line).collect()
}

fn system(table: &str) -> System {
    let names = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    System {
        toplevel: "/nix/store/x-nixos-system-pi".into(),
        fstab: Some(fstab::parse(table)),
        host_id: Some(vec![1, 2, 3, 4]),
        initrd: Ok(Contents {
            modules: names(&["zfs", "usb_storage", "pcie_brcmstb", "btrfs", "xfs"]),
            zpool: true,
            ..Contents::default()
        }),
        built_in: Some(names(&["sd_mod", "ext4", "xhci_hcd", "bcachefs"])),
    }
}

fn judged(plan: &Plan, system: &System) -> Verdict {
    let verdict = judge(plan, system, PI4);
    for Misfit { what, cause, remedy } in &verdict.misfits {
        assert!([what, cause, remedy].iter().all(|part| !part.is_empty() && !part.contains('\n')), "{verdict:?}");
    }
    verdict
}

fn refused(plan: &Plan, system: &System) -> Misfit {
    let mut verdict = judged(plan, system);
    assert_eq!(verdict.misfits.len(), 1, "{verdict:?}");
    verdict.misfits.remove(0)
}

#[test]
fn a_system_made_from_the_layout_fits_whatever_the_layout() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/fixtures/disko");
    let mut tried = 0;
    for entry in std::fs::read_dir(fixtures).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = name.strip_suffix(".json").filter(|name| *name != "refused") else { continue };
        if disko::parse(fixture(name).to_string()).is_err() {
            continue;
        }
        let plan = plan(&fixture(name), "usb");
        let table = fstab_of(&plan);
        let verdict = judged(&plan, &system(&table));
        assert_eq!(verdict.misfits, [], "{name}:\n{table}");
        tried += 1;
    }
    assert!(tried > 40, "{tried}");
}

#[test]
fn a_line_that_the_layout_does_not_make_is_refused_by_name() {
    let plan = plan(&fixture("x-rpi5-zfs-legacy"), "usb");
    let good = fstab_of(&plan);
    assert_eq!(judged(&plan, &system(&good)), Verdict::default());
    let with = |line: &str| system(&format!("{good}{line}\n"));
    for (line, named) in [
        ("/dev/disk/by-label/data /data ext4 defaults 0 2", "by-label/data"),
        ("/dev/disk/by-uuid/0000-1111 /old vfat defaults 0 2", "earlier formatting"),
        ("UUID=0000-1111 /old vfat defaults 0 2", "earlier formatting"),
        ("tank/data /data zfs defaults 0 0", "no such dataset"),
        ("rpool/elsewhere /data zfs defaults 0 0", "no such dataset"),
        ("/dev/sdx1 /data auto defaults 0 0", "/dev/sdx1"),
        ("/dev/disk/by-partlabel/nothing none swap defaults 0 0", "swaps on"),
    ] {
        let misfit = refused(&plan, &with(line));
        assert!(misfit.what.contains(named), "{misfit:?}");
        // The system comes up without it.
        let optional = judged(&plan, &with(&line.replace("defaults", "defaults,nofail")));
        assert!(optional.misfits.is_empty() && optional.doubts[0].contains(named), "{optional:?}");
    }
    for other in [
        "tmpfs /tmp tmpfs defaults 0 0",
        "/persist/x /x none bind 0 0",
        "server:/srv /srv nfs defaults 0 0",
        "overlay /o overlay lowerdir=/a 0 0",
        "/var/swapfile none swap defaults 0 0",
        "/dev/zram0 none swap defaults 0 0",
    ] {
        assert_eq!(judged(&plan, &with(other)), Verdict::default(), "{other}");
    }
}

#[test]
fn a_partition_is_found_by_each_of_its_names() {
    let layout = fixture("x-rpi5-zfs-legacy");
    let plan = plan(&layout, "usb");
    let boot = Made::of(&plan).mounts.get("/boot").unwrap().source.clone();
    let good = fstab_of(&plan);
    let number = plan
        .steps
        .iter()
        .find_map(|step| match step {
            plan::Step::CreatePartition { number, label, .. } if boot.ends_with(label.as_str()) => Some(*number),
            _ => None,
        })
        .unwrap();
    let device = plan.disks[0].device.clone();
    let label = boot.rsplit('/').next().unwrap();
    for name in [
        format!("PARTLABEL={label}"),
        format!("{device}-part{number}"),
        format!("/dev/disk/by-path/platform-x-part{number}"),
    ] {
        let verdict = judged(&plan, &system(&good.replace(&format!("{boot} "), &format!("{name} "))));
        assert_eq!(verdict, Verdict::default(), "{name}");
    }
    let other = format!("{device}-part99");
    assert!(!judged(&plan, &system(&good.replace(&format!("{boot} "), &format!("{other} ")))).misfits.is_empty());
    // Another type than is made there.
    let misfit = refused(&plan, &system(&good.replace("/boot vfat", "/boot ext4")));
    assert!(misfit.what.contains("as ext4") && misfit.what.contains("vfat there"), "{misfit:?}");
}

#[test]
fn what_is_mounted_elsewhere_is_refused() {
    let plan = plan(&fixture("x-rpi5-zfs-legacy"), "usb");
    let good = fstab_of(&plan);
    let misfit = refused(&plan, &system(&good.replace(" /home zfs", " /users zfs")));
    assert!(misfit.what.contains("mounts it at /home"), "{misfit:?}");
    let rootless: String = good.lines().filter(|line| !line.contains(" / zfs")).map(|l| format!("{l}\n")).collect();
    let misfit = refused(&plan, &system(&rootless));
    assert!(misfit.what.contains("nothing there") && misfit.remedy.contains("disko"), "{misfit:?}");
    let bootless: String =
        good.lines().filter(|line| !line.contains(" /boot vfat")).map(|l| format!("{l}\n")).collect();
    assert!(judged(&plan, &system(&bootless)).doubts[0].contains("/boot"));
}

#[test]
fn zfsutil_must_be_as_the_dataset_is() {
    let plan = plan(&fixture("x-rpi5-zfs-legacy"), "usb");
    let good = fstab_of(&plan);
    let misfit = refused(&plan, &system(&good.replace(" /nix zfs ", " /nix zfs zfsutil,")));
    assert!(misfit.what.contains("legacy") && misfit.remedy.contains("zfsutil"), "{misfit:?}");
    let own = plan_with_own_mountpoints();
    let without = fstab_of(&own).replace("zfsutil", "defaults");
    assert!(
        judged(&own, &system(&without)).misfits.iter().all(|misfit| misfit.what.contains("without the option zfsutil"))
    );
    assert!(!judged(&own, &system(&without)).misfits.is_empty());
}

fn plan_with_own_mountpoints() -> Plan {
    plan(&fixture("tests-zfs-encrypted-root"), "usb")
}

#[test]
fn a_pool_needs_a_host_id() {
    let plan = plan(&fixture("x-rpi5-zfs-legacy"), "usb");
    let good = system(&fstab_of(&plan));
    for (id, named) in [(None, "no host id"), (Some(vec![0; 4]), "is 0"), (Some(vec![1]), "1 bytes")] {
        let misfit = refused(&plan, &System { host_id: id, ..good.clone() });
        assert!(misfit.what.contains(named), "{misfit:?}");
        let example = misfit.remedy.split('"').nth(1).unwrap().to_owned();
        assert!(example.len() == 8 && example.bytes().all(|c| c.is_ascii_hexdigit()), "{misfit:?}");
    }
    let ext4 = super::tests::plan(&fixture("tpl-single-disk-ext4"), "usb");
    let without = System { host_id: None, ..system(&fstab_of(&ext4)) };
    assert_eq!(judged(&ext4, &without).misfits, []);
}

#[test]
fn the_first_stage_must_reach_the_root() {
    let zfs = plan(&fixture("x-rpi5-zfs-legacy"), "usb");
    let good = system(&fstab_of(&zfs));
    let without = |module: &str| {
        let mut system = good.clone();
        if let Ok(contents) = &mut system.initrd {
            contents.modules.remove(module);
        }
        system
    };
    let misfit = refused(&zfs, &without("zfs"));
    assert!(misfit.what.contains("no module zfs") && misfit.remedy.contains("supportedFilesystems"), "{misfit:?}");
    let misfit = refused(&zfs, &without("usb_storage"));
    assert!(
        misfit.what.contains("usb_storage or uas") && misfit.remedy.contains("availableKernelModules"),
        "{misfit:?}"
    );
    assert!(judged(&zfs, &without("pcie_brcmstb")).doubts[0].contains("pcie_brcmstb"));
    let mut no_zpool = good.clone();
    if let Ok(contents) = &mut no_zpool.initrd {
        contents.zpool = false;
    }
    assert!(refused(&zfs, &no_zpool).what.contains("zpool"));

    let nvme = plan(&fixture("x-rpi5-zfs-legacy"), "nvme");
    assert!(refused(&nvme, &good).what.contains("no module nvme"));
    // What cannot be seen is said, and refuses nothing.
    let blind = System { initrd: Err("it is compressed with lz4".into()), ..good.clone() };
    let verdict = judged(&nvme, &blind);
    assert!(verdict.misfits.is_empty() && verdict.doubts[0].contains("lz4"), "{verdict:?}");
    let unknown = judged(&nvme, &System { built_in: None, ..good.clone() });
    assert!(unknown.misfits.is_empty() && !unknown.doubts.is_empty(), "{unknown:?}");
    let bare = System { fstab: None, ..good };
    assert!(judged(&zfs, &bare).doubts[0].contains("no etc/fstab"));
}

#[test]
fn swap_with_a_random_key_is_called_by_what_is_below_it() {
    let plan = plan(&fixture("swap"), "usb");
    let good = fstab_of(&plan);
    let random = plan.steps.iter().find_map(|step| match step {
        plan::Step::CreatePartition { label, .. } if label.to_lowercase().contains("swap") => Some(label.clone()),
        _ => None,
    });
    let label = random.unwrap();
    let escaped = label.replace('-', r"\x2d");
    let line = format!("/dev/mapper/dev-disk-by\\x2dpartlabel-{escaped} none swap defaults\n");
    assert_eq!(judged(&plan, &system(&format!("{good}{line}"))).misfits, []);
}
