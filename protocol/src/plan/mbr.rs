//! What an MBR cannot hold: its entries count sectors in 32 bits, so that nothing of a partition may lie behind 2^32 of them
//! (2 TiB on most disks). parted would say so after the disk was wiped.

use super::{DiskFacts, Refusal};
use crate::disko::{Content, Disk, TableFormat, join};

/// How many sectors can be counted.
const SECTORS: u128 = 1 << 32;

/// Refuses a partition that ends behind what an MBR reaches.
pub(super) fn check(name: &str, disk: &Disk, facts: &DiskFacts) -> Result<(), Refusal> {
    let Content::Table(table) = &disk.content else {
        return Ok(());
    };
    let sector = u128::from(facts.logical_sector_bytes);
    let beyond = |end: &str| {
        position(end, u128::from(facts.size_bytes), sector).is_some_and(|end| end > SECTORS.saturating_mul(sector))
    };
    match table.partitions.iter().position(|entry| table.format == TableFormat::Msdos && beyond(&entry.end)) {
        None => Ok(()),
        Some(index) => Err(Refusal::Layout {
            path: format!("{}.content.partitions[{index}].end", join("disk", name)),
            what: format!(
                "is behind the first 2^32 sectors of the disk ({} TiB), which is all that an MBR reaches",
                sector >> 8
            ),
            remedy: "let the partition end earlier, or use content of type gpt".to_owned(),
        }),
    }
}

/// A position as parted(8) reads it, in bytes, rounded down. `None` where that depends on more than sizes.
fn position(text: &str, size: u128, sector: u128) -> Option<u128> {
    let (from_end, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (number, unit) = text.split_at(text.bytes().take_while(|c| c.is_ascii_digit() || *c == b'.').count());
    let whole: u128 = number.split('.').next()?.parse().ok()?;
    let bytes = match unit.to_ascii_lowercase().as_str() {
        "%" => size.checked_mul(whole)? / 100,
        "s" => whole.checked_mul(sector)?,
        "b" => whole,
        "k" | "kb" => whole.checked_mul(1000)?,
        // parted's own unit, where none is given.
        "" | "m" | "mb" => whole.checked_mul(1000 * 1000)?,
        "g" | "gb" => whole.checked_mul(1000 * 1000 * 1000)?,
        "t" | "tb" => whole.checked_mul(1000 * 1000 * 1000 * 1000)?,
        "p" | "pb" => whole.checked_mul(1000 * 1000 * 1000 * 1000 * 1000)?,
        "kib" => whole.checked_mul(1 << 10)?,
        "mib" => whole.checked_mul(1 << 20)?,
        "gib" => whole.checked_mul(1 << 30)?,
        "tib" => whole.checked_mul(1 << 40)?,
        "pib" => whole.checked_mul(1 << 50)?,
        _ => return None,
    };
    Some(if from_end { size.saturating_sub(bytes) } else { bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_parted_s() {
        let size = 4_000_000_000_000;
        for (text, bytes) in [
            ("100%", size),
            ("50%", size / 2),
            ("-1s", size - 512),
            ("-0", size),
            ("2048s", 1 << 20),
            ("513MiB", 513 << 20),
            ("500", 500_000_000),
            ("1.5GB", 1_000_000_000),
            ("3TB", 3_000_000_000_000),
        ] {
            assert_eq!(position(text, size, 512), Some(bytes), "{text}");
        }
        assert_eq!(position("3cyl", size, 512), None);
    }
}
