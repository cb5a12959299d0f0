//! The FAT partition of the disk that the Pi runs from, which every laptop can read and write: [`crate::card`] reads the
//! settings there, [`crate::report`] leaves its report.

use crate::run::capture;
use rustix::fs::{Mode, OFlags, fsync, mkdir, open, rename};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where we mount the partition if nobody else has; each of our processes, and of its mounts, beside the other.
const MOUNTPOINT: &str = "/run/cygnet-firmware";
static MOUNTS: AtomicU32 = AtomicU32::new(0);
/// Labels of firmware partitions: our images', NixOS's, Raspberry Pi OS's and Ubuntu's.
const LABELS: &[&str] = &["FIRMWARE", "BOOT", "RASPIFIRM", "NIXOS_BOOT", "BOOTFS", "SYSTEM-BOOT"];

/// Why the partition can't be had.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// It has none.
    #[error("the disk that the Pi runs from has no FAT partition")]
    None,
    /// lsblk did not tell.
    #[error("asking lsblk for the partitions of {disk}: {why}")]
    Lsblk {
        /// The disk.
        disk: String,
        /// Why.
        why: String,
    },
    /// It could not be mounted.
    #[error("mounting {partition}: {source}")]
    Mount {
        /// The partition.
        partition: String,
        /// EBUSY if somebody has mounted it read-only; EROFS or EACCES if it is write-protected.
        source: io::Error,
    },
}

/// The partition, mounted. A mount of our own is gone when this is dropped.
pub struct Firmware {
    /// Its device: `/dev/mmcblk0p1`.
    pub partition: String,
    place: Place,
}

enum Place {
    /// Somebody else's mount, and whether it can be written.
    Theirs(PathBuf, bool),
    /// Ours, and whether it can be written.
    Ours(Mounted, bool),
}

impl Firmware {
    /// Finds the firmware partition of `disk`, and mounts it read-only if nobody has mounted it yet.
    pub fn open(disk: Option<&str>) -> Result<Self, FirmwareError> {
        let parts = partitions(disk.ok_or(FirmwareError::None)?)?;
        Self::open_part(choose(&parts).ok_or(FirmwareError::None)?)
    }

    /// Likewise the first partition of `disk`, whatever its label: the one that U-Boot is told.
    pub fn open_first(disk: &str) -> Result<Self, FirmwareError> {
        let parts = partitions(disk)?;
        Self::open_part(first(&parts, disk).ok_or(FirmwareError::None)?)
    }

    /// Every FAT partition of `disk`, read-only; what can't be mounted is left out.
    pub fn all_fat(disk: &str) -> Vec<Self> {
        let parts = partitions(disk).unwrap_or_default();
        let fat = parts.iter().filter(|part| part.fstype.as_deref() == Some("vfat"));
        fat.take(MOST_FAT).filter_map(|part| Self::open_part(part).ok()).collect()
    }

    fn open_part(part: &Part) -> Result<Self, FirmwareError> {
        let partition = part.path.clone();
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounts = mounts(&mountinfo, &part.number);
        let theirs = mounts.iter().find(|(_, writable)| *writable).or(mounts.first());
        let place = match theirs {
            Some((there, writable)) => Place::Theirs(there.clone(), *writable),
            None => {
                let mounted = Mounted::new(&partition)
                    .map_err(|source| FirmwareError::Mount { partition: partition.clone(), source })?;
                Place::Ours(mounted, false)
            }
        };
        Ok(Self { partition, place })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        match &self.place {
            Place::Theirs(path, _) | Place::Ours(Mounted(path), _) => path,
        }
    }

    /// Sees that it can be written.
    ///
    /// # Errors
    /// If it is write-protected, or somebody else has mounted it read-only.
    pub fn make_writable(&mut self) -> Result<(), FirmwareError> {
        let wrong = |source| FirmwareError::Mount { partition: self.partition.clone(), source };
        match &mut self.place {
            Place::Theirs(_, true) | Place::Ours(_, true) => Ok(()),
            Place::Theirs(path, false) => {
                let text = format!("somebody has mounted it read-only on {}", path.display());
                Err(wrong(io::Error::other(text)))
            }
            Place::Ours(mounted, writable) => {
                mount_remount(&mounted.0, FLAGS, OPTIONS).map_err(|error| wrong(error.into()))?;
                *writable = true;
                Ok(())
            }
        }
    }
}

/// A partition, as lsblk tells it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Part {
    path: String,
    #[serde(rename = "maj:min")]
    number: String,
    fstype: Option<String>,
    label: Option<String>,
    #[serde(default)]
    children: Vec<Part>,
}

