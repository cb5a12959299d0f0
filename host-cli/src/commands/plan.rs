//! `cygnet plan`: what an installation would do. Touches nothing.

use crate::cli;
use crate::control;
use crate::install;
use crate::nix;
use crate::ssh::Target;
use crate::ui::Ui;
use anyhow::Result;
use cygnet_protocol::disko::{self, DiskoError};
use cygnet_protocol::fault::Fault;
use cygnet_protocol::plan::{self, DiskFacts, Options, Plan, Refusal, Stage, Step, Wanted};
use serde::Serialize;

/// Carries it out. `target` makes sense of the host.
pub fn run(ui: &Ui, arguments: &cli::Plan, target: impl Fn(&str) -> Result<Target>) -> Result<()> {
    let target = arguments.host.as_deref().map(target).transpose()?;
    let source = &arguments.source;
    let layout = nix::find_layout(ui, source.flake.as_deref(), source.disko.as_deref())?;
    nix::layout::check(&layout)?;
    let (plan, secrets) = match (target, arguments.blank_disks) {
        (Some(target), _) => of_machine(ui, &target, source, layout)?,
        (None, size) => {
            let plan = of_blank_disks(&layout, size.unwrap_or_default())?;
            let secrets = plan.wanted();
            (plan, secrets)
        }
    };
    if arguments.argv {
        // Unmounting is for the end of an installation, and in the plan only if hooks go with it.
        let steps = plan.steps.iter().filter(|step| step.phase() != Stage::Unmount);
        let actions = steps.flat_map(Step::actions);
        return actions.map(|action| action.argv()).try_for_each(|argv| ui.record(&argv));
    }
    if ui.json() {
        return ui.record(&Shown { plan: &plan, secrets: &secrets });
    }
    ui.data(&plan.render_with(&secrets))
}

/// The plan, and beside it what its digest does not cover.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    /// What has to be given, or is there already.
    secrets: &'a [Wanted],
}

fn of_machine(
    ui: &Ui,
    target: &Target,
    source: &cli::Source,
    layout: serde_json::Value,
) -> Result<(Plan, Vec<Wanted>)> {
    let closure = match &source.closure {
        Some(path) => Some(nix::find_closure(ui, None, Some(path))?),
        // A plan doesn't depend on the system; building it only to see whether it fits would take too long.
        None => None,
    };
    let (_session, mut control) = control::connect(target)?;
    if let Some(closure) = &closure {
        closure.check_system(&control.status()?.system)?;
    }
    install::plan(&mut control, layout, closure.map(|closure| closure.summary()))
}

/// The layout is what is looked at here, not a machine: it may lack a root, and ask for passphrases.
fn of_blank_disks(layout: &serde_json::Value, bytes: u64) -> Result<Plan> {
    let refused = |refusal: Refusal| Fault::from(&refusal);
    let wrong = |error: DiskoError| refused(error.into());
    let devices = disko::parse(layout.to_string()).map_err(wrong)?;
    let disks: Vec<DiskFacts> = devices.disks.values().map(|disk| DiskFacts::blank(&disk.device, bytes)).collect();
    let options = Options { require_root: false, passphrases: true, ..Options::default() };
    Ok(plan::compile(&devices, &disks, &options).map_err(refused)?)
}
