//! Where the report is written: the FAT partition of the disk that the Pi runs from, which every laptop can read.

use rustix::fs::{Mode, OFlags, fsync, mkdir, open, rename};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The file.
pub const NAME: &str = "REPORT.TXT";
/// What it is called until it is whole; 8.3, so that it has no second name.
const NEW: &str = "REPORT.NEW";
/// Where we mount the partition if nobody else has.
const MOUNTPOINT: &str = "/run/cygnet/firmware";
/// Labels of firmware partitions: our images', NixOS's, Raspberry Pi OS's and Ubuntu's.
const LABELS: &[&str] = &["FIRMWARE", "BOOT", "RASPIFIRM", "NIXOS_BOOT", "BOOTFS", "SYSTEM-BOOT"];

/// Why there is no report on the card.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
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
        /// EBUSY if somebody has mounted it read-only.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("writing it to {partition}: {source}")]
    Write {
        /// The partition.
        partition: String,
        /// Why.
        source: io::Error,
    },
}

/// Writes the report to the firmware partition of `disk`.
pub fn write(disk: Option<&str>, text: &[u8]) -> Result<(), PlaceError> {
    let disk = disk.ok_or(PlaceError::None)?;
    let parts = partitions(disk)?;
    let part = choose(&parts).ok_or(PlaceError::None)?;
    let partition = part.path.clone();
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let written = |source| PlaceError::Write { partition: partition.clone(), source };
    if let Some(there) = writable_mount(&mountinfo, &part.number) {
        return replace(&there, text).map_err(written);
    }
    let mounted =
        Mounted::new(&part.path).map_err(|source| PlaceError::Mount { partition: part.path.clone(), source })?;
    replace(mounted.path(), text).map_err(written)
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

fn partitions(disk: &str) -> Result<Vec<Part>, PlaceError> {
    let wrong = |why: String| PlaceError::Lsblk { disk: disk.to_owned(), why };
    let output = Command::new("lsblk")
        .args(["--json", "--output", "PATH,MAJ:MIN,FSTYPE,LABEL", "--", disk])
        .output()
        .map_err(|error| wrong(error.to_string()))?;
    if !output.status.success() {
        return Err(wrong(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let mut parts = parse(&output.stdout).map_err(|error| wrong(error.to_string()))?;
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
    let output =
        Command::new("blkid").args(["--probe", "--output", "value", "--match-tag", "TYPE", "--", partition]).output();
    let text = String::from_utf8(output.ok()?.stdout).ok()?;
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

/// One with a known label, or the first.
fn choose(parts: &[Part]) -> Option<&Part> {
    let fat = || parts.iter().filter(|part| part.fstype.as_deref() == Some("vfat"));
    let labelled = |part: &&Part| {
        let label = part.label.as_deref().unwrap_or_default().trim().to_ascii_uppercase();
        LABELS.contains(&label.as_str())
    };
    fat().find(labelled).or_else(|| fat().next())
}

/// Where `number` (`179:1`) is mounted as a whole and can be written (proc_pid_mountinfo(5)).
fn writable_mount(mountinfo: &str, number: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (ours, theirs) = line.split_once(" - ")?;
        let fields: Vec<&str> = ours.split(' ').collect();
        let [_, _, device, root, point, options, ..] = fields[..] else { return None };
        let super_options = theirs.split(' ').nth(2).unwrap_or_default();
        let writable = |options: &str| options.split(',').any(|option| option == "rw");
        let usable = device == number.trim() && root == "/" && writable(options) && writable(super_options);
        usable.then(|| PathBuf::from(point.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")))
    })
}

/// A mount of our own, gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(partition: &str) -> io::Result<Self> {
        let point = PathBuf::from(MOUNTPOINT);
        fs::create_dir_all(point.parent().unwrap_or(Path::new("/run")))?;
        match mkdir(&point, Mode::RWXU) {
            Ok(()) => {}
            // Left by an agent that was killed.
            Err(rustix::io::Errno::EXIST) => drop(unmount(&point, UnmountFlags::DETACH)),
            Err(error) => return Err(error.into()),
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
        if let Err(error) = mount(partition, &point, "vfat", flags, c"umask=0077") {
            let _ = fs::remove_dir(&point);
            return Err(error.into());
        }
        Ok(Self(point))
    }

    fn path(&self) -> &Path {
        &self.0
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

/// Never half a report: a whole new file takes the place of the old one.
fn replace(directory: &Path, text: &[u8]) -> io::Result<()> {
    let new = directory.join(NEW);
    let mut file = File::create(&new)?;
    let written = file.write_all(text).and_then(|()| file.sync_all());
    drop(file);
    if let Err(error) = written.and_then(|()| Ok(rename(&new, directory.join(NAME))?)) {
        let _ = fs::remove_file(&new);
        return Err(error);
    }
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
        let list = r#"{"blockdevices":[{"path":"/dev/vda","maj:min":"254:0","fstype":null,"label":null},
            {"path":"/dev/vda1","maj:min":"254:1","fstype":"vfat","label":null}]}"#;
        assert_eq!(choose(&parse(list.as_bytes()).unwrap()).unwrap().path, "/dev/vda1");
        assert!(parse(b"garbage").is_err());
        assert!(matches!(write(None, b"x"), Err(PlaceError::None)));
        assert!(write(Some("/dev/nonexistent"), b"x").is_err());
    }

    #[test]
    fn a_mount_of_somebody_else_is_used_only_if_it_can_be_written() {
        let of = |options: &str, sup: &str, root: &str| {
            format!(
                "29 1 179:1 {root} /boot/my\\040firmware {options},noatime shared:1 - vfat /dev/mmcblk0p1 {sup},umask=77\n"
            )
        };
        assert_eq!(writable_mount(&of("rw", "rw", "/"), "179:1"), Some("/boot/my firmware".into()));
        assert_eq!(mounted_as(&of("ro", "ro", "/"), "179:1").as_deref(), Some("vfat"));
        assert_eq!(mounted_as(&of("ro", "ro", "/"), "179:2"), None);
        for (mountinfo, number) in [
            (of("ro", "rw", "/"), "179:1"),
            (of("rw", "ro", "/"), "179:1"),
            (of("rw", "rw", "/x"), "179:1"),
            (of("rw", "rw", "/"), "179:2"),
            ("garbage".into(), "179:1"),
        ] {
            assert_eq!(writable_mount(&mountinfo, number), None, "{mountinfo}");
        }
    }

    #[test]
    fn a_report_takes_the_place_of_the_last_one() {
        let dir = tempfile::tempdir().unwrap();
        replace(dir.path(), b"old").unwrap();
        replace(dir.path(), b"new\r\n").unwrap();
        assert_eq!(fs::read(dir.path().join(NAME)).unwrap(), b"new\r\n");
        assert!(!dir.path().join(NEW).exists());
        assert!(replace(&dir.path().join("gone"), b"x").is_err());
    }
}
