//! zstd frames (RFC 8878) around what is written: libzstd on Linux, an encoder in Rust elsewhere.
//!
//! Both keep their windows far below what the agent accepts ([`cygnet_protocol::stream::MAX_WINDOW`]).

use std::io::{self, Write};

/// The encoder of this platform.
#[cfg(target_os = "linux")]
pub type Compressor<W> = native::Native<W>;
/// The encoder of this platform.
#[cfg(not(target_os = "linux"))]
pub type Compressor<W> = chunked::Chunked<W>;

#[cfg(target_os = "linux")]
mod native {
    use super::*;

    /// libzstd's default: a few hundred MB/s on one core, so that the network stays the bottleneck.
    const LEVEL: i32 = 3;
    /// 2 MiB, log2 of bytes.
    const WINDOW_LOG: u32 = 21;

    /// One frame for everything.
    pub struct Native<W: Write>(zstd::stream::write::Encoder<'static, W>);

    impl<W: Write> Native<W> {
        /// Starts a frame on `inner`.
        pub fn new(inner: W) -> io::Result<Self> {
            let mut encoder = zstd::stream::write::Encoder::new(inner, LEVEL)?;
            encoder.window_log(WINDOW_LOG)?;
            Ok(Self(encoder))
        }

        /// Ends the frame and gives `inner` back.
        pub fn finish(self) -> io::Result<W> {
            self.0.finish()
        }
    }

    impl<W: Write> Write for Native<W> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }
}

#[cfg(any(not(target_os = "linux"), test))]
mod chunked {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    /// A frame never reaches back further than its own content.
    const CHUNK: usize = 4 * 1024 * 1024;

    /// One frame for every chunk.
    pub struct Chunked<W: Write> {
        inner: W,
        chunk: Vec<u8>,
    }

    impl<W: Write> Chunked<W> {
        /// Collects chunks for `inner`.
        pub fn new(inner: W) -> io::Result<Self> {
            Ok(Self { inner, chunk: Vec::with_capacity(CHUNK) })
        }

        /// Writes the last chunk and gives `inner` back.
        pub fn finish(mut self) -> io::Result<W> {
            self.pass_on()?;
            Ok(self.inner)
        }

        fn pass_on(&mut self) -> io::Result<()> {
            if !self.chunk.is_empty() {
                self.inner.write_all(&compress_to_vec(self.chunk.as_slice(), CompressionLevel::Fastest))?;
                self.chunk.clear();
            }
            Ok(())
        }
    }

    impl<W: Write> Write for Chunked<W> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(CHUNK - self.chunk.len());
            self.chunk.extend_from_slice(&bytes[..count]);
            if self.chunk.len() == CHUNK {
                self.pass_on()?;
            }
            Ok(count)
        }
        fn flush(&mut self) -> io::Result<()> {
            self.pass_on()?;
            self.inner.flush()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::stream::MAX_WINDOW;
    use ruzstd::decoding::StreamingDecoder;
    use std::io::Read;

    /// Compressible and not, more than two chunks.
    fn sample() -> Vec<u8> {
        let mut state = 1_u64;
        (0..9 * 1024 * 1024_usize)
            .map(|i| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if i % 3 == 0 { (state >> 56) as u8 } else { (i / 1000) as u8 }
            })
            .collect()
    }

    /// Unpacks frames until there are none, as the agent does.
    fn unpack(mut packed: &[u8]) -> (Vec<u8>, u64) {
        let (mut out, mut widest) = (vec![], 0);
        while !packed.is_empty() {
            let mut decoder = StreamingDecoder::new(&mut packed).unwrap();
            widest = widest.max(decoder.decoder.content_size());
            decoder.read_to_end(&mut out).unwrap();
        }
        (out, widest)
    }

    #[test]
    fn libzstd_can_be_unpacked_in_rust() {
        let mut encoder = Compressor::new(vec![]).unwrap();
        encoder.write_all(&sample()).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(packed.len() < sample().len());
        assert_eq!(unpack(&packed).0, sample());
    }

    #[test]
    fn the_encoder_in_rust_makes_small_frames() {
        let mut encoder = chunked::Chunked::new(vec![]).unwrap();
        encoder.write_all(&sample()).unwrap();
        let packed = encoder.finish().unwrap();
        let (out, widest) = unpack(&packed);
        assert_eq!(out, sample());
        assert!(widest <= MAX_WINDOW);
        assert!(chunked::Chunked::new(vec![]).unwrap().finish().unwrap().is_empty());
    }
}
