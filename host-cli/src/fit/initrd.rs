//! The names of what is in an initrd.
//!
//! An initrd is any number of cpio archives, one behind the other, each by itself or several together compressed, with
//! zeros between them (Linux, Documentation/driver-api/early-userspace/buffer-format.rst). NixOS compresses with zstd
//! unless told otherwise (`boot.initrd.compressor`). Only names are kept, however large the files are.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read};
use structured_zstd::decoding::errors::FrameDecoderError;
use structured_zstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// The most memory that unpacking xz may take, KiB.
const MOST_MEMORY: u32 = 256 << 10;
/// How much may come out of an initrd, bytes.
const MOST_BYTES: u64 = 4 << 30;
/// How many files there may be in it.
const MOST_FILES: usize = 500_000;
/// The longest path that Linux takes (PATH_MAX).
const LONGEST_NAME: u64 = 4096;
/// The largest table of file systems that is read.
const LARGEST_TABLE: u64 = 64 << 10;
/// Bytes of a header: a magic number and thirteen numbers of eight hex digits.
const HEADER: usize = 110;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Kernel modules, as the kernel calls them: `usb_storage`.
    pub modules: BTreeSet<String>,
    /// Whether `zpool` is there.
    pub zpool: bool,
    /// The table of what the first stage mounts, if it is in a file of its own (`boot.initrd.systemd`).
    pub fstab: Option<String>,
    /// Number of files.
    pub files: usize,
}

/// The name by which the kernel knows a module's file; `None` for any other file.
pub fn module_name(path: &str) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let packed = [".xz", ".zst", ".gz"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    packed.strip_suffix(".ko").filter(|name| !name.is_empty()).map(|name| name.replace('-', "_"))
}

/// Lists an initrd.
///
/// # Errors
/// It is no initrd, is compressed in a way that is not known here, is cut short, or is larger than any should be.
pub fn list(initrd: impl Read) -> Result<Contents> {
    let mut contents = Contents::default();
    let mut reader = BufReader::new(initrd);
    let mut left = MOST_BYTES;
    let mut any = false;
    while skip_zeros(&mut reader)? {
        let start = reader.fill_buf().context("reading the initrd")?;
        // A buffer that ends within the magic number comes of a file that ends there.
        match *start {
            [b'0', b'7', b'0', b'7', ..] => archive(&mut reader, &mut left, &mut contents)?,
            [0x1f, 0x8b, ..] => {
                archives(flate2::bufread::GzDecoder::new(&mut reader), &mut left, &mut contents)?;
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let frame = Frame::start(&mut reader).context("unpacking zstd")?;
                archives(frame, &mut left, &mut contents)?;
            }
            [0xfd, b'7', b'z', b'X', b'Z', ..] => {
                archives(
                    lzma_rust2::XzReader::new_mem_limit(&mut reader, false, MOST_MEMORY),
                    &mut left,
                    &mut contents,
                )?;
            }
            [0x02, 0x21, 0x4c, 0x18, ..] => bail!("it is compressed with lz4, which is not known here"),
            [b'B', b'Z', b'h', ..] => bail!("it is compressed with bzip2, which is not known here"),
            [0x5d, 0, 0, ..] => bail!("it is compressed with lzma, which is not known here"),
            _ => bail!("it is no archive"),
        }
        any = true;
    }
    ensure!(any, "it is empty");
    Ok(contents)
}

/// One zstd frame. What is behind it is left unread: it may be anything.
struct Frame<R> {
    source: R,
    decoder: FrameDecoder,
    /// What its blocks had so far, bytes.
    unpacked: u64,
}

impl<R: Read> Frame<R> {
    fn start(mut source: R) -> Result<Self, FrameDecoderError> {
        let mut decoder = FrameDecoder::new();
        decoder.reset(&mut source)?;
        Ok(Self { source, decoder, unpacked: 0 })
    }
}

