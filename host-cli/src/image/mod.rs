//! Building the card's image, or taking one that is there.
//!
//! [`source`] is what a person named. [`facts`] looks at what this machine has (Nix, builders, binfmt, containers), [`choose`]
//! decides which way to build for aarch64 and says why, [`commands`] is what that way runs, and [`find`] finds the image in the
//! result. Only `facts` and the end of this file touch anything.

mod choose;
mod commands;
mod facts;
mod find;
mod machines;
mod source;

pub use choose::Way;
pub use commands::shown;
pub use source::Source;

use crate::error::fault;
use crate::nix::run::run;
use crate::ui::Ui;
use anyhow::{Context, Result};
use choose::{Choice, Looked};
use cygnet_protocol::fault::FaultCode;
use std::path::{Path, PathBuf};

/// How it will be built, and all that was looked at.
pub struct Recipe {
    /// The way that was chosen.
    pub choice: Choice,
    /// Every way, and what is to be said of it.
    pub looked: Vec<Looked>,
    /// What is run.
    pub commands: Vec<Vec<String>>,
}

/// Looks at this machine and decides. `wanted` is the only way that may be taken, if there is one.
///
/// # Errors
/// If there is no way, or not the wanted one: each is named with what it lacks.
pub fn plan(source: &source::Flake, wanted: Option<Way>, out: &Path) -> Result<Recipe> {
    let facts = facts::look();
    let looked = choose::look(&facts);
    let choice = choose::choose(&looked, wanted)?;
    let commands = commands::commands(&choice, source, out)?;
    Ok(Recipe { choice, looked, commands })
}

/// Runs the commands; gives the image's file.
///
/// # Errors
/// If one fails, or no image is in what it made.
pub fn build(ui: &Ui, recipe: &Recipe, out: &Path) -> Result<PathBuf> {
    if recipe.choice.way.is_container() {
        // A symbolic link to the store is what another way has left here; a file of somebody's is not ours to remove.
        if out.is_symlink() {
            std::fs::remove_file(out).with_context(|| format!("removing the link {}", out.display()))?;
        }
        std::fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
    } else if out.exists() && !out.is_symlink() {
        return Err(fault(
            FaultCode::BadRequest,
            format!("{} is in the way of the image.", out.display()),
            "It is no link that Nix made: a build in a container, or somebody, has put it there.",
            "Move it away, or name another place with `--out`.",
        ));
    }
    for command in &recipe.commands {
        let Some((program, arguments)) = command.split_first() else { continue };
        run(Some(ui), program, arguments)?.or_fault("Building the image")?;
    }
    find::image_in(out)
}
