//! What is known of the paths that are there. All of it stands in the journal, so that only where is kept in memory: some
//! thirty bytes a path.

use crate::journal::Record;
use cygnet_protocol::store::{PathInfo, StorePath};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The longest line that is read, bytes: that of a path with the most references that are accepted.
const MAX_LINE: u64 = 8 * 1024 * 1024;

/// A view of the journal.
pub struct Known {
    journal: PathBuf,
    open: Option<Open>,
}

struct Open {
    file: File,
    /// Which file it is: a new installation puts another one in its place.
    identity: (u64, u64),
    /// How far it was read, bytes.
    end: u64,
    /// Where each path's line begins, by the hash in its name. Only who means ill has one hash in two names.
    lines: BTreeSet<([u8; 20], u64)>,
}

impl Known {
    /// Of this journal.
    pub fn new(journal: PathBuf) -> Self {
        Self { journal, open: None }
    }

    /// What the journal has of this path.
    pub fn info(&mut self, path: &StorePath) -> io::Result<Option<PathInfo>> {
        self.find(path.digest(), |info| info.path == *path)
    }

    /// What it has of the path whose name begins with this hash.
    pub fn by_digest(&mut self, digest: &[u8; 20]) -> io::Result<Option<PathInfo>> {
        self.find(digest, |_| true)
    }

    /// The last that came counts.
    fn find(&mut self, digest: &[u8; 20], such: impl Fn(&PathInfo) -> bool) -> io::Result<Option<PathInfo>> {
        let open = self.up_to_date()?;
        for (_, line) in open.lines.range((*digest, 0)..=(*digest, u64::MAX)).rev() {
            let mut found = None;
            scan(&mut open.file, *line, |_, info| {
                found = info;
                Next::Stop
            })?;
            if let Some(info) = found.filter(&such) {
                return Ok(Some(info));
            }
        }
        Ok(None)
    }

    /// Tells every path to `visit`; one that came twice is told twice.
    pub fn each(&mut self, mut visit: impl FnMut(PathInfo)) -> io::Result<()> {
        let mut file = File::open(&self.journal)?;
        scan(&mut file, 0, |_, info| {
            if let Some(info) = info {
                visit(info);
            }
            Next::GoOn
        })
        .map(drop)
    }

    /// The present journal, read to its end.
    fn up_to_date(&mut self) -> io::Result<&mut Open> {
        let meta = std::fs::metadata(&self.journal)?;
        let identity = (meta.dev(), meta.ino());
        let mut open = match self.open.take() {
            Some(open) if open.identity == identity && open.end <= meta.len() => open,
            _ => {
                let file = File::open(&self.journal)?;
                let meta = file.metadata()?;
                Open { identity: (meta.dev(), meta.ino()), file, end: 0, lines: BTreeSet::new() }
            }
        };
        if open.end < meta.len() {
            let lines = &mut open.lines;
            open.end = scan(&mut open.file, open.end, |line, info| {
                if let Some(info) = info {
                    lines.insert((*info.path.digest(), line));
                }
                Next::GoOn
            })?;
        }
        Ok(self.open.insert(open))
    }
}

enum Next {
    GoOn,
    Stop,
}

/// Tells `visit` where each whole line begins and which path it is about, if it is; returns where the last one ends.
fn scan(file: &mut File, from: u64, mut visit: impl FnMut(u64, Option<PathInfo>) -> Next) -> io::Result<u64> {
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::with_capacity(64 * 1024, file);
    let (mut begin, mut line) = (from, Vec::new());
    loop {
        line.clear();
        let count = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') && count as u64 != MAX_LINE {
            // Not written to its end yet, or never.
            return Ok(begin);
        }
        // A line that a failing card has damaged tells of nothing; the journal's reader has said so.
        let info = match serde_json::from_slice(&line) {
            Ok(Record::Path(info)) => Some(info),
            Ok(_) | Err(_) => None,
        };
        if let Next::Stop = visit(begin, info) {
            return Ok(begin);
        }
        begin += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Journal, tests::job};
    use cygnet_protocol::event::Phase;

    fn info(digit: char, size: u64) -> PathInfo {
        serde_json::from_value(serde_json::json!({
            "path": format!("/nix/store/{digit}c5b8vw40dy178xlpddw65q9gf1h2186-{digit}"),
            "nar-hash": "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
            "nar-size": size,
        }))
        .unwrap()
    }

    #[test]
    fn it_follows_the_journal() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("journal.jsonl");
        let mut known = Known::new(file.clone());
        assert!(known.info(&info('0', 1).path).is_err(), "there is no journal");
        let mut journal = Journal::begin(directory.path(), &job()).unwrap();
        let mut add = |info: PathInfo| journal.append(&[Record::Path(info)]).unwrap();
        add(info('0', 10));
        assert_eq!(known.info(&info('0', 1).path).unwrap(), Some(info('0', 10)));
        assert_eq!(known.info(&info('1', 1).path).unwrap(), None);
        add(info('1', 20));
        add(info('2', 30));
        assert_eq!(known.info(&info('1', 1).path).unwrap(), Some(info('1', 20)));
        assert_eq!(known.info(&info('0', 1).path).unwrap(), Some(info('0', 10)));
        let mut other = info('0', 40);
        other.path = StorePath::from_parts(*other.path.digest(), "other").unwrap();
        add(other.clone());
        assert_eq!(known.info(&info('0', 1).path).unwrap(), Some(info('0', 10)));
        assert_eq!(known.info(&other.path).unwrap(), Some(other));
        let mut sizes = Vec::new();
        known.each(|info| sizes.push(info.nar_size)).unwrap();
        assert_eq!(sizes, [10, 20, 30, 40]);

        // The next installation's journal has other paths.
        let mut journal = Journal::begin(directory.path(), &job()).unwrap();
        assert_eq!(known.info(&info('0', 1).path).unwrap(), None);
        journal.append(&[Record::Done { phase: Phase::Mount }, Record::Path(info('0', 40))]).unwrap();
        assert_eq!(known.info(&info('0', 1).path).unwrap(), Some(info('0', 40)));
    }

    #[test]
    fn half_a_line_is_no_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("journal.jsonl");
        let whole = serde_json::to_string(&Record::Path(info('0', 10))).unwrap();
        std::fs::write(&file, &whole).unwrap();
        let mut known = Known::new(file.clone());
        assert_eq!(known.info(&info('0', 1).path).unwrap(), None);
        std::fs::write(&file, format!("{whole}\n")).unwrap();
        assert_eq!(known.info(&info('0', 1).path).unwrap(), Some(info('0', 10)));
    }
}
