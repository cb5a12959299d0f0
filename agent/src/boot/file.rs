//! Reads and writes what U-Boot reads, so that it is on the card and not in memory only.

use crate::firmware::{replace, sync_directory};
use cygnet_protocol::boot::switch::{READ, Switch};
use cygnet_protocol::boot::{DIRECTORY, ENVIRONMENT, NUMBER, SWITCH};
use cygnet_protocol::fault::{Fault, FaultCode};
use rustix::fs::{Advice, fadvise};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// What a new file is called until it is whole; 8.3, so that it has no second name.
const NEW: &str = "CYGNET.NEW";

/// What there is of the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// No file: nobody ever armed it.
    Missing,
    /// A file that says nothing that is known.
    Damaged,
    /// This.
    Says(Switch),
}

impl Reading {
    /// As U-Boot takes it.
    pub fn switch(self) -> Switch {
        match self {
            Reading::Missing | Reading::Damaged => Switch::Card,
            Reading::Says(switch) => switch,
        }
    }

    /// As [`cygnet_protocol::boot::trial::cause`] takes it.
    pub fn found(self) -> Option<Option<Switch>> {
        match self {
            Reading::Missing => None,
            Reading::Damaged => Some(None),
            Reading::Says(switch) => Some(Some(switch)),
        }
    }
}

/// The first `most` bytes of a file, from the card and not from memory.
pub fn read_back(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    // What is clean is let go of; it was synced before.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    let mut bytes = Vec::new();
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the switch on a FAT partition.
pub fn read(fat: &Path) -> io::Result<Reading> {
    match read_back(&fat.join(DIRECTORY).join(SWITCH), READ) {
        Ok(bytes) => Ok(Switch::parse(&bytes).map_or(Reading::Damaged, Reading::Says)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Reading::Missing),
        Err(error) => Err(error),
    }
}

/// Writes the switch, and sees that it is there.
pub fn write(fat: &Path, switch: Switch) -> Result<(), Fault> {
    let bytes = switch.render();
    let path = fat.join(DIRECTORY).join(SWITCH);
    let put = || {
        match fs::metadata(&path) {
            // One sector, and nothing else, changes.
            Ok(there) if there.is_file() && there.len() == bytes.len() as u64 => {
                let mut file = OpenOptions::new().write(true).open(&path)?;
                file.write_all(&bytes)?;
                file.sync_all()?;
            }
            _ => {
                let directory = fat.join(DIRECTORY);
                fs::create_dir_all(&directory)?;
                sync_directory(fat)?;
                replace(&directory, SWITCH, NEW, &bytes)?;
            }
        }
        read(fat)
    };
    match put() {
        Ok(Reading::Says(read)) if read == switch => Ok(()),
        Ok(_) => Err(not_written(SWITCH, "the card gives back something else than was written")),
        Err(error) => Err(not_written(SWITCH, &error.to_string())),
    }
}

/// The number of the trial that was armed last; empty if there is none.
pub fn number(fat: &Path) -> String {
    let bytes = read_back(&fat.join(DIRECTORY).join(NUMBER), 32).unwrap_or_default();
    String::from_utf8_lossy(&bytes).chars().filter(char::is_ascii_hexdigit).collect()
}

/// Gives the next trial another number: one by chance, of the kernel.
pub fn renumber(fat: &Path) -> Result<(), Fault> {
    let put = || {
        let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        let number: String = uuid.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        let directory = fat.join(DIRECTORY);
        fs::create_dir_all(&directory)?;
        sync_directory(fat)?;
        replace(&directory, NUMBER, NEW, number.as_bytes())
    };
    put().map_err(|error: io::Error| not_written(NUMBER, &error.to_string()))
}

/// Writes U-Boot's environment if it is not there like that already, and sees that it is. Tells whether it wrote.
pub fn write_environment(fat: &Path, bytes: &[u8]) -> Result<bool, Fault> {
    let path = fat.join(ENVIRONMENT);
    if read_back(&path, bytes.len() + 1).is_ok_and(|there| there == bytes) {
        return Ok(false);
    }
    let put = || {
        replace(fat, ENVIRONMENT, NEW, bytes)?;
        read_back(&path, bytes.len() + 1)
    };
    match put() {
        Ok(there) if there == bytes => Ok(true),
        Ok(_) => Err(not_written(ENVIRONMENT, "the card gives back something else than was written")),
        Err(error) => Err(not_written(ENVIRONMENT, &error.to_string())),
    }
}

fn not_written(file: &str, why: &str) -> Fault {
    Fault::new(
        FaultCode::NoSwitch,
        format!("The card's {file} could not be written: {why}."),
        "Its FAT partition is full, write-protected or mounted read-only by somebody else, or the card is worn out.",
        "Make room on the card's FAT partition, or use another card.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_is_written_in_place_and_read_back() {
        let fat = tempfile::tempdir().unwrap();
        assert_eq!(read(fat.path()).unwrap(), Reading::Missing);
        write(fat.path(), Switch::Once).unwrap();
        let path = fat.path().join("cygnet/boot");
        let node = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let before = node(&path);
        for switch in Switch::ALL {
            write(fat.path(), switch).unwrap();
            assert_eq!(read(fat.path()).unwrap(), Reading::Says(switch));
        }
        assert_eq!(node(&path), before, "it is the same file");
        fs::write(&path, "garbage").unwrap();
        assert_eq!(read(fat.path()).unwrap(), Reading::Damaged);
        assert_eq!(Reading::Damaged.switch(), Switch::Card);
        write(fat.path(), Switch::Card).unwrap();
        assert_eq!(read(fat.path()).unwrap(), Reading::Says(Switch::Card));
        assert_eq!(fs::read_dir(fat.path().join("cygnet")).unwrap().count(), 1, "nothing is left lying about");
    }

    #[test]
    fn each_trial_has_a_number_of_its_own() {
        let fat = tempfile::tempdir().unwrap();
        assert_eq!(number(fat.path()), "");
        renumber(fat.path()).unwrap();
        let first = number(fat.path());
        renumber(fat.path()).unwrap();
        assert!(first.len() == 16 && first != number(fat.path()));
    }

    #[test]
    fn an_environment_that_is_there_is_not_written_again() {
        let fat = tempfile::tempdir().unwrap();
        assert!(write_environment(fat.path(), b"one").unwrap());
        assert!(!write_environment(fat.path(), b"one").unwrap());
        assert!(write_environment(fat.path(), b"on").unwrap());
        assert_eq!(fs::read(fat.path().join("uboot.env")).unwrap(), b"on");
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let fat = tempfile::tempdir().unwrap();
        fs::write(fat.path().join("cygnet"), "a file where the directory should be").unwrap();
        let fault = write(fat.path(), Switch::Once).unwrap_err();
        assert_eq!(fault.code, FaultCode::NoSwitch);
        assert!(write_environment(&fat.path().join("gone"), b"x").is_err());
    }
}
