//! Lives with an installation until it is over: shows what happens, sends the closure when the agent asks for it,
//! comes back when the connection is lost.

use super::extra::Extra;
use super::follower::{Follower, Update, after, of_this_installation};
use crate::control::{self, Control};
use crate::error::{fault, fault_of};
use crate::interrupt;
use crate::nix::Closure;
use crate::push::caches::Caches;
use crate::push::{self, Counters};
use crate::ssh::{Session, Target};
use crate::ui::Ui;
use crate::ui::sending::Sending;
use crate::ui::summary::Sent;
use crate::ui::timeline::Timeline;
use anyhow::{Context, Result};
use cygnet_protocol::event::{Event, EventKind, Phase, State};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::message::{Reply, Request};
use cygnet_protocol::trust::Trust;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// How long to try to come back after a lost connection.
const RECONNECT_FOR: Duration = Duration::from_secs(120);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How often what moves on the screen is drawn.
const TICK: Duration = Duration::from_millis(150);
/// How long the agent may take to let go of the disks after a failure.
const FAILURE_PATIENCE: Duration = Duration::from_secs(90);
/// How long to wait for the agent's own account of a failed push.
const PUSH_PATIENCE: Duration = Duration::from_secs(3);
/// How long the agent may stay installed without rebooting; it was told not to by whoever began, then.
const REBOOT_PATIENCE: Duration = Duration::from_secs(30);
/// How often a lost push, or an agent that was restarted, is gone on with by itself.
const RETRIES: u32 = 3;

/// How an installation ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It is complete, and the Pi still runs from its card.
    Installed,
    /// The Pi reboots into it.
    Rebooting,
}

/// What the main loop is to do next.
enum Next {
    Go,
    Send,
    Resume,
    End(Ended),
}

/// An installation and whoever watches it.
pub struct Watch<'a> {
    ui: &'a Ui,
    target: &'a Target,
    closure: Arc<Closure>,
    caches: Option<Caches>,
    extra: Option<Arc<Extra>>,
    /// The same request again, behind the extra files, goes on with the installation.
    request: Request,
    reboot: bool,
    timeline: Timeline<'a>,
    seen: Option<(u64, u64)>,
    sent: Sent,
    pushing: Option<Push<'a>>,
    tries: u32,
    peak: Option<u64>,
    failing: Option<(Fault, Instant)>,
    installed: Option<Instant>,
    own_keys: Option<Vec<String>>,
}

struct Push<'a> {
    counters: Arc<Counters>,
    begun: Instant,
    shown: Option<Sending<'a>>,
}

impl<'a> Watch<'a> {
    /// Nothing was seen yet. `reboot` is what was asked for.
    pub fn new(ui: &'a Ui, target: &'a Target, closure: Arc<Closure>, request: Request, reboot: bool) -> Self {
        Self {
            ui,
            target,
            closure,
            caches: None,
            extra: None,
            request,
            reboot,
            timeline: Timeline::new(ui),
            seen: None,
            sent: Sent::default(),
            pushing: None,
            tries: 0,
            peak: None,
            failing: None,
            installed: None,
            own_keys: None,
        }
    }

    /// Has the Pi fetch from these caches first.
    pub fn with_caches(self, caches: Option<Caches>) -> Self {
        Self { caches, ..self }
    }

    /// Brings these again to an agent that was restarted.
    pub fn with_extra(self, extra: Option<Arc<Extra>>) -> Self {
        Self { extra, ..self }
    }

    /// The ssh host keys that the installed system has of its own, if it has; without them it has the card's.
    pub fn own_keys(&self) -> Option<&[String]> {
        self.own_keys.as_deref()
    }

    /// The phases with their milliseconds, what was sent, and the agent's peak memory in bytes.
    pub fn account(self) -> (Vec<(Phase, u64)>, Sent, Option<u64>) {
        (self.timeline.finished.clone(), self.sent, self.peak)
    }

