//! The screen on the serial console and on tty1: what there is of a Pi that has no network.
//!
//! [`devices`] says which terminals; each has a [`terminal`] on a thread of its own, because each can be stuck or vanish
//! by itself. A [`tty`] is opened and set, [`keys`] makes wishes of bytes, [`screen`] is what is drawn, with the marks and
//! the widths of [`glyph`], and [`pace`] decides when: a serial line is slow, and its log is read by people.

pub mod devices;
pub mod glyph;
pub mod keys;
pub mod pace;
pub mod screen;
pub mod terminal;
pub mod tty;

use crate::agent::Agent;
use crate::events::lock;
use cygnet_protocol::event::EventKind;
use cygnet_protocol::online::settings;
use rustix::event::{EventfdFlags, eventfd};
use screen::Progress;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the end waits for terminals to be set back.
const FAREWELL: Duration = Duration::from_secs(1);

/// What all terminals share.
pub struct Shared {
    agent: Arc<Agent>,
    shell: bool,
    stop: AtomicBool,
    /// Numbers of the machine's lines.
    line: AtomicU64,
    progress: Mutex<Option<Progress>>,
}

/// The screens, to be ended.
pub struct Consoles {
    shared: Arc<Shared>,
    terminals: Vec<(Arc<OwnedFd>, JoinHandle<()>)>,
}

/// Draws on the consoles until [`Consoles::stop`]. What cannot be opened is tried again; failure stops nothing else.
pub fn spawn(agent: Arc<Agent>, settings: &settings::Console) -> Consoles {
    let shared = Arc::new(Shared {
        agent,
        shell: settings.shell,
        stop: AtomicBool::new(false),
        line: AtomicU64::new(0),
        progress: Mutex::default(),
    });
    let mut terminals = Vec::new();
    for device in devices::choose(settings) {
        let shared = shared.clone();
        let started =
            eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(io::Error::from).and_then(|wake| {
                let wake = Arc::new(wake);
                let theirs = wake.clone();
                let name = format!("console {}", device.name());
                let thread =
                    std::thread::Builder::new().name(name).spawn(move || terminal::live(&shared, &device, &theirs))?;
                Ok((wake, thread))
            });
        match started {
            Ok(terminal) => terminals.push(terminal),
            Err(error) => tracing::warn!("no screen on a console: {error}"),
        }
    }
    let wakes: Vec<_> = terminals.iter().map(|(wake, _)| wake.clone()).collect();
    let watched = shared.clone();
    let watching = move || watch(&watched, &wakes);
    if let Err(error) = std::thread::Builder::new().name("consoles".into()).spawn(watching) {
        tracing::warn!("the screens on the consoles are not redrawn by themselves: {error}");
    }
    Consoles { shared, terminals }
}

impl Consoles {
    /// Ends the screens and sets the terminals back.
    pub fn stop(self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.agent.log.wake();
        let deadline = Instant::now() + FAREWELL;
        for (wake, _) in &self.terminals {
            nudge(wake);
        }
        for (_, thread) in self.terminals {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Wakes the terminals at each event.
fn watch(shared: &Shared, wakes: &[Arc<OwnedFd>]) {
    let mut seen = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        let events = shared.agent.log.since_unless(&shared.stop, seen + 1, Duration::from_secs(3600));
        for event in &events {
            seen = event.seq;
            if let (EventKind::Progress { done, total, unit, .. }, Some(phase)) = (&event.kind, event.phase) {
                let progress = Progress { phase, done: *done, total: *total, unit: unit.clone() };
                *lock(&shared.progress) = Some(progress);
            }
        }
        wakes.iter().for_each(|wake| nudge(wake));
    }
}

fn nudge(wake: &OwnedFd) {
    // Full means that it is awake already.
    let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
}

#[cfg(test)]
mod tests;
