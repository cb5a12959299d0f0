//! A system compared with the plan for its disks. Pure.

use super::fstab::Entry;
use super::made::{Made, Mount, Volume, canonical, decoded};
use super::system::System;
use cygnet_protocol::plan::Plan;
use sha2::{Digest as _, Sha256};

/// A reason not to install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// What is so.
    pub what: String,
    /// The likely cause.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Because of these it would not come up as meant.
    pub misfits: Vec<Misfit>,
    /// Because of these it may not, or it could not be seen.
    pub doubts: Vec<String>,
}

/// Mountpoints that the first stage mounts itself (nixpkgs, nixos/lib/utils.nix, pathsNeededForBoot).
const EARLY: [&str; 9] = ["/", "/nix", "/nix/store", "/var", "/var/log", "/var/lib", "/var/lib/nixos", "/etc", "/usr"];

impl Verdict {
    fn refuse(&mut self, what: impl Into<String>, cause: impl Into<String>, remedy: impl Into<String>) {
        self.misfits.push(Misfit { what: what.into(), cause: cause.into(), remedy: remedy.into() });
    }

    fn doubt(&mut self, text: impl Into<String>) {
        self.doubts.push(text.into());
    }
}

/// Compares them. `board` is what the device tree calls the machine.
pub fn judge(plan: &Plan, system: &System, board: &str) -> Verdict {
    let mut verdict = Verdict::default();
    let made = Made::of(plan);
    match &system.fstab {
        Some(table) => file_systems(table, &made, &mut verdict),
        None => verdict.doubt(format!(
            "{} has no etc/fstab, so nobody can tell whether its file systems are those of the layout",
            system.toplevel
        )),
    }
    if made.pools {
        host_id(system, &mut verdict);
    }
    match &system.initrd {
        Ok(_) => first_stage(plan, system, &made, board, &mut verdict),
        Err(why) => verdict.doubt(format!(
            "the initrd of {} cannot be looked into ({why}); whether it can read the disks is unknown",
            system.toplevel
        )),
    }
    verdict
}

fn file_systems(table: &[Entry], made: &Made, verdict: &mut Verdict) {
    for entry in table.iter().filter(|entry| entry.is_on_disk()) {
        let Some((why, remedy)) = missing(entry, made) else { continue };
        let what = match entry.is_swap() {
            true => format!("the system swaps on {}, {why}", entry.device),
            false => format!("the system mounts {} at {}, {why}", entry.device, entry.mountpoint),
        };
        // What a script makes, nobody can see; a name in it is a sign.
        let name = entry.device.rsplit(['/', '=']).next().unwrap_or_default();
        let scripted = !name.is_empty() && made.scripts.iter().any(|script| script.contains(name));
        if entry.is_optional() || scripted {
            verdict.doubt(what);
        } else {
            let cause = "the system's fileSystems and swapDevices were not made from this layout, or by hand beside it";
            verdict.refuse(what, cause, remedy);
        }
    }
    let at = |mountpoint: &str| table.iter().any(|entry| entry.mountpoint == mountpoint);
    for (mountpoint, mount) in &made.mounts {
        if at(mountpoint) {
            continue;
        }
        if mountpoint == "/" {
            verdict.refuse(
                format!("the layout has {} at /, and the system's fstab has nothing there", mount.source),
                "the system was built without this layout's fileSystems",
                "import the disko module and this layout in the configuration (disko.enableConfig = true), and build again",
            );
        } else if !mount.options.iter().any(|option| option == "zfsutil") && mount.fstype != "tmpfs" {
            verdict.doubt(format!(
                "the installed system will not mount {} at {mountpoint}: its fstab has no such line",
                mount.source
            ));
        }
    }
}

