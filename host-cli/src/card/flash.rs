//! Writing an image to a card so that it is on the card: past the page cache where the system lets us, in large aligned
//! blocks, the partition table last, and read back.

use super::blocks::forget;
use super::image::Image;
use super::medium::{Medium, write_failed};
use super::partitions::HEAD;
use crate::error::fault;
use crate::ui::format::bytes;
use anyhow::{Context, Result};
use cygnet_protocol::fault::FaultCode;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, sync_channel};

/// What goes to the card in one piece: many erase blocks of any card.
const CHUNK: usize = 4 << 20;
/// What O_DIRECT wants of addresses, offsets and lengths.
const ALIGN: usize = 4096;
/// The end of the card where a GPT's copy is, which would tell of what was there before.
const TAIL: u64 = 1 << 20;
/// Without O_DIRECT the card has caught up after at most so many bytes.
const SYNC_EVERY: u64 = 32 << 20;

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Bytes are written.
    Write,
    /// Bytes are read back.
    Verify,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The image's bytes.
    pub bytes: u64,
    /// Their SHA-256, as hex digits; what is on the card has the same.
    pub sha256: String,
}

/// Refuses what is known to be too large, before anything is written.
pub fn fits(image: &Image, room: Option<u64>) -> Result<()> {
    match (image.at_least, room) {
        (Some(needed), Some(room)) if needed > room => Err(too_small(needed, room, "nothing was written")),
        _ => Ok(()),
    }
}

fn too_small(needed: u64, room: u64, so: &str) -> anyhow::Error {
    fault(
        FaultCode::DiskTooSmall,
        format!("The image is larger than the card; {so}."),
        format!("The image has {needed} bytes ({}) at least, the card {room} ({}).", bytes(needed), bytes(room)),
        "Take a larger card; cards of the same nominal size differ by some percent.",
    )
}

/// Writes and verifies. `room` is how much there is; `None` for a file that grows.
pub fn write(
    image: &Image,
    medium: &Medium,
    room: Option<u64>,
    mut progress: impl FnMut(Stage, u64, u64),
) -> Result<Written> {
    fits(image, room)?;
    let chunks = unpack(image)?;
    let next = || chunks.recv().ok().transpose().map_err(|error| image.damaged(&error));
    let first = next()?.unwrap_or_default();
    // Only then is the whole length known beforehand, or here.
    let whole = match image.packing {
        super::image::Packing::None => image.at_least,
        _ if first.len() < CHUNK => Some(first.len() as u64),
        _ => None,
    };
    image.check(first.get(..HEAD.min(first.len())).unwrap_or_default(), whole)?;

    let mut target = Target::new(medium);
    let mut hash = Sha256::new();
    hash.update(&first);
    // From here on the card is blank to whoever looks at it, until all of it is right.
    target.write(0, &vec![0; first.len()])?;
    target.sync()?;
    let mut done = first.len() as u64;
    while let Some(chunk) = next()? {
        let end = done + chunk.len() as u64;
        if let Some(room) = room.filter(|room| end > *room) {
            return Err(too_small(end, room, "what was on the card is gone, and it is not usable"));
        }
        hash.update(&chunk);
        target.write(done, &chunk)?;
        done = end;
        progress(Stage::Write, done, image.estimate(done));
    }
    image.check(first.get(..HEAD.min(first.len())).unwrap_or_default(), Some(done))?;
    if let Some(room) = room.filter(|room| *room > done) {
        let tail = (room - done).min(TAIL);
        target.write(room - tail, &vec![0; usize::try_from(tail).unwrap_or(0)])?;
    }
    target.sync()?;

    let expected = hash.finalize();
    let mut seen = Sha256::new();
    seen.update(&first);
    let mut at = first.len() as u64;
    while at < done {
        let length = usize::try_from((done - at).min(CHUNK as u64)).unwrap_or(CHUNK);
        seen.update(target.read(at, length)?);
        at += length as u64;
        progress(Stage::Verify, at, done);
    }
    if seen.finalize() != expected {
        return Err(differs(&target.shown, "somewhere behind the first 4 MiB"));
    }
    target.write(0, &first)?;
    target.sync()?;
    if target.read(0, first.len())? != first.as_slice() {
        return Err(differs(&target.shown, "within the first 4 MiB"));
    }
    let sha256 = expected.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Written { bytes: done, sha256 })
}

