//! The closures that are pushed, built by real Nix out of Debian arm64 packages.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::closure::inputs::{Inputs, find_tool, host_tools};
use crate::closure::nix::Nix;
use crate::closure::order::{Package, acyclic};
use crate::closure::{Closure, expressions, layout};
use crate::pi::cache;
use crate::pi::packages::{Arch, RELEASE, resolve_of};

/// What the system of closure A has; apt adds what these need, 220 packages in all. There are files that shrink well and files
/// that don't (the kernel's modules are compressed already), packages of a hundred megabytes and of a few kilobytes.
const SYSTEM: &[&str] = &[
    "base-files",
    "bash",
    "busybox-static",
    "coreutils",
    "curl",
    "dbus",
    "docker.io",
    "gawk",
    "git",
    "htop",
    "iproute2",
    "kmod",
    "less",
    "linux-image-arm64",
    "nginx",
    "nix-bin",
    "nodejs",
    "openssh-server",
    "postgresql",
    "procps",
    "rsync",
    "systemd",
    "systemd-sysv",
    "tmux",
    "udev",
    "util-linux",
    "vim",
    "wpasupplicant",
];

/// The Debian release after [`RELEASE`], as it is being made. Of some 205 packages that both have, 4 had the same version when
/// this was written, and glibc, systemd, LLVM and the kernel all were new: it is more than a year of changes, which is harder
/// than from one NixOS to the next. Nothing nearer can be had for long: a mirror has only the newest packages of a release.
const NEXT_RELEASE: &str = "forky";

/// Of the paths of A, how many in a hundred are on the card for B.
const ON_CARD: usize = 75;

/// What is pushed onto what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// A system of Debian packages, nothing of it on the card.
    A,
    /// As A; three quarters of its paths are on the card.
    B,
    /// The same packages of the next release, all of A on the card.
    C,
    /// Ten thousand small paths, nothing on the card.
    D,
    /// The packages of A, rebuilt: nothing but store hashes has changed, in the names and inside; all of A on the card.
    E,
}

impl Case {
    /// All of them.
    pub const ALL: [Case; 5] = [Case::A, Case::B, Case::C, Case::D, Case::E];

    /// As it is called in the table and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Case::A => "A",
            Case::B => "B",
            Case::C => "C",
            Case::D => "D",
            Case::E => "E",
        }
    }

    /// The case with this name.
    pub fn named(name: &str) -> Option<Case> {
        Case::ALL.into_iter().find(|case| case.name().eq_ignore_ascii_case(name))
    }
}

/// A closure, and what of another or of itself is on the card beforehand.
#[derive(Debug, Clone)]
pub struct Given {
    /// What is pushed.
    pub closure: Closure,
    /// Store paths on the card; with each, all that it refers to.
    pub card: Vec<PathBuf>,
}

/// Builds closures, each once in a run.
#[derive(Debug)]
pub struct Builder<'a> {
    cache_dir: &'a Path,
    nix: &'a Nix,
    packages: BTreeMap<&'static str, Vec<Package>>,
    made: BTreeMap<(&'static str, &'static str), Closure>,
}

impl<'a> Builder<'a> {
    /// Builds with `nix`, from what is in the cache.
    pub fn new(cache_dir: &'a Path, nix: &'a Nix) -> Self {
        Builder { cache_dir, nix, packages: BTreeMap::new(), made: BTreeMap::new() }
    }

    /// Builds what `case` needs, or finds it built.
    ///
    /// # Errors
    /// If packages can't be had, or Nix fails.
    pub fn build(&mut self, case: Case) -> Result<Given> {
        let (closure, card) = match case {
            Case::A => (self.system(RELEASE, "benchPackages")?, Vec::new()),
            Case::B => {
                let closure = self.system(RELEASE, "benchPackages")?;
                let card = part_of(self.nix, &closure)?;
                (closure, card)
            }
            Case::C => (self.system(NEXT_RELEASE, "benchPackages")?, self.all_of_a()?),
            Case::D => (realise(self.cache_dir, self.nix, "benchMany", Vec::new())?, Vec::new()),
            Case::E => (self.system(RELEASE, "benchRebuilt")?, self.all_of_a()?),
        };
        Ok(Given { closure, card })
    }

    fn all_of_a(&mut self) -> Result<Vec<PathBuf>> {
        let closure = self.system(RELEASE, "benchPackages")?;
        self.nix.closure(&closure.toplevel)
    }

    fn system(&mut self, release: &'static str, attribute: &'static str) -> Result<Closure> {
        if let Some(closure) = self.made.get(&(release, attribute)) {
            return Ok(closure.clone());
        }
        let packages = match self.packages.get(release) {
            Some(packages) => packages.clone(),
            None => {
                let debs = resolve_of(self.cache_dir, release, Arch::Arm64, SYSTEM)?;
                let packages = named_as_by_nix(acyclic(&debs));
                self.packages.entry(release).or_insert(packages).clone()
            }
        };
        let closure = realise(self.cache_dir, self.nix, attribute, packages)?;
        self.made.insert((release, attribute), closure.clone());
        Ok(closure)
    }
}