/// Why the system would not find what this line names on the plan's disks, and what helps.
fn missing(entry: &Entry, made: &Made) -> Option<(String, String)> {
    let Entry { device, mountpoint, .. } = entry;
    let planned = made.mounts.get(mountpoint.as_str()).filter(|_| !entry.is_swap());
    let by_layout = format!(
        "let disko make fileSystems from the layout, or, if that is on another disk, add \"nofail\" to the options of {}",
        if entry.is_swap() { "that swap device".to_owned() } else { format!("fileSystems.\"{mountpoint}\"") }
    );
    if entry.fstype == "zfs" {
        if !made.datasets.contains(device) {
            return Some(("and the layout makes no such dataset".into(), by_layout));
        }
        return placed(entry, made, planned, |mount| mount.source == *device).or_else(|| zfsutil(entry, made));
    }
    let Some(volume) = made.find(device).or_else(|| random_swap(entry, made)) else {
        let why = match canonical(device).starts_with("UUID=") {
            true => "and that UUID is of an earlier formatting: the layout makes a new one",
            false => "and the layout makes no such device",
        };
        return Some((why.into(), by_layout));
    };
    if entry.device.starts_with("/dev/mapper/dev-") && entry.is_swap() {
        return None;
    }
    if let Some(problem) = filled(entry, volume) {
        return Some((problem, by_layout));
    }
    placed(entry, made, planned, |mount| volume.names.contains(&canonical(&mount.source)))
}

/// NixOS calls swap with a random key by the path below it, escaped as systemd does (swap.nix, `deviceName`).
fn random_swap<'a>(entry: &Entry, made: &'a Made) -> Option<&'a Volume> {
    let escaped = entry.device.strip_prefix("/dev/mapper/").filter(|_| entry.is_swap())?;
    made.find(&format!("/{}", decoded(&escaped.replace('-', "/"))))
}

/// Whether something else is on the volume than the line says.
fn filled(entry: &Entry, volume: &Volume) -> Option<String> {
    let plain = |kind: &str| if matches!(kind, "vfat" | "msdos" | "fat") { "vfat".to_owned() } else { kind.to_owned() };
    let Some(kind) = &volume.fstype else {
        return (!entry.has("x-systemd.makefs")).then(|| "and the layout puts nothing on that device".to_owned());
    };
    if entry.fstype != "auto" && plain(&entry.fstype) != plain(kind) {
        return Some(format!("as {}, and the layout puts {kind} there", entry.fstype));
    }
    let subvolume = entry.options.iter().find_map(|option| option.strip_prefix("subvol="))?.trim_matches('/');
    let known = subvolume.is_empty() || volume.subvolumes.contains(subvolume);
    (!known).then(|| format!("and the layout makes no subvolume {subvolume} there"))
}

/// Whether it is mounted somewhere else during the installation, or something else is mounted there: files would not be
/// where the system looks for them.
fn placed(
    entry: &Entry,
    made: &Made,
    planned: Option<&Mount>,
    is_it: impl Fn(&Mount) -> bool,
) -> Option<(String, String)> {
    if entry.is_swap() {
        return None;
    }
    let remedy = format!("give both the same mountpoint, in the layout and in fileSystems.\"{}\"", entry.mountpoint);
    if let Some(mount) = planned {
        return (!is_it(mount)).then(|| (format!("and the layout mounts {} there", mount.source), remedy));
    }
    // Subvolumes have their device in common.
    let elsewhere =
        made.mounts.iter().find(|(_, mount)| mount.fstype != "btrfs" && mount.fstype != "bcachefs" && is_it(mount));
    elsewhere.map(|(at, _)| (format!("and the layout mounts it at {at}"), remedy))
}

/// mount(8) refuses a dataset with a mountpoint of its own without `zfsutil`, and one that is legacy with it
/// (mount.zfs(8)).
fn zfsutil(entry: &Entry, made: &Made) -> Option<(String, String)> {
    let mount = made.mounts.values().find(|mount| mount.fstype == "zfs" && mount.source == entry.device)?;
    let planned = mount.options.iter().any(|option| option == "zfsutil");
    let options = format!("fileSystems.\"{}\".options", entry.mountpoint);
    match (planned, entry.has("zfsutil")) {
        (true, false) => Some((
            "without the option zfsutil, and the dataset has a mountpoint of its own".into(),
            format!("set the dataset's options.mountpoint = \"legacy\", or add \"zfsutil\" to {options}"),
        )),
        (false, true) => Some((
            "with the option zfsutil, and the dataset's mountpoint is legacy".into(),
            format!("remove \"zfsutil\" from {options}, or the dataset's options.mountpoint"),
        )),
        (true, true) | (false, false) => None,
    }
}

