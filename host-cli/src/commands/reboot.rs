//! `cygnet reboot`.

use crate::cli;
use crate::control;
use crate::error::fault;
use crate::ssh::Target;
use crate::ui::Ui;
use anyhow::Result;
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::message::Request;

/// Carries it out.
pub fn run(ui: &Ui, target: &Target, arguments: &cli::Reboot) -> Result<()> {
    let (_session, mut control) = control::connect(target)?;
    if !arguments.yes {
        let how = if arguments.force { "Reboot {} whatever it is doing?" } else { "Reboot {}?" };
        ask(ui, &how.replace("{}", &target.given))?;
    }
    control.accepted(&Request::Reboot { force: arguments.force })?;
    ui.status(&format!("{} reboots.", target.given));
    if ui.json() {
        ui.record(&serde_json::json!({"type": "accepted"}))?;
    }
    Ok(())
}

/// Asks a yes-or-no question; anything but a yes is the end.
pub fn ask(ui: &Ui, question: &str) -> Result<()> {
    if ui.can_ask() && ui.ask(question, &["yes", "no"])? == "yes" {
        return Ok(());
    }
    Err(fault(
        FaultCode::Declined,
        "Nothing was done, because nobody said yes.",
        "The answer was no, or there is no terminal to ask on.",
        "To say yes without a terminal, give `--yes`.",
    ))
}
