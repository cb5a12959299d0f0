//! The level of compression follows the link: the slower the air, the higher the level, so that neither waits for the other.
//!
//! [`Pace`] decides, without a clock, from how full the [`queue`] between compressor and ssh is. Full: the link is slower,
//! there is time for a higher level. Empty: the link waits for us.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a block of the queue holds, bytes.
const BLOCK: usize = 128 * 1024;
/// How many blocks the queue holds: 16 MiB, some seconds of a slow link. What files take to be compressed differs much.
const BLOCKS: usize = 128;

/// How often the level is thought about.
const EVERY: Duration = Duration::from_millis(400);

/// Chooses levels.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    level: i32,
}

impl Pace {
    /// Where it begins: fast enough for most links, and soon changed.
    pub const BEGIN: i32 = 6;
    /// Beyond it libzstd takes several times as long for a few percent.
    pub const HIGHEST: i32 = 15;
    /// A gigabit wants hundreds of MB each second.
    pub const LOWEST: i32 = 1;

    /// At the beginning.
    pub fn new() -> Self {
        Self { level: Self::BEGIN }
    }

    /// The level now.
    pub fn level(self) -> i32 {
        self.level
    }

    /// The level to go on with, [`EVERY`] so often, when `waiting` of the queue's `room` blocks are full.
    pub fn next(self, waiting: usize, room: usize) -> Self {
        let step = match waiting * 100 / room.max(1) {
            0..2 => -2,
            2..15 => -1,
            15..50 => 0,
            _ => 1,
        };
        Self { level: (self.level + step).clamp(Self::LOWEST, Self::HIGHEST) }
    }
}

/// The compressor's end of the queue.
pub struct Queue {
    blocks: Option<SyncSender<Vec<u8>>>,
    block: Vec<u8>,
    waiting: Arc<AtomicUsize>,
    failed: Arc<Mutex<Option<io::Error>>>,
}

/// The link's end of the queue.
pub struct Outlet {
    blocks: Receiver<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    failed: Arc<Mutex<Option<io::Error>>>,
}

/// How full a queue is.
#[derive(Clone)]
pub struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    /// How many blocks wait for the link, and how many could.
    pub fn read(&self) -> (usize, usize) {
        (self.0.load(Ordering::Relaxed), BLOCKS)
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
        if self.thought.elapsed() >= EVERY {
            self.thought = Instant::now();
            let (waiting, room) = self.gauge.read();
            self.pace = self.pace.next(waiting, room);
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
    let (waiting, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
    let queue = Queue {
        blocks: Some(tell),
        block: Vec::with_capacity(BLOCK),
        waiting: waiting.clone(),
        failed: failed.clone(),
    };
    (queue, Outlet { blocks, waiting, failed })
}

impl Queue {
    /// How full it is, for whoever has no hand on the queue itself.
    pub fn gauge(&self) -> Gauge {
        Gauge(self.waiting.clone())
    }

    fn pass_on(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        self.waiting.fetch_add(1, Ordering::Relaxed);
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
            self.waiting.fetch_sub(1, Ordering::Relaxed);
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

    #[test]
    fn a_slow_link_raises_the_level_and_a_fast_one_lowers_it() {
        let mut pace = Pace::new();
        for _ in 0..20 {
            pace = pace.next(32, 32);
        }
        assert_eq!(pace.level(), Pace::HIGHEST);
        assert_eq!(pace.next(10, 32).level(), Pace::HIGHEST);
        assert_eq!(pace.next(4, 32).level(), Pace::HIGHEST - 1);
        assert_eq!(pace.next(0, 32).level(), Pace::HIGHEST - 2);
        for _ in 0..20 {
            pace = pace.next(0, 32);
        }
        assert_eq!(pace.level(), Pace::LOWEST);
        assert_eq!(pace.next(0, 0).level(), Pace::LOWEST);
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
