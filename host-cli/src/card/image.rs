//! An image of a card, packed or not, as a stream of its bytes.

use super::partitions;
use crate::error::fault;
use anyhow::{Context, Result};
use cygnet_protocol::fault::FaultCode;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most memory that unpacking may take, KiB: a dictionary as large as one asks for is allocated at once. zstd has the same
/// limit, in the size of its window.
const MOST_MEMORY: u32 = 2 << 20;

/// How it is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    None,
    /// zstd.
    Zstd,
    /// xz.
    Xz,
    /// gzip.
    Gzip,
}

/// An image.
#[derive(Debug)]
pub struct Image {
    /// The file.
    pub path: PathBuf,
    /// How it is packed.
    pub packing: Packing,
    /// Bytes of the file.
    pub packed: u64,
    /// The bytes that it has at least when unpacked, as far as its headers tell.
    pub at_least: Option<u64>,
    /// How many of the file's bytes were read by now.
    pub read: Arc<AtomicU64>,
}

impl Image {
    /// Opens it. Of a directory, as `nix build` makes it, the one image in it.
    pub fn open(given: &Path) -> Result<Self> {
        let path = if given.is_dir() { inside(given)? } else { given.to_owned() };
        let metadata = std::fs::metadata(&path).map_err(|error| unopened(&path, error))?;
        if !metadata.is_file() {
            // Opening a pipe may never end, and a device does not tell its length.
            return Err(bad(&path, "It is no file but a device, a pipe or the like.".into(), "Give the image's file."));
        }
        let file = File::open(&path).map_err(|error| unopened(&path, error))?;
        let packed = metadata.len();
        let mut head = vec![0; 64.min(usize::try_from(packed).unwrap_or(64))];
        file.read_exact_at(&mut head, 0).with_context(|| format!("reading {}", path.display()))?;
        let packing = packing(&head).map_err(|what| {
            bad(
                &path,
                format!("It is {what}, which is not unpacked here."),
                "Unpack it first, and give what was in it.",
            )
        })?;
        let tail_length = packed.min(64 * 1024);
        let mut tail = vec![0; usize::try_from(tail_length).unwrap_or(0)];
        file.read_exact_at(&mut tail, packed - tail_length).with_context(|| format!("reading {}", path.display()))?;
        let at_least = match packing {
            Packing::None => Some(packed),
            Packing::Zstd => zstd_size(&head),
            Packing::Xz => xz_size(&tail),
            // The size modulo 4 GB (RFC 1952, ISIZE).
            Packing::Gzip => tail.last_chunk().map(|four| u64::from(u32::from_le_bytes(*four))),
        };
        Ok(Self { path, packing, packed, at_least, read: Arc::default() })
    }

    /// All its bytes, unpacked.
    pub fn stream(&self) -> Result<Box<dyn Read + Send>> {
        let opening = || format!("opening the image {}", self.path.display());
        let file = File::open(&self.path).with_context(opening)?;
        self.read.store(0, Ordering::Relaxed);
        let file = BufReader::with_capacity(1 << 20, Counted { file, count: self.read.clone() });
        Ok(match self.packing {
            Packing::None => Box::new(file),
            Packing::Zstd => unzstd(file).with_context(opening)?,
            Packing::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(file, true, MOST_MEMORY)),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        })
    }

    /// How many bytes it will have, estimated by how much of it was read when there were `done`.
    pub fn estimate(&self, done: u64) -> u64 {
        let read = self.read.load(Ordering::Relaxed).max(1);
        let guess = u128::from(done) * u128::from(self.packed) / u128::from(read);
        match (self.packing, self.at_least) {
            // Only gzip's may be too low.
            (Packing::None | Packing::Zstd | Packing::Xz, Some(size)) => size.max(done),
            _ => u64::try_from(guess).unwrap_or(u64::MAX).max(done),
        }
    }

    /// What is said of an image that can't be unpacked to its end.
    pub fn damaged(&self, error: &io::Error) -> anyhow::Error {
        let cut = error.kind() == io::ErrorKind::UnexpectedEof;
        let cause = match (cut, error.to_string().contains("memory")) {
            (true, _) => "It is cut off: a download that did not end.",
            (false, true) => "It can't be unpacked with 2 GiB of memory, which is more than any image is packed with.",
            (false, false) => "It is damaged.",
        };
        bad(&self.path, format!("{cause} ({error})"), "Download or build it again.")
    }

    /// Refuses what is no image of a card, by its first bytes, and what is cut off, if its length is known.
    pub fn check(&self, head: &[u8], length: Option<u64>) -> Result<()> {
        match (partitions::find(head), partitions::end(head)) {
            (partitions::Table::Partitions(_), Some(end)) if length.is_some_and(|length| length < end) => {
                let cause = format!(
                    "It is cut off: its partition table tells of {end} bytes, and it has {}.",
                    length.unwrap_or_default()
                );
                Err(bad(&self.path, cause, "Download or build it again."))
            }
            (partitions::Table::Partitions(_), _) => Ok(()),
            _ => Err(bad(
                &self.path,
                "It does not begin with a partition table, so it is no image of a whole card.".into(),
                "Give the image itself: the file that ends with .img, .img.zst, .img.xz or .img.gz.",
            )),
        }
    }
}

