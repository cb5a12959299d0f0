//! Numbers and strings as Nix writes them (libutil/serialise.hh): 64 bits, little-endian; a string is its length, its
//! bytes, and zeros up to a multiple of eight.

use super::{Result, bad_request, garbage};
use cygnet_protocol::fault::Fault;
use cygnet_protocol::store::{StorePath, parse_store_path};
use std::io::{self, Read, Write};

/// The longest string that is kept, bytes. A store path has 255 at most, a signature about 120.
pub const MAX_TEXT: u64 = 4096;
/// The longest string that is only skipped, bytes: settings, derivations, build logs that somebody wants to leave here.
pub const MAX_SKIPPED: u64 = 64 * 1024 * 1024;
/// The most strings in a list. A closure of 100 000 paths is ten times the largest that is known to us.
pub const MAX_LIST: u64 = 100_000;
/// The most bytes in all strings of a list.
pub const MAX_LIST_BYTES: usize = 16 * 1024 * 1024;

/// What the client says.
pub struct Input<R> {
    inner: R,
}

impl<R: Read> Input<R> {
    /// Reads from here.
    pub fn new(inner: R) -> Self {
        Self { inner }
    }

    /// The bytes behind what was read so far.
    pub fn raw(&mut self) -> &mut R {
        &mut self.inner
    }

    /// A number.
    pub fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.inner.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A number, or `None` if the input ends before it.
    pub fn number_or_end(&mut self) -> io::Result<Option<u64>> {
        let mut bytes = [0; 8];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.inner.read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(u64::from_le_bytes(bytes)))
    }

    /// A truth value: Nix takes every number but 0 for true.
    pub fn truth(&mut self) -> io::Result<bool> {
        Ok(self.number()? != 0)
    }

    /// The bytes of a string.
    pub fn bytes(&mut self) -> Result<Vec<u8>> {
        let length = self.number()?;
        if length > MAX_TEXT {
            return Err(garbage(format_args!("a string of {length} bytes, of which {MAX_TEXT} are allowed here")));
        }
        let mut bytes = Vec::new();
        (&mut self.inner).take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.padding(length)?;
        Ok(bytes)
    }

    /// A string.
    pub fn text(&mut self) -> Result<Text> {
        self.bytes().map(Text)
    }

    /// A list of strings.
    pub fn texts(&mut self, most: u64) -> Result<Vec<Text>> {
        let count = self.count(most)?;
        // Not allocated in advance: each has to come first.
        let (mut texts, mut total) = (Vec::new(), 0);
        for _ in 0..count {
            let text = self.text()?;
            total += text.0.len();
            if total > MAX_LIST_BYTES {
                return Err(garbage(format_args!("a list of more than {MAX_LIST_BYTES} bytes")));
            }
            texts.push(text);
        }
        Ok(texts)
    }

    /// The length of a list.
    pub fn count(&mut self, most: u64) -> Result<u64> {
        match self.number()? {
            count if count <= most => Ok(count),
            count => Err(garbage(format_args!("a list of {count} things, of which {most} are allowed here"))),
        }
    }

    /// Reads over a string.
    pub fn skip_text(&mut self) -> Result<()> {
        let length = self.number()?;
        if length > MAX_SKIPPED {
            return Err(garbage(format_args!("a string of {length} bytes")));
        }
        self.skip(length)?;
        self.padding(length)
    }

    /// Reads over so many bytes.
    pub fn skip(&mut self, length: u64) -> Result<()> {
        let skipped = io::copy(&mut (&mut self.inner).take(length), &mut io::sink())?;
        if skipped == length { Ok(()) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) }
    }

    fn padding(&mut self, length: u64) -> Result<()> {
        let mut zeros = [0; 8];
        let count = usize::try_from((8 - length % 8) % 8).unwrap_or_default();
        let zeros = &mut zeros[..count];
        self.inner.read_exact(zeros)?;
        if zeros.iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(garbage("a string is padded with other than zeros"))
        }
    }
}

/// A string as it came, which may be anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(Vec<u8>);

impl Text {
    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As text; Nix writes no other.
    pub fn string(&self) -> std::result::Result<String, Fault> {
        let printable = |text: &&str| !text.chars().any(char::is_control);
        match std::str::from_utf8(&self.0).ok().filter(printable) {
            Some(text) => Ok(text.to_owned()),
            None => Err(bad_request(format_args!("{:?} is no text", String::from_utf8_lossy(&self.0)))),
        }
    }

    /// As a whole store path: `/nix/store/HASH-NAME`.
    pub fn path(&self) -> std::result::Result<StorePath, Fault> {
        parse_store_path(&String::from_utf8_lossy(&self.0)).map_err(bad_request)
    }

    /// As a store path, or none if it is empty.
    pub fn optional_path(&self) -> std::result::Result<Option<StorePath>, Fault> {
        if self.is_empty() { Ok(None) } else { self.path().map(Some) }
    }
}

/// All of them as store paths, or the first that is none.
pub fn paths(texts: &[Text]) -> std::result::Result<Vec<StorePath>, Fault> {
    texts.iter().map(Text::path).collect()
}