impl<R: Read> Read for Frame<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
            let block = BlockDecodingStrategy::UptoBlocks(1);
            self.decoder.decode_blocks(&mut self.source, block).map_err(io::Error::other)?;
            self.unpacked += self.decoder.can_collect() as u64;
            let told = self.decoder.content_size();
            // The decoder keeps the whole of a frame of one segment, and does not look at its size before its end.
            if told > 0 && self.unpacked > told {
                return Err(io::Error::other(format!("a frame of more than the {told} bytes that it tells of")));
            }
        }
        self.decoder.read(buffer)
    }
}

/// Archives inside of a compressed stream, to its end.
fn archives(stream: impl Read, left: &mut u64, contents: &mut Contents) -> Result<()> {
    let mut reader = BufReader::new(stream);
    while skip_zeros(&mut reader)? {
        archive(&mut reader, left, contents)?;
    }
    Ok(())
}

/// Whether there is anything behind the zeros.
fn skip_zeros(reader: &mut impl BufRead) -> Result<bool> {
    loop {
        let buffer = reader.fill_buf().context("unpacking the initrd")?;
        if buffer.is_empty() {
            return Ok(false);
        }
        let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
        let all = zeros == buffer.len();
        reader.consume(zeros);
        if !all {
            return Ok(true);
        }
    }
}

/// One archive in the form “newc” (cpio(5)), to its trailer.
fn archive(reader: &mut impl Read, left: &mut u64, contents: &mut Contents) -> Result<()> {
    loop {
        let mut header = [0; HEADER];
        reader.read_exact(&mut header).context("reading the archive in the initrd")?;
        ensure!(matches!(&header[..6], b"070701" | b"070702"), "it has an archive of another form than newc");
        let number = |index: usize| -> Result<u64> {
            let digits = header.get(6 + 8 * index..14 + 8 * index).and_then(|digits| std::str::from_utf8(digits).ok());
            digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).context("a header in it is damaged")
        };
        let (mode, size, length) = (number(1)?, number(6)?, number(11)?);
        ensure!((1..=LONGEST_NAME).contains(&length), "a name in it has {length} bytes");
        let mut name = Vec::new();
        reader.take(length).read_to_end(&mut name).context("reading a name in the initrd")?;
        ensure!(name.len() as u64 == length, "it is cut short");
        while name.last() == Some(&0) {
            name.pop();
        }
        let name = String::from_utf8_lossy(&name).into_owned();
        skip(reader, padding(HEADER as u64 + length))?;
        *left = left.checked_sub(HEADER as u64 + length + size).context("it unpacks to more than 4 GiB")?;
        contents.files += 1;
        ensure!(contents.files <= MOST_FILES, "there are more than {MOST_FILES} files in it");
        if name == "TRAILER!!!" {
            return Ok(());
        }
        let regular = mode & 0o170_000 == 0o100_000;
        if regular && name.ends_with("-initrd-fstab") && size <= LARGEST_TABLE {
            let mut text = Vec::new();
            reader.take(size).read_to_end(&mut text).context("reading the initrd's fstab")?;
            ensure!(text.len() as u64 == size, "it is cut short");
            contents.fstab = Some(String::from_utf8_lossy(&text).into_owned());
        } else {
            skip(reader, size)?;
        }
        skip(reader, padding(size))?;
        contents.note(&name);
    }
}

impl Contents {
    fn note(&mut self, name: &str) {
        self.modules.extend(module_name(name));
        // In the first stage's tools (scripted), or in /bin and in the store (systemd).
        if name.rsplit('/').next() == Some("zpool") {
            self.zpool = true;
        }
    }
}

/// Names and files end where four bytes do.
fn padding(length: u64) -> u64 {
    length.next_multiple_of(4) - length
}

