//! `REPORT.TXT` on the card's FAT partition: what a person reads who has only the card and a laptop.
//!
//! [`text`] is what it says, a pure function of what [`gather`] found; [`place`] finds the partition and writes the file.
//! Nothing here may hold up anything else: it has a thread of its own, and a card that is write-protected is only told of.

mod gather;
mod place;
mod text;

pub use gather::gather;
pub use text::{event_line, redact};

use crate::agent::Agent;
use cygnet_protocol::event::{EventKind, State};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The least time between two reports of failed bring-ups: a card wears out.
const PAUSE: Duration = Duration::from_secs(60);
/// How often in a row it is tried again without a new reason.
const RETRIES: u32 = 3;
/// What belongs to a failure is told within this time after it.
const SETTLE: Duration = Duration::from_secs(2);

/// The report as it would be written now, for a terminal.
pub fn current(agent: &Agent) -> String {
    text::text(&gather(agent)).replace("\r\n", "\n")
}

/// Writes a report after each failed bring-up and at the end of each installation.
pub fn spawn(agent: Arc<Agent>) {
    let spawned = std::thread::Builder::new().name("report".into()).spawn(move || follow(&agent));
    if let Err(error) = spawned {
        tracing::warn!("no REPORT.TXT will be written: {error}");
    }
}

/// What makes a report due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    No,
    /// After a pause, because this may go on for hours.
    Soon,
    /// At once: the machine may be about to reboot.
    Now,
}

fn due(kind: &EventKind, offline: bool) -> Due {
    match kind {
        EventKind::Diagnosed { .. } if offline => Due::Soon,
        EventKind::StateChanged { to: State::Installed | State::Failed { .. } | State::Interrupted { .. } } => Due::Now,
        _ => Due::No,
    }
}

fn follow(agent: &Agent) {
    // An installation that a power cut interrupted has no event: it is the state we begin with.
    let mut wanted = if matches!(agent.state(), State::Interrupted { .. }) { Due::Now } else { Due::No };
    let (mut seen, mut written, mut last) = (0, None::<Instant>, String::new());
    let (mut said, mut failures) = (String::new(), 0);
    loop {
        let wait = match wanted {
            Due::No => Duration::from_secs(3600),
            Due::Now => Duration::ZERO,
            Due::Soon => written.map_or(Duration::ZERO, |then| PAUSE.saturating_sub(then.elapsed())),
        };
        let events = agent.log.since(seen + 1, wait);
        let offline = agent.network().diagnosis.is_some();
        for event in &events {
            seen = event.seq;
            wanted = wanted.max(due(&event.kind, offline));
        }
        let pause_over = written.is_none_or(|then| then.elapsed() >= PAUSE);
        if wanted == Due::No || (wanted == Due::Soon && !pause_over) {
            continue;
        }
        if wanted == Due::Soon {
            std::thread::sleep(SETTLE);
        }
        wanted = Due::No;
        let input = gather(agent);
        let text = text::text(&input);
        let without_times = text::without_times(&text);
        if without_times == last {
            continue;
        }
        written = Some(Instant::now());
        match place::write(input.status.running_disk.as_deref(), text.as_bytes()) {
            Ok(()) => {
                last = without_times;
                failures = 0;
                tracing::info!("wrote {} to the card's firmware partition", place::NAME);
            }
            Err(error) => {
                let why = error.to_string();
                if said != why {
                    tracing::warn!("{} was not written: {why}", place::NAME);
                    said = why;
                }
                // Early in a boot the card may not be known yet; later it is worth no further effort.
                failures += 1;
                if failures < RETRIES {
                    wanted = Due::Soon;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::event::Phase;
    use cygnet_protocol::online::diagnosis::{Code, Diagnosis};
    use cygnet_protocol::online::link::Link;

    #[test]
    fn failures_and_ends_are_reported() {
        let diagnosis = Diagnosis {
            link: Link::Scan,
            code: Code::NotSeen,
            what: String::new(),
            cause: String::new(),
            remedy: String::new(),
            next: String::new(),
        };
        let diagnosed = EventKind::Diagnosed { diagnosis };
        assert_eq!((due(&diagnosed, true), due(&diagnosed, false)), (Due::Soon, Due::No));
        assert_eq!(due(&EventKind::StateChanged { to: State::Installed }, false), Due::Now);
        assert_eq!(due(&EventKind::StateChanged { to: State::Interrupted { phase: Phase::Mount } }, true), Due::Now);
        assert_eq!(due(&EventKind::StateChanged { to: State::Waiting }, true), Due::No);
    }
}