fn partitions(disk: &str) -> Result<Vec<Part>, FirmwareError> {
    let wrong = |why: String| FirmwareError::Lsblk { disk: disk.to_owned(), why };
    let said = capture(&["lsblk", "--json", "--output", "PATH,MAJ:MIN,FSTYPE,LABEL", "--", disk])
        .map_err(|error| wrong(error.to_string()))?;
    let mut parts = parse(said.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    // lsblk asks udev, which may not have looked at the card yet, or not know how to.
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for part in parts.iter_mut().filter(|part| part.fstype.is_none()) {
        part.fstype = mounted_as(&mountinfo, &part.number).or_else(|| probe(&part.path));
    }
    Ok(parts)
}

/// The type of file system as which `number` is mounted.
fn mounted_as(mountinfo: &str, number: &str) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        let (ours, theirs) = line.split_once(" - ")?;
        (ours.split(' ').nth(2)? == number.trim()).then(|| theirs.split(' ').next().unwrap_or_default().to_owned())
    })
}

/// What blkid finds by looking itself.
fn probe(partition: &str) -> Option<String> {
    let text = capture(&["blkid", "--probe", "--output", "value", "--match-tag", "TYPE", "--", partition]).ok()?;
    Some(text.trim().to_owned()).filter(|kind| !kind.is_empty())
}

fn parse(json: &[u8]) -> serde_json::Result<Vec<Part>> {
    #[derive(Deserialize)]
    struct Output {
        blockdevices: Vec<Part>,
    }
    let devices = serde_json::from_slice::<Output>(json)?.blockdevices;
    Ok(devices.into_iter().flat_map(flat).collect())
}

/// Without its column NAME lsblk makes a list, with it a tree; the disk itself is in both.
fn flat(mut part: Part) -> Vec<Part> {
    let children = std::mem::take(&mut part.children);
    std::iter::once(part).chain(children.into_iter().flat_map(flat)).collect()
}

/// So many FAT partitions of a disk are looked into.
const MOST_FAT: usize = 4;

/// The partition with the number 1, if it is FAT.
fn first<'a>(parts: &'a [Part], disk: &str) -> Option<&'a Part> {
    let is_first = |part: &&Part| {
        let number = part.path.strip_prefix(disk).map(|rest| rest.strip_prefix('p').unwrap_or(rest));
        number == Some("1") && part.fstype.as_deref() == Some("vfat")
    };
    parts.iter().find(is_first)
}

/// One with a known label, or the first.
fn choose(parts: &[Part]) -> Option<&Part> {
    let fat = || parts.iter().filter(|part| part.fstype.as_deref() == Some("vfat"));
    let labelled = |part: &&Part| {
        let label = part.label.as_deref().unwrap_or_default().trim().to_ascii_uppercase();
        LABELS.contains(&label.as_str())
    };
    fat().find(labelled).or_else(|| fat().next())
}

/// Where `number` (`179:1`) is mounted as a whole, and whether it can be written there (proc_pid_mountinfo(5)).
fn mounts(mountinfo: &str, number: &str) -> Vec<(PathBuf, bool)> {
    let of_line = |line: &str| {
        let (ours, theirs) = line.split_once(" - ")?;
        let fields: Vec<&str> = ours.split(' ').collect();
        let [_, _, device, root, point, options, ..] = fields[..] else { return None };
        let super_options = theirs.split(' ').nth(2).unwrap_or_default();
        let writable = |options: &str| options.split(',').any(|option| option == "rw");
        let path = PathBuf::from(point.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"));
        (device == number.trim() && root == "/").then(|| (path, writable(options) && writable(super_options)))
    };
    mountinfo.lines().filter_map(of_line).collect()
}

const FLAGS: MountFlags =
    MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC).union(MountFlags::NOATIME);
const OPTIONS: &std::ffi::CStr = c"umask=0077";

