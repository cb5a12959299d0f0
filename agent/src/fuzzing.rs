//! What reads bytes that anybody could send, for the fuzz targets in `fuzz/` and for our own hostile tests; no part of the
//! program.
//!
//! A [`Place`] is a target store with something beside it that nobody may touch. Whatever is said to the agent there,
//! [`Place::judge`] must find everything else as it was, and in the store nothing but what is whole.

#![allow(clippy::missing_panics_doc, reason = "panics are how a fuzz target says that it has found something")]

use crate::agent::{Agent, Places};
use crate::identity::Identity;
use crate::journal::{Came, Journal};
use crate::store::frames::Frames;
use crate::store::import::{SIBLING, import, remove};
use crate::store::receive;
use crate::substitute::unpack::unpacked;
use crate::worker;
use cygnet_protocol::fault::Fault;
use cygnet_protocol::store::{HashAlgorithm, NixHash, PathInfo, parse_store_path};
use cygnet_protocol::stream::{DataReply, MAX_WINDOW};
use cygnet_protocol::stretch::Bases;
use cygnet_protocol::substituter::Packing;
use nix_archive::nar::{CaseHack, encode_path};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The store path that [`Place::import`] makes.
pub const IMPORTED: &str = "/nix/store/00000000000000000000000000000003-fuzzed";

/// What must not change: a file beside the target.
const SENTINEL: &str = "nobody may touch this";

/// A target store in a directory, and a sentinel beside it.
pub struct Place {
    root: PathBuf,
    identity: Identity,
    beside: Vec<(PathBuf, u32, i64, u64)>,
}

impl Place {
    /// In this directory, which must be empty.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        for directory in ["mnt/nix/store", "outside", "card", "state"] {
            fs::create_dir_all(root.join(directory)).expect("making the place");
        }
        fs::write(root.join("outside/sentinel"), SENTINEL).expect("making the sentinel");
        // As after the first agent.
        fs::write(root.join("state/received.jsonl"), "").expect("making the list");
        let mut place = Self { root: root.to_owned(), identity: Identity::read(), beside: Vec::new() };
        place.beside = place.look();
        place
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.root.join("mnt/nix/store")
    }

    /// An agent that waits for store paths; it knows only what is in its list.
    pub(crate) fn agent(&self) -> Arc<Agent> {
        let places = Places {
            state: self.root.join("state"),
            target: self.root.join("mnt"),
            card: self.root.join("card"),
            secrets: self.root.join("secrets"),
        };
        Agent::receive_only(self.identity.clone(), places).expect("the list can be read")
    }

    /// Says this to the agent as a client of Nix's worker protocol; returns what it answers.
    #[must_use]
    pub fn worker(&self, said: &[u8]) -> Vec<u8> {
        let (bridge, _other_end) = UnixStream::pair().expect("a pair of sockets");
        let mut answer = Vec::new();
        worker::serve(&self.agent(), &bridge, said, &mut answer);
        answer
    }

    /// Sends this on a data channel; returns what it answers.
    #[must_use]
    pub fn data(&self, sent: Vec<u8>) -> DataReply {
        receive::serve(&self.agent(), Cursor::new(sent), &self.root.join("mnt"))
    }

    /// Imports this archive, whose hash and size are told as they are. What comes in must pack to the same bytes.
    ///
    /// # Errors
    /// Whatever the import finds wrong with it.
    pub fn import(&self, nar: &[u8]) -> Result<PathBuf, Fault> {
        let place = import(&told(nar), &mut { nar }, &self.store(), &mut |_| Ok(()))?;
        let mut again = Vec::new();
        encode_path(&mut again, &place, CaseHack::Disabled).expect("what came in can be packed");
        assert!(again == nar, "what came in is not what was sent");
        Ok(place)
    }

    /// Looks whether everything outside of the store is as it was, and the store has exactly what the agent has noted, each
    /// with the hash and in the form that it must have. Then empties it.
    pub fn judge(&self) {
        assert_eq!(self.look(), self.beside, "something beside the store has changed");
        let sentinel = fs::read_to_string(self.root.join("outside/sentinel")).expect("the sentinel is there");
        assert_eq!(sentinel, SENTINEL);
        let mut noted = BTreeSet::new();
        let visit = |came| match came {
            Came::Whole(info) => {
                check(&info, &self.store());
                noted.remove(&format!("{SIBLING}{}", info.path.to_basename()));
                noted.insert(info.path.to_basename());
            }
            Came::InPart(part) => {
                let sibling = format!("{SIBLING}{}", part.path.to_basename());
                if part.bytes > 0 {
                    noted.insert(sibling)
                } else {
                    noted.remove(&sibling)
                };
            }
        };
        Journal::collect(&self.root.join("state"), visit).expect("the list can be read");
        let mut there = BTreeSet::new();
        for entry in fs::read_dir(self.store()).expect("the store can be listed") {
            let entry = entry.expect("the store can be listed");
            let name = entry.file_name().into_string().expect("a name of ours");
            remove(&entry.path()).expect("what came in can be removed");
            if IMPORTED.rsplit('/').next() != Some(&name) {
                there.insert(name);
            }
        }
        assert_eq!(there, noted, "what is in the store, and what is noted");
        fs::write(self.root.join("state/received.jsonl"), "").expect("emptying the list");
    }

    /// Everything that must stay: names, modes, times and lengths, not of the store and the list themselves.
    fn look(&self) -> Vec<(PathBuf, u32, i64, u64)> {
        let mut seen = Vec::new();
        for directory in ["", "outside", "card", "mnt", "mnt/nix", "state"] {
            for entry in fs::read_dir(self.root.join(directory)).expect("the place can be listed") {
                let path = entry.expect("the place can be listed").path();
                let meta = fs::symlink_metadata(&path).expect("the place can be looked at");
                let changes = path.ends_with("nix/store") || path.ends_with("received.jsonl");
                let (time, length) = if changes { (0, 0) } else { (meta.mtime(), meta.len()) };
                seen.push((path, meta.mode(), time, length));
            }
        }
        seen.sort();
        seen
    }
}

