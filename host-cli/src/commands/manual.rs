//! `cygnet completions` and `cygnet man`: made from the same definition as the help.

use crate::cli::Cli;
use crate::ui::Ui;
use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use std::path::Path;

/// Prints the completion script.
pub fn completions(ui: &Ui, shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cygnet", &mut script);
    ui.data(&String::from_utf8_lossy(&script))
}

/// Writes a page for cygnet and one for each command.
pub fn man(ui: &Ui, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    clap_mangen::generate_to(Cli::command(), dir).with_context(|| format!("writing pages into {}", dir.display()))?;
    ui.status(&format!("The pages are in {}.", dir.display()));
    Ok(())
}
