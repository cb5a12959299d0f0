//! The proof that nothing is left on a disk that was destroyed.

use crate::run::{RunError, capture, is_there, printable};
use cygnet_protocol::fault::{Fault, FaultCode, sentence};
use cygnet_protocol::plan::Span;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How much is read at once.
const PIECE: u64 = 64 << 10;

/// Stops unless `spans` are zeros, and neither blkid(8) nor zpool(8) finds anything on the disk.
pub fn prove(disk: &str, spans: &[Span]) -> Result<(), Fault> {
    let rest = |what: String| {
        Fault::new(
            FaultCode::StepFailed,
            sentence(&format!("{disk} was destroyed, and {what}")),
            "The disk ignores what is written, or something wrote to it meanwhile. Some USB adapters and worn disks do that.",
            "Try another adapter, cable or disk. To see more, run `wipefs` on it on the Pi.",
        )
    };
    // Probing the device itself, not udev's or blkid's memory of it.
    let _ = capture(&["udevadm", "settle", "--timeout=30"]);
    for span in spans {
        match File::open(disk).and_then(|file| first_other(&file, *span)) {
            Ok(None) => {}
            Ok(Some(at)) => return Err(rest(format!("byte {at} is not zero"))),
            Err(error) => return Err(rest(format!("cannot be read at {}: {error}", span.offset))),
        }
    }
    match capture(&["blkid", "--probe", disk]) {
        // blkid(8): 2 for nothing found, 8 for contradictions.
        Err(RunError::Failed { status, .. }) if status.code() == Some(2) => {}
        Ok(found) => return Err(rest(format!("blkid still finds {}", printable(found.trim().as_bytes())))),
        Err(error) => return Err(rest(format!("blkid finds contradictions: {error}"))),
    }
    if is_there("zpool") {
        // It ends with 1 where it finds none; what counts is what it lists.
        let listed = capture(&["zpool", "import", "-d", disk]).unwrap_or_default();
        if let Some(pool) = first_pool(&listed) {
            return Err(rest(format!("zpool still finds the pool {pool}")));
        }
    }
    Ok(())
}

/// Offset of the first byte that is not zero.
fn first_other(file: &impl FileExt, span: Span) -> io::Result<Option<u64>> {
    let mut buffer = vec![0; PIECE as usize];
    let mut at = span.offset;
    let end = span.offset.saturating_add(span.length);
    while at < end {
        let length = usize::try_from((end - at).min(PIECE)).unwrap_or(buffer.len());
        let Some(piece) = buffer.get_mut(..length) else { break };
        file.read_exact_at(piece, at)?;
        if let Some(index) = piece.iter().position(|byte| *byte != 0) {
            return Ok(Some(at + index as u64));
        }
        at += length as u64;
    }
    Ok(None)
}

/// The first pool of `zpool import`'s list.
fn first_pool(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.trim().strip_prefix("pool: ")).map(|name| printable(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_byte_is_found() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let all = Span { offset: 0, length: 1 << 20 };
        assert_eq!(first_other(&file, all).unwrap(), None);
        file.write_all_at(b"x", 700_001).unwrap();
        assert_eq!(first_other(&file, all).unwrap(), Some(700_001));
        assert_eq!(first_other(&file, Span { offset: 0, length: 700_001 }).unwrap(), None);
        assert_eq!(first_other(&file, Span { offset: 700_001, length: 1 }).unwrap(), Some(700_001));
        assert!(first_other(&file, Span { offset: 1 << 20, length: 1 }).is_err());
    }

    #[test]
    fn a_pool_is_found_in_the_list() {
        assert_eq!(first_pool("  pool: raw\n    id: 1\n state: UNAVAIL\n").as_deref(), Some("raw"));
        assert_eq!(first_pool("no pools available to import\n"), None);
    }
}
