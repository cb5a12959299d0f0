//! Concatenated zstd frames as one reader. The decoder is pure Rust and reads one frame; this starts the next.
//!
//! A frame of a patch looks back on bytes that no frame has brought. For the decoder they are put before its first block, as
//! blocks that are not compressed (RFC 8878, 3.1.1.2.2), and taken away again from what it gives.

use cygnet_protocol::stream::{BASE_MAGIC, Base, MAX_BASE_LINE};
use cygnet_protocol::stretch::Bases;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::error::Error;
use std::io::{self, BufRead, Read};

/// Unpacks frame after frame from `source` until it ends between two frames.
pub struct Frames<R> {
    source: R,
    max_window: u64,
    decoder: FrameDecoder,
    bases: Option<Bases>,
    state: State,
    /// The last frame looked back on a base.
    patching: bool,
    /// So many bytes of what the decoder gives next are the base's.
    skip: usize,
}

/// Where in the stream we are.
enum State {
    /// Between two frames.
    Between,
    /// Within one.
    Within,
    /// Before one that looks back on a base.
    Before(Base),
}

/// How much is unpacked at a time, bytes. Bounds the memory beyond the window.
const STRIDE: usize = 128 * 1024;

/// The most that a block may hold (RFC 8878, 3.1.1.2.4), bytes.
const BLOCK: usize = 128 * 1024;

impl<R: BufRead> Frames<R> {
    /// `max_window`: refuse frames whose window is larger, bytes. `bases`: what patches look back on; without,
    /// there can be none.
    pub fn new(source: R, max_window: u64, bases: Option<Bases>) -> Self {
        Self {
            source,
            max_window,
            decoder: decoder(max_window),
            bases,
            state: State::Between,
            patching: false,
            skip: 0,
        }
    }

    /// Reads the header of the next frame; false at the end.
    fn begin(&mut self) -> io::Result<bool> {
        let base = match std::mem::replace(&mut self.state, State::Between) {
            State::Before(base) => Some(base),
            State::Between | State::Within => None,
        };
        if self.source.fill_buf()?.is_empty() {
            let end = base.is_none();
            return if end { Ok(false) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        if base.is_some() != self.patching {
            // Never the memory for both kinds at once.
            self.patching = base.is_some();
            self.decoder = decoder(self.max_window);
            self.bases.iter_mut().for_each(Bases::close);
        }
        match self.decoder.reset(&mut self.source) {
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { magic_number, length })) => {
                if magic_number != BASE_MAGIC || length > MAX_BASE_LINE || base.is_some() {
                    return Err(io::Error::other(format!("a skippable frame of {length} bytes")));
                }
                let mut line = vec![0; length as usize];
                self.source.read_exact(&mut line)?;
                self.state = State::Before(serde_json::from_slice(&line).map_err(io::Error::other)?);
                return Ok(true);
            }
            Err(error) => return Err(failed(error)),
            Ok(()) => self.state = State::Within,
        }
        let stretch = match (&base, &mut self.bases) {
            (Some(base), Some(bases)) => bases.stretch(base)?,
            (Some(_), None) => return Err(io::Error::other("a frame that looks back on a base")),
            (None, _) => return Ok(true),
        };
        for bytes in stretch.chunks(BLOCK) {
            let header = ((bytes.len() as u32) << 3).to_le_bytes();
            let block = header[..3].chain(bytes);
            self.decoder.decode_blocks(block, BlockDecodingStrategy::UptoBlocks(1)).map_err(io::Error::other)?;
        }
        self.skip = stretch.len();
        Ok(true)
    }

    /// Unpacks some of the frame; 0 at its end.
    fn within(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut rest = [0; 16 * 1024];
        loop {
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBytes(STRIDE))
                    .map_err(failed)?;
            }
            if self.skip == 0 {
                return self.decoder.read(buffer);
            }
            let most = self.skip.min(rest.len());
            match self.decoder.read(&mut rest[..most])? {
                0 => return Err(io::Error::other("a frame ended within its base")),
                count => self.skip -= count,
            }
        }
    }
}