fn realise(cache_dir: &Path, nix: &Nix, attribute: &str, packages: Vec<Package>) -> Result<Closure> {
    let inputs = Inputs {
        attribute: attribute.into(),
        system: format!("{}-linux", std::env::consts::ARCH),
        host_tools: host_tools(cache_dir)?.display().to_string(),
        packages,
        kernel: None,
        depmod: find_tool("depmod")?,
        modprobe: find_tool("modprobe")?,
        host_name: "bench".into(),
        host_id: "c1650001".into(),
        version: "26.05.20260501.cygnet".into(),
        authorized_key: String::new(),
        kernel_params: String::new(),
        installed: None,
    };
    let json = inputs.to_json()?;
    let dir = cache_dir.join("closure");
    let name = format!("{attribute}-{}", cache::key(&[json.as_bytes()]));
    let file = dir.join(format!("{name}.json"));
    fs::write(&file, json).with_context(|| format!("writing {}", file.display()))?;
    eprintln!("bench: building {name} with Nix, unless it is there");
    let toplevel = nix.build(&expressions().join("default.nix"), &file, attribute, &dir.join(&name))?;
    let (paths, nar_size) = nix.size(&toplevel)?;
    Ok(Closure { toplevel, paths, nar_size, disko: layout() })
}

/// Debian has the version of a library's interface in its package's name (`libicu76`, `postgresql-17`,
/// `linux-image-6.12.1+deb13-arm64`); nixpkgs has `icu4c-76.1` and `icu4c-78.1`, one name in each release. Gives the
/// packages such names where that is clear, so that those of two releases meet as they do in two NixOS systems.
fn named_as_by_nix(mut packages: Vec<Package>) -> Vec<Package> {
    let mut shared: BTreeMap<String, usize> = BTreeMap::new();
    for package in &packages {
        *shared.entry(stem(&package.name).to_owned()).or_default() += 1;
    }
    let renamed = |name: &str| match shared.get(stem(name)) {
        Some(1) => stem(name).to_owned(),
        _ => name.to_owned(),
    };
    for package in &mut packages {
        package.name = renamed(&package.name);
        package.depends = package.depends.iter().map(|name| renamed(name)).collect();
        if let Some((_epoch, version)) = package.version.split_once(':') {
            package.version = version.to_owned();
        }
    }
    packages
}

/// A package's name without the version in it.
fn stem(name: &str) -> &str {
    let bytes = name.as_bytes();
    let cut = (1..bytes.len()).find(|&at| bytes[at - 1] == b'-' && bytes[at].is_ascii_digit());
    let name = cut.map_or(name, |at| &name[..at - 1]);
    let name = name.strip_suffix("t64").unwrap_or(name);
    let short = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    if short.is_empty() { name } else { short }
}

/// About three quarters of the paths of a closure, with each all that it refers to: chosen by their hashes, so that large and
/// small ones, libraries and programs are among them as they come.
fn part_of(nix: &Nix, closure: &Closure) -> Result<Vec<PathBuf>> {
    let all = nix.closure(&closure.toplevel)?;
    let wanted = all.len() * ON_CARD / 100;
    let mut by_hash = all.clone();
    by_hash.sort();
    let mut chosen = std::collections::BTreeSet::new();
    for path in by_hash.iter().filter(|path| **path != closure.toplevel) {
        if chosen.len() >= wanted {
            break;
        }
        let with = nix.closure(path)?;
        // What brings everything along makes the share too large.
        if with.iter().filter(|one| !chosen.contains(*one)).count() + chosen.len() <= wanted + 1 {
            chosen.extend(with);
        }
    }
    Ok(all.into_iter().filter(|path| chosen.contains(path)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, depends: &[&str]) -> Package {
        let depends = depends.iter().map(|&one| one.into()).collect();
        Package { name: name.into(), version: version.into(), file: String::new(), depends }
    }

    #[test]
    fn versions_leave_names() {
        for (debian, nix) in [
            ("libicu76", "libicu"),
            ("libssl3t64", "libssl"),
            ("libglib2.0-0t64", "libglib"),
            ("postgresql-17", "postgresql"),
            ("linux-image-6.12.117+deb13-arm64", "linux-image"),
            ("e2fsprogs", "e2fsprogs"),
            ("7zip", "7zip"),
        ] {
            assert_eq!(stem(debian), nix, "{debian}");
        }
    }

    #[test]
    fn names_that_would_meet_stay() {
        let packages = named_as_by_nix(vec![
            package("python3.13", "1", &[]),
            package("python3", "1:2-3", &["python3.13", "libc6"]),
        ]);
        assert_eq!(packages[1], package("python3", "2-3", &["python3.13", "libc6"]));
        let packages = named_as_by_nix(vec![package("libc6", "2", &[]), package("a", "1", &["libc6"])]);
        assert_eq!(packages[1], package("a", "1", &["libc"]));
    }
}
