//! Concatenated zstd frames as one reader. The decoder is pure Rust and reads one frame; this starts the next.
//!
//! What a block has is given as soon as the block is whole, so of a stream that is cut off nothing is lost that could be used.
//!
//! A frame of a patch looks back on bytes that no frame has brought. They are told to the decoder before its first block.

use cygnet_protocol::stream::{BASE_MAGIC, Base, MAX_BASE_LINE};
use cygnet_protocol::stretch::Bases;
use std::error::Error;
use std::io::{self, BufRead, Read};
use structured_zstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use structured_zstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Unpacks frame after frame from `source` until it ends between two frames.
pub struct Frames<R> {
    source: R,
    max_window: u64,
    decoder: FrameDecoder,
    bases: Option<Bases>,
    state: State,
    /// Whether the last frame looked back on a base, and the decoder is made for that; nothing before the first.
    patching: Option<bool>,
    /// What the blocks of the frame had so far, bytes.
    unpacked: u64,
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

impl<R: BufRead> Frames<R> {
    /// `max_window`: refuse frames whose window is larger, bytes. `bases`: what patches look back on; without,
    /// there can be none.
    pub fn new(source: R, max_window: u64, bases: Option<Bases>) -> Self {
        Self {
            source,
            max_window,
            decoder: FrameDecoder::new(),
            bases,
            state: State::Between,
            patching: None,
            unpacked: 0,
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
        if self.patching != Some(base.is_some()) {
            // Never the memory for both kinds at once.
            self.patching = Some(base.is_some());
            self.decoder = FrameDecoder::new();
            self.decoder.set_max_window_size(self.max_window).map_err(failed)?;
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
        self.unpacked = 0;
        let stretch = match (&base, &mut self.bases) {
            (Some(base), Some(bases)) => bases.stretch(base)?,
            (Some(_), None) => return Err(io::Error::other("a frame that looks back on a base")),
            (None, _) => return Ok(true),
        };
        // An empty block (RFC 8878, 3.1.1.2.2): with the first, the decoder makes room for the window. Else it would grow while
        // it takes the base, and what it has would be in memory twice.
        self.decoder.decode_blocks(&[0; 3][..], BlockDecodingStrategy::UptoBlocks(1)).map_err(failed)?;
        self.decoder.insert_block(stretch).map_err(failed)?;
        Ok(true)
    }

    /// Unpacks some of the frame; 0 at its end.
    fn within(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
            self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1)).map_err(failed)?;
            self.unpacked += self.decoder.can_collect() as u64;
            let told = self.decoder.content_size();
            // The decoder keeps the whole of a frame of one segment (RFC 8878, 3.1.1.1.1.2), and does not look at its size
            // before its end.
            if told > 0 && self.unpacked > told {
                return Err(io::Error::other(format!("a frame of more than the {told} bytes that it tells of")));
            }
        }
        self.decoder.read(buffer)
    }
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
    use structured_zstd::encoding::{CompressionLevel, compress_to_vec};

    fn frames(bytes: &[u8], window: u64) -> Frames<&[u8]> {
        Frames::new(bytes, window, Some(Bases::new("/nowhere".into(), false)))
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

    /// A frame of blocks that are not compressed, with a window of 32 MiB.
    fn raw(blocks: u8, size: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut packed, mut plain) = (vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 15 << 3], vec![]);
        for n in 0..blocks {
            packed.extend(&((size as u32) << 3 | u32::from(n + 1 == blocks)).to_le_bytes()[..3]);
            packed.extend(vec![n; size]);
            plain.extend(vec![n; size]);
        }
        (packed, plain)
    }

    #[test]
    fn of_what_is_cut_off_every_whole_block_is_given() {
        let (packed, plain) = raw(3, 1000);
        for length in 1..packed.len() {
            let mut out = Vec::new();
            let error = frames(&packed[..length], 32 << 20).read_to_end(&mut out).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}");
            assert!(out == plain[..length.saturating_sub(6) / 1003 * 1000], "{length}: {}", out.len());
        }
    }

    #[test]
    fn what_has_come_is_given_before_more_is_waited_for() {
        struct Silent;
        impl Read for Silent {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                panic!("this would wait");
            }
        }
        let (packed, plain) = raw(9, 100_000);
        let came = &packed[..6 + 7 * 100_003];
        let mut out = vec![0; 700_000];
        let source = io::BufReader::new(came.chain(Silent));
        Frames::new(source, 32 << 20, None).read_exact(&mut out).unwrap();
        assert!(out == plain[..700_000]);
    }

    #[test]
    fn a_frame_cannot_be_longer_than_it_tells() {
        // One segment of 4096 bytes, all the same; but then there are three of them.
        let header = [0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x0f];
        let block = |last: u32| [&((4096_u32 << 3) | 2 | last).to_le_bytes()[..3], b"x"].concat();
        let read = |blocks: &[Vec<u8>]| {
            let mut out = Vec::new();
            let result = frames(&[&header[..], &blocks.concat()].concat(), 8 << 20).read_to_end(&mut out);
            (result.map_err(|error| error.kind()), out.len())
        };
        assert_eq!(read(&[block(1)]), (Ok(4096), 4096));
        assert_eq!(read(&[block(0), block(0), block(1)]), (Err(io::ErrorKind::Other), 4096));
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
