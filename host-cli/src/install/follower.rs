//! Carries the agent's events to whoever watches, from a control channel of its own.

use crate::control::Control;
use crate::ssh::Session;
use anyhow::{Context, Result};
use cygnet_protocol::event::{Event, EventKind, Phase, State};
use cygnet_protocol::message::Status;
use std::sync::mpsc::{Receiver, Sender, channel};

/// What a watcher hears.
#[derive(Debug)]
pub enum Update {
    /// Something happened on the Pi.
    Event(Event),
    /// No more events will come, because of this.
    Lost(anyhow::Error),
    /// The closure was sent, or not.
    Pushed(Result<()>),
}

/// A running subscription. Dropping it ends it.
pub struct Follower {
    /// What happened before it began, as far as the agent has kept it.
    pub past: Vec<Event>,
    /// How the agent was when it began.
    pub status: Status,
    /// What happens.
    pub updates: Receiver<Update>,
    /// For others who have something to tell the watcher.
    pub tell: Sender<Update>,
    kill: Box<dyn Fn() + Send>,
}

impl Follower {
    /// Subscribes to all events.
    pub fn start(session: &Session) -> Result<Self> {
        let mut control = Control::beside(session)?;
        let (past, status) = control.follow(0)?;
        let kill = Box::new(control.killer());
        let (tell, updates) = channel();
        let teller = tell.clone();
        std::thread::Builder::new()
            .name("events".into())
            .spawn(move || {
                loop {
                    let update = match control.next_event() {
                        Ok(event) => Update::Event(event),
                        Err(error) => Update::Lost(error),
                    };
                    let last = matches!(update, Update::Lost(_));
                    if teller.send(update).is_err() || last {
                        return;
                    }
                }
            })
            .context("starting a thread for the events")?;
        Ok(Self { past, status, updates, tell, kill })
    }

    /// What was before is of no interest: a new installation begins.
    pub fn forget_the_past(&mut self) {
        self.past.clear();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        (self.kill)();
    }
}

/// The events of the installation that runs or ran last: from when it began to look at the disks.
pub fn of_this_installation(events: &[Event]) -> &[Event] {
    let begin = events.iter().rposition(|event| {
        event.phase.is_none()
            && matches!(event.kind, EventKind::StateChanged { to: State::Installing { phase: Phase::Inspect } })
    });
    &events[begin.unwrap_or(0)..]
}

/// The events after the last one that was seen, all of them if the agent has been restarted since.
///
/// Numbers start anew with the agent; its clock does so, too, so an event with the same number has another time.
pub fn after(events: &[Event], seen: Option<(u64, u64)>) -> (&[Event], bool) {
    let Some((seq, millis)) = seen else { return (events, false) };
    let restarted = match events.iter().find(|event| event.seq >= seq) {
        Some(event) if event.seq == seq => event.millis != millis,
        // Ours is not kept any more, but later ones are.
        Some(event) => event.millis < millis,
        None => true,
    };
    if restarted {
        return (events, true);
    }
    let skip = events.partition_point(|event| event.seq <= seq);
    (&events[skip..], false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, millis: u64) -> Event {
        Event { seq, millis, phase: None, kind: EventKind::PhaseStarted }
    }

    #[test]
    fn nothing_is_shown_twice_and_nothing_is_lost() {
        let events = [event(1, 10), event(2, 20), event(4, 40)];
        assert_eq!(after(&events, None), (&events[..], false));
        assert_eq!(after(&events, Some((2, 20))), (&events[2..], false));
        assert_eq!(after(&events, Some((4, 40))), (&events[3..], false));
        // Progress events are dropped when the next comes, so the last one seen may not be kept.
        assert_eq!(after(&events, Some((3, 30))), (&events[2..], false));
    }

    #[test]
    fn a_restarted_agent_is_noticed() {
        let events = [event(1, 11), event(2, 21)];
        assert_eq!(after(&events, Some((2, 20))), (&events[..], true));
        assert_eq!(after(&events, Some((900, 90_000))), (&events[..], true));
        assert_eq!(after(&[], Some((1, 1))), (&[][..], true));
    }

    #[test]
    fn only_the_last_installation_counts() {
        let begin = |seq| Event {
            seq,
            millis: seq,
            phase: None,
            kind: EventKind::StateChanged { to: State::Installing { phase: Phase::Inspect } },
        };
        let events = [begin(1), event(2, 2), begin(3), event(4, 4)];
        assert_eq!(of_this_installation(&events), &events[2..]);
        assert_eq!(of_this_installation(&events[1..2]), &events[1..2]);
        assert_eq!(of_this_installation(&[]), &[]);
    }
}
