//! `cygnetd switch`: what the card's switch says, and a person's wish for the next start. On the card and on the installed system.

use super::confirm::{change, writable};
use super::file::{self, Reading};
use super::place::{self, Runs};
use super::{arm, vcio};
use crate::identity::Identity;
use cygnet_protocol::boot::switch::Act;
use cygnet_protocol::boot::way::{Way, way};
use cygnet_protocol::fault::{Fault, FaultCode};
use std::process::ExitCode;

/// What a person wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To know.
    Show,
    /// The card, at every start.
    Card,
    /// The SSD, at every start.
    Ssd,
    /// The SSD once, on trial.
    Trial,
}

impl std::str::FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "card" => Ok(Wish::Card),
            "ssd" => Ok(Wish::Ssd),
            "trial" => Ok(Wish::Trial),
            _ => Err(format!("the switch can be card, ssd or trial, not {text:?}")),
        }
    }
}

/// Carries it out; with `reboot`, and reboots then.
pub fn run(wish: Wish, reboot: bool) -> ExitCode {
    match carry_out(wish) {
        Ok(text) => {
            crate::say::out(&text);
            match reboot.then(|| crate::run::capture(&["systemctl", "reboot"])) {
                Some(Err(error)) => {
                    crate::say::err(&format!("cygnetd: rebooting: {error}"));
                    ExitCode::FAILURE
                }
                Some(Ok(_)) | None => ExitCode::SUCCESS,
            }
        }
        Err(fault) => {
            crate::say::err(&format!("cygnetd: {fault}"));
            ExitCode::FAILURE
        }
    }
}

fn carry_out(wish: Wish) -> Result<String, Fault> {
    let board = Identity::read().board;
    // Whatever the SSD's bus is: on one board only one kind of disk can be started by U-Boot.
    let ways = ["usb", "virtio", "nvme"].map(|bus| way(&board, Some(bus)));
    let first = ways.into_iter().find(|way| !matches!(way, Way::None(_)));
    match (wish, first) {
        (Wish::Show, _) => show(&board),
        (Wish::Card, _) => change(&board, Act::ToCard).map(|now| now.to_string()),
        (Wish::Ssd | Wish::Trial, Some(Way::UBoot(devices))) => {
            let act = if wish == Wish::Ssd { Act::ToSsd } else { Act::Arm };
            let (fat, _) = writable(&board)?;
            let (_, environment) = arm::environment(fat.path(), &board, &devices)?;
            file::write_environment(fat.path(), &environment.render())?;
            if wish == Wish::Trial {
                file::renumber(fat.path())?;
            }
            drop(fat);
            change(&board, act).map(|now| now.to_string())
        }
        (Wish::Trial, Some(Way::RebootOrder(order))) => {
            vcio::set_reboot_order(order).map(|()| "the firmware starts the SSD once".to_owned())
        }
        (Wish::Ssd, Some(Way::RebootOrder(_))) | (Wish::Ssd | Wish::Trial, Some(Way::None(_)) | None) => {
            Err(Fault::new(
                FaultCode::NoSwitch,
                "The card of this board cannot start the SSD.",
                "Its U-Boot has no driver for the SSD, or it is no Raspberry Pi.",
                "Pull the card, or put the SSD first in BOOT_ORDER.",
            ))
        }
    }
}

fn show(board: &str) -> Result<String, Fault> {
    let (fat, runs) = place::open(board)?;
    let runs = match runs {
        Runs::Card => "card",
        Runs::Ssd => "ssd",
    };
    let reading =
        file::read(fat.path()).map_err(|error| Fault::internal("The card's switch could not be read.", error))?;
    let says = match reading {
        Reading::Missing => "never set; the card starts".to_owned(),
        Reading::Damaged => "damaged; the card starts".to_owned(),
        Reading::Says(switch) => switch.to_string(),
    };
    Ok(format!("runs: {runs}\nswitch: {says}\nnext: {}", reading.switch().next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_one_of_three() {
        assert_eq!("trial".parse(), Ok(Wish::Trial));
        assert!("Card".parse::<Wish>().is_err() && "".parse::<Wish>().is_err());
    }
}
