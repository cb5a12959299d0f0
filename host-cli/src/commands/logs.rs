//! `cygnet logs`: what happened on the Pi, and with `--follow` what happens.

use crate::cli;
use crate::control;
use crate::error::fault_of;
use crate::ssh::Target;
use crate::ui::Ui;
use crate::ui::timeline::line;
use anyhow::Result;
use cygnet_protocol::event::{Event, EventKind, State};
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::message::Reply;

/// Carries it out.
pub fn run(ui: &Ui, target: &Target, arguments: &cli::Logs) -> Result<()> {
    let (_session, mut control) = control::connect(target)?;
    let (past, status) = control.follow(arguments.from)?;
    let mut rebooting = status.state == State::Rebooting;
    for event in &past {
        show(ui, event)?;
    }
    if !arguments.follow {
        return Ok(());
    }
    loop {
        let event = match control.next_event() {
            Ok(event) => event,
            // After a reboot there is nothing left to follow.
            Err(error) if rebooting && fault_of(&error).code == FaultCode::ConnectionLost => return Ok(()),
            Err(error) => return Err(error),
        };
        if let EventKind::StateChanged { to } = &event.kind {
            rebooting = *to == State::Rebooting;
        }
        show(ui, &event)?;
    }
}

fn show(ui: &Ui, event: &Event) -> Result<()> {
    if ui.json() { ui.record(&Reply::Event(event.clone())) } else { ui.data(&line(event)) }
}
