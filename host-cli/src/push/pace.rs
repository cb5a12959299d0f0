//! The level of compression follows the link: the slower the air, the higher the level, so that neither waits for the other.
//!
//! [`Pace`] decides, without a clock, from how full the [`queue`] between compressor and ssh is. Full: the link is slower,
//! there is time for a higher level. Empty: the link waits for us. And of a link that takes tens of MB each second nobody
//! waits for the bytes, but for the one who unpacks them.

use super::speed::Speed;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a block of the queue holds, bytes.
const BLOCK: usize = 128 * 1024;
/// How many blocks the queue holds: 32 MiB, some seconds of a slow link. What files take to be compressed differs much, and a
/// level is for as much as a core compresses at a time.
const BLOCKS: usize = 256;

/// The levels, by what they cost. 13 to 15 take three times as long as 12 for half a percent; 16 begins to weigh matches against
/// each other (zstd's `btopt`) and gains three percent.
const LEVELS: [i32; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16, 17, 18, 19];
/// The first of those for which two cores are too slow on any link that is worth the name: 993 MB of programs take them
/// 130 s at 16, and 28 s at 12.
const DEAR: usize = 12;
/// From so many cores on they are tried.
const MANY_CORES: usize = 6;
/// What a fast link is, bytes per second, and the highest step on it: at level 1 these would be 65 MB of NARs each second, and a Pi 4
/// unpacks and writes less.
const FAST: [(u64, usize); 2] = [(25_000_000, 0), (15_000_000, 2)];
/// Where it begins: fast enough for most links, and soon changed.
const BEGIN: usize = 5;

/// Chooses levels.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    step: usize,
    highest: usize,
}

impl Pace {
    /// The lowest: a gigabit wants hundreds of MB each second.
    pub const LOWEST: i32 = LEVELS[0];

    /// At the beginning, on a machine with so many cores.
    pub const fn new(cores: usize) -> Self {
        Self { step: BEGIN, highest: if cores < MANY_CORES { DEAR - 1 } else { LEVELS.len() - 1 } }
    }

    /// The level now.
    pub fn level(self) -> i32 {
        LEVELS[self.step]
    }

    /// How long to stay with it before it is thought about again. What is being compressed at a dear level comes out seconds
    /// later.
    fn rest(self) -> Duration {
        Duration::from_millis(if self.step + 1 < DEAR { 400 } else { 2000 })
    }

    /// The level to go on with, each time it has [rested](Pace::rest), when `waiting` of the queue's `room` blocks are full and the
    /// link takes so many bytes per second.
    pub fn next(self, waiting: usize, room: usize, rate: Option<u64>) -> Self {
        let full = waiting * 100 / room.max(1);
        let step = if self.step < DEAR {
            match full {
                0..2 => self.step.saturating_sub(2),
                2..15 => self.step.saturating_sub(1),
                15..50 => self.step,
                // A core that is at work at a dear level can't be called back: not before there is enough to wait with.
                50..80 if self.step + 1 == DEAR => self.step,
                _ => self.step + 1,
            }
        } else {
            match full {
                0..30 => DEAR - 1,
                30..60 => self.step - 1,
                60..90 => self.step,
                _ => self.step + 1,
            }
        };
        let fast = FAST.iter().find(|(least, _)| rate.is_some_and(|rate| rate >= *least));
        let highest = fast.map_or(self.highest, |(_, step)| *step);
        Self { step: step.min(highest), ..self }
    }
}

/// The compressor's end of the queue.
pub struct Queue {
    blocks: Option<SyncSender<Vec<u8>>>,
    block: Vec<u8>,
    gauge: Gauge,
    failed: Arc<Mutex<Option<io::Error>>>,
}

/// The link's end of the queue.
pub struct Outlet {
    blocks: Receiver<Vec<u8>>,
    gauge: Gauge,
    failed: Arc<Mutex<Option<io::Error>>>,
}

/// How full a queue is, and how fast it is emptied.
#[derive(Clone, Default)]
pub struct Gauge {
    given: Arc<AtomicU64>,
    waiting: Arc<AtomicUsize>,
    speed: Arc<Mutex<Speed>>,
}

impl Gauge {
    /// How many blocks wait for the link, and how many could.
    pub fn read(&self) -> (usize, usize) {
        (self.waiting.load(Ordering::Relaxed), BLOCKS)
    }

    /// How fast the link is.
    pub fn speed(&self) -> MutexGuard<'_, Speed> {
        self.speed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For [patches](super::patch), which try the link.
#[cfg(feature = "libzstd")]
impl Gauge {
    /// Whether enough waits for the link that it need not wait for us.
    pub fn is_crowded(&self) -> bool {
        let (waiting, room) = self.read();
        waiting * 100 >= 15 * room
    }

    /// Whether the link has all.
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// All that was put in, bytes.
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }
}

/// A pace that looks at the gauge by itself.
#[derive(Clone)]
pub struct Follow {
    pace: Pace,
    gauge: Gauge,
    thought: Instant,
}

impl Follow {
    /// Goes on from `pace`.
    pub fn new(pace: Pace, gauge: Gauge) -> Self {
        Self { pace, gauge, thought: Instant::now() }
    }