/// What is told of an archive, as it is.
pub(crate) fn told(nar: &[u8]) -> PathInfo {
    PathInfo {
        path: parse_store_path(IMPORTED).expect("a store path"),
        nar_hash: sha256(nar),
        nar_size: nar.len() as u64,
        references: vec![],
        deriver: None,
        signatures: vec![],
        ca: None,
    }
}

fn sha256(bytes: &[u8]) -> NixHash {
    NixHash::from_algorithm_and_digest(HashAlgorithm::Sha256, &Sha256::digest(bytes)).expect("32 bytes")
}

fn check(info: &PathInfo, store: &Path) {
    let path = store.join(info.path.to_basename());
    let mut nar = Vec::new();
    encode_path(&mut nar, &path, CaseHack::Disabled).expect("what is noted can be packed");
    assert!(sha256(&nar) == info.nar_hash && nar.len() as u64 == info.nar_size, "{info:?} is something else");
    let meta = fs::symlink_metadata(&path).expect("what is noted is there");
    assert!(meta.is_symlink() || meta.mode() & 0o222 == 0, "{info:?} can be written to");
    assert_eq!(meta.mtime(), 1, "{info:?}");
}

/// Unpacks zstd frames, `most` bytes at most; returns how many there were.
///
/// # Errors
/// If they are no such frames.
pub fn frames(packed: &[u8], most: u64) -> io::Result<u64> {
    io::copy(&mut Frames::new(packed, MAX_WINDOW, None).take(most), &mut io::sink())
}

/// The same with frames that look back on paths of this store.
///
/// # Errors
/// If they are no such frames, or a base is not there.
pub fn patches(packed: &[u8], store: &Path, most: u64) -> io::Result<u64> {
    // Either way, as it comes.
    let bases = Bases::new(store.to_owned(), packed.len().is_multiple_of(2));
    io::copy(&mut Frames::new(packed, MAX_WINDOW, Some(bases)).take(most), &mut io::sink())
}

/// Unpacks the file of a cache, `most` bytes at most; returns how many there were.
///
/// # Errors
/// If it is not packed so.
pub fn cache_file(file: &[u8], packing: Packing, most: u64) -> io::Result<u64> {
    io::copy(&mut unpacked(file, packing).take(most), &mut io::sink())
}
