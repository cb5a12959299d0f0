//! Will it boot? The board's firmware must find its files, and the boot loader every file it refers to, in full.

use super::{Installation, Outcome};
use cygnet_protocol::boot::menu;
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::plan::{Plan, Step};
use std::fs;
use std::path::{Path, PathBuf};

/// The firmware phase: a Raspberry Pi's firmware reads `config.txt` from a FAT partition (raspberrypi/documentation,
/// boot flow); before the Pi 5 it also needs `start*.elf` there.
pub fn firmware(installation: &Installation<'_>) -> Result<Outcome, Fault> {
    let identity = &installation.agent.identity;
    if !identity.is_raspberry_pi() {
        return Ok(Outcome::Skipped(format!(
            "this board ({}) is no Raspberry Pi; its firmware is not on the disk",
            identity.board
        )));
    }
    let fat: Vec<PathBuf> =
        mounts(installation).into_iter().filter(|(_, fstype)| fstype == "vfat").map(|(target, _)| target).collect();
    let names = |directory: &PathBuf| -> Vec<String> {
        fs::read_dir(directory)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().to_lowercase())
            .collect()
    };
    let missing: Vec<Vec<&str>> =
        fat.iter().map(|directory| firmware_missing(&identity.board, &names(directory))).collect();
    if missing.iter().any(Vec::is_empty) {
        return Ok(installation.task("The firmware partition has what the board needs"));
    }
    let wish = installation.job.options.boot_from;
    if crate::boot::arm::from_card(wish, &installation.job.plan, &identity.board) {
        return Ok(Outcome::Skipped("the card stays in and starts the SSD, which has no firmware of its own".into()));
    }
    let lacks =
        missing.iter().min_by_key(|list| list.len()).map_or("a FAT partition".to_owned(), |list| list.join(" and "));
    Err(Fault::new(
        FaultCode::NotBootable,
        format!("The {} would not boot from this disk: {lacks} is missing on its FAT partition.", identity.board),
        "The configuration does not fill the firmware partition; plain nixpkgs never does (nixpkgs#108048).",
        "Let the configuration install the firmware (nixos-raspberrypi does by itself; in nixos-hardware set hardware.raspberry-pi.firmware.enable), build again and run `cygnet install` again. The Pi has not been rebooted.",
    ))
}

/// What a FAT partition with these files (lower case) lacks for this board.
fn firmware_missing(board: &str, files: &[String]) -> Vec<&'static str> {
    let has = |wanted: &dyn Fn(&str) -> bool| files.iter().any(|name| wanted(name));
    let mut missing = Vec::new();
    if !has(&|name| name == "config.txt") {
        missing.push("config.txt");
    }
    let in_rom = board.contains("Pi 5") || board.contains("Pi 500") || board.contains("Module 5");
    if !in_rom && !has(&|name| name.starts_with("start") && name.ends_with(".elf")) {
        missing.push("start*.elf");
    }
    missing
}

/// The verify phase.
pub fn boot_files(installation: &Installation<'_>) -> Result<Outcome, Fault> {
    let toplevel = &installation.job.closure.toplevel;
    let places = places(&installation.job.plan);
    for Place { directory, top } in &places {
        let configuration = directory.join(menu::FILE);
        let Ok(text) = fs::read_to_string(&configuration) else { continue };
        let entry = menu::starting(&text).map_err(|why| not_bootable(&configuration, why))?;
        if !entry.append.split_whitespace().any(|word| word == format!("init={toplevel}/init")) {
            return Err(not_bootable(&configuration, &format!("its default entry does not start {toplevel}")));
        }
        for (name, original) in [(Some(&entry.kernel), "kernel"), (entry.initrd.as_ref(), "initrd")] {
            let Some(name) = name else { continue };
            let copy = resolve(&configuration, name, top);
            let original = installation.agent.places.target.join(toplevel.trim_start_matches('/')).join(original);
            same_size(&copy, &original, &installation.agent.places.target)
                .map_err(|why| not_bootable(&configuration, &why))?;
        }
        return Ok(installation.task(format!("{} starts {toplevel}, its files are complete", configuration.display())));
    }
    // Other loaders are checked by their presence; their formats follow with their boards.
    for Place { directory, .. } in &places {
        for sign in ["loader/entries", "config.txt", "grub/grub.cfg", "EFI/BOOT/BOOTAA64.EFI"] {
            if directory.join(sign).exists() {
                return Ok(installation.task(format!("{} is there", directory.join(sign).display())));
            }
        }
    }
    Err(not_bootable(
        &installation.agent.places.target,
        "no boot loader's configuration is on a file system that one can read (extlinux/extlinux.conf, loader/entries, config.txt)",
    ))
}

