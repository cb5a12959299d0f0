//! Closures that no store has: their archives (NAR, the Nix manual's "Nix Archive format") are made while they are written.

use cygnet_protocol::store::{HashAlgorithm, NixHash, PathInfo, StorePath};
use sha2::{Digest, Sha256};
use std::io::{self, Write};

/// Bytes of a file come in such blocks.
const BLOCK: u64 = 1 << 20;
/// A block comes again after so many: 24 MiB back, which only a long window reaches.
const AGAIN: u64 = 24;
/// Every so many-th block has not been there before, and does not pack.
const FRESH: u64 = 12;

/// What is in a store path.
#[derive(Debug, Clone, Copy)]
pub enum Tree {
    /// One file of so many bytes.
    File(u64),
    /// So many files, half of them in one directory, the others in directories of a thousand.
    Many(u64),
    /// One short file, with this in it.
    Short(u64),
}

/// A closure: each path refers to some before it.
pub fn closure(trees: impl IntoIterator<Item = Tree>) -> io::Result<Vec<(PathInfo, Tree)>> {
    let mut paths: Vec<(PathInfo, Tree)> = Vec::new();
    for (number, tree) in trees.into_iter().enumerate() {
        let mut measured = Measured { hash: Sha256::new(), size: 0 };
        tree.write(&mut measured)?;
        let name = format!("memory-check-of-the-agent-{number}");
        let digest = Sha256::digest(&name);
        let first = number.saturating_sub(20);
        let info = PathInfo {
            path: digest
                .first_chunk::<20>()
                .and_then(|hash| StorePath::from_parts(*hash, &name).ok())
                .ok_or_else(|| io::Error::other("no name of a store path"))?,
            nar_hash: NixHash::from_algorithm_and_digest(HashAlgorithm::Sha256, &measured.hash.finalize())
                .map_err(|error| io::Error::other(format!("{error:?}")))?,
            nar_size: measured.size,
            references: paths[first..number].iter().map(|(info, _)| info.path.clone()).collect(),
            deriver: None,
            signatures: vec![],
            ca: None,
        };
        paths.push((info, tree));
    }
    Ok(paths)
}

impl Tree {
    /// Writes its archive.
    pub fn write(self, out: &mut impl Write) -> io::Result<()> {
        text(out, b"nix-archive-1")?;
        match self {
            Tree::File(size) => file(out, size, |out| bytes(out, size)),
            Tree::Short(number) => short(out, number),
            Tree::Many(count) => directory(out, |out| {
                entry(out, "flat", |out| {
                    directory(out, |out| {
                        (0..count / 2).try_for_each(|n| entry(out, &format!("file-{n:06}"), |out| short(out, n)))
                    })
                })?;
                (0..count / 2 / 1000).try_for_each(|thousand| {
                    entry(out, &format!("tree-{thousand:03}"), |out| {
                        directory(out, |out| {
                            (0..1000).try_for_each(|n| {
                                entry(out, &format!("file-{n:06}"), |out| short(out, thousand * 1000 + n))
                            })
                        })
                    })
                })
            }),
        }
    }
}

fn short(out: &mut impl Write, number: u64) -> io::Result<()> {
    let content = format!("{number} is the content of a short file, and {number:032x} is its number in another form\n");
    file(out, content.len() as u64, |out| out.write_all(content.as_bytes()))
}

fn bytes(out: &mut impl Write, size: u64) -> io::Result<()> {
    let again: Vec<Vec<u8>> = (0..AGAIN).map(noise).collect();
    let mut left = size;
    let mut number = 0;
    while left > 0 {
        let fresh = number % FRESH == 0;
        let new = if fresh { noise(AGAIN + number) } else { Vec::new() };
        let block = if fresh { &new } else { &again[usize::try_from(number % AGAIN).unwrap_or(0)] };
        let length = left.min(BLOCK);
        out.write_all(&block[..usize::try_from(length).unwrap_or(0)])?;
        left -= length;
        number += 1;
    }
    Ok(())
}

/// A block that does not pack (xorshift64, Marsaglia 2003).
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut block = Vec::with_capacity(BLOCK as usize);
    for _ in 0..BLOCK / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        block.extend_from_slice(&state.to_le_bytes());
    }
    block
}

fn text(out: &mut impl Write, text: &[u8]) -> io::Result<()> {
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text)?;
    padding(out, text.len() as u64)
}

fn padding(out: &mut impl Write, length: u64) -> io::Result<()> {
    let missing = length.next_multiple_of(8) - length;
    out.write_all(&[0; 8][..usize::try_from(missing).unwrap_or(0)])
}

fn words(out: &mut impl Write, words: &[&str]) -> io::Result<()> {
    words.iter().try_for_each(|word| text(out, word.as_bytes()))
}

fn file<W: Write>(out: &mut W, size: u64, content: impl FnOnce(&mut W) -> io::Result<()>) -> io::Result<()> {
    words(out, &["(", "type", "regular", "contents"])?;
    out.write_all(&size.to_le_bytes())?;
    content(out)?;
    padding(out, size)?;
    words(out, &[")"])
}

fn directory<W: Write>(out: &mut W, entries: impl FnOnce(&mut W) -> io::Result<()>) -> io::Result<()> {
    words(out, &["(", "type", "directory"])?;
    entries(out)?;
    words(out, &[")"])
}

fn entry<W: Write>(out: &mut W, name: &str, node: impl FnOnce(&mut W) -> io::Result<()>) -> io::Result<()> {
    words(out, &["entry", "(", "name", name, "node"])?;
    node(out)?;
    words(out, &[")"])
}

struct Measured {
    hash: Sha256,
    size: u64,
}

impl Write for Measured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
