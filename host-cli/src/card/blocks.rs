//! A part of a file or device as a seekable stream, in whole aligned blocks: what a raw device wants. Nothing is written
//! before [`Blocks::commit`], so that what fails halfway through leaves the card as it was.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// A multiple of every sector size that there is.
const BLOCK: u64 = 16 * 1024;

/// How much may be done with one file system before it is taken for one that leads in circles: reading and writing a few small
/// files takes some ten thousand steps, and looking through the largest directory or table of clusters some ten million.
const MOST_STEPS: u64 = 30_000_000;
/// How many blocks may be held, 256 MiB: more than any table of clusters and all that we write.
const MOST_BLOCKS: usize = 16 * 1024;

/// What is said of such a file system.
const CIRCLES: &str = "its file system leads in circles, or is damaged in another way";

/// Whether an error says that a file system leads in circles.
pub fn is_circle(error: &io::Error) -> bool {
    error.to_string() == CIRCLES
}

/// The stream.
#[derive(Debug)]
pub struct Blocks {
    file: File,
    /// Bytes of the whole file or device.
    size: u64,
    start: u64,
    length: u64,
    position: u64,
    blocks: BTreeMap<u64, Block>,
    steps: u64,
}

#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    changed: bool,
}

impl Blocks {
    /// The `length` bytes from `start` on, of a file or device of `size` bytes.
    pub fn new(file: File, size: u64, start: u64, length: u64) -> Self {
        let length = length.min(size.saturating_sub(start));
        Self { file, size, start, length, position: 0, blocks: BTreeMap::new(), steps: 0 }
    }

    /// Writes what was changed, and forgets everything, so that what is read next comes from the card.
    pub fn commit(&mut self) -> io::Result<()> {
        for (number, block) in &self.blocks {
            if block.changed {
                self.file.write_all_at(&block.bytes, number * BLOCK)?;
            }
        }
        self.file.sync_all()?;
        self.blocks.clear();
        forget(&self.file);
        Ok(())
    }

    /// Is there anything to write?
    #[cfg(test)]
    pub fn changed(&self) -> bool {
        self.blocks.values().any(|block| block.changed)
    }

    /// Counts a step, and large ones for as much as they move.
    fn step(&mut self, bytes: usize) -> io::Result<()> {
        self.steps = self.steps.saturating_add(1 + bytes as u64 / 512);
        if self.steps > MOST_STEPS { Err(io::Error::other(CIRCLES)) } else { Ok(()) }
    }

    fn block(&mut self, number: u64) -> io::Result<&mut Block> {
        if !self.blocks.contains_key(&number) {
            if self.blocks.len() >= MOST_BLOCKS {
                return Err(io::Error::other(CIRCLES));
            }
            let length = BLOCK.min(self.size.saturating_sub(number * BLOCK));
            let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
            self.file.read_exact_at(&mut bytes, number * BLOCK)?;
            self.blocks.insert(number, Block { bytes, changed: false });
        }
        self.blocks.get_mut(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Where in which block the position is, and how many bytes there are from there to the end of the block or stream.
    fn place(&self, wanted: usize) -> (u64, usize, usize) {
        let at = self.start + self.position;
        let inside = at % BLOCK;
        let left = (BLOCK - inside).min(self.length.saturating_sub(self.position));
        let count = wanted.min(usize::try_from(left).unwrap_or(usize::MAX));
        (at / BLOCK, usize::try_from(inside).unwrap_or_default(), count)
    }
}

/// Has the kernel forget what it has read, so that reading asks the device. Best effort; macOS's raw devices keep nothing.
pub fn forget(file: &File) {
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (number, inside, count) = self.place(buffer.len());
        self.step(count)?;
        if count == 0 {
            return Ok(0);
        }
        let block = self.block(number)?;
        let bytes = block.bytes.get(inside..inside + count).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer[..count].copy_from_slice(bytes);
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Blocks {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let (number, inside, count) = self.place(buffer.len());
        self.step(count)?;
        if count == 0 {
            return Ok(0);
        }
        let block = self.block(number)?;
        let bytes = block.bytes.get_mut(inside..inside + count).ok_or(io::ErrorKind::UnexpectedEof)?;
        if bytes != &buffer[..count] {
            bytes.copy_from_slice(&buffer[..count]);
            block.changed = true;
        }
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Blocks {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
        };
        self.position = to.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// Blocks that somebody else uses, too: a file system takes its stream for itself, and gives it back never.
#[derive(Debug, Clone)]
pub struct Shared(pub Rc<RefCell<Blocks>>);

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}

impl Write for Shared {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Shared {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.borrow_mut().seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_before_it_is_committed() {
        let mut file = tempfile::tempfile().unwrap();
        let whole: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        file.write_all(&whole).unwrap();
        let mut blocks = Blocks::new(file.try_clone().unwrap(), 100_000, 1000, 98_000);
        blocks.seek(SeekFrom::Start(15_000)).unwrap();
        blocks.write_all(&[7; 40_000]).unwrap();
        let now = |file: &File| {
            let mut bytes = vec![0; 100_000];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        assert!(blocks.changed() && now(&file) == whole);
        blocks.commit().unwrap();
        let mut expected = whole.clone();
        expected[16_000..56_000].fill(7);
        assert!(now(&file) == expected && !blocks.changed());
        blocks.seek(SeekFrom::End(-1)).unwrap();
        let mut rest = Vec::new();
        blocks.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, [whole[98_999]]);
        assert!(blocks.write_all(&[1]).is_err() && blocks.seek(SeekFrom::Current(-100_000)).is_err());
    }
}
