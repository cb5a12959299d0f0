//! Partition tables, as far as a card has them: MBR with four entries, and GPT (UEFI 2.10, 5.3). Pure.
//!
//! Checksums are not looked at: what is found is only a place where to look for a FAT, which has marks of its own.

/// The bytes at the beginning of a card that [`find`] wants: the MBR and a GPT with 128 entries of 128 bytes.
pub const HEAD: usize = 64 * 1024;
/// Bytes. Cards and USB sticks have no others.
const SECTOR: u64 = 512;

/// Where a partition is, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// From the beginning of the card.
    pub start: u64,
    /// How long.
    pub length: u64,
}

/// What is at the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Table {
    /// No partition table, but a FAT: a partition's device, or a card without partitions.
    Fat,
    /// Partitions, in the order of the table.
    Partitions(Vec<Place>),
    /// Neither.
    None,
}

/// Looks at the first bytes of a card, at best [`HEAD`] of them.
pub fn find(head: &[u8]) -> Table {
    if head.get(510..512) != Some(&[0x55, 0xaa]) {
        return Table::None;
    }
    if is_fat(head) {
        return Table::Fat;
    }
    let entries = (0..4).filter_map(|number| head.get(446 + number * 16..462 + number * 16));
    let mut places: Vec<Place> = entries
        // 0xee stands for the GPT itself; a hybrid MBR has others beside it.
        .filter(|entry| !matches!(entry[4], 0 | 0xee))
        .filter_map(|entry| place(u64::from(number32(entry, 8)), u64::from(number32(entry, 12))))
        .collect();
    for place in gpt(head) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    if places.is_empty() { Table::None } else { Table::Partitions(places) }
}

/// Where the last partition ends, bytes: a shorter image is cut off.
pub fn end(head: &[u8]) -> Option<u64> {
    match find(head) {
        Table::Partitions(places) => places.iter().map(|place| place.start + place.length).max(),
        Table::Fat | Table::None => None,
    }
}

/// A jump, and a type that mkfs writes (fatgen103, "FAT Volumes").
fn is_fat(head: &[u8]) -> bool {
    let is = |at: usize, text: &[u8]| head.get(at..at + text.len()) == Some(text);
    matches!(head.first(), Some(0xeb | 0xe9)) && (is(54, b"FAT1") || is(82, b"FAT32"))
}

fn gpt(head: &[u8]) -> Vec<Place> {
    let Some(header) = head.get(512..1024).filter(|header| header.starts_with(b"EFI PART")) else { return vec![] };
    let (first, count, size) = (number64(header, 72), number32(header, 80), number32(header, 84));
    let Ok(size) = usize::try_from(size) else { return vec![] };
    if !(128..=4096).contains(&size) {
        return vec![];
    }
    let begin = usize::try_from(first.saturating_mul(SECTOR)).unwrap_or(usize::MAX);
    let Some(table) = head.get(begin..) else { return vec![] };
    table
        .chunks_exact(size)
        .take(usize::try_from(count).unwrap_or(0))
        .filter(|entry| entry[..16] != [0; 16])
        .filter_map(|entry| {
            let (first, last) = (number64(entry, 32), number64(entry, 40));
            place(first, last.checked_sub(first)?.checked_add(1)?)
        })
        .collect()
}

fn place(first: u64, count: u64) -> Option<Place> {
    let place = Place { start: first.checked_mul(SECTOR)?, length: count.checked_mul(SECTOR)? };
    place.start.checked_add(place.length)?;
    (first > 0 && count > 0).then_some(place)
}

fn number32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn number64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An MBR with these partitions: type, first sector, sectors.
    pub fn mbr(partitions: &[(u8, u32, u32)]) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        for (number, (kind, first, count)) in partitions.iter().enumerate() {
            let at = 446 + number * 16;
            head[at + 4] = *kind;
            head[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
            head[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
        }
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        head
    }

    #[test]
    fn an_mbr_as_nixos_images_have_it() {
        let head = mbr(&[(0x0b, 16_384, 61_440), (0x83, 77_824, 4_000_000)]);
        let boot = Place { start: 8 << 20, length: 30 << 20 };
        let Table::Partitions(places) = find(&head) else { panic!() };
        assert_eq!((places[0], places.len()), (boot, 2));
        assert_eq!(end(&head), Some((77_824 + 4_000_000) * 512));
    }

    #[test]
    fn a_gpt_with_a_hybrid_mbr() {
        let mut head = mbr(&[(0xee, 1, 2047), (0x0c, 2048, 1000)]);
        head[512..520].copy_from_slice(b"EFI PART");
        head[512 + 72] = 2;
        head[512 + 80] = 128;
        head[512 + 84] = 128;
        for (number, (first, last)) in [(2048_u64, 3047_u64), (4096, 9999), (9, 8)].iter().enumerate() {
            let at = 1024 + number * 128;
            head[at] = 1;
            head[at + 32..at + 40].copy_from_slice(&first.to_le_bytes());
            head[at + 40..at + 48].copy_from_slice(&last.to_le_bytes());
        }
        let Table::Partitions(places) = find(&head) else { panic!() };
        assert_eq!(places.len(), 2);
        assert_eq!(places[1], Place { start: 4096 * 512, length: 5904 * 512 });
    }

    #[test]
    fn what_is_no_table() {
        assert_eq!(find(&[]), Table::None);
        assert_eq!(find(&[0; 512]), Table::None);
        assert_eq!(find(&mbr(&[])), Table::None);
        assert_eq!(find(&mbr(&[(0x0b, 0, 5), (0x0b, 5, 0), (0xee, 1, 9)])), Table::None);
        let mut fat = mbr(&[]);
        fat[0] = 0xeb;
        fat[82..87].copy_from_slice(b"FAT32");
        assert_eq!(find(&fat[..512]), Table::Fat);
    }
}
