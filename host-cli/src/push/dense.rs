//! What is compressed already (kernel modules as `.ko.xz`, firmware, pictures) is not compressed again: no level makes it
//! shorter, and a high one takes ten times as long to find that out.
//!
//! Seen by the entropy of its bytes: packed ones are all about as frequent, of machine code and text they are not.

/// What is looked at as a whole, bytes.
const BLOCK: usize = 64 * 1024;
/// One of so many bytes is counted; a number that is no record's length.
const EACH: usize = 7;
/// Bits for a byte from which on a block counts as packed. Of noise it is 7.997, of xz 7.99, of machine code 6 to 7.
const PACKED: f64 = 7.9;
/// So many of the last blocks, of [`LAST`], must be packed: a level is for 8 MiB.
const MOST: u32 = 28;
const LAST: u32 = 32;

/// Whether what went by lately is compressed already.
#[derive(Debug)]
pub struct Dense {
    counts: Box<[u32; 256]>,
    seen: usize,
    /// The last blocks, the newest in the lowest bit.
    packed: u32,
}

impl Dense {
    /// Nothing has gone by.
    pub fn new() -> Self {
        Self { counts: Box::new([0; 256]), seen: 0, packed: 0 }
    }

    /// These bytes go by.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.seen));
            for byte in now.iter().step_by(EACH) {
                self.counts[usize::from(*byte)] += 1;
            }
            self.seen += now.len();
            if self.seen == BLOCK {
                self.packed = (self.packed << 1) | u32::from(entropy(&self.counts) >= PACKED);
                self.counts.fill(0);
                self.seen = 0;
            }
            bytes = later;
        }
    }

    /// Whether it is of no use to try hard.
    pub fn is(&self) -> bool {
        const { assert!(LAST == u32::BITS) };
        self.packed.count_ones() >= MOST
    }
}

/// Bits for each byte, if bytes were independent (Shannon).
fn entropy(counts: &[u32; 256]) -> f64 {
    let all = f64::from(counts.iter().sum::<u32>());
    let share = |count: &u32| f64::from(*count) / all;
    counts.iter().filter(|count| **count > 0).map(|count| -share(count) * share(count).log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn what_is_packed_is_told_from_what_is_not() {
        let mut dense = Dense::new();
        assert!(!dense.is());
        // Small files, with a NAR's words and padding between them.
        for _ in 0..60 {
            dense.pass(&noise(40_000));
            dense.pass(&[0; 300]);
        }
        assert!(dense.is());
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        dense.pass(&own[..4 << 20]);
        assert!(!dense.is());
    }

    #[test]
    fn xz_and_zstd_are_packed() {
        let text: Vec<u8> = noise(3 << 20).iter().map(|byte| b'a' + byte % 20).collect();
        let mut dense = Dense::new();
        dense.pass(&text);
        assert!(!dense.is());
        let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
        std::io::Write::write_all(&mut xz, &text).unwrap();
        let packed = xz.finish().unwrap();
        for _ in 0..2 {
            dense.pass(&packed);
        }
        assert!(dense.is(), "{} bytes of xz", packed.len());
    }
}
