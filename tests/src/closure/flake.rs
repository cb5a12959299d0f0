//! A flake with one host, `pi`: the system of [`super::build`] and its disks, to be evaluated purely and offline.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::inputs::{self, Inputs};
use super::{Settings, expressions};
use crate::host::run::{run, tool};
use crate::pi::cache;

/// Makes the flake and returns its directory; its host is `DIRECTORY#pi` (use `path:DIRECTORY`: it is in no repository).
/// `nixosConfigurations.pi.config` has `system.build.toplevel` and `disko.devices`, the latter with the functions and
/// cycles that disko's own evaluation leaves in it. For [`super::Variant::Full`] the flake is some 300 MB, all of which
/// Nix copies.
///
/// # Errors
/// As [`super::build`], and if the cache can't be written.
pub fn flake(cache_dir: &Path, settings: &Settings) -> Result<PathBuf> {
    let mut inputs = inputs::gather(cache_dir, settings)?;
    let expressions = expressions();
    let key = cache::key(&[inputs.to_json()?.as_bytes(), &text_of(&expressions)?]);
    let key = format!("{}-{key}", settings.variant.attribute());
    cache::entry(cache_dir, "flake", &key, "copying its files", |out| {
        copy(&expressions.join("flake/flake.nix"), &out.join("flake.nix"))?;
        copy(&expressions.join("flake/disko.nix"), &out.join("disko.nix"))?;
        copy(&expressions, &out.join("nix"))?;
        gather_files(&mut inputs, out)?;
        fs::write(out.join("inputs.json"), inputs.to_json()?).context("writing inputs.json")
    })
}

/// Pure evaluation reads nothing outside a flake: copies every file that the inputs name into it.
fn gather_files(inputs: &mut Inputs, out: &Path) -> Result<()> {
    fs::create_dir(out.join("files")).context("creating the directory for files")?;
    let bring = |place: &mut String, name: &str| {
        let inside = format!("files/{name}");
        copy(Path::new(place), &out.join(&inside))?;
        *place = inside;
        anyhow::Ok(())
    };
    bring(&mut inputs.host_tools, "host-tools")?;
    for package in &mut inputs.packages {
        let name = format!("{}.deb", package.name);
        bring(&mut package.file, &name)?;
    }
    if let Some(kernel) = &mut inputs.kernel {
        bring(&mut kernel.image, "kernel-image")?;
        bring(&mut kernel.modules, "kernel-modules")?;
    }
    if let Some(installed) = &mut inputs.installed {
        bring(&mut installed.agent, "cygnetd")?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    run(tool("cp").args(["-r", "--reflink=auto", "-T"]).args([from, to]))
}

/// All text of a directory of expressions, so that an edited expression makes another flake.
fn text_of(dir: &Path) -> Result<Vec<u8>> {
    let mut files = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))? {
            let path = entry.with_context(|| format!("reading {}", dir.display()))?.path();
            if path.is_dir() { waiting.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("{} has no expressions", dir.display());
    }
    let mut text = Vec::new();
    for file in files {
        text.extend(fs::read(&file).with_context(|| format!("reading {}", file.display()))?);
    }
    Ok(text)
}
