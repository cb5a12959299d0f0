//! `cygnet abort`: stops the installation and waits until the agent has let go of the disks.

use super::reboot::ask;
use crate::cli;
use crate::control::{self, Control};
use crate::interrupt;
use crate::ssh::Target;
use crate::ui::Ui;
use anyhow::Result;
use cygnet_protocol::event::{EventKind, State};
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::message::Request;

/// Carries it out.
pub fn run(ui: &Ui, target: &Target, arguments: &cli::Abort) -> Result<()> {
    let (session, mut control) = control::connect(target)?;
    if !arguments.yes {
        ask(ui, &format!("Stop the installation on {}?", target.given))?;
    }
    let mut events = Control::beside(&session)?;
    events.follow(0)?;
    control.accepted(&Request::Abort)?;
    interrupt::set_farewell("The agent was told to stop and does so by itself.");
    ui.status("Stopping the installation …");
    loop {
        let EventKind::StateChanged { to } = events.next_event()?.kind else { continue };
        match to {
            State::Installing { .. } | State::Receiving => {}
            State::Failed { fault, .. } if fault.code != FaultCode::Aborted => return Err(fault.into()),
            State::Failed { .. } | State::Waiting | State::Interrupted { .. } => break,
            State::Installed | State::Rebooting => {
                return Err(crate::error::fault(
                    FaultCode::NotNow,
                    "The installation was complete before it could be stopped.",
                    "Its last phase doesn't take long.",
                    "Look with `cygnet status HOST`.",
                ));
            }
        }
    }
    ui.status("Stopped; the disks are unmounted.");
    if ui.json() {
        ui.record(&serde_json::json!({"type": "aborted"}))?;
    }
    Ok(())
}
