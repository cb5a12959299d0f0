//! The closure that is to be installed: all its store paths, from the real Nix database.

use super::path_info::{self, Known};
use super::run::{failed, run};
use crate::error::fault;
use crate::push::order;
use crate::ui::Ui;
use crate::ui::format::bytes;
use anyhow::{Context, Result};
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::message::ClosureSummary;
use cygnet_protocol::store::{PathInfo, STORE_DIR, StorePath, parse_store_path};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// How many store paths fit on a command line (128 KiB on Linux for one argument, 1 MiB for all on macOS).
#[cfg(feature = "libzstd")]
const MAX_ARGUMENTS: usize = 2000;

/// What a NixOS system must have to be installed (nixpkgs, nixos/modules/system/activation/top-level.nix).
const NEEDED: [&str; 4] = ["init", "activate", "bin/switch-to-configuration", "system"];

/// A system and all that it refers to.
#[derive(Debug, Clone)]
pub struct Closure {
    /// The system.
    pub toplevel: StorePath,
    /// Its platform in Nix's words: `aarch64-linux`.
    pub system: String,
    /// Everything in it, references before what refers to them.
    pub paths: Vec<PathInfo>,
}

impl Closure {
    /// Collects the closure of `path`, a store path or a link to one, and checks that it can be installed.
    pub fn collect(ui: &Ui, path: &Path) -> Result<Self> {
        let toplevel = resolve(path)?;
        let name = toplevel.to_absolute_path();
        let infos = infos(&name)?;
        let system = check_toplevel(Path::new(&name))?;
        for info in &infos {
            check_on_disk(info)?;
        }
        let closure = Self { toplevel, system, paths: order::references_first(infos) };
        ui.status(&format!(
            "Closure: {} paths, {} as NARs, for {}",
            closure.paths.len(),
            bytes(closure.nar_size()),
            closure.system
        ));
        Ok(closure)
    }

    /// Where the system is on this machine.
    pub fn directory(&self) -> PathBuf {
        self.toplevel.to_absolute_path().into()
    }

    /// Sum of the NAR sizes, bytes.
    pub fn nar_size(&self) -> u64 {
        self.paths.iter().map(|info| info.nar_size).sum()
    }

    /// What the agent must know of it.
    pub fn summary(&self) -> ClosureSummary {
        ClosureSummary {
            toplevel: self.toplevel.to_absolute_path(),
            system: self.system.clone(),
            paths: self.paths.len() as u64,
            nar_size: self.nar_size(),
        }
    }

    /// Refuses a closure for another platform than the Pi's, before anything is sent.
    pub fn check_system(&self, agent: &str) -> Result<()> {
        if self.system == agent {
            return Ok(());
        }
        Err(fault(
            FaultCode::WrongArchitecture,
            format!("The closure is for {}, the Pi is {agent}.", self.system),
            format!("{} was built for another platform.", self.toplevel.to_absolute_path()),
            format!("Set `nixpkgs.hostPlatform = \"{agent}\"` in the configuration and build it again."),
        ))
    }
}

/// A store path, or a link like `./result` that leads to one.
fn resolve(path: &Path) -> Result<StorePath> {
    let bad = |cause: String| {
        fault(
            FaultCode::BadClosure,
            format!("{} is no store path.", path.display()),
            cause,
            "Give the system as `/nix/store/…-nixos-system-…`, or the link `result` that `nix build` makes.",
        )
    };
    let text = if path.starts_with(STORE_DIR) {
        path.to_owned()
    } else {
        path.canonicalize().map_err(|error| bad(format!("It does not lead to one: {error}.")))?
    };
    let text = text.to_str().ok_or_else(|| bad("It is not UTF-8.".into()))?.trim_end_matches('/').to_owned();
    parse_store_path(&text).map_err(|cause| bad(format!("It leads to something else: {cause}.")))
}

/// What the database knows of each path of the closure of `toplevel`: one question, however many they are.
fn infos(toplevel: &str) -> Result<Vec<PathInfo>> {
    let arguments = [
        "path-info",
        "--json",
        "--recursive",
        "--extra-experimental-features",
        "nix-command",
        // It is a question about this machine; without this, Nix looks for missing paths on the net.
        "--option",
        "substitute",
        "false",
        toplevel,
    ];
    let output = run(None, "nix", &arguments)?;
    // Nix also fails for a missing path, but prints what it knows of the others.
    let known = path_info::parse(&output.stdout);
    if let Ok(known) = &known
        && let Some(Known::Missing(path)) = known.iter().find(|known| matches!(known, Known::Missing(_)))
    {
        return Err(missing(path));
    }
    if !output.success && output.stderr.contains("is not valid") {
        let named = output.stderr.split('\'').find(|part| part.starts_with(STORE_DIR)).unwrap_or(toplevel);
        return Err(missing(named));
    }
    let stdout = output.or_fault("Asking Nix about the store paths")?;
    let known = path_info::parse(&stdout).context("asking Nix about the store paths")?;
    let mut infos: Vec<PathInfo> = known
        .into_iter()
        .filter_map(|known| match known {
            Known::Valid(info) => Some(info),
            Known::Missing(_) => None,
        })
        .collect();
    // By name, as far as references allow it later: the outputs and releases of a package, and the packages of a language,
    // are like each other, and the stream looks back only so far.
    infos.sort_by_cached_key(|info| (info.path.name().to_owned(), info.path.to_absolute_path()));
    let told: HashSet<&StorePath> = infos.iter().map(|info| &info.path).collect();
    let whole = told.iter().any(|path| path.to_absolute_path() == toplevel);
    let lacking = infos.iter().flat_map(|info| &info.references).find(|path| !told.contains(path));
    match (whole, lacking) {
        (true, None) => Ok(infos),
        (true, Some(path)) => Err(missing(&path.to_absolute_path())),
        (false, _) => Err(failed("Asking Nix about the store paths", &format!("It told nothing of {toplevel}."))),
    }
}

