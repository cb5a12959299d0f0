//! The one stream of events that the control channel, the journal and the announcement are rendered from.

use cygnet_protocol::event::{Event, EventKind, Phase};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How many events are kept for clients that come later. An installation makes a few hundred.
const KEPT: usize = 4000;
/// The longest line of a tool's output that is passed on, characters.
const MAX_OUTPUT: usize = 1000;

/// Takes out of a text what nobody may read.
type Strike = Box<dyn Fn(String) -> String + Send + Sync>;

/// The events so far, and a way to wait for the next.
pub struct EventLog {
    inner: Mutex<Inner>,
    strike: OnceLock<Strike>,
    grew: Condvar,
    start: Instant,
}

struct Inner {
    next: u64,
    kept: VecDeque<Event>,
}

/// A mutex is only poisoned by a panic, and a panic aborts the agent.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EventLog {
    /// An empty log; its clock starts now.
    pub fn new() -> Self {
        Self {
            inner: Mutex::new(Inner { next: 1, kept: VecDeque::new() }),
            strike: OnceLock::new(),
            grew: Condvar::new(),
            start: Instant::now(),
        }
    }

    /// Has what programs print pass through this before anybody reads it.
    pub fn strike_out(&self, strike: Strike) {
        // Set once, by whoever owns the log.
        let _ = self.strike.set(strike);
    }

    /// What a program printed, without what nobody may read. The last lines of it go into errors, too.
    pub fn clean(&self, line: String) -> String {
        match self.strike.get() {
            Some(strike) => strike(line),
            None => line,
        }
    }

    /// Milliseconds since the agent started: the clock of all events and observations.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Adds an event, wakes those who wait, and writes it to the system's journal.
    pub fn emit(&self, phase: Option<Phase>, mut kind: EventKind) {
        if let EventKind::Output { line } = &mut kind
            && line.len() > MAX_OUTPUT
        {
            *line = line.chars().take(MAX_OUTPUT).collect();
        }
        trace(phase, &kind);
        let mut inner = lock(&self.inner);
        let event = Event { seq: inner.next, millis: self.now(), phase, kind };
        inner.next += 1;
        // Progress is only worth keeping until the next comes; otherwise it would push all else out.
        if matches!(event.kind, EventKind::Progress { .. })
            && inner
                .kept
                .back()
                .is_some_and(|last| last.phase == event.phase && matches!(last.kind, EventKind::Progress { .. }))
        {
            inner.kept.pop_back();
        }
        if inner.kept.len() == KEPT {
            inner.kept.pop_front();
        }
        inner.kept.push_back(event);
        drop(inner);
        self.grew.notify_all();
    }

    /// The kept events from number `from` on; waits for one, `patience` at most, if there is none yet.
    pub fn since(&self, from: u64, patience: Duration) -> Vec<Event> {
        self.since_unless(&AtomicBool::new(false), from, patience)
    }

    /// The same, but waits no longer once `closed` is set and [`EventLog::wake`] was called after that.
    pub fn since_unless(&self, closed: &AtomicBool, from: u64, patience: Duration) -> Vec<Event> {
        self.some_since(closed, from, patience, usize::MAX)
    }

    /// The number of the next event.
    pub fn next(&self) -> u64 {
        lock(&self.inner).next
    }

    /// The same, the first `most` of them.
    pub fn some_since(&self, closed: &AtomicBool, from: u64, patience: Duration, most: usize) -> Vec<Event> {
        let inner = lock(&self.inner);
        // The first event is number 1: who asks for number 0 of an empty log has to wait, too.
        let first = from.max(1);
        let (inner, _) = self
            .grew
            .wait_timeout_while(inner, patience, |inner| inner.next <= first && !closed.load(Ordering::Acquire))
            .unwrap_or_else(PoisonError::into_inner);
        let skip = inner.kept.partition_point(|event| event.seq < from);
        inner.kept.iter().skip(skip).take(most).cloned().collect()
    }

    /// Wakes all who wait, so that they look whether they still should.
    pub fn wake(&self) {
        // With the lock, nobody is between having looked and beginning to wait, who would miss it.
        let inner = lock(&self.inner);
        self.grew.notify_all();
        drop(inner);
    }
}