fn not_bootable(what: &Path, why: &str) -> Fault {
    Fault::new(
        FaultCode::NotBootable,
        format!("The disk would not boot: {}: {why}.", what.display()),
        "The boot-loader installer reported success, but did not write what is needed; a full /boot is the usual reason.",
        "Make /boot larger or keep fewer generations, build again and run `cygnet install` again. The Pi has not been rebooted.",
    )
}

/// Paths in extlinux.conf are relative to it, absolute ones to the partition.
fn resolve(configuration: &Path, name: &str, partition: &Path) -> PathBuf {
    match name.strip_prefix('/') {
        Some(absolute) => partition.join(absolute),
        None => configuration.parent().unwrap_or(partition).join(name),
    }
}

/// `original` is a chain of links inside the target, absolute ones meaning the target's root.
fn same_size(copy: &Path, original: &Path, target: &Path) -> Result<(), String> {
    let mut original = original.to_owned();
    for _ in 0..40 {
        match fs::read_link(&original) {
            Ok(to) => {
                original = match to.strip_prefix("/") {
                    Ok(absolute) => target.join(absolute),
                    Err(_) => original.parent().unwrap_or(target).join(to),
                };
            }
            Err(_) => break,
        }
    }
    let size = |path: &Path| fs::metadata(path).map(|meta| meta.len()).map_err(|e| format!("{}: {e}", path.display()));
    let (copy_size, original_size) = (size(copy)?, size(&original)?);
    if copy_size == original_size && copy_size > 0 {
        Ok(())
    } else {
        Err(format!("{} has {copy_size} bytes instead of {original_size}", copy.display()))
    }
}

/// Where a boot loader may look.
#[derive(Debug, PartialEq)]
struct Place {
    /// For its configuration.
    directory: PathBuf,
    /// For paths that begin with a slash: the top of that file system.
    top: PathBuf,
}

/// Every file system of its own, and `/boot` on one that U-Boot can read: it knows ext4, btrfs and FAT on partitions, and
/// nothing of pools, arrays, LVM and LUKS (its `boot_prefixes` are `/` and `/boot/`).
fn places(plan: &Plan) -> Vec<Place> {
    let mut places = Vec::new();
    for step in &plan.steps {
        let Step::Mount { source, target, fstype, .. } = step else { continue };
        let top = PathBuf::from(target);
        places.push(Place { directory: top.clone(), top: top.clone() });
        let by_label =
            ["/dev/disk/by-partlabel/", "/dev/disk/by-partuuid/"].iter().any(|links| source.starts_with(links));
        let on_disk = by_label || plan.disks.iter().any(|disk| source.starts_with(&disk.device));
        if on_disk && matches!(fstype.as_str(), "vfat" | "ext2" | "ext3" | "ext4" | "btrfs") {
            places.push(Place { directory: top.join("boot"), top });
        }
    }
    places
}

