//! One JSON value a line, with a limit on every line: the framing of the control channel.

use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, BufRead, Read, Write};
use zeroize::Zeroizing;

/// The longest line either end accepts, bytes, newline included.
///
/// A query for 8192 store paths is under 2 MiB, a plan for dozens of disks under 200 KiB.
pub const MAX_LINE: usize = 4 * 1024 * 1024;

/// How many parts the values of a line may have: as many commas, colons and opening brackets, wherever they stand.
///
/// A value of two bytes (`0,`) takes 32 or more once it is parsed. A store path with 20 000 references has 20 000.
pub const MAX_PARTS: usize = 128 * 1024;

/// How many store paths a client puts in one query, so that its line stays far below [`MAX_LINE`].
pub const PATHS_PER_QUERY: usize = 8192;

/// Why a line could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream ended between two lines.
    #[error("the other end closed the channel")]
    Closed,
    /// The stream ended inside a line.
    #[error("the channel was cut in the middle of a message")]
    Truncated,
    /// No newline within [`MAX_LINE`] bytes.
    #[error("a message is longer than {MAX_LINE} bytes")]
    TooLong,
    /// The line is no JSON, or not of the expected shape.
    #[error("not a cygnet message: {source}; it begins {preview:?}")]
    NotJson {
        /// What the JSON parser says.
        source: serde_json::Error,
        /// The first bytes of the line, lossily, 80 characters at most.
        preview: String,
    },
    /// The operating system's error.
    #[error("reading or writing the channel: {0}")]
    Io(#[from] io::Error),
}

/// Reads one line without its newline. Never allocates more than [`MAX_LINE`].
pub fn read_line(reader: &mut impl BufRead) -> Result<Vec<u8>, FrameError> {
    let mut line = Vec::new();
    let count = reader.take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Err(FrameError::Closed),
        Some(b'\n') => Ok(line),
        Some(_) if count == MAX_LINE => Err(FrameError::TooLong),
        Some(_) => Err(FrameError::Truncated),
    }
}

/// Parses JSON that somebody else has made: no more than [`MAX_PARTS`], so that memory is bounded, and not deep
/// (`serde_json` ends at 128), so that the stack is.
pub(crate) fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, serde_json::Error> {
    let parts = line.iter().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{')).count();
    if parts > MAX_PARTS {
        return Err(serde::de::Error::custom(format_args!("{parts} parts, of which {MAX_PARTS} are allowed")));
    }
    serde_json::from_slice(line)
}

/// Parses one line.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, FrameError> {
    parse(line).map_err(|source| FrameError::NotJson {
        source,
        preview: String::from_utf8_lossy(line).chars().take(80).collect(),
    })
}

/// Reads and parses one line.
pub fn receive<T: DeserializeOwned>(reader: &mut impl BufRead) -> Result<T, FrameError> {
    decode(&read_line(reader)?)
}

/// Writes one value as one line and flushes it.
pub fn send(writer: &mut impl Write, value: &impl Serialize) -> Result<(), FrameError> {
    let mut line = serde_json::to_vec(value).map_err(|e| FrameError::Io(io::Error::other(e)))?;
    line.push(b'\n');
    // There may be a secret in it.
    let line = Zeroizing::new(line);
    if line.len() > MAX_LINE {
        return Err(FrameError::TooLong);
    }
    writer.write_all(&line)?;
    writer.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart_from_their_failures() {
        let mut input: &[u8] = b"{\"a\":1}\n\n{\"b\"";
        assert_eq!(read_line(&mut input).unwrap(), b"{\"a\":1}");
        assert_eq!(read_line(&mut input).unwrap(), b"");
        assert!(matches!(read_line(&mut input), Err(FrameError::Truncated)));
        assert!(matches!(read_line(&mut input), Err(FrameError::Closed)));
    }

    #[test]
    fn an_endless_line_is_cut_at_the_limit() {
        let mut input = io::BufReader::new(io::repeat(b'x'));
        assert!(matches!(read_line(&mut input), Err(FrameError::TooLong)));
    }

    #[test]
    fn neither_the_stack_nor_memory_grows_with_what_is_nested_or_many() {
        use crate::message::{Hello, Reply, Request};
        use crate::stream::{DataHello, DataReply, Record};
        let refused = |line: &str| {
            let line = line.as_bytes();
            assert!(line.len() < MAX_LINE && Request::parse(line).is_err());
            assert!(decode::<Hello>(line).is_err() && decode::<Reply>(line).is_err());
            assert!(decode::<DataHello>(line).is_err() && decode::<DataReply>(line).is_err());
            assert!(decode::<Record>(line).is_err() && decode::<serde_json::Value>(line).is_err());
        };
        let many = 1 << 20;
        let (open, close) = ("[".repeat(many), "]".repeat(many));
        refused(&open);
        refused(&format!("{open}{close}"));
        refused(&"{\"a\":".repeat(many / 2));
        for kind in ["plan", "hello", "status", "nar", "end", "data", "received", "error"] {
            let zeros = "0,".repeat(many);
            for nested in
                [&format!("{open}{close}"), &format!("[{zeros}0]"), &format!("{}0{}", &open[..300], &close[..300])]
            {
                // Where it belongs, and where nothing belongs.
                refused(&format!("{{\"type\":\"{kind}\",\"disko\":{nested}}}"));
                refused(&format!("{{\"unknown\":{nested},\"type\":\"{kind}\"}}"));
            }
        }
        let strings = format!("{{\"type\":\"status\",\"ignored\":\"{}\"}}", "x".repeat(many));
        assert_eq!(Request::parse(strings.as_bytes()), Ok(Request::Status));
    }

    #[test]
    fn garbage_is_shown_but_not_at_length() {
        let error = decode::<serde_json::Value>(&vec![b'#'; 5000]).unwrap_err().to_string();
        assert!(error.contains("####") && error.len() < 300, "{error}");
    }
}
