//! A stream inside the conversation: frames of a length and so many bytes, until one of length 0 (since protocol 1.23,
//! libutil/serialise.hh, `FramedSource`). Whatever is wrong with its content, its end can be found.

use super::wire::Input;
use std::io::{self, Read};

/// What is in the frames.
pub struct Framed<'a, R> {
    input: &'a mut Input<R>,
    /// Bytes of the present frame that were not read yet.
    left: u64,
    ended: bool,
}

impl<'a, R: Read> Framed<'a, R> {
    /// Begins with the first frame.
    pub fn new(input: &'a mut Input<R>) -> Self {
        Self { input, left: 0, ended: false }
    }

    /// Reads on to the last frame and drops what comes, so that the next operation can be read.
    pub fn drain(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(drop)
    }
}

impl<R: Read> Read for Framed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.ended {
            return Ok(0);
        }
        if self.left == 0 {
            self.left = self.input.number()?;
            if self.left == 0 {
                self.ended = true;
                return Ok(0);
            }
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        match self.input.raw().read(&mut buffer[..most])? {
            // The whole connection has ended, not only the stream: whoever takes this for its end must hear it again.
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.left -= count as u64;
                Ok(count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(parts: &[&[u8]]) -> Vec<u8> {
        parts.iter().flat_map(|part| [&(part.len() as u64).to_le_bytes()[..], part].concat()).collect()
    }

    #[test]
    fn frames_are_one_stream_with_an_end() {
        let bytes = [frames(&[b"ab", b"c", b"defghijkl", b""]), b"next".to_vec()].concat();
        let mut input = Input::new(&bytes[..]);
        let mut all = Vec::new();
        Framed::new(&mut input).read_to_end(&mut all).unwrap();
        assert_eq!(all, b"abcdefghijkl");
        assert_eq!(*input.raw(), b"next");
    }

    #[test]
    fn the_rest_is_drained() {
        let bytes = [frames(&[b"abc", b"def", b""]), b"next".to_vec()].concat();
        for before in 0..7 {
            let mut input = Input::new(&bytes[..]);
            let mut framed = Framed::new(&mut input);
            framed.read_exact(&mut vec![0; before]).unwrap();
            framed.drain().unwrap();
            framed.drain().unwrap();
            assert_eq!(*input.raw(), b"next", "{before}");
        }
    }

    #[test]
    fn a_cut_is_no_end() {
        let bytes = frames(&[b"abc", b"def", b""]);
        for length in 0..bytes.len() {
            assert!(Framed::new(&mut Input::new(&bytes[..length])).drain().is_err(), "{length}");
        }
        let lie = [&(1_u64 << 63).to_le_bytes()[..], b"few"].concat();
        assert!(Framed::new(&mut Input::new(&lie[..])).drain().is_err());
    }
}
