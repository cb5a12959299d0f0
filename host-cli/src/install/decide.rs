//! What the state the agent is in calls for. Pure.

use crate::error::fault;
use anyhow::Result;
use cygnet_protocol::event::State;
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::message::Status;

/// What the person wants.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The layout's hash.
    pub layout: String,
    /// The system.
    pub toplevel: String,
    /// The digest given with `--yes`.
    pub yes: Option<String>,
    /// `--fresh`.
    pub fresh: bool,
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Ask for a plan and start from the beginning.
    Begin,
    /// Go on with the interrupted installation where it was; what was formatted stays.
    GoOn {
        /// Its plan.
        digest: String,
        /// The person has said so already.
        sure: bool,
    },
    /// Follow the installation that runs.
    Attach {
        /// Its plan.
        digest: String,
        /// The person has said so already.
        sure: bool,
    },
}

/// Does `given` stand for `whole`? Twelve digits are enough.
pub fn stands_for(given: &str, whole: &str) -> bool {
    let given = given.trim().to_ascii_lowercase();
    given.len() >= 12 && whole.starts_with(&given)
}

/// Decides.
pub fn decide(status: &Status, wish: &Wish) -> Result<Decision> {
    let job = status.job.as_ref();
    let named = job.filter(|job| wish.yes.as_deref().is_some_and(|yes| stands_for(yes, &job.digest)));
    match &status.state {
        State::Installing { .. } | State::Receiving => {
            let same =
                job.filter(|job| job.toplevel == wish.toplevel && (job.layout == wish.layout || named.is_some()));
            match same {
                Some(job) => Ok(Decision::Attach { digest: job.digest.clone(), sure: named.is_some() }),
                None => Err(fault(
                    FaultCode::NotNow,
                    "Another installation is running on the Pi.",
                    job.map_or("The agent doesn't say which.".to_owned(), |job| {
                        format!("It installs {}, digest {}.", job.toplevel, short(&job.digest))
                    }),
                    "Follow it with `cygnet logs HOST --follow`, or stop it with `cygnet abort HOST`.",
                )),
            }
        }
        State::Rebooting => Err(fault(
            FaultCode::NotNow,
            "The Pi is rebooting.",
            "An installation has just ended, or somebody has asked for it.",
            "Wait a minute and look with `cygnet status HOST`.",
        )),
        State::Waiting | State::Failed { .. } | State::Interrupted { .. } | State::Installed => {
            let resumable = job.filter(|job| job.resumable && job.layout == wish.layout && !wish.fresh);
            match (resumable, &wish.yes) {
                (Some(job), None) => Ok(Decision::GoOn { digest: job.digest.clone(), sure: false }),
                (Some(job), Some(_)) if named.is_some() => {
                    Ok(Decision::GoOn { digest: job.digest.clone(), sure: true })
                }
                // `--yes` names another plan than the interrupted one: then that is what is meant.
                (Some(_), Some(_)) | (None, _) => Ok(Decision::Begin),
            }
        }
    }
}

/// The digits that are shown.
pub fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::fault_of;
    use cygnet_protocol::event::{JobStatus, Phase};
    use cygnet_protocol::fault::Fault;

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn status(state: State, resumable: bool) -> Status {
        let json = serde_json::json!({
            "version": "1", "host-name": "pi", "board": "b", "serial": "s", "system": "aarch64-linux",
            "state": state, "running-disk": null, "uptime-seconds": 1, "memory-total": 1, "memory-available": 1,
            "agent-peak-memory": 1,
            "job": JobStatus {
                digest: DIGEST.into(), layout: "L".into(), toplevel: "T".into(), phase: Phase::Receive, resumable,
                paths_done: 3, bytes_done: 4, secrets: Vec::new(), extra_files: None,
            },
        });
        serde_json::from_value(json).unwrap()
    }

    fn wish(yes: Option<&str>) -> Wish {
        Wish { layout: "L".into(), toplevel: "T".into(), yes: yes.map(str::to_owned), fresh: false }
    }

    fn failed() -> State {
        State::Failed { phase: Phase::Receive, fault: Fault::internal("w", "c") }
    }

    #[test]
    fn an_idle_agent_begins() {
        let mut idle = status(State::Waiting, false);
        assert_eq!(decide(&idle, &wish(None)).unwrap(), Decision::Begin);
        idle.job = None;
        assert_eq!(decide(&idle, &wish(Some(DIGEST))).unwrap(), Decision::Begin);
    }

    #[test]
    fn an_interrupted_installation_of_the_same_layout_is_gone_on_with() {
        for state in [failed(), State::Interrupted { phase: Phase::Receive }] {
            let status = status(state, true);
            let go_on = |sure| Decision::GoOn { digest: DIGEST.into(), sure };
            assert_eq!(decide(&status, &wish(None)).unwrap(), go_on(false));
            assert_eq!(decide(&status, &wish(Some("E3B0C44298FC"))).unwrap(), go_on(true));
            assert_eq!(decide(&status, &wish(Some("000000000000"))).unwrap(), Decision::Begin);
            assert_eq!(decide(&status, &Wish { fresh: true, ..wish(None) }).unwrap(), Decision::Begin);
            assert_eq!(decide(&status, &Wish { layout: "M".into(), ..wish(None) }).unwrap(), Decision::Begin);
            let other = Wish { toplevel: "U".into(), ..wish(None) };
            assert_eq!(decide(&status, &other).unwrap(), go_on(false), "a mended system goes onto the same layout");
        }
        assert_eq!(decide(&status(failed(), false), &wish(None)).unwrap(), Decision::Begin);
    }

    #[test]
    fn a_running_installation_is_attached_to_if_it_is_ours() {
        for state in [State::Receiving, State::Installing { phase: Phase::Format }] {
            let status = status(state, false);
            let attach = |sure| Decision::Attach { digest: DIGEST.into(), sure };
            assert_eq!(decide(&status, &wish(None)).unwrap(), attach(false));
            assert_eq!(decide(&status, &wish(Some(DIGEST))).unwrap(), attach(true));
            let other = Wish { toplevel: "U".into(), ..wish(Some(DIGEST)) };
            assert_eq!(fault_of(&decide(&status, &other).unwrap_err()).code, FaultCode::NotNow);
        }
    }

    #[test]
    fn eleven_digits_stand_for_nothing() {
        assert!(!stands_for(&DIGEST[..11], DIGEST));
        assert!(stands_for(&format!(" {}\n", &DIGEST[..12]), DIGEST));
        assert!(!stands_for("", ""));
    }
}
