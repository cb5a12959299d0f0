//! `cygnetd menu`: what the SSD's U-Boot menu has, and another entry to start, without importing a pool.
//!
//! It is for the card's system, when the one on the SSD does not come up. The menu is changed only for whoever names the digest of
//! the one that was shown, and only on a disk that this system does not run from. NixOS writes the file anew at its next switch.

use super::place;
use crate::firmware::replace;
use cygnet_protocol::boot::menu::{self, MOST, Menu, MenuError};
use cygnet_protocol::fault::{Fault, FaultCode, sentence};
use rustix::fs::{Mode, OFlags, open};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

/// What a new menu is called until it is whole.
const NEW: &str = "CYGNET.NEW";

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// To see the menus.
    Show,
    /// Another entry is to start.
    Default {
        /// Its label.
        label: String,
        /// The digest of the menu that was shown.
        digest: String,
    },
}

/// Carries it out: a line of JSON for each menu.
pub fn run(wish: &Wish) -> ExitCode {
    match carry_out(wish) {
        Ok(lines) => {
            for line in lines {
                crate::say::out(&line);
            }
            ExitCode::SUCCESS
        }
        Err(fault) => {
            crate::say::err(&format!("cygnetd: {fault}"));
            ExitCode::FAILURE
        }
    }
}

fn carry_out(wish: &Wish) -> Result<Vec<String>, Fault> {
    let mut found = Vec::new();
    for mut fat in place::fat_of_others() {
        let Some((file, seen)) = read(fat.path()) else { continue };
        match wish {
            Wish::Show => found.push(line(&fat.partition, &seen)),
            Wish::Default { label, digest } if *digest == seen.digest => {
                let changed = menu::with_default(&file, label).map_err(|error| refused(&error, &fat.partition))?;
                fat.make_writable().map_err(|error| not_written(&fat.partition, &error.to_string()))?;
                let now =
                    write(fat.path(), &changed).map_err(|error| not_written(&fat.partition, &error.to_string()))?;
                return Ok(vec![line(&fat.partition, &now)]);
            }
            Wish::Default { .. } => found.push(line(&fat.partition, &seen)),
        }
    }
    match wish {
        Wish::Show if found.is_empty() => Err(no_menu()),
        Wish::Show => Ok(found),
        Wish::Default { .. } => Err(Fault::new(
            FaultCode::BadRequest,
            "No menu is as it was when it was shown, so none was changed.",
            if found.is_empty() { "There is none any more." } else { "Somebody has changed it since." },
            "Look again with `cygnet rescue HOST`.",
        )),
    }
}

fn line(partition: &str, menu: &Menu) -> String {
    let mut record = serde_json::to_value(menu).unwrap_or_default();
    record["partition"] = partition.into();
    record.to_string()
}

/// The menu on a file system, and the bytes that it was read from.
fn read(fat: &Path) -> Option<(Vec<u8>, Menu)> {
    let path = fat.join(menu::FILE);
    let file = File::from(open(&path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()?);
    let mut bytes = Vec::new();
    file.take(MOST as u64 + 1).read_to_end(&mut bytes).ok()?;
    let menu = menu::parse(&bytes).ok()?;
    Some((bytes, menu))
}

/// Writes a menu beside the old one, and gives it its name when it is whole.
fn write(fat: &Path, bytes: &[u8]) -> io::Result<Menu> {
    let path = fat.join(menu::FILE);
    let (directory, name) = match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
        (Some(directory), Some(name)) => (directory, name),
        _ => return Err(io::Error::other("the menu has no directory")),
    };
    replace(directory, name, NEW, bytes)?;
    match read(fat) {
        Some((there, menu)) if there == bytes => Ok(menu),
        Some(_) | None => Err(io::Error::other("the disk gives back something else than was written")),
    }
}

fn refused(error: &MenuError, partition: &str) -> Fault {
    Fault::new(
        FaultCode::BadRequest,
        sentence(&format!("{partition} was not changed: {error}")),
        "The generation was deleted, or never had an entry in the menu.",
        "Choose one of those that `cygnet rescue HOST` shows.",
    )
}

fn not_written(partition: &str, why: &str) -> Fault {
    Fault::new(
        FaultCode::DiskFull,
        sentence(&format!("the menu on {partition} was not written: {why}")),
        "The file system is full or damaged, or the disk is write-protected.",
        "Look at the SSD with `cygnet disks HOST`, and check the file system from the card: `fsck.vfat`.",
    )
}

fn no_menu() -> Fault {
    Fault::new(
        FaultCode::BadRequest,
        "There is no U-Boot menu on any disk but the one that this system runs from.",
        "Nothing was installed yet, the SSD is not seen, or its /boot is no FAT partition.",
        "See with `cygnet disks HOST` whether the SSD is there.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_menu_is_changed_beside_the_old_one() {
        let fat = tempfile::tempdir().unwrap();
        assert!(read(fat.path()).is_none());
        fs::create_dir(fat.path().join("extlinux")).unwrap();
        let file = "DEFAULT a\nLABEL a\nLINUX k\nLABEL b\nLINUX k\n";
        fs::write(fat.path().join(menu::FILE), file).unwrap();
        let (bytes, seen) = read(fat.path()).unwrap();
        let now = write(fat.path(), &menu::with_default(&bytes, "b").unwrap()).unwrap();
        assert_eq!((now.default.as_deref(), seen.default.as_deref()), (Some("b"), Some("a")));
        assert_ne!(now.digest, seen.digest);
        assert_eq!(fs::read_dir(fat.path().join("extlinux")).unwrap().count(), 1, "nothing is left lying about");
        assert!(line("/dev/sda1", &now).contains("\"partition\":\"/dev/sda1\""));
    }

    #[test]
    fn a_link_is_no_menu() {
        let fat = tempfile::tempdir().unwrap();
        fs::create_dir(fat.path().join("extlinux")).unwrap();
        fs::write(fat.path().join("other"), "LABEL a\n").unwrap();
        std::os::unix::fs::symlink("../other", fat.path().join(menu::FILE)).unwrap();
        assert!(read(fat.path()).is_none());
    }
}
