//! A fresh ext4 for every push. On a file system where thousands of files were removed a moment ago, making others takes
//! several times as long: ext4 looks for inodes that were not deleted in the last seconds (fs/ext4/ialloc.c,
//! `recently_deleted`), and the second push would pay for the first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host::run::{run, tool, try_output};

/// Sparse, and larger than any closure, bytes.
const SIZE: u64 = 16 << 30;

/// A mounted file system; dropping it takes it away.
#[derive(Debug)]
pub struct Volume {
    at: PathBuf,
}

impl Volume {
    /// Makes one in a file in `room`, and mounts it at `at`, which is made.
    ///
    /// # Errors
    /// If there is no loop device, or a tool fails.
    pub fn mount(room: &Path, at: &Path) -> Result<Volume> {
        let image = room.join("disk.img");
        File::create(&image).and_then(|file| file.set_len(SIZE)).context("making a disk image")?;
        run(tool("mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=1,nodiscard"]).arg(&image))
            .context("making a file system for a push")?;
        fs::create_dir(at).context("making the target")?;
        run(tool("mount").args(["-o", "loop,noatime"]).arg(&image).arg(at)).context("mounting the target")?;
        Ok(Volume { at: at.to_owned() })
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // If something is still busy there, it is gone as soon as that is.
        let _ = try_output(tool("umount").arg("--lazy").arg(&self.at));
    }
}
