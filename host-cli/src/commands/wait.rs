//! `cygnet wait`: until a Pi is online, or runs the installed system.

mod candidate;

use crate::cli::{self, Goal};
use crate::control;
use crate::discover::known::KnownHosts;
use crate::discover::{Browser, Change, Pi};
use crate::error::{fault, fault_of, tail};
use crate::ssh::Target;
use crate::ssh::classify::{Ending, explain};
use crate::ui::Ui;
use crate::ui::format::duration;
use anyhow::{Context, Result};
use candidate::{Candidate, found, named};
use cygnet_protocol::event::State;
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::message::Status;
use cygnet_protocol::text;
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The pause between two tries, in which announcements are listened to.
const PAUSE: Duration = Duration::from_secs(2);
/// How long one connection may take to come about, seconds: there may be another address to try.
const CONNECT: &str = "ConnectTimeout=5";
/// How often another host key must be seen before it is believed: an address may pass from machine to machine.
const WRONG_KEYS: u32 = 3;
/// How long our key may be refused; the Pi may still be starting.
const DENIED_FOR: Duration = Duration::from_secs(60);
/// How long other Pis may come to light before the only one is taken for it.
const ONLY_ONE: Duration = Duration::from_secs(3);

/// What one try showed.
#[derive(Debug)]
enum Seen {
    /// An agent answered.
    Agent(Box<Status>),
    /// No agent is there, but a NixOS that has none: this system.
    System(String),
    /// Neither.
    Nothing(Fault),
}

/// What that means for the wait.
#[derive(Debug)]
enum Verdict {
    Reached,
    /// Not yet; with what to tell.
    NotYet(String),
    /// It will not come by waiting.
    Never(Fault),
}

/// How it ended, for a script.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Reached<'a> {
    r#type: &'static str,
    goal: &'static str,
    /// What to give to the next command.
    host: &'a str,
    /// Where it was reached, if that was only announced; its key is the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
    /// Milliseconds.
    took: u64,
}

/// Carries it out.
pub fn run(ui: &Ui, global: &cli::Global, arguments: &cli::Wait) -> Result<()> {
    // What is no host is said at once, unless it is the name of an announcement, which is a host's name as well.
    if let Some(host) = &arguments.host {
        Target::new(host, global)?;
    }
    let mut global = global.clone();
    global.ssh_options.push(CONNECT.into());
    let mut wait = Wait {
        ui,
        goal: arguments.goal,
        given: arguments.host.as_deref(),
        // Without mDNS a host that was given can still be tried.
        browser: match Browser::start(KnownHosts::of(&global)) {
            Ok(browser) => Some(browser),
            Err(error) if arguments.host.is_none() => return Err(error),
            Err(error) => {
                ui.warning(&format!("{error:#}; only ssh is tried"));
                None
            }
        },
        global,
        begun: Instant::now(),
        told: BTreeMap::new(),
        last: None,
        heard: None,
        wrong_keys: 0,
        denied: None,
    };
    ui.status(&format!(
        "Waiting for {} to be {} …",
        arguments.host.as_deref().unwrap_or("a Pi"),
        arguments.goal.name()
    ));
    wait.until(arguments.timeout)
}

struct Wait<'a> {
    ui: &'a Ui,
    global: cli::Global,
    goal: Goal,
    given: Option<&'a str>,
    browser: Option<Browser>,
    begun: Instant,
    /// What was told last of each host and announcement, so that it is told once.
    told: BTreeMap<String, String>,
    /// The last answer to a try.
    last: Option<Fault>,
    /// What the Pi announced last.
    heard: Option<String>,
    wrong_keys: u32,
    denied: Option<Instant>,
}

