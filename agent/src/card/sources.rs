//! The files with settings on the FAT partition.

use cygnet_protocol::card::foreign::{Reader, reader_of};
use cygnet_protocol::card::{self, LIMIT};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// The most files that are read; keyfiles may be many.
const MAX_FILES: usize = 32;

/// A file that was found.
pub struct Source {
    /// Its name, as it is on the card.
    pub name: String,
    /// Its bytes, one more than [`LIMIT`] at most.
    pub bytes: Vec<u8>,
    /// How it is read.
    pub reader: Reader,
}

impl Source {
    /// Whether it is `cygnet.toml`.
    pub fn is_ours(&self) -> bool {
        self.name.eq_ignore_ascii_case(card::FILE)
    }
}

/// SHA-256 in hex: files are only compared by it, on storage that has their secrets anyway.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All of them in the root directory, `cygnet.toml` first; and those that can't be read, with the cause.
pub fn find(directory: &Path) -> (Vec<Source>, Vec<(String, String)>) {
    let mut found: Vec<(usize, String, Reader)> = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        if let Some((rank, reader)) = reader_of(&name) {
            found.push((rank, name, reader));
        }
    }
    found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    found.truncate(MAX_FILES);
    let (mut sources, mut failures) = (Vec::new(), Vec::new());
    for (_, name, reader) in found {
        let mut bytes = Vec::new();
        let limit = LIMIT as u64 + 1;
        match File::open(directory.join(&name)).and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
            Ok(_) => sources.push(Source { name, bytes, reader }),
            Err(error) => failures.push((name, error.to_string())),
        }
    }
    (sources, failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["WPA.TXT", "User-Data", "Cygnet.TOML", "._cygnet.toml", "dietpi.txt", "config.txt"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        fs::create_dir(dir.path().join("custom.toml")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("network-config")).unwrap();
        fs::write(dir.path().join("rpi-preseed.toml"), vec![b'\n'; 1 << 20]).unwrap();
        let (sources, failures) = find(dir.path());
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["Cygnet.TOML", "rpi-preseed.toml", "User-Data", "dietpi.txt"]);
        assert!(failures.is_empty() && sources[0].is_ours() && sources[1].bytes.len() == LIMIT + 1);
        assert!(find(Path::new("/nonexistent")).0.is_empty());
    }
}
