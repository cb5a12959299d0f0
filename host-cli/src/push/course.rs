//! Whether the frames of a patch look back on their bases: those that do are shorter, and take both ends more than twice the time.
//! Pure: the time is told to it.
//!
//! While patches are made nobody sees how fast the link is, for it mostly waits. So now and then some frames look back on
//! nothing, and the link has to show that it takes these faster than patches would be made.

use super::speed::rate;
use std::time::Duration;

/// From so many bytes per second on, bases are of no use. Of 969 MB of a new release two cores send 352 MB without bases, or
/// 257 MB with them, but not in less than 20 s; a Pi 4, which was not measured, would be slower still.
const FAST: u64 = 10_000_000;
/// At less they are again: whoever is in between stays with what he does.
const SLOW: u64 = 8_000_000;
/// NAR bytes of a push that is worth a trial: as patches they take some seconds.
const WORTH_A_TRIAL: u64 = 200_000_000;
/// When the link is tried again, and the longest that it is not: each time it is put off for twice as long. The first time is at
/// the beginning, when the Pi has nothing to do yet.
const AGAIN: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(600);
/// How long a link is slow before that is believed: a Pi that writes to its disk takes nothing for a while.
const SURE: Duration = Duration::from_secs(2);
/// How long a trial may take: a fast link has had all by then.
const PATIENCE: Duration = Duration::from_millis(600);
/// What pipes and sockets on the way swallow at once, bytes: ssh's channel window is 2 MiB (channels.h,
/// `CHAN_SES_WINDOW_DEFAULT`), and what waits in the sockets comes on top.
const BUFFERS: u64 = 3_000_000;
/// What the link has to take behind that, bytes.
const ENOUGH: u64 = 2_000_000;

/// How the next frame is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It looks back on its base.
    Based,
    /// It does not, and what the link says to it is waited for.
    Trial,
    /// It does not.
    Alone,
}

/// What was chosen so far. All times are since the beginning.
#[derive(Debug, Clone, Copy)]
pub struct Course {
    state: State,
    /// It goes on for long enough that a trial pays.
    long: bool,
    /// When the next trial begins, and for how long the one after it is put off.
    next: Duration,
    pause: Duration,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Based,
    /// Since when the link is slow, if it is.
    Alone(Option<Duration>),
    Trying(Trial),
}

/// When it began, how much the link had been given by then, and when that was enough for all buffers.
#[derive(Debug, Clone, Copy)]
struct Trial {
    begun: Duration,
    given: u64,
    full: Option<(Duration, u64)>,
}

impl Course {
    /// For a push of about so many NAR bytes.
    pub fn new(size: u64) -> Self {
        Self { state: State::Based, long: size >= WORTH_A_TRIAL, next: Duration::ZERO, pause: AGAIN }
    }

    /// How a frame is made, when the link was `given` so many bytes and [takes](super::speed) them at `rate`, and when it is
    /// `crowded` by what waits for it.
    pub fn choose(&mut self, now: Duration, given: u64, rate: Option<u64>, crowded: bool) -> Choice {
        match self.state {
            State::Alone(slow) if crowded && rate.is_some_and(|rate| rate < SLOW) => {
                let since = slow.unwrap_or(now);
                self.state = if now < since + SURE { State::Alone(Some(since)) } else { State::Based };
            }
            State::Alone(_) => self.state = State::Alone(None),
            State::Based if !self.long => {}
            // It is the link that is seen then, and needs no trial.
            State::Based if crowded && rate.is_some_and(|rate| rate >= FAST) => self.state = State::Alone(None),
            // Whoever is crowded otherwise has no time to win at this end.
            State::Based if now >= self.next && !crowded => {
                (self.next, self.pause) = (now + self.pause, (2 * self.pause).min(LONGEST));
                self.state = State::Trying(Trial { begun: now, given, full: None });
            }
            State::Based | State::Trying(_) => {}
        }
        match self.state {
            State::Based => Choice::Based,
            State::Alone(_) => Choice::Alone,
            State::Trying(_) => Choice::Trial,
        }
    }

