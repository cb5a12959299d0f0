//! zstd frames (RFC 8878) around what is written: libzstd on all cores, with a level that follows the link, or, in a build
//! without C, an encoder in Rust.
//!
//! Neither reaches further back than the agent allows.

use std::io::{self, Write};

/// The encoder of this build.
#[cfg(feature = "libzstd")]
pub type Compressor<W> = native::Native<W>;
/// The encoder of this build.
#[cfg(not(feature = "libzstd"))]
pub type Compressor<W> = chunked::Chunked<W>;

/// How many cores this machine has for it.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How compression is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// How far the agent can look back, bytes; a power of two.
    pub window: u64,
    /// The level to begin with.
    pub level: i32,
    /// About how much comes, bytes.
    pub size: u64,
}

#[cfg(feature = "libzstd")]
mod native {
    use super::*;
    use zstd::stream::raw::CParameter;

    /// What one core compresses at a time, bytes. Each begins anew, but for long-distance matching, which sees the whole window:
    /// 8 MiB would cost one percent. But a level is for a whole job, and many cores have many under way.
    ///
    /// Of little, a job is an eighth: nothing comes out before the first job is full, and until then link and agent would wait,
    /// and all cores but one.
    fn job(cores: usize, size: u64) -> u32 {
        let most: u32 = if cores <= 4 { 32 << 20 } else { 16 << 20 };
        u32::try_from(size / 8).unwrap_or(most).clamp(LITTLE, most)
    }
    /// The smallest job, bytes: of a smaller one the next would have little to look back on.
    const LITTLE: u32 = 1 << 20;
    /// More cores than that are faster than any link at the highest level, and each takes memory.
    const CORES: usize = 8;

    /// One frame for everything.
    pub struct Native<W: Write>(zstd::stream::write::Encoder<'static, W>);

    impl<W: Write> Native<W> {
        /// Starts a frame on `inner`.
        ///
        /// # Errors
        /// If libzstd has no memory.
        pub fn new(inner: W, tuning: Tuning) -> io::Result<Self> {
            let mut encoder = zstd::stream::write::Encoder::new(inner, tuning.level)?;
            encoder.window_log(tuning.window.ilog2())?;
            encoder.long_distance_matching(true)?;
            let cores = cores().min(CORES);
            encoder.set_parameter(CParameter::NbWorkers(u32::try_from(cores).unwrap_or(1)))?;
            encoder.set_parameter(CParameter::JobSize(job(cores, tuning.size)))?;
            Ok(Self(encoder))
        }

        /// What is written from now on is compressed at this level.
        ///
        /// # Errors
        /// Never with more than one thread (zstd.h, `ZSTD_c_nbWorkers`: the level may change while compressing).
        pub fn set_level(&mut self, level: i32) -> io::Result<()> {
            self.0.set_parameter(CParameter::CompressionLevel(level))
        }

        /// Ends the frame and gives `inner` back.
        ///
        /// # Errors
        /// Those of `inner`.
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

#[cfg(any(not(feature = "libzstd"), test))]
mod chunked {
    use super::*;
    use structured_zstd::encoding::{CompressionLevel, compress_to_vec};

    /// A frame never reaches back further than its own content.
    const CHUNK: usize = 4 * 1024 * 1024;

    /// One frame for every chunk.
    pub struct Chunked<W: Write> {
        inner: W,
        chunk: Vec<u8>,
    }

    impl<W: Write> Chunked<W> {
        /// Collects chunks for `inner`.
        ///
        /// # Errors
        /// Never.
        pub fn new(inner: W, _: Tuning) -> io::Result<Self> {
            Ok(Self { inner, chunk: Vec::with_capacity(CHUNK) })
        }

        /// It has only one.
        ///
        /// # Errors
        /// Never.
        #[cfg_attr(test, expect(dead_code))]
        pub fn set_level(&mut self, _: i32) -> io::Result<()> {
            Ok(())
        }

        /// Writes the last chunk and gives `inner` back.
        ///
        /// # Errors
        /// Those of `inner`.
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
    use cygnet_protocol::stream::{MAX_WINDOW, SHORT_WINDOW};
    use std::io::Read;
    use structured_zstd::decoding::{FrameDecoder, StreamingDecoder};

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

    /// Unpacks frames until there are none, as an agent with this window does.
    fn unpack(packed: &[u8], window: u64) -> Vec<u8> {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(window).unwrap();
        let mut out = vec![];
        StreamingDecoder::new_with_decoder(packed, decoder).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn libzstd_can_be_unpacked_in_rust_whatever_the_level_does() {
        // A level is for as much as a core takes at a time.
        for (window, levels, each) in [(SHORT_WINDOW, &[1][..], 1), (MAX_WINDOW, &[12, 1], 32 << 20)] {
            let mut encoder = Compressor::new(vec![], Tuning { window, level: 3, size: u64::MAX }).unwrap();
            let mut whole = vec![];
            for level in levels {
                encoder.set_level(*level).unwrap();
                let begin = whole.len();
                while whole.len() - begin < each {
                    encoder.write_all(&sample()).unwrap();
                    whole.extend(sample());
                }
            }
            let packed = encoder.finish().unwrap();
            if window == MAX_WINDOW {
                // It has hardly a pattern, but comes again and again within the window.
                assert!(packed.len() < whole.len() / 3, "{} of {}", packed.len(), whole.len());
            }
            assert!(unpack(&packed, window) == whole);
        }
    }

    #[test]
    fn the_encoder_in_rust_makes_small_frames() {
        let tuning = Tuning { window: SHORT_WINDOW, level: 3, size: u64::MAX };
        let mut encoder = chunked::Chunked::new(vec![], tuning).unwrap();
        encoder.write_all(&sample()).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(unpack(&packed, SHORT_WINDOW) == sample());
        assert!(chunked::Chunked::new(vec![], tuning).unwrap().finish().unwrap().is_empty());
    }
}
