//! `cygnet status`: who the agent is and what it does.

use crate::control;
use crate::install::decide::short;
use crate::ssh::Target;
use crate::ui::Ui;
use crate::ui::format::{bytes, duration};
use anyhow::Result;
use cygnet_protocol::event::State;
use cygnet_protocol::message::Status;
use std::time::Duration;

/// Carries it out.
pub fn run(ui: &Ui, target: &Target) -> Result<()> {
    let (_session, mut control) = control::connect(target)?;
    let status = control.status()?;
    if ui.json() {
        return ui.record(&status);
    }
    ui.data(&text(&status))
}

/// For a person.
fn text(status: &Status) -> String {
    let mut lines: Vec<(&str, String)> = vec![
        ("Pi", format!("{} ({}, {})", status.host_name, status.board, status.system)),
        ("Serial", status.serial.clone()),
        (
            "Agent",
            format!("cygnetd {}, up for {}", status.version, duration(Duration::from_secs(status.uptime_seconds))),
        ),
        ("State", state(&status.state)),
    ];
    if let Some(job) = &status.job {
        lines.push(("Installation", format!("{} (digest {})", job.toplevel, short(&job.digest))));
        lines.push((
            "",
            format!("{}; {} paths, {} in the target store", job.phase.title(), job.paths_done, bytes(job.bytes_done)),
        ));
        if job.resumable {
            lines.push(("", "`cygnet install` with the same layout goes on without formatting".into()));
        }
    }
    if let Some(disk) = &status.running_disk {
        lines.push(("Runs from", disk.clone()));
    }
    let memory = format!("{} of {} available", bytes(status.memory_available), bytes(status.memory_total));
    lines.push(("Memory", format!("{memory}, the agent took {} at most", bytes(status.agent_peak_memory))));
    lines.extend(status.addresses.iter().map(|address| ("Address", address.clone())));
    lines.extend(status.host_keys.iter().map(|key| ("Host key", key.clone())));
    lines.iter().map(|(name, value)| format!("{name:<13} {value}\n")).collect()
}

fn state(state: &State) -> String {
    match state {
        State::Waiting => "waiting for an installation".into(),
        State::Installing { phase } => format!("installing: {}", phase.title()),
        State::Receiving => "installing: waiting for store paths from `cygnet install` or `cygnet push`".into(),
        State::Failed { phase, fault } => {
            let text = format!("failed: {}\n{fault}", phase.title());
            text.replace('\n', &format!("\n{:14}", ""))
        }
        State::Interrupted { phase } => format!("interrupted: {}", phase.title()),
        State::Installed => "installed; `cygnet reboot` starts the new system".into(),
        State::Rebooting => "rebooting".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::event::Phase;
    use cygnet_protocol::fault::Fault;

    #[test]
    fn a_failure_is_told_in_full() {
        let text = state(&State::Failed { phase: Phase::Format, fault: Fault::internal("What.", "Cause.") });
        assert!(text.starts_with("failed: Making file systems and pools\n              What."), "{text}");
        assert!(text.contains("cause:  Cause."), "{text}");
    }
}