    /// How long may be waited for the link to take a trial's frame.
    pub fn patience(&self, now: Duration) -> Duration {
        match self.state {
            State::Trying(trial) => (trial.begun + PATIENCE).saturating_sub(now),
            State::Based | State::Alone(_) => Duration::ZERO,
        }
    }

    /// A trial's frame is on the link, or not even now.
    pub fn waited(&mut self, now: Duration, given: u64, all_is_taken: bool) {
        let State::Trying(trial) = &mut self.state else { return };
        match trial.full {
            _ if !all_is_taken => self.state = State::Based,
            None if given >= trial.given + BUFFERS => trial.full = Some((now, given)),
            Some((full, before)) if given >= before + ENOUGH => {
                let fast = rate(given - before, now.saturating_sub(full)) >= FAST;
                self.state = if fast { State::Alone(None) } else { State::Based };
            }
            None | Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A trial that begins at `from`, in which each frame of 2 MB takes so long; and what is chosen then.
    fn tried(course: &mut Course, from: u64, millis: u64) -> Choice {
        let (mut now, mut given) = (from, 10 * MB);
        assert_eq!(course.choose(at(now), given, None, false), Choice::Trial);
        for _ in 0..3 {
            (now, given) = (now + millis, given + 2 * MB);
            let in_time = course.patience(at(now)) > Duration::ZERO;
            course.waited(at(now), given, in_time);
        }
        course.choose(at(now), given, None, false)
    }

    #[test]
    fn on_a_fast_link_frames_stand_alone_as_long_as_it_is_one() {
        let mut course = Course::new(WORTH_A_TRIAL);
        assert_eq!(tried(&mut course, 0, 30), Choice::Alone);
        // Given little, it takes little.
        assert_eq!(course.choose(at(2000), 0, Some(3 * MB), false), Choice::Alone);
        assert_eq!(course.choose(at(2000), 0, Some(7 * MB), true), Choice::Alone);
        assert_eq!(course.choose(at(3900), 0, Some(9 * MB), true), Choice::Alone);
        assert_eq!(course.choose(at(4000), 0, Some(7 * MB), true), Choice::Alone);
        assert_eq!(course.choose(at(5999), 0, Some(7 * MB), true), Choice::Alone);
        assert_eq!(course.choose(at(6000), 0, Some(7 * MB), true), Choice::Based);
    }

    #[test]
    fn a_slow_link_is_tried_ever_more_rarely_and_not_for_long() {
        let mut course = Course::new(WORTH_A_TRIAL);
        assert_eq!(course.choose(at(600), 0, Some(9 * MB), true), Choice::Based);
        assert_eq!(tried(&mut course, 1000, 299), Choice::Based);
        assert_eq!(course.choose(at(60_999), 0, None, false), Choice::Based);
        assert_eq!(tried(&mut course, 61_000, 201), Choice::Based);
        assert_eq!(course.choose(at(180_999), 0, None, false), Choice::Based);
        // The buffers' speed is not the link's.
        let mut given = 0;
        assert_eq!(course.choose(at(181_000), given, None, false), Choice::Trial);
        for _ in 0..3 {
            given += MB;
            course.waited(at(181_010), given, true);
        }
        course.waited(at(181_500), given + 2 * MB, true);
        assert_eq!(course.choose(at(181_500), given, None, false), Choice::Based);
        for _ in 0..10 {
            let next = course.next;
            assert_eq!(course.choose(next, 0, None, false), Choice::Trial);
            course.waited(next, 0, false);
        }
        assert_eq!(course.pause, LONGEST);
    }

    #[test]
    fn a_link_that_is_seen_to_be_fast_needs_no_trial() {
        let mut course = Course::new(WORTH_A_TRIAL);
        assert_eq!(course.choose(at(3000), 0, Some(10 * MB), true), Choice::Alone);
        assert_eq!(Course::new(1000).choose(at(3000), 0, Some(10 * MB), true), Choice::Based);
    }

    #[test]
    fn a_short_push_is_over_before_a_trial_pays() {
        let mut course = Course::new(WORTH_A_TRIAL - 1);
        assert_eq!(course.choose(at(0), 0, None, false), Choice::Based);
        assert_eq!(course.choose(at(10_000_000), 0, None, false), Choice::Based);
    }
}
