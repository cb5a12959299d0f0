//! A NixOS-shaped closure for the virtual Pi, built by real Nix out of Debian arm64 packages: what an installer pushes.
//!
//! The story in order:
//! - [`order`] turns Debian's packages into a graph that a Nix store can hold;
//! - [`inputs`] gathers what the expressions in `tests/nix` are given;
//! - [`nix`] runs Nix on them, without a daemon, a network or the host's configuration;
//! - [`flake`] makes a flake of the same expressions, with a disko layout as disko's own evaluation has it.
//!
//! ```no_run
//! use cygnet_tests::closure::{self, Settings, Variant};
//! # fn main() -> anyhow::Result<()> {
//! # let cache = std::path::Path::new("cache");
//! let settings = Settings::new("ssh-ed25519 AAAA...", Variant::Full).with_agent("cygnetd".as_ref());
//! let closure = closure::build(cache, &settings)?;
//! println!("{}: {} paths, {} bytes", closure.toplevel.display(), closure.paths, closure.nar_size);
//! # Ok(())
//! # }
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub mod flake;
pub mod inputs;
pub mod nix;
pub mod order;

pub use flake::flake;

/// Which closure. All but [`Variant::Full`] are a few store paths and built in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// A system that boots: over 150 store paths, over 300 MB of NARs.
    Full,
    /// A toplevel that can be installed, but not booted: under 5 MB.
    Tiny,
    /// As [`Variant::Tiny`], but `activate` names a failed snippet and exits 1.
    TinyActivationFails,
    /// As [`Variant::Tiny`], but the boot-loader installer exits 28.
    TinyBootLoaderFails,
    /// As [`Variant::Tiny`], but its `system` is `x86_64-linux`, and so are its programs.
    TinyWrongArchitecture,
    /// As [`Variant::Tiny`] and 600 MB of bytes that no compression shrinks.
    TinyHuge,
    /// As [`Variant::Tiny`] and one store path of 240 MB that no compression shrinks.
    TinyLong,
    /// As [`Variant::Tiny`] and one store path of 4 MB that hardly differs from one host to another.
    TinyTwin,
    /// As [`Variant::Tiny`], but without `etc/hostid`.
    TinyNoHostId,
    /// As [`Variant::Tiny`], with an `etc/fstab` that has a file system more than the layout.
    TinyOtherDisks,
}

impl Variant {
    /// All of them.
    pub const ALL: [Variant; 10] = [
        Variant::Full,
        Variant::Tiny,
        Variant::TinyActivationFails,
        Variant::TinyBootLoaderFails,
        Variant::TinyWrongArchitecture,
        Variant::TinyHuge,
        Variant::TinyLong,
        Variant::TinyTwin,
        Variant::TinyNoHostId,
        Variant::TinyOtherDisks,
    ];

    /// The attribute of `tests/nix/default.nix`.
    pub fn attribute(self) -> &'static str {
        match self {
            Variant::Full => "full",
            Variant::Tiny => "tiny",
            Variant::TinyActivationFails => "tinyActivationFails",
            Variant::TinyBootLoaderFails => "tinyBootLoaderFails",
            Variant::TinyWrongArchitecture => "tinyWrongArchitecture",
            Variant::TinyHuge => "tinyHuge",
            Variant::TinyLong => "tinyLong",
            Variant::TinyTwin => "tinyTwin",
            Variant::TinyNoHostId => "tinyNoHostId",
            Variant::TinyOtherDisks => "tinyOtherDisks",
        }
    }
}

/// What can be different from one closure to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// One line of `authorized_keys`: who may log in as root.
    pub authorized_key: String,
    /// The installed machine's name.
    pub host_name: String,
    /// NixOS' `networking.hostId`: eight hex digits. ZFS pools remember it.
    pub host_id: String,
    /// Which closure.
    pub variant: Variant,
    /// The agent's static binary, which the installed system has for what `nixosModules.installed` does with it. Only
    /// [`Variant::Full`] needs it, and has to have it.
    pub agent: Option<PathBuf>,
}

impl Settings {
    /// The machine `pi-installed`, which `authorized_key` may log in on.
    pub fn new(authorized_key: impl Into<String>, variant: Variant) -> Settings {
        Settings {
            authorized_key: authorized_key.into().trim().to_owned(),
            host_name: "pi-installed".into(),
            host_id: "c1650001".into(),
            variant,
            agent: None,
        }
    }

    /// The same, with the agent's binary.
    #[must_use]
    pub fn with_agent(self, binary: &Path) -> Settings {
        Settings { agent: Some(binary.to_owned()), ..self }
    }
}

/// A closure in the host's Nix store, held by a garbage-collector root in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closure {
    /// `/nix/store/…-nixos-system-…`.
    pub toplevel: PathBuf,
    /// Number of store paths, the toplevel among them.
    pub paths: usize,
    /// Bytes of all NARs together, uncompressed.
    pub nar_size: u64,
    /// `disko.devices` of the layout that the system is made for, as clean JSON.
    pub disko: PathBuf,
}

/// Builds a closure, or finds it built. Needs root and `nix-bin`.
///
/// # Errors
/// If packages or the kernel can't be had, or Nix fails; the error has the end of Nix' log.
pub fn build(cache: &Path, settings: &Settings) -> Result<Closure> {
    let dir = cache.join("closure");
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let inputs = inputs::gather(cache, settings)?;
    let attribute = settings.variant.attribute();
    // One file and one link for each content: two builds with other settings don't take each other's.
    let json = inputs.to_json()?;
    let name = format!("{attribute}-{}", crate::pi::cache::key(&[json.as_bytes()]));
    let file = dir.join(format!("{name}.json"));
    fs::write(&file, json).with_context(|| format!("writing {}", file.display()))?;

    let nix = nix::Nix::new(cache)?;
    let toplevel = nix.build(&expressions().join("default.nix"), &file, attribute, &dir.join(&name))?;
    let (paths, nar_size) = nix.size(&toplevel)?;
    Ok(Closure { toplevel, paths, nar_size, disko: layout() })
}

/// The Nix expressions.
pub fn expressions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("nix")
}

/// The layout that the closures are made for: one 4 GB disk, `/dev/disk/by-id/virtio-CYGSSD0`.
pub fn layout() -> PathBuf {
    expressions().join("layout/zfs-root.json")
}
