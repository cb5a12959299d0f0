//! `cygnet plan`: what an installation would do. Touches nothing.

use crate::cli;
use crate::control;
use crate::error::fault;
use crate::fit;
use crate::install::{self, Planned, extra::Extra};
use crate::nix::{self, Closure};
use crate::ssh::Target;
use crate::ui::Ui;
use anyhow::Result;
use cygnet_protocol::disko::{self, DiskoError};
use cygnet_protocol::extra::Count;
use cygnet_protocol::fault::{Fault, FaultCode};
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
    ui.plan(&format!("{}{starts}", plan.render_with(&secrets, extra)))
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

/// What of a board's short names stands for which name in the device tree; longer ones first.
const BOARDS: &[(&str, &str)] = &[
    ("zero2", "Raspberry Pi Zero 2 W"),
    ("zero", "Raspberry Pi Zero W"),
    ("cm5", "Raspberry Pi Compute Module 5"),
    ("cm4", "Raspberry Pi Compute Module 4"),
    ("cm3", "Raspberry Pi Compute Module 3"),
    ("computemodule4", "Raspberry Pi Compute Module 4"),
    ("computemodule5", "Raspberry Pi Compute Module 5"),
    ("500", "Raspberry Pi 500"),
    ("400", "Raspberry Pi 400"),
    ("3b+", "Raspberry Pi 3 Model B Plus"),
    ("3modelbplus", "Raspberry Pi 3 Model B Plus"),
    ("5", "Raspberry Pi 5 Model B"),
    ("4", "Raspberry Pi 4 Model B"),
    ("3", "Raspberry Pi 3 Model B"),
    ("2", "Raspberry Pi 2 Model B"),
];

/// Refuses a board of which it is not known what it boots from: nothing would be checked, and nobody would know.
fn known_board(board: &str) -> Result<()> {
    if plan::knows_board(board) {
        return Ok(());
    }
    let short: String = board.to_lowercase().chars().filter(|c| c.is_alphanumeric() || *c == '+').collect();
    let meant = BOARDS.iter().find(|(part, _)| short.contains(part)).map_or("Raspberry Pi 4 Model B", |(_, name)| name);
    Err(fault(
        FaultCode::BadRequest,
        format!("The board {board:?} is not known, so it can't be checked whether it boots from this layout."),
        "Boards are known by the names that they have in the device tree, and these begin with “Raspberry Pi ”.",
        format!(
            "Write it as /proc/device-tree/model on the Pi has it, for example `--board '{meant}'`, or leave it out."
        ),
    ))
}

/// The layout is what is looked at here, not a machine: without a system, it may lack a root; and it may ask for passphrases.
fn of_blank_disks(
    ui: &Ui,
    source: &cli::Source,
    layout: &serde_json::Value,
    bytes: u64,
    board: Option<&str>,
) -> Result<Plan> {
    board.map_or(Ok(()), known_board)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::fault_of;

    #[test]
    fn a_board_is_known_or_refused() {
        for (board, meant) in [
            ("rpi4", "'Raspberry Pi 4 Model B'"),
            ("pi 4", "'Raspberry Pi 4 Model B'"),
            ("raspberrypi,4-model-b", "'Raspberry Pi 4 Model B'"),
            ("raspberry pi 3b+", "'Raspberry Pi 3 Model B Plus'"),
            ("CM4", "'Raspberry Pi Compute Module 4'"),
            ("rpi-zero-2-w", "'Raspberry Pi Zero 2 W'"),
            ("Radxa ROCK", "'Raspberry Pi 4 Model B'"),
            ("", "/proc/device-tree/model"),
        ] {
            let fault = fault_of(&known_board(board).unwrap_err());
            assert_eq!(fault.code, FaultCode::BadRequest);
            assert!(fault.remedy.contains(meant) && fault.what.contains("is not known"), "{board}: {fault}");
        }
        for (_, name) in BOARDS {
            assert!(known_board(name).is_ok(), "{name}");
        }
    }
}
