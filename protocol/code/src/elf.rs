//! What the beginning of an ELF file of aarch64 says about the rest of it. Pure.
//!
//! Structures: elf(5); <elf.h>; the machine's number: ELF for the Arm 64-bit Architecture (IHI 0056), 4.3.1.

use std::ops::Range;

/// The length of the file's header, bytes.
pub const HEADER: usize = 64;
/// The length of each program header, bytes.
const SEGMENT: usize = 56;
/// The most program headers that are looked at; programs have some ten.
const MOST_SEGMENTS: usize = 24;
/// How it begins: the magic number, 64 bits, little-endian, version 1.
pub const MAGIC: [u8; 7] = [0x7f, b'E', b'L', b'F', 2, 1, 1];

const EM_AARCH64: u16 = 183;
const PT_LOAD: u32 = 1;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const PF_X: u32 = 1;

/// A part of the file that is loaded to be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// Where in the file, bytes.
    pub file: Range<u64>,
    /// What is added to a place in the file to get its address.
    pub bias: u64,
}

/// What the headers tell; all places are in the file, bytes from its beginning, multiples of 8.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// Up to here the file is at least.
    pub end: u64,
    /// Code, and whatever else its segment has.
    pub code: Vec<Code>,
    /// The binary search table of `.eh_frame_hdr`, pairs of 32 bits (Linux Standard Base Core 5.0, 10.6.2).
    pub table: Range<u64>,
    /// Where `.eh_frame` would be: linkers put it behind that.
    pub frames: u64,
}

/// How long the headers are together, bytes, if `header` is the first one of a program or library of aarch64.
pub fn headers(header: &[u8; HEADER]) -> Option<usize> {
    let count = usize::from(u16_at(header, 56));
    let fits = header.starts_with(&MAGIC)
        && u16_at(header, 18) == EM_AARCH64
        && u64_at(header, 32) == HEADER as u64
        && usize::from(u16_at(header, 54)) == SEGMENT
        && (1..=MOST_SEGMENTS).contains(&count);
    fits.then_some(HEADER + count * SEGMENT)
}

/// Reads the headers, all of them. Nothing in them is refused: what makes no sense names no place that is ever come to.
pub fn layout(headers: &[u8]) -> Layout {
    let mut layout = Layout::default();
    for segment in headers.get(HEADER..).unwrap_or_default().chunks_exact(SEGMENT) {
        let (kind, flags) = (u32_at(segment, 0), u32_at(segment, 4));
        let (offset, address, size) = (u64_at(segment, 8), u64_at(segment, 16), u64_at(segment, 32));
        let end = offset.saturating_add(size);
        match kind {
            PT_LOAD => {
                layout.end = layout.end.max(end & !7);
                if flags & PF_X != 0 {
                    layout.code.push(Code { file: offset & !7..end & !7, bias: address.wrapping_sub(offset) });
                }
            }
            // Behind the version, the encodings, the pointer to `.eh_frame` and the number of entries.
            PT_GNU_EH_FRAME => {
                layout.table = offset.saturating_add(12 + 7) & !7..end & !7;
                layout.frames = end.saturating_add(7) & !7;
            }
            _ => {}
        }
    }
    // Nothing may depend on how much of it is there at a time.
    layout.table.end = layout.table.end.min(layout.end);
    layout
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
