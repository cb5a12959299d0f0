//! What the report says.

use super::gather::ReportInput;
use crate::console::screen::without_numbers;
use cygnet_protocol::event::{Event, EventKind, State};
use cygnet_protocol::online::diagnosis::Diagnosis;
use cygnet_protocol::online::link::{LinkState, NetworkReport};
use cygnet_protocol::online::observation::KeyKind;
use std::fmt::Write;

/// The most bytes of a report.
const LIMIT: usize = 256 * 1024;
/// What a row begins with whose contents change by themselves.
const TIME: &str = "time: ";
/// What a row begins with whose numbers matter.
const ADDRESS: &str = "address: ";
/// Events, with their times, are not compared: they only grow because something else did.
const EVENTS: &str = "WHAT HAPPENED LAST";

/// The report, its lines ended as Windows, macOS and Linux all show them.
pub fn text(input: &ReportInput) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut out, input);
    let mut text = redact(out, &input.secrets.0);
    if text.len() > LIMIT - LIMIT / 8 {
        let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= LIMIT - LIMIT / 8).last().unwrap_or(0);
        text.truncate(end);
        text.push_str("\n(cut here)\n");
    }
    let mut clean = String::with_capacity(text.len() + text.len() / 16);
    for line in text.lines() {
        clean.push_str(&cygnet_protocol::text::line(line));
        clean.push_str("\r\n");
    }
    clean
}

