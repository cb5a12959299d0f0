//! The ends that do not come by themselves: what a crash has left is let go of, an abort is seen through, the Pi is restarted.
//!
//! All of it may meet a disk that does not answer, so none of it is waited for by anybody who has something else to do.

use super::*;
use crate::install::export;

/// How long a request waits until what a crash has left is let go of. A client waits longer.
const CLEARING: Duration = Duration::from_secs(300);
/// When an abort that goes on is told of.
const TO_TELL: Duration = Duration::from_secs(40);
/// When an installation that does not end is given up: all its tools have been ended, or left behind, long before.
const TO_GIVE_UP: Duration = Duration::from_secs(300);

impl Agent {
    /// Lets go of what a crash of the agent alone has left mounted, on a thread: the agent answers meanwhile.
    pub fn let_go_of_the_past(self: &Arc<Self>) {
        let mut desk = lock(&self.desk);
        let was_running = matches!(desk.state, State::Interrupted { .. } | State::Failed { .. });
        let plan = desk.job.as_ref().filter(|_| was_running).map(|job| job.plan.clone());
        let plan = match plan {
            Some(plan) if plan.is_intact() => Some(plan),
            Some(_) => None,
            None if desk.unreadable => None,
            None => return,
        };
        desk.clearing = true;
        drop(desk);
        let agent = self.clone();
        let release = move || {
            match plan {
                Some(plan) => export::release(&agent, &plan),
                None => export::release_unknown(&agent),
            }
            agent.cleared();
        };
        if let Err(error) = std::thread::Builder::new().name("release".into()).spawn(release) {
            tracing::error!("what the last installation has left is not let go of: {error}");
            self.cleared();
        }
    }

    fn cleared(&self) {
        lock(&self.desk).clearing = false;
        self.arrived.notify_all();
    }

    /// Waits until the disks are let go of; refuses what needs them if that does not come about.
    pub(super) fn after_clearing(&self) -> Result<(), Fault> {
        let desk = lock(&self.desk);
        let (desk, _) = self
            .arrived
            .wait_timeout_while(desk, CLEARING, |desk| desk.clearing)
            .unwrap_or_else(PoisonError::into_inner);
        if desk.clearing {
            return Err(not_now(
                "the agent still lets go of the disks of the interrupted installation.",
                "Wait, and look with `cygnet status HOST`. If a disk does not answer, plug it in again, or run `cygnet reboot HOST --force`.",
            ));
        }
        if desk.left_behind {
            return Err(not_now(
                "an earlier installation hangs in the kernel.",
                "Its disk does not answer. Plug it in again, or run `cygnet reboot HOST --force`.",
            ));
        }
        Ok(())
    }

    /// An installation begins; the number is its own.
    pub(super) fn runs(desk: &mut Desk) -> u64 {
        desk.run += 1;
        desk.running = Some(desk.run);
        desk.run
    }

    /// The thread of an installation has come to its end.
    pub(super) fn ran(&self, number: u64) {
        let mut desk = lock(&self.desk);
        if desk.running == Some(number) {
            desk.running = None;
            desk.left_behind = false;
        }
        drop(desk);
        self.arrived.notify_all();
    }

    /// Sees that an abort comes to an end, even if a disk keeps the installation's own thread.
    pub(super) fn see_abort_through(self: &Arc<Self>) {
        self.see_through(TO_TELL, TO_GIVE_UP);
    }

    pub(super) fn see_through(self: &Arc<Self>, to_tell: Duration, to_give_up: Duration) {
        let Some(number) = lock(&self.desk).running else { return };
        let agent = self.clone();
        let watch = move || {
            if agent.ends_within(number, to_tell) {
                return;
            }
            let text = "The installation was told to stop, and has not yet. It waits for a disk or a program that does not answer; \
                        if it takes minutes, look at the disk and its cable, or run `cygnet reboot HOST --force`.";
            agent.log.emit(None, EventKind::Warning { text: text.into() });
            if !agent.ends_within(number, to_give_up) {
                agent.give_up(number);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("abort".into()).spawn(watch) {
            tracing::warn!("the abort is not watched: {error}");
        }
    }

    fn ends_within(&self, number: u64, patience: Duration) -> bool {
        let runs = |desk: &mut Desk| desk.running == Some(number);
        let (desk, _) =
            self.arrived.wait_timeout_while(lock(&self.desk), patience, runs).unwrap_or_else(PoisonError::into_inner);
        desk.running != Some(number)
    }

    /// Leaves an installation behind that hangs in the kernel. No other can begin beside it.
    fn give_up(&self, number: u64) {
        let mut desk = lock(&self.desk);
        if desk.running != Some(number) || !matches!(desk.state, State::Installing { .. } | State::Receiving) {
            return;
        }
        desk.left_behind = true;
        let (phase, fault) = (desk.phase, hangs());
        desk.state = State::Failed { phase, fault: fault.clone() };
        let to = desk.state.clone();
        drop(desk);
        self.forget_secrets();
        self.log.emit(Some(phase), EventKind::Failed { fault });
        self.log.emit(None, EventKind::StateChanged { to });
    }

    /// Restarts the Pi; if that does not come about, all is as before.
    pub(super) fn reboot(self: &Arc<Self>, force: bool) -> Result<(), Fault> {
        let mut desk = lock(&self.desk);
        // An installation may have begun since the first look; none can begin after this one.
        permit(&desk.state, &Request::Reboot { force })?;
        let before = desk.state.clone();
        desk.state = State::Rebooting;
        drop(desk);
        let first = force && !self.forcing.swap(true, Ordering::AcqRel);
        self.set_state(State::Rebooting);
        if force && !first {
            return Ok(());
        }
        let agent = self.clone();
        let work = move || if force { reboot::force(&agent) } else { reboot::restart(&agent, before) };
        let started = std::thread::Builder::new().name("reboot".into()).spawn(work);
        started.map(drop).map_err(|error| Fault::internal("The Pi could not be rebooted.", error))
    }

    /// The Pi goes on after all, in the state that it had before.
    pub fn stays(&self, before: State, fault: Fault) {
        reboot::tell(self, &fault);
        if self.state() == State::Rebooting {
            self.set_state(before);
        }
    }

    /// Whether the Pi is restarted, whatever it takes.
    pub fn is_forcing(&self) -> bool {
        self.forcing.load(Ordering::Acquire)
    }

    /// Notes that the agent was told to end.
    pub fn ends(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Whether [`Self::ends`] noted it.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire) && !self.is_forcing()
    }
}

fn hangs() -> Fault {
    Fault::new(
        FaultCode::StepFailed,
        "The installation was told to stop, and does not end: it hangs in the kernel.",
        "A disk that it wrote to does not answer any more: it was unplugged, its power is too weak, or its adapter has failed.",
        "Plug the disk in again and look with `cygnet status HOST`; or run `cygnet reboot HOST --force`, and give the same `cygnet install` again afterwards.",
    )
}
