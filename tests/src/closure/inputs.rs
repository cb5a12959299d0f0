//! What the Nix expressions are given: files, versions and names, as one JSON file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::order::{Package, acyclic};
use super::{Settings, Variant};
use crate::pi::packages::{Arch, Deb, download, resolve_arm64};
use crate::pi::{air, cache, kernel};

/// What the installed system can do; apt adds what these need.
const SYSTEM: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "busybox-static",
    "coreutils",
    "dash",
    "dbus",
    "diffutils",
    "dosfstools",
    "e2fsprogs",
    "findutils",
    "gawk",
    "gdisk",
    "grep",
    "gzip",
    "hostapd",
    "hostname",
    "iproute2",
    "iw",
    "kmod",
    "less",
    "login",
    "mount",
    "ncurses-base",
    "netbase",
    "nix-bin",
    "openssh-client",
    "openssh-server",
    "passwd",
    "procps",
    "sed",
    "systemd",
    "systemd-sysv",
    "tar",
    "tzdata",
    "udev",
    "util-linux",
    "wpasupplicant",
    "zfsutils-linux",
];

/// Packages that only maintainer scripts and rarely used tools call: a tenth of the bytes of all.
const LEFT_OUT: &[&str] = &["adduser", "debconf", "dpkg", "libperl", "libpython3", "media-types", "perl", "python3"];

/// What a closure of a few paths needs.
const TINY: &[&str] = &["busybox-static"];

/// The JSON that `tests/nix/default.nix` reads.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inputs {
    /// Which of the closures a flake means.
    pub attribute: String,
    /// The builder's platform, in Nix' words.
    pub system: String,
    /// A directory with a static `busybox` for the builder.
    pub host_tools: String,
    /// Debian packages, dependencies first.
    pub packages: Vec<Package>,
    /// The kernel; none for a closure that doesn't boot.
    pub kernel: Option<KernelFiles>,
    /// kmod's tools on the builder.
    pub depmod: String,
    /// See [`Inputs::depmod`].
    pub modprobe: String,
    /// Of the installed machine.
    pub host_name: String,
    /// Eight hex digits.
    pub host_id: String,
    /// What `nixos-version` says.
    pub version: String,
    /// For root.
    pub authorized_key: String,
    /// The kernel's command line, but for `init=`.
    pub kernel_params: String,
    /// What is installed of cygnet; none for a closure that doesn't boot.
    pub installed: Option<Installed>,
}

/// What `nixosModules.installed` puts into a system, and the simulated radio for it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Installed {
    /// The static binary.
    pub agent: String,
    /// The text of `cygnet-installed.service`.
    pub unit: &'static str,
    /// The text of `cygnet-trial.service`.
    pub trial: &'static str,
    /// The text of `cygnet-trial-emergency.service`.
    pub trial_emergency: &'static str,
    /// The rig's programs: name, text.
    pub rig: BTreeMap<&'static str, &'static str>,
}

/// Files of the kernel.
#[derive(Debug, Clone, Serialize)]
pub struct KernelFiles {
    /// `uname -r`.
    pub version: String,
    /// The image.
    pub image: String,
    /// The directory with the modules of this version.
    pub modules: String,
}

impl Inputs {
    /// As the expressions read it.
    ///
    /// # Errors
    /// Never in practice: all of it is text.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).context("writing the closure's inputs as JSON")
    }
}

