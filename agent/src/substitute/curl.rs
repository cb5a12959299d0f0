//! The card's curl(1): an argv and never a shell, addresses on its standard input, what it fetches on its standard output.
//!
//! TLS, proxies and certificates are its business, so that the agent links none of that. Every limit is curl's own, and the
//! caller's who stops reading.

use crate::run::tool::{Complaints, Output, Tool};
use crate::run::{Cancel, command, printable};
use std::fs::File;
use std::io::{self, Read, Write};
use std::process::{ChildStdout, Stdio};
use std::time::{Duration, Instant};

/// How long a connection may take, seconds.
const CONNECT: &str = "10";
/// A transfer that is slower than this, bytes a second …
const SLOW_BYTES: &str = "16000";
/// … for so long, seconds, is given up: the laptop is faster.
const SLOW_TIME: &str = "15";
/// How long a record may take, seconds.
const RECORD_TIME: &str = "15";
/// How long the records of one call may take together.
const RECORDS_TIME: Duration = Duration::from_secs(60);
/// How much of what curl complains of is read, bytes.
const MAX_COMPLAINT: usize = 4096;
/// How long it may be silent. Its own limits are shorter, but a name server may take its time.
const SILENCE: Duration = Duration::from_secs(90);
/// How long it may take to end when its output has.
const END: Duration = Duration::from_secs(10);

/// What curl is told of the surroundings; [`command`] leaves all else out.
const SURROUNDINGS: [&str; 11] = [
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NIX_SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
];

/// A running curl; it ends with this.
pub struct Curl<'a> {
    tool: Tool,
    output: Output<'a, ChildStdout>,
    said: Complaints,
}

impl<'a> Curl<'a> {
    /// Starts it with `options` for these URLs, which are of plain characters (`Substituter`), and come in this order.
    fn start(cancel: &'a Cancel, options: &[&str], urls: &[String]) -> io::Result<Self> {
        let mut curl = command("curl");
        // The first one leaves somebody's ~/.curlrc out. An address may tell more than a process list should show.
        curl.args(["--disable", "--config", "-", "--silent", "--show-error", "--globoff", "--netrc-optional"]);
        curl.args(["--proto", "=http,https", "--proto-redir", "=http,https", "--location", "--max-redirs", "5"]);
        curl.args(["--connect-timeout", CONNECT, "--user-agent", concat!("cygnetd/", env!("CARGO_PKG_VERSION"))]);
        curl.args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in SURROUNDINGS {
            if let Some(value) = std::env::var_os(name) {
                curl.env(name, value);
            }
        }
        let mut tool = Tool::start(&mut curl)?;
        let pipes = tool.child().map(|child| (child.stdin.take(), child.stdout.take(), child.stderr.take()));
        let Some((Some(mut input), Some(output), stderr)) = pipes else {
            return Err(io::Error::other("no pipe to curl"));
        };
        let said = Complaints::of(stderr, MAX_COMPLAINT);
        let text: String = urls.iter().map(|url| format!("url = \"{url}\"\n")).collect();
        // Why it reads nothing, it says itself.
        let _ = input.write_all(text.as_bytes());
        Ok(Self { tool, output: Output::new(output, SILENCE, cancel)?, said })
    }

    /// Fetches one file of `size` bytes at most, which is what is read.
    pub fn file(cancel: &'a Cancel, url: &str, size: Option<u64>) -> io::Result<Self> {
        let size = size.map(|size| size.to_string());
        let mut options = vec!["--fail", "--speed-limit", SLOW_BYTES, "--speed-time", SLOW_TIME];
        options.extend(size.iter().flat_map(|size| ["--max-filesize", size.as_str()]));
        Self::start(cancel, &options, &[url.to_owned()])
    }

    /// Waits until it has ended; an error is what it complains of.
    pub fn finish(mut self) -> Result<(), String> {
        let status = self.tool.wait(END);
        let said = self.said.text();
        match status {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(Some(status)) => Err(complaint(&said, &status.to_string())),
            Ok(None) => Err(complaint(&said, "its output, but not itself")),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Read for Curl<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.output.read(buffer)
    }
}

/// “curl: (7) Failed to connect to …” without its name and number.
fn complaint(said: &[u8], status: &str) -> String {
    let line = said.split(|byte| *byte == b'\n').find(|line| !line.is_empty()).map(printable).unwrap_or_default();
    let text = line.strip_prefix("curl: ").unwrap_or(&line);
    match text.split_once(") ") {
        Some((number, text)) if number.starts_with('(') => text.to_owned(),
        _ if text.is_empty() => format!("curl ended with {status}"),
        _ => text.to_owned(),
    }
}

/// What a cache answers when it is asked for a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This.
    Record(Vec<u8>),
    /// It has none.
    None,
    /// Something that is no answer, with this status of HTTP (RFC 9110).
    Status(u32),
}

