//! Who is connected, and how much of the agent each may take: so many at once, of whom the silent are forgotten when others
//! come; a few large messages at a time; and one line in the log for many refusals.
//!
//! Only root can connect at all. This is for a client that went wrong, a script in a loop, and a laptop that fell asleep.

use crate::events::lock;
use rustix::event::{PollFd, PollFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most connections at once. Each costs two threads; nobody needs more.
const MOST: usize = 64;
/// The most of them that speak Nix's protocol, whose lists may be long. Nix itself needs one for a copy.
const MOST_NIX: usize = 4;
/// How long one may take to say what it is. `cygnet` says it with its first byte.
const TO_GREET: Duration = Duration::from_secs(60);
/// How long one that has said so must have been silent before it is forgotten for another.
const SILENT: Duration = Duration::from_secs(30);
/// How many large messages are read and answered at the same time.
const ROOMS: usize = 2;
/// How long a message waits for its turn.
const TO_WAIT: Duration = Duration::from_secs(120);
/// How long a large message may take to come.
const TO_COME: Duration = Duration::from_secs(180);
/// How often the same trouble is told.
const AGAIN: Duration = Duration::from_secs(30);

/// All who are connected.
#[derive(Default)]
pub struct Visitors {
    present: Mutex<Present>,
    rooms: Mutex<usize>,
    left: Condvar,
    trouble: Mutex<BTreeMap<&'static str, Trouble>>,
}

#[derive(Default)]
struct Present {
    next: u64,
    visits: BTreeMap<u64, Seen>,
}

struct Seen {
    bridge: UnixStream,
    greeted: bool,
    heard: Instant,
    /// Its request is being answered.
    served: bool,
    nix: bool,
}

struct Trouble {
    told: Instant,
    more: u64,
}

/// One connection; it is present until this is dropped.
pub struct Visit {
    visitors: Arc<Visitors>,
    number: u64,
}

/// The right to a large message; until this is dropped.
pub struct Room<'a> {
    visitors: &'a Visitors,
}

impl Visitors {
    /// Lets one in; if there are too many, instead of one that is silent. `None` if all are at work.
    ///
    /// # Errors
    /// If the system has no descriptor for it.
    pub fn enter(self: &Arc<Self>, bridge: &UnixStream) -> io::Result<Option<Visit>> {
        let mut present = lock(&self.present);
        if present.visits.len() >= MOST {
            let Some(silent) = longest_silent(&present.visits, |_| true) else { return Ok(None) };
            self.forget(&mut present, silent);
        }
        let bridge = bridge.try_clone()?;
        let number = present.next;
        present.next += 1;
        present
            .visits
            .insert(number, Seen { bridge, greeted: false, heard: Instant::now(), served: false, nix: false });
        Ok(Some(Visit { visitors: self.clone(), number }))
    }

    fn forget(&self, present: &mut Present, silent: u64) {
        if let Some(seen) = present.visits.remove(&silent) {
            // Already gone is as good.
            let _ = seen.bridge.shutdown(Shutdown::Both);
        }
        self.tell("forgotten", "too many are connected; the one that was silent for the longest time is forgotten");
    }

    /// The right to a large message, when it is its turn; `None` if that does not come.
    pub fn room(&self) -> Option<Room<'_>> {
        let (mut taken, _) = self
            .left
            .wait_timeout_while(lock(&self.rooms), TO_WAIT, |taken| *taken >= ROOMS)
            .unwrap_or_else(PoisonError::into_inner);
        if *taken >= ROOMS {
            return None;
        }
        *taken += 1;
        Some(Room { visitors: self })
    }

    /// Writes of a trouble into the log; of the same kind, one line in a while, with how many there were.
    pub fn tell(&self, kind: &'static str, what: &str) {
        let mut all = lock(&self.trouble);
        match all.get_mut(kind) {
            Some(known) if known.told.elapsed() < AGAIN => known.more += 1,
            known => {
                let more = known.map_or(0, |known| known.more);
                let times = if more > 0 { format!(" ({more} more since the last such line)") } else { String::new() };
                tracing::warn!("{what}{times}");
                all.insert(kind, Trouble { told: Instant::now(), more: 0 });
            }
        }
    }
}

/// Who has not said what it is goes first, then who was silent for long.
fn longest_silent(visits: &BTreeMap<u64, Seen>, among: impl Fn(&Seen) -> bool) -> Option<u64> {
    let idle = |seen: &Seen| !seen.served && (!seen.greeted || seen.heard.elapsed() >= SILENT);
    let candidates = visits.iter().filter(|(_, seen)| among(seen) && idle(seen));
    candidates.min_by_key(|(_, seen)| (seen.greeted, seen.heard)).map(|(number, _)| *number)
}

impl Visit {
    /// Everybody's book.
    pub fn visitors(&self) -> &Visitors {
        &self.visitors
    }

    /// It has said what it is.
    pub fn greeted(&self) {
        self.note(|seen| seen.greeted = true);
    }

    /// It speaks Nix's protocol; whether there is room for one more of these.
    pub fn speaks_nix(&self) -> bool {
        self.greeted();
        let mut present = lock(&self.visitors.present);
        if present.visits.values().filter(|seen| seen.nix).count() >= MOST_NIX {
            let Some(silent) = longest_silent(&present.visits, |seen| seen.nix) else {
                self.visitors
                    .tell("nix", "too many speak Nix's protocol at once, and all are at work; one was refused");
                return false;
            };
            self.visitors.forget(&mut present, silent);
        }
        if let Some(seen) = present.visits.get_mut(&self.number) {
            seen.nix = true;
        }
        true
    }

    /// Its request is being answered, or is not any more.
    pub fn served(&self, served: bool) {
        self.note(|seen| seen.served = served);
    }