/// Where the plan mounted what, and as which type.
fn mounts(installation: &Installation<'_>) -> Vec<(PathBuf, String)> {
    installation
        .job
        .plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Mount { target, fstype, .. } => Some((PathBuf::from(target), fstype.clone())),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = "DEFAULT nixos-default\nTIMEOUT 50\nLABEL nixos-1\n  LINUX ../nixos/old\nLABEL nixos-default\n  MENU LABEL x\n  LINUX ../nixos/a-Image\n  INITRD ../nixos/a-initrd\n  APPEND init=/nix/store/x/init quiet\n";

    #[test]
    fn the_default_entry_is_the_one_that_starts() {
        let entry = menu::starting(CONF).unwrap();
        assert_eq!(entry.kernel, "../nixos/a-Image");
        assert_eq!(entry.initrd.as_deref(), Some("../nixos/a-initrd"));
        assert!(menu::starting("").is_err());
        assert!(menu::starting("DEFAULT gone\nLABEL here\n LINUX x\n").is_err());
        assert!(menu::starting("LABEL here\n INITRD x\n").is_err());
        assert_eq!(menu::starting("label here\n kernel /x\n").unwrap().kernel, "/x");
    }

    #[test]
    fn a_cut_copy_is_noticed_through_links_into_the_store() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("nix/store")).unwrap();
        fs::write(at("nix/store/Image"), "kernel").unwrap();
        std::os::unix::fs::symlink("/nix/store/Image", at("kernel")).unwrap();
        fs::write(at("whole"), "kernel").unwrap();
        fs::write(at("cut"), "kern").unwrap();
        assert_eq!(same_size(&at("whole"), &at("kernel"), root.path()), Ok(()));
        assert!(same_size(&at("cut"), &at("kernel"), root.path()).unwrap_err().contains("4 bytes instead of 6"));
        assert!(same_size(&at("none"), &at("kernel"), root.path()).is_err());
        let conf = at("boot/extlinux/extlinux.conf");
        assert_eq!(resolve(&conf, "../nixos/a", &at("boot")), at("boot/extlinux/../nixos/a"));
        assert_eq!(resolve(&conf, "/nixos/a", &at("boot")), at("boot/nixos/a"));
    }

    /// parted's MBR with nothing but a root on it has its boot loader's files in a directory of that root.
    #[test]
    fn boot_is_looked_for_on_a_root_that_a_loader_can_read() {
        let mut plan = crate::journal::tests::job().plan;
        let disk = plan.disks[0].device.clone();
        let mut looked_in = |source: &str, fstype: &str| {
            plan.steps = vec![Step::Mount {
                source: source.to_owned(),
                target: "/mnt".into(),
                fstype: fstype.to_owned(),
                options: Vec::new(),
            }];
            places(&plan).into_iter().map(|place| place.directory).collect::<Vec<_>>()
        };
        let both = [PathBuf::from("/mnt"), PathBuf::from("/mnt/boot")];
        assert_eq!(looked_in(&format!("{disk}-part1"), "ext4"), both);
        assert_eq!(looked_in("/dev/disk/by-partlabel/disk-main-root", "btrfs"), both);
        for (source, fstype) in [
            ("rpool/root", "zfs"),
            ("/dev/mapper/crypted", "ext4"),
            ("/dev/pool/root", "ext4"),
            ("/dev/disk/by-id/md-name-any:raid1-part1", "ext4"),
            ("/dev/disk/by-partlabel/disk-main-root", "xfs"),
        ] {
            assert_eq!(looked_in(source, fstype), both[..1], "{source}");
        }
    }

    #[test]
    fn each_board_needs_its_own_firmware_files() {
        let files = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert!(firmware_missing("Raspberry Pi 4 Model B Rev 1.5", &files(&["config.txt", "start4.elf"])).is_empty());
        assert!(firmware_missing("Raspberry Pi 5 Model B", &files(&["config.txt"])).is_empty());
        assert_eq!(firmware_missing("Raspberry Pi 4 Model B", &files(&["config.txt"])), ["start*.elf"]);
        assert_eq!(firmware_missing("Raspberry Pi 3 Model B", &[]), ["config.txt", "start*.elf"]);
    }
}
