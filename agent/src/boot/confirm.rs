//! `cygnetd confirm`, on the installed system: it is what was wanted, and starts from now on.
//!
//! Who may say so is whoever is root here: `cygnet install` over ssh, after it has compared host key and system.

use super::arm::not_writable;
use super::file::{self, Reading};
use super::place::{self, Runs};
use crate::firmware::Firmware;
use crate::identity::Identity;
use cygnet_protocol::boot::switch::{Act, Switch};
use cygnet_protocol::fault::{Fault, FaultCode};
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Tells the trial's unit that the switch was changed; it looks at this and not at the card, which it would have to mount.
pub const CHANGED: &str = "/run/cygnet-switch-changed";
/// The exit code for: there is nothing that could be confirmed.
pub const NOTHING: u8 = 4;
/// How often, and how far apart, the card is asked for: whoever else looks at it has it for a moment.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Confirmed,
    /// It runs by itself, without a switch.
    Nothing(&'static str),
}

/// Carries it out.
pub fn run() -> ExitCode {
    match confirm() {
        Ok(Outcome::Confirmed) => {
            crate::say::out("confirmed: the SSD starts from now on; the card stays in, as switch and rescue");
            ExitCode::SUCCESS
        }
        Ok(Outcome::Nothing(why)) => {
            crate::say::out(&format!("nothing to confirm: {why}"));
            ExitCode::from(NOTHING)
        }
        Err(fault) => {
            crate::say::err(&format!("cygnetd: {fault}"));
            ExitCode::FAILURE
        }
    }
}

fn confirm() -> Result<Outcome, Fault> {
    let board = Identity::read().board;
    match place::open(&board) {
        Ok((_, Runs::Card)) => return Err(is_card()),
        Ok((fat, Runs::Ssd)) => {
            if let Some(why) = nothing(file::read(fat.path()).unwrap_or(Reading::Damaged))? {
                return Ok(Outcome::Nothing(why));
            }
        }
        Err(_) => return Ok(Outcome::Nothing("there is no card with a switch")),
    }
    change(&board, Act::Confirm)?;
    Ok(Outcome::Confirmed)
}

/// Why there is nothing to confirm.
fn nothing(reading: Reading) -> Result<Option<&'static str>, Fault> {
    match reading {
        Reading::Missing => Ok(Some("the card has no switch; this system was started without it")),
        Reading::Says(Switch::Card) => Ok(Some("the switch says card; this system was started without it")),
        Reading::Says(Switch::Gone { started: true } | Switch::Stay { .. } | Switch::Keep) => Ok(None),
        Reading::Damaged | Reading::Says(Switch::Once | Switch::Gone { started: false }) => Err(Fault::new(
            FaultCode::NotConfirmed,
            "The switch on the card does not say that this system is on trial.",
            "U-Boot has started it without writing that down: the card cannot be written, or has nothing else to start.",
            "Look at the card; then `cygnet boot HOST --ssd` to keep what runs.",
        )),
    }
}

/// Does this to the switch on the card, and tells the trial's unit. Gives what it says then.
pub fn change(board: &str, act: Act) -> Result<Switch, Fault> {
    let (fat, _) = writable(board)?;
    let now = file::read(fat.path()).map_or(Switch::Card, Reading::switch);
    let next = now.after(act).ok_or_else(|| {
        Fault::new(
            FaultCode::NoSwitch,
            format!("The switch on the card says that {now}; this is not the moment for that."),
            "Somebody else has changed it.",
            "Look with `cygnetd switch`.",
        )
    })?;
    file::write(fat.path(), next)?;
    note_change(next);
    Ok(next)
}

/// Lets others on this system know. Only a hint: the trial's unit looks at the card itself before it reboots.
pub fn note_change(now: Switch) {
    if let Err(error) = fs::write(CHANGED, now.to_string()) {
        tracing::debug!("{CHANGED} was not written: {error}");
    }
}

/// The card's FAT partition, as soon as nobody else looks at it.
pub fn writable(board: &str) -> Result<(Firmware, Runs), Fault> {
    let mut tried = 0;
    loop {
        let opened = place::open(board).and_then(|(mut fat, runs)| {
            fat.make_writable().map_err(not_writable)?;
            Ok((fat, runs))
        });
        tried += 1;
        match opened {
            Err(_) if tried < TRIES => std::thread::sleep(PAUSE),
            opened => return opened,
        }
    }
}

/// Whether somebody has changed the switch since this system started.
pub fn was_changed() -> bool {
    Path::new(CHANGED).exists()
}

fn is_card() -> Fault {
    Fault::new(
        FaultCode::NotConfirmed,
        "This is the card's own system, and not the one that was installed.",
        "The trial failed, or was never armed.",
        "Look with `cygnet status HOST` for why.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_started_by_the_switch_is_confirmed() {
        for switch in Switch::ALL {
            let may = nothing(Reading::Says(switch)).is_ok_and(|why| why.is_none());
            assert_eq!(may, switch.after(Act::Confirm).is_some(), "{switch:?}");
        }
        assert!(nothing(Reading::Missing).unwrap().is_some());
        assert!(nothing(Reading::Damaged).is_err());
    }
}
