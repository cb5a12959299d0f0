//! Stretches of the archives of store paths that are on a disk: packed again, from front to back, without holding the whole.
//!
//! They are what the frames of a patch look back on, on both ends, and what an archive that was cut off begins with.

use crate::code::{Changed, Way};
use crate::store::StorePath;
use crate::stream::{Base, MAX_BASE};
use nix_archive::nar::{CaseHack, encode_path};
use std::io::{self, PipeReader, Read};
use std::path::PathBuf;

/// How much is packed at once, bytes.
const BUFFER: usize = 64 * 1024;

/// A part of a stream whose early end is an error.
pub struct Exactly<R>(io::Take<R>);

impl<R: Read> Exactly<R> {
    /// So many bytes of `inner`.
    pub fn new(inner: R, bytes: u64) -> Self {
        Self(inner.take(bytes))
    }
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        let cut = count == 0 && !buffer.is_empty() && self.0.limit() > 0;
        if cut { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
    }
}

/// The archive of what is at `path`, packed by a thread of its own.
fn pack(path: PathBuf) -> io::Result<PipeReader> {
    let (reader, writer) = io::pipe()?;
    std::thread::Builder::new().name("replay".into()).spawn(move || {
        // Ended by a closed pipe as soon as nobody wants more.
        let _ = encode_path(&mut io::BufWriter::with_capacity(BUFFER, writer), &path, CaseHack::native());
    })?;
    Ok(reader)
}

/// The first bytes of the archive of a tree that is there in part.
pub struct Replay(Exactly<PipeReader>);

impl Replay {
    /// The first `bytes` of the archive of what is at `path`.
    ///
    /// # Errors
    /// If there can be no pipe or no thread. That the tree gives fewer bytes is seen as an early end.
    pub fn start(path: PathBuf, bytes: u64) -> io::Result<Self> {
        Ok(Self(Exactly::new(pack(path)?, bytes)))
    }
}

impl Read for Replay {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other("the part that was there has changed"),
            _ => error,
        })
    }
}

/// A base that is not there, or not as long as it should be. The path that it is for can be sent whole.
#[derive(Debug, thiserror::Error)]
#[error("{base} cannot be read: {why}")]
pub struct BadBase {
    base: String,
    why: String,
}

/// Whether an error of a stream is a [`BadBase`].
pub fn is_bad_base(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<BadBase>())
}

/// A store whose paths are bases.
pub struct Bases {
    store: PathBuf,
    code: bool,
    open: Option<Open>,
}

struct Open {
    base: StorePath,
    archive: Box<dyn Read + Send>,
    /// Where in the archive `bytes` begin.
    start: u64,
    bytes: Vec<u8>,
}

impl Bases {
    /// The paths in this store directory. `code`: their archives as [`crate::code`] makes them.
    pub fn new(store: PathBuf, code: bool) -> Self {
        Self { store, code, open: None }
    }

    /// Frees what is held.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// These bytes of a base. Stretches of one base are best asked for in order: nothing is packed twice then.
    ///
    /// # Errors
    /// A [`BadBase`], or if more is asked for than [`MAX_BASE`].
    pub fn stretch(&mut self, wanted: &Base) -> io::Result<&[u8]> {
        if wanted.length > MAX_BASE {
            return Err(io::Error::other(format!("a frame that looks back on {} bytes of a base", wanted.length)));
        }
        let bad =
            |error: io::Error| io::Error::other(BadBase { base: wanted.base.to_basename(), why: error.to_string() });
        let open = match self.open.take() {
            Some(open) if open.base == wanted.base && open.start <= wanted.from => open,
            _ => {
                let at = self.store.join(wanted.base.to_basename());
                Open {
                    base: wanted.base.clone(),
                    archive: archive(at, self.code).map_err(bad)?,
                    start: 0,
                    bytes: Vec::new(),
                }
            }
        };
        let open = self.open.insert(open);
        let length = usize::try_from(wanted.length).map_err(io::Error::other)?;
        open.read(wanted.from, length).map_err(bad)?;
        Ok(&open.bytes[..length])
    }
}