/// What the database knows of any paths.
#[cfg(feature = "libzstd")]
pub fn known(paths: &[StorePath]) -> Result<Vec<Known>> {
    let mut all = Vec::new();
    for paths in paths.chunks(MAX_ARGUMENTS) {
        let mut arguments: Vec<String> =
            ["path-info", "--json", "--extra-experimental-features", "nix-command", "--option", "substitute", "false"]
                .map(str::to_owned)
                .into();
        arguments.extend(paths.iter().map(StorePath::to_absolute_path));
        // It fails if one is missing, and prints what it knows all the same; or nothing, then none is known.
        let output = run(None, "nix", &arguments)?;
        all.extend(path_info::parse(&output.stdout).unwrap_or_default());
    }
    Ok(all)
}

/// The platform, if all is there that the installation needs.
fn check_toplevel(toplevel: &Path) -> Result<String> {
    if toplevel.symlink_metadata().is_err() {
        return Err(gone(&toplevel.display().to_string()));
    }
    let bad = |cause: String| {
        fault(
            FaultCode::BadClosure,
            format!("{} is no NixOS system that can be installed.", toplevel.display()),
            cause,
            "Give `config.system.build.toplevel` of a NixOS configuration.",
        )
    };
    let lacking: Vec<&str> =
        NEEDED.into_iter().filter(|file| toplevel.join(file).symlink_metadata().is_err()).collect();
    if !lacking.is_empty() {
        return Err(bad(format!("It has no {}.", lacking.join(", no "))));
    }
    let system = std::fs::read_to_string(toplevel.join("system"))
        .map_err(|error| bad(format!("Its file `system` can't be read: {error}.")))?;
    let system = system.trim();
    if system.is_empty() || !system.contains('-') || system.contains(char::is_whitespace) {
        return Err(bad(format!("Its file `system` says {system:?}, which is no platform.")));
    }
    Ok(system.to_owned())
}

fn check_on_disk(info: &PathInfo) -> Result<()> {
    let path = info.path.to_absolute_path();
    match Path::new(&path).symlink_metadata() {
        Ok(_) => Ok(()),
        Err(_) => Err(gone(&path)),
    }
}

fn missing(path: &str) -> anyhow::Error {
    fault(
        FaultCode::PathMissing,
        format!("{path} is not in this machine's Nix database."),
        "It was never built or copied here, or has been collected as garbage.",
        format!(
            "Build the system again, fetch the path with `nix-store --realise {path}`, or copy it with `nix copy`."
        ),
    )
}

fn gone(path: &str) -> anyhow::Error {
    fault(
        FaultCode::PathMissing,
        format!("{path} is in this machine's Nix database, but not on its disk."),
        "Somebody has deleted it by hand.",
        "Have it built or fetched again: `nix-store --verify --check-contents --repair`.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::fault_of;

    #[test]
    fn only_store_paths_are_closures() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("result");
        std::os::unix::fs::symlink("/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-hello/no/such", &link).unwrap();
        for bad in ["/etc", "/nix/store", "/nix/store/x", "no-such-file", link.to_str().unwrap()] {
            let fault = fault_of(&resolve(Path::new(bad)).unwrap_err());
            assert_eq!(fault.code, FaultCode::BadClosure, "{bad}");
        }
        for good in
            ["/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-hello", "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-hello/"]
        {
            assert!(resolve(Path::new(good)).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_a_system_lacks_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        for file in ["init", "activate", "system"] {
            std::fs::write(dir.path().join(file), "aarch64-linux\n").unwrap();
        }
        let fault = fault_of(&check_toplevel(dir.path()).unwrap_err());
        assert_eq!(fault.code, FaultCode::BadClosure);
        assert_eq!(fault.cause, "It has no bin/switch-to-configuration.");
        std::fs::write(dir.path().join("bin/switch-to-configuration"), "").unwrap();
        assert_eq!(check_toplevel(dir.path()).unwrap(), "aarch64-linux");
        std::fs::write(dir.path().join("system"), "\n").unwrap();
        assert!(check_toplevel(dir.path()).is_err());
    }
}
