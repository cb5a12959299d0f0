//! A data channel from its first line to its last: one thread unpacks, one imports path after path, one syncs what is
//! imported and notes it in the journal.

use crate::agent::Agent;
use crate::store::admission::{Admission, check_content};
use crate::store::ahead::Ahead;
use crate::store::frames::Frames;
use crate::store::import::{self, Import, cut_off};
use crate::store::sync::Syncer;
use cygnet_protocol::code::{Changed, Way};
use cygnet_protocol::event::{Arrival, EventKind, Phase, Source};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::frame::{self, FrameError};
use cygnet_protocol::message::{OLDEST_PROTOCOL, PROTOCOL};
use cygnet_protocol::store::{PathInfo, StorePath};
use cygnet_protocol::stream::{DataHello, DataReply, MAX_WINDOW, RESUMABLE, Record};
use cygnet_protocol::stretch::{Bases, Exactly};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a client is told of progress.
const EVERY: Duration = Duration::from_millis(200);
/// So often it is noted how much of a long path is there, NAR bytes.
const NOTE_PART: u64 = 64 * 1024 * 1024;

/// Serves one data channel; the reply goes back on it.
pub fn serve(agent: &Agent, reader: impl Read + Send + 'static, root: &Path) -> DataReply {
    let store = root.join("nix/store");
    let directory = match File::open(&store) {
        Ok(directory) => directory,
        Err(error) => return DataReply::Error(Fault::internal("The target store could not be opened.", error)),
    };
    let (result, came) = std::thread::scope(|scope| {
        let (syncer, work) = Syncer::new(agent, &store);
        let syncing = scope.spawn(move || work.run());
        let begin = agent.receive_progress(0);
        let mut receiver = Receiver {
            agent,
            store: &store,
            directory: &directory,
            syncer,
            admission: Admission::default(),
            told: Instant::now(),
            begin,
            paths: 0,
            bytes: 0,
            were_there: 0,
        };
        let result = receiver.run(reader);
        let (paths, nar_bytes, came) = (receiver.paths, receiver.bytes, receiver.came(0));
        // What came before a failure is whole; it is kept.
        drop(receiver);
        let synced = syncing.join().unwrap_or_else(|_| Err(Fault::internal("Syncing the store ended.", "a panic")));
        (result.and(synced).map(|()| (paths, nar_bytes)), came)
    });
    agent.tell_came(agent.receive_progress(0), came);
    match result {
        Ok((paths, nar_bytes)) => DataReply::Received { paths, nar_bytes },
        Err(fault) => DataReply::Error(fault),
    }
}

struct Receiver<'a> {
    agent: &'a Agent,
    store: &'a Path,
    directory: &'a File,
    syncer: Syncer,
    admission: Admission,
    told: Instant,
    /// NAR bytes that were there, and those of the closure.
    begin: (u64, u64),
    paths: u64,
    bytes: u64,
    /// Of these bytes, those that came on an earlier channel.
    were_there: u64,
}

