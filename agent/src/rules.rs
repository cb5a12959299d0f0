//! What is legal in which state: one exhaustive match, so that a new request or state cannot be forgotten.

use cygnet_protocol::event::{Phase, State};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::message::Request;

/// Whether `request` may be carried out now; if not, why and what to do.
pub fn permit(state: &State, request: &Request) -> Result<(), Fault> {
    use State::{Failed, Installed, Installing, Interrupted, Rebooting, Receiving, Waiting};
    match (request, state) {
        (Request::Status | Request::Follow { .. } | Request::Disks, _) => Ok(()),

        // Who says so knows what is lost; and where a disk keeps everything else, it must go all the same.
        (Request::Reboot { force: true }, _) => Ok(()),

        (Request::Plan { .. }, Installing { .. } | Receiving) => Err(not_now(
            "An installation is running.",
            "Follow it with `cygnet logs HOST --follow`, or stop it with `cygnet abort HOST`.",
        )),
        (Request::Reboot { force: false }, Installing { .. } | Receiving) => Err(not_now(
            "An installation is running.",
            "Stop it with `cygnet abort HOST` first; if it does not stop, `cygnet reboot HOST --force`.",
        )),
        (
            Request::Plan { .. } | Request::Reboot { force: false },
            Waiting | Failed { .. } | Interrupted { .. } | Installed,
        ) => Ok(()),

        // Whether it attaches to the running installation, goes on with an old one or begins is the agent's to see.
        (
            Request::Install { .. },
            Waiting | Failed { .. } | Interrupted { .. } | Installed | Installing { .. } | Receiving,
        ) => Ok(()),

        // Those of the present installation are in use, or in their places.
        (Request::ExtraFiles { .. }, Installing { .. } | Receiving) => Err(not_now(
            "An installation is running.",
            "Follow it with `cygnet logs HOST --follow`, or stop it with `cygnet abort HOST`.",
        )),
        (Request::ExtraFiles { .. }, Waiting | Failed { .. } | Interrupted { .. } | Installed) => Ok(()),

        (Request::QueryValid { .. } | Request::Substitute { .. }, Receiving) => Ok(()),
        (Request::QueryValid { .. } | Request::Substitute { .. }, Installing { .. }) => Err(not_now(
            "The installation is not receiving store paths at the moment.",
            "Follow it with `cygnet logs HOST --follow`; it asks for them after it has mounted the target.",
        )),
        (
            Request::QueryValid { .. } | Request::Substitute { .. },
            Waiting | Failed { .. } | Interrupted { .. } | Installed,
        ) => Err(not_now(
            "No target is mounted, so there is no store to put paths into.",
            "Start or go on with an installation: `cygnet install HOST …`.",
        )),

        (Request::Abort, Installing { phase: Phase::Handover }) => {
            Err(not_now("The new system is installed and the Pi goes down.", "There is nothing left to abort."))
        }
        (Request::Abort, Installing { .. } | Receiving) => Ok(()),
        (Request::Abort, Waiting | Failed { .. } | Interrupted { .. } | Installed) => {
            Err(not_now("No installation is running.", "There is nothing to abort."))
        }

        (_, Rebooting) => Err(not_now(
            "The Pi is rebooting.",
            "Wait for the new system, or for the agent to come back: `cygnet discover`. If it does not go down, `cygnet reboot HOST --force`.",
        )),
    }
}

/// The refusal of a request that is fine, but not now.
pub fn not_now(why: &str, remedy: &str) -> Fault {
    Fault::new(FaultCode::NotNow, format!("Not now: {why}"), "The agent does one thing at a time.", remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_is_not_disturbed() {
        let running = State::Installing { phase: Phase::Format };
        let plan =
            Request::Plan { disko: serde_json::json!({}), closure: None, mode: Default::default(), boot_from: None };
        let bytes = cygnet_protocol::secret::Secret::new(vec![7]);
        let extra = Request::ExtraFiles { id: 1, at: 0, total: 1, bytes };
        for request in [&plan, &Request::Reboot { force: false }, &extra] {
            assert_eq!(permit(&running, request).unwrap_err().code, FaultCode::NotNow);
            assert_eq!(permit(&State::Receiving, request).unwrap_err().code, FaultCode::NotNow);
            assert!(permit(&State::Waiting, request).is_ok());
        }
        assert!(permit(&running, &Request::Abort).is_ok());
        assert!(permit(&State::Waiting, &Request::Abort).is_err());
        assert!(permit(&State::Rebooting, &Request::Status).is_ok());
        assert!(permit(&running, &Request::Disks).is_ok());
        assert!(permit(&State::Rebooting, &plan).is_err());
    }

    #[test]
    fn a_forced_reboot_is_allowed_in_every_state() {
        let fault = Fault::new(FaultCode::StepFailed, "w", "c", "r");
        let phase = Phase::Format;
        let states = [
            State::Waiting,
            State::Installing { phase },
            State::Installing { phase: Phase::Handover },
            State::Receiving,
            State::Failed { phase, fault },
            State::Interrupted { phase },
            State::Installed,
            State::Rebooting,
        ];
        for state in states {
            assert!(permit(&state, &Request::Reboot { force: true }).is_ok(), "{state:?}");
        }
        assert!(permit(&State::Rebooting, &Request::Reboot { force: false }).is_err());
    }
}