fn decoder(max_window: u64) -> FrameDecoder {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(max_window);
    // The decoder makes room for the window only at its second frame; in the first it grows, copying what it has to twice the
    // room again and again, and both are in memory meanwhile. Two headers (RFC 8878, 3.1.1) with the largest window make the
    // room at once, of which memory is only what is written to.
    let exponent = u8::try_from(max_window.max(1).ilog2().clamp(10, 41) - 10).unwrap_or(0);
    for _ in 0..2 {
        // If it were refused, there would only be no room yet.
        let _ = decoder.reset(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, exponent << 3][..]);
    }
    decoder
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::Within => match self.within(buffer)? {
                    0 => self.state = State::Between,
                    count => return Ok(count),
                },
                State::Between | State::Before(_) => {
                    if !self.begin()? {
                        return Ok(0);
                    }
                }
            }
        }
    }
}

/// The decoder hides what its source said. A stream that was cut off in the middle of a frame must not pass for a damaged one:
/// of a damaged one nothing is kept.
fn failed(error: FrameDecoderError) -> io::Error {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(present) = cause {
        if let Some(io) = present.downcast_ref::<io::Error>()
            && matches!(io.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
        {
            return UnexpectedEof.into();
        }
        cause = present.source();
    }
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    fn frames(bytes: &[u8], window: u64) -> Frames<&[u8]> {
        Frames::new(bytes, window, Some(Bases::new("/nowhere".into())))
    }

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
        frames(&packed, 8 << 20).read_to_end(&mut out).unwrap();
        assert!(out == plain);
    }

    #[test]
    fn wherever_a_frame_is_cut_off_that_is_what_is_said() {
        // One that is packed as it is, and one that is not.
        let noise: Vec<u8> = (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let text: Vec<u8> = (0..20_000_u32).map(|i| (i / 70) as u8).collect();
        for plain in [noise, text] {
            let packed = compress_to_vec(&plain[..], CompressionLevel::Fastest);
            for length in 1..packed.len() {
                let read = frames(&packed[..length], 8 << 20).read_to_end(&mut Vec::new());
                let kind = read.map_err(|error| error.kind());
                assert_eq!(kind, Err(io::ErrorKind::UnexpectedEof), "{length} of {}", packed.len());
            }
        }
    }

    #[test]
    fn garbage_truncation_and_large_windows_are_errors() {
        let packed = compress_to_vec(&vec![7_u8; 100_000][..], CompressionLevel::Fastest);
        let read = |bytes: &[u8], window| frames(bytes, window).read_to_end(&mut Vec::new());
        assert!(read(b"not zstd at all", 1 << 20).is_err());
        for cut in [1, 3, packed.len() / 2, packed.len() - 6] {
            let error = read(&packed[..packed.len() - cut], 8 << 20).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut}");
        }
        assert_ne!(read(b"not zstd at all", 1 << 20).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read(b"", 1 << 20).unwrap(), 0);
        // Magic, a frame header that asks for a window of 2^(10+31) bytes, nothing else.
        assert!(read(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 31 << 3], 8 << 20).is_err());
    }

    /// A skippable frame.
    fn skippable(magic: u32, content: &[u8]) -> Vec<u8> {
        [&magic.to_le_bytes()[..], &(content.len() as u32).to_le_bytes(), content].concat()
    }

    #[test]
    fn a_base_needs_a_frame_and_a_card_that_has_it() {
        let packed = compress_to_vec(&b"hello"[..], CompressionLevel::Fastest);
        let line = br#"{"base":"/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-base","from":0,"length":4096}"#;
        let base = skippable(BASE_MAGIC, line);
        let read = |bytes: &[u8]| frames(bytes, 8 << 20).read_to_end(&mut Vec::new());
        assert!(cygnet_protocol::stretch::is_bad_base(&read(&[&base[..], &packed].concat()).unwrap_err()));
        let cases: [&[u8]; 6] = [
            &base,
            &base[..20],
            &[&base[..], &base, &packed].concat(),
            &[&skippable(BASE_MAGIC + 1, b"x")[..], &packed].concat(),
            &[&skippable(BASE_MAGIC, b"{}")[..], &packed].concat(),
            &[&skippable(BASE_MAGIC, &[b' '; 4096])[..], &packed].concat(),
        ];
        for case in cases {
            assert!(read(case).is_err());
        }
    }
}
