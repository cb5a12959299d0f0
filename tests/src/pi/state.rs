//! A Pi as it was at one moment, to go on from there: its memory, its disks and its keys.
//!
//! QEMU halts the machine and writes its state to a file (QEMU's docs/devel/migration); a new QEMU with the same parts reads it and
//! goes on, in a second where a boot takes half a minute. Each Pi that is restored has overlays of its own over the saved disks,
//! so none inherits what another has done.
//!
//! A restored Pi differs from one that came there by itself in this: its clock stood still and is set afterwards, its
//! connections are gone without a word, and two that were restored from one state make the same random numbers for a moment.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::builder::Builder;
use super::machine::Pi;
use super::vm::Start;
use crate::patience::LOGIN;

/// Where a saved state is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    dir: PathBuf,
}

impl Saved {
    /// The state in this directory.
    pub fn at(dir: PathBuf) -> Saved {
        Saved { dir }
    }

    fn memory(&self) -> PathBuf {
        self.dir.join("memory")
    }

    /// The keys of the Pi and its user.
    pub(super) fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    /// What is on the disk with this serial number.
    pub(super) fn image(&self, serial: &str) -> PathBuf {
        self.dir.join(format!("{serial}.img"))
    }
}

impl Pi {
    /// Saves this Pi's state in the empty directory `to`, and takes its power away.
    ///
    /// # Errors
    /// If it is off, or there is no room.
    pub fn save(mut self, to: &Path) -> Result<Saved> {
        let saved = Saved::at(to.to_owned());
        // What is logged in ends in order; the other end of any other connection is gone without a word.
        self.connection = None;
        self.machine.save(self.running()?, &saved.memory())?;
        self.power_cut();
        for disk in self.machine.card.iter().chain(&self.machine.ssds) {
            disk.copy_raw(&saved.image(&disk.serial))?;
        }
        self.keys.keep(&saved.keys())?;
        Ok(saved)
    }
}

impl Builder<'_> {
    /// Makes a Pi that goes on from a state which one of the same description was saved in. Somebody is logged in, and its
    /// clock is right.
    ///
    /// # Errors
    /// If it can't be restored, or nobody can log in then.
    pub fn restore(self, saved: &Saved) -> Result<Pi> {
        let mut pi = self.build_as(saved)?;
        pi.start(Start::Saved(&saved.memory()))?;
        pi.running()?.go_on()?;
        pi.wait_ssh(LOGIN).context("logging in on a restored Pi")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("reading this machine's clock")?;
        pi.sh(&format!("date -s @{}", now.as_secs())).context("setting a restored Pi's clock")?;
        Ok(pi)
    }
}
