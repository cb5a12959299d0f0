//! The virtual Pi: a whole Debian 13 for arm64 with the real agent, ZFS and systemd, emulated by QEMU.
//!
//! The story in order:
//! - [`packages`] gets Debian's packages, [`cache`] keeps what is made of them;
//! - [`zfs`] cross-compiles ZFS for the [`kernel`], [`users`] and [`rootfs`] make the card's system, [`firmware`] is what a board
//!   reads before that, [`mod@card`] the image of all;
//! - [`initrd`] mounts the card, and [`archive`] carries one Pi's own files into it;
//! - [`net`] is the network it is plugged into, [`dhcp`] what gives addresses there, [`vm`] the hardware that [`qemu`]
//!   emulates, [`mod@disk`] its disks, [`serial`] its console ([`pty`] makes a tty of it), [`login`] its ssh, [`qmp`] the hand that
//!   pulls a cable;
//! - [`builder`] describes and [`machine`] is the [`Pi`] that scenarios hold, [`state`] keeps one as it is now for others that
//!   begin there, and [`smoke`] shows that all of it works;
//! - [`mod@air`] is the simulated WiFi that a Pi may have instead of its cable, [`rig`] the line that works without either.
//!
//! ```no_run
//! use cygnet_tests::pi::{self, Settings};
//! # fn main() -> anyhow::Result<()> {
//! let parts = pi::prepare(&Settings::default_here()?)?;
//! let mut pi = parts.pi().ssd("CYGSSD0", 4 << 30).build()?;
//! pi.power_on()?;
//! pi.wait_ssh(std::time::Duration::from_secs(300))?;
//! println!("{}", pi.sh("uname -r")?);
//! # Ok(())
//! # }
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host::run::{tool, try_output};

pub mod air;
pub mod archive;
pub mod builder;
pub mod cache;
pub mod card;
mod control;
pub mod dhcp;
pub mod disk;
pub mod firmware;
pub mod initrd;
pub mod kernel;
pub mod login;
pub mod machine;
pub mod net;
pub mod packages;
pub mod pty;
pub mod qemu;
pub mod qmp;
pub mod rig;
pub mod rootfs;
pub mod serial;
pub mod smoke;
pub mod state;
pub mod unpacked;
pub mod users;
pub mod vm;
pub mod zfs;

pub use builder::Builder;
pub use dhcp::{Dhcp, Dns, Router};
pub use firmware::Firmware;
pub use kernel::{Kernel, kernel};
pub use login::quoted;
pub use machine::Pi;
pub use net::Lan;
pub use smoke::smoke;

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What is expensive to make is kept here.
    pub cache: PathBuf,
    /// Each Pi's disks and console logs.
    pub work: PathBuf,
    /// The checkout, for the agent's unit.
    pub repository: PathBuf,
}

impl Settings {
    /// The user's cache, and `target/virtual-pi` of the checkout that this program was built from.
    ///
    /// # Errors
    /// If neither HOME nor XDG_CACHE_HOME is set.
    pub fn default_here() -> Result<Settings> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let repository = here.parent().unwrap_or(here).to_owned();
        Ok(Settings { cache: cache::default_dir()?, work: repository.join("target/virtual-pi"), repository })
    }
}

/// Everything that all Pis share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The kernel with its modules.
    pub kernel: Kernel,
    /// The card image that every Pi's card starts as.
    pub card: PathBuf,
    /// The initial RAM disk of the card's system.
    pub initrd: PathBuf,
    /// How QEMU is started: a program and its first arguments.
    pub emulator: Vec<String>,
    /// What boards read before there is a kernel.
    pub firmware: Firmware,
    /// The keys of whoever uses a Pi.
    pub user_key: PathBuf,
    /// What is expensive to make is kept here.
    pub cache: PathBuf,
    /// Where Pis have their disks and logs.
    pub work: PathBuf,
    /// The checkout.
    pub repository: PathBuf,
}

impl Parts {
    /// Starts describing a Pi made of these parts.
    pub fn pi(&self) -> Builder<'_> {
        Builder::new(self)
    }
}

/// Makes everything that Pis share, or takes it from the cache, saying on stderr what takes long. The host's packages must
/// be there ([`crate::host::ensure_host_packages`]).
///
/// # Errors
/// If a part can't be made; the error names it.
pub fn prepare(settings: &Settings) -> Result<Parts> {
    for dir in [&settings.cache, &settings.work] {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    remove_stale(&settings.work);
    let cache = &settings.cache;
    let kernel = kernel(cache).context("preparing the Pi's kernel")?;
    let firmware = firmware::firmware(cache, &kernel).context("preparing the boards' firmware")?;
    let card = card::base(cache, &kernel, &firmware).context("preparing the card")?;
    let initrd = initrd::initrd(cache, &kernel).context("preparing the initial RAM disk")?;
    let user_key = cache::entry(cache, "login", "user", "making a key", login::Keys::generate_user)?;
    let emulator = qemu::emulator(cache).context("preparing QEMU")?;
    for kind in KINDS {
        give_to_user(&cache.join(kind));
    }
    let (cache, work, repository) = (settings.cache.clone(), settings.work.clone(), settings.repository.clone());
    Ok(Parts { kernel, card, initrd, emulator, firmware, user_key, cache, work, repository })
}

/// Removes directories of Pis whose harness is gone: their disks are big. Names are `PROCESS-NUMBER`.
fn remove_stale(work: &Path) {
    let Ok(entries) = fs::read_dir(work) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_string_lossy().split_once('-').and_then(|(owner, _)| owner.parse::<u32>().ok());
        if let Some(owner) = owner
            && !Path::new(&format!("/proc/{owner}")).exists()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// What this module keeps in the cache. Others keep things there whose owner matters.
const KINDS: &[&str] = &["apt", "card", "firmware", "initrd", "kernel", "login", "qemu", "wireless", "zfs"];

/// Under sudo, lets the user who called it own what we made: it is in their home and in their checkout, and theirs to delete.
fn give_to_user(dir: &Path) {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if let (Some(user), Some(group)) = (number("SUDO_UID"), number("SUDO_GID")) {
        // Not worth failing for: root can delete it too.
        let _ = try_output(tool("chown").args(["-R", "-h", &format!("{user}:{group}")]).arg(dir));
    }
}
