//! A virtual Pi's disks: raw images that one Pi owns, or overlays over the images of a saved state.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host::run::{run, tool};

/// A block device of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its serial number, up to 20 characters: the guest has it as `/dev/disk/by-id/virtio-SERIAL`.
    pub serial: String,
    /// The image.
    pub image: PathBuf,
    /// What the image is.
    pub format: Format,
}

/// What an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Every byte of the disk in one sparse file.
    Raw,
    /// What was written since a state was saved (qcow2), over that state's own image. QEMU hands its tables to the host
    /// only when the guest flushes, so a power cut loses what was not flushed, as with a disk's own cache.
    Overlay,
}

impl Format {
    /// QEMU's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Overlay => "qcow2",
        }
    }
}

impl Disk {
    /// Makes an empty disk of `size` bytes.
    ///
    /// # Errors
    /// If the file can't be made.
    pub fn blank(serial: &str, image: PathBuf, size: u64) -> Result<Disk> {
        let file = File::create(&image).with_context(|| format!("creating {}", image.display()))?;
        file.set_len(size).with_context(|| format!("sizing {}", image.display()))?;
        Ok(Disk { serial: serial.to_owned(), image, format: Format::Raw })
    }

    /// Makes a disk that begins with what is in the raw image `base`, which is only read.
    ///
    /// # Errors
    /// If qemu-img can't make the overlay.
    pub fn over(serial: &str, base: &Path, image: PathBuf) -> Result<Disk> {
        run(tool("qemu-img").args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(base).arg(&image))
            .with_context(|| format!("making an overlay over {}", base.display()))?;
        Ok(Disk { serial: serial.to_owned(), image, format: Format::Overlay })
    }

    /// Writes the disk's present content to the raw image `to`. The Pi must be off or stopped.
    ///
    /// # Errors
    /// If there is no room.
    pub fn copy_raw(&self, to: &Path) -> Result<()> {
        // Force-share: a stopped QEMU still holds its lock on the image.
        run(tool("qemu-img")
            .args(["convert", "--force-share", "-f", self.format.word(), "-O", "raw"])
            .arg(&self.image)
            .arg(to))
        .with_context(|| format!("copying {} to {}", self.image.display(), to.display()))
    }

    /// Makes the image raw, for tools that know nothing else. The Pi must be off.
    ///
    /// # Errors
    /// If there is no room.
    pub fn flatten(&mut self) -> Result<()> {
        match self.format {
            Format::Raw => Ok(()),
            Format::Overlay => {
                let raw = self.image.with_extension("img");
                self.copy_raw(&raw)?;
                fs::remove_file(&self.image).with_context(|| format!("removing {}", self.image.display()))?;
                (self.image, self.format) = (raw, Format::Raw);
                Ok(())
            }
        }
    }
}
