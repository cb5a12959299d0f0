//! `cygnet logs`: what happened on the Pi, and with `--follow` what happens.

use crate::cli;
use crate::control;
use crate::error::{fault, fault_of, tail};
use crate::ssh::{Target, remote};
use crate::ui::Ui;
use crate::ui::timeline::line;
use anyhow::Result;
use cygnet_protocol::event::{Event, EventKind, State};
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::message::Reply;

/// What the card's agent keeps of a system whose trial failed.
const TRIAL: &str = "/var/lib/cygnet/trial.log";
/// The most that is shown of a boot, bytes.
const MOST: u64 = 1 << 20;

/// Carries it out.
pub fn run(ui: &Ui, target: &Target, arguments: &cli::Logs) -> Result<()> {
    if let Some(boot) = arguments.boot {
        return of_boot(ui, target, boot);
    }
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

/// The journal of an earlier boot, or what the system on trial has left for the card's agent.
fn of_boot(ui: &Ui, target: &Target, boot: i32) -> Result<()> {
    let journal = format!("journalctl --boot {boot} --no-pager --output short-monotonic --lines 2000");
    let command = match boot {
        -1 => format!("if [ -s {TRIAL} ]; then cat {TRIAL}; else {journal}; fi"),
        _ => journal,
    };
    let said = remote::as_root(target, &command, MOST)?;
    if said.code != 0 || said.out.is_empty() {
        return Err(fault(
            FaultCode::BadRequest,
            format!("{} has no log of the boot {boot}.", target.given),
            match said.err.is_empty() {
                true => "Its journal is kept in memory only, and no trial has failed there.".to_owned(),
                false => format!("It said: {}", tail(&said.err)),
            },
            "Keep the journal on disk (`services.journald.storage = \"persistent\"`); `cygnet logs HOST` shows what the agent that runs has \
             done.",
        ));
    }
    if ui.json() {
        return said.out.lines().try_for_each(|line| ui.record(&serde_json::json!({"type": "log", "line": line})));
    }
    ui.data(&format!("{}\n", said.out))
}

fn show(ui: &Ui, event: &Event) -> Result<()> {
    if ui.json() { ui.record(&Reply::Event(event.clone())) } else { ui.data(&line(event)) }
}
