//! The installation's journal on the card: what is done survives a power cut.
//!
//! One JSON line a record, appended and synced; a new installation starts a new file, put in place by a rename. A last
//! line that a power cut left half-written is ignored.

use cygnet_protocol::event::Phase;
use cygnet_protocol::fault::Fault;
use cygnet_protocol::message::{ClosureSummary, InstallOptions};
use cygnet_protocol::plan::Plan;
use cygnet_protocol::store::{PathInfo, StorePath};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

/// The longest record that is read back, bytes: a plan is the largest.
const MAX_RECORD: usize = 8 * 1024 * 1024;

/// What an installation is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The digest the user saw.
    pub digest: String,
    /// SHA-256 of the layout, to recognise the same one.
    pub layout: String,
    /// What is done to the disks.
    pub plan: Plan,
    /// What is installed.
    pub closure: ClosureSummary,
    /// How.
    pub options: InstallOptions,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// An installation begins; always the first line.
    Begin(Box<Job>),
    /// It goes on, maybe with another closure.
    Continue {
        /// What is installed now.
        closure: ClosureSummary,
        /// How.
        options: InstallOptions,
    },
    /// A phase is done.
    Done {
        /// Which.
        phase: Phase,
    },
    /// A store path is in the target store, whole and on the disk.
    Path(PathInfo),
    /// It failed.
    Failed {
        /// In this phase.
        phase: Phase,
        /// For this reason.
        fault: Fault,
    },
}

/// What the journal says of the last installation.
#[derive(Debug)]
pub struct Past {
    /// The installation.
    pub job: Job,
    /// The last phase that was done.
    pub done: Option<Phase>,
    /// How it failed, if it did.
    pub failed: Option<(Phase, Fault)>,
    /// The store paths that are there.
    pub valid: HashSet<StorePath>,
    /// Their NAR sizes, bytes.
    pub bytes: u64,
}

/// The journal, open for appending.
pub struct Journal {
    file: File,
}

impl Journal {
    /// Starts a new journal in `directory`; the old one is gone only once the new one is on the disk.
    pub fn begin(directory: &Path, job: &Job) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let path = directory.join("journal.jsonl");
        let fresh = directory.join("journal.jsonl.new");
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(&fresh)?;
        let mut journal = Self { file };
        journal.append(&[Record::Begin(Box::new(job.clone()))])?;
        fs::rename(&fresh, &path)?;
        File::open(directory)?.sync_all()?;
        Ok(journal)
    }

    /// Opens the journal of the last installation to go on with it. A half-written last line is cut off.
    pub fn reopen(directory: &Path) -> io::Result<Self> {
        let path = directory.join("journal.jsonl");
        let mut whole = 0;
        let mut reader = BufReader::new(File::open(&path)?);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            if line.last() != Some(&b'\n') {
                break;
            }
            whole += line.len() as u64;
            line.clear();
        }
        let file = OpenOptions::new().append(true).open(&path)?;
        file.set_len(whole)?;
        Ok(Self { file })
    }

    /// Adds records and waits until they are on the card.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let mut text = Vec::new();
        for record in records {
            serde_json::to_writer(&mut text, record)?;
            text.push(b'\n');
        }
        self.file.write_all(&text)?;
        self.file.sync_data()
    }

    /// What the journal in `directory` tells, `None` if there is none.
    pub fn read(directory: &Path) -> io::Result<Option<Past>> {
        let mut past: Option<Past> = None;
        let result = each(&directory.join("journal.jsonl"), |record| {
            match (record, &mut past) {
                (Record::Begin(job), past) => {
                    *past = Some(Past { job: *job, done: None, failed: None, valid: HashSet::new(), bytes: 0 });
                }
                (_, None) => return Err(io::Error::other("the journal does not begin with an installation")),
                (Record::Continue { closure, options }, Some(past)) => {
                    past.job.closure = closure;
                    past.job.options = options;
                    past.done = past.done.min(Some(Phase::Mount));
                    past.failed = None;
                }
                (Record::Done { phase }, Some(past)) => past.done = Some(phase),
                (Record::Failed { phase, fault }, Some(past)) => past.failed = Some((phase, fault)),
                (Record::Path(info), Some(past)) => {
                    if past.valid.insert(info.path.clone()) {
                        past.bytes += info.nar_size;
                    }
                }
            }
            Ok(())
        });
        match result {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            result => result.map(|()| past),
        }
    }

    /// Calls `visit` with every store path that the journal in `directory` says is there, in the order they came.
    pub fn paths(directory: &Path, mut visit: impl FnMut(PathInfo) -> io::Result<()>) -> io::Result<()> {
        each(&directory.join("journal.jsonl"), |record| match record {
            Record::Path(info) => visit(info),
            _ => Ok(()),
        })
    }
}

fn each(path: &Path, mut visit: impl FnMut(Record) -> io::Result<()>) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = io::Read::take(&mut reader, MAX_RECORD as u64).read_until(b'\n', &mut line)?;
        match line.last() {
            None => return Ok(()),
            Some(b'\n') => visit(serde_json::from_slice(&line)?)?,
            Some(_) if count == MAX_RECORD => return Err(io::Error::other("a journal record is too long")),
            // The power went while this line was written; what it would have said did not happen.
            Some(_) => return Ok(()),
        }
    }
}

/// SHA-256 over the layout in canonical JSON (sorted keys, no blanks), lower-case hex.
pub fn layout_hash(disko: &serde_json::Value) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(disko.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
}
