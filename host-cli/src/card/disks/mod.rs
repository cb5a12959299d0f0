//! The disks of this machine, and which of them may be a card.
//!
//! [`linux`] reads what lsblk tells, [`macos`] what diskutil does; what follows from it is decided here. Pure, but for the
//! functions at the end that ask.

#[cfg_attr(target_os = "macos", allow(dead_code))]
mod linux;
#[cfg_attr(not(target_os = "macos"), allow(dead_code))]
mod macos;

use crate::error::fault;
use crate::ui::format::bytes;
use anyhow::{Context, Result};
use cygnet_protocol::fault::FaultCode;
use serde::Serialize;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A whole disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Disk {
    /// `/dev/sdb`, `/dev/disk4`.
    pub path: PathBuf,
    /// Vendor and model, as the disk says.
    pub model: Option<String>,
    /// The disk's or its reader's.
    pub serial: Option<String>,
    /// Bytes.
    pub size: u64,
    /// `usb`, `mmc`, `Secure Digital`…
    pub bus: Option<String>,
    /// Can it be taken out?
    pub removable: bool,
    /// May it not be written?
    pub read_only: bool,
    /// A file that looks like a disk: somebody has set it up on purpose.
    #[serde(skip)]
    pub in_file: bool,
    /// Where it or something on it is mounted.
    pub mounts: Vec<String>,
    /// What else is on it and open: encrypted, volume groups, arrays.
    pub holders: Vec<String>,
    /// Its partitions.
    pub partitions: Vec<PathBuf>,
}

/// What speaks against writing to a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// This machine runs from it: it is mounted at places that are no card's.
    System(Vec<String>),
    /// It can't be taken out.
    Fixed,
    /// Something has it open.
    Held(Vec<String>),
    /// It may not be written.
    ReadOnly,
    /// It is mounted where desktops mount cards.
    Mounted(Vec<String>),
}

/// Where cards are mounted; all other places are this machine's own.
const PORTABLE: &[&str] = &["/media/", "/run/media/", "/mnt/", "/Volumes/", "/tmp/", "/private/tmp/"];

/// Whether a card may be mounted there. /mnt itself is for what a person mounts by hand (hier(7)); beside it, `/mnt-data` is not.
fn is_portable(at: &str) -> bool {
    at == "/mnt" || PORTABLE.iter().any(|place| at.starts_with(place))
}

impl Disk {
    /// All that speaks against writing to it, what can't be helped first.
    pub fn objections(&self) -> Vec<Objection> {
        let (portable, system): (Vec<String>, Vec<String>) =
            self.mounts.iter().cloned().partition(|at| is_portable(at));
        let mut found = Vec::new();
        if !system.is_empty() {
            found.push(Objection::System(system));
        }
        if !self.removable && !self.in_file {
            found.push(Objection::Fixed);
        }
        if !self.holders.is_empty() {
            found.push(Objection::Held(self.holders.clone()));
        }
        if self.read_only {
            found.push(Objection::ReadOnly);
        }
        if !portable.is_empty() {
            found.push(Objection::Mounted(portable));
        }
        found
    }

    /// May a person want to write an image to it?
    pub fn is_card(&self) -> bool {
        self.removable
            && self.size > 0
            && !self.objections().iter().any(|found| matches!(found, Objection::System(_) | Objection::Fixed))
    }

    /// One line: `/dev/sdb (SanDisk Ultra, 31.9 GB)`.
    pub fn describe(&self) -> String {
        let model = self.model.as_deref().map(|model| format!("{model}, ")).unwrap_or_default();
        format!("{} ({model}{})", self.path.display(), bytes(self.size))
    }

    /// Is this device the disk or one of its partitions?
    fn has(&self, device: &Path) -> bool {
        self.path == device || self.partitions.iter().any(|partition| partition == device)
    }
}

/// All whole disks.
pub fn all() -> Result<Vec<Disk>> {
    #[cfg(target_os = "macos")]
    return macos::ask();
    #[cfg(not(target_os = "macos"))]
    linux::ask()
}

/// The disk that a device is, or is on.
pub fn holding(device: &Path) -> Result<Disk> {
    let device = cooked(device);
    all()?.into_iter().find(|disk| disk.has(&device)).ok_or_else(|| {
        fault(
            FaultCode::NotFound,
            format!("{} is no disk.", device.display()),
            "It is a device, but none that lsblk or diskutil counts among the disks.",
            "`cygnet card list` shows the cards that are there.",
        )
    })
}

