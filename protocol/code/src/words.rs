//! How the words of a program change, and change back. Pure.

use crate::Way;

/// The length of an `Elf64_Rela` (elf(5)), bytes.
pub const RELOCATION: usize = 24;

/// `bl`: calls what is so many words away (Arm Architecture Reference Manual, C6.2, BL).
const BL: (u32, u32) = (0xfc00_0000, 0x9400_0000);
/// `adrp`: the address of a page that is so many pages away (the same, ADRP).
const ADRP: (u32, u32) = (0x9f00_0000, 0x9000_0000);

/// The word of code at `address`, with what it says of a place changed.
fn instruction(way: Way, word: u32, address: u64) -> u32 {
    let is = |(mask, value): (u32, u32)| word & mask == value;
    let moved = |place: u32, by: u64| match way {
        Way::There => place.wrapping_add(by as u32),
        Way::Back => place.wrapping_sub(by as u32),
    };
    if is(BL) {
        BL.1 | (moved(word, address >> 2) & !BL.0)
    } else if is(ADRP) {
        // Its lower two bits stand apart.
        let pages = moved((word >> 29 & 3) | (word >> 3 & 0x1f_fffc), address >> 12);
        (word & 0x9f00_001f) | (pages & 3) << 29 | (pages >> 2 & 0x7_ffff) << 5
    } else {
        word
    }
}

/// How much more than `before` a value is, or what is so much more; it is what the next one's `before` is.
fn difference(way: Way, value: u64, before: &mut u64) -> u64 {
    let made = match way {
        Way::There => value.wrapping_sub(*before),
        Way::Back => value.wrapping_add(*before),
    };
    *before = if way == Way::There { value } else { made };
    made
}

/// Both halves of a word, each by itself.
fn halves(word: u64, each: impl Fn(u32, u64) -> u32) -> u64 {
    u64::from(each((word >> 32) as u32, 4)) << 32 | u64::from(each(word as u32, 0))
}

/// A table of pairs of 32 bits.
#[derive(Debug, Default)]
pub struct Table {
    before: u64,
}

impl Table {
    /// Changes whole pairs, and returns how many bytes that are.
    pub fn pass(&mut self, way: Way, bytes: &mut [u8]) -> usize {
        let (pairs, _) = bytes.as_chunks_mut::<8>();
        for pair in &mut *pairs {
            let given = u64::from_le_bytes(*pair);
            let before = |shift: u64| (self.before >> (shift * 8)) as u32;
            let made = halves(given, |half, at| match way {
                Way::There => half.wrapping_sub(before(at)),
                Way::Back => half.wrapping_add(before(at)),
            });
            self.before = if way == Way::There { given } else { made };
            *pair = made.to_le_bytes();
        }
        pairs.len() * 8
    }
}

/// Finds relocations by themselves, as the headers do not say where they are: two behind each other are enough.
#[derive(Debug)]
pub enum Relocations {
    /// None so far; the last three words.
    Watched([u64; 3]),
    /// This is where the second one's addend comes; its two others.
    Addend([u64; 2]),
    /// The last one.
    Here([u64; 3]),
}

impl Default for Relocations {
    fn default() -> Self {
        Self::Watched([0; 3])
    }
}

/// Whether a word says what kind of relocation it is: of those that a linked program has (ELF for the Arm 64-bit Architecture,
/// 5.7), with the number of a symbol.
fn is_info(word: u64) -> bool {
    matches!(word as u32, 257 | 1024..=1032) && word >> 32 < 1 << 24
}

impl Relocations {
    /// Whether the next bytes are [`Self::pass`]'s.
    pub fn are_here(&self) -> bool {
        !matches!(self, Self::Watched(..))
    }

    /// Changes words up to where relocations begin: instructions, if they have an address. Returns how many bytes it has seen.
    pub fn watch(&mut self, way: Way, address: Option<u64>, bytes: &mut [u8]) -> usize {
        let Self::Watched([mut third, mut second, mut last]) = *self else { return 0 };
        let (words, _) = bytes.as_chunks_mut::<8>();
        for (index, word) in words.iter_mut().enumerate() {
            let mut original = u64::from_le_bytes(*word);
            if let Some(address) = address {
                let address = address.wrapping_add(index as u64 * 8);
                let made = halves(original, |half, at| instruction(way, half, address.wrapping_add(at)));
                *word = made.to_le_bytes();
                if way == Way::Back {
                    original = made;
                }
            }
            if is_info(original) && is_info(third) {
                *self = Self::Addend([last, original]);
                return (index + 1) * 8;
            }
            (third, second, last) = (second, last, original);
        }
        *self = Self::Watched([third, second, last]);
        words.len() * 8
    }

    /// Changes the next relocation, and returns how many bytes that are; 0 if there are too few.
    pub fn pass(&mut self, way: Way, bytes: &mut [u8]) -> usize {
        match self {
            Self::Watched(..) => 0,
            Self::Addend([offset, info]) => {
                let Some(addend) = bytes.first_chunk::<8>() else { return 0 };
                *self = Self::Here([*offset, *info, u64::from_le_bytes(*addend)]);
                addend.len()
            }
            Self::Here(last) => {
                let Some(entry) = bytes.first_chunk_mut::<RELOCATION>() else { return 0 };
                for (field, before) in entry.as_chunks_mut::<8>().0.iter_mut().zip(last.iter_mut()) {
                    *field = difference(way, u64::from_le_bytes(*field), before).to_le_bytes();
                }
                if !is_info(last[1]) {
                    *self = Self::default();
                }
                RELOCATION
            }
        }
    }
}
