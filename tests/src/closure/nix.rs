//! Running Nix: as root on the local store, with nothing of the host's settings, and no network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::host::run::{run, stdout_of, tool};

/// `nix-build` and its like need no experimental feature; only `--flake` does.
const CONFIGURATION: &str = "\
sandbox = false
substituters =
build-users-group =
connect-timeout = 1
experimental-features = nix-command flakes
warn-dirty = false
";

/// Nix with a configuration of its own.
#[derive(Debug, Clone)]
pub struct Nix {
    home: PathBuf,
}

impl Nix {
    /// Writes the configuration into the cache.
    ///
    /// # Errors
    /// If the cache can't be written.
    pub fn new(cache: &Path) -> Result<Nix> {
        let home = cache.join("closure/nix");
        fs::create_dir_all(&home).with_context(|| format!("creating {}", home.display()))?;
        let file = home.join("nix.conf");
        fs::write(&file, CONFIGURATION).with_context(|| format!("writing {}", file.display()))?;
        Ok(Nix { home })
    }

    /// Environment under which `nix`, or a program that starts it, works on the local store without a network. The rest
    /// of the environment should not have `NIX_REMOTE` or `NIX_CONFIG`.
    pub fn environment(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("NIX_CONF_DIR", self.home.clone()),
            ("NIX_USER_CONF_FILES", self.home.join("nix.conf")),
            ("XDG_CACHE_HOME", self.home.join("cache")),
        ]
    }

    /// Starts building a command: `nix-build`, `nix-store`, `nix`, …
    pub fn command(&self, program: &str) -> Command {
        let mut command = tool(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", &self.home);
        command.env("LC_ALL", "C.UTF-8").envs(self.environment());
        command
    }

    /// Builds `attribute` of the expression in `file`; `link` becomes the garbage-collector root.
    pub(crate) fn build(&self, file: &Path, inputs: &Path, attribute: &str, link: &Path) -> Result<PathBuf> {
        run(self
            .command("nix-build")
            .arg(file)
            .args(["--show-trace", "--max-jobs", "auto", "-A", attribute, "--argstr", "inputs"])
            .arg(inputs)
            .arg("--out-link")
            .arg(link))
        .with_context(|| format!("building the closure `{attribute}`"))?;
        fs::read_link(link).with_context(|| format!("reading {}", link.display()))
    }

    /// Number of paths in the closure of `path`, and the bytes of their NARs.
    ///
    /// # Errors
    /// If `path` isn't valid in the local store.
    pub fn size(&self, path: &Path) -> Result<(usize, u64)> {
        let paths = self.closure(path)?;
        let sizes = stdout_of(self.command("nix-store").args(["--query", "--size"]).args(&paths))?;
        let total: Result<u64> =
            sizes.split_whitespace().map(|size| size.parse::<u64>().context("reading a size from Nix")).sum();
        Ok((paths.len(), total?))
    }

    /// All store paths of the closure of `path`, references first.
    ///
    /// # Errors
    /// If `path` isn't valid in the local store.
    pub fn closure(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let listed = stdout_of(self.command("nix-store").args(["--query", "--requisites"]).arg(path))?;
        Ok(listed.lines().map(PathBuf::from).collect())
    }

    /// Compares every path of the closure with the hash in Nix' database.
    ///
    /// # Errors
    /// If one differs or is missing.
    pub fn verify(&self, path: &Path) -> Result<()> {
        let paths = self.closure(path)?;
        run(self.command("nix-store").arg("--verify-path").args(paths))
    }
}
