//! What is to be installed, from the Nix on this machine.
//!
//! [`flake`] builds the system and evaluates the layout, or [`layout`] reads it from a file; [`closure`] collects all
//! store paths with what the database knows of them, read by [`path_info`]. [`run`] runs Nix's commands; [`copy`] says how
//! Nix itself would be told to copy a closure to the agent.

pub mod closure;
pub mod copy;
pub mod flake;
pub mod layout;
pub mod path_info;
pub mod run;

pub use closure::Closure;

use crate::cli;
use crate::ui::Ui;
use anyhow::Result;
use std::path::Path;

/// The layout, from the flake or the file (the command line says that there is one), on the disks that are asked for.
pub fn find_layout(ui: &Ui, source: &cli::Source) -> Result<serde_json::Value> {
    let mut layout = given_layout(ui, source.flake.as_deref(), source.disko.as_deref())?;
    layout::retarget(&mut layout, &source.disks)?;
    layout::check(&layout)?;
    Ok(layout)
}

fn given_layout(ui: &Ui, flake: Option<&str>, disko: Option<&Path>) -> Result<serde_json::Value> {
    match (flake, disko) {
        (Some(reference), _) => flake::FlakeHost::parse(reference)?.layout(ui),
        (None, Some(file)) => layout::read(file),
        (None, None) => Err(crate::error::fault(
            cygnet_protocol::fault::FaultCode::BadRequest,
            "No layout is given.",
            "Neither `--flake` nor `--disko` is there.",
            "Give `--flake FLAKE#HOST` or `--disko devices.json`.",
        )),
    }
}

/// The closure, from the flake or the path; the command line says that there is one.
pub fn find_closure(ui: &Ui, flake: Option<&str>, closure: Option<&Path>) -> Result<Closure> {
    match (flake, closure) {
        (Some(reference), _) => {
            let toplevel = flake::FlakeHost::parse(reference)?.build(ui)?;
            Closure::collect(ui, Path::new(&toplevel))
        }
        (None, Some(path)) => Closure::collect(ui, path),
        (None, None) => Err(crate::error::fault(
            cygnet_protocol::fault::FaultCode::BadRequest,
            "No system is given.",
            "Neither `--flake` nor `--closure` is there.",
            "Give `--flake FLAKE#HOST` or `--closure /nix/store/…`.",
        )),
    }
}
