//! Writes what seeds are made of: strings as Nix has them, archives by hand, zstd frames. Nothing is too odd to be written.

use structured_zstd::encoding::{CompressionLevel, compress_to_vec};

/// Where one data channel is cut and the next begins.
pub const CUT: &[u8] = b"\n\0cut\0\n";

/// Nix's numbers and strings, one behind the other (libutil/serialise.hh): used by archives and by the worker protocol.
#[derive(Default)]
pub struct Wire(pub Vec<u8>);

impl Wire {
    /// A number.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    /// Numbers.
    #[must_use]
    pub fn numbers(self, numbers: &[u64]) -> Self {
        numbers.iter().fold(self, |wire, number| wire.number(*number))
    }

    /// A string.
    #[must_use]
    pub fn text(self, text: &[u8]) -> Self {
        let mut wire = self.number(text.len() as u64);
        wire.0.extend(text);
        wire.0.resize(wire.0.len().next_multiple_of(8), 0);
        wire
    }

    /// Strings, without their number.
    #[must_use]
    pub fn texts(self, texts: &[&str]) -> Self {
        texts.iter().fold(self, |wire, text| wire.text(text.as_bytes()))
    }

    /// Bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// A file of an archive.
    #[must_use]
    pub fn file(self, contents: &[u8], executable: bool) -> Self {
        let wire = self.texts(&["(", "type", "regular"]);
        let wire = if executable { wire.texts(&["executable", ""]) } else { wire };
        wire.text(b"contents").text(contents).text(b")")
    }

    /// A symbolic link of an archive.
    #[must_use]
    pub fn link(self, target: &[u8]) -> Self {
        self.texts(&["(", "type", "symlink", "target"]).text(target).text(b")")
    }

    /// A directory of an archive, of names and what makes each of them.
    #[must_use]
    pub fn directory(self, entries: &[(&[u8], &dyn Fn(Self) -> Self)]) -> Self {
        let mut wire = self.texts(&["(", "type", "directory"]);
        for (name, node) in entries {
            wire = node(wire.texts(&["entry", "(", "name"]).text(name).text(b"node")).text(b")");
        }
        wire.text(b")")
    }
}

/// An archive.
#[must_use]
pub fn archive(node: impl FnOnce(Wire) -> Wire) -> Vec<u8> {
    node(Wire::default().text(b"nix-archive-1")).0
}

/// A small tree with one of everything.
#[must_use]
pub fn sample() -> Vec<u8> {
    archive(|wire| {
        wire.directory(&[
            (b"bin", &|wire| wire.directory(&[(b"run", &|wire| wire.file(b"#!/bin/sh\n", true))])),
            (b"empty", &|wire| wire.directory(&[])),
            (b"file", &|wire| wire.file(b"contents", false)),
            (b"link", &|wire| wire.link(b"../../etc/passwd")),
        ])
    })
}

/// One zstd frame.
#[must_use]
pub fn packed(plain: &[u8]) -> Vec<u8> {
    compress_to_vec(plain, CompressionLevel::Fastest)
}

/// zstd frames whose blocks are as they come: what the fuzzer changes in `plain` is what is unpacked.
#[must_use]
pub fn stored(plain: &[u8]) -> Vec<u8> {
    compress_to_vec(plain, CompressionLevel::Uncompressed)
}