fn archive(path: PathBuf, code: bool) -> io::Result<Box<dyn Read + Send>> {
    // How long it is nobody knows here; who wants more than there is finds out.
    let archive = pack(path)?;
    Ok(if code { Box::new(Changed::new(archive, Way::There, 0)) } else { Box::new(archive) })
}

impl Open {
    fn read(&mut self, from: u64, length: usize) -> io::Result<()> {
        let passed = from - self.start;
        let held = self.bytes.len() as u64;
        if passed >= held {
            self.bytes.clear();
            let gap = passed - held;
            let skipped = io::copy(&mut (&mut self.archive).take(gap), &mut io::sink())?;
            if skipped < gap {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        } else {
            self.bytes.drain(..usize::try_from(passed).map_err(io::Error::other)?);
        }
        self.start = from;
        let lacking = length.saturating_sub(self.bytes.len());
        self.bytes.reserve_exact(lacking);
        (&mut self.archive).take(lacking as u64).read_to_end(&mut self.bytes)?;
        if self.bytes.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-base";

    fn wanted(from: u64, length: u64) -> Base {
        Base { base: crate::store::parse_store_path(BASE).unwrap(), from, length }
    }

    #[test]
    fn stretches_are_those_of_the_archive_in_whatever_order() {
        let card = tempfile::tempdir().unwrap();
        let at = card.path().join(wanted(0, 0).base.to_basename());
        let mut content: Vec<u8> = (0..900_000_u32).map(|n| (n / 3 % 251) as u8).collect();
        // As if it were a program, executed as a whole.
        let header: [(usize, &[u8]); 7] =
            [(0, b"\x7fELF\x02\x01\x01"), (18, &[183]), (32, &[64]), (54, &[56]), (56, &[1]), (64, &[1]), (68, &[5])];
        content[..120].fill(0);
        header.iter().for_each(|(at, bytes)| content[*at..*at + bytes.len()].copy_from_slice(bytes));
        content[96..100].copy_from_slice(&900_000_u32.to_le_bytes());
        std::fs::write(&at, content).unwrap();
        let mut archive = Vec::new();
        encode_path(&mut archive, &at, CaseHack::Disabled).unwrap();
        let end = archive.len() as u64;
        let mut bases = Bases::new(card.path().to_owned(), false);
        for (from, length) in [(0, 100_000), (50_000, 100_000), (60_000, 20), (400_000, 300_000), (0, end), (end, 0)] {
            let expected = &archive[from as usize..(from + length) as usize];
            assert!(bases.stretch(&wanted(from, length)).unwrap() == expected, "{from} {length}");
        }
        let mut changed = Vec::new();
        Changed::new(&archive[..], Way::There, 0).read_to_end(&mut changed).unwrap();
        assert!(changed != archive);
        let mut programs = Bases::new(card.path().to_owned(), true);
        for (from, length) in [(50_000, 100_000), (400_000, 300_000), (0, end)] {
            let expected = &changed[from as usize..(from + length) as usize];
            assert!(programs.stretch(&wanted(from, length)).unwrap() == expected, "{from} {length}");
        }
        for (from, length) in [(0, end + 1), (end + 1, 0), (u64::MAX, 1)] {
            assert!(is_bad_base(&bases.stretch(&wanted(from, length)).unwrap_err()), "{from} {length}");
        }
        let greedy = bases.stretch(&wanted(0, u64::MAX)).unwrap_err();
        assert!(!is_bad_base(&greedy), "{greedy}");
        std::fs::remove_file(&at).unwrap();
        bases.close();
        assert!(is_bad_base(&bases.stretch(&wanted(0, 4096)).unwrap_err()));
    }
}
