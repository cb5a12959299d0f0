//! QEMU itself: Debian 13's, whatever this host has. Debian 12's needs half as much time again for the same instructions.
//!
//! It is only unpacked, beside the libraries that it was built for, and started by their loader; nothing is installed.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::cache;
use super::packages::{self, Arch};

/// The package, and the program in it.
const PACKAGE: &str = "qemu-system-arm";
const PROGRAM: &str = "usr/bin/qemu-system-aarch64";

/// Loaders by the architecture that a host may have, and where their libraries are.
const LOADERS: [(&str, Arch, &str, &str); 2] = [
    ("x86_64", Arch::Amd64, "usr/lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu"),
    ("aarch64", Arch::Arm64, "usr/lib/ld-linux-aarch64.so.1", "usr/lib/aarch64-linux-gnu"),
];

/// How the emulator is started: a program and its first arguments.
///
/// # Errors
/// If this host is neither amd64 nor arm64, or the packages can't be downloaded.
pub fn emulator(cache_dir: &Path) -> Result<Vec<String>> {
    let host = std::env::consts::ARCH;
    let Some((_, arch, loader, libraries)) = LOADERS.iter().find(|(name, ..)| *name == host) else {
        bail!("the virtual Pi's emulator comes from Debian for amd64 and arm64; this host is {host}");
    };
    let debs = packages::resolve(cache_dir, *arch, &[PACKAGE])?;
    let version = &debs.iter().find(|deb| deb.name == PACKAGE).context("finding QEMU among its packages")?.version;
    let versions: Vec<&[u8]> = debs.iter().flat_map(|deb| [deb.name.as_bytes(), deb.version.as_bytes()]).collect();
    // A Debian epoch has a colon, which separates the directories of --library-path.
    let key = format!("{}-{}", version.replace(':', "_"), cache::key(&versions));
    let root = cache::entry(cache_dir, "qemu", &key, "unpacking", |out| {
        debs.iter().try_for_each(|deb| deb.unpack(out, &["./usr/share/doc/*", "./usr/share/locale/*"]))
    })?;
    for part in [loader, PROGRAM] {
        if !root.join(part).is_file() {
            bail!("{PACKAGE} {version} and what it depends on have no {part}");
        }
    }
    Ok(words(&root, loader, libraries))
}

fn words(root: &Path, loader: &str, libraries: &str) -> Vec<String> {
    let path = |part: &str| root.join(part).display().to_string();
    let options =
        ["--library-path".to_owned(), path(libraries), path(PROGRAM), "-L".to_owned(), path("usr/share/qemu")];
    [path(loader)].into_iter().chain(options).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_started_by_its_own_loader() {
        let words = words(Path::new("/cache/qemu/1"), "usr/lib64/ld.so", "usr/lib/x");
        let expected = "/cache/qemu/1/usr/lib64/ld.so --library-path /cache/qemu/1/usr/lib/x \
                        /cache/qemu/1/usr/bin/qemu-system-aarch64 -L /cache/qemu/1/usr/share/qemu";
        assert_eq!(words.join(" "), expected);
    }
}