    fn heard(&self) {
        self.note(|_| ());
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        if let Some(seen) = lock(&self.visitors.present).visits.get_mut(&self.number) {
            seen.heard = Instant::now();
            change(seen);
        }
    }

    fn has_greeted(&self) -> bool {
        lock(&self.visitors.present).visits.get(&self.number).is_some_and(|seen| seen.greeted)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        lock(&self.visitors.present).visits.remove(&self.number);
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        *lock(&self.visitors.rooms) -= 1;
        self.visitors.left.notify_one();
    }
}

/// What a visitor says. It ends with its bridge, too: so that who is forgotten holds no thread.
pub struct Ear {
    input: File,
    bridge: UnixStream,
    visit: Arc<Visit>,
    /// When a large message must have come.
    until: Option<Instant>,
    begun: Instant,
}

impl Ear {
    /// # Errors
    /// If the system has no descriptor for it.
    pub fn new(input: File, bridge: &UnixStream, visit: Arc<Visit>) -> io::Result<Self> {
        Ok(Self { input, bridge: bridge.try_clone()?, visit, until: None, begun: Instant::now() })
    }

    /// A large message has begun, or is there.
    pub fn hurry(&mut self, large: bool) {
        self.until = large.then(|| Instant::now() + TO_COME);
    }

    fn left(&self) -> Option<Duration> {
        let until = match self.until {
            Some(until) => Some(until),
            None if !self.visit.has_greeted() => Some(self.begun + TO_GREET),
            None => None,
        };
        until.map(|until| until.saturating_duration_since(Instant::now()))
    }
}

impl Read for Ear {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.left();
            if left == Some(Duration::ZERO) {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came in time"));
            }
            let mut fds = [PollFd::new(&self.input, PollFlags::IN), PollFd::new(&self.bridge, PollFlags::IN)];
            crate::run::tool::wait_for(&mut fds, left.unwrap_or(Duration::from_secs(3600)))?;
            let [input, bridge] = fds.map(|fd| fd.revents());
            // What has come counts, before its end does.
            if !input.is_empty() {
                let count = self.input.read(buffer)?;
                self.visit.heard();
                return Ok(count);
            }
            if !bridge.is_empty() {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    #[test]
    fn the_silent_make_room_and_who_is_at_work_stays() {
        let visitors = Arc::new(Visitors::default());
        let all: Vec<_> = (0..MOST).map(|_| pair()).collect();
        let visits: Vec<Visit> = all.iter().map(|(bridge, _)| visitors.enter(bridge).unwrap().unwrap()).collect();
        for visit in visits.iter().skip(1) {
            visit.greeted();
        }
        let (bridge, _other) = pair();
        let late = visitors.enter(&bridge).unwrap().expect("nobody was forgotten");
        assert_eq!((&all[0].1).read(&mut [0]).unwrap(), 0, "its bridge ends");
        late.greeted();
        // All have said what they are, and a moment ago.
        assert!(visitors.enter(&bridge).unwrap().is_none());
        if let Some(long_ago) = Instant::now().checked_sub(SILENT * 2) {
            for number in [3, 7] {
                lock(&visitors.present).visits.get_mut(&number).unwrap().heard = long_ago;
            }
            visits[3].note(|_| ());
            lock(&visitors.present).visits.get_mut(&3).unwrap().heard = long_ago;
            lock(&visitors.present).visits.get_mut(&3).unwrap().served = true;
            assert!(visitors.enter(&bridge).unwrap().is_some(), "7 is silent");
            assert!(lock(&visitors.present).visits.contains_key(&3), "3 waits for its answer");
        }
        drop(visits);
        assert!(lock(&visitors.present).visits.len() <= 1);
    }

    #[test]
    fn few_speak_nix_at_once_and_the_silent_make_room() {
        let visitors = Arc::new(Visitors::default());
        let (bridge, _other) = pair();
        let visits: Vec<Visit> = (0..=MOST_NIX).map(|_| visitors.enter(&bridge).unwrap().unwrap()).collect();
        let (last, first) = visits.split_last().unwrap();
        assert!(first.iter().all(Visit::speaks_nix) && !last.speaks_nix());
        if let Some(long_ago) = Instant::now().checked_sub(SILENT * 2) {
            lock(&visitors.present).visits.get_mut(&first[1].number).unwrap().heard = long_ago;
            assert!(last.speaks_nix());
            assert!(!lock(&visitors.present).visits.contains_key(&first[1].number));
        }
    }

    #[test]
    fn large_messages_take_turns() {
        let visitors = Visitors::default();
        let rooms: Vec<Room<'_>> = (0..ROOMS).map(|_| visitors.room().unwrap()).collect();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| visitors.room().is_some());
            drop(rooms);
            assert!(waiting.join().unwrap());
        });
        assert_eq!(*lock(&visitors.rooms), 0);
    }

    #[test]
    fn who_is_forgotten_holds_no_thread() {
        let visitors = Arc::new(Visitors::default());
        let (bridge, _other) = pair();
        let visit = Arc::new(visitors.enter(&bridge).unwrap().unwrap());
        let (input, mut writer) = io::pipe().unwrap();
        let mut ear = Ear::new(File::from(OwnedFd::from(input)), &bridge, visit).unwrap();
        writer.write_all(b"last").unwrap();
        bridge.shutdown(Shutdown::Both).unwrap();
        let mut text = Vec::new();
        ear.read_to_end(&mut text).unwrap();
        assert_eq!(text, b"last");
        drop(writer);
    }

    #[test]
    fn the_same_trouble_is_told_once() {
        let visitors = Visitors::default();
        for _ in 0..1000 {
            visitors.tell("x", "trouble");
        }
        assert_eq!(lock(&visitors.trouble)["x"].more, 999);
    }
}
