//! The end: the Pi reboots, and the new system announces itself.

use super::{Installation, Outcome};
use cygnet_protocol::event::State;
use cygnet_protocol::fault::Fault;
use std::time::Duration;

/// How long clients get to read the last events before the network goes down.
const GRACE: Duration = Duration::from_secs(2);

/// The handover phase.
pub fn hand_over(installation: &Installation<'_>) -> Result<Outcome, Fault> {
    if !installation.job.options.reboot {
        installation.agent.set_state(State::Installed);
        return Ok(Outcome::Skipped("the client asked for no reboot; `cygnet reboot` does it".into()));
    }
    installation.task("The new system is installed; rebooting into it");
    installation.agent.set_state(State::Rebooting);
    reboot_soon();
    Ok(Outcome::Done)
}

/// Asks systemd to reboot, after a moment.
pub fn reboot_soon() {
    std::thread::spawn(|| {
        std::thread::sleep(GRACE);
        if let Err(error) = crate::run::capture(&["systemctl", "reboot"]) {
            tracing::error!("rebooting: {error}; do it by hand");
        }
    });
}
