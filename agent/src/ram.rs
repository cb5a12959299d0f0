//! A directory of our own in memory that is never swapped out: a ramfs, for root only.
//!
//! A tmpfs could be swapped out, and the installation uses the new system's swap, which may not be encrypted. What is here
//! is gone with [`Ram::clear`], and when the Pi is restarted. Overwriting would be no use on flash; in memory it is.

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// `f_type` of statfs(2).
const RAMFS_MAGIC: u64 = 0x8584_58f6;
/// As before.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// The directory, which is there only while something is in it.
pub struct Ram {
    directory: PathBuf,
}

impl Ram {
    /// Here; nothing is made yet.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Where.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Makes it. Only after [`Self::clear`], or there are two of them.
    pub fn open(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        fs::set_permissions(&self.directory, Permissions::from_mode(0o700))?;
        if cfg!(test) {
            // Tests mount nothing.
            return Ok(());
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        match mount("ramfs", &self.directory, "ramfs", flags, Some(c"mode=0700")) {
            Ok(()) => Ok(()),
            // Not allowed to mount, or no such thing in this kernel: a tmpfs will do, a disk will not.
            Err(_) if self.is_in_memory() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn is_in_memory(&self) -> bool {
        // Signed on some architectures, and 32 bits wide on others.
        rustix::fs::statfs(&self.directory)
            .is_ok_and(|found| matches!(found.f_type as u64 & 0xffff_ffff, RAMFS_MAGIC | TMPFS_MAGIC))
    }

    /// Overwrites and removes what is in it, and then the directory.
    pub fn clear(&self) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let path = entry.path();
            blank(&path);
            remove(fs::remove_file(&path), &path);
        }
        if self.directory.exists() {
            // Not mounted if there was no right to.
            let _ = unmount(&self.directory, UnmountFlags::DETACH);
            remove(fs::remove_dir(&self.directory), &self.directory);
        }
    }
}

/// Overwrites a file in memory, where that is of use.
fn blank(path: &Path) {
    let length = fs::symlink_metadata(path).map_or(0, |found| found.len());
    let zeros = &mut io::repeat(0).take(length);
    let _ = OpenOptions::new().write(true).open(path).and_then(|mut file| io::copy(zeros, &mut file));
}

/// What could not be removed is told.
pub fn remove(removed: io::Result<()>, path: &Path) {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::error!("removing {}: {error}; remove it by hand", path.display());
        }
        _ => {}
    }
}