fn trace(phase: Option<Phase>, kind: &EventKind) {
    let phase = phase.map_or("-", Phase::name);
    match kind {
        EventKind::PhaseStarted => tracing::info!("{phase}: started"),
        EventKind::PhaseFinished { took } => tracing::info!("{phase}: finished in {took} ms"),
        EventKind::Skipped { why } => tracing::info!("{phase}: skipped: {why}"),
        EventKind::Task { text } => tracing::info!("{phase}: {text}"),
        EventKind::Output { line } => tracing::info!("{phase}: | {line}"),
        EventKind::HostKeys { keys } => tracing::info!("{phase}: host keys: {}", keys.join(", ")),
        EventKind::Progress { .. } | EventKind::Unknown => {}
        EventKind::Warning { text } => tracing::warn!("{phase}: {text}"),
        EventKind::Failed { fault } => tracing::error!("{phase}: {fault}"),
        EventKind::StateChanged { to } => tracing::info!("state: {}", to.name()),
        EventKind::Link { report } => {
            tracing::info!("{}: {:?} {}", report.link.name(), report.state, report.detail);
        }
        EventKind::Diagnosed { diagnosis } => tracing::warn!("{diagnosis}"),
        EventKind::Online { online: true, via } => tracing::info!("online: {}", via.as_deref().unwrap_or("-")),
        EventKind::Online { online: false, .. } => tracing::warn!("offline"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(done: u64) -> EventKind {
        EventKind::Progress { done, total: 10, unit: "paths".into(), came: None }
    }

    #[test]
    fn only_the_last_progress_is_kept() {
        let log = EventLog::new();
        log.emit(None, EventKind::PhaseStarted);
        for done in 0..10 {
            log.emit(None, progress(done));
        }
        let events = log.since(0, Duration::ZERO);
        assert_eq!(events.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 11]);
        assert_eq!(log.since(2, Duration::ZERO).len(), 1);
        assert_eq!(log.since(12, Duration::ZERO).len(), 0);
    }

    #[test]
    fn the_log_is_bounded() {
        let log = EventLog::new();
        for _ in 0..KEPT + 10 {
            log.emit(None, EventKind::Output { line: "x".repeat(5000) });
        }
        let events = log.since(0, Duration::ZERO);
        assert_eq!(events.len(), KEPT);
        assert_eq!(events[0].seq, 11);
        assert!(matches!(&events[0].kind, EventKind::Output { line } if line.len() == MAX_OUTPUT));
    }

    #[test]
    fn who_waits_is_woken() {
        let log = std::sync::Arc::new(EventLog::new());
        let waiter = std::thread::spawn({
            let log = log.clone();
            move || log.since(1, Duration::from_secs(60)).len()
        });
        log.emit(None, EventKind::PhaseStarted);
        assert_eq!(waiter.join().unwrap(), 1);
    }

    #[test]
    fn an_empty_log_has_nothing_yet_wherever_one_begins() {
        let log = EventLog::new();
        for from in [0, 1] {
            let begin = Instant::now();
            assert!(log.since(from, Duration::from_millis(50)).is_empty());
            assert!(begin.elapsed() >= Duration::from_millis(50), "{from}");
        }
        log.emit(None, EventKind::PhaseStarted);
        assert_eq!((log.since(0, Duration::ZERO).len(), log.since(1, Duration::ZERO).len()), (1, 1));
    }

    #[test]
    fn who_waits_for_a_closed_connection_is_woken_without_an_event() {
        let log = EventLog::new();
        let closed = AtomicBool::new(false);
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| log.since_unless(&closed, 1, Duration::from_secs(600)).len());
            closed.store(true, Ordering::Release);
            log.wake();
            assert_eq!(waiter.join().unwrap(), 0);
        });
        assert!(begin.elapsed() < Duration::from_secs(300));
    }
}
