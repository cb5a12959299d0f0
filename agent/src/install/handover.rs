//! The end: the card is told to start the SSD, on trial; the Pi reboots, and the new system announces itself.

use super::{Installation, Outcome};
use crate::boot::arm::{self, Armed};
use cygnet_protocol::event::State;
use cygnet_protocol::fault::Fault;
use cygnet_protocol::message::BootFrom;

/// The handover phase.
pub fn hand_over(installation: &Installation<'_>) -> Result<Outcome, Fault> {
    arm_trial(installation)?;
    if !installation.job.options.reboot {
        installation.agent.set_state(State::Installed);
        return Ok(Outcome::Skipped("the client asked for no reboot; `cygnet reboot` does it".into()));
    }
    installation.task("The new system is installed; rebooting into it");
    // The reboot itself comes when the phase is noted as done.
    installation.agent.set_state(State::Rebooting);
    Ok(Outcome::Done)
}

/// Has the card start the SSD once, if that is wanted and can be.
fn arm_trial(installation: &Installation<'_>) -> Result<(), Fault> {
    let board = &installation.agent.identity.board;
    let Some(wish) = installation.job.options.boot_from else { return Ok(()) };
    let way = arm::way_of(&installation.job.plan, board);
    let armed = match wish {
        BootFrom::Ssd => return Ok(()),
        BootFrom::Auto => arm::arm(&way, board),
        BootFrom::Card => Ok(arm::arm(&way, board)?),
    };
    match armed {
        Ok(Armed::Switch { release }) => {
            installation.task(format!(
                "{release} on the card starts the SSD once, on trial; without a confirmation the Pi comes back to the card"
            ));
        }
        Ok(Armed::Order(order)) => {
            installation.task(format!("The firmware starts the SSD once (set_reboot_order {order})"));
        }
        Err(fault) => installation.warn(format!("{} {} {}", fault.what, fault.cause, fault.remedy)),
    }
    Ok(())
}
