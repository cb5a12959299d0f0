//! `cygnet plan`: what an installation would do. Touches nothing.

use crate::cli;
use crate::control;
use crate::fit;
use crate::install::{self, Planned, extra::Extra};
use crate::nix::{self, Closure};
use crate::ssh::Target;
use crate::ui::Ui;
use anyhow::Result;
use cygnet_protocol::disko::{self, DiskoError};
use cygnet_protocol::extra::Count;
use cygnet_protocol::fault::Fault;
use cygnet_protocol::message::EXTRA_FILES;
use cygnet_protocol::plan::{self, DiskFacts, Options, Plan, Refusal, Stage, Step, Wanted};
use serde::Serialize;

/// Carries it out. `target` makes sense of the host.
pub fn run(ui: &Ui, arguments: &cli::Plan, target: impl Fn(&str) -> Result<Target>) -> Result<()> {
    let target = arguments.host.as_deref().map(target).transpose()?;
    let source = &arguments.source;
    let extra = source.extra_files.as_deref().map(Extra::read).transpose()?.map(|extra| extra.count());
    let layout = nix::find_layout(ui, source)?;
    let Planned { plan, secrets, boot } = match (target, arguments.blank_disks) {
        (Some(target), _) => of_machine(ui, &target, source, layout)?,
        (None, size) => {
            let plan = of_blank_disks(ui, source, &layout, size.unwrap_or_default(), arguments.board.as_deref())?;
            let secrets = plan.wanted();
            Planned { plan, secrets, boot: None }
        }
    };
    if source.keep_data {
        plan.keeps_data().map_err(|refusal| Fault::from(&refusal))?;
    }
    if arguments.argv {
        // Unmounting is for the end of an installation, and in the plan only if hooks go with it.
        let steps = plan.steps.iter().filter(|step| step.phase() != Stage::Unmount);
        let actions = steps.flat_map(Step::actions);
        return actions.map(|action| action.argv()).try_for_each(|argv| ui.record(&argv));
    }
    if ui.json() {
        return ui.record(&Shown { plan: &plan, secrets: &secrets, extra_files: extra, boot: boot.as_deref() });
    }
    let starts = boot.map(|boot| format!("\n{}\n", install::how_it_starts(&boot))).unwrap_or_default();
    ui.data(&format!("{}{starts}", plan.render_with(&secrets, extra)))
}

/// The plan, and beside it what its digest does not cover.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    /// What has to be given, or is there already.
    secrets: &'a [Wanted],
    /// How many files would be laid over the new system.
    #[serde(rename = "extra-files", skip_serializing_if = "Option::is_none")]
    extra_files: Option<Count>,
    /// How the new system would be started.
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<&'a str>,
}

fn of_machine(ui: &Ui, target: &Target, source: &cli::Source, layout: serde_json::Value) -> Result<Planned> {
    let closure = match &source.closure {
        Some(path) => Some(nix::find_closure(ui, None, Some(path))?),
        // A plan doesn't depend on the system; building it only to see whether it fits would take too long.
        None => None,
    };
    let (_session, mut control) = control::connect(target)?;
    if source.extra_files.is_some() {
        control.must_have(EXTRA_FILES)?;
    }
    let ways = (source.mode, install::boot_from(&control, source)?);
    let Some(closure) = closure else {
        return install::plan(&mut control, layout, None, ways);
    };
    let status = control.status()?;
    closure.check_system(&status.system)?;
    let planned = install::plan(&mut control, layout, Some(closure.summary()), ways)?;
    fit::check(ui, &planned.plan, &closure.directory(), &status.board, source.allow_mismatch)?;
    Ok(planned)
}

/// The layout is what is looked at here, not a machine: without a system, it may lack a root; and it may ask for passphrases.
fn of_blank_disks(
    ui: &Ui,
    source: &cli::Source,
    layout: &serde_json::Value,
    bytes: u64,
    board: Option<&str>,
) -> Result<Plan> {
    let closure = source.closure.as_deref().map(|path| nix::find_closure(ui, None, Some(path))).transpose()?;
    let refused = |refusal: Refusal| Fault::from(&refusal);
    let wrong = |error: DiskoError| refused(error.into());
    let devices = disko::parse(layout.to_string()).map_err(wrong)?;
    let disks: Vec<DiskFacts> = devices.disks.values().map(|disk| DiskFacts::blank(&disk.device, bytes)).collect();
    let options = Options {
        closure_nar_size: closure.as_ref().map(Closure::nar_size),
        require_root: closure.is_some(),
        passphrases: true,
        board: board.map(str::to_owned),
        mode: source.mode,
        ..Options::default()
    };
    let plan = plan::compile(&devices, &disks, &options).map_err(refused)?;
    if let Some(closure) = closure {
        fit::check(ui, &plan, &closure.directory(), board.unwrap_or_default(), source.allow_mismatch)?;
    }
    Ok(plan)
}
