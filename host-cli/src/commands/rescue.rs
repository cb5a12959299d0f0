//! `cygnet rescue`: back to the card, what is on the SSD to start, and another generation to try. No pool is imported.
//!
//! What the disk says of its systems is shown, and never becomes a command: a generation is chosen from the menu that was read, and
//! the agent changes that menu only for its digest.

use super::boot::{record, switch};
use super::reboot::ask;
use crate::cli;
use crate::control;
use crate::error::{fault, tail};
use crate::ssh::{Target, remote};
use crate::ui::Ui;
use crate::ui::format::duration;
use anyhow::{Context, Result};
use cygnet_protocol::boot::menu::{Entry, Menu};
use cygnet_protocol::event::State;
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::text;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::{Duration, Instant};

/// The pause between two looks whether the card's system answers.
const PAUSE: Duration = Duration::from_secs(3);
/// The most that is read of the menus, bytes.
const MOST: u64 = 1 << 20;

/// A menu, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    partition: String,
    #[serde(flatten)]
    menu: Menu,
}

/// Carries it out.
pub fn run(ui: &Ui, target: &Target, arguments: &cli::Rescue) -> Result<()> {
    if runs(target)? == "ssd" {
        if !arguments.yes {
            ask(ui, &format!("{} runs the system on its SSD. Reboot it into its card?", target.given))?;
        }
        switch(target, Some("card"), true)?;
        wait_for_card(ui, target, arguments.timeout)?;
    }
    let failed = why(target);
    let menus = menus(target, "cygnetd menu")?;
    match wanted(arguments, &menus)? {
        Some((found, entry)) => start(ui, target, arguments, found, entry),
        None => show(ui, target, failed.as_ref(), &menus),
    }
}

fn runs(target: &Target) -> Result<String> {
    Ok(record(&switch(target, None, false)?)["runs"].as_str().unwrap_or_default().to_owned())
}

fn wait_for_card(ui: &Ui, target: &Target, patience: Duration) -> Result<()> {
    let begun = Instant::now();
    ui.status("Waiting for the card's system to answer …");
    while runs(target).ok().as_deref() != Some("card") {
        if begun.elapsed() > patience {
            return Err(fault(
                FaultCode::NotVerified,
                format!("The card's system has not answered within {}.", duration(begun.elapsed())),
                "It takes a minute or two to start; or the card has other networks than the SSD's system, or another ssh host key.",
                "Look at the serial console or the LED; the next start is the card's in any case.",
            ));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// What the card's agent says of the trial that failed, if one did.
fn why(target: &Target) -> Option<Fault> {
    let (_session, mut control) = control::connect(target).ok()?;
    match control.status().ok()?.state {
        State::Failed { fault, .. } => Some(fault),
        State::Waiting
        | State::Installing { .. }
        | State::Receiving
        | State::Interrupted { .. }
        | State::Installed
        | State::Rebooting => None,
    }
}

fn menus(target: &Target, command: &str) -> Result<Vec<Found>> {
    let said = remote::as_root(target, command, MOST)?;
    if said.code != 0 {
        return Err(fault(
            FaultCode::BadRequest,
            format!("{} shows no system that could be started.", target.given),
            format!("It said: {}", tail(&said.err)),
            "See with `cygnet disks HOST` whether the SSD is there; nothing was changed.",
        ));
    }
    let lines = said.out.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).context("reading the menu that the Pi shows")).collect()
}

/// The entry that was asked for, and the menu it is in.
fn wanted<'a>(arguments: &cli::Rescue, menus: &'a [Found]) -> Result<Option<(&'a Found, &'a Entry)>> {
    let is_it = |entry: &Entry| match (arguments.generation, &arguments.entry) {
        (Some(number), _) => entry.generation() == Some(number),
        (None, Some(label)) => entry.label == *label,
        (None, None) => false,
    };
    if arguments.generation.is_none() && arguments.entry.is_none() {
        return Ok(None);
    }
    let mut found = menus.iter().flat_map(|found| found.menu.entries.iter().map(move |entry| (found, entry)));
    let of_menu = found.find(|(_, entry)| is_it(entry));
    of_menu.map(Some).ok_or_else(|| {
        fault(
            FaultCode::BadRequest,
            "There is no such system in the SSD's menu; nothing was changed.",
            "The generation was deleted, or never had an entry.",
            "Choose one of those that `cygnet rescue HOST` shows.",
        )
    })
}

