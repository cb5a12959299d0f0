//! The files in the root directory of the card's FAT partition, read and written without mounting it.

use super::blocks::{Blocks, Shared};
use super::medium::Medium;
use super::partitions::{self, Place, Table};
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
    files: FileSystem<Shared>,
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
        let Ok(files) = FileSystem::new(Shared(blocks.clone()), FsOptions::new()) else { return Ok(None) };
        let label = match files.read_volume_label_from_root_dir() {
            Ok(Some(label)) => label,
            Ok(None) | Err(_) => files.volume_label(),
        };
        Ok(Some(Self { blocks, label: label.trim().to_owned(), files, shown }))
    }

    /// The file, if it is there. More than `limit` bytes are an error.
    pub fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        let reading = || format!("reading {name} on {}", self.shown);
        let file = match self.files.root_dir().open_file(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(reading),
        };
        let mut bytes = Vec::new();
        file.take(limit as u64 + 1).read_to_end(&mut bytes).with_context(reading)?;
        anyhow::ensure!(bytes.len() <= limit, "{name} on {} has more than {} kB", self.shown, limit / 1024);
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
            Err(error) => return Err(error).with_context(removing),
        };
        // Passphrases would stay in what counts as free.
        let length = root.iter().filter_map(Result::ok).find(|entry| entry.file_name().eq_ignore_ascii_case(name));
        let length = length.map_or(0, |entry| entry.len());
        io::copy(&mut io::repeat(0).take(length), &mut file).with_context(removing)?;
        drop(file);
        root.remove(name).with_context(removing)
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

    fn full(&self, error: io::Error, name: &str, length: usize) -> anyhow::Error {
        // fatfs has no kinds for it.
        if !error.to_string().contains("No space left") && error.kind() != io::ErrorKind::WriteZero {
            return anyhow::Error::from(error).context(format!("writing {name} to {}", self.shown));
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