/// A mount of our own, gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(partition: &str) -> io::Result<Self> {
        let number = MOUNTS.fetch_add(1, Ordering::Relaxed);
        let point = PathBuf::from(format!("{MOUNTPOINT}-{}-{number}", std::process::id()));
        match mkdir(&point, Mode::RWXU) {
            Ok(()) => {}
            // Left by a process that was killed.
            Err(rustix::io::Errno::EXIST) => drop(unmount(&point, UnmountFlags::DETACH)),
            Err(error) => return Err(error.into()),
        }
        if let Err(error) = mount(partition, &point, "vfat", FLAGS | MountFlags::RDONLY, OPTIONS) {
            let _ = fs::remove_dir(&point);
            return Err(error.into());
        }
        Ok(Self(point))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Unmounting writes what is left; lazily if somebody looks into it just now.
        if unmount(&self.0, UnmountFlags::empty()).is_err() {
            let _ = unmount(&self.0, UnmountFlags::DETACH);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// Never half a file: a whole new one, called `new` until then, takes the place of `name`.
pub fn replace(directory: &Path, name: &str, new: &str, text: &[u8]) -> io::Result<()> {
    let new = directory.join(new);
    let mut file = File::create(&new)?;
    let written = file.write_all(text).and_then(|()| file.sync_all());
    drop(file);
    if let Err(error) = written.and_then(|()| Ok(rename(&new, directory.join(name))?)) {
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    sync_entry(&directory.join(name))?;
    sync_directory(directory)
}

/// Brings a file's entry in its directory to the disk. On FAT it has the file's place and length, and is written with the
/// file and not with the directory (fs/fat/inode.c, `fat_write_inode`): after a rename it says that the file is empty until
/// then.
pub fn sync_entry(file: &Path) -> io::Result<()> {
    File::open(file)?.sync_all()
}

/// Brings the names in a directory to the disk.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    let directory = open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(fsync(directory)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LSBLK: &str = r#"{"blockdevices":[{"path":"/dev/mmcblk0","maj:min":"179:0","fstype":null,"label":null,
        "children":[{"path":"/dev/mmcblk0p1","maj:min":"179:1","fstype":"vfat","label":"ESP"},
        {"path":"/dev/mmcblk0p2","maj:min":"179:2","fstype":"vfat","label":"firmware"},
        {"path":"/dev/mmcblk0p3","maj:min":"179:3","fstype":"ext4","label":"BOOT"}]}]}"#;

    #[test]
    fn the_firmware_partition_is_chosen_by_what_is_in_it() {
        let mut parts = parse(LSBLK.as_bytes()).unwrap();
        assert_eq!(choose(&parts).unwrap().path, "/dev/mmcblk0p2");
        parts[2].label = None;
        assert_eq!(choose(&parts).unwrap().path, "/dev/mmcblk0p1");
        assert_eq!(choose(&parts[3..]), None);
        assert_eq!(first(&parts, "/dev/mmcblk0").unwrap().path, "/dev/mmcblk0p1");
        assert_eq!(first(&parts[2..], "/dev/mmcblk0"), None);
        assert_eq!(first(&parts, "/dev/mmcblk"), None);
        let list = r#"{"blockdevices":[{"path":"/dev/vda","maj:min":"254:0","fstype":null,"label":null},
            {"path":"/dev/vda1","maj:min":"254:1","fstype":"vfat","label":null}]}"#;
        let list = parse(list.as_bytes()).unwrap();
        assert_eq!(choose(&list).unwrap().path, "/dev/vda1");
        assert_eq!(first(&list, "/dev/vda").unwrap().path, "/dev/vda1");
        assert!(parse(b"garbage").is_err());
        assert!(matches!(Firmware::open(None), Err(FirmwareError::None)));
        assert!(Firmware::open(Some("/dev/nonexistent")).is_err());
    }

    #[test]
    fn a_mount_of_somebody_else_is_used_only_if_it_can_be_written() {
        let of = |options: &str, sup: &str, root: &str| {
            format!(
                "29 1 179:1 {root} /boot/my\\040firmware {options},noatime shared:1 - vfat /dev/mmcblk0p1 {sup},umask=77\n"
            )
        };
        assert_eq!(mounts(&of("rw", "rw", "/"), "179:1"), [("/boot/my firmware".into(), true)]);
        assert_eq!(mounted_as(&of("ro", "ro", "/"), "179:1").as_deref(), Some("vfat"));
        assert_eq!(mounted_as(&of("ro", "ro", "/"), "179:2"), None);
        for (options, sup) in [("ro", "rw"), ("rw", "ro")] {
            assert_eq!(mounts(&of(options, sup, "/"), "179:1"), [("/boot/my firmware".into(), false)]);
        }
        for (mountinfo, number) in
            [(of("rw", "rw", "/x"), "179:1"), (of("rw", "rw", "/"), "179:2"), ("garbage".into(), "179:1")]
        {
            assert_eq!(mounts(&mountinfo, number), [], "{mountinfo}");
        }
    }

    #[test]
    fn a_new_file_takes_the_place_of_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        replace(dir.path(), "A.TXT", "A.NEW", b"old").unwrap();
        replace(dir.path(), "A.TXT", "A.NEW", b"new\r\n").unwrap();
        assert_eq!(fs::read(dir.path().join("A.TXT")).unwrap(), b"new\r\n");
        assert!(!dir.path().join("A.NEW").exists());
        assert!(replace(&dir.path().join("gone"), "A.TXT", "A.NEW", b"x").is_err());
    }
}
