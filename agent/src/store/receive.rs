//! A data channel from its first line to its last: every path that comes is imported, synced and journaled.

use crate::agent::Agent;
use crate::store::frames::Frames;
use crate::store::import::{cut_off, import};
use cygnet_protocol::event::{EventKind, Phase};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::frame::{self, FrameError};
use cygnet_protocol::message::{OLDEST_PROTOCOL, PROTOCOL};
use cygnet_protocol::store::{PathInfo, StorePath};
use cygnet_protocol::stream::{DataHello, DataReply, MAX_WINDOW, Record};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::{Duration, Instant};

/// How much may be lost to a power cut, NAR bytes: so often the disk is synced.
const SYNC_BYTES: u64 = 64 * 1024 * 1024;
/// … and so often, whatever came.
const SYNC_TIME: Duration = Duration::from_secs(10);

/// How often a client is told of progress.
const EVERY: Duration = Duration::from_millis(200);

/// Serves one data channel; the reply goes back on it.
pub fn serve(agent: &Agent, reader: impl Read, root: &Path) -> DataReply {
    let mut reader = BufReader::with_capacity(256 * 1024, reader);
    let mut receiver = Receiver {
        agent,
        root,
        pending: Vec::new(),
        pending_bytes: 0,
        synced: Instant::now(),
        told: Instant::now(),
        paths: 0,
        bytes: 0,
    };
    let result = receiver.run(&mut reader);
    // What came before a failure is whole; keep it.
    let result = result.and(receiver.sync());
    match result {
        Ok(()) => DataReply::Received { paths: receiver.paths, nar_bytes: receiver.bytes },
        Err(fault) => DataReply::Error(fault),
    }
}

struct Receiver<'a> {
    agent: &'a Agent,
    root: &'a Path,
    pending: Vec<PathInfo>,
    pending_bytes: u64,
    synced: Instant,
    told: Instant,
    paths: u64,
    bytes: u64,
}

impl Receiver<'_> {
    fn run(&mut self, reader: &mut impl BufRead) -> Result<(), Fault> {
        let hello: DataHello = frame::receive(reader).map_err(framing)?;
        if !(OLDEST_PROTOCOL..=PROTOCOL).contains(&hello.protocol) {
            return Err(garbage(format!("protocol {} is not spoken here", hello.protocol)));
        }
        if hello.compression != "zstd" {
            return Err(garbage(format!("compression {:?} is not known", hello.compression)));
        }
        let mut stream = BufReader::with_capacity(128 * 1024, Frames::new(reader, MAX_WINDOW));
        let mut count = 0_u64;
        loop {
            match frame::receive::<Record>(&mut stream).map_err(framing)? {
                Record::Nar(info) => {
                    self.path(info, &mut stream)?;
                    count += 1;
                }
                Record::End { paths } if paths == count => return Ok(()),
                Record::End { paths } => {
                    return Err(garbage(format!("{paths} store paths were announced, {count} came")));
                }
            }
        }
    }

    fn path(&mut self, info: PathInfo, stream: &mut impl BufRead) -> Result<(), Fault> {
        if self.agent.cancel.asked() {
            return Err(crate::run::aborted());
        }
        if self.agent.is_valid(&info.path) || self.pending.iter().any(|pending| pending.path == info.path) {
            // This client did not ask, or sends it twice. The bytes have to be read all the same.
            let drained = io::copy(&mut stream.take(info.nar_size), &mut io::sink()).map_err(|e| cut_off(&e))?;
            return if drained == info.nar_size { Ok(()) } else { Err(cut_off(&io::ErrorKind::UnexpectedEof.into())) };
        }
        let known = |path: &StorePath| {
            *path == info.path || self.pending.iter().any(|p| p.path == *path) || self.agent.is_valid(path)
        };
        if let Some(missing) = info.references.iter().find(|path| !known(path)) {
            return Err(Fault::new(
                FaultCode::BadClosure,
                format!(
                    "{} refers to {}, which is not in the target store.",
                    info.path.to_basename(),
                    missing.to_absolute_path()
                ),
                "The closure on the host is incomplete, or the sender sends paths before those they refer to.",
                "Check the host's store with `nix-store --verify`; then run the same command again.",
            ));
        }
        let (agent, pending, told) = (self.agent, self.pending_bytes, &mut self.told);
        import(&info, stream, &self.root.join("nix/store"), &mut |bytes| {
            tell(agent, told, pending + bytes, EVERY);
            if agent.cancel.asked() { Err(crate::run::aborted()) } else { Ok(()) }
        })?;
        self.paths += 1;
        self.bytes += info.nar_size;
        self.pending_bytes += info.nar_size;
        self.pending.push(info);
        if self.pending_bytes >= SYNC_BYTES || self.synced.elapsed() >= SYNC_TIME {
            self.sync()?;
        }
        Ok(())
    }

    /// Only what is on the disk may stand in the journal.
    fn sync(&mut self) -> Result<(), Fault> {
        if !self.pending.is_empty() {
            File::open(self.root.join("nix/store")).and_then(|store| Ok(rustix::fs::syncfs(store)?)).map_err(|e| {
                Fault::new(
                    FaultCode::StepFailed,
                    format!("Syncing the target store to the disk failed: {e}."),
                    "The target disk, its cable or its power supply may be faulty.",
                    "Look for I/O errors with `dmesg` on the Pi.",
                )
            })?;
            let pending = std::mem::take(&mut self.pending);
            self.pending_bytes = 0;
            self.agent.note_valid(pending)?;
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
        agent.log.emit(Some(Phase::Receive), EventKind::Progress { done, total, unit: "bytes".into() });
    }
}

fn framing(error: FrameError) -> Fault {
    match error {
        FrameError::Closed | FrameError::Truncated => cut_off(&io::ErrorKind::UnexpectedEof.into()),
        FrameError::Io(error) => cut_off(&error),
        FrameError::TooLong | FrameError::NotJson { .. } => garbage(error.to_string()),
    }
}

fn garbage(what: String) -> Fault {
    Fault::new(
        FaultCode::Garbage,
        format!("The stream of store paths cannot be understood: {what}."),
        "The sender is not cygnet, or of another version, or the bytes were damaged on the way.",
        "Run `cygnet install` again; it goes on with the first path that is missing.",
    )
}
