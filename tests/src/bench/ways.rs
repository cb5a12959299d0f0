//! The ways to bring a closure to another machine: the ones that there are, and ours. What each runs, here and there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::server::Keys;
use super::usage::{Meter, quoted};
use crate::closure::nix::Nix;
use crate::host::run::tool;
use crate::pi::unpacked::{Unpacked, unpack};

/// A way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// `nix copy --to ssh-ng://…`.
    SshNg,
    /// The same with `compress=true`: ssh's own zlib.
    SshNgCompressed,
    /// `nix copy --to ssh://…?compress=true&remote-store=…`, as nixos-anywhere calls it.
    Anywhere,
    /// `nix-store --export | zstd -3 | ssh 'zstd -d | nix-store --import'`.
    Export,
    /// `cygnet push`.
    Ours,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 5] = [Way::SshNg, Way::SshNgCompressed, Way::Anywhere, Way::Export, Way::Ours];

    /// As it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Way::SshNg => "ssh-ng",
            Way::SshNgCompressed => "ssh-ng-compressed",
            Way::Anywhere => "nixos-anywhere",
            Way::Export => "export",
            Way::Ours => "cygnet",
        }
    }

    /// As it is called in the table.
    pub fn title(self) -> &'static str {
        match self {
            Way::SshNg => "nix copy, ssh-ng",
            Way::SshNgCompressed => "nix copy, ssh-ng, compress=true",
            Way::Anywhere => "nix copy, ssh, compress=true",
            Way::Export => "nix-store --export, zstd -3, ssh",
            Way::Ours => "cygnet push",
        }
    }

    /// The way with this name.
    pub fn named(name: &str) -> Option<Way> {
        Way::ALL.into_iter().find(|way| way.name() == name)
    }
}

/// Debian 13's Nix, for both ends of every peer.
#[derive(Debug, Clone)]
pub struct Peer {
    nix: Nix,
    unpacked: Unpacked,
}

impl Peer {
    /// Unpacks it, unless that is done.
    ///
    /// # Errors
    /// If the packages can't be had.
    pub fn new(cache_dir: &Path) -> Result<Peer> {
        Ok(Peer { nix: Nix::new(cache_dir)?, unpacked: unpack(cache_dir, "nix", "nix-bin")? })
    }

    /// The version, as Nix has it.
    pub fn version(&self) -> &str {
        self.unpacked.version.split(['-', '+']).next().unwrap_or(&self.unpacked.version)
    }

    /// `nix`, `nix-store` or `nix-daemon`: the program and its first arguments.
    ///
    /// # Errors
    /// If the package has no such program.
    pub fn words(&self, program: &str) -> Result<Vec<String>> {
        self.unpacked.words(&format!("usr/bin/{program}"))
    }

    /// The same as a command, with nothing of the host's settings.
    ///
    /// # Errors
    /// If the package has no such program.
    pub fn command(&self, program: &str) -> Result<Command> {
        let words = self.words(program)?;
        let mut command = self.nix.command(words.first().context("starting Nix")?);
        command.args(words.iter().skip(1));
        Ok(command)
    }

    /// Reads every file of the closure of `path`.
    ///
    /// # Errors
    /// If one has not the hash that is registered.
    pub fn read(&self, path: &Path) -> Result<()> {
        self.nix.verify(path)
    }

    /// See [`Nix::environment`].
    pub fn environment(&self) -> [(&'static str, PathBuf); 3] {
        self.nix.environment()
    }

    /// Writes the programs of the receiving side into `meter`'s directory.
    ///
    /// # Errors
    /// If one is missing or can't be written.
    pub fn receivers(&self, meter: &Meter) -> Result<Receivers> {
        let script = |name: &str| meter.script(name, &self.environment(), &self.words(name)?);
        Ok(Receivers {
            daemon: script("nix-daemon")?,
            store: script("nix-store")?,
            zstd: meter.script("zstd", &[], &["zstd".to_owned()])?,
        })
    }
}

/// The metered programs of the receiving side.
#[derive(Debug, Clone)]
pub struct Receivers {
    daemon: PathBuf,
    store: PathBuf,
    zstd: PathBuf,
}

/// How a client reaches the server, through the link.
#[derive(Debug, Clone)]
pub struct Reach {
    /// The link's near end on loopback.
    pub port: u16,
    /// Keys of both ends.
    pub keys: Keys,
    /// known_hosts(5).
    pub known_hosts: PathBuf,
}

impl Reach {
    /// `user@address`.
    pub fn host(&self) -> String {
        format!("{}@127.0.0.1", self.keys.user)
    }

    fn options(&self) -> String {
        format!(
            "-F /dev/null -p {} -i {} -o UserKnownHostsFile={} -o GlobalKnownHostsFile=/dev/null \
             -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes -o BatchMode=yes",
            self.port,
            self.keys.identity().display(),
            self.known_hosts.display()
        )
    }
}

/// Where a peer receives to, in Nix's words: a store of its own below `root`.
pub fn chroot_store(root: &Path) -> String {
    format!("local?root={}", root.display())
}

/// The client's command of a peer; `paths` is the whole closure of `toplevel`.
///
/// # Errors
/// If a program is missing.
pub fn peer(
    peer: &Peer,
    way: Way,
    reach: &Reach,
    receivers: &Receivers,
    root: &Path,
    toplevel: &Path,
    paths: &[PathBuf],
) -> Result<Command> {
    let store = chroot_store(root);
    let encoded = store.replace('?', "%3F").replace('=', "%3D");
    let host = reach.host();
    let (daemon, serve) = (receivers.daemon.display(), receivers.store.display());
    let uri = match way {
        Way::SshNg => format!("ssh-ng://{host}?remote-program={daemon}&remote-store={encoded}"),
        Way::SshNgCompressed => {
            format!("ssh-ng://{host}?compress=true&remote-program={daemon}&remote-store={encoded}")
        }
        Way::Anywhere => format!("ssh://{host}?compress=true&remote-program={serve}&remote-store={encoded}"),
        Way::Export => return export(peer, reach, receivers, &store, paths),
        Way::Ours => anyhow::bail!("cygnet is no peer of itself"),
    };
    let mut command = peer.command("nix")?;
    command.args(["copy", "--no-check-sigs", "--to", &uri]).arg(toplevel).env("NIX_SSHOPTS", reach.options());
    Ok(command)
}

fn export(peer: &Peer, reach: &Reach, receivers: &Receivers, store: &str, paths: &[PathBuf]) -> Result<Command> {
    let sender: Vec<String> = peer.words("nix-store")?.iter().map(|word| quoted(word)).collect();
    let there =
        format!("{} -dc | {} --store {} --import", receivers.zstd.display(), receivers.store.display(), quoted(store));
    let line = format!(
        "set -o pipefail; {} --export \"$@\" | zstd -q -3 | ssh {} {} {}",
        sender.join(" "),
        reach.options(),
        reach.host(),
        quoted(&there)
    );
    let mut command = tool("bash");
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
    command.envs(peer.environment()).args(["-c", &line, "bash"]).args(paths);
    Ok(command)
}
