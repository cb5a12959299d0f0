//! Destroying what is on a disk, innermost first, and proving that nothing of it is seen afterwards.
//!
//! Signatures are removed by the tools that know them, and then, whatever these found, everything is overwritten where
//! signatures of the whole disk, of its old partitions and of its new ones can be: their first 512 KiB, and all from
//! 512 KiB before the end, counted from the last multiple of 256 KiB. That is where the four ZFS labels are
//! (`vdev_label_offset` in OpenZFS' vdev_label.c), md's superblocks of every version, both copies of a GPT, and the
//! beginning of nearly everything else. So a pool that another table has hidden since does not come back when a new
//! partition begins or ends where an old one did; and no old filesystem of a new boot partition is found by firmware
//! should the power go before it is made anew.
//!
//! The disk as a whole is not discarded: what a discarded block reads as is up to the disk, some USB adapters hang or lie
//! when asked, and the filesystems that are made discard what they need. `blkdiscard --zeroout` writes zeros, and only
//! where a signature could be.

use super::facts::DiskFacts;
use super::gpt::Extent;
use super::parts::{Span, Stage};
use super::step::Step;
use crate::disko::Disk;

/// Size of a ZFS label, and what members' sizes are rounded down to.
const LABEL: u64 = 256 << 10;

/// Removes what is on a disk. `extents` are its new partitions, as far as they are known.
pub(super) fn destroy(disk: &Disk, facts: &DiskFacts, extents: &[Extent]) -> Vec<Step> {
    let mut steps = Vec::new();
    if !disk.destroy {
        return steps;
    }
    let mut forget = |device: &str, fstype: Option<&str>, is_disk: bool| {
        let device = device.to_owned();
        match fstype {
            Some("swap") => steps.push(Step::Deactivate { device: device.clone() }),
            Some("zfs_member") => steps.push(Step::ClearPoolLabel { device: device.clone() }),
            Some("linux_raid_member") => steps.push(Step::ClearArrayMember { device: device.clone() }),
            Some("LVM2_member") => steps.push(Step::RemovePhysicalVolume { device: device.clone() }),
            _ => {}
        }
        // sgdisk may leave parts of a damaged table; wipefs then sees the rest.
        if is_disk {
            steps.push(Step::ZapTable { device: device.clone() });
        }
        steps.push(Step::WipeSignatures { device, stage: Stage::Destroy });
    };
    for partition in &facts.fingerprint.partitions {
        forget(&partition.path, partition.fstype.as_deref(), false);
    }
    forget(&disk.device, facts.fingerprint.fstype.as_deref(), true);
    let spans = spans(facts, extents);
    steps.push(Step::EraseLabels { device: disk.device.clone(), spans: spans.clone() });
    steps.push(Step::ProveBlank { device: disk.device.clone(), spans });
    steps
}

/// Where signatures can be, in order, without overlaps.
fn spans(facts: &DiskFacts, extents: &[Extent]) -> Vec<Span> {
    let sector = u64::from(facts.logical_sector_bytes);
    let old = facts.fingerprint.partitions.iter().map(|partition| {
        let from = partition.start.saturating_mul(512);
        (from, from.saturating_add(partition.size_bytes))
    });
    let new = extents
        .iter()
        .map(|extent| (extent.first.saturating_mul(sector), extent.last.saturating_add(1).saturating_mul(sector)));
    let mut ends: Vec<(u64, u64)> = std::iter::once((0, facts.size_bytes))
        .chain(old)
        .chain(new)
        .map(|(from, to)| (from, to.min(facts.size_bytes)))
        .filter(|(from, to)| from < to)
        .flat_map(|(from, to)| {
            let rounded = (to - from) / LABEL * LABEL;
            let tail = from + rounded.saturating_sub(2 * LABEL);
            [(from, to.min(from.saturating_add(2 * LABEL))), (tail, to)]
        })
        .collect();
    ends.sort_unstable();
    let mut spans: Vec<Span> = Vec::new();
    for (from, to) in ends {
        match spans.last_mut() {
            Some(last) if from <= last.offset + last.length => last.length = last.length.max(to - last.offset),
            _ => spans.push(Span { offset: from, length: to - from }),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PartitionFacts;

    fn disk(size: u64) -> DiskFacts {
        DiskFacts { size_bytes: size, logical_sector_bytes: 512, ..DiskFacts::default() }
    }

    #[test]
    fn all_four_labels_of_disk_and_partitions_are_covered() {
        let mut facts = disk((1 << 30) + 100 * 512);
        let (start, size) = (2048, (300 << 20) + 512);
        facts.fingerprint.partitions = vec![PartitionFacts { start, size_bytes: size, ..PartitionFacts::default() }];
        let new = Extent { first: 4096, last: 8191 };
        let spans = spans(&facts, &[new]);
        let label = |from: u64, size: u64, nth: u64| {
            let size = size / LABEL * LABEL;
            from + nth * LABEL + if nth < 2 { 0 } else { size - 4 * LABEL }
        };
        for (from, size) in [(0, facts.size_bytes), (start * 512, size), (4096 * 512, 4096 * 512)] {
            for nth in 0..4 {
                let at = label(from, size, nth);
                let inside = |span: &Span| span.offset <= at && at + LABEL <= span.offset + span.length;
                assert!(spans.iter().any(inside), "label {nth} at {at} of {from}: {spans:?}");
            }
        }
        // To the very end, where the second GPT and old md superblocks are.
        let last = spans.last().unwrap();
        assert_eq!(last.offset + last.length, facts.size_bytes);
        assert!(spans.windows(2).all(|two| two[0].offset + two[0].length < two[1].offset), "{spans:?}");
        assert!(spans.iter().map(|span| span.length).sum::<u64>() < 8 << 20);
    }

    #[test]
    fn odd_sizes_overflow_nothing() {
        assert!(spans(&disk(0), &[]).is_empty());
        assert_eq!(spans(&disk(512), &[]), [Span { offset: 0, length: 512 }]);
        assert_eq!(spans(&disk(700 << 10), &[]), [Span { offset: 0, length: 700 << 10 }]);
        let mut facts = disk(1 << 20);
        let part = |start, size_bytes| PartitionFacts { start, size_bytes, ..PartitionFacts::default() };
        facts.fingerprint.partitions = vec![part(u64::MAX, u64::MAX), part(4096, 512), part(1, u64::MAX)];
        let spans = spans(&facts, &[Extent { first: u64::MAX, last: u64::MAX }, Extent { first: 9, last: 3 }]);
        assert!(spans.iter().all(|span| span.offset + span.length <= 1 << 20), "{spans:?}");
    }
}
