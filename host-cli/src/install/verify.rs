//! Waits until the installed system answers by ssh, with the right host key and the right system.

use crate::control;
use crate::error::{fault, tail};
use crate::ssh::Target;
use crate::ssh::classify::{Ending, explain};
use crate::ssh::pin::{self, HostKey};
use crate::ui::Ui;
use crate::ui::format::duration;
use anyhow::{Context, Result};
use cygnet_protocol::event::State;
use cygnet_protocol::fault::{Fault, FaultCode};
use std::io::IsTerminal;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The pause between two tries.
const PAUSE: Duration = Duration::from_secs(3);
/// How often another host key must be seen before it is believed: an address may pass from machine to machine.
const WRONG_KEYS: u32 = 3;
/// How long the installed system may refuse our key; it may still be starting.
const DENIED_FOR: Duration = Duration::from_secs(60);
/// How often a person hears that we still wait.
const STILL_EVERY: Duration = Duration::from_secs(30);

/// Which host key the installed system must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// This one.
    Pinned(HostKey),
    /// One of these, which the system on the disks had before and the agent has told.
    Kept(Vec<HostKey>),
    /// The one that is known for the host.
    Known,
    /// Any: it makes a new one.
    Any,
}

impl Key {
    /// The key of the agent's connection, if ssh has told it.
    pub fn of(key: Option<HostKey>) -> Self {
        key.map_or(Key::Known, Key::Pinned)
    }

    /// The keys that the agent has found on the disks; if it could read none, the one that is known for the host.
    pub fn kept(lines: &[String]) -> Self {
        match lines.iter().filter_map(|line| HostKey::of(line)).collect::<Vec<_>>() {
            none if none.is_empty() => Key::Known,
            keys => Key::Kept(keys),
        }
    }
}

/// What one try showed.
#[derive(Debug)]
enum Seen {
    /// It runs this system.
    System(String),
    /// It does not answer, or not as it should.
    Nothing(Fault),
}

/// What makes ssh take this host key and no other; `dir` must outlive the connection.
pub fn options(target: &Target, key: &Key, dir: &Path) -> Result<Vec<String>> {
    Ok(match key {
        Key::Pinned(key) => pin::only(std::slice::from_ref(key), dir)?,
        Key::Kept(keys) => pin::only(keys, dir)?,
        Key::Known => {
            // Of two values the first counts.
            let strict = ["-o".to_owned(), "StrictHostKeyChecking=yes".to_owned()];
            strict.into_iter().chain(target.key_options()?).collect()
        }
        Key::Any => unverified(target, dir)?,
    })
}

/// Waits for `patience` at most; gives the time it took. `options` are those of [`options`].
pub fn wait(
    ui: &Ui,
    target: &Target,
    key: &Key,
    options: &[String],
    toplevel: &str,
    patience: Duration,
) -> Result<Duration> {
    let begun = Instant::now();
    ui.status("Waiting for the installed system to answer …");
    let (mut wrong_keys, mut denied_since, mut told) = (0, None::<Instant>, Instant::now());
    let mut card_told = false;
    loop {
        // Whoever has a key that nobody knows is not told a password.
        let may_ask = denied_since.is_some() && *key != Key::Any;
        let last = match look(target, options, may_ask)? {
            Seen::System(system) if system == toplevel => return Ok(begun.elapsed()),
            Seen::System(system) => Fault::new(
                FaultCode::NotVerified,
                "The Pi answers, but runs another system than the one installed.",
                format!("It runs {}, not {toplevel}.", if system.is_empty() { "no NixOS" } else { &system }),
                "If it has booted from its card again, `cygnet status HOST` says why; without a switch on the card, take the card out or \
                 mend the boot order.",
            ),
            Seen::Nothing(fault) => fault,
        };
        // The card runs again, and its agent knows why.
        if last.code == FaultCode::NotVerified {
            match back_on_card(target) {
                Some(Back::Failed(fault)) => return Err(fault.into()),
                Some(Back::Started) if !card_told => {
                    card_told = true;
                    ui.warning(
                        "the card's system has started again, not the SSD's: switch the Pi off, pull its card, and switch it on",
                    );
                }
                Some(Back::Started) | None => {}
            }
        }
        wrong_keys = if last.code == FaultCode::HostKeyChanged { wrong_keys + 1 } else { 0 };
        denied_since = match last.code {
            FaultCode::AccessDenied => denied_since.or_else(|| Some(Instant::now())),
            _ => None,
        };
        let final_word = wrong_keys >= WRONG_KEYS || denied_since.is_some_and(|since| since.elapsed() > DENIED_FOR);
        if final_word || begun.elapsed() + PAUSE > patience {
            return Err(not_verified(&target.given, last, begun.elapsed()));
        }
        if told.elapsed() > STILL_EVERY {
            told = Instant::now();
            ui.status(&format!("  still waiting after {}: {}", duration(begun.elapsed()), last.what));
        }
        std::thread::sleep(PAUSE);
    }
}

