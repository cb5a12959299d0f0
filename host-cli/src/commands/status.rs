//! `cygnet status`: who the agent is and what it does.

use super::boot;
use crate::control;
use crate::error::fault_of;
use crate::install::decide::short;
use crate::ssh::Target;
use crate::ui::Ui;
use crate::ui::format::{bytes, duration};
use anyhow::Result;
use cygnet_protocol::event::State;
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::message::{Status, TRIAL};
use cygnet_protocol::online::diagnosis::Diagnosis;
use cygnet_protocol::online::link::{LinkReport, LinkState, NetworkReport};
use std::time::Duration;

/// What stands below the names of the rows.
const HANGING: &str = "              ";

/// Carries it out.
pub fn run(ui: &Ui, target: &Target) -> Result<()> {
    let (_session, mut control) = match control::connect(target) {
        // An installed system has no agent, and perhaps a switch.
        Err(error) if fault_of(&error).code == FaultCode::NoAgent => return installed(ui, target, error),
        connected => connected?,
    };
    let status = control.status()?;
    if ui.json() {
        return ui.record(&status);
    }
    let switch = if control.has(TRIAL) { boot::switch(target, None, false).unwrap_or_default() } else { String::new() };
    ui.data(&format!("{}{}", text(&status), of_switch(&switch)))
}

/// What can be known of a Pi that runs its installed system.
fn installed(ui: &Ui, target: &Target, error: anyhow::Error) -> Result<()> {
    let Ok(switch) = boot::switch(target, None, false) else { return Err(error) };
    // On the card there should be an agent, and it is what was asked for.
    if boot::record(&switch)["runs"] != "ssd" {
        return Err(error);
    }
    if ui.json() {
        return ui.record(&boot::record(&switch));
    }
    ui.data(&of_switch(&switch))
}

/// `name: value` lines, with the names that a person reads.
fn of_switch(text: &str) -> String {
    let names = [("runs", "Runs"), ("switch", "Switch"), ("next", "Next start")];
    let line = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        let (_, shown) = names.iter().find(|(known, _)| *known == name)?;
        Some(format!("{shown:<13} {value}\n"))
    };
    text.lines().filter_map(line).collect()
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
    lines.extend(status.claim.iter().map(|claim| ("Claimed by", claim.clone())));
    lines.extend(status.target.iter().map(|target| ("To become", target.clone())));
    if let Some(job) = &status.job {
        lines.push(("Installation", format!("{} (digest {})", job.toplevel, short(&job.digest))));
        lines.push((
            "",
            format!("{}; {} paths, {} in the target store", job.phase.title(), job.paths_done, bytes(job.bytes_done)),
        ));
        if job.resumable {
            lines.push(("", "`cygnet install` with the same layout goes on where it was".into()));
        }
    }
    if let Some(disk) = &status.running_disk {
        lines.push(("Runs from", disk.clone()));
    }
    let memory = format!("{} of {} available", bytes(status.memory_available), bytes(status.memory_total));
    lines.push(("Memory", format!("{memory}, the agent took {} at most", bytes(status.agent_peak_memory))));
    lines.extend(status.addresses.iter().map(|address| ("Address", address.clone())));
    if let Some(report) = &status.network {
        lines.extend(network(report));
    }
    lines.extend(status.host_keys.iter().map(|key| ("Host key", key.clone())));
    lines.iter().map(|(name, value)| format!("{name:<13} {}\n", hanging(value))).collect()
}

/// The way online: through what, and what is in the way.
fn network(report: &NetworkReport) -> Vec<(&'static str, String)> {
    let via = report.via.as_deref().map(|via| format!(" through {via}")).unwrap_or_default();
    let mut lines = vec![("Network", format!("{}{via}", if report.online { "online" } else { "not online" }))];
    let link = |link: &LinkReport| {
        let detail = if link.detail.is_empty() { String::new() } else { format!(": {}", link.detail) };
        format!("{}{detail}", link.link.title())
    };
    // With a diagnosis the chain says where it stands; without one, a link that is under way is all there is to say.
    let first = |states: &[LinkState]| report.links.iter().find(|link| states.contains(&link.state)).map(link);
    if let Some(text) = first(&[LinkState::Down]) {
        lines.push(("", format!("fails at {text}")));
    } else if !report.online
        && let Some(text) = first(&[LinkState::Busy])
    {
        lines.push(("", format!("working on {text}")));
    }
    lines.extend(report.diagnosis.iter().map(|diagnosis| ("Diagnosis", told(diagnosis))));
    lines.extend(report.warnings.iter().map(|warning| ("Warning", told(warning))));
    for (nth, tried) in report.tried.iter().enumerate() {
        lines.push((if nth == 0 { "Tried" } else { "" }, tried.clone()));
    }
    lines
}

/// What the Pi says may have line ends; no line of it begins where ours do.
fn hanging(value: &str) -> String {
    let indented = |line: &str| if line.starts_with(HANGING) { line.to_owned() } else { format!("{HANGING}{line}") };
    let mut lines = value.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |all, line| format!("{all}\n{}", indented(line)))
}

fn told(diagnosis: &Diagnosis) -> String {
    diagnosis.to_string().replace('\n', &format!("\n{:14}", ""))
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
    fn the_way_online_is_told_as_far_as_it_goes() {
        let json = serde_json::json!({
            "online": false,
            "links": [
                {"link": "scan", "state": "up"},
                {"link": "association", "state": "down", "detail": "“home”"},
                {"link": "address", "state": "pending"},
            ],
            "diagnosis": {
                "link": "association", "code": "W09-SAE-ONLY", "what": "What.", "cause": "Cause.", "remedy": "Remedy.",
                "next": "tries again within 30 s",
            },
            "tried": ["power save off", "another band"],
        });
        let lines = network(&serde_json::from_value(json).unwrap());
        let lines: Vec<String> = lines.iter().map(|(name, value)| format!("{name:<13} {value}")).collect();
        let text = lines.join("\n");
        assert_eq!(
            text,
            "Network       not online\n              fails at Association: “home”\n\
             Diagnosis     W09-SAE-ONLY What.\n                cause:  Cause.\n                remedy: Remedy.\n\
             \u{20}               next:   tries again within 30 s\nTried         power save off\n              another band"
        );
        let online = NetworkReport { online: true, via: Some("end0 (cable)".into()), ..NetworkReport::default() };
        assert_eq!(network(&online), [("Network", "online through end0 (cable)".to_owned())]);
    }

    #[test]
    fn no_line_of_the_pis_begins_as_ours_do() {
        assert_eq!(hanging("pi\nState         installed"), "pi\n              State         installed");
        assert_eq!(hanging("a\n                cause: b"), "a\n                cause: b");
    }

    #[test]
    fn what_runs_and_what_comes_next_is_told() {
        let text = of_switch("runs: ssd\nswitch: the SSD is confirmed and starts\nnext: the SSD\nother: x\n");
        assert_eq!(text, "Runs          ssd\nSwitch        the SSD is confirmed and starts\nNext start    the SSD\n");
        assert_eq!(of_switch(""), "");
    }

    #[test]
    fn a_failure_is_told_in_full() {
        let text = state(&State::Failed { phase: Phase::Format, fault: Fault::internal("What.", "Cause.") });
        assert!(text.starts_with("failed: Making file systems and pools\n              What."), "{text}");
        assert!(text.contains("cause:  Cause."), "{text}");
    }
}
