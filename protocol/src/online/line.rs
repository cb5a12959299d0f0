//! The line that goes with the screen on a serial console, for a program at the other end: it is all there is of a Pi
//! that has no network.
//!
//! `CYGNET1 SEQ JSON CRC`: the number counts up from 1 since the agent started, the JSON is a [`ConsoleReport`] in
//! printable ASCII without a line break, and the eight hex digits are the CRC-32 (IEEE 802.3) of `SEQ JSON`. The kernel
//! writes its own messages into the middle of whatever is on the line; what they damaged is left out, and the next
//! line is whole.

use super::diagnosis::Code;
use super::link::{Link, LinkReport, LinkState};
use crate::event::Phase;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// What a line begins with. The digit is the format's version.
pub const PREFIX: &str = "CYGNET1 ";
/// The most bytes of JSON in a line: 0.1 s at 115200 baud.
pub const MAX_JSON: usize = 1024;
/// A line without an end that is longer than this is none of ours.
const MAX_LINE: usize = 4096;

/// A Pi in one line. Never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ConsoleReport {
    /// The board's serial number.
    pub serial: String,
    /// Its host name.
    pub host: String,
    /// The agent's version.
    pub version: String,
    /// The agent's state by its name: `waiting`.
    pub state: String,
    /// The phase of the installation, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// How far the phase is, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// Whether others can reach the Pi.
    pub online: bool,
    /// Through what: `wlan0 (“home”)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// Its addresses, the best to use first, four at most.
    pub addresses: Vec<String>,
    /// The ssh host key's fingerprint: `ssh-ed25519 SHA256:…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The link that fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// What is wrong with it: `W08-NOT-SEEN`; or the failed installation's fault: `step-failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The same in a sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub what: String,
    /// What the person can do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// What the agent does next by itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next: String,
    /// One letter for each of [`Link::ALL`]: see [`letter`]. Empty before the agent has looked.
    pub links: String,
}

impl ConsoleReport {
    /// How each link is, in order; letters that this program does not know are left out.
    pub fn links(&self) -> Vec<(Link, LinkState)> {
        let states = self.links.chars().map(state);
        Link::ALL.iter().copied().zip(states).filter_map(|(link, state)| Some((link, state?))).collect()
    }

    /// The diagnosis' code, if it is one of the way online.
    pub fn diagnosis(&self) -> Option<Code> {
        let name = self.code.as_deref()?;
        Code::ALL.iter().copied().find(|code| code.name() == name)
    }
}

/// A link's state as a letter: `u`p, `b`usy, `d`own, `w`arning, `p`ending, `n`ot used.
pub const fn letter(state: LinkState) -> char {
    match state {
        LinkState::Up => 'u',
        LinkState::Busy => 'b',
        LinkState::Down => 'd',
        LinkState::Warning => 'w',
        LinkState::Pending => 'p',
        LinkState::Unused => 'n',
    }
}

const fn state(letter: char) -> Option<LinkState> {
    match letter {
        'u' => Some(LinkState::Up),
        'b' => Some(LinkState::Busy),
        'd' => Some(LinkState::Down),
        'w' => Some(LinkState::Warning),
        'p' => Some(LinkState::Pending),
        'n' => Some(LinkState::Unused),
        _ => None,
    }
}

/// The chain in letters, `-` for a link that nothing is known of.
pub fn letters(reports: &[LinkReport]) -> String {
    if reports.is_empty() {
        return String::new();
    }
    let of = |link: &Link| reports.iter().find(|report| report.link == *link).map_or('-', |r| letter(r.state));
    Link::ALL.iter().map(of).collect()
}

/// The line, without its end. Texts that are too long for [`MAX_JSON`] are cut.
pub fn write(seq: u64, report: &ConsoleReport) -> String {
    let mut report = report.clone();
    report.addresses.truncate(4);
    for text in [&mut report.serial, &mut report.host, &mut report.version, &mut report.state] {
        cut(text, 64);
    }
    for text in report.addresses.iter_mut().chain(&mut report.key).chain(&mut report.via).chain(&mut report.code) {
        cut(text, 96);
    }
    let mut json = ascii_json(&report);
    // An emoji is twelve bytes in ASCII: how far the sentences must be cut is only known from the result.
    let mut longest = 256;
    while json.len() > MAX_JSON && longest > 0 {
        longest -= 16;
        for text in [&mut report.what, &mut report.remedy, &mut report.next] {
            cut(text, longest);
        }
        if longest < 64 {
            report.addresses.truncate(1);
            report.via.iter_mut().for_each(|text| cut(text, longest));
            report.host.clear();
        }
        json = ascii_json(&report);
    }
    let body = format!("{seq} {json}");
    format!("{PREFIX}{body} {:08x}", crc32fast::hash(body.as_bytes()))
}

/// The first whole line of ours in `text`, wherever it begins and whatever follows it.
pub fn read(text: &str) -> Option<(u64, ConsoleReport)> {
    text.match_indices(PREFIX).find_map(|(at, prefix)| read_at(text.get(at + prefix.len()..)?))
}

