//! The files in the root directory of the card's FAT partition, read and written without mounting it.

use super::blocks::{Blocks, Shared, is_circle};
use super::medium::Medium;
use super::partitions::{self, Place, Table};
use super::wide::Wide;
use crate::error::fault;
use anyhow::{Context, Result};
use cygnet_protocol::fault::FaultCode;
use fatfs::{FileSystem, FsOptions};
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// Labels of firmware partitions: our images' and NixOS's, Raspberry Pi OS's and Ubuntu's. The agent knows the same.
const LABELS: &[&str] = &["FIRMWARE", "BOOT", "RASPIFIRM", "NIXOS_BOOT", "BOOTFS", "SYSTEM-BOOT"];

/// The partition, open.
#[allow(missing_debug_implementations)]
pub struct Firmware {
    blocks: Rc<RefCell<Blocks>>,
    files: FileSystem<Wide>,
    /// Its label, if it has one.
    pub label: String,
    shown: String,
}

impl Firmware {
    /// Finds it: one with a known label, or the first that is a FAT.
    pub fn open(medium: &Medium) -> Result<Self> {
        let shown = medium.path.display().to_string();
        let length = medium.size.min(partitions::HEAD as u64);
        let mut head = vec![0; usize::try_from(length).unwrap_or_default()];
        medium.file.read_exact_at(&mut head, 0).with_context(|| format!("reading {shown}"))?;
        let table = partitions::find(&head);
        let places = match &table {
            Table::Fat => vec![Place { start: 0, length: medium.size }],
            Table::Partitions(places) => places.clone(),
            Table::None => vec![],
        };
        let mut found: Vec<Self> = Vec::new();
        for place in places {
            found.extend(Self::at(medium, place)?);
        }
        let known = |firmware: &Self| LABELS.contains(&firmware.label.to_ascii_uppercase().as_str());
        let best = found.iter().position(known).unwrap_or(0);
        if best < found.len() {
            return Ok(found.swap_remove(best));
        }
        let cause = match table {
            Table::None => {
                "It has no partition table: it is blank, is no image of a card, or writing it was not finished."
            }
            Table::Fat | Table::Partitions(_) => "It has partitions, but none of them is a FAT that can be read.",
        };
        Err(fault(
            FaultCode::BadCard,
            format!("There is no FAT partition on {shown}."),
            cause,
            "Give the card itself, not one of its partitions, or an unpacked image; `cygnet card flash IMAGE` writes one.",
        ))
    }

    /// The FAT in this place, if there is one.
    fn at(medium: &Medium, place: Place) -> Result<Option<Self>> {
        let shown = medium.path.display().to_string();
        let file = medium.file.try_clone().with_context(|| format!("opening {shown} again"))?;
        let blocks = Rc::new(RefCell::new(Blocks::new(file, medium.size, place.start, place.length)));
        let Ok(files) = FileSystem::new(Wide::new(Shared(blocks.clone())), FsOptions::new()) else { return Ok(None) };
        let label = match files.read_volume_label_from_root_dir() {
            Ok(Some(label)) => label,
            Ok(None) | Err(_) => files.volume_label(),
        };
        Ok(Some(Self { blocks, label: label.trim().to_owned(), files, shown }))
    }

    /// The names of the files in the root directory.
    pub fn names(&self) -> Vec<String> {
        let files = self.files.root_dir().iter().filter_map(Result::ok).filter(|entry| entry.is_file());
        files.map(|entry| entry.file_name()).collect()
    }