impl Wait<'_> {
    fn until(&mut self, timeout: Duration) -> Result<()> {
        let end = self.begun + timeout;
        loop {
            for candidate in self.candidates()? {
                let seen = look(&candidate.target, self.goal)?;
                let place = candidate.place();
                match judge(self.goal, &seen) {
                    Verdict::Reached => return self.reached(&candidate, &seen),
                    // Whoever announced that address, it is not the host that is waited for: no reason to give up on that.
                    Verdict::NotYet(_) | Verdict::Never(_)
                        if candidate.is_hearsay && matches!(seen, Seen::Nothing(_)) =>
                    {
                        if let Seen::Nothing(fault) = seen {
                            self.tell(&place, format!("{place}: {}", fault.what));
                        }
                    }
                    Verdict::NotYet(text) => {
                        self.tell(&place, format!("{place}: {text}"));
                        if let Seen::Nothing(fault) = seen {
                            self.doubt(&fault)?;
                            self.last = Some(fault);
                        } else {
                            (self.wrong_keys, self.denied) = (0, None);
                            self.last = Some(Fault::new(FaultCode::NotVerified, text, "", ""));
                            // The other addresses lead to the same Pi.
                            break;
                        }
                    }
                    Verdict::Never(fault) => return Err(fault.into()),
                }
                if Instant::now() >= end {
                    break;
                }
            }
            if Instant::now() >= end {
                return Err(self.expired(timeout));
            }
            self.listen((Instant::now() + PAUSE).min(end));
        }
    }

    /// Whom to try, the best first.
    fn candidates(&self) -> Result<Vec<Candidate>> {
        let announced: Vec<&Pi> = self.browser.iter().flat_map(Browser::pis).collect();
        let Some(given) = self.given else {
            return match announced.as_slice() {
                [] => Ok(vec![]),
                [_] if self.begun.elapsed() < ONLY_ONE => Ok(vec![]),
                [pi] => found(pi, &self.global),
                several => Err(which(several)),
            };
        };
        let called: Vec<&Pi> = announced.into_iter().filter(|pi| pi.is_called(given)).collect();
        named(given, &called, &self.global)
    }

    fn listen(&mut self, until: Instant) {
        let Some(browser) = &mut self.browser else {
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            return;
        };
        let mut news = Vec::new();
        while let Some(change) = browser.next(until) {
            let pi = change.pi();
            if self.given.is_some_and(|given| !pi.is_called(given)) {
                continue;
            }
            let text = match &change {
                Change::Gone(pi) => format!("{} is gone", pi.name),
                Change::Found(pi) | Change::Changed(pi) => {
                    let address = pi.addresses.first().map_or("no address yet", String::as_str);
                    format!("{} announces itself at {address}: {}", pi.name, pi.condition())
                }
            };
            self.heard = Some(text.clone());
            news.push((pi.name.clone(), text));
            if matches!(change, Change::Found(_)) && self.given.is_some() {
                break;
            }
        }
        news.into_iter().for_each(|(name, text)| self.tell(&name, text));
    }

    fn tell(&mut self, of: &str, text: String) {
        let text = text::line(&text);
        if self.told.get(of) != Some(&text) {
            self.ui.status(&format!("  {:>9}  {text}", duration(self.begun.elapsed())));
            self.told.insert(of.to_owned(), text);
        }
    }

    /// Counts what may pass but does not if it stays.
    fn doubt(&mut self, fault: &Fault) -> Result<()> {
        self.wrong_keys = if fault.code == FaultCode::HostKeyChanged { self.wrong_keys + 1 } else { 0 };
        self.denied = match fault.code {
            FaultCode::AccessDenied => self.denied.or_else(|| Some(Instant::now())),
            _ => None,
        };
        let denied = self.denied.is_some_and(|since| since.elapsed() > DENIED_FOR);
        if self.wrong_keys >= WRONG_KEYS || denied { Err(fault.clone().into()) } else { Ok(()) }
    }

    fn reached(&self, candidate: &Candidate, seen: &Seen) -> Result<()> {
        let Candidate { host, address, .. } = candidate;
        let (state, system) = match seen {
            Seen::Agent(status) => (Some(status.state.name()), None),
            Seen::System(system) => (None, Some(system.as_str())),
            Seen::Nothing(_) => (None, None),
        };
        if let Seen::Agent(status) = seen {
            let network = status.network.as_ref();
            for warning in network.into_iter().flat_map(|network| network.diagnosis.iter().chain(&network.warnings)) {
                self.ui.warning(&warning.to_string());
            }
        }
        if !self.ui.json() {
            return self.ui.data(host);
        }
        let took = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (goal, address) = (self.goal.name(), address.as_deref());
        self.ui.record(&Reached { r#type: "reached", goal, host, address, state, system, took })
    }

    fn expired(&self, timeout: Duration) -> anyhow::Error {
        let (goal, waited) = (self.goal.name(), duration(timeout));
        let heard = self.heard.as_deref().map(|heard| format!("Last heard: {heard}.")).unwrap_or_default();
        match (&self.last, self.given) {
            (None, None) if self.heard.is_none() => super::discover::nobody(timeout),
            (None, _) => fault(
                FaultCode::NotFound,
                format!("No Pi was {goal} within {waited}."),
                if heard.is_empty() { "None announced itself.".to_owned() } else { heard },
                "Look at the Pi's console or LED, which tell what it is doing.",
            ),
            (Some(last), given) => {
                let code = match (self.goal, last.code) {
                    (Goal::Installed, _) => FaultCode::NotVerified,
                    (Goal::Online, FaultCode::NotVerified) => FaultCode::Unreachable,
                    (Goal::Online, code) => code,
                };
                let cause = [heard.as_str(), "Last seen:", last.what.as_str(), last.cause.as_str()];
                let cause: Vec<&str> = cause.into_iter().filter(|part| !part.is_empty()).collect();
                let remedy = match last.remedy.as_str() {
                    "" => "Look with `cygnet status HOST` and `cygnet logs HOST`; wait longer with `--timeout 30m`.",
                    remedy => remedy,
                };
                let host = given.unwrap_or("the Pi");
                fault(code, format!("{host} was not {goal} within {waited}."), cause.join(" "), remedy)
            }
        }
    }
}

fn which(several: &[&Pi]) -> anyhow::Error {
    let names: Vec<&str> = several.iter().map(|pi| pi.name.as_str()).collect();
    fault(
        FaultCode::BadRequest,
        format!("{} Pis announce themselves; which one is meant?", several.len()),
        format!("They are {}.", names.join(", ")),
        format!("Name it: `cygnet wait {} …`.", names.first().unwrap_or(&"HOST")),
    )
}

/// One try, on a connection of its own.
fn look(target: &Target, goal: Goal) -> Result<Seen> {
    let error = match control::connect(target).and_then(|(_session, mut control)| control.status()) {
        Ok(status) => return Ok(Seen::Agent(Box::new(status))),
        Err(error) => fault_of(&error),
    };
    match (goal, error.code) {
        (Goal::Installed, FaultCode::NoAgent) => look_without_agent(target, error),
        _ => Ok(Seen::Nothing(error)),
    }
}

/// ssh works, but no agent answers: the installed system has none, and a card may have one that does not run. The program alone
/// says nothing: `nixosModules.installed` needs it, too; a card starts it as a service.
fn look_without_agent(target: &Target, error: Fault) -> Result<Seen> {
    let remote =
        "systemctl is-enabled --quiet cygnetd.service 2>/dev/null && echo agent; readlink -f /run/current-system";
    let mut command = target.command();
    command.args(target.key_options()?).args([
        "-o",
        "ControlMaster=no",
        "-o",
        "ControlPath=none",
        "-o",
        "LogLevel=ERROR",
    ]);
    let output = command
        .args(["-T", "--", &target.host, remote])
        .stdin(Stdio::null())
        .output()
        .context("running ssh to look at the installed system")?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(255) {
        let exit = output.status.code();
        let keys = target.keys(None);
        let ending = Ending { host: &target.given, command: remote, exit, stderr: &stderr, stdout: "", keys: &keys };
        return Ok(Seen::Nothing(explain(ending)));
    }
    Ok(match stdout.trim() {
        system if system.starts_with("/nix/store/") && !system.contains(['\n', ' ']) => Seen::System(system.to_owned()),
        _ => Seen::Nothing(Fault { cause: format!("{} {}", error.cause, tail(&stderr)).trim().to_owned(), ..error }),
    })
}

/// What was seen, held against what is waited for. Pure.
fn judge(goal: Goal, seen: &Seen) -> Verdict {
    match (goal, seen) {
        (Goal::Online, Seen::Agent(_)) | (Goal::Installed, Seen::System(_)) => Verdict::Reached,
        (Goal::Installed, Seen::Agent(status)) => installed(status),
        (Goal::Online, Seen::System(_)) => Verdict::NotYet("it runs a system without an agent".into()),
        (_, Seen::Nothing(fault)) => match fault.code {
            FaultCode::AgentTooNew | FaultCode::AgentTooOld | FaultCode::BadRequest => Verdict::Never(fault.clone()),
            // Without a key in the known hosts and without anybody to ask, waiting changes nothing.
            FaultCode::HostKeyChanged if fault.what.contains("could not be verified") => Verdict::Never(fault.clone()),
            // It came up, and it is no Pi of ours: an installed system, or a card without the agent.
            FaultCode::NoAgent => Verdict::NotYet(format!("{} {}", fault.what, fault.cause)),
            _ => Verdict::NotYet(fault.what.clone()),
        },
    }
}

fn installed(status: &Status) -> Verdict {
    match &status.state {
        State::Installed => Verdict::Reached,
        State::Failed { phase, fault } => Verdict::Never(Fault {
            what: format!("The installation failed ({}): {}", phase.title(), fault.what),
            ..fault.clone()
        }),
        State::Waiting => Verdict::NotYet("waiting; no installation runs, `cygnet install` begins one".into()),
        State::Interrupted { phase } => {
            Verdict::NotYet(format!("interrupted ({}); the same `cygnet install` goes on with it", phase.title()))
        }
        State::Receiving => Verdict::NotYet("installing: receiving the closure".into()),
        State::Installing { phase } => Verdict::NotYet(format!("installing: {}", phase.title())),
        State::Rebooting => Verdict::NotYet("rebooting into the installed system".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::event::Phase;

    fn agent(state: State) -> Seen {
        let status = serde_json::from_value(serde_json::json!({
            "version": "1", "host-name": "pi", "board": "b", "serial": "s", "system": "aarch64-linux",
            "state": state, "running-disk": null, "uptime-seconds": 1, "memory-total": 1, "memory-available": 1,
            "agent-peak-memory": 1,
        }));
        Seen::Agent(Box::new(status.unwrap()))
    }

    #[test]
    fn installed_is_when_only_the_reboot_is_missing_or_done() {
        assert!(matches!(judge(Goal::Installed, &agent(State::Installed)), Verdict::Reached));
        assert!(matches!(judge(Goal::Installed, &Seen::System("/nix/store/x".into())), Verdict::Reached));
        for state in [State::Waiting, State::Receiving, State::Rebooting, State::Installing { phase: Phase::Format }] {
            assert!(matches!(judge(Goal::Online, &agent(state.clone())), Verdict::Reached));
            assert!(matches!(judge(Goal::Installed, &agent(state)), Verdict::NotYet(_)));
        }
    }

    #[test]
    fn what_cannot_come_is_not_waited_for() {
        let fault = Fault::new(FaultCode::DiskFull, "w", "c", "r");
        let failed = agent(State::Failed { phase: Phase::Receive, fault });
        match judge(Goal::Installed, &failed) {
            Verdict::Never(fault) => assert_eq!(fault.code, FaultCode::DiskFull),
            other => panic!("{other:?}"),
        }
        assert!(matches!(judge(Goal::Online, &failed), Verdict::Reached));
        let too_new = Seen::Nothing(Fault::new(FaultCode::AgentTooNew, "w", "c", "r"));
        assert!(matches!(judge(Goal::Online, &too_new), Verdict::Never(_)));
        let away = Seen::Nothing(Fault::new(FaultCode::Unreachable, "w", "c", "r"));
        assert!(matches!(judge(Goal::Online, &away), Verdict::NotYet(_)));
    }
}