impl Receiver<'_> {
    /// What has come on this channel, with so many bytes of the present path.
    fn came(&self, bytes: u64) -> Arrival {
        Arrival { source: Source::Client, paths: self.paths, bytes: self.bytes - self.were_there + bytes }
    }

    fn run(&mut self, reader: impl Read + Send + 'static) -> Result<(), Fault> {
        let mut reader = BufReader::with_capacity(256 * 1024, reader);
        let hello: DataHello = frame::receive(&mut reader).map_err(framing)?;
        if !(OLDEST_PROTOCOL..=PROTOCOL).contains(&hello.protocol) {
            return Err(garbage(format!("protocol {} is not spoken here", hello.protocol)));
        }
        if hello.compression != "zstd" {
            return Err(garbage(format!("compression {:?} is not known", hello.compression)));
        }
        self.admission = Admission::new(self.agent, &hello.trust)?;
        let bases = Bases::new(self.agent.places.card.join("nix/store"), hello.code);
        let ahead = Ahead::start(Frames::new(reader, MAX_WINDOW, Some(bases)))
            .map_err(|error| Fault::internal("The data channel could not be opened.", error))?;
        let mut stream = BufReader::with_capacity(128 * 1024, ahead);
        let mut count = 0_u64;
        loop {
            match frame::receive::<Record>(&mut stream).map_err(framing)? {
                Record::Nar(info) => self.path(info, 0, hello.code, &mut stream)?,
                Record::Rest { from, info } => self.path(info, from, hello.code, &mut stream)?,
                Record::Patched { from, base, info } => {
                    let name = info.path.to_basename();
                    self.path(info, from, hello.code, &mut stream)
                        .map_err(|fault| self.patched(&name, &base, fault))?;
                }
                Record::End { paths } if paths == count => return Ok(()),
                Record::End { paths } => {
                    return Err(garbage(format!("{paths} store paths were announced, {count} came")));
                }
            }
            count += 1;
        }
    }

    /// `code`: the archive comes as [`cygnet_protocol::code`] makes it.
    fn path(&mut self, info: PathInfo, from: u64, code: bool, stream: &mut impl BufRead) -> Result<(), Fault> {
        if self.agent.cancel.asked() {
            return Err(crate::run::aborted());
        }
        self.syncer.check()?;
        if from > info.nar_size || (from > 0 && from > self.agent.part(&info)) {
            return Err(garbage(format!("{} is to go on at {from}, which is not there", info.path.to_basename())));
        }
        if self.agent.is_valid(&info.path) || self.syncer.has(&info.path) {
            // This client did not ask, or sends it twice. The bytes have to be read all the same.
            let rest = info.nar_size - from;
            let drained = io::copy(&mut stream.take(rest), &mut io::sink()).map_err(|e| cut_off(&e))?;
            return if drained == rest { Ok(()) } else { Err(cut_off(&io::ErrorKind::UnexpectedEof.into())) };
        }
        let known = |path: &StorePath| *path == info.path || self.syncer.has(path) || self.agent.is_valid(path);
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
        self.admission.policy(&info)?;
        let place = if code {
            self.take(&info, from, &mut Changed::new(Exactly::new(stream, info.nar_size - from), Way::Back, from))?
        } else {
            self.take(&info, from, stream)?
        };
        check_content(&info, &place)?;
        self.paths += 1;
        self.bytes += info.nar_size;
        self.were_there += from;
        self.syncer.whole(info)
    }

    /// The fault of a path that was sent as a patch: what comes of a wrong base is not what it should be.
    fn patched(&self, name: &str, base: &StorePath, fault: Fault) -> Fault {
        if !matches!(fault.code, FaultCode::HashMismatch | FaultCode::Garbage | FaultCode::BadBase) {
            return fault;
        }
        self.agent.note_bad_base(base);
        let text = format!("{} on the card is not what its database says; {name} is sent whole.", base.to_basename());
        self.agent.log.emit(Some(Phase::Receive), EventKind::Warning { text });
        Fault::new(
            FaultCode::BadBase,
            format!("{name} could not be made of {} on the card: {}", base.to_basename(), fault.what),
            "The card's store is not what its database says; the card may be failing.",
            "Run the same command again: it is sent whole then. Have another card ready.",
        )
    }

    fn take(&mut self, info: &PathInfo, from: u64, stream: &mut impl Read) -> Result<PathBuf, Fault> {
        let (before, before_came) = (self.begin.0 + self.bytes, self.came(0));
        let (agent, told, total) = (self.agent, &mut self.told, self.begin.1);
        let mut noted = from;
        let mut last = from;
        let syncer = &self.syncer;
        let import = Import {
            info,
            store: self.store,
            directory: self.directory,
            from,
            watch: &mut |bytes| {
                if told.elapsed() >= EVERY {
                    *told = Instant::now();
                    let came = Arrival { bytes: before_came.bytes + bytes.saturating_sub(from), ..before_came };
                    agent.tell_came((before + bytes, total), came);
                }
                if agent.cancel.asked() { Err(crate::run::aborted()) } else { Ok(()) }
            },
            written: &mut |at| {
                last = at;
                if info.nar_size >= RESUMABLE && at - noted >= NOTE_PART {
                    noted = at;
                    syncer.part(info, at);
                }
            },
        };
        let fault = match import.run(stream) {
            Ok(place) => return Ok(place),
            Err(fault) => fault,
        };
        let cut = matches!(fault.code, FaultCode::ConnectionLost | FaultCode::Aborted);
        if cut && info.nar_size >= RESUMABLE && last > 0 {
            self.syncer.part(info, last);
        } else {
            import::forget(info, self.store);
            if noted > 0 {
                // Behind what is noted of it, and may still wait there.
                self.syncer.part(info, 0);
            }
        }
        Err(fault)
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
