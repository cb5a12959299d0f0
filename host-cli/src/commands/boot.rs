//! `cygnet boot`: what the Pi starts next. By plain ssh, so that it is the same with the card's agent and with the installed system.

use crate::cli;
use crate::commands::reboot::ask;
use crate::error::{fault, tail};
use crate::ssh::{Target, remote};
use crate::ui::Ui;
use anyhow::Result;
use cygnet_protocol::fault::FaultCode;

/// The most that is read of what the switch says, bytes.
const MOST: u64 = 4096;

/// Carries it out.
pub fn run(ui: &Ui, target: &Target, arguments: &cli::Boot) -> Result<()> {
    let wish = wish(arguments);
    let reboot = wish.is_some() && !arguments.no_reboot;
    if let Some(wish) = wish
        && reboot
        && !arguments.yes
    {
        ask(ui, &format!("Reboot {} into {}?", target.given, if wish == "card" { "its card" } else { "its SSD" }))?;
    }
    let text = switch(target, wish, reboot)?;
    if ui.json() {
        return ui.record(&record(&text));
    }
    if wish.is_none() {
        return ui.data(&format!("{text}\n"));
    }
    ui.status(&format!("{}: {text}.{}", target.given, if reboot { " It reboots." } else { "" }));
    Ok(())
}

const fn wish(arguments: &cli::Boot) -> Option<&'static str> {
    match (arguments.card, arguments.ssd, arguments.trial) {
        (true, _, _) => Some("card"),
        (_, true, _) => Some("ssd"),
        (_, _, true) => Some("trial"),
        (false, false, false) => None,
    }
}

/// Has the Pi show its switch, or set it.
pub fn switch(target: &Target, wish: Option<&str>, reboot: bool) -> Result<String> {
    let command = ["cygnetd switch"].into_iter().chain(wish).chain(reboot.then_some("--reboot"));
    let said = remote::as_root(target, &command.collect::<Vec<_>>().join(" "), MOST)?;
    match said.code {
        0 => Ok(said.out),
        _ => Err(fault(
            FaultCode::NoSwitch,
            format!("{} did not do that.", target.given),
            format!("It said: {}", tail(&said.err)),
            "See that a card is in that a system was installed from, that this user is root there or may use sudo, and that the installed \
             system has nixosModules.installed.",
        )),
    }
}

/// `name: value` lines as an object.
pub fn record(text: &str) -> serde_json::Value {
    let pairs = text.lines().map(|line| match line.split_once(": ") {
        Some((name, value)) => (name.to_owned(), value.into()),
        None => ("switch".to_owned(), line.into()),
    });
    let mut record: serde_json::Map<String, serde_json::Value> = pairs.collect();
    record.insert("type".into(), "switch".into());
    record.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_switch_says_is_a_record() {
        let record = record("runs: card\nswitch: the SSD starts once, on trial\nnext: the SSD, on trial");
        assert_eq!(record["runs"], "card");
        assert_eq!((&record["next"], &record["type"]), (&"the SSD, on trial".into(), &"switch".into()));
        assert_eq!(super::record("the card starts")["switch"], "the card starts");
    }
}