fn host_id(system: &System, verdict: &mut Verdict) {
    // An example that is not everybody's.
    let example: String =
        Sha256::digest(system.toplevel.as_bytes()).iter().take(4).map(|b| format!("{b:02x}")).collect();
    let remedy =
        format!("set networking.hostId = \"{example}\" (or any other 8 hex digits of its own), and build again");
    let cause = "the layout has a ZFS pool, and ZFS knows by the host id that a pool is its own";
    match system.host_id.as_deref() {
        None => verdict.refuse("the system has no host id (etc/hostid)", cause, remedy),
        Some([0, 0, 0, 0]) => verdict.refuse("the system's host id is 0, which is none", cause, remedy),
        Some([_, _, _, _]) => {}
        Some(other) => {
            let what = format!("the system's host id (etc/hostid) has {} bytes instead of 4", other.len());
            verdict.refuse(what, cause, remedy);
        }
    }
}

/// Modules of which the first stage needs one of each line to see a disk on this bus.
fn drivers(bus: &str) -> &'static [&'static [&'static str]] {
    match bus {
        "usb" => &[&["usb_storage", "uas"], &["sd_mod"]],
        "nvme" => &[&["nvme"]],
        "mmc" => &[&["mmc_block"]],
        "virtio" => &[&["virtio_blk"]],
        _ => &[],
    }
}

/// What the bus hangs on: another for each board, so that the lack of all is only a sign.
fn controllers(bus: &str, board: &str) -> &'static [&'static str] {
    let on_pcie = board.contains("Pi 4") || board.contains("Pi 400") || board.contains("Module 4");
    match bus {
        "usb" if on_pcie => &["pcie_brcmstb"],
        "usb" => &["xhci_pci", "xhci_plat_hcd", "xhci_hcd", "dwc2", "dwc3", "ehci_hcd", "dwc_otg"],
        "nvme" if board.starts_with("Raspberry Pi") => &["pcie_brcmstb"],
        _ => &[],
    }
}

fn first_stage(plan: &Plan, system: &System, made: &Made, board: &str, verdict: &mut Verdict) {
    let Ok(initrd) = &system.initrd else { return };
    let had = |module: &str| {
        initrd.modules.contains(module) || system.built_in.as_ref().is_some_and(|modules| modules.contains(module))
    };
    let early: Vec<&Mount> = EARLY.iter().filter_map(|at| made.mounts.get(*at)).collect();
    let cause = "boot.initrd.availableKernelModules does not have what this machine's root needs";
    // Without the list of what is in the kernel, a missing module proves nothing.
    let certain = system.built_in.is_some();
    let mut lacks = |what: String, remedy: String, certain: bool| match certain {
        true => verdict.refuse(what, cause, remedy),
        false => verdict.doubt(what),
    };
    if early.iter().any(|mount| mount.fstype == "zfs") {
        let modules =
            "set boot.supportedFilesystems.zfs = true and boot.initrd.supportedFilesystems.zfs = true, and build again";
        if !had("zfs") {
            lacks("the root is on ZFS, and the initrd has no module zfs".into(), modules.into(), certain);
        } else if !initrd.zpool {
            lacks("the root is on ZFS, and the initrd has no zpool to import its pool".into(), modules.into(), true);
        }
    }
    for kind in ["ext4", "btrfs", "xfs", "f2fs", "bcachefs"] {
        if early.iter().any(|mount| mount.fstype == kind) && !had(kind) {
            let remedy = format!("set boot.initrd.supportedFilesystems.{kind} = true, and build again");
            lacks(format!("the root is on {kind}, and the initrd has no module {kind}"), remedy, certain);
        }
    }
    for disk in &plan.disks {
        let Some(bus) = disk.facts.bus.as_deref() else { continue };
        for any in drivers(bus).iter().filter(|any| !any.iter().any(|module| had(module))) {
            let what = format!("disk “{}” is on {bus}, and the initrd has no module {}", disk.name, any.join(" or "));
            let modules: Vec<String> = any.iter().map(|module| format!("\"{module}\"")).collect();
            let remedy = format!(
                "add {} to boot.initrd.availableKernelModules, and build again",
                modules.first().map_or("it", String::as_str)
            );
            // Of several disks, any may be one that the first stage does without.
            lacks(what, remedy, certain && plan.disks.len() == 1);
        }
        let controllers = controllers(bus, board);
        if !controllers.is_empty() && !controllers.iter().any(|module| had(module)) {
            let names = controllers.join(", ");
            lacks(
                format!("neither the initrd nor the kernel has a driver that {bus} may need here ({names})"),
                String::new(),
                false,
            );
        }
    }
}

#[cfg(test)]
mod tests;