fn bad(path: &Path, cause: String, remedy: &str) -> anyhow::Error {
    fault(FaultCode::BadImage, format!("{} can't be used as an image of a card.", path.display()), cause, remedy)
}

/// Why there is nothing to read.
fn unopened(path: &Path, error: io::Error) -> anyhow::Error {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => fault(
            FaultCode::NotFound,
            format!("There is no image {shown}."),
            "The path is mistyped, the image is not built or downloaded yet, or a link leads to what is gone.",
            "Give the path of the image, or of the directory that `nix build` has made of it.",
        ),
        io::ErrorKind::PermissionDenied => fault(
            FaultCode::AccessDenied,
            format!("The image {shown} may not be read."),
            "It, or a directory above it, is somebody else's; macOS also asks which programs may look into Downloads and the like.",
            "Allow it (`chmod a+r`, or in System Settings, Privacy & Security), or copy the image to where it may be read.",
        ),
        _ => anyhow::Error::from(error).context(format!("opening the image {shown}")),
    }
}

/// `result/sd-image/….img.zst`
fn inside(dir: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    for dir in [dir.join("sd-image"), dir.to_owned()] {
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries.filter_map(Result::ok),
            // Not every directory has an sd-image/.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(unopened(&dir, error)),
        };
        found.extend(entries.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            [".img", ".img.zst", ".img.xz", ".img.gz"].iter().any(|end| name.ends_with(end))
        }));
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        found => Err(bad(
            dir,
            format!("It is a directory, with {} images in it or its sd-image/.", found.len()),
            "Give the image's file.",
        )),
    }
}

fn packing(head: &[u8]) -> Result<Packing, &'static str> {
    let begins = |magic: &[u8]| head.starts_with(magic);
    if begins(b"\x28\xb5\x2f\xfd") || matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]) {
        Ok(Packing::Zstd)
    } else if begins(b"\xfd7zXZ\0") {
        Ok(Packing::Xz)
    } else if begins(b"\x1f\x8b") {
        Ok(Packing::Gzip)
    } else if begins(b"PK\x03\x04") {
        Err("a zip archive")
    } else if begins(b"BZh") {
        Err("packed with bzip2")
    } else if begins(b"7z\xbc\xaf") {
        Err("a 7z archive")
    } else {
        Ok(Packing::None)
    }
}

/// The first frame's content size, if it tells (RFC 8878, 3.1.1.1).
fn zstd_size(head: &[u8]) -> Option<u64> {
    let descriptor = *head.get(4).filter(|_| head.starts_with(b"\x28\xb5\x2f\xfd"))?;
    let single = descriptor & 0x20 != 0;
    let at = 5 + usize::from(!single) + [0, 1, 2, 4][usize::from(descriptor & 3)];
    let field = |length: usize| -> Option<u64> {
        let bytes = head.get(at..at + length)?;
        Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    match (descriptor >> 6, single) {
        (0, false) => None,
        (0, true) => field(1),
        (1, _) => field(2).map(|size| size + 256),
        (2, _) => field(4),
        _ => field(8),
    }
}

/// The sum in the last stream's index (The .xz File Format, 2.1.2 and 4), if the whole of it is in `tail`.
fn xz_size(tail: &[u8]) -> Option<u64> {
    let footer = tail.len().checked_sub(12)?;
    if !tail.ends_with(b"YZ") {
        return None;
    }
    let backward = u32::from_le_bytes(tail.get(footer + 4..footer + 8)?.try_into().ok()?);
    let length = (usize::try_from(backward).ok()? + 1).checked_mul(4)?;
    let index = tail.get(footer.checked_sub(length)?..footer)?;
    let mut rest = index.strip_prefix(&[0])?.iter();
    let mut number = || -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = *rest.next()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    };
    let mut sum = 0_u64;
    for _ in 0..number()? {
        number()?;
        sum = sum.checked_add(number()?)?;
    }
    Some(sum)
}

struct Counted {
    file: File,
    count: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(feature = "libzstd")]
fn unzstd(file: BufReader<Counted>) -> io::Result<Box<dyn Read + Send>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
    // Images are packed with `--long`, too.
    decoder.window_log_max(31)?;
    Ok(Box::new(decoder))
}

