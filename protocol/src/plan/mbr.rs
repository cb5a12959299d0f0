//! What an MBR cannot hold: its entries count sectors in 32 bits, so that nothing of a partition may lie behind 2^32 of them
//! (2 TiB on most disks); and which tables have no entry for a partition. parted would say so after the disk was wiped.

use super::{DiskFacts, Refusal};
use crate::disko::{Content, Disk, Table, TableFormat, join};

/// How many sectors can be counted.
const SECTORS: u128 = 1 << 32;

/// How many partitions a GPT has, as parted makes it.
const GPT_ENTRIES: usize = 128;

/// Refuses a partition that ends behind what an MBR reaches, and one for which it has no entry.
pub(super) fn check(name: &str, disk: &Disk, facts: &DiskFacts) -> Result<(), Refusal> {
    let Content::Table(table) = &disk.content else {
        return Ok(());
    };
    count(name, table)?;
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

fn count(name: &str, table: &Table) -> Result<(), Refusal> {
    let refused = |index: usize, what: &str, remedy: &str| {
        let path = format!("{}.content.partitions[{index}]", join("disk", name));
        Err(Refusal::Layout { path, what: what.to_owned(), remedy: remedy.to_owned() })
    };
    if table.format == TableFormat::Gpt {
        return match table.partitions.len() {
            0..=GPT_ENTRIES => Ok(()),
            _ => refused(GPT_ENTRIES, "is the 129th, and a GPT holds 128 partitions", "make fewer partitions"),
        };
    }
    // That there are four others at most, the reader of layouts has seen.
    let mut extended = false;
    for (index, entry) in table.partitions.iter().enumerate() {
        match (entry.first_word.as_str(), extended) {
            ("logical", false) => {
                return refused(index, "is logical, and no extended partition comes before it", "make one first");
            }
            ("extended", true) => {
                let remedy = "put all logical ones into the first";
                return refused(index, "is the second extended partition, and an MBR has one", remedy);
            }
            ("extended", false) => extended = true,
            _ => {}
        }
    }
    Ok(())
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
    use crate::disko::{Hooks, TableEntry};

    #[test]
    fn logical_partitions_are_in_the_one_that_is_extended() {
        let table = |words: &[&str]| Table {
            format: TableFormat::Msdos,
            partitions: (1..)
                .zip(words)
                .map(|(number, word)| TableEntry {
                    number,
                    first_word: (*word).to_owned(),
                    fs_type: None,
                    start: "1MiB".into(),
                    end: "100%".into(),
                    flags: Vec::new(),
                    bootable: false,
                    content: None,
                })
                .collect(),
            hooks: Hooks::default(),
        };
        for good in [&["primary"; 4][..], &["primary", "extended", "logical", "logical", "primary"]] {
            assert_eq!(count("a", &table(good)), Ok(()), "{good:?}");
        }
        for bad in [&["logical"][..], &["primary", "logical"], &["extended", "logical", "extended"]] {
            assert!(count("a", &table(bad)).is_err(), "{bad:?}");
        }
        let mut gpt = table(&["x"; 128]);
        gpt.format = TableFormat::Gpt;
        assert_eq!(count("a", &gpt), Ok(()));
        gpt.partitions.push(gpt.partitions[0].clone());
        assert!(count("a", &gpt).is_err());
    }

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
