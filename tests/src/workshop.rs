//! What every run starts with: the tools, the programs under test, the parts of the virtual Pi. And becoming root.

use crate::host::{self, run::tool};
use crate::pi::{self, Parts, Settings};
use anyhow::{Context, Result, bail};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

/// Set for the second start of this program, as root: the user's part is done.
const BUILT: &str = "CYGNET_TESTS_BUILT";

/// The programs under test.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `cygnetd`, static, for the Pi.
    pub agent: PathBuf,
    /// `cygnet`, for this machine.
    pub cygnet: PathBuf,
}

/// Builds the programs as whoever started this, `and` more if asked, then goes on as root, through sudo if need be.
///
/// # Errors
/// If a build fails, or root is not to be had.
pub fn programs(and: Option<fn(&Path) -> Result<()>>) -> Result<Programs> {
    let target = target_dir()?;
    let programs =
        Programs { agent: target.join(host::AGENT_TARGET).join("agent/cygnetd"), cygnet: target.join("debug/cygnet") };
    as_root(|target| build_in(target, and))?;
    for program in [&programs.agent, &programs.cygnet] {
        if !program.is_file() {
            bail!("{} is missing although the build succeeded", program.display());
        }
    }
    Ok(programs)
}

/// Builds the programs, `and` more if asked.
///
/// # Errors
/// If a build fails.
pub fn build(and: Option<fn(&Path) -> Result<()>>) -> Result<()> {
    build_in(&target_dir()?, and)
}

fn build_in(target: &Path, and: Option<fn(&Path) -> Result<()>>) -> Result<()> {
    host::ensure_rust_target(host::AGENT_TARGET)?;
    eprintln!("build: cygnetd for the Pi, cygnet for this machine");
    cargo(
        target,
        &["build", "--quiet", "--package", "cygnet-agent", "--profile", "agent", "--target", host::AGENT_TARGET],
    )?;
    cargo(target, &["build", "--quiet", "--package", "cygnet-cli"])?;
    and.map_or(Ok(()), |and| and(target))
}

/// The agent is in every bootstrap image, and in memory on a Pi with 1 GB: bytes.
const MAX_AGENT: u64 = 4_000_000;

/// Refuses an agent that has grown too large.
///
/// # Errors
/// If it is.
pub fn check_size(programs: &Programs) -> Result<()> {
    let size = programs.agent.metadata().context("looking at cygnetd")?.len();
    eprintln!("build: cygnetd has {size} bytes");
    if size > MAX_AGENT { bail!("cygnetd has {size} bytes; {MAX_AGENT} are the limit") } else { Ok(()) }
}

/// Does `first` as whoever started this, in the target directory, then goes on as root, through sudo if need be.
///
/// # Errors
/// If `first` fails, or root is not to be had.
pub fn as_root(first: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if std::env::var_os(BUILT).is_none() {
        first(&target_dir()?)?;
    }
    if !is_root()? {
        eprintln!("root: network namespaces, the card's image and the host's Nix store need it; going on through sudo");
        let own = std::env::current_exe().context("finding this program")?;
        let error = tool("sudo")
            .arg("--preserve-env=HOME,PATH,XDG_CACHE_HOME,CARGO_TARGET_DIR,CYGNET_TEST_KEEP,CYGNET_TEST_TRACE")
            .arg("--preserve-env=CYGNET_NIXPKGS,NIX_PATH")
            .arg(format!("{BUILT}=1"))
            .arg(own)
            .args(std::env::args_os().skip(1))
            .stdin(std::process::Stdio::inherit())
            .exec();
        return Err(error).context("starting sudo; install it, or run this as root");
    }
    Ok(())
}

/// The virtual Pi's parts; installs what this machine lacks.
///
/// # Errors
/// If something cannot be installed or made.
pub fn parts() -> Result<(Settings, Parts)> {
    host::ensure_host_packages()?;
    host::ensure_package_lists()?;
    let settings = Settings::default_here()?;
    let parts = pi::prepare(&settings)?;
    Ok((settings, parts))
}

/// Runs cargo in the checkout.
///
/// # Errors
/// If it fails; what it says goes to the terminal.
pub fn cargo(target: &Path, arguments: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = tool(cargo)
        .args(arguments)
        .env("CARGO_TARGET_DIR", target)
        .current_dir(repository())
        .status()
        .context("starting cargo")?;
    if status.success() { Ok(()) } else { bail!("cargo {} failed: {status}", arguments.join(" ")) }
}

/// The checkout this program was built from.
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The target directory this program lies in: `…/debug/cygnet-tests`.
///
/// # Errors
/// If this program cannot find itself.
pub fn target_dir() -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program")?;
    own.ancestors().nth(2).map(Path::to_owned).context("finding the target directory")
}

fn is_root() -> Result<bool> {
    let id = host::run::stdout_of(tool("id").arg("-u"))?;
    Ok(id.trim() == "0")
}
