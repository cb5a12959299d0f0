//! Archives in cpio's `newc` format: what the kernel unpacks into its first root file system.
//!
//! Several archives may follow each other, and the kernel unpacks them all. So a Pi's own files (its keys, the agent under
//! test) come as a second archive after the shared one, and the card's image stays as it is.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Component, Path};

use anyhow::{Context, Result, bail};
use cpio::newc::{Builder, ModeFileType, trailer};

/// The directory of the initial RAM disk whose content is copied over the card's root at every boot.
pub const SEED: &str = "seed";

/// Collects files and the directories they need.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
    inode: u32,
}

impl Archive {
    /// Adds a regular file owned by root; `path` is relative or absolute, `mode` is its permission bits.
    ///
    /// # Errors
    /// If the path climbs out with `..` or the content is over 4 GiB.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let path = self.parents(path)?;
        self.put(&path, ModeFileType::Regular, mode, content)
    }

    /// Adds a symlink.
    ///
    /// # Errors
    /// As [`Archive::file`].
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        let path = self.parents(path)?;
        self.put(&path, ModeFileType::Symlink, 0o777, target.as_bytes())
    }

    /// Adds an empty directory and those above it.
    ///
    /// # Errors
    /// As [`Archive::file`].
    pub fn directory(&mut self, path: &str) -> Result<()> {
        self.parents(&format!("{path}/.")).map(drop)
    }

    /// The finished archive, padded so that another may follow it.
    ///
    /// # Errors
    /// Only if memory runs out.
    pub fn finish(self) -> Result<Vec<u8>> {
        let mut bytes = trailer(self.bytes).context("ending the archive")?;
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        Ok(bytes)
    }

    /// Adds the directories above `path` that aren't there yet and returns the path as the archive names it.
    fn parents(&mut self, path: &str) -> Result<String> {
        let mut names = Vec::new();
        for component in Path::new(path).components() {
            match component {
                Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    bail!("{path:?} leaves the directory it should be in")
                }
            }
        }
        let whole = names.join("/");
        let above = if path.ends_with("/.") { names.len() } else { names.len().saturating_sub(1) };
        for depth in 1..=above {
            let directory = names[..depth].join("/");
            if self.directories.insert(directory.clone()) {
                self.put(&directory, ModeFileType::Directory, directory_mode(&names[..depth]), b"")?;
            }
        }
        Ok(whole)
    }

    fn put(&mut self, path: &str, kind: ModeFileType, mode: u32, content: &[u8]) -> Result<()> {
        let size =
            u32::try_from(content.len()).with_context(|| format!("{path} is too big for an initial RAM disk"))?;
        self.inode += 1;
        let mut writer = Builder::new(path)
            .ino(self.inode)
            .nlink(1)
            .mode(mode & 0o7777)
            .set_mode_file_type(kind)
            .write(std::mem::take(&mut self.bytes), size);
        writer.write_all(content).with_context(|| format!("archiving {path}"))?;
        self.bytes = writer.finish().with_context(|| format!("archiving {path}"))?;
        Ok(())
    }
}

/// Copying the seed gives existing directories its modes: root's home must stay private for sshd to accept its keys.
fn directory_mode(names: &[String]) -> u32 {
    match names {
        [seed, home, ..] if seed == SEED && home == "root" => 0o700,
        _ => 0o755,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_and_modes(mut bytes: &[u8]) -> Vec<(String, u32)> {
        let mut found = Vec::new();
        loop {
            let reader = cpio::newc::Reader::new(bytes).unwrap();
            if reader.entry().is_trailer() {
                return found;
            }
            found.push((reader.entry().name().to_owned(), reader.entry().mode()));
            bytes = reader.finish().unwrap();
        }
    }

    #[test]
    fn parents_come_first_and_once() {
        let mut archive = Archive::default();
        archive.file("seed/root/.ssh/authorized_keys", 0o600, b"key").unwrap();
        archive.file("/seed/root/x", 0o755, b"").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 512, 0);
        assert_eq!(
            names_and_modes(&bytes),
            [
                ("seed".to_owned(), 0o40755),
                ("seed/root".to_owned(), 0o40700),
                ("seed/root/.ssh".to_owned(), 0o40700),
                ("seed/root/.ssh/authorized_keys".to_owned(), 0o100600),
                ("seed/root/x".to_owned(), 0o100755),
            ]
        );
    }

    #[test]
    fn a_path_may_not_climb() {
        assert!(Archive::default().file("seed/../etc/passwd", 0o644, b"").is_err());
    }
}