fn skip(reader: &mut impl Read, count: u64) -> Result<()> {
    let skipped = io::copy(&mut reader.take(count), &mut io::sink()).context("unpacking the initrd")?;
    ensure!(skipped == count, "it is cut short");
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::io::Write;

    /// An archive of these files.
    pub fn cpio(files: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, text) in files.iter().chain(&[("TRAILER!!!", "")]) {
            let mode = if text.is_empty() && *name != "TRAILER!!!" { 0o40755 } else { 0o100_644 };
            let mut numbers = [0_usize; 13];
            (numbers[1], numbers[6], numbers[11]) = (mode, text.len(), name.len() + 1);
            archive.extend(b"070701");
            numbers.iter().for_each(|number| archive.extend(format!("{number:08X}").bytes()));
            archive.extend(name.bytes().chain([0]));
            archive.resize(archive.len().next_multiple_of(4), 0);
            archive.extend(text.bytes());
            archive.resize(archive.len().next_multiple_of(4), 0);
        }
        archive
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        structured_zstd::encoding::compress_to_vec(bytes, structured_zstd::encoding::CompressionLevel::Fastest)
    }

    fn main() -> Vec<u8> {
        cpio(&[
            ("nix/store/x-linux-modules-shrunk/lib/modules/6.12/kernel/drivers/usb/storage/usb-storage.ko.xz", "x"),
            ("nix/store/x-linux-modules-shrunk/lib/modules/6.12/kernel/fs/zfs/zfs.ko.zst", "yy"),
            ("nix/store/x-extra-utils/bin/zpool", "elf"),
            ("nix/store/x-initrd-fstab", "rpool/root / zfs defaults 0 0\n"),
        ])
    }

    #[test]
    fn every_packing_is_read_and_all_archives_are() {
        let early = cpio(&[("kernel/x86/microcode", "m"), ("lib/early.ko", "e")]);
        for packed in [main(), gzip(&main()), zstd(&main())] {
            let mut initrd = early.clone();
            initrd.resize(initrd.len() + 512, 0);
            initrd.extend(&packed);
            initrd.extend([0; 8]);
            initrd.extend(gzip(&cpio(&[("etc/secret.ko", "s")])));
            let contents = list(initrd.as_slice()).unwrap();
            let modules: Vec<&str> = contents.modules.iter().map(String::as_str).collect();
            assert_eq!(modules, ["early", "secret", "usb_storage", "zfs"]);
            assert!(contents.zpool);
            assert_eq!(contents.fstab.as_deref(), Some("rpool/root / zfs defaults 0 0\n"));
        }
        // printf '' | cpio -o -H newc | xz
        let mut writer =
            lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).expect("making an encoder");
        writer.write_all(&main()).unwrap();
        assert!(list(writer.finish().unwrap().as_slice()).unwrap().zpool);
    }

    #[test]
    fn what_is_no_initrd_or_cut_short_is_an_error() {
        for bytes in [&b""[..], b"x", b"#!/bin/sh\n", b"0707", b"\x1f\x8b", &gzip(b"1\n2\n"), b"\x02\x21\x4c\x18xxxx"] {
            assert!(list(bytes).is_err(), "{bytes:?}");
        }
        for whole in [main(), gzip(&main()), zstd(&main())] {
            for length in 1..whole.len() {
                // Never a panic; an error everywhere but behind a whole archive.
                let cut = list(&whole[..length]);
                assert!(cut.is_err() || length + 16 > whole.len(), "{length} of {}", whole.len());
            }
        }
        // One segment that tells of 4096 bytes, and has three blocks of them.
        let block = |last: u32| [&((4096_u32 << 3) | 2 | last).to_le_bytes()[..3], b"\0"].concat();
        let longer = [&[0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x0f][..], &block(0), &block(0), &block(1)].concat();
        let error = format!("{:#}", list(longer.as_slice()).unwrap_err());
        assert!(error.contains("more than the 4096 bytes"), "{error}");
        let mut endless = cpio(&[("a", "b")]);
        endless[6 + 48..14 + 48].copy_from_slice(b"FFFFFFFF");
        assert!(list(endless.as_slice()).is_err());
    }

    #[test]
    fn modules_are_called_as_the_kernel_does() {
        assert_eq!(module_name("a/b/usb-storage.ko.xz").as_deref(), Some("usb_storage"));
        assert_eq!(module_name("zfs.ko").as_deref(), Some("zfs"));
        for other in ["modules.dep", ".ko", "x.ko.txt", "ko", ""] {
            assert_eq!(module_name(other), None, "{other}");
        }
    }
}
