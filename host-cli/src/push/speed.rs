//! How fast the link takes what it is given. Pure: the time is told to it.

use std::time::{Duration, Instant};

/// What it takes to know anything, bytes.
const ENOUGH: u64 = 2_000_000;
/// Over how long a rate is taken.
const WINDOW: Duration = Duration::from_millis(400);

/// What went onto the link lately.
#[derive(Debug, Default)]
pub struct Speed {
    begun: Option<Instant>,
    bytes: u64,
    rate: Option<u64>,
}

impl Speed {
    /// The link has taken so many bytes more until `now`.
    pub fn took(&mut self, bytes: usize, now: Instant) {
        let begun = *self.begun.get_or_insert(now);
        self.bytes += bytes as u64;
        let took = now.duration_since(begun);
        if self.bytes >= ENOUGH && took >= WINDOW {
            self.rate = Some(rate(self.bytes, took));
            (self.begun, self.bytes) = (Some(now), 0);
        }
    }

    /// Bytes per second lately. While the link waits for us it is what it was given.
    pub fn rate(&self) -> Option<u64> {
        self.rate
    }
}

/// Bytes per second.
pub fn rate(bytes: u64, took: Duration) -> u64 {
    u64::try_from(u128::from(bytes) * 1_000_000 / took.as_micros().max(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 100_000;

    /// So many blocks are taken at so many bytes per second.
    fn at(speed: &mut Speed, rate: u64, blocks: u64, from: Instant) -> Instant {
        let when = |n: u64| from + Duration::from_micros(n * BLOCK * 1_000_000 / rate);
        (1..=blocks).for_each(|n| speed.took(BLOCK as usize, when(n)));
        when(blocks)
    }

    #[test]
    fn the_rate_follows_the_link_and_what_it_is_given() {
        let mut speed = Speed::default();
        let now = at(&mut speed, 10_000_000, 20, Instant::now());
        assert_eq!(speed.rate(), None);
        let now = at(&mut speed, 10_000_000, 80, now);
        assert_eq!(speed.rate(), Some(10_000_000));
        let now = at(&mut speed, 100_000_000, 1000, now);
        assert_eq!(speed.rate(), Some(100_000_000));
        at(&mut speed, 1_000_000, 60, now + Duration::from_secs(2));
        assert!(speed.rate().is_some_and(|rate| rate <= 1_000_000), "{speed:?}");
    }
}