/// Fetches one small file for each URL, over one connection; `limit` bytes each at most.
///
/// There may be fewer answers than URLs; then it says why.
pub fn records(cancel: &Cancel, urls: &[String], limit: usize) -> (Vec<Answer>, Result<(), String>) {
    let limit_text = limit.to_string();
    let result = seal().and_then(|seal| {
        let note = format!("\n{seal} %{{http_code}} %{{exitcode}}\n");
        let options = [
            "--fail-early",
            "--max-time",
            RECORD_TIME,
            "--max-filesize",
            limit_text.as_str(),
            "--write-out",
            note.as_str(),
        ];
        Curl::start(cancel, &options, urls).map(|curl| (curl, seal))
    });
    let (mut curl, seal) = match result {
        Ok(started) => started,
        Err(error) => return (Vec::new(), Err(format!("curl could not be started: {error}"))),
    };
    let begun = Instant::now();
    let mut answers = Vec::new();
    let mut text = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    let why = loop {
        match curl.read(&mut buffer) {
            Ok(0) => break curl.finish(),
            Ok(count) => text.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error.to_string()),
        }
        while let Some((answer, rest)) = first(&text, &seal, limit) {
            text.drain(..rest);
            answers.extend(answer);
        }
        // A record and the note behind it.
        if text.len() > limit + 256 {
            break Err(format!("what it says of a path is longer than {limit} bytes"));
        }
        if begun.elapsed() > RECORDS_TIME {
            break Err(format!("{} records took longer than {} s", urls.len(), RECORDS_TIME.as_secs()));
        }
    };
    answers.truncate(urls.len());
    (answers, why)
}

/// What the other end cannot know, and so not write between two records.
fn seal() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The first answer in `text`, if it is whole, and where it ends; a transfer that failed is none.
fn first(text: &[u8], seal: &str, limit: usize) -> Option<(Option<Answer>, usize)> {
    let mark = format!("\n{seal} ");
    let at = text.windows(mark.len()).position(|window| window == mark.as_bytes())?;
    let note = text.get(at + mark.len()..)?;
    let end = note.iter().position(|byte| *byte == b'\n')?;
    let note = String::from_utf8_lossy(note.get(..end)?).into_owned();
    let mut numbers = note.split(' ').map(|number| number.parse::<u32>().unwrap_or(0));
    let (status, failed) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0) != 0);
    let answer = match status {
        _ if failed => None,
        200 if at <= limit => Some(Answer::Record(text.get(..at)?.to_vec())),
        // A bucket that may not be listed says 403 for what is not there.
        403 | 404 | 410 => Some(Answer::None),
        status => Some(Answer::Status(status)),
    };
    Some((answer, at + mark.len() + end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_what_nobody_else_knows() {
        let text = b"StorePath: x\n\nfake 200 0\n\nSEAL 200 0\n<html>\nSEAL 404 0\n\nSEAL 503 0\n\nSEAL 200 28\nhal";
        let mut rest = &text[..];
        let mut answers = Vec::new();
        while let Some((answer, end)) = first(rest, "SEAL", 100) {
            answers.push(answer);
            rest = &rest[end..];
        }
        let record = Answer::Record(b"StorePath: x\n\nfake 200 0\n".to_vec());
        assert_eq!(answers, [Some(record), Some(Answer::None), Some(Answer::Status(503)), None]);
        assert_eq!(rest, b"hal");
        assert_eq!(first(b"0123456789\nSEAL 200 0\n", "SEAL", 5).unwrap().0, Some(Answer::Status(200)));
    }

    #[test]
    fn a_complaint_is_what_is_wrong() {
        assert_eq!(
            complaint(b"curl: (7) Failed to connect to x port 80\n", "exit status: 7"),
            "Failed to connect to x port 80"
        );
        assert_eq!(complaint(b"", "exit status: 9"), "curl ended with exit status: 9");
    }

    #[test]
    fn nobody_there_is_told() {
        let cancel = Cancel::default();
        let (answers, why) = records(&cancel, &["http://127.0.0.1:1/x.narinfo".into()], 100);
        assert!(answers.is_empty() && why.is_err(), "{why:?}");
    }
}
