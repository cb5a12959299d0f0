//! Concatenated zstd frames as one reader. The decoder is pure Rust and reads one frame; this starts the next.

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, Read};

/// Unpacks frame after frame from `source` until it ends between two frames.
pub struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    open: bool,
}

/// How much is unpacked at a time, bytes. Bounds the memory beyond the window.
const STRIDE: usize = 128 * 1024;

impl<R: BufRead> Frames<R> {
    /// `max_window`: refuse frames whose window is larger, bytes.
    pub fn new(source: R, max_window: u64) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(max_window);
        Self { source, decoder, open: false }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.open {
                while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                    self.decoder
                        .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBytes(STRIDE))
                        .map_err(io::Error::other)?;
                }
                let count = self.decoder.read(buffer)?;
                if count > 0 {
                    return Ok(count);
                }
                self.open = false;
            }
            if self.source.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.decoder.reset(&mut self.source).map_err(io::Error::other)?;
            self.open = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    #[test]
    fn frames_are_read_as_one_stream() {
        let mut packed = Vec::new();
        let mut plain = Vec::new();
        for n in 0..5_u8 {
            let part: Vec<u8> = (0..300_000_u32).map(|i| (i / 7) as u8 ^ n).collect();
            packed.extend(compress_to_vec(&part[..], CompressionLevel::Fastest));
            plain.extend(part);
        }
        let mut out = Vec::new();
        Frames::new(&packed[..], 8 << 20).read_to_end(&mut out).unwrap();
        assert!(out == plain);
    }

    #[test]
    fn garbage_truncation_and_large_windows_are_errors() {
        let packed = compress_to_vec(&vec![7_u8; 100_000][..], CompressionLevel::Fastest);
        let read = |bytes: &[u8], window| Frames::new(bytes, window).read_to_end(&mut Vec::new());
        assert!(read(b"not zstd at all", 1 << 20).is_err());
        assert!(read(&packed[..packed.len() - 3], 8 << 20).is_err());
        assert_eq!(read(b"", 1 << 20).unwrap(), 0);
        // Magic, a frame header that asks for a window of 2^(10+31) bytes, nothing else.
        assert!(read(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 31 << 3], 8 << 20).is_err());
    }
}
