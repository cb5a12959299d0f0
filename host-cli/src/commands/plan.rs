//! `cygnet plan`: what an installation would do. Touches nothing.

use crate::cli;
use crate::control;
use crate::install;
use crate::nix;
use crate::ssh::Target;
use crate::ui::Ui;
use anyhow::Result;

/// Carries it out.
pub fn run(ui: &Ui, target: &Target, arguments: &cli::Plan) -> Result<()> {
    let source = &arguments.source;
    let layout = nix::find_layout(ui, source.flake.as_deref(), source.disko.as_deref())?;
    nix::layout::check(&layout)?;
    let closure = match &source.closure {
        Some(path) => Some(nix::find_closure(ui, None, Some(path))?),
        // A plan doesn't depend on the system; building it only to see whether it fits would take too long.
        None => None,
    };
    let (_session, mut control) = control::connect(target)?;
    if let Some(closure) = &closure {
        closure.check_system(&control.status()?.system)?;
    }
    let plan = install::plan(&mut control, layout, closure.map(|closure| closure.summary()))?;
    if ui.json() {
        return ui.record(&plan);
    }
    ui.data(&plan.render())
}
