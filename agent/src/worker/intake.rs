//! Paths that come: each goes through the same import as one of `cygnet push`, and counts for the installation as those.

use super::info::Described;
use super::wire::Input;
use super::{Trouble, garbage};
use crate::agent::Agent;
use crate::run::aborted;
use crate::store::admission::{Admission, check_content};
use crate::store::import::{cut_off, import};
use cygnet_protocol::event::{EventKind, Phase};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::store::{PathInfo, StorePath};
use cygnet_protocol::trust::Trust;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How much may be lost to a power cut, NAR bytes: so often the disk is synced.
const SYNC_BYTES: u64 = 64 * 1024 * 1024;
/// … and so often, whatever came.
const SYNC_TIME: Duration = Duration::from_secs(10);
/// How often a client of ours is told of progress.
const EVERY: Duration = Duration::from_millis(200);
/// The most paths that one operation may bring.
const MAX_PATHS: u64 = 1_000_000;

/// The paths of one operation. It has the one channel for store paths meanwhile.
pub struct Intake<'a> {
    agent: &'a Agent,
    /// Whether a path may come in, by its signatures and content address. What the client wishes (`--no-check-sigs`) is only
    /// a wish, as for every store that does not trust its clients.
    admission: Admission,
    pending: Vec<PathInfo>,
    /// Their names, to be found among thousands.
    pending_paths: HashSet<StorePath>,
    pending_bytes: u64,
    synced: Instant,
    told: Instant,
    paths: u64,
    bytes: u64,
}

/// Lets the channel go, whatever happens.
struct Channel<'a>(&'a Agent);

impl Drop for Channel<'_> {
    fn drop(&mut self) {
        self.0.close_channel();
    }
}

/// Takes in what `bring` brings; what came before a failure is kept.
pub fn take_in<'a>(
    agent: &'a Agent,
    bridge: &UnixStream,
    bring: impl FnOnce(&mut Intake<'a>) -> std::result::Result<(), Fault>,
) -> std::result::Result<(), Fault> {
    agent.open_channel(bridge)?;
    let _channel = Channel(agent);
    let admission = Admission::new(agent, &Trust::default())?;
    let mut intake = Intake {
        agent,
        admission,
        pending: Vec::new(),
        pending_paths: HashSet::new(),
        pending_bytes: 0,
        synced: Instant::now(),
        told: Instant::now(),
        paths: 0,
        bytes: 0,
    };
    let result = bring(&mut intake);
    let result = result.and(intake.sync());
    tracing::info!("nix-daemon: {} store path(s), {} bytes of NARs", intake.paths, intake.bytes);
    result
}

impl Intake<'_> {
    /// What `AddMultipleToStore` brings: a number, and for each path what is known of it and its NAR
    /// (libstore/store-api.cc, `Store::addMultipleToStore`).
    pub fn many(&mut self, stream: impl Read) -> std::result::Result<(), Fault> {
        let mut stream = Input::new(stream);
        let count = stream.count(MAX_PATHS).map_err(told)?;
        for _ in 0..count {
            let info = Described::read(&mut stream).map_err(told)?.path_info()?;
            self.one(info, stream.raw())?;
        }
        match stream.raw().read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(told(garbage("there is more behind the last store path"))),
            Err(error) => Err(cut_off(&error)),
        }
    }

    /// One path, whose NAR comes next.
    pub fn one(&mut self, info: PathInfo, stream: &mut dyn Read) -> std::result::Result<(), Fault> {
        if self.agent.cancel.asked() {
            return Err(aborted());
        }
        if self.is_there(&info.path) {
            // Nix asks first, but two of it may run at once. The bytes have to be read all the same.
            let drained = io::copy(&mut stream.take(info.nar_size), &mut io::sink()).map_err(|e| cut_off(&e))?;
            return if drained == info.nar_size { Ok(()) } else { Err(cut_off(&io::ErrorKind::UnexpectedEof.into())) };
        }
        let known = |path: &StorePath| *path == info.path || self.is_there(path);
        if let Some(missing) = info.references.iter().find(|path| !known(path)) {
            return Err(Fault::new(
                FaultCode::BadClosure,
                format!(
                    "{} refers to {}, which is not in the target store.",
                    info.path.to_basename(),
                    missing.to_absolute_path()
                ),
                "The store that it comes from is incomplete, or the client sends paths before those they refer to.",
                "Check that store with `nix-store --verify`; copy whole closures, as `nix copy` does by itself.",
            ));
        }
        self.admission.policy(&info)?;
        let (agent, pending, told) = (self.agent, self.pending_bytes, &mut self.told);
        let place = import(&info, stream, &agent.places.target.join("nix/store"), &mut |bytes| {
            tell(agent, told, pending + bytes, EVERY);
            if agent.cancel.asked() { Err(aborted()) } else { Ok(()) }
        })?;
        check_content(&info, &place)?;
        self.paths += 1;
        self.bytes += info.nar_size;
        self.pending_bytes += info.nar_size;
        self.pending_paths.insert(info.path.clone());
        self.pending.push(info);
        if self.pending_bytes >= SYNC_BYTES || self.synced.elapsed() >= SYNC_TIME {
            self.sync()?;
        }
        Ok(())
    }

    fn is_there(&self, path: &StorePath) -> bool {
        self.pending_paths.contains(path) || self.agent.is_valid(path)
    }

    /// Only what is on the disk may stand in the journal.
    fn sync(&mut self) -> std::result::Result<(), Fault> {
        if !self.pending.is_empty() {
            let store = self.agent.places.target.join("nix/store");
            File::open(store).and_then(|store| Ok(rustix::fs::syncfs(store)?)).map_err(|e| {
                Fault::new(
                    FaultCode::StepFailed,
                    format!("Syncing the target store to the disk failed: {e}."),
                    "The target disk, its cable or its power supply may be faulty.",
                    "Look for I/O errors with `dmesg` on the Pi.",
                )
            })?;
            self.pending_bytes = 0;
            self.pending_paths.clear();
            self.agent.note_valid(std::mem::take(&mut self.pending))?;
        }
        self.synced = Instant::now();
        tell(self.agent, &mut self.told, 0, Duration::ZERO);
        Ok(())
    }
}

/// Tells how far it is, so often at most.
fn tell(agent: &Agent, told: &mut Instant, pending: u64, at_most_every: Duration) {
    if told.elapsed() >= at_most_every {
        *told = Instant::now();
        let (done, total) = agent.receive_progress(pending);
        agent.log.emit(Some(Phase::Receive), EventKind::Progress { done, total, unit: "bytes".into(), came: None });
    }
}

/// Inside a stream nothing is lost: its end is known whatever is in it.
fn told(trouble: Trouble) -> Fault {
    match trouble {
        Trouble::Refused(fault) | Trouble::Lost(fault) => *fault,
        Trouble::Gone(error) => cut_off(&error),
    }
}