/// `STDERR_LAST`: what was asked for is done, the answer follows.
const LAST: u64 = 0x616c_7473;
/// `STDERR_ERROR`: it is not done, and why.
const ERROR: u64 = 0x6378_7470;
/// `lvlError` of libutil/error.hh.
const LEVEL_ERROR: u64 = 0;

/// What we say; nothing of it is sent before [`Output::flush`], or before there is a lot of it.
pub struct Output<W> {
    inner: W,
}

impl<W: Write> Output<W> {
    /// Writes to there.
    pub fn new(inner: W) -> Self {
        Self { inner }
    }

    /// For bytes that are neither numbers nor strings.
    pub fn raw(&mut self) -> &mut W {
        &mut self.inner
    }

    /// A number.
    pub fn number(&mut self, number: u64) -> io::Result<()> {
        self.inner.write_all(&number.to_le_bytes())
    }

    /// A string.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.number(text.len() as u64)?;
        self.inner.write_all(text.as_bytes())?;
        self.inner.write_all(&[0; 8][..(8 - text.len() % 8) % 8])
    }

    /// A list of strings.
    pub fn texts<T: AsRef<str>>(&mut self, texts: &[T]) -> io::Result<()> {
        self.number(texts.len() as u64)?;
        texts.iter().try_for_each(|text| self.text(text.as_ref()))
    }

    /// A set of store paths: Nix has them sorted.
    pub fn paths(&mut self, paths: &[StorePath]) -> io::Result<()> {
        let mut texts: Vec<String> = paths.iter().map(StorePath::to_absolute_path).collect();
        texts.sort_unstable();
        self.texts(&texts)
    }

    /// It is done; the answer follows.
    pub fn last(&mut self) -> io::Result<()> {
        self.number(LAST)
    }

    /// It is not done. The form is that of libutil/serialise.cc since protocol 1.26: an error without a position or traces.
    pub fn error(&mut self, fault: &Fault) -> io::Result<()> {
        self.number(ERROR)?;
        self.text("Error")?;
        self.number(LEVEL_ERROR)?;
        self.text("Error")?;
        self.text(&fault.to_string())?;
        self.number(0)?;
        self.number(0)
    }

    /// The form before that: a text and an exit status.
    pub fn old_error(&mut self, fault: &Fault) -> io::Result<()> {
        self.number(ERROR)?;
        self.text(&fault.to_string())?;
        self.number(1)
    }

    /// Sends what is waiting.
    pub fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Trouble;
    use super::*;

    fn text(bytes: &[u8]) -> Vec<u8> {
        let mut all = (bytes.len() as u64).to_le_bytes().to_vec();
        all.extend(bytes);
        all.resize(all.len().next_multiple_of(8), 0);
        all
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        let mut output = Output::new(&mut bytes);
        output.number(u64::MAX).unwrap();
        for length in 0..20 {
            output.text(&"x".repeat(length)).unwrap();
        }
        output.texts(&["a", ""]).unwrap();
        let mut input = Input::new(&bytes[..]);
        assert_eq!(input.number().unwrap(), u64::MAX);
        for length in 0..20 {
            assert_eq!(input.text().unwrap().string().unwrap(), "x".repeat(length));
        }
        assert_eq!(input.texts(2).unwrap(), [Text(b"a".to_vec()), Text(vec![])]);
        assert_eq!(input.number_or_end().unwrap(), None);
    }

    #[test]
    fn lengths_that_lie_cost_nothing() {
        for length in [1 << 63, u64::MAX, MAX_TEXT + 1, 1 << 40] {
            let bytes = [&u64::to_le_bytes(length)[..], b"some"].concat();
            assert!(matches!(Input::new(&bytes[..]).text(), Err(Trouble::Lost(_))), "{length}");
            assert!(Input::new(&bytes[..]).texts(MAX_LIST).is_err(), "{length}");
            assert!(Input::new(&bytes[..]).skip_text().is_err(), "{length}");
        }
        // As many as are allowed, none of which comes.
        let bytes = u64::to_le_bytes(MAX_LIST);
        assert!(matches!(Input::new(&bytes[..]).texts(MAX_LIST), Err(Trouble::Gone(_))));
    }

    #[test]
    fn a_string_ends_where_it_says() {
        let mut padded = text(b"abc");
        *padded.last_mut().unwrap() = 1;
        assert!(matches!(Input::new(&padded[..]).text(), Err(Trouble::Lost(_))));
        let whole = text(b"abc");
        for length in 0..whole.len() {
            assert!(matches!(Input::new(&whole[..length]).text(), Err(Trouble::Gone(_))), "{length}");
        }
    }

    #[test]
    fn only_store_paths_are_store_paths() {
        let good = "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-hello";
        let path = |bytes: &[u8]| Input::new(&text(bytes)[..]).text().unwrap().path();
        assert_eq!(path(good.as_bytes()).unwrap().to_absolute_path(), good);
        for bad in [
            "",
            "/",
            "..",
            "/nix/store/..",
            "/nix/store/../etc",
            "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-..",
            "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-a/b",
            "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-a\0b",
            "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-",
            "0c5b8vw40dy178xlpddw65q9gf1h2186-hello",
        ] {
            assert!(path(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let long = format!("/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-{}", "n".repeat(256));
        assert!(path(long.as_bytes()).is_err());
        assert!(path(b"/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-\xff").is_err());
    }
}