fn differs(shown: &str, place: &str) -> anyhow::Error {
    fault(
        FaultCode::NotWritten,
        format!("What was read back from {shown} is not what was written."),
        format!("It differs {place}: the card or its reader is broken, or the card has less room than it says."),
        "Take another card, or another reader.",
    )
}

/// Unpacks in a thread of its own, a few chunks ahead. All chunks but the last are full.
fn unpack(image: &Image) -> Result<Receiver<io::Result<Vec<u8>>>> {
    let mut stream = image.stream()?;
    let (send, receive) = sync_channel(4);
    let work = move || {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let read = stream.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
            let end = read.is_err() || chunk.len() < CHUNK;
            let sent = match read {
                Ok(0) => Ok(()),
                Ok(_) => send.send(Ok(chunk)),
                Err(error) => send.send(Err(error)),
            };
            if end || sent.is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("unpack".into()).spawn(work).context("starting a thread")?;
    Ok(receive)
}

/// The card, written and read past the page cache if that is possible.
struct Target<'a> {
    file: &'a File,
    shown: String,
    device: bool,
    direct: bool,
    /// Since the last sync.
    dirty: u64,
    buffer: Vec<u8>,
}

impl<'a> Target<'a> {
    fn new(medium: &'a Medium) -> Self {
        let direct = bypass(&medium.file, true);
        let shown = medium.path.display().to_string();
        let buffer = vec![0; CHUNK + ALIGN];
        Self { file: &medium.file, shown, device: medium.disk.is_some(), direct, dirty: 0, buffer }
    }

    /// A piece of the buffer that begins where O_DIRECT wants it.
    fn aligned(&mut self, length: usize) -> &mut [u8] {
        let start = self.buffer.as_ptr().align_offset(ALIGN).min(ALIGN);
        &mut self.buffer[start..start + length.min(CHUNK)]
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        for (number, piece) in bytes.chunks(CHUNK).enumerate() {
            self.piece(at + (number * CHUNK) as u64, piece).map_err(|error| write_failed(&self.shown, error))?;
        }
        Ok(())
    }

    fn piece(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        // Devices are written in whole sectors; what is behind the image's end was to be overwritten anyway.
        let length = if self.device { bytes.len().next_multiple_of(512) } else { bytes.len() };
        let direct = self.direct && length.is_multiple_of(ALIGN) && at.is_multiple_of(ALIGN as u64);
        let file = self.file;
        if self.direct && !direct {
            bypass(file, false);
        }
        let buffer = self.aligned(length);
        buffer[..bytes.len()].copy_from_slice(bytes);
        buffer[bytes.len()..].fill(0);
        let written = file.write_all_at(buffer, at);
        if self.direct && !direct {
            file.sync_data()?;
            bypass(file, true);
        }
        written?;
        self.dirty += length as u64;
        // Else the progress would be that of the page cache.
        if !self.direct && self.dirty >= SYNC_EVERY {
            self.dirty = 0;
            file.sync_data()?;
        }
        Ok(())
    }

    fn read(&mut self, at: u64, length: usize) -> Result<&[u8]> {
        let (file, shown, device) = (self.file, self.shown.clone(), self.device);
        let whole = if device { length.next_multiple_of(512) } else { length };
        let direct = self.direct && whole.is_multiple_of(ALIGN) && at.is_multiple_of(ALIGN as u64);
        if self.direct && !direct {
            bypass(file, false);
        }
        let again = self.direct && !direct;
        let buffer = self.aligned(whole);
        let read = file.read_exact_at(buffer, at);
        if again {
            bypass(file, true);
        }
        read.with_context(|| format!("reading {shown} back"))?;
        Ok(&buffer[..length])
    }

    fn sync(&mut self) -> Result<()> {
        self.dirty = 0;
        self.file.sync_all().map_err(|error| write_failed(&self.shown, error))?;
        forget(self.file);
        Ok(())
    }
}

