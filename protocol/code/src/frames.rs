//! `.eh_frame`, which says how to unwind from each function (Linux Standard Base Core 5.0, 10.6.1). Pure.
//!
//! An entry says how far behind its common part it is, and how far before its function: both differ from entry to entry. They
//! become the place of the common part, and how far the function is behind the end of the one before, which is mostly nothing.

use crate::Way;

/// What all entries begin with: length, common part, function, its length; each 32 bits.
const HEAD: usize = 16;
/// No entry is longer, bytes.
const LONGEST: u32 = 64 * 1024;

/// Where in the section, and what was before.
#[derive(Debug, Clone, Copy)]
pub struct Frames {
    /// Where it begins, bytes into the file.
    start: u64,
    /// Where the last function ended; only the difference to the next one's beginning matters.
    ended: u32,
    /// So many bytes of the present entry are left.
    left: u64,
}

impl Frames {
    /// If the section is at `start`; it begins with a common part.
    pub fn new(start: u64) -> Self {
        Self { start, ended: 0, left: 0 }
    }

    /// Changes the next of `bytes`, which are at `at` and before `end` of the file. Returns how many bytes it has seen, 0 if there
    /// are too few, or nothing if this is not, or no more, such a section.
    pub fn pass(&mut self, way: Way, at: u64, end: u64, bytes: &mut [u8]) -> Option<usize> {
        if self.left > 0 {
            let count = self.left.min(end - at).min(bytes.len() as u64 & !3);
            self.left -= count;
            return usize::try_from(count).ok();
        }
        let Some(head) = bytes.first_chunk_mut::<HEAD>() else { return Some(0) };
        let field = |index: usize| head.as_chunks::<4>().0.get(index).map_or(0, |field| u32::from_le_bytes(*field));
        let (length, common, function, size) = (field(0), field(1), field(2), field(3));
        let fits = (12..=LONGEST).contains(&length) && length.is_multiple_of(4);
        if !fits || at == self.start && common != 0 {
            return None;
        }
        if common != 0 {
            let place = at.wrapping_sub(self.start).wrapping_add(5) as u32;
            let made = mirrored(common, place);
            let here = at.wrapping_add(8) as u32;
            let (moved, original) = match way {
                Way::There => (function.wrapping_add(here).wrapping_sub(self.ended), function),
                Way::Back => {
                    let original = function.wrapping_add(self.ended).wrapping_sub(here);
                    (original, original)
                }
            };
            self.ended = original.wrapping_add(here).wrapping_add(size);
            head[4..8].copy_from_slice(&made.to_le_bytes());
            head[8..12].copy_from_slice(&moved.to_le_bytes());
        }
        self.left = u64::from(length) + 4 - HEAD as u64;
        Some(HEAD)
    }
}

/// How far `value` is before `place`; its own inverse. What is not 0 does not become 0, as that is the mark of a common part.
fn mirrored(value: u32, place: u32) -> u32 {
    if value == place { place } else { place.wrapping_sub(value) }
}