    /// Watches until the installation has ended, well or not.
    pub fn see_through(&mut self, session: Session, control: Control, follower: Follower) -> Result<Ended> {
        self.farewell();
        let (mut session, mut control, mut follower) = (Arc::new(session), control, follower);
        // Without a past it was begun just now, and its state comes as an event.
        let attached = !follower.past.is_empty();
        let past = std::mem::take(&mut follower.past);
        for event in of_this_installation(&past) {
            self.show(event)?;
        }
        let mut next = match attached {
            true => {
                let state = follower.status.state.clone();
                self.on_state(&state)?
            }
            false => Next::Go,
        };
        loop {
            match next {
                Next::End(ended) => return Ok(ended),
                Next::Send => {
                    self.send(&session, &follower)?;
                    next = Next::Go;
                }
                Next::Resume => {
                    self.tries += 1;
                    self.ui.status("The agent was restarted in the middle; going on with the installation.");
                    if let Some(extra) = &self.extra {
                        match extra.send(self.ui, &mut control) {
                            // Somebody else has gone on with it; then the request only joins.
                            Err(error) if fault_of(&error).code == FaultCode::NotNow => {}
                            sent => sent?,
                        }
                    }
                    control.accepted(&self.request)?;
                    next = Next::Go;
                }
                Next::Go => match self.step(&mut control, &follower) {
                    Ok(to) => next = to,
                    Err(error) if self.may_be_back(&error) => {
                        // Nothing but the reboot is missing; whether it has come to that shows afterwards.
                        let last = self.timeline.phase() >= Some(Phase::Handover);
                        if self.reboot && (last || self.installed.is_some()) {
                            return Ok(Ended::Rebooting);
                        }
                        (session, control, follower) = self.reconnect(error)?;
                        let past = std::mem::take(&mut follower.past);
                        let (new, restarted) = after(&past, self.seen);
                        if restarted {
                            self.failing = None;
                        }
                        for event in new {
                            self.show(event)?;
                        }
                        let state = follower.status.state.clone();
                        next = self.on_state(&state)?;
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// Waits for one thing to happen, or for the time to draw.
    fn step(&mut self, control: &mut Control, follower: &Follower) -> Result<Next> {
        self.draw();
        match follower.updates.recv_timeout(TICK) {
            Ok(Update::Event(event)) => {
                self.show(&event)?;
                match event.kind {
                    EventKind::StateChanged { to } => {
                        if to == (State::Installing { phase: Phase::Export }) {
                            // The last moment at which the agent certainly answers; it needs no more memory later.
                            self.ask_peak(control);
                        }
                        self.on_state(&to)
                    }
                    EventKind::Failed { fault } => {
                        self.failing = Some((fault, Instant::now() + FAILURE_PATIENCE));
                        Ok(Next::Go)
                    }
                    _ => Ok(Next::Go),
                }
            }
            Ok(Update::Lost(error)) => Err(error),
            Ok(Update::Pushed(result)) => self.pushed(result, control),
            Err(RecvTimeoutError::Timeout) => {
                if let Some((fault, until)) = &self.failing
                    && Instant::now() >= *until
                {
                    return Err(fault.clone().into());
                }
                if self.installed.is_some_and(|since| since.elapsed() > REBOOT_PATIENCE) {
                    return Ok(Next::End(Ended::Installed));
                }
                Ok(Next::Go)
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(anyhow::anyhow!("the events' thread is gone").context("following"))
            }
        }
    }

    fn show(&mut self, event: &Event) -> Result<()> {
        self.seen = Some((event.seq, event.millis));
        if self.ui.json() {
            self.ui.record(&Reply::Event(event.clone()))?;
        }
        match &event.kind {
            EventKind::HostKeys { keys } => self.own_keys = Some(keys.clone()),
            // It is entered anew, maybe with another answer.
            EventKind::PhaseStarted if event.phase == Some(Phase::Register) => self.own_keys = None,
            _ => {}
        }
        if let Some(push) = &self.pushing {
            push.counters.hear(event);
        }
        self.timeline.event(event);
        self.farewell();
        Ok(())
    }

    /// What a state of the agent calls for.
    fn on_state(&mut self, state: &State) -> Result<Next> {
        match state {
            State::Installing { .. } => Ok(Next::Go),
            State::Receiving if self.pushing.is_none() => Ok(Next::Send),
            State::Receiving => Ok(Next::Go),
            State::Failed { phase, fault } => {
                if *phase > Phase::Format {
                    self.ui.status("Once it is mended, the same command goes on where it was.");
                }
                Err(fault.clone().into())
            }
            State::Interrupted { .. } if self.tries < RETRIES => Ok(Next::Resume),
            State::Interrupted { phase } => Err(fault(
                FaultCode::StepFailed,
                format!("The agent was restarted again and again in the phase {:?}.", phase.title()),
                "The Pi loses power, runs out of memory, or the agent has a defect.",
                "Look at the Pi's console, and at `cygnet logs HOST`.",
            )),
            State::Installed => {
                self.installed = Some(Instant::now());
                Ok(if self.reboot { Next::Go } else { Next::End(Ended::Installed) })
            }
            State::Rebooting => Ok(Next::End(Ended::Rebooting)),
            State::Waiting => Err(fault(
                FaultCode::Aborted,
                "The agent works on no installation any more.",
                "It was aborted from elsewhere, or the Pi was restarted after the installation had ended.",
                "Look with `cygnet status HOST` and `cygnet logs HOST`.",
            )),
        }
    }

    /// Starts to send the closure.
    fn send(&mut self, session: &Arc<Session>, follower: &Follower) -> Result<()> {
        let counters = Arc::new(Counters::default());
        let (tell, caches) = (follower.tell.clone(), self.caches.clone());
        let (session, closure, shared) = (session.clone(), self.closure.clone(), counters.clone());
        std::thread::Builder::new()
            .name("push".into())
            .spawn(move || {
                let result = Control::beside(&session).and_then(|mut control| {
                    push::push(&session, &mut control, &closure, &Trust::default(), caches.as_ref(), &shared)
                });
                // If the watcher is gone, nobody wants to know.
                tell.send(Update::Pushed(result)).ok();
            })
            .context("starting a thread to send the closure")?;
        self.pushing = Some(Push { counters, begun: Instant::now(), shown: None });
        Ok(())
    }

    /// The push came to an end.
    fn pushed(&mut self, result: Result<()>, control: &mut Control) -> Result<Next> {
        self.end_push();
        let Err(error) = result else {
            self.ask_peak(control);
            return Ok(Next::Go);
        };
        let why = fault_of(&error);
        if why.code == FaultCode::ConnectionLost && self.tries < RETRIES {
            // If all of the connection is lost, the events' channel tells so; if not, only the data channel was.
            self.tries += 1;
            let state = control.status()?.state;
            return self.on_state(&state);
        }
        self.ui.status("The closure was not sent to its end; the agent waits for the rest.");
        // The agent's own account of it, if it has failed because of it, is on its way.
        self.failing.get_or_insert((why, Instant::now() + PUSH_PATIENCE));
        Ok(Next::Go)
    }

    fn end_push(&mut self) {
        self.timeline.sending = false;
        if let Some(mut push) = self.pushing.take() {
            if let Some(shown) = &mut push.shown {
                shown.end(push.counters.look());
            }
            self.sent = self.sent.and(push.counters.sent(push.begun.elapsed()));
        }
    }

    fn draw(&mut self) {
        let Some(push) = &mut self.pushing else { return };
        let look = push.counters.look();
        // What is kept of a disk is hashed first; the agent's own bar is about that.
        if look.is_moving() {
            self.timeline.we_send();
            let ui = self.ui;
            push.shown.get_or_insert_with(|| Sending::new(ui)).show(look);
        }
    }

    fn ask_peak(&mut self, control: &mut Control) {
        // Only for the account at the end; a lost connection shows elsewhere.
        if let Ok(status) = control.status() {
            self.peak = Some(status.agent_peak_memory);
        }
    }

    /// Is it worth trying again after this error?
    fn may_be_back(&self, error: &anyhow::Error) -> bool {
        fault_of(error).code == FaultCode::ConnectionLost
    }

    /// Comes back, or gives up after [`RECONNECT_FOR`].
    fn reconnect(&mut self, lost: anyhow::Error) -> Result<(Arc<Session>, Control, Follower)> {
        self.end_push();
        // A signal has ended ssh, too, and is about to end us.
        std::thread::sleep(Duration::from_millis(300));
        interrupt::give_way();
        self.ui.status(&format!("{}\nTrying to come back …", fault_of(&lost).what));
        let until = Instant::now() + RECONNECT_FOR;
        let mut pause = Duration::from_secs(1);
        loop {
            let back = control::connect(self.target).and_then(|(session, control)| {
                let follower = Follower::start(&session)?;
                Ok((Arc::new(session), control, follower))
            });
            let error = match back {
                Ok(back) => {
                    self.ui.status("Connected again.");
                    return Ok(back);
                }
                Err(error) => error,
            };
            let passing = match fault_of(&error).code {
                FaultCode::Unreachable | FaultCode::ConnectionLost => true,
                // sshd is up before the agent; or the installed system is up already.
                FaultCode::NoAgent => true,
                _ => false,
            };
            if !passing {
                return Err(error);
            }
            if Instant::now() + pause >= until {
                return Err(lost.context("coming back"));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// What is true if we are interrupted now.
    fn farewell(&self) {
        let host = &self.target.given;
        let goes_on = match (&self.pushing, self.timeline.phase()) {
            (Some(_), _) | (None, Some(Phase::Receive)) => "The agent on the Pi waits for the rest of the closure.",
            (None, _) => "The installation goes on by itself on the Pi, until it needs the closure.",
        };
        interrupt::set_farewell(format!(
            "{goes_on}\nGive the same `cygnet install {host} …` again to see it through, or stop it with `cygnet abort {host}`."
        ));
    }
}
