//! Whether a push stands. Over the air that is nothing unusual; somebody who watches wants to know that it is seen.

use std::time::Duration;

/// So long without a sign is a stall. Shorter pauses are a slow disk's, or a busy channel's.
const PATIENCE: Duration = Duration::from_secs(7);

/// When something last moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stall {
    last: Option<(Duration, u64)>,
}

impl Stall {
    /// Looks at `sign`, which is another number whenever something has moved. For how long it has not, if that is long.
    pub fn look(&mut self, now: Duration, sign: u64) -> Option<Duration> {
        match self.last {
            Some((since, same)) if same == sign => {
                let stands = now.saturating_sub(since);
                (stands >= PATIENCE).then_some(stands)
            }
            _ => {
                self.last = Some((now, sign));
                None
            }
        }
    }
}

/// What a person is told, once each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It stands.
    Stopped,
    /// It goes on, after so long.
    GoesOn(Duration),
}

/// Turns a state that is read again and again into what is new about it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turns {
    stood: Option<Duration>,
}

impl Turns {
    /// What is new.
    pub fn next(&mut self, stalled: Option<Duration>) -> Option<Turn> {
        match (std::mem::replace(&mut self.stood, stalled), stalled) {
            (None, Some(_)) => Some(Turn::Stopped),
            (Some(stood), None) => Some(Turn::GoesOn(stood)),
            (None, None) | (Some(_), Some(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn standing_for_long_is_told_and_so_is_its_end() {
        let (mut stall, mut turns) = (Stall::default(), Turns::default());
        let mut at = |time, sign| {
            let stalled = stall.look(second(time), sign);
            (stalled, turns.next(stalled))
        };
        assert_eq!(at(0, 1), (None, None));
        assert_eq!(at(6, 1), (None, None));
        assert_eq!(at(7, 1), (Some(second(7)), Some(Turn::Stopped)));
        assert_eq!(at(60, 1), (Some(second(60)), None));
        assert_eq!(at(61, 2), (None, Some(Turn::GoesOn(second(60)))));
        assert_eq!(at(67, 2), (None, None));
        assert_eq!(at(67, 3), (None, None));
        assert_eq!(at(74, 3), (Some(second(7)), Some(Turn::Stopped)));
    }

    #[test]
    fn a_clock_that_stands_is_no_stall() {
        let mut stall = Stall::default();
        assert_eq!(stall.look(second(9), 1), None);
        assert_eq!(stall.look(second(3), 1), None);
    }
}
