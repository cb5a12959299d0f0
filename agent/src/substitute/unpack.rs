//! A file of a cache, as it comes: counted, hashed, unpacked.

use crate::store::frames::Frames;
use cygnet_protocol::store::{HashAlgorithm, NixHash, NixHasher};
use cygnet_protocol::stream::MAX_WINDOW;
use cygnet_protocol::substituter::{Offer, Packing};
use lzma_rust2::XzReader;
use std::io::{self, BufReader, Read};

/// The most that unpacking xz may need, KiB: its highest preset needs a window of 64 MiB, Nix's default one of 8 MiB.
const MAX_XZ_KIB: u32 = 10 * 1024;

/// Counts and hashes what passes.
pub struct Counted<R> {
    inner: R,
    count: u64,
    limit: u64,
    hasher: NixHasher,
}

impl<R: Read> Counted<R> {
    /// For the file of this offer.
    pub fn new(inner: R, offer: &Offer) -> Self {
        let algorithm = offer.file_hash.as_ref().map_or(HashAlgorithm::Sha256, NixHash::algorithm);
        Self { inner, count: 0, limit: offer.file_size.unwrap_or(u64::MAX), hasher: NixHasher::new(algorithm) }
    }

    /// Bytes so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What it reads from.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Reads what is behind the NAR (an index, a checksum), and compares with what the offer says of the file.
    pub fn finish(mut self, offer: &Offer) -> Result<R, String> {
        io::copy(&mut self, &mut io::sink()).map_err(|error| error.to_string())?;
        if offer.file_size.is_some_and(|size| size != self.count) {
            return Err(format!(
                "the file of {} has another length than the cache says",
                offer.info.path.to_basename()
            ));
        }
        if offer.file_hash.as_ref().is_some_and(|hash| *hash != self.hasher.finalize()) {
            return Err(format!("the file of {} has another hash than the cache says", offer.info.path.to_basename()));
        }
        Ok(self.inner)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        if self.count > self.limit {
            return Err(io::Error::other("the file is longer than the cache says"));
        }
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// Unpacks it; the memory that takes is bounded whatever comes.
pub fn unpacked<'a>(file: impl Read + 'a, packing: Packing) -> Box<dyn Read + 'a> {
    match packing {
        Packing::None => Box::new(file),
        Packing::Zstd => Box::new(Frames::new(BufReader::with_capacity(64 * 1024, file), MAX_WINDOW, None)),
        Packing::Xz => Box::new(XzReader::new_mem_limit(BufReader::with_capacity(64 * 1024, file), true, MAX_XZ_KIB)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `xz --lzma2=dict=512MiB` of five bytes.
    fn greedy() -> Vec<u8> {
        // Stream header, block header with the dictionary's size in its filter flags (the .xz file format, 3.1).
        let mut bytes = vec![0xFD, b'7', b'z', b'X', b'Z', 0, 0, 4, 0xE6, 0xD6, 0xB4, 0x46];
        let header = [2, 0, 0x21, 1, 34, 0, 0, 0];
        bytes.extend(header);
        bytes.extend(crc32(&header).to_le_bytes());
        bytes.extend([1, 0, 4, b'h', b'e', b'l', b'l', b'o', 0]);
        bytes
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
            }
        }
        !crc
    }

    #[test]
    fn a_file_that_wants_too_much_memory_is_an_error() {
        let mut out = Vec::new();
        let error = unpacked(&greedy()[..], Packing::Xz).read_to_end(&mut out).unwrap_err();
        assert!(error.to_string().contains("mem"), "{error}");
    }

    #[test]
    fn garbage_is_an_error_and_nothing_else() {
        for packing in [Packing::Xz, Packing::Zstd] {
            let mut out = Vec::new();
            assert!(unpacked(&b"<html>no such file</html>"[..], packing).read_to_end(&mut out).is_err());
        }
    }
}
