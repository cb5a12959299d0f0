//! Where sgdisk will put each partition.
//!
//! A prediction, so that a layout that does not fit is refused before anything is destroyed, and so that what sgdisk then
//! made can be compared with what was confirmed. The rules are gptfdisk's: GPTData::FindFirstInLargest, Align,
//! FindLastInFree, CreatePartition and ComputeAlignment, with one sgdisk process per partition as disko runs it.

use crate::disko::Partition;
use crate::disko::size::{Place, place};

/// Bytes of a table of 128 entries.
const TABLE_BYTES: u64 = 128 * 128;
/// gptfdisk's default alignment, 1 MiB.
const ALIGNMENT_BYTES: u64 = 1 << 20;
/// Above this many sectors (300 GB) gptfdisk suspects 4096-byte physical sectors …
const LARGE_DISK_SECTORS: u64 = 585_937_500;
/// … and aligns to 8 at least.
const LARGE_DISK_ALIGNMENT: u64 = 8;

/// First and last sector (inclusive), in logical sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub first: u64,
    pub last: u64,
}

impl Extent {
    pub(super) fn bytes(self, sector_bytes: u32) -> u64 {
        (self.last - self.first + 1).saturating_mul(u64::from(sector_bytes))
    }
}

/// A partition that would not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom {
    /// Index of the partition.
    pub index: usize,
    /// What sgdisk would try.
    pub first: u64,
    /// What sgdisk would try.
    pub last: u64,
}

/// Places `partitions`, in order, on a blank disk.
pub(super) fn place_all(partitions: &[Partition], size_bytes: u64, sector_bytes: u32) -> Result<Vec<Extent>, NoRoom> {
    let mut table = Table::blank(size_bytes, sector_bytes);
    for (index, partition) in partitions.iter().enumerate() {
        let extent = table
            .next(&partition.start, &partition.end, partition.alignment)
            .map_err(|Extent { first, last }| NoRoom { index, first, last })?;
        table.used.push(extent);
    }
    Ok(table.used)
}

/// A partition that is there, from what the kernel says of it: start in units of 512 bytes, size in bytes.
pub(super) fn extent(start: u64, size_bytes: u64, sector_bytes: u32) -> Extent {
    let sector = u64::from(sector_bytes.max(1));
    let first = start.saturating_mul(512) / sector;
    Extent { first, last: first.saturating_add((size_bytes / sector).max(1) - 1) }
}

/// Places those of `partitions` that are not `there`, in order, into what a table with the partitions `used` has free.
pub(super) fn place_rest(
    partitions: &[Partition],
    used: Vec<Extent>,
    there: &dyn Fn(u32) -> Option<Extent>,
    size_bytes: u64,
    sector_bytes: u32,
) -> Result<Vec<Extent>, NoRoom> {
    let mut table = Table { used, ..Table::blank(size_bytes, sector_bytes) };
    let mut placed = Vec::new();
    for (index, partition) in partitions.iter().enumerate() {
        let extent = match there(partition.number) {
            Some(extent) => extent,
            None => {
                let next = table.next(&partition.start, &partition.end, partition.alignment);
                let extent = next.map_err(|Extent { first, last }| NoRoom { index, first, last })?;
                table.used.push(extent);
                extent
            }
        };
        placed.push(extent);
    }
    Ok(placed)
}

/// What partitions of fixed size need together, in bytes: themselves and an alignment unit at either end of the disk.
pub(super) fn needed(partitions: &[Partition], sector_bytes: u32) -> u64 {
    partitions.iter().fold(2 * ALIGNMENT_BYTES, |sum, partition| {
        let size = match place(&partition.end, sector_bytes) {
            Some(Place::Plus(sectors)) => sectors.saturating_mul(u64::from(sector_bytes)),
            _ => ALIGNMENT_BYTES,
        };
        sum.saturating_add(size)
    })
}

struct Table {
    sector_bytes: u32,
    sectors: u64,
    first_usable: u64,
    last_usable: u64,
    used: Vec<Extent>,
}

impl Table {
    fn blank(size_bytes: u64, sector_bytes: u32) -> Self {
        let sector = u64::from(sector_bytes.max(1));
        let sectors = size_bytes / sector;
        let table = TABLE_BYTES.div_ceil(sector);
        // Protective MBR, header and entries in front; entries and header behind.
        Self {
            sector_bytes,
            sectors,
            first_usable: 2 + table,
            last_usable: sectors.saturating_sub(table + 2),
            used: Vec::new(),
        }
    }