/// The same, without what changes by itself: times, and numbers that grow or tremble. Addresses count.
pub fn without_times(text: &str) -> String {
    text.lines()
        .take_while(|line| !line.starts_with(EVENTS))
        .filter(|line| !line.starts_with(TIME))
        .map(|line| if line.starts_with(ADDRESS) { line.to_owned() } else { without_numbers(line) })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Strikes out secrets, longest first; what is shorter than eight characters would strike out too much.
pub fn redact(mut text: String, secrets: &[String]) -> String {
    let mut longest_first: Vec<&String> = secrets.iter().filter(|secret| secret.len() >= 8).collect();
    longest_first.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in longest_first {
        text = text.replace(secret.as_str(), "(secret)");
    }
    text
}

fn write(out: &mut String, input: &ReportInput) -> std::fmt::Result {
    let status = &input.status;
    let network = status.network.clone().unwrap_or_default();
    writeln!(
        out,
        "cygnet report of this Raspberry Pi. WiFi passphrases, and secrets that were given to cygnet, are struck out.\n\
         Lines with | are what hooks and tools printed, as it came: read them before you give this to anybody.\n"
    )?;
    writeln!(out, "host name: {}", status.host_name)?;
    writeln!(out, "board: {}", status.board)?;
    writeln!(out, "serial: {}", status.serial)?;
    writeln!(out, "agent: cygnetd {}, {}", status.version, status.system)?;
    writeln!(out, "runs from: {}", status.running_disk.as_deref().unwrap_or("an unknown disk"))?;
    for key in &status.host_keys {
        writeln!(out, "ssh host key: {key}")?;
    }
    writeln!(out, "{TIME}up {} s, agent for {} s", status.uptime_seconds, input.now / 1000)?;
    writeln!(
        out,
        "{TIME}memory {} MiB, {} MiB available, agent at most {} MiB",
        status.memory_total >> 20,
        status.memory_available >> 20,
        status.agent_peak_memory >> 20
    )?;
    writeln!(out, "{TIME}clock {} s since 1970, agent built at {}", input.clock.unix, input.clock.built)?;
    writeln!(out, "clock set by the network: {}", if input.clock.synchronized { "yes" } else { "no" })?;

    writeln!(out, "\nSTATE\n{}", status.state.name())?;
    match &status.state {
        State::Failed { phase, fault } => {
            writeln!(out, "failed in: {}\n{}: {fault}", phase.title(), fault.code.name())?;
        }
        State::Installing { phase } | State::Interrupted { phase } => writeln!(out, "phase: {}", phase.title())?,
        State::Waiting | State::Receiving | State::Installed | State::Rebooting => {}
    }
    if let Some(job) = &status.job {
        writeln!(out, "installation {}: {}", job.digest, job.toplevel)?;
        writeln!(out, "store paths received: {}, {} bytes", job.paths_done, job.bytes_done)?;
        writeln!(out, "can be gone on with: {}", if job.resumable { "yes" } else { "no" })?;
    }
    online(out, &network, &status.addresses)?;
    radio(out, input)?;

    writeln!(out, "\nKERNEL")?;
    input.kernel.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    writeln!(out, "\nFIRMWARE FILES")?;
    input.firmware.iter().try_for_each(|file| writeln!(out, "{file}"))?;
    writeln!(out, "\n{EVENTS} (seconds since the agent started)")?;
    input.events.iter().try_for_each(|event| writeln!(out, "{}", event_line(event)))
}

fn online(out: &mut String, network: &NetworkReport, addresses: &[String]) -> std::fmt::Result {
    let online = if network.online { network.via.as_deref().unwrap_or("yes") } else { "no" };
    writeln!(out, "\nONLINE\n{online}")?;
    addresses.iter().try_for_each(|address| writeln!(out, "{ADDRESS}{address}"))?;
    for link in &network.links {
        let state = match link.state {
            LinkState::Up => "ok",
            LinkState::Busy => "busy",
            LinkState::Down => "DOWN",
            LinkState::Warning => "warning",
            LinkState::Pending => "-",
            LinkState::Unused => "not used",
        };
        writeln!(out, "{:<13} {state:<9} {}", link.link.title(), link.detail)?;
    }
    let diagnoses: Vec<&Diagnosis> = network.diagnosis.iter().chain(&network.warnings).collect();
    for diagnosis in diagnoses {
        writeln!(out, "\nDIAGNOSIS\n{diagnosis}")?;
    }
    if !network.tried.is_empty() {
        writeln!(out, "tried: {}", network.tried.join(", "))?;
    }
    Ok(())
}

fn radio(out: &mut String, input: &ReportInput) -> std::fmt::Result {
    writeln!(out, "\nSETTINGS\ncountry: {}", input.country.as_deref().unwrap_or("not set"))?;
    for network in &input.known {
        let key = match network.key {
            KeyKind::Open => "open",
            KeyKind::Passphrase => "passphrase",
            KeyKind::Pmk => "pre-shared key (WPA2 only)",
        };
        writeln!(out, "network: {} ({key}{})", network.ssid, if network.hidden { ", hidden" } else { "" })?;
    }
    input.problems.iter().try_for_each(|problem| writeln!(out, "problem: {problem}"))?;
    writeln!(out, "\nRADIO SWITCHES")?;
    input.rfkill.iter().try_for_each(|switch| writeln!(out, "{switch}"))?;
    writeln!(out, "\nIN THE AIR")?;
    for bss in &input.air {
        let name = bss.ssid.as_ref().map_or_else(|| "(hidden)".into(), ToString::to_string);
        let keys = if bss.key_mgmt.is_empty() { "open".into() } else { bss.key_mgmt.join(" ") };
        let more = match (bss.h2e_only, bss.pmf_required) {
            (true, _) => " H2E only",
            (_, true) => " PMF required",
            _ => "",
        };
        // The signal is never the same twice.
        writeln!(out, "{} {} MHz {name}: {keys}{more}", bss.bssid, bss.frequency)?;
        writeln!(out, "{TIME}  {} dBm", bss.signal)?;
    }
    Ok(())
}

/// One event in one line: `   12.3 receive: started`.
pub fn event_line(event: &Event) -> String {
    let what = match &event.kind {
        EventKind::PhaseStarted => "started".to_owned(),
        EventKind::PhaseFinished { took } => format!("finished in {took} ms"),
        EventKind::Skipped { why } => format!("skipped: {why}"),
        EventKind::Task { text } => text.clone(),
        EventKind::Output { line } => format!("| {line}"),
        EventKind::Progress { done, total, unit, .. } => format!("{done} of {total} {unit}"),
        EventKind::Warning { text } => format!("warning: {text}"),
        EventKind::Failed { fault } => format!("FAILED: {}: {}", fault.code.name(), fault.what),
        EventKind::StateChanged { to } => format!("state: {}", to.name()),
        EventKind::Link { report } => format!("{}: {:?} {}", report.link.title(), report.state, report.detail),
        EventKind::Diagnosed { diagnosis } => format!("{} {}", diagnosis.code.name(), diagnosis.what),
        EventKind::Online { online: true, via } => format!("online: {}", via.as_deref().unwrap_or("-")),
        EventKind::Online { online: false, .. } => "offline".to_owned(),
        EventKind::HostKeys { keys } => format!("host keys: {}", keys.join(", ")),
        EventKind::Unknown => "?".to_owned(),
    };
    let phase = event.phase.map(|phase| format!("{}: ", phase.name())).unwrap_or_default();
    format!("{:>6}.{} {phase}{}", event.millis / 1000, event.millis / 100 % 10, what.trim_end())
}

#[cfg(test)]
mod tests {
    use super::super::gather::Secrets;
    use super::*;
    use crate::console::screen::tests::view;
    use cygnet_protocol::event::Phase;
    use cygnet_protocol::fault::{Fault, FaultCode};
    use cygnet_protocol::online::observation::{Bss, Clock, KnownNetwork};
    use cygnet_protocol::online::ssid::Ssid;

    fn input() -> ReportInput {
        let ssid = Ssid::new("Käfer\u{1b}").unwrap();
        let known = |key| KnownNetwork { ssid: ssid.clone(), key, hidden: true };
        let output = EventKind::Output { line: "psk=hunter2hunter2 \u{1b}[2J".into() };
        ReportInput {
            status: view(false).status,
            now: 65_000,
            clock: Clock { unix: 1, built: 2, synchronized: false },
            country: Some("DE".into()),
            known: vec![known(KeyKind::Passphrase), known(KeyKind::Pmk)],
            problems: vec!["it is bad".into()],
            air: vec![Bss {
                ssid: Some(ssid.clone()),
                bssid: "02:00:00:00:00:01".into(),
                frequency: 2412,
                signal: -50,
                key_mgmt: vec!["sae".into()],
                h2e_only: true,
                pmf_required: true,
                siblings: vec![],
            }],
            rfkill: vec!["rfkill0 wlan phy0 soft=0 hard=0".into()],
            kernel: vec!["[    1.000000] brcmfmac: hello".into()],
            firmware: vec!["/lib/firmware/brcm/x.bin".into()],
            events: vec![Event { seq: 1, millis: 12_345, phase: Some(Phase::Receive), kind: output }],
            secrets: Secrets(vec!["hunter2hunter2".into(), "ab".repeat(32)]),
        }
    }

    #[test]
    fn it_tells_everything_but_secrets() {
        let text = text(&input());
        for says in [
            "board: Raspberry Pi 4 Model B",
            "ssh host key: ssh-ed25519 SHA256:",
            "Key accepted  DOWN",
            "W10-WRONG-PASSPHRASE",
            "tried: power save off, WPA2 only",
            "country: DE",
            "network: Käfer\\x1b (passphrase, hidden)",
            "pre-shared key (WPA2 only)",
            "problem: it is bad",
            "02:00:00:00:00:01 2412 MHz Käfer\\x1b: sae H2E only",
            "rfkill0 wlan",
            "brcmfmac: hello",
            "brcm/x.bin",
            "    12.3 receive: | psk=(secret) \u{fffd}[2J",
        ] {
            assert!(text.contains(says), "{says:?} in\n{text}");
        }
        assert!(
            !text.contains("hunter2")
                && !format!("{:?}", input()).replace("line: \"psk=hunter2hunter2", "").contains("hunter2")
        );
        assert!(text.ends_with("\r\n") && text.matches('\n').count() == text.matches("\r\n").count());
        assert!(text.lines().all(|line| !line.trim_end_matches('\r').contains(char::is_control)));
    }

    #[test]
    fn only_what_is_new_makes_a_new_report() {
        let mut later = input();
        later.now += 1000;
        later.status.uptime_seconds += 1;
        later.status.memory_available += 1 << 20;
        later.air[0].signal = -70;
        later.events.clear();
        if let Some(diagnosis) = later.status.network.as_mut().and_then(|network| network.diagnosis.as_mut()) {
            diagnosis.what = diagnosis.what.replace("3 times", "14 times");
        }
        assert_eq!(without_times(&text(&later)), without_times(&text(&input())));
        let fault = Fault::new(FaultCode::DiskFull, "It is full.", "c", "r");
        later.status.state = State::Failed { phase: Phase::Receive, fault };
        assert_ne!(without_times(&text(&later)), without_times(&text(&input())));
        assert!(text(&later).contains("disk-full: It is full."));
    }

    #[test]
    fn it_has_a_bound() {
        let mut long = input();
        long.kernel = vec!["🦢".repeat(100); 2000];
        let text = text(&long);
        assert!(text.len() <= LIMIT && text.ends_with("(cut here)\r\n"), "{}", text.len());
    }
}
