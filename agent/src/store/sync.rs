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
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
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
    /// Imported, but not noted yet.
    waiting: HashSet<StorePath>,
    failed: Option<Fault>,
}

/// The importing thread's end.
pub struct Syncer {
    tell: SyncSender<Imported>,
    shared: Arc<Mutex<Shared>>,
}

/// The syncing thread's end.
pub struct Work<'a> {
    agent: &'a Agent,
    store: &'a Path,
    imported: Receiver<Imported>,
    shared: Arc<Mutex<Shared>>,
}

impl Syncer {
    /// Both ends.
    pub fn new<'a>(agent: &'a Agent, store: &'a Path) -> (Self, Work<'a>) {
        let (tell, imported) = sync_channel(WAITING);
        let shared = Arc::new(Mutex::new(Shared::default()));
        (Self { tell, shared: shared.clone() }, Work { agent, store, imported, shared })
    }

    /// The fault of a sync that failed, if one has.
    pub fn check(&self) -> Result<(), Fault> {
        lock(&self.shared).failed.clone().map_or(Ok(()), Err)
    }

    /// Whether this path is imported and waits.
    pub fn has(&self, path: &StorePath) -> bool {
        lock(&self.shared).waiting.contains(path)
    }

    /// A path is imported.
    pub fn whole(&self, info: PathInfo) -> Result<(), Fault> {
        lock(&self.shared).waiting.insert(info.path.clone());
        if self.tell.send(Imported::Whole(info)).is_err() {
            self.check()?;
            return Err(Fault::internal("The imported paths could not be synced.", "the thread for it has ended"));
        }
        Ok(())
    }

    /// So many bytes of a path's archive are in files. If that cannot be noted, they are sent again.
    pub fn part(&self, info: &PathInfo, bytes: u64) {
        if self.tell.send(Imported::Part(info.clone(), bytes)).is_err() {
            tracing::warn!("a part of {} is not noted", info.path.to_basename());
        }
    }
}

impl Work<'_> {
    /// Syncs and notes until the other end is dropped.
    pub fn run(self) -> Result<(), Fault> {
        let mut next = Instant::now();
        while let Ok(first) = self.imported.recv() {
            let mut batch = vec![first];
            // Whoever imports does not wait meanwhile, and at the end there is nothing to wait for.
            while batch.len() < WAITING {
                match self.imported.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Ok(more) => batch.push(more),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            next = Instant::now() + PAUSE;
            if let Err(fault) = self.batch(batch) {
                lock(&self.shared).failed = Some(fault.clone());
                return Err(fault);
            }
        }
        Ok(())
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
        let mut shared = lock(&self.shared);
        for path in &paths {
            shared.waiting.remove(path);
        }
        Ok(())
    }
}