    /// The file, if it is there. More than `limit` bytes are an error.
    pub fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        let bytes = self.read_up_to(name, limit + 1)?;
        let length = bytes.as_ref().map_or(0, Vec::len);
        anyhow::ensure!(length <= limit, "{name} on {} has more than {} kB", self.shown, limit / 1024);
        Ok(bytes)
    }

    /// The beginning of the file, if it is there.
    pub fn read_up_to(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>> {
        let reading = || format!("reading {name} on {}", self.shown);
        let file = match self.files.root_dir().open_file(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(error, reading())),
        };
        let mut bytes = Vec::new();
        file.take(most as u64).read_to_end(&mut bytes).map_err(|error| self.failed(error, reading()))?;
        Ok(Some(bytes))
    }

    /// Puts a file in the place of the one with this name, and overwrites what that one said.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.remove(name)?;
        let root = self.files.root_dir();
        let written = root.create_file(name).and_then(|mut file| {
            file.write_all(bytes)?;
            file.flush()
        });
        written.map_err(|error| self.full(error, name, bytes.len()))
    }

    /// Removes a file and what it said, if it is there.
    pub fn remove(&self, name: &str) -> Result<()> {
        let removing = || format!("replacing {name} on {}", self.shown);
        let root = self.files.root_dir();
        let mut file = match root.open_file(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.failed(error, removing())),
        };
        // Passphrases would stay in what counts as free.
        let length = root.iter().filter_map(Result::ok).find(|entry| entry.file_name().eq_ignore_ascii_case(name));
        let length = length.map_or(0, |entry| entry.len());
        io::copy(&mut io::repeat(0).take(length), &mut file).map_err(|error| self.failed(error, removing()))?;
        drop(file);
        root.remove(name).map_err(|error| self.failed(error, removing()))
    }

    /// Brings everything to the card; what is read from here on comes from there.
    pub fn finish(self, medium: &Medium) -> Result<Self> {
        let shown = self.shown;
        let blocks = self.blocks;
        self.files.unmount().with_context(|| format!("writing to {shown}"))?;
        blocks.borrow_mut().commit().map_err(|error| super::medium::write_failed(&shown, error))?;
        drop(blocks);
        Self::open(medium)
    }

    fn failed(&self, error: io::Error, doing: String) -> anyhow::Error {
        if !is_circle(&error) {
            return anyhow::Error::from(error).context(doing);
        }
        fault(
            FaultCode::BadCard,
            format!("The FAT partition of {} is damaged; nothing was changed.", self.shown),
            format!("While {doing}, {error}: the card was taken out while it was written, or is broken."),
            "Check it with `fsck.vfat`, or flash the card again; if that does not help, take another card.",
        )
    }

    fn full(&self, error: io::Error, name: &str, length: usize) -> anyhow::Error {
        // fatfs has no kinds for it.
        if !error.to_string().contains("No space left") && error.kind() != io::ErrorKind::WriteZero {
            return self.failed(error, format!("writing {name} to {}", self.shown));
        }
        fault(
            FaultCode::DiskFull,
            format!("There is no room for {name} on the FAT partition of {}; nothing was changed.", self.shown),
            format!(
                "It has {length} bytes, and the partition is full: updates leave old kernels and device trees there."
            ),
            "Remove files from it that are not needed (old kernels, backups), or flash a fresh image.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::medium::Purpose;
    use super::*;
    use std::io::Cursor;
    use std::time::{Duration, Instant};

    /// A FAT32 without a partition table around it, and the place of its table of clusters.
    fn fat32() -> (Vec<u8>, usize) {
        let mut fat = Cursor::new(vec![0; 40 << 20]);
        let options = fatfs::FormatVolumeOptions::new().fat_type(fatfs::FatType::Fat32).bytes_per_cluster(512);
        fatfs::format_volume(&mut fat, options).unwrap();
        let bytes = fat.into_inner();
        let reserved = usize::from(u16::from_le_bytes([bytes[14], bytes[15]]));
        (bytes, reserved * 512)
    }

    /// Each cluster of the chain leads to `next`.
    fn chain(bytes: &mut [u8], table: usize, cluster: usize, next: u32) {
        bytes[table + cluster * 4..][..4].copy_from_slice(&next.to_le_bytes());
    }

    fn hostile(change: impl Fn(&mut Vec<u8>, usize)) {
        let (mut bytes, table) = fat32();
        change(&mut bytes, table);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("card");
        std::fs::write(&path, &bytes).unwrap();
        let medium = Medium::open(&path, Purpose::Change, false).unwrap();
        let begun = Instant::now();
        // It may be good for something, or for nothing; it ends, and does not panic.
        if let Ok(firmware) = Firmware::open(&medium) {
            for result in [
                firmware.read("cygnet.toml", 65_536).map(drop),
                firmware.remove("cygnet.toml"),
                firmware.write("cygnet.toml", &[7; 3000]),
            ] {
                let Err(error) = result else { continue };
                let fault = crate::error::fault_of(&error);
                assert!(
                    matches!(fault.code, FaultCode::BadCard | FaultCode::DiskFull | FaultCode::Internal),
                    "{fault}"
                );
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it took {:?}", begun.elapsed());
        assert!(std::fs::read(&path).unwrap() == bytes, "nothing is written before all is well");
    }

    #[test]
    fn a_directory_in_a_circle_ends() {
        // The root directory is cluster 2, full of deleted entries, and followed by itself.
        hostile(|bytes, table| {
            let (fats, length) =
                (usize::from(bytes[16]), u32::from_le_bytes([bytes[36], bytes[37], bytes[38], bytes[39]]));
            let root = table + fats * length as usize * 512;
            bytes[root..root + 512].fill(0xe5);
            for copy in 0..fats {
                chain(bytes, table + copy * length as usize * 512, 2, 2);
            }
        });
    }

    #[test]
    fn clusters_that_are_none_do_no_harm() {
        for first in [0_u32, 1, 0x0fff_fff6, 0x0fff_ffff, 0xffff_ffff, 100_000_000] {
            // The first cluster of the root directory, and of a file in it.
            hostile(|bytes, _| bytes[44..48].copy_from_slice(&first.to_le_bytes()));
            hostile(|bytes, table| {
                let (fats, length) =
                    (usize::from(bytes[16]), u32::from_le_bytes([bytes[36], bytes[37], bytes[38], bytes[39]]));
                let root = table + fats * length as usize * 512;
                bytes[root..root + 11].copy_from_slice(b"CYGNET~1TOM");
                bytes[root + 20..root + 22].copy_from_slice(&first.to_le_bytes()[2..]);
                bytes[root + 26..root + 28].copy_from_slice(&first.to_le_bytes()[..2]);
                bytes[root + 28..root + 32].copy_from_slice(&u32::MAX.to_le_bytes());
                chain(bytes, table, 2, first);
            });
        }
    }

    #[test]
    fn numbers_that_do_not_fit_do_no_harm() {
        // All of the parameter block (fatgen103, BPB), one after another, with the largest value there is.
        for at in (11..90).step_by(3) {
            hostile(|bytes, _| bytes[at..at + 4].fill(0xff));
        }
    }
}
