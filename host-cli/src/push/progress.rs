//! How far a push is, as the agent has it: what was given to the compressor runs far ahead of that.
//!
//! The host knows what is there whenever it has asked; from then on it adds what the agent says has come. Pure: the events
//! and the time are told to it.

use super::stall::Stall;
use cygnet_protocol::event::{Arrival, Source};
use std::collections::VecDeque;
use std::time::Duration;

/// Over how long a rate is taken.
const WINDOW: Duration = Duration::from_secs(5);

/// Store paths and the sum of their NAR sizes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Store paths.
    pub paths: u64,
    /// NAR bytes.
    pub bytes: u64,
}

impl Amount {
    fn and(self, other: Amount) -> Amount {
        Amount { paths: self.paths + other.paths, bytes: self.bytes + other.bytes }
    }

    fn at_most(self, other: Amount) -> Amount {
        Amount { paths: self.paths.min(other.paths), bytes: self.bytes.min(other.bytes) }
    }

    fn at_least(self, other: Amount) -> Amount {
        Amount { paths: self.paths.max(other.paths), bytes: self.bytes.max(other.bytes) }
    }
}

/// How far the closure is.
#[derive(Debug, Default)]
pub struct Progress {
    total: Amount,
    /// What was there when the present source began.
    base: Amount,
    source: Option<Source>,
    /// What came from the present source, in earlier requests and in this one.
    earlier: Amount,
    now: Amount,
    done: Amount,
    /// How often the agent was heard: a sign of life.
    heard: u64,
    /// Nothing is left to be given to ssh.
    given: bool,
}

impl Progress {
    /// The whole closure.
    pub fn set_total(&mut self, total: Amount) {
        self.total = total;
    }

    /// The target store has so much of the closure, and from here the next comes.
    pub fn begin(&mut self, source: Source, there: Amount) {
        (self.source, self.base) = (Some(source), there);
        (self.earlier, self.now) = (Amount::default(), Amount::default());
        self.reached(there);
    }

    /// The target store has so much of the closure.
    pub fn reached(&mut self, there: Amount) {
        // What a cut or a sender's error takes back was there for all that a person saw.
        self.done = self.done.at_least(there.at_most(self.total));
    }

    /// The agent says what has come. What it says of another source is late, and known already.
    pub fn hear(&mut self, came: Arrival) {
        self.heard += 1;
        if self.source != Some(came.source) {
            return;
        }
        let now = Amount { paths: came.paths, bytes: came.bytes };
        if now.bytes < self.now.bytes || now.paths < self.now.paths {
            // It counts each request from 0.
            self.earlier = self.earlier.and(self.now);
        }
        self.now = now;
        self.reached(self.base.and(self.earlier).and(self.now));
    }

    /// All is there.
    pub fn complete(&mut self) {
        self.done = self.total;
    }

    /// All that is to be sent was given to ssh.
    pub fn all_is_given(&mut self) {
        self.given = true;
    }

    /// As it is now, when so many bytes were given to ssh.
    pub fn look(&self, wire: u64) -> Look {
        Look {
            done: self.done,
            total: self.total,
            source: self.source,
            wire,
            heard: self.heard,
            heard_of_source: self.now != Amount::default(),
            given: self.given,
        }
    }
}

/// A progress at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// What the target store has of the closure.
    pub done: Amount,
    /// The closure.
    pub total: Amount,
    /// Where the next comes from, once that is known.
    pub source: Option<Source>,
    /// Bytes given to ssh.
    pub wire: u64,
    heard: u64,
    heard_of_source: bool,
    given: bool,
}

impl Look {
    /// Something has come, or is about to be sent; before that the agent looks at what there is.
    pub fn is_moving(&self) -> bool {
        self.heard_of_source || matches!(self.source, Some(Source::Cache | Source::Client))
    }
}

/// Follows a progress over time: rates, the time that is left, and whether it stands.
#[derive(Debug, Default)]
pub struct Meter {
    /// When it was looked, the NAR bytes and those given to ssh.
    samples: VecDeque<(Duration, u64, u64)>,
    first: Option<(Duration, u64)>,
    source: Option<Source>,
    stall: Stall,
}

/// What a person is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// The progress.
    pub look: Look,
    /// NAR bytes each second, lately.
    pub rate: f64,
    /// Bytes given to ssh each second, lately.
    pub wire_rate: f64,
    /// What is left at that rate; none while that cannot be said.
    pub left: Option<Duration>,
    /// For so long nothing has moved, if that is long.
    pub stalled: Option<Duration>,
}

impl Meter {
    /// Looks at a progress, `now` after whatever moment, but always the same.
    pub fn read(&mut self, now: Duration, look: Look) -> Reading {
        if look.source != self.source {
            // Another source is another speed, and what was there is none of it.
            *self = Meter { source: look.source, ..Meter::default() };
        }
        let (_, since) = *self.first.get_or_insert((now, look.done.bytes));
        self.samples.push_back((now, look.done.bytes, look.wire));
        while self.samples.get(1).is_some_and(|(at, _, _)| now.saturating_sub(*at) >= WINDOW) {
            self.samples.pop_front();
        }
        let (at, bytes, wire) = self.samples.front().copied().unwrap_or((now, look.done.bytes, look.wire));
        let seconds = now.saturating_sub(at).as_secs_f64();
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let rate = per_second(look.done.bytes.saturating_sub(bytes));
        let stalled = self.stall.look(now, look.wire.wrapping_add(look.heard));
        // Some files pack much better than others; the mean of lately and always is nearer to what comes.
        let begun = self.first.map_or(now, |(at, _)| at);
        let always = look.done.bytes.saturating_sub(since) as f64 / now.saturating_sub(begun).as_secs_f64().max(0.001);
        let expected = (rate + always) / 2.0;
        let rest = look.total.bytes.saturating_sub(look.done.bytes) as f64;
        let known = stalled.is_none() && expected >= 1.0 && rest > 0.0 && seconds >= 1.0;
        // Beyond a year it is not known either.
        let left = known.then(|| rest / expected).filter(|seconds| *seconds < 3e7).map(Duration::from_secs_f64);
        let wire_rate = per_second(look.wire.saturating_sub(wire));
        Reading { look, rate, wire_rate, left, stalled }
    }
}