#[cfg(not(feature = "libzstd"))]
fn unzstd(file: BufReader<Counted>) -> io::Result<Box<dyn Read + Send>> {
    use structured_zstd::decoding::{FrameDecoder, MAX_DECODER_WINDOW_SIZE, StreamingDecoder};
    let mut decoder = FrameDecoder::new();
    // As with libzstd, for `--long`.
    decoder.set_max_window_size(MAX_DECODER_WINDOW_SIZE).map_err(io::Error::other)?;
    Ok(Box::new(StreamingDecoder::new_with_decoder(file, decoder)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;

    /// Packed in each way, with the name's end.
    pub fn packed(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
        xz.write_all(bytes).unwrap();
        let zstd =
            structured_zstd::encoding::compress_to_vec(bytes, structured_zstd::encoding::CompressionLevel::Fastest);
        vec![
            ("img", bytes.to_vec()),
            ("img.gz", gzip.finish().unwrap()),
            ("img.xz", xz.finish().unwrap()),
            ("img.zst", zstd),
        ]
    }

    pub fn image(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The dictionary's size is one byte of the first block's header (The .xz File Format, 3.1 and 5.3.1).
    #[test]
    fn a_dictionary_larger_than_memory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (_, mut packed) = packed(&[7; 100_000]).into_iter().find(|(name, _)| name.ends_with(".xz")).unwrap();
        // Filter 0x21 with one byte of properties; 40 stands for 4 GiB less one byte.
        let at = 12 + packed[12..].windows(2).position(|bytes| bytes == [0x21, 1]).unwrap() + 2;
        packed[at] = 40;
        let size = (usize::from(packed[12]) + 1) * 4;
        let sum = crc32(&packed[12..12 + size - 4]).to_le_bytes();
        packed[12 + size - 4..12 + size].copy_from_slice(&sum);
        let opened = Image::open(&image(dir.path(), "x.img.xz", &packed)).unwrap();
        let error = opened.stream().unwrap().read_to_end(&mut Vec::new()).unwrap_err();
        let fault = crate::error::fault_of(&opened.damaged(&error));
        assert!(fault.code == FaultCode::BadImage && fault.cause.contains("2 GiB of memory"), "{fault}");
    }

    /// As IEEE 802.3 has it.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 })
        })
    }

    #[test]
    fn every_packing_is_unpacked_whatever_its_name_is() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7 % 251) as u8).collect();
        for (name, packed) in packed(&bytes) {
            let opened = Image::open(&image(dir.path(), "x", &packed)).unwrap();
            let mut all = Vec::new();
            opened.stream().unwrap().read_to_end(&mut all).unwrap();
            assert!(all == bytes, "{name}");
            assert_eq!(opened.at_least.unwrap_or(3_000_000), 3_000_000, "{name}");
            assert!(opened.at_least.is_some() || name == "img.zst");
            if name != "img" {
                let cut = Image::open(&image(dir.path(), "x", &packed[..packed.len() / 2])).unwrap();
                assert!(cut.stream().unwrap().read_to_end(&mut all).is_err(), "{name}");
                // Two members are one image, as pzstd and pigz make them.
                let twice = Image::open(&image(dir.path(), "x", &[packed.clone(), packed].concat())).unwrap();
                let mut all = Vec::new();
                twice.stream().unwrap().read_to_end(&mut all).unwrap();
                assert_eq!(all.len(), 6_000_000, "{name}");
            }
        }
    }

    #[test]
    fn sizes_are_read_from_headers() {
        assert_eq!(zstd_size(b"\x28\xb5\x2f\xfd\x60\x10\x01"), Some(256 + 0x110));
        assert_eq!(zstd_size(b"\x28\xb5\x2f\xfd\xe0\0\0\0\0\x01\0\0\0"), Some(1 << 32));
        assert_eq!(zstd_size(b"\x28\xb5\x2f\xfd\x84\x00\x00\x10\x00\x00"), Some(0x1000));
        assert_eq!(zstd_size(b"\x28\xb5\x2f\xfd\x04\x00"), None);
        assert_eq!(zstd_size(b"\x28\xb5\x2f\xfd\xe0\0"), None);
        for junk in [&b""[..], b"YZ", &[b'Y'; 13], b"\0\0\0\0\0\0\xff\xff\xff\xff\0\0YZ"] {
            assert_eq!(xz_size(junk), None);
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = |bytes: &[u8]| Image::open(&image(dir.path(), "x", bytes));
        assert!(open(b"PK\x03\x04").is_err() && open(b"BZh9").is_err());
        assert!(open(b"").unwrap().check(&[], Some(0)).is_err());
        let code = |path: &str| crate::error::fault_of(&Image::open(Path::new(path)).unwrap_err()).code;
        assert_eq!(code(&dir.path().join("gone").display().to_string()), FaultCode::NotFound);
        assert_eq!(code(&dir.path().join("x/gone").display().to_string()), FaultCode::NotFound);
        assert_eq!(code("/dev/null"), FaultCode::BadImage);
        assert_eq!(Image::open(dir.path()).unwrap_err().to_string().lines().count(), 3);
        std::fs::create_dir(dir.path().join("sd-image")).unwrap();
        image(dir.path(), "sd-image/nixos.img.zst", b"\x28\xb5\x2f\xfd");
        assert!(Image::open(dir.path()).unwrap().path.ends_with("sd-image/nixos.img.zst"));
        let head = partitions::tests::mbr(&[(0x0b, 2048, 1000)]);
        let image = open(&head).unwrap();
        assert!(image.check(&head, Some(3048 * 512)).is_ok() && image.check(&head, None).is_ok());
        let error = crate::error::fault_of(&image.check(&head, Some(3048 * 512 - 1)).unwrap_err());
        assert!(error.code == FaultCode::BadImage && error.cause.contains("cut off"));
    }
}
