//! The installation's journal on the card: what is done survives a power cut.
//!
//! One JSON line a record, appended and synced; a new installation starts a new file, put in place by a rename. A last
//! line that a power cut left half-written is ignored. Lines that a failing card has damaged are counted and left out: each
//! of the others holds by itself, and what a missing one would have said is done again, as after a power cut before it.

use cygnet_protocol::event::Phase;
use cygnet_protocol::fault::Fault;
use cygnet_protocol::message::{ClosureSummary, InstallOptions};
use cygnet_protocol::plan::Plan;
use cygnet_protocol::store::{Part, PathInfo, StorePath};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

/// The longest record that is read back, bytes: a plan is the largest.
const MAX_RECORD: usize = 8 * 1024 * 1024;

/// Its name in the agent's state directory.
pub const JOURNAL: &str = "journal.jsonl";

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
    /// The partition tables that were written, by the disks' names in the layout.
    Tables {
        /// Their UUIDs: a disk that gives the same serial number as ours, as some USB adapters do, has other ones.
        tables: BTreeMap<String, String>,
    },
    /// So many steps of the plan are done; the next may have begun. From the first such record on the disks are written to.
    Steps {
        /// How many.
        done: usize,
    },
    /// What this step of the plan makes was not there, and is made now: only then may its rests be cleared away.
    Making {
        /// Its place in the plan.
        step: usize,
    },
    /// A phase is done.
    Done {
        /// Which.
        phase: Phase,
    },
    /// A store path is in the target store, whole and on the disk.
    Path(PathInfo),
    /// A part of a long store path is on the disk, beside its place.
    Part(Part),
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
    /// How many steps of the plan were done, if the disks were written to.
    pub steps: Option<usize>,
    /// The last step of the plan that was seen to be needed, where things are kept.
    pub making: Option<usize>,
    /// The UUIDs of the partition tables that were written, by the disks' names in the layout.
    pub tables: BTreeMap<String, String>,
    /// How it failed, if it did.
    pub failed: Option<(Phase, Fault)>,
    /// The store paths that are there.
    pub valid: HashSet<StorePath>,
    /// Their NAR sizes, bytes.
    pub bytes: u64,
    /// What is there of others.
    pub parts: Parts,
    /// How many lines could not be read.
    pub damaged: usize,
}

/// What is there in part, by store path.
pub type Parts = HashMap<StorePath, Part>;

/// What came of a store path.
#[derive(Debug)]
pub enum Came {
    /// All of it.
    Whole(PathInfo),
    /// Its first bytes.
    InPart(Part),
}

/// The journal, open for appending.
pub struct Journal {
    file: File,
}

impl Journal {
    /// Starts a new journal in `directory`; the old one is gone only once the new one is on the disk.
    pub fn begin(directory: &Path, job: &Job) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let path = directory.join(JOURNAL);
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
        Self::reopen_file(&directory.join(JOURNAL))
    }

    /// The journal of a store that is filled without an installation: nothing but store paths and parts of them, what is
    /// there already told to `visit`.
    pub fn collect(directory: &Path, mut visit: impl FnMut(Came)) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let path = directory.join("received.jsonl");
        OpenOptions::new().create(true).append(true).open(&path)?;
        each(&path, |record| match record {
            Record::Path(info) => {
                visit(Came::Whole(info));
                Ok(())
            }
            Record::Part(part) => {
                visit(Came::InPart(part));
                Ok(())
            }
            _ => Err(io::Error::other(format!("{} has more than store paths in it", path.display()))),
        })?;
        Self::reopen_file(&path)
    }

    fn reopen_file(path: &Path) -> io::Result<Self> {
        let mut whole = 0;
        let mut reader = BufReader::new(File::open(path)?);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            if line.last() != Some(&b'\n') {
                break;
            }
            whole += line.len() as u64;
            line.clear();
        }
        let file = OpenOptions::new().append(true).open(path)?;
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
        let before = self.file.metadata()?.len();
        self.file.write_all(&text).inspect_err(|_| {
            // On a full card half a line may be there; a later one must not be glued to it.
            let _ = self.file.set_len(before).and_then(|()| (&self.file).seek(SeekFrom::Start(before)));
        })?;
        self.file.sync_data()
    }

    /// What the journal in `directory` tells, `None` if there is none.
    pub fn read(directory: &Path) -> io::Result<Option<Past>> {
        let mut past: Option<Past> = None;
        let result = each(&directory.join(JOURNAL), |record| {
            match (record, &mut past) {
                (Record::Begin(job), past) => {
                    *past = Some(Past {
                        job: *job,
                        done: None,
                        steps: None,
                        making: None,
                        tables: BTreeMap::new(),
                        failed: None,
                        valid: HashSet::new(),
                        bytes: 0,
                        parts: Parts::new(),
                        damaged: 0,
                    });
                }
                (_, None) => return Err(io::Error::other("it does not begin with an installation")),
                (Record::Continue { closure, options }, Some(past)) => {
                    past.job.closure = closure;
                    past.job.options = options;
                    past.done = past.done.min(Some(Phase::Mount));
                    past.failed = None;
                }
                // A resumed run notes the phases it skips, too.
                (Record::Tables { tables }, Some(past)) => past.tables = tables,
                (Record::Steps { done }, Some(past)) => past.steps = Some(done),
                (Record::Making { step }, Some(past)) => past.making = Some(step),
                (Record::Done { phase }, Some(past)) => past.done = past.done.max(Some(phase)),
                (Record::Failed { phase, fault }, Some(past)) => past.failed = Some((phase, fault)),
                (Record::Part(part), Some(past)) => {
                    past.parts.insert(part.path.clone(), part);
                }
                (Record::Path(info), Some(past)) => {
                    past.parts.remove(&info.path);
                    if past.valid.insert(info.path.clone()) {
                        past.bytes += info.nar_size;
                    }
                }
            }
            Ok(())
        });
        match result {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(0) if past.is_none() => Ok(None),
            Ok(_) if past.is_none() => Err(io::Error::other("its first line is damaged")),
            Ok(damaged) => Ok(past.map(|past| Past { damaged, ..past })),
        }
    }

    /// Calls `visit` with every store path that the journal in `directory` says is there, in the order they came.
    pub fn paths(directory: &Path, mut visit: impl FnMut(PathInfo) -> io::Result<()>) -> io::Result<()> {
        each(&directory.join(JOURNAL), |record| match record {
            Record::Path(info) => visit(info),
            _ => Ok(()),
        })
        .map(drop)
    }
}

