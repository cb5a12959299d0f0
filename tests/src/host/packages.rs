//! What the virtual Pi needs on this host: Debian packages and a Rust target, installed when they are missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use super::run::{run, stdout_of, tool, try_output};

/// The target that the agent is built for.
pub const AGENT_TARGET: &str = "aarch64-unknown-linux-musl";

/// Debian 12 and 13 both have every one of these, under these names; each with the reason a person is told.
const PACKAGES: &[(&str, &str)] = &[
    ("e2fsprogs", "makes the card's root file system"),
    ("dosfstools", "makes the card's FAT partition"),
    ("mtools", "writes settings onto the FAT partition"),
    ("fdisk", "partitions the card image"),
    ("gdisk", "reads the GPT that an installation wrote"),
    ("parted", "lists partitions for comparisons"),
    ("qemu-utils", "keeps the disks of a Pi that is saved, and lays others over them"),
    ("kmod", "indexes the card's kernel modules"),
    ("xz-utils", "unpacks kernel modules for the initial RAM disk"),
    ("cpio", "looks into initial RAM disks"),
    ("gzip", "packs initial RAM disks"),
    ("zstd", "packs closures"),
    ("tar", "unpacks packages"),
    ("dnsmasq-base", "gives the Pi its address"),
    ("iproute2", "makes the network namespace"),
    ("util-linux", "enters namespaces"),
    ("mount", "shows devices to the module build"),
    ("openssh-client", "logs in on the Pi"),
    ("nix-bin", "builds closures and copies them"),
    ("sqlite3", "registers signatures in Nix databases"),
    ("busybox-static", "serves binary caches"),
    ("curl", "fetches from binary caches"),
    ("debian-archive-keyring", "checks Debian's signatures"),
];

/// What the tests of the crates and the measurements need besides. Not for a demonstration: where systemd runs, Debian lets an
/// sshd listen as soon as it is installed.
const SSH_SERVER: &[(&str, &str)] =
    &[("openssh-server", "shows host keys to the tests, and takes pushes that are measured")];

/// Package lists older than this are fetched again before something is installed.
const LISTS_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Installs the Debian packages that are missing, after saying which and why.
///
/// # Errors
/// If this isn't a Debian host, it isn't run as root, or apt can't install.
pub fn ensure_host_packages() -> Result<()> {
    ensure(PACKAGES)
}

/// The same for a real sshd.
///
/// # Errors
/// As [`ensure_host_packages`].
pub fn ensure_ssh_server() -> Result<()> {
    ensure(SSH_SERVER)
}

fn ensure(packages: &'static [(&str, &str)]) -> Result<()> {
    let missing = missing_of(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("host: installing {} Debian packages:", missing.len());
    for (name, reason) in &missing {
        eprintln!("host:   {name}: {reason}");
    }
    let install = || {
        run(tool("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(missing.iter().map(|(name, _)| name)))
    };
    if lists_are_old() {
        update_lists()?;
        return install().context("installing packages on this host");
    }
    // A list of this morning may name a version that the mirror has replaced since.
    install().or_else(|_| {
        update_lists()?;
        install().context("installing packages on this host")
    })
}

/// Package lists are needed even when nothing is missing: they say which mirror this host uses.
///
/// # Errors
/// If apt can't reach its mirror and no list is there.
pub fn ensure_package_lists() -> Result<()> {
    if has_lists() { Ok(()) } else { update_lists() }
}

/// Adds the agent's target to the Rust toolchain of this checkout. It must run as the user who owns the toolchain, before
/// anything becomes root.
///
/// # Errors
/// If rustup is there but can't install the target, or if there is neither rustup nor the target.
pub fn ensure_rust_target(target: &str) -> Result<()> {
    let sysroot =
        stdout_of(tool("rustc").args(["--print", "sysroot"])).context("asking rustc where its targets are")?;
    let libraries = Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib");
    if libraries.is_dir() {
        return Ok(());
    }
    eprintln!("host: adding the Rust target {target}");
    run(tool("rustup").args(["target", "add", target])).with_context(|| {
        format!(
            "adding the target {target}; without rustup, install the standard library for it \
             the way your Rust came"
        )
    })
}

/// Those that aren't installed.
fn missing_of(packages: &'static [(&str, &str)]) -> Result<Vec<&'static (&'static str, &'static str)>> {
    let names = packages.iter().map(|(name, _)| name);
    // dpkg-query's exit status is 1 as soon as one package is unknown to it, which is no failure here.
    let output = try_output(tool("dpkg-query").args(["-W", "-f", "${Package} ${db:Status-Status}\n"]).args(names))
        .context("asking dpkg which packages are installed; the virtual Pi needs a Debian 12 or 13 host")?;
    if !matches!(output.status.code(), Some(0 | 1)) {
        bail!("dpkg-query failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    let listed = String::from_utf8_lossy(&output.stdout);
    let installed = installed_in(&listed);
    Ok(packages.iter().filter(|(name, _)| !installed.contains(name)).collect())
}

fn installed_in(listed: &str) -> BTreeSet<&str> {
    listed.lines().filter_map(|line| line.strip_suffix(" installed")).collect()
}

fn update_lists() -> Result<()> {
    run(tool("apt-get").args(["update", "-q"])).context("fetching this host's package lists")
}

fn has_lists() -> bool {
    fs::read_dir("/var/lib/apt/lists")
        .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages")))
}

fn lists_are_old() -> bool {
    let fetched = fs::metadata("/var/lib/apt/lists/partial")
        .or_else(|_| fs::metadata("/var/lib/apt/lists"))
        .and_then(|meta| meta.modified());
    let age = fetched.map(|then| SystemTime::now().duration_since(then).unwrap_or_default());
    !has_lists() || age.map_or(true, |age| age > LISTS_MAX_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fully_installed_packages_count() {
        let installed = installed_in("a installed\nb config-files\nc not-installed\n");
        assert_eq!(installed, BTreeSet::from(["a"]));
    }
}
