//! Things that are expensive to make, kept under a key that changes when they would come out differently.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// How many entries of one kind are kept; older ones belong to kernels and packages that are gone from the mirror.
const KEPT: usize = 4;

/// How many states of one name are kept: a present one, and one of another checkout. Each is as large as a Pi's memory and disks.
const KEPT_STATES: usize = 2;

/// Where saved states are: a kind for each name, so that one is made while another is taken.
pub const STATES: &str = "states";

/// How directories of builds under way are named.
const UNFINISHED: &str = ".new-";

/// Where the cache is: `$XDG_CACHE_HOME/cygnet`, else `~/.cache/cygnet`.
///
/// # Errors
/// If neither variable is set.
pub fn default_dir() -> Result<PathBuf> {
    if let Some(base) = std::env::var_os("XDG_CACHE_HOME").filter(|base| !base.is_empty()) {
        return Ok(PathBuf::from(base).join("cygnet"));
    }
    let home = std::env::var_os("HOME")
        .filter(|home| !home.is_empty())
        .context("finding the cache: neither XDG_CACHE_HOME nor HOME is set; set XDG_CACHE_HOME to a directory")?;
    Ok(PathBuf::from(home).join(".cache/cygnet"))
}

/// Returns the directory `CACHE/KIND/KEY`, and lets `build` fill it if it isn't there. An entry appears complete or not at
/// all, and of several processes that want the same one, one builds it and the others wait.
///
/// # Errors
/// If `build` fails (what it left is removed) or the cache can't be written.
pub fn entry(
    cache: &Path,
    kind: &str,
    key: &str,
    why_slow: &str,
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let shelf = cache.join(kind);
    fs::create_dir_all(&shelf).with_context(|| format!("creating {}", shelf.display()))?;
    let lock_path = shelf.join(".lock");
    let lock = File::create(&lock_path).with_context(|| format!("creating {}", lock_path.display()))?;
    lock.lock().with_context(|| format!("waiting for {}", lock_path.display()))?;

    let done = shelf.join(key);
    if done.is_dir() {
        if !kind.starts_with(STATES) {
            eprintln!("virtual Pi: {kind} {key}: from the cache");
        }
        // What is used stays; a failure to say so costs only a rebuild.
        let _ = File::open(&done).and_then(|dir| dir.set_modified(SystemTime::now()));
        return Ok(done);
    }
    eprintln!("virtual Pi: {kind} {key}: {why_slow}");
    let started = Instant::now();
    remove_unfinished(&shelf);
    let fresh = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(&shelf)
        .with_context(|| format!("creating a directory in {}", shelf.display()))?;
    build(fresh.path()).with_context(|| format!("making {kind} {key}"))?;
    let fresh = fresh.keep();
    fs::rename(&fresh, &done).with_context(|| format!("naming {}", done.display()))?;
    eprintln!("virtual Pi: {kind} {key}: made in {:.0} s", started.elapsed().as_secs_f64());
    prune(&shelf, if kind.starts_with(STATES) { KEPT_STATES } else { KEPT });
    Ok(done)
}

/// A short name for content: the first 16 hex digits of the SHA-256 over all parts, with their lengths.
pub fn key(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A temporary directory on the same shelf as `entry`, big enough for a build and removed with what a killed one left.
///
/// # Errors
/// If the cache can't be written.
pub fn workshop(entry: &Path) -> Result<tempfile::TempDir> {
    let shelf = entry.parent().unwrap_or(entry);
    tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(shelf)
        .with_context(|| format!("creating a directory in {}", shelf.display()))
}

/// Removes what builds that were killed left behind; the caller holds the lock, so none is under way.
fn remove_unfinished(shelf: &Path) {
    let Ok(entries) = fs::read_dir(shelf) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Removes the entries that weren't used for longest. What can't be removed stays.
fn prune(shelf: &Path, kept: usize) {
    let Ok(entries) = fs::read_dir(shelf) else {
        return;
    };
    let mut aged: Vec<(SystemTime, PathBuf)> = entries
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.') && entry.path().is_dir())
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    aged.sort();
    let surplus = aged.len().saturating_sub(kept);
    for (_, path) in aged.into_iter().take(surplus) {
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_built_once_and_a_failed_one_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let failed = entry(dir.path(), "kind", "a", "slow", |_| anyhow::bail!("no"));
        assert!(failed.is_err());
        assert!(!dir.path().join("kind/a").exists());
        let made = entry(dir.path(), "kind", "a", "slow", |at| Ok(fs::write(at.join("f"), "1")?)).unwrap();
        let again = entry(dir.path(), "kind", "a", "slow", |_| anyhow::bail!("built twice")).unwrap();
        assert_eq!(made, again);
        assert_eq!(fs::read_to_string(again.join("f")).unwrap(), "1");
    }

    #[test]
    fn keys_tell_parts_apart() {
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
        assert_eq!(key(&[b"a"]).len(), 16);
    }
}