    /// The level now.
    pub fn level(&mut self) -> i32 {
        if self.thought.elapsed() >= self.pace.rest() {
            self.thought = Instant::now();
            let (waiting, room) = self.gauge.read();
            let rate = self.gauge.speed().rate();
            self.pace = self.pace.next(waiting, room, rate);
        }
        self.pace.level()
    }

    /// Where it is.
    pub fn pace(&self) -> Pace {
        self.pace
    }
}

/// Both ends.
pub fn queue() -> (Queue, Outlet) {
    let (tell, blocks) = sync_channel(BLOCKS);
    let (gauge, failed) = (Gauge::default(), Arc::new(Mutex::new(None)));
    let queue =
        Queue { blocks: Some(tell), block: Vec::with_capacity(BLOCK), gauge: gauge.clone(), failed: failed.clone() };
    (queue, Outlet { blocks, gauge, failed })
}

impl Queue {
    /// How full it is, for whoever has no hand on the queue itself.
    pub fn gauge(&self) -> Gauge {
        self.gauge.clone()
    }

    fn pass_on(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        self.gauge.waiting.fetch_add(1, Ordering::Relaxed);
        self.gauge.given.fetch_add(block.len() as u64, Ordering::Relaxed);
        let sent = self.blocks.as_ref().is_some_and(|blocks| blocks.send(block).is_ok());
        if sent { Ok(()) } else { Err(self.failure()) }
    }

    fn failure(&self) -> io::Error {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Queue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == BLOCK {
            self.pass_on()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass_on()
    }
}

impl Outlet {
    /// Writes what comes to `link`, until the queue's end or an error, which the other end gets.
    pub fn run(self, mut link: impl Write) {
        while let Ok(block) = self.blocks.recv() {
            let result = link.write_all(&block);
            self.gauge.waiting.fetch_sub(1, Ordering::Relaxed);
            self.gauge.speed().took(block.len(), Instant::now());
            if let Err(error) = result {
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return;
            }
        }
        if let Err(error) = link.flush() {
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }

    /// Why the link broke, after [`Outlet::run`]; for whoever has closed his end already.
    pub fn failure(failed: &Mutex<Option<io::Error>>) -> io::Result<()> {
        failed.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    /// Where the failure will be.
    pub fn failed(&self) -> Arc<Mutex<Option<io::Error>>> {
        self.failed.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it ends when this is how full the queue is.
    fn ends(mut pace: Pace, waiting: usize) -> Pace {
        for _ in 0..40 {
            pace = pace.next(waiting, 32, None);
        }
        pace
    }

    #[test]
    fn a_slow_link_raises_the_level_and_a_fast_one_lowers_it() {
        let pace = ends(Pace::new(2), 32);
        assert_eq!(pace.level(), 12);
        assert_eq!(pace.next(10, 32, None).level(), 12);
        assert_eq!(pace.next(4, 32, None).level(), 11);
        assert_eq!(pace.next(0, 32, None).level(), 10);
        let pace = ends(pace, 0);
        assert_eq!(pace.level(), Pace::LOWEST);
        assert_eq!(pace.next(0, 0, None).level(), Pace::LOWEST);
    }

    #[test]
    fn many_cores_go_higher_and_come_down_in_time() {
        let pace = ends(Pace::new(8), 20);
        assert_eq!(pace.level(), 12);
        let pace = ends(pace, 32);
        assert_eq!(pace.level(), 19);
        assert_eq!(pace.next(25, 32, None).level(), 19);
        assert_eq!(pace.next(10, 32, None).level(), 18);
        assert_eq!(pace.next(4, 32, None).level(), 12);
        assert_eq!(ends(pace, 0).level(), Pace::LOWEST);
    }

    #[test]
    fn on_a_fast_link_no_level_is_high_however_full_the_queue() {
        let pace = ends(Pace::new(8), 32);
        assert_eq!(pace.next(32, 32, Some(14_000_000)).level(), 19);
        assert_eq!(pace.next(32, 32, Some(15_000_000)).level(), 3);
        assert_eq!(pace.next(32, 32, Some(25_000_000)).level(), Pace::LOWEST);
    }

    #[test]
    fn all_goes_through_in_order_and_the_end_is_the_end() {
        let (mut queue, outlet) = queue();
        let failed = outlet.failed();
        let bytes: Vec<u8> = (0..5_000_000_u32).map(|n| n as u8).collect();
        let mut out = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| outlet.run(&mut out));
            queue.write_all(&bytes).unwrap();
            queue.flush().unwrap();
            drop(queue);
        });
        assert!(out == bytes);
        assert!(Outlet::failure(&failed).is_ok());
    }

    #[test]
    fn a_broken_link_is_told_to_the_other_end() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::other("no carrier"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut queue, outlet) = queue();
        std::thread::scope(|scope| {
            scope.spawn(|| outlet.run(Broken));
            let error = queue.write_all(&vec![0; 2 * BLOCKS * BLOCK]).unwrap_err();
            assert_eq!(error.to_string(), "no carrier");
        });
    }
}
