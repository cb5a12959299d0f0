//! Asking the person before anything is destroyed.

use super::decide::short;
use crate::error::fault;
use crate::ssh::Target;
use crate::ui::Ui;
use crate::ui::format::bytes;
use anyhow::Result;
use cygnet_protocol::event::Phase;
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::message::Status;
use cygnet_protocol::plan::{Mode, Plan};

/// What the person said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    Yes,
    /// Start from the beginning.
    Fresh,
    /// Leave it.
    No,
}

/// Refuses what can't be a digest before anything is built or connected to.
pub fn check_digest(digest: &str) -> Result<()> {
    let digest = digest.trim();
    if (12..=64).contains(&digest.len()) && digest.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(fault(
        FaultCode::BadRequest,
        format!("{digest:?} is no digest of a plan."),
        "A digest is 64 hex digits; at least the first 12 have to be given.",
        "Take it from `cygnet plan HOST …`, which shows it on its last line.",
    ))
}

/// Asks whether the plan is to be carried out.
pub fn destroy(ui: &Ui, target: &Target, plan: &Plan) -> Result<()> {
    if !ui.can_ask() {
        return Err(declined(&target.given, plan.digest.short()));
    }
    let question = match plan.mode {
        Mode::Destroy => "Install? This destroys what is listed above.",
        Mode::Format => "Install? Nothing that is there is destroyed; what the layout lacks is made.",
        Mode::Mount => "Install onto what is there? Nothing is formatted.",
    };
    match ui.ask(question, &["yes", "no"])? {
        "yes" => Ok(()),
        _ => Err(declined(&target.given, plan.digest.short())),
    }
}

/// Asks whether to go on with an installation that is there already, or to attach to one that runs.
pub fn go_on(ui: &Ui, target: &Target, status: &Status, attach: bool) -> Result<Answer> {
    let Some(job) = &status.job else { return Ok(Answer::Yes) };
    if !ui.can_ask() {
        return Err(declined(&target.given, short(&job.digest)));
    }
    let done = match job.phase {
        phase if phase >= Phase::Receive => {
            format!(" {} store paths ({}) are there already.", job.paths_done, bytes(job.bytes_done))
        }
        _ => String::new(),
    };
    let phase = job.phase.title();
    if attach {
        ui.show(&format!("This installation (digest {}) runs on the Pi already: {phase}.{done}", short(&job.digest)));
        return Ok(match ui.ask("Follow it, and send what is missing?", &["yes", "no"])? {
            "yes" => Answer::Yes,
            _ => Answer::No,
        });
    }
    ui.show(&format!(
        "An installation with this layout (digest {}) was interrupted: {phase}.{done}",
        short(&job.digest)
    ));
    Ok(match ui.ask("Go on with it, or start afresh?", &["yes", "fresh", "no"])? {
        "yes" => Answer::Yes,
        "fresh" => Answer::Fresh,
        _ => Answer::No,
    })
}

/// Nothing happens without a yes.
pub fn declined(host: &str, digest: &str) -> anyhow::Error {
    fault(
        FaultCode::Declined,
        "Nothing was done, because nobody said yes.",
        "The answer was no, or there is no terminal to ask on.",
        format!("To say yes without a terminal, give `--yes {}` to `cygnet install {host} …`.", short(digest)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_hex_and_long_enough() {
        for good in ["0123456789ab", "0123456789ABCDEF", " e3b0c44298fc\n"] {
            assert!(check_digest(good).is_ok(), "{good}");
        }
        for bad in ["", "yes", "0123456789a", "0123456789ag", &"0".repeat(65)] {
            assert!(check_digest(bad).is_err(), "{bad} was accepted");
        }
    }
}
