//! Brings what was imported to the disk, in a thread of its own, and only then notes it in the journal.
//!
//! One sync is for all that came since the last one began, so that a power cut takes little, and many small paths cost few.

use crate::agent::Agent;
use crate::events::lock;
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::store::{PathInfo, StorePath};
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many paths may wait; whoever brings more waits himself.
const WAITING: usize = 2048;
/// At most so often is synced.
const PAUSE: Duration = Duration::from_millis(500);

/// What is imported.
enum Imported {
    Whole(PathInfo),
    Part(PathInfo, u64),
}

/// What both threads see.
#[derive(Default)]
struct Shared {
    /// Imported, and not taken by the syncing thread yet.
    fresh: Vec<Imported>,
    /// Imported, but not noted yet.
    waiting: HashSet<StorePath>,
    failed: Option<Fault>,
    /// The importing thread brings no more.
    complete: bool,
    /// The syncing thread takes no more.
    ended: bool,
}

/// Between the two threads.
#[derive(Default)]
struct Between {
    shared: Mutex<Shared>,
    /// For whoever syncs: the first path is there, or as many as may wait, or the end. Not for every path: to wake another
    /// thread costs as much as a file.
    brought: Condvar,
    /// For whoever imports: there is room.
    taken: Condvar,
}

/// The importing thread's end.
pub struct Syncer {
    between: Arc<Between>,
}

/// The syncing thread's end.
pub struct Work<'a> {
    agent: &'a Agent,
    store: &'a Path,
    between: Arc<Between>,
}

impl Syncer {
    /// Both ends.
    pub fn new<'a>(agent: &'a Agent, store: &'a Path) -> (Self, Work<'a>) {
        let between = Arc::new(Between::default());
        (Self { between: between.clone() }, Work { agent, store, between })
    }

    /// The fault of a sync that failed, if one has.
    pub fn check(&self) -> Result<(), Fault> {
        lock(&self.between.shared).failed.clone().map_or(Ok(()), Err)
    }

    /// Whether this path is imported and waits.
    pub fn has(&self, path: &StorePath) -> bool {
        lock(&self.between.shared).waiting.contains(path)
    }

    /// A path is imported.
    pub fn whole(&self, info: PathInfo) -> Result<(), Fault> {
        if !self.tell(Imported::Whole(info)) {
            self.check()?;
            return Err(Fault::internal("The imported paths could not be synced.", "the thread for it has ended"));
        }
        Ok(())
    }

    /// So many bytes of a path's archive are in files. If that cannot be noted, they are sent again.
    pub fn part(&self, info: &PathInfo, bytes: u64) {
        if !self.tell(Imported::Part(info.clone(), bytes)) {
            tracing::warn!("a part of {} is not noted", info.path.to_basename());
        }
    }

    /// False if nobody takes it any more.
    fn tell(&self, imported: Imported) -> bool {
        let mut shared = self
            .between
            .taken
            .wait_while(lock(&self.between.shared), |shared| shared.fresh.len() >= WAITING && !shared.ended)
            .unwrap_or_else(PoisonError::into_inner);
        if shared.ended {
            return false;
        }
        if let Imported::Whole(info) = &imported {
            shared.waiting.insert(info.path.clone());
        }
        shared.fresh.push(imported);
        let worth_it = matches!(shared.fresh.len(), 1 | WAITING);
        drop(shared);
        if worth_it {
            self.between.brought.notify_one();
        }
        true
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        lock(&self.between.shared).complete = true;
        self.between.brought.notify_one();
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        lock(&self.between.shared).ended = true;
        self.between.taken.notify_one();
    }
}

impl Work<'_> {
    /// Syncs and notes until the other end is dropped.
    pub fn run(self) -> Result<(), Fault> {
        let mut next = Instant::now();
        while let Some(batch) = self.take(next) {
            next = Instant::now() + PAUSE;
            if let Err(fault) = self.batch(batch) {
                lock(&self.between.shared).failed = Some(fault.clone());
                return Err(fault);
            }
        }
        Ok(())
    }

    /// All that was imported until `next`, or sooner if whoever imports would wait or is done; `None` after the last.
    fn take(&self, next: Instant) -> Option<Vec<Imported>> {
        let Between { shared, brought, taken } = &*self.between;
        let some = brought
            .wait_while(lock(shared), |shared| shared.fresh.is_empty() && !shared.complete)
            .unwrap_or_else(PoisonError::into_inner);
        let (mut some, _) = brought
            .wait_timeout_while(some, next.saturating_duration_since(Instant::now()), |shared| {
                shared.fresh.len() < WAITING && !shared.complete
            })
            .unwrap_or_else(PoisonError::into_inner);
        let batch = std::mem::take(&mut some.fresh);
        drop(some);
        taken.notify_one();
        (!batch.is_empty()).then_some(batch)
    }

    fn batch(&self, batch: Vec<Imported>) -> Result<(), Fault> {
        File::open(self.store).and_then(|store| Ok(rustix::fs::syncfs(store)?)).map_err(|error| {
            Fault::new(
                FaultCode::StepFailed,
                format!("Syncing the target store to the disk failed: {error}."),
                "The target disk, its cable or its power supply may be faulty.",
                "Look for I/O errors with `dmesg` on the Pi.",
            )
        })?;
        let mut whole = Vec::new();
        for imported in batch {
            match imported {
                Imported::Whole(info) => whole.push(info),
                Imported::Part(info, bytes) => self.agent.note_part(&info, bytes)?,
            }
        }
        let paths: Vec<StorePath> = whole.iter().map(|info| info.path.clone()).collect();
        if !whole.is_empty() {
            self.agent.note_valid(whole)?;
        }
        let mut shared = lock(&self.between.shared);
        for path in &paths {
            shared.waiting.remove(path);
        }
        Ok(())
    }
}