impl Reading {
    /// Why nothing moves, for a person; none while it does.
    pub fn complaint(&self) -> Option<String> {
        let seconds = self.stalled?.as_secs();
        let why = match self.look.source? {
            Source::Client if self.look.given => "the WiFi may be gone, or the Pi's disk is slow",
            Source::Client => "the WiFi may be gone",
            Source::Card => "the Pi's card or its disk may be slow, or the WiFi is gone",
            Source::Cache => "the cache may be slow, or the WiFi is gone",
            Source::Unknown => "nothing is known of why",
        };
        Some(format!("no bytes for {seconds} s: {why}; waiting"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(paths: u64, bytes: u64) -> Amount {
        Amount { paths, bytes }
    }

    fn came(source: Source, paths: u64, bytes: u64) -> Arrival {
        Arrival { source, paths, bytes }
    }

    fn of(total: Amount) -> Progress {
        let mut progress = Progress::default();
        progress.set_total(total);
        progress
    }

    #[test]
    fn card_then_caches_then_the_data_channel() {
        let mut progress = of(amount(10, 1000));
        progress.begin(Source::Card, amount(0, 0));
        progress.hear(came(Source::Card, 1, 90));
        // A second question of the same push: it counts anew.
        progress.hear(came(Source::Card, 0, 10));
        assert_eq!(progress.look(0).done, amount(1, 100));
        // The answer says that more was there than was copied.
        progress.begin(Source::Cache, amount(4, 400));
        assert_eq!(progress.look(0).done, amount(4, 400));
        progress.hear(came(Source::Card, 1, 99));
        progress.hear(came(Source::Cache, 1, 50));
        assert_eq!(progress.look(0).done, amount(5, 450));
        progress.begin(Source::Client, amount(6, 600));
        progress.hear(came(Source::Cache, 2, 200));
        progress.hear(came(Source::Client, 0, 7));
        assert_eq!(progress.look(0).done, amount(6, 607));
        progress.complete();
        assert_eq!(progress.look(0).done, amount(10, 1000));
    }

    #[test]
    fn it_never_goes_back_nor_beyond_the_whole() {
        // A fixed sequence of pseudo-random numbers (Knuth's MMIX generator).
        let mut state = 5_u64;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        for _ in 0..500 {
            let mut progress = of(amount(100, 1000));
            let mut last = amount(0, 0);
            for _ in 0..40 {
                let source = [Source::Card, Source::Cache, Source::Client][below(3) as usize];
                let (paths, bytes) = (below(150), below(1500));
                match below(6) {
                    0 => progress.begin(source, amount(paths, bytes)),
                    1 => progress.reached(amount(paths, bytes)),
                    _ => progress.hear(came(source, paths / 10, bytes / 10)),
                }
                let done = progress.look(0).done;
                assert!(done.paths >= last.paths && done.bytes >= last.bytes);
                assert!(done.paths <= 100 && done.bytes <= 1000);
                last = done;
            }
        }
    }

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let mut progress = of(amount(10, 100_000));
        progress.begin(Source::Client, amount(5, 50_000));
        let mut meter = Meter::default();
        let first = meter.read(second(0), progress.look(0));
        assert_eq!((first.rate, first.left, first.stalled), (0.0, None, None));
        for n in 1..=10 {
            progress.hear(came(Source::Client, 0, n * 1000));
            let reading = meter.read(second(n), progress.look(n * 300));
            assert_eq!((reading.rate, reading.wire_rate), (1000.0, 300.0), "{n}");
        }
        // Half as fast: after the window the rate is, and the time left is between the two.
        for n in 11..=16 {
            progress.hear(came(Source::Client, 0, 10_000 + (n - 10) * 500));
            meter.read(second(n), progress.look(3000 + (n - 10) * 150));
        }
        let reading = meter.read(second(16), progress.look(3900));
        assert_eq!((reading.rate, reading.wire_rate), (500.0, 150.0));
        let left = reading.left.unwrap().as_secs_f64();
        assert!((37_000.0 / 1000.0..37_000.0 / 500.0).contains(&left), "{left}");
    }

    #[test]
    fn a_stall_has_no_time_left_but_a_reason() {
        let mut progress = of(amount(10, 100_000));
        progress.begin(Source::Client, amount(0, 0));
        let mut meter = Meter::default();
        progress.hear(came(Source::Client, 1, 5000));
        meter.read(second(0), progress.look(10));
        let reading = meter.read(second(8), progress.look(10));
        assert_eq!(reading.complaint().unwrap(), "no bytes for 8 s: the WiFi may be gone; waiting");
        assert_eq!(reading.left, None);
        progress.all_is_given();
        let reading = meter.read(second(9), progress.look(10));
        assert!(reading.complaint().unwrap().contains("disk"));
        // The same figure again is a sign of life: the agent is reading what it has.
        progress.hear(came(Source::Client, 1, 5000));
        assert_eq!(meter.read(second(10), progress.look(10)).complaint(), None);
    }
}
