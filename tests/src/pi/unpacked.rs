//! A program of Debian 13's on whatever this host has: unpacked beside the libraries that it was built for, and started by
//! their loader; nothing is installed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cache;
use super::packages::{self, Arch};

/// Loaders by the architecture that a host may have, and where their libraries are.
const LOADERS: [(&str, Arch, &str, &str); 2] = [
    ("x86_64", Arch::Amd64, "usr/lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu"),
    ("aarch64", Arch::Arm64, "usr/lib/ld-linux-aarch64.so.1", "usr/lib/aarch64-linux-gnu"),
];

/// A package and all that it depends on, unpacked into one directory.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// The directory.
    pub root: PathBuf,
    /// The package's Debian version.
    pub version: String,
    loader: &'static str,
    libraries: &'static str,
}

/// Unpacks `package` for this host into the cache, under `kind`, unless it is there.
///
/// # Errors
/// If this host is neither amd64 nor arm64, or the packages can't be downloaded.
pub fn unpack(cache_dir: &Path, kind: &str, package: &str) -> Result<Unpacked> {
    let host = std::env::consts::ARCH;
    let Some((_, arch, loader, libraries)) = LOADERS.iter().find(|(name, ..)| *name == host) else {
        bail!("{package} comes from Debian for amd64 and arm64; this host is {host}");
    };
    let debs = packages::resolve(cache_dir, *arch, &[package])?;
    let own = debs.iter().find(|deb| deb.name == package);
    let version = own.with_context(|| format!("finding {package} among its packages"))?.version.clone();
    let versions: Vec<&[u8]> = debs.iter().flat_map(|deb| [deb.name.as_bytes(), deb.version.as_bytes()]).collect();
    let key = format!("{}-{}", plain(&version), cache::key(&versions));
    let root = cache::entry(cache_dir, kind, &key, "unpacking", |out| {
        debs.iter().try_for_each(|deb| deb.unpack(out, &["./usr/share/doc/*", "./usr/share/locale/*"]))
    })?;
    let unpacked = Unpacked { root, version, loader, libraries };
    unpacked.need(loader)?;
    Ok(unpacked)
}

/// A version as a directory's name: a Debian epoch has a colon, which separates the directories of --library-path.
pub fn plain(version: &str) -> String {
    version.replace(':', "_")
}

impl Unpacked {
    /// How `program`, a path in the packages, is started: the loader and its first arguments.
    ///
    /// # Errors
    /// If the packages have no such program.
    pub fn words(&self, program: &str) -> Result<Vec<String>> {
        self.need(program)?;
        Ok(vec![self.path(self.loader), "--library-path".to_owned(), self.path(self.libraries), self.path(program)])
    }

    /// Where `part` of the packages is.
    pub fn path(&self, part: &str) -> String {
        self.root.join(part).display().to_string()
    }

    fn need(&self, part: &str) -> Result<()> {
        if self.root.join(part).is_file() {
            return Ok(());
        }
        bail!("version {} of the package and what it depends on have no {part}", self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_started_by_its_own_loader() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("program"), "").unwrap();
        let root = dir.path().to_owned();
        let unpacked = Unpacked { root, version: "1".into(), loader: "ld.so", libraries: "lib" };
        let at = dir.path().display();
        let expected = format!("{at}/ld.so --library-path {at}/lib {at}/program");
        assert_eq!(unpacked.words("program").unwrap().join(" "), expected);
        assert!(unpacked.words("other").is_err());
    }
}