/// Calls `visit` with every record that can be read; how many lines can't.
fn each(path: &Path, mut visit: impl FnMut(Record) -> io::Result<()>) -> io::Result<usize> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    let (mut damaged, mut too_long) = (0, false);
    loop {
        line.clear();
        io::Read::take(&mut reader, MAX_RECORD as u64).read_until(b'\n', &mut line)?;
        match line.last() {
            None => return Ok(damaged),
            Some(b'\n') => {
                match serde_json::from_slice(&line) {
                    Ok(record) if !too_long => visit(record)?,
                    Ok(_) | Err(_) => damaged += 1,
                }
                too_long = false;
            }
            // No record is as long; the rest of it belongs to the same line.
            Some(_) if line.len() == MAX_RECORD => too_long = true,
            // The power went while this line was written; what it would have said did not happen.
            Some(_) => return Ok(damaged + usize::from(too_long)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use cygnet_protocol::fault::FaultCode;

    /// An installation with a real plan.
    pub(crate) fn job() -> Job {
        let plan = serde_json::from_str(include_str!("../../protocol/tests/golden/plan.json")).unwrap();
        let plan: Plan = plan;
        assert!(plan.is_intact());
        let closure = closure("nixos-system-pi-1");
        Job { digest: plan.digest.to_string(), layout: "0".repeat(64), plan, closure, options: Default::default() }
    }

    fn closure(name: &str) -> ClosureSummary {
        ClosureSummary {
            toplevel: format!("/nix/store/1c5b8vw40dy178xlpddw65q9gf1h2186-{name}"),
            system: "aarch64-linux".into(),
            paths: 2,
            nar_size: 240,
        }
    }

    fn info(name: &str) -> PathInfo {
        serde_json::from_value(serde_json::json!({
            "path": format!("/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-{name}"),
            "nar-hash": "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
            "nar-size": 120,
        }))
        .unwrap()
    }

    fn done(phase: Phase) -> Record {
        Record::Done { phase }
    }

    fn read(directory: &tempfile::TempDir) -> Past {
        Journal::read(directory.path()).unwrap().unwrap()
    }

    #[test]
    fn what_was_noted_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(directory.path(), &job()).unwrap();
        journal.append(&[done(Phase::Format), Record::Path(info("a"))]).unwrap();
        drop(journal);
        let mut journal = Journal::reopen(directory.path()).unwrap();
        // A path that came twice is there once.
        journal.append(&[Record::Path(info("b")), Record::Path(info("a")), done(Phase::Mount)]).unwrap();
        let past = read(&directory);
        assert_eq!((past.job, past.done, past.failed), (job(), Some(Phase::Mount), None));
        assert_eq!((past.valid.len(), past.bytes), (2, 240));
        let mut names = Vec::new();
        Journal::paths(directory.path(), |info| {
            names.push(info.path.to_basename());
            Ok(())
        })
        .unwrap();
        assert_eq!(names.iter().map(|name| name.rsplit('-').next().unwrap()).collect::<Vec<_>>(), ["a", "b", "a"]);

        // The next installation knows nothing of it.
        Journal::begin(directory.path(), &job()).unwrap();
        let past = read(&directory);
        assert_eq!((past.done, past.valid.len(), past.bytes), (None, 0, 0));
    }

    #[test]
    fn a_store_without_an_installation_has_a_journal_of_paths() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let there = || {
            let mut names = Vec::new();
            let journal = Journal::collect(&state, |came| names.push(format!("{came:?}")));
            (journal.unwrap(), names.len())
        };
        let (mut journal, before) = there();
        assert_eq!(before, 0);
        journal.append(&[Record::Path(info("a")), Record::Path(info("b"))]).unwrap();
        let mut file = OpenOptions::new().append(true).open(state.join("received.jsonl")).unwrap();
        file.write_all(b"{\"record\":\"pa").unwrap();
        let (mut journal, before) = there();
        journal.append(&[Record::Path(info("c"))]).unwrap();
        assert_eq!((before, there().1), (2, 3));
        journal.append(&[done(Phase::Mount)]).unwrap();
        assert!(Journal::collect(&state, |_| {}).is_err());
    }

    #[test]
    fn a_line_that_the_power_cut_is_ignored_and_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        Journal::begin(directory.path(), &job()).unwrap().append(&[done(Phase::Format)]).unwrap();
        let whole = fs::read(&path).unwrap();
        let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for length in last..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(read(&directory).done, None, "{length}");
            Journal::reopen(directory.path()).unwrap().append(&[done(Phase::Partition)]).unwrap();
            assert_eq!(read(&directory).done, Some(Phase::Partition), "{length}");
        }
    }

    #[test]
    fn a_damaged_line_takes_nothing_else_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(JOURNAL);
        let mut journal = Journal::begin(directory.path(), &job()).unwrap();
        journal.append(&[done(Phase::Format), Record::Path(info("a")), Record::Path(info("b"))]).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = whole.lines().collect();
        for (at, damage) in
            [(1, "\0\0\0\0"), (2, "{\"record\":\"path\",\"pa"), (3, "\u{fffd}x"), (2, "{\"record\":\"dream\"}")]
        {
            let mut damaged = lines.clone();
            damaged[at] = damage;
            fs::write(&path, damaged.join("\n") + "\n").unwrap();
            let past = read(&directory);
            assert_eq!((past.damaged, past.valid.len()), (1, if at == 1 { 2 } else { 1 }), "{at}");
            assert_eq!(past.done, (at != 1).then_some(Phase::Format));
            // Going on appends behind it.
            Journal::reopen(directory.path()).unwrap().append(&[done(Phase::Mount)]).unwrap();
            assert_eq!(read(&directory).done, Some(Phase::Mount), "{at}");
        }
        // A line without an end, as long as no record is.
        let long = format!("{}\n{}\n{}\n", lines[0], "x".repeat(2 * MAX_RECORD + 9), lines[2]);
        fs::write(&path, long).unwrap();
        assert_eq!((read(&directory).damaged, read(&directory).valid.len()), (1, 1));
        // Without the first, nobody knows what the others are about.
        fs::write(&path, whole.replacen("{\"record\"", "\0\"record\"", 1)).unwrap();
        assert!(Journal::read(directory.path()).is_err());
        fs::write(&path, "").unwrap();
        assert!(Journal::read(directory.path()).unwrap().is_none());
    }

    #[test]
    fn going_on_forgets_the_failure_and_mounts_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(directory.path(), &job()).unwrap();
        let fault = Fault::new(FaultCode::ActivationFailed, "w", "c", "r");
        journal
            .append(&[done(Phase::Register), Record::Failed { phase: Phase::Activate, fault: fault.clone() }])
            .unwrap();
        assert_eq!(read(&directory).failed, Some((Phase::Activate, fault)));

        let other = closure("nixos-system-pi-2");
        let options =
            InstallOptions { reboot: false, keep_host_key: false, carry_networks: false, ..InstallOptions::default() };
        journal.append(&[Record::Continue { closure: other.clone(), options: options.clone() }]).unwrap();
        let past = read(&directory);
        assert_eq!((past.done, past.failed), (Some(Phase::Mount), None));
        assert_eq!((past.job.closure, past.job.options), (other, options));

        // The phases that the second run skips do not make the disk unformatted.
        journal.append(&[done(Phase::Inspect), done(Phase::Plan)]).unwrap();
        assert_eq!(read(&directory).done, Some(Phase::Mount));
    }

    #[test]
    fn no_journal_is_no_error_but_a_broken_one_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        assert!(Journal::read(directory.path()).unwrap().is_none());
        assert_eq!(Journal::reopen(directory.path()).map(drop).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&path, "").unwrap();
        assert!(Journal::read(directory.path()).unwrap().is_none());
        for garbage in ["\0\0\0\n", "{}\n", "{\"record\":\"done\",\"phase\":\"mount\"}\n", "{\"record\":\"begin\"}\n"] {
            fs::write(&path, garbage).unwrap();
            assert!(Journal::read(directory.path()).is_err(), "{garbage:?}");
        }
        fs::write(&path, vec![b'x'; MAX_RECORD + 1]).unwrap();
        assert!(Journal::read(directory.path()).unwrap_err().to_string().contains("first line"));
    }
}
