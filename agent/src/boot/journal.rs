//! What a trial leaves behind: the end of the journal and what is known of the system, on the SSD's FAT partition.
//!
//! The card's agent reads it there without importing a pool. Passphrases that this system was given are struck out.

use super::confirm::was_changed;
use crate::firmware::{Firmware, replace};
use crate::identity;
use crate::report::redact;
use crate::run::capture;
use cygnet_protocol::boot::trial::{End, LOG, Log, MOST};
use cygnet_protocol::boot::{DIRECTORY, SWITCH, menu};
use cygnet_protocol::online::settings::{Key, Settings};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What a new log is called until it is whole.
const NEW: &str = "TRIAL.NEW";
/// How much of the journal is asked for.
const LINES: &str = "1500";
/// No tool takes longer; timeout(1) ends it.
const PATIENCE: &str = "20";
/// Where the SSD's FAT partition is mounted: on its own, or as `/boot`.
const PLACES: [&str; 2] = ["/boot/firmware", "/boot"];
/// Where we mount it if nobody has.
const OURS: &str = "/run/cygnet-trial-boot";

/// Looks at the system, and writes down what it sees.
pub fn keep(end: End, number: &str, directory: Option<&Path>) -> io::Result<()> {
    let mounted;
    let fat = match directory {
        Some(directory) => directory,
        None => {
            mounted = Boot::find()?;
            mounted.path()
        }
    };
    let directory = fat.join(DIRECTORY);
    fs::create_dir_all(&directory)?;
    replace(&directory, LOG, NEW, text(&look(end, number), &secrets(Path::new(crate::carried::CARRIED))).as_bytes())
}

fn text(log: &Log, secrets: &[String]) -> String {
    redact(log.render(), secrets)
}

/// What is to be seen now.
fn look(end: End, number: &str) -> Log {
    let say = |argv: &[&str]| capture(&[&["timeout", PATIENCE], argv].concat()).unwrap_or_default();
    let journal = say(&["journalctl", "--boot", "--no-pager", "--output=short-monotonic", "--lines", LINES]);
    let failed = say(&["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager"]);
    let toplevel = fs::read_link("/run/current-system").unwrap_or_default();
    Log {
        end: if end == End::Running && was_changed() { End::Confirmed } else { end },
        number: number.to_owned(),
        toplevel: toplevel.to_string_lossy().into_owned(),
        uptime: identity::uptime_seconds(),
        network: identity::has_address(),
        ssh: ssh_listens(),
        failed: failed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect(),
        lines: journal.lines().map(str::to_owned).collect(),
    }
}

/// Whether somebody listens at port 22 (proc_net_tcp in the kernel's documentation: the local port in hex, state 0A).
pub fn ssh_listens() -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|file| listens(&fs::read_to_string(file).unwrap_or_default(), 22))
}

fn listens(table: &str, port: u16) -> bool {
    let end = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default());
        local.ends_with(&end) && state == "0A"
    })
}

/// The keys of the networks that were carried over.
fn secrets(carried: &Path) -> Vec<String> {
    let mut bytes = Vec::new();
    let read = File::open(carried).and_then(|file| file.take(MOST as u64).read_to_end(&mut bytes));
    let settings = read.ok().and_then(|_| Settings::parse(&bytes).ok()).unwrap_or_default();
    let key = |key: &Key| match key {
        Key::Open => None,
        Key::Passphrase(text) => Some(text.clone()),
        Key::Pmk(octets) => Some(octets.iter().map(|octet| format!("{octet:02x}")).collect()),
    };
    settings.networks.iter().filter_map(|network| key(&network.key)).collect()
}

/// The SSD's FAT partition; a mount of ours is gone when dropped.
enum Boot {
    Theirs(PathBuf),
    Ours,
    Found(Firmware),
}