/// Gets everything that `settings` ask for, from the cache or from Debian.
///
/// # Errors
/// If packages or the kernel can't be had, or the settings can't be.
pub fn gather(cache_dir: &Path, settings: &Settings) -> Result<Inputs> {
    check(settings)?;
    let (debs, kernel) = match settings.variant {
        Variant::Full => {
            let kernel = kernel(cache_dir)?;
            let files = KernelFiles {
                modules: kernel.modules().display().to_string(),
                image: kernel.image.display().to_string(),
                version: kernel.version,
            };
            (resolve_arm64(cache_dir, SYSTEM)?, Some(files))
        }
        Variant::Tiny
        | Variant::TinyActivationFails
        | Variant::TinyBootLoaderFails
        | Variant::TinyWrongArchitecture
        | Variant::TinyHuge
        | Variant::TinyLong
        | Variant::TinyTwin
        | Variant::TinyNoHostId
        | Variant::TinyOtherDisks => (download(cache_dir, Arch::Arm64, TINY)?, None),
    };
    let debs: Vec<Deb> = debs.into_iter().filter(|deb| !is_left_out(&deb.name)).collect();
    let installed = settings.agent.as_ref().map(|agent| Installed {
        agent: agent.display().to_string(),
        unit: include_str!("../../../agent/systemd/cygnet-installed.service"),
        trial: include_str!("../../../agent/systemd/cygnet-trial.service"),
        trial_emergency: include_str!("../../../agent/systemd/cygnet-trial-emergency.service"),
        rig: air::PROGRAMS.iter().copied().collect(),
    });
    Ok(Inputs {
        attribute: settings.variant.attribute().into(),
        system: format!("{}-linux", std::env::consts::ARCH),
        host_tools: host_tools(cache_dir)?.display().to_string(),
        packages: acyclic(&debs),
        kernel,
        depmod: find_tool("depmod")?,
        modprobe: find_tool("modprobe")?,
        host_name: settings.host_name.clone(),
        host_id: settings.host_id.clone(),
        version: "26.05.20260501.cygnet".into(),
        authorized_key: settings.authorized_key.clone(),
        kernel_params:
            "console=ttyAMA0 loglevel=4 panic=10 boot.panic_on_fail systemd.log_color=0 systemd.setenv=CYGNET_TRIAL=30m"
                .into(),
        installed,
    })
}

fn check(settings: &Settings) -> Result<()> {
    let id = &settings.host_id;
    if id.len() != 8 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        bail!("a host id has eight hex digits; this one is {id:?}");
    }
    let name = &settings.host_name;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        bail!("a host name has letters, digits and dashes; this one is {name:?}");
    }
    if settings.variant == Variant::Full && settings.agent.is_none() {
        bail!("the system that boots has cygnetd in it; name its binary");
    }
    if settings.authorized_key.lines().count() != 1 {
        bail!("the authorized key must be one line, as in a .pub file");
    }
    Ok(())
}

fn is_left_out(name: &str) -> bool {
    LEFT_OUT.iter().any(|prefix| name.starts_with(prefix)) || (name.starts_with("lib") && name.ends_with("-perl"))
}

/// Debian's static busybox for this machine: the only program that builders run besides kmod's.
pub(crate) fn host_tools(cache_dir: &Path) -> Result<PathBuf> {
    let arch = match std::env::consts::ARCH {
        "aarch64" => Arch::Arm64,
        _ => Arch::Amd64,
    };
    let mut debs = download(cache_dir, arch, TINY)?;
    let deb = debs.pop().context("finding busybox-static for this machine")?;
    let key = format!("busybox-{}-{}", arch.name(), deb.version);
    cache::entry(cache_dir, "host-tools", &key, "unpacking", |out| {
        let room = tempfile::tempdir().context("creating a directory for busybox")?;
        deb.unpack(room.path(), &["./usr/share/*"])?;
        let places = ["usr/bin/busybox", "bin/busybox"];
        let binary = places.iter().map(|place| room.path().join(place)).find(|path| path.is_file());
        let binary = binary.context("finding busybox in its package")?;
        fs::copy(binary, out.join("busybox")).context("copying busybox")?;
        Ok(())
    })
}

/// The path of a system tool; root's PATH need not have the directory it is in.
pub(crate) fn find_tool(name: &str) -> Result<String> {
    for dir in ["/usr/sbin", "/sbin", "/usr/bin", "/bin"] {
        let path = Path::new(dir).join(name);
        if path.exists() {
            return Ok(path.display().to_string());
        }
    }
    bail!("{name} is not installed on this host; install the package kmod")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_would_break_a_file_are_refused() {
        let good = Settings::new("ssh-ed25519 AAAA me\n", Variant::Tiny);
        assert!(check(&good).is_ok());
        assert!(check(&Settings { host_id: "12345".into(), ..good.clone() }).is_err());
        assert!(check(&Settings { host_name: "a b".into(), ..good.clone() }).is_err());
        assert!(check(&Settings { authorized_key: "a\nb".into(), ..good.clone() }).is_err());
        assert!(check(&Settings { variant: Variant::Full, ..good.clone() }).is_err());
        assert!(check(&Settings { variant: Variant::Full, ..good.with_agent("cygnetd".as_ref()) }).is_ok());
    }

    #[test]
    fn interpreters_are_left_out_and_their_like_stay() {
        for name in ["perl-base", "libdbi-perl", "python3.13", "libpython3.13-stdlib", "dpkg"] {
            assert!(is_left_out(name), "{name}");
        }
        for name in ["libpam-modules", "libc6", "libpipeline1", "procps"] {
            assert!(!is_left_out(name), "{name}");
        }
    }
}