    /// The largest power of two up to 1 MiB that divides every start.
    fn alignment(&self) -> u64 {
        let mut alignment = (ALIGNMENT_BYTES / u64::from(self.sector_bytes.max(1))).max(1);
        while alignment > 1 && self.used.iter().any(|extent| extent.first % alignment != 0) {
            alignment /= 2;
        }
        if self.sectors >= LARGE_DISK_SECTORS { alignment.max(LARGE_DISK_ALIGNMENT) } else { alignment }
    }

    fn free(&self) -> Vec<Extent> {
        let mut used = self.used.clone();
        used.sort_by_key(|extent| extent.first);
        let mut free = Vec::new();
        let mut first = self.first_usable;
        for extent in used {
            if extent.first > first {
                free.push(Extent { first, last: extent.first - 1 });
            }
            first = first.max(extent.last + 1);
        }
        if first <= self.last_usable {
            free.push(Extent { first, last: self.last_usable });
        }
        free
    }

    fn free_around(&self, sector: u64) -> Option<Extent> {
        self.free().into_iter().find(|extent| (extent.first..=extent.last).contains(&sector))
    }

    /// Down if everything between is free, else up if that is, else not at all.
    fn align(&self, sector: u64, alignment: u64) -> u64 {
        let down = sector - sector % alignment;
        if down == sector {
            return sector;
        }
        let up = down.saturating_add(alignment);
        match self.free_around(sector) {
            Some(free) if down >= free.first => down,
            Some(free) if up <= free.last => up,
            _ => sector,
        }
    }

    fn next(&self, start: &str, end: &str, alignment: u64) -> Result<Extent, Extent> {
        let nowhere = Extent { first: 0, last: 0 };
        let alignment = if alignment == 0 { self.alignment() } else { alignment };
        let mut largest: Option<Extent> = None;
        for free in self.free() {
            if largest.is_none_or(|best| free.last - free.first > best.last - best.first) {
                largest = Some(free);
            }
        }
        let Some(largest) = largest else {
            return Err(nowhere);
        };
        let low = self.align(largest.first, alignment);
        let over = (largest.last + 1) % alignment;
        let high = if largest.last - largest.first > over && largest.last - over > low {
            largest.last - over
        } else {
            largest.last
        };
        let (Some(start), Some(end)) = (place(start, self.sector_bytes), place(end, self.sector_bytes)) else {
            return Err(nowhere);
        };
        let first = match start {
            Place::Default => low,
            Place::Absolute(n) => n,
            Place::Plus(n) => low.saturating_add(n),
            Place::Minus(n) => high.saturating_sub(n),
        };
        let last = match end {
            Place::Default => high,
            Place::Absolute(n) => n,
            Place::Plus(n) => first.saturating_add(n) - 1,
            Place::Minus(n) => high.saturating_sub(n),
        };
        let first = self.align(first, alignment);
        match self.free_around(first) {
            Some(free) if first <= last && last <= free.last => Ok(Extent { first, last }),
            _ => Err(Extent { first, last }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(sizes: &[(&str, &str)], bytes: u64, sector: u32) -> Vec<(u64, u64)> {
        let mut table = Table::blank(bytes, sector);
        for (start, end) in sizes {
            let extent = table.next(start, end, 0).unwrap();
            table.used.push(extent);
        }
        table.used.iter().map(|extent| (extent.first, extent.last)).collect()
    }

    #[test]
    fn ends_are_aligned_and_absolute_ends_are_not() {
        let disk = 32 << 30;
        assert_eq!(ends(&[("0", "+1024M"), ("0", "-0")], disk, 512), [(2048, 2_099_199), (2_099_200, 67_106_815)]);
        assert_eq!(ends(&[("0", "128M"), ("0", "+1M")], disk, 512), [(2048, 262_144), (264_192, 266_239)]);
        assert_eq!(ends(&[("0", "+1M"), ("0", "-0")], disk, 4096), [(256, 511), (512, 8_388_351)]);
    }

    #[test]
    fn what_does_not_fit_is_said_not_made() {
        let mut table = Table::blank(1 << 20, 512);
        assert!(table.next("0", "+1G", 0).is_err());
        assert!(table.next("-5G", "-6G", 0).is_err());
        table.last_usable = 0;
        assert!(table.next("0", "-0", 0).is_err());
        assert!(Table::blank(0, 512).next("0", "-0", 0).is_err());
    }
}