/// What the card's agent says if it runs again.
#[derive(Debug, PartialEq, Eq)]
enum Back {
    /// The trial has failed.
    Failed(Fault),
    /// It was started, and knows of no trial: this card can't pass on to the SSD.
    Started,
}

fn back_on_card(target: &Target) -> Option<Back> {
    let (_session, mut control) = control::connect(target).ok()?;
    judge(control.status().ok()?.state)
}

fn judge(state: State) -> Option<Back> {
    match state {
        State::Failed { fault, .. } => {
            Some(fault).filter(|fault| fault.code == FaultCode::TrialFailed).map(Back::Failed)
        }
        // The agent that has installed is in none of these until it goes down.
        State::Waiting => Some(Back::Started),
        State::Installing { .. }
        | State::Receiving
        | State::Interrupted { .. }
        | State::Installed
        | State::Rebooting => None,
    }
}

/// Says that a key was not verified, if it was not. `dir` is that of [`options`].
pub fn tell_unverified(ui: &Ui, key: &Key, dir: &Path) {
    if *key == Key::Any {
        ui.warning(&not_compared(pin::recorded(dir).and_then(|key| key.fingerprint())));
    }
}

/// The options with which any host key will do, and with which nothing is given to whoever has it: no password, no agent's
/// socket. What comes of it is that the system runs which was installed, not that nobody sits in between.
fn unverified(target: &Target, dir: &Path) -> Result<Vec<String>> {
    let options = [
        "UserKnownHostsFile=/dev/null",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=no",
        "BatchMode=yes",
        "PasswordAuthentication=no",
        "KbdInteractiveAuthentication=no",
        "ForwardAgent=no",
        "UpdateHostKeys=no",
    ];
    let mut options: Vec<String> =
        options.into_iter().flat_map(|option| ["-o".to_owned(), option.to_owned()]).collect();
    options.extend(pin::recording_options(target, dir)?);
    Ok(options)
}

/// What a person should know of a key that was not verified.
fn not_compared(fingerprint: Option<String>) -> String {
    let key = fingerprint.map(|fingerprint| format!(" ({fingerprint})")).unwrap_or_default();
    format!(
        "The new system's ssh host key{key} is new, and nothing has verified it. Compare it with the one on the Pi's console \
         before you type a password there or trust it."
    )
}

