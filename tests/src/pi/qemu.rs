//! QEMU itself: Debian 13's, whatever this host has. Debian 12's needs half as much time again for the same instructions.

use std::path::Path;

use anyhow::Result;

use super::unpacked;

/// The package, and the program in it.
const PACKAGE: &str = "qemu-system-arm";
const PROGRAM: &str = "usr/bin/qemu-system-aarch64";

/// How the emulator is started: a program and its first arguments.
///
/// # Errors
/// As [`unpacked::unpack`].
pub fn emulator(cache_dir: &Path) -> Result<Vec<String>> {
    let qemu = unpacked::unpack(cache_dir, "qemu", PACKAGE)?;
    let mut words = qemu.words(PROGRAM)?;
    words.extend(["-L".to_owned(), qemu.path("usr/share/qemu")]);
    Ok(words)
}
