//! What a path that is addressed by its content proves by itself: its name is made from what is in it. Pure.
//!
//! Two things have to be right (libstore/path-info.cc, `isContentAddressed`; libstore/local-store.cc, `addToStore`): the path
//! must follow from the content address and the references, and the content address from the content.

use crate::store::{CAHash, HashAlgorithm, NixHash, PathInfo, STORE_DIR, StorePath};
use nix_derivation::NixHasher;
use nix_derivation::StoreDir;
use std::collections::BTreeSet;

/// A content address from which the path follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    hash: CAHash,
    content: Content,
}

/// What has to have the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The NAR, and its registered hash says so already.
    Nar,
    /// The bytes of the one file that the path is.
    File(HashAlgorithm),
    /// The NAR by [`Modulo`]: it refers to itself, or the algorithm is another than that of the registered hash.
    NarModulo(HashAlgorithm),
}

/// What is wrong with a content address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It is not of the form that Nix writes.
    #[error("{text:?} is none")]
    Malformed {
        /// What there is, or its beginning.
        text: String,
    },
    /// Another path follows from it, or none at all.
    #[error("{}", .expected.as_ref().map_or("no path can have it".to_owned(), |path| format!("it is that of {path}")))]
    OtherPath {
        /// The path that follows from it.
        expected: Option<StorePath>,
    },
    /// It is the hash of another content.
    #[error("the content has {actual}")]
    OtherContent {
        /// What it would have to be.
        actual: String,
    },
}

impl Address {
    /// Reads the content address of a path and sees that the path follows from it; `None` if it has none, or one that is
    /// not verified here: a Git tree's.
    ///
    /// # Errors
    /// If it can't be right, whatever the content is.
    pub fn of(info: &PathInfo) -> Result<Option<Self>, BadAddress> {
        let Some(text) = &info.ca else { return Ok(None) };
        // The library's error repeats the text, however long it is.
        let malformed = || BadAddress::Malformed { text: text.chars().take(120).collect() };
        let hash = CAHash::parse(text).map_err(|_| malformed())?;
        let references: BTreeSet<&StorePath> = info.references.iter().filter(|path| **path != info.path).collect();
        let itself = info.references.contains(&info.path);
        let store = StoreDir::new(STORE_DIR).map_err(|_| malformed())?;
        let expected = store.build_ca_path(info.path.name(), &hash, references, itself).ok();
        if expected.as_ref() != Some(&info.path) {
            return Err(BadAddress::OtherPath { expected });
        }
        let content = match &hash {
            CAHash::Nar(nar) if *nar == info.nar_hash && !itself => Content::Nar,
            CAHash::Nar(nar) if nar.algorithm() == info.nar_hash.algorithm() && !itself => {
                let actual = CAHash::Nar(info.nar_hash.clone()).to_nix_string();
                return Err(BadAddress::OtherContent { actual });
            }
            CAHash::Nar(nar) => Content::NarModulo(nar.algorithm()),
            CAHash::Flat(file) => Content::File(file.algorithm()),
            CAHash::Text(_) => Content::File(HashAlgorithm::Sha256),
            CAHash::Git(_) => return Ok(None),
        };
        Ok(Some(Self { hash, content }))
    }

    /// What has to be hashed to know whether it is right.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Compares with the hash of the content; where there are two, one has to be right.
    ///
    /// # Errors
    /// If it is another.
    pub fn check(&self, actual: &[NixHash]) -> Result<(), BadAddress> {
        if actual.contains(&self.hash.hash()) {
            return Ok(());
        }
        let shown = |hash: &NixHash| match (&self.hash, hash) {
            (CAHash::Text(_), NixHash::Sha256(digest)) => CAHash::Text(*digest).to_nix_string(),
            (CAHash::Nar(_), hash) => CAHash::Nar(hash.clone()).to_nix_string(),
            (_, hash) => CAHash::Flat(hash.clone()).to_nix_string(),
        };
        Err(BadAddress::OtherContent { actual: actual.last().map(shown).unwrap_or_default() })
    }

    /// As Nix writes it.
    pub fn to_nix_string(&self) -> String {
        self.hash.to_nix_string()
    }
}

/// The hash of a NAR in which the path's own hash part is blanked out, for a path cannot contain its own hash otherwise
/// (libstore/references.cc, `HashModuloSink`).
pub struct Modulo {
    /// One for each way that Nix has had.
    hashers: [NixHasher; 2],
    modulus: Vec<u8>,
    /// The end of what came, in which an occurrence may have begun.
    held: Vec<u8>,
    /// Where in the NAR `held` begins.
    position: u64,
    matches: Vec<u64>,
    /// There were more than [`MAX_MATCHES`].
    too_many: bool,
}

/// The most places that are remembered: who means ill repeats nothing but the hash part, and 4 GiB of that are 128 million.
/// With more, only the way of newer Nix counts, which needs none of them.
const MAX_MATCHES: usize = 256 * 1024;

/// Of the base-32 hash part of a store path, bytes.
const HASH_PART: usize = 32;

impl Modulo {
    /// Begins a NAR of `path`.
    pub fn new(algorithm: HashAlgorithm, path: &StorePath) -> Self {
        let modulus = path.to_basename().into_bytes().into_iter().take(HASH_PART).collect();
        Self {
            hashers: [0, 1].map(|_| NixHasher::new(algorithm)),
            modulus,
            held: Vec::new(),
            position: 0,
            matches: Vec::new(),
            too_many: false,
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(at) = self.find(from) {
            if let Some(place) = self.held.get_mut(at..at + HASH_PART) {
                place.fill(0);
            }
            if self.matches.len() < MAX_MATCHES {
                self.matches.push(self.position + at as u64);
            } else {
                self.too_many = true;
            }
            from = at + HASH_PART;
        }
        // Only what is shorter than an occurrence has to wait for more.
        let done = self.held.len().saturating_sub(HASH_PART - 1).max(from);
        self.pass_on(done);
    }

    /// Both hashes that Nix has used, once all has come: up to 2.8 at least where the path occurs was hashed, too; by 2.26 it
    /// is not (seen by having both make the same path content-addressed).
    pub fn finish(mut self) -> [NixHash; 2] {
        self.pass_on(self.held.len());
        let [mut with, without] = self.hashers;
        if self.too_many {
            let hash = without.finalize();
            return [hash.clone(), hash];
        }
        for at in &self.matches {
            with.update(format!("|{at}").as_bytes());
        }
        [with.finalize(), without.finalize()]
    }

    fn find(&self, from: usize) -> Option<usize> {
        let rest = self.held.get(from..)?;
        rest.windows(HASH_PART).position(|window| window == self.modulus).map(|at| from + at)
    }

    fn pass_on(&mut self, count: usize) {
        let count = count.min(self.held.len());
        for hasher in &mut self.hashers {
            hasher.update(&self.held[..count]);
        }
        self.held.drain(..count);
        self.position += count as u64;
    }
}