/// One try, on a connection of its own.
fn look(target: &Target, key_options: &[String], may_ask: bool) -> Result<Seen> {
    // Which key is right was decided when the installation began; no option of the person's may weaken that.
    let mut command = target.command_with(key_options);
    command.args(["-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "LogLevel=ERROR"]);
    // A password is asked for only once it is clear that nothing else is accepted.
    if !(may_ask && std::io::stdin().is_terminal()) {
        command.args(["-o", "BatchMode=yes"]);
    }
    let remote = "readlink -f /run/current-system";
    let output = command
        .args(["-T", "--", &target.host, remote])
        .stdin(Stdio::null())
        .output()
        .context("running ssh to look at the installed system")?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(Seen::System(stdout.trim().to_owned()));
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let fault = explain(Ending {
        host: &target.given,
        command: remote,
        exit: output.status.code(),
        stderr: &stderr,
        stdout: "",
        keys: &target.keys(None),
    });
    Ok(match fault.code {
        // ssh works, the link isn't there: the card's system, or something else.
        FaultCode::NoAgent => Seen::System(tail(&stdout)),
        _ => Seen::Nothing(fault),
    })
}

fn not_verified(host: &str, last: Fault, waited: Duration) -> anyhow::Error {
    let waited = duration(waited);
    if last.code == FaultCode::NotVerified {
        return last.into();
    }
    let (cause, remedy) = match last.code {
        FaultCode::HostKeyChanged => (
            "It has another ssh host key than the card had; the configuration makes its own, or another machine has \
             taken the address."
                .to_owned(),
            format!(
                "If the new system is meant to have a key of its own, install with `--new-host-key`. Compare the key on its \
                 console before you trust it; `ssh-keygen -R {host}` forgets the old one."
            ),
        ),
        FaultCode::AccessDenied => (
            "Its host key is right, but it accepts none of our keys for that user.".to_owned(),
            "Add your public key to `users.users.root.openssh.authorizedKeys.keys`, or verify as the user that may log in: \
             `ssh USER@HOST readlink -f /run/current-system`."
                .to_owned(),
        ),
        _ => (
            format!("Last seen: {} {}", last.what, last.cause),
            "Look at the Pi's console or LEDs: it may still be booting, have another address, or not boot.".to_owned(),
        ),
    };
    fault(
        FaultCode::NotVerified,
        format!("The system is installed, but {host} was not seen to run it within {waited}."),
        cause,
        remedy,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::fault_of;

    #[test]
    fn whatever_goes_wrong_it_is_not_verified() {
        for code in [FaultCode::HostKeyChanged, FaultCode::AccessDenied, FaultCode::Unreachable, FaultCode::NotVerified]
        {
            let error = not_verified("pi", Fault::new(code, "w", "c", "r"), Duration::from_secs(1));
            assert_eq!(fault_of(&error).code, FaultCode::NotVerified);
        }
    }

    #[test]
    fn a_host_whose_key_nobody_knows_is_told_nothing() {
        use clap::Parser;
        let words =
            ["cygnet", "discover", "-o", "PasswordAuthentication=yes", "-o", "BatchMode=no", "-o", "ForwardAgent=yes"];
        let target = Target::new("pi.local", &crate::cli::Cli::parse_from(words).global).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let command = target.command_with(&unverified(&target, dir.path()).unwrap());
        let words: Vec<String> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        // Of two values the first counts, ssh_config(5).
        for (option, value) in [
            ("BatchMode", "yes"),
            ("PasswordAuthentication", "no"),
            ("KbdInteractiveAuthentication", "no"),
            ("ForwardAgent", "no"),
        ] {
            let first = words.iter().find_map(|word| word.strip_prefix(&format!("{option}=")));
            assert_eq!(first, Some(value), "{option}: {words:?}");
        }
    }

    #[test]
    fn a_trial_that_failed_is_told_by_the_agent_and_nothing_else_is() {
        use cygnet_protocol::event::Phase;
        let failed = |code| State::Failed { phase: Phase::Handover, fault: Fault::new(code, "w", "c", "r") };
        assert!(
            matches!(judge(failed(FaultCode::TrialFailed)), Some(Back::Failed(fault)) if fault.code == FaultCode::TrialFailed)
        );
        assert_eq!(judge(failed(FaultCode::DiskFull)), None);
        assert_eq!(judge(State::Waiting), Some(Back::Started));
        assert_eq!(judge(State::Rebooting), None);
    }

    #[test]
    fn without_a_recorded_key_the_known_one_must_be_right() {
        assert_eq!(Key::of(None), Key::Known);
        assert_eq!(Key::kept(&["garbage".into()]), Key::Known);
        assert!(
            matches!(Key::kept(&["ssh-ed25519 AAAA".into(), "ssh-rsa BBBB".into()]), Key::Kept(keys) if keys.len() == 2)
        );
    }
}