/// Has an entry start, once, on trial.
fn start(ui: &Ui, target: &Target, arguments: &cli::Rescue, found: &Found, entry: &Entry) -> Result<()> {
    // Both are of a disk, and become words of a command: they are what we expect, or nothing is done.
    let is_plain =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !is_plain(&entry.label) || !is_plain(&found.menu.digest) {
        return Err(fault(
            FaultCode::Garbage,
            "The label of that entry has other characters than letters, digits, dot, hyphen and underscore.",
            "The menu was not written by NixOS, or is damaged.",
            "Change the line DEFAULT in extlinux/extlinux.conf by hand, on the card's system.",
        ));
    }
    if !arguments.yes {
        ask(
            ui,
            &format!("Start {} ({}) on {}, once, on trial?", text::line(&entry.title), entry.label, found.partition),
        )?;
    }
    if found.menu.default.as_deref() != Some(&entry.label) {
        menus(target, &format!("cygnetd menu {} {}", entry.label, found.menu.digest))?;
    }
    let reboot = !arguments.no_reboot;
    let now = switch(target, Some("trial"), reboot)?;
    if ui.json() {
        return ui.record(&json!({"type": "rescue", "entry": entry, "partition": found.partition, "switch": now}));
    }
    ui.status(&format!(
        "{}: {} starts {}.",
        target.given,
        entry.label,
        if reboot { "now, on trial" } else { "next, on trial" }
    ));
    ui.status(&format!(
        "If it is what you want, `cygnet boot {} --ssd --no-reboot` keeps it; else the Pi is back on its card by itself.",
        target.given
    ));
    Ok(())
}

fn show(ui: &Ui, target: &Target, failed: Option<&Fault>, menus: &[Found]) -> Result<()> {
    if ui.json() {
        return ui.record(&json!({"type": "rescue", "failed": failed, "menus": menus}));
    }
    ui.data(&rendered(&target.given, failed, menus))
}

fn rendered(host: &str, failed: Option<&Fault>, menus: &[Found]) -> String {
    let mut lines = Vec::new();
    if let Some(fault) = failed {
        lines.extend([fault.what.clone(), format!("  cause:  {}", fault.cause), format!("  remedy: {}", fault.remedy)]);
        lines.push(String::new());
    }
    for found in menus {
        lines.push(format!("{}, systems that can be started:", found.partition));
        for entry in &found.menu.entries {
            let mark = if found.menu.default.as_deref() == Some(&entry.label) { "*" } else { " " };
            lines.push(format!("  {mark} {:<20} {}", entry.label, entry.title));
            lines.extend(entry.system.iter().map(|system| format!("                         {system}")));
        }
        lines.push("  (* starts if nothing else is said)".to_owned());
        lines.push(String::new());
    }
    lines.extend([
        "What can be done from here:".to_owned(),
        format!("  cygnet rescue {host} --generation N       start an older one, on trial"),
        format!("  cygnet logs {host} --boot -1              what the system that failed has said"),
        format!("  cygnet disks {host}                       what is on the disks"),
        format!("  cygnet install {host} … --mode mount      install anew onto the file systems that are there"),
        format!("  cygnet boot {host} --trial                try what starts by itself once more"),
    ]);
    lines.iter().map(|line| text::line(line).trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::error::fault_of;
    use clap::Parser;
    use cygnet_protocol::boot::menu;

    fn found() -> Vec<Found> {
        let file =
            b"DEFAULT nixos-default\nLABEL nixos-default\nMENU LABEL NixOS\nLINUX k\nLABEL nixos-7-default\nLINUX k\n\
            APPEND init=/nix/store/x/init\n";
        vec![Found { partition: "/dev/sda1".into(), menu: menu::parse(file).unwrap() }]
    }

    fn arguments(words: &[&str]) -> cli::Rescue {
        let cli = Cli::try_parse_from([&["cygnet", "rescue", "pi"], words].concat()).unwrap();
        match cli.command {
            Command::Rescue(arguments) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_the_agent_prints_is_read() {
        let found = found().remove(0);
        let line = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Found>(&line).unwrap(), found);
    }

    #[test]
    fn a_generation_is_chosen_from_the_menu() {
        let menus = found();
        let label =
            |words: &[&str]| wanted(&arguments(words), &menus).map(|found| found.map(|(_, entry)| entry.label.clone()));
        assert_eq!(label(&[]).unwrap(), None);
        assert_eq!(label(&["--generation", "7"]).unwrap().unwrap(), "nixos-7-default");
        assert_eq!(label(&["--entry", "nixos-default"]).unwrap().unwrap(), "nixos-default");
        let error = label(&["--generation", "8"]).unwrap_err();
        assert_eq!(fault_of(&error).code, FaultCode::BadRequest);
        assert!(Cli::try_parse_from(["cygnet", "rescue", "pi", "--generation", "7", "--entry", "x"]).is_err());
    }

    #[test]
    fn what_is_shown_says_what_can_be_done() {
        let fault = Fault::new(FaultCode::TrialFailed, "The trial failed: B04-PANIC: x", "A cause.", "A remedy.");
        let text = rendered("pi", Some(&fault), &found());
        for part in [
            "B04-PANIC",
            "* nixos-default",
            "nixos-7-default",
            "/nix/store/x",
            "cygnet rescue pi --generation N",
            "--boot -1",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