fn read_at(body: &str) -> Option<(u64, ConsoleReport)> {
    let (seq, rest) = body.split_once(' ')?;
    let seq_number = seq.parse().ok()?;
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<ConsoleReport>();
    let report = values.next()?.ok()?;
    let end = seq.len() + 1 + values.byte_offset();
    let crc = body.get(end..)?.strip_prefix(' ')?.get(..8)?;
    (u32::from_str_radix(crc, 16).ok()? == crc32fast::hash(body.get(..end)?.as_bytes())).then_some((seq_number, report))
}

/// Finds such lines in what comes from a serial line, whatever else comes.
#[derive(Debug, Default)]
pub struct Finder {
    line: Vec<u8>,
}

impl Finder {
    /// Takes in bytes, and gives the reports that are complete now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<(u64, ConsoleReport)> {
        let mut found = Vec::new();
        for &byte in bytes {
            if byte == b'\n' || byte == b'\r' {
                found.extend(read(&String::from_utf8_lossy(&self.line)));
                self.line.clear();
            } else if self.line.len() < MAX_LINE {
                self.line.push(byte);
            } else {
                self.line.clear();
            }
        }
        found
    }
}

/// Outside of strings JSON is ASCII, and inside of them `\u` says everything.
fn ascii_json(report: &ConsoleReport) -> String {
    // Strings, numbers and lists of them: nothing in it can fail.
    let json = serde_json::to_string(report).unwrap_or_default();
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if (' '..='~').contains(&c) {
            ascii.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    ascii
}

fn cut(text: &mut String, longest: usize) {
    if let Some((at, _)) = text.char_indices().nth(longest) {
        text.truncate(at);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> ConsoleReport {
        ConsoleReport {
            serial: "10000000abcdef01".into(),
            host: "cygnet".into(),
            version: "0.1.0".into(),
            state: "waiting".into(),
            phase: Some(Phase::Receive),
            percent: Some(42),
            online: false,
            via: Some("wlan0 (“Käfer 🦢”)".into()),
            addresses: vec!["192.0.2.7".into(), "fe80::1%wlan0".into()],
            key: Some("ssh-ed25519 SHA256:abc".into()),
            link: Some(Link::Scan),
            code: Some("W08-NOT-SEEN".into()),
            what: "“Käfer 🦢” is not in the air; \"quoted\" \\ and CYGNET1 too.".into(),
            remedy: "Move it.".into(),
            next: "looks again in 30 s".into(),
            links: "uuuuuuudpppppp-".into(),
        }
    }

    #[test]
    fn a_line_is_read_back() {
        for report in [report(), ConsoleReport::default()] {
            let line = write(7, &report);
            assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{line}");
            assert_eq!(read(&line), Some((7, report)));
        }
        assert_eq!(report().links().len(), 14);
        assert_eq!(report().diagnosis(), Some(Code::NotSeen));
    }

    #[test]
    fn damaged_lines_are_left_out_and_whole_ones_found() {
        let line = write(3, &report());
        for damage in 0..line.len() {
            let kernel = "[   12.345678] brcmfmac: hello";
            let interrupted = format!("{}{kernel}{}", &line[..damage], &line[damage..]);
            // Before or in front of its end it is as good as whole.
            assert_eq!(read(&interrupted).is_some(), damage == 0, "{interrupted}");
            let mut flipped = line.clone().into_bytes();
            flipped[damage] ^= 1;
            if let Ok(text) = std::str::from_utf8(&flipped) {
                // A hex digit may become the same digit in another case.
                assert!(read(text).is_none_or(|(seq, found)| (seq, found) == (3, report())), "{text}");
            }
            assert_eq!(read(&line[..damage]), None);
        }
        assert!(read(&format!("{line}[   12.345678] usb 1-1: new device")).is_some());
        assert!(read(&format!("CYGNET1 3 {{\"serial\":{line}")).is_some());
        assert_eq!(read("CYGNET1 CYGNET1 1 {} 00000000"), None);
    }

    #[test]
    fn lines_are_found_in_garbage_that_comes_in_pieces() {
        let mut stream = vec![0xff, 0x00, b'\r', b'\n'];
        stream.extend(b"U-Boot 2025.01\r\n\xe2\x9c");
        stream.extend(write(1, &report()).bytes());
        stream.extend(b"\r\r\n");
        stream.extend(vec![b'x'; 10_000]);
        stream.extend(b"\n");
        stream.extend(write(2, &ConsoleReport::default()).bytes());
        stream.extend(b"\n");
        let mut finder = Finder::default();
        let found: Vec<u64> = stream.chunks(3).flat_map(|piece| finder.push(piece)).map(|(seq, _)| seq).collect();
        assert_eq!(found, [1, 2]);
    }

    #[test]
    fn a_line_has_a_bound_whatever_is_in_it() {
        let long = "🦢".repeat(500);
        let report = ConsoleReport {
            serial: long.clone(),
            host: long.clone(),
            version: "\u{1}".repeat(99),
            via: Some(long.clone()),
            what: long.clone(),
            remedy: long.clone(),
            next: long,
            addresses: vec!["2001:db8:1111:2222:3333:4444:5555:6666".into(); 9],
            ..report()
        };
        let line = write(u64::MAX, &report);
        assert!(line.len() < 2 * MAX_JSON, "{}", line.len());
        assert!(read(&line).is_some());
        let usual = ConsoleReport { what: "x".repeat(900), remedy: "y".repeat(900), ..super::tests::report() };
        assert!(write(1, &usual).len() <= MAX_JSON + 40);
    }
}