/// Switches O_DIRECT on or off; false if it is not on now. On macOS the raw device does without a cache by itself.
fn bypass(file: &File, on: bool) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
        let Ok(mut flags) = fcntl_getfl(file) else { return false };
        flags.set(OFlags::DIRECT, on);
        fcntl_setfl(file, flags).is_ok() && on
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (file, on);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::image::tests::{image, packed};
    use super::super::medium::Purpose;
    use super::super::partitions::tests::mbr;
    use super::*;
    use std::path::Path;

    /// Of an odd length, with a partition to its very end.
    fn card(sectors: u32) -> Vec<u8> {
        let mut bytes = mbr(&[(0x0b, 2048, sectors - 2048)]);
        let mut state = 1_u32;
        bytes.resize_with(sectors as usize * 512, || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 30) as u8
        });
        bytes
    }

    fn flash(image: &Path, target: &Path, room: Option<u64>) -> Result<Written> {
        let medium = Medium::open(target, Purpose::Overwrite, false).unwrap();
        let mut last = (Stage::Write, 0);
        write(&Image::open(image)?, &medium, room, |stage, done, total| {
            assert!(done <= total && (stage != last.0 || done > last.1));
            last = (stage, done);
        })
    }

    #[test]
    fn every_packing_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("card");
        for sectors in [8192, 25_001] {
            let bytes = card(sectors);
            for (name, packed) in packed(&bytes) {
                // An empty file grows.
                std::fs::write(&target, b"").unwrap();
                let written = flash(&image(dir.path(), name, &packed), &target, None).unwrap();
                assert!(std::fs::read(&target).unwrap() == bytes, "{name}");
                assert_eq!(written.bytes, bytes.len() as u64);
                // A larger card keeps its size, and no copy of an old table.
                std::fs::write(&target, vec![7; bytes.len() + (3 << 20)]).unwrap();
                let again = flash(&dir.path().join(name), &target, Some(bytes.len() as u64 + (3 << 20))).unwrap();
                let now = std::fs::read(&target).unwrap();
                assert!(again == written && now[..bytes.len()] == bytes && now.len() == bytes.len() + (3 << 20));
                assert!(now[now.len() - (1 << 20)..].iter().all(|byte| *byte == 0));
            }
        }
        let sha = Sha256::digest(card(25_001));
        let written = flash(&dir.path().join("img"), &target, None).unwrap();
        assert_eq!(written.sha256, sha.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }

    #[test]
    fn what_fails_never_looks_whole() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("card");
        let bytes = card(25_000);
        for (name, packed) in packed(&bytes) {
            std::fs::write(&target, card(25_000)).unwrap();
            let mut broken = packed.clone();
            let middle = broken.len() * 3 / 4;
            match name {
                // Without a checksum damage is not seen, but the end is.
                "img" | "img.zst" => broken.truncate(middle),
                _ => broken[middle..middle + 64].fill(0xa5),
            }
            let error = flash(&image(dir.path(), name, &broken), &target, None).unwrap_err();
            assert_eq!(crate::error::fault_of(&error).code, FaultCode::BadImage, "{name}: {error:#}");
            let now = std::fs::read(&target).unwrap();
            // What is cut off visibly is refused before anything is written.
            assert!(
                name == "img" && now == bytes
                    || super::super::partitions::find(&now) == super::super::partitions::Table::None,
                "{name}"
            );
        }
    }

    #[test]
    fn a_card_that_is_too_small_is_refused_before_it_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("card");
        let bytes = card(25_000);
        for (name, packed) in packed(&bytes) {
            std::fs::write(&target, vec![7; 10_000_000]).unwrap();
            let error = flash(&image(dir.path(), name, &packed), &target, Some(10_000_000)).unwrap_err();
            let fault = crate::error::fault_of(&error);
            assert_eq!(fault.code, FaultCode::DiskTooSmall, "{name}");
            let now = std::fs::read(&target).unwrap();
            let untouched = now == vec![7; 10_000_000];
            assert!(
                untouched == fault.what.contains("nothing was written") && now.len() == 10_000_000,
                "{name}: {fault}"
            );
            assert!(untouched || super::super::partitions::find(&now) == super::super::partitions::Table::None);
        }
    }

    #[test]
    fn a_protected_file_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let target = image(dir.path(), "card", b"mine");
        let mut permissions = std::fs::metadata(&target).unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(&target, permissions).unwrap();
        let error = Medium::open(&target, Purpose::Overwrite, false).unwrap_err();
        assert!(error.to_string().contains("write-protected"), "{error}");
    }
}