/// Unmounts all of it.
pub fn unmount(disk: &Disk) -> Result<()> {
    if cfg!(target_os = "macos") {
        return run(Command::new("diskutil").arg("unmountDisk").arg(&disk.path));
    }
    for at in &disk.mounts {
        // A desktop's mounts are its user's: udisks may, where umount may not.
        let mut by_desktop = Command::new("udisksctl");
        by_desktop.args(["unmount", "--no-user-interaction", "-p", &object_path(disk, at)]);
        if !super::medium::is_root() && run(&mut by_desktop).is_ok() {
            continue;
        }
        run(Command::new("umount").arg("--").arg(at))?;
    }
    Ok(())
}

/// udisks names devices as systemd escapes them; which partition is mounted there, findmnt knows.
fn object_path(disk: &Disk, at: &str) -> String {
    let source = Command::new("findmnt").args(["-no", "SOURCE", "--", at]).output();
    let source = source.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let device = if source.is_empty() { disk.path.display().to_string() } else { source };
    format!("block_devices/{}", device.trim_start_matches("/dev/"))
}

/// Lets go of the card, so that it may be taken out.
pub fn eject(disk: &Disk) -> Result<()> {
    if cfg!(target_os = "macos") {
        return run(Command::new("diskutil").arg("eject").arg(&disk.path));
    }
    // All is on the card already; this switches a reader's light off, and tells the desktop.
    run(Command::new("eject").arg("--").arg(&disk.path))
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {name}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{name} says: {}",
        crate::error::tail(&String::from_utf8_lossy(&output.stderr))
    );
    Ok(())
}

/// What is written to: on macOS the raw device, which has no cache in between.
pub fn raw(device: &Path) -> PathBuf {
    let shown = device.display().to_string();
    match shown.strip_prefix("/dev/disk") {
        Some(rest) if cfg!(target_os = "macos") => PathBuf::from(format!("/dev/rdisk{rest}")),
        _ => device.to_owned(),
    }
}

/// The other way round: as diskutil names it.
fn cooked(device: &Path) -> PathBuf {
    let shown = device.display().to_string();
    match shown.strip_prefix("/dev/rdisk") {
        Some(rest) => PathBuf::from(format!("/dev/disk{rest}")),
        None => device.to_owned(),
    }
}

/// The bytes of a device: of the disk, or of the one partition of it that was given.
pub fn size_of(device: &Path, disk: &Disk, file: &File) -> Result<u64> {
    if cooked(device) == disk.path {
        return Ok(disk.size);
    }
    use std::io::Seek;
    let mut file = file;
    let end = file.seek(std::io::SeekFrom::End(0)).with_context(|| format!("measuring {}", device.display()))?;
    anyhow::ensure!(
        end > 0,
        "{} does not tell its size; give the whole disk, {}",
        device.display(),
        disk.path.display()
    );
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_needs_is_no_card() {
        let card = Disk { path: "/dev/sdb".into(), size: 1 << 34, removable: true, ..Disk::default() };
        assert!(card.is_card() && card.objections().is_empty());
        let mounted = Disk { mounts: vec!["/run/media/me/FIRMWARE".into()], ..card.clone() };
        assert!(mounted.is_card() && matches!(mounted.objections()[..], [Objection::Mounted(_)]));
        for at in ["/mnt", "/mnt/card", "/media/me/x", "/tmp/x"] {
            let mounted = Disk { mounts: vec![at.into()], ..card.clone() };
            assert!(matches!(mounted.objections()[..], [Objection::Mounted(_)]), "{at}");
        }
        for at in [
            "/mnt-secdata",
            "/mnt2/x",
            "/media",
            "/tmp",
            "/tmpfoo",
            "/Volumes",
            "/",
            "/boot",
            "/home/me/card",
            "[SWAP]",
            "/nix/store",
            "/System/Volumes/Data",
        ] {
            let system = Disk { mounts: vec![at.into(), "/mnt/x".into()], ..card.clone() };
            assert!(!system.is_card() && matches!(system.objections()[0], Objection::System(_)), "{at}");
        }
        let fixed = Disk { removable: false, ..card.clone() };
        assert_eq!(fixed.objections(), [Objection::Fixed]);
        assert!(Disk { in_file: true, ..fixed }.objections().is_empty());
        assert_eq!(Disk { read_only: true, ..card.clone() }.objections(), [Objection::ReadOnly]);
        assert!(!Disk { size: 0, ..card.clone() }.is_card());
        assert_eq!(card.describe(), "/dev/sdb (17.2 GB)");
    }

    #[test]
    fn raw_devices_are_the_same_disks() {
        assert_eq!(cooked(Path::new("/dev/rdisk4s1")), Path::new("/dev/disk4s1"));
        assert_eq!(cooked(Path::new("/dev/sdb")), Path::new("/dev/sdb"));
    }
}