impl Boot {
    fn find() -> io::Result<Self> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
        if let Some(there) = PLACES.into_iter().find(|place| is_fat(&mountinfo, place)) {
            return Ok(Boot::Theirs(there.into()));
        }
        // In emergency mode it may not have been mounted.
        let fstab = fs::read_to_string("/etc/fstab").unwrap_or_default();
        let device = PLACES.into_iter().find_map(|place| device(&fstab, place));
        let device =
            device.ok_or_else(|| io::Error::other("/boot is not on a FAT partition; there is no log of the trial"))?;
        if !device.exists() {
            // A system that gave up before udev ran has no links to its partitions.
            return Boot::search(not_the_cards);
        }
        fs::create_dir_all(OURS)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount(device, OURS, "vfat", flags, c"umask=0077")?;
        Ok(Boot::Ours)
    }

    /// The one of these FAT partitions that has a menu of U-Boot's.
    fn search(candidates: impl FnOnce() -> Vec<Firmware>) -> io::Result<Self> {
        let mut found = candidates().into_iter().filter(|fat| fat.path().join(menu::FILE).is_file());
        let mut fat = found.next().ok_or_else(|| io::Error::other("no FAT partition has a menu of U-Boot's"))?;
        fat.make_writable().map_err(io::Error::other)?;
        Ok(Boot::Found(fat))
    }

    fn path(&self) -> &Path {
        match self {
            Boot::Theirs(path) => path,
            Boot::Ours => Path::new(OURS),
            Boot::Found(fat) => fat.path(),
        }
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        if matches!(self, Boot::Ours) {
            let _ = unmount(OURS, UnmountFlags::DETACH);
        }
    }
}

/// The FAT partitions of every disk but the card, whose own is known by its switch.
fn not_the_cards() -> Vec<Firmware> {
    let all = super::place::fat_partitions(|_| true);
    all.filter(|fat| !fat.path().join(DIRECTORY).join(SWITCH).exists()).collect()
}

fn is_fat(mountinfo: &str, place: &str) -> bool {
    mountinfo.lines().any(|line| {
        let Some((ours, theirs)) = line.split_once(" - ") else { return false };
        ours.split(' ').nth(4) == Some(place) && theirs.split(' ').next() == Some("vfat")
    })
}

/// The device that fstab(5) has for a place, if it is FAT.
fn device(fstab: &str, place: &str) -> Option<PathBuf> {
    fstab.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (spec, there, kind) = (fields.next()?, fields.next()?, fields.next()?);
        if there != place || kind != "vfat" || spec.starts_with('#') {
            return None;
        }
        let (by, name) = spec.split_once('=').unwrap_or(("", spec));
        let links = match by {
            "" => return Some(spec.into()),
            "UUID" => "by-uuid",
            "LABEL" => "by-label",
            "PARTUUID" => "by-partuuid",
            "PARTLABEL" => "by-partlabel",
            _ => return None,
        };
        Some(Path::new("/dev/disk").join(links).join(name.trim_matches('"')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_kept_without_secrets() {
        let fat = tempfile::tempdir().unwrap();
        keep(End::Deadline, "7f", Some(fat.path())).unwrap();
        let log = Log::parse(&fs::read(fat.path().join("cygnet/trial.log")).unwrap()).unwrap();
        assert_eq!((log.end, log.number.as_str()), (End::Deadline, "7f"));
        let log = Log { lines: vec!["psk is correct horse battery".into()], ..Log::default() };
        let text = text(&log, &["correct horse battery".into()]);
        assert!(text.contains("psk is (secret)") && !text.contains("horse"), "{text}");
    }

    #[test]
    fn the_fat_partition_of_boot_is_found() {
        let fstab = "# UUID=A /boot vfat x\nUUID=12-34 /boot vfat defaults 0 2\n/dev/sda1 /boot/firmware vfat x\nrpool/x / zfs\n";
        assert_eq!(device(fstab, "/boot"), Some("/dev/disk/by-uuid/12-34".into()));
        assert_eq!(device(fstab, "/boot/firmware"), Some("/dev/sda1".into()));
        assert_eq!(device(fstab, "/"), None);
        let mountinfo = "29 1 179:1 / /boot rw,noatime shared:1 - vfat /dev/sda1 rw\n";
        assert!(is_fat(mountinfo, "/boot") && !is_fat(mountinfo, "/boot/firmware"));
    }

    #[test]
    fn a_listening_port_is_seen() {
        let table = "  sl  local_address rem_address   st tx_queue\n   0: 00000000:0016 00000000:0000 0A 0:0\n   1: 0100007F:0050 0:0 01 x\n";
        assert!(listens(table, 22) && !listens(table, 80) && !listens("", 22));
    }
}
