//! `cygnet.toml`, read. Each fault has its line and the key's name; no value is ever part of it, because it may be a
//! passphrase in the wrong place.

use super::config::{CardConfig, HostKey, MAX_KEYS, authorized_key};
use super::hostname;
use crate::online::country;
use crate::online::settings::{Key, MAX_NETWORKS, Network, unhex};
use crate::online::ssid::Ssid;
use std::fmt;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Counted from 1.
    pub line: usize,
    /// Whose value it is: `country`, `network 2: passphrase`. Empty if the file as a whole is meant.
    pub key: String,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { line, key, why } = self;
        let colon = if key.is_empty() { "" } else { ": " };
        write!(f, "line {line}: {key}{colon}{why}")
    }
}

/// The most faults that are told of one file: whoever has mended those hears of the next.
pub const MAX_FAULTS: usize = 50;

/// What came of reading.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// All that is good of it.
    pub config: CardConfig,
    /// What is not, by line.
    pub faults: Vec<Fault>,
}

/// The keys of the file, as its writer is told them.
pub const KEYS: &[&str] = &["hostname", "country", "authorized-keys", "claim", "target", "host-key", "network"];
const NETWORK_KEYS: &[&str] = &["ssid", "ssid-hex", "passphrase", "pmk", "open", "hidden", "priority"];

/// Reads the file. A byte order mark and CR LF are as good as none.
pub fn read(bytes: &[u8]) -> Reading {
    let whole =
        |line, why: String| Reading { faults: vec![Fault { line, key: String::new(), why }], ..Reading::default() };
    if bytes.len() > super::LIMIT {
        return whole(1, format!("it has more than {} kB", super::LIMIT / 1024));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let line = line_at(bytes, error.valid_up_to());
            return whole(line, "it is no UTF-8 text; an editor may have saved it as UTF-16 or Latin-1".into());
        }
    };
    // Nothing is taken of a file that is cut off: the last value may be half of what it was.
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let line = line_at(text.as_bytes(), error.span().map_or(0, |span| span.start));
            let what = "it is no TOML from here on: a missing quote or bracket, a key that is there twice, or the file is cut off";
            return whole(line, what.into());
        }
    };
    let mut reader = Reader { text, reading: Reading::default() };
    reader.top(table.get_ref());
    reader.reading.faults.sort();
    reader.reading
}

fn line_at(text: &[u8], offset: usize) -> usize {
    1 + text.iter().take(offset).filter(|byte| **byte == b'\n').count()
}

struct Reader<'a> {
    text: &'a str,
    reading: Reading,
}

type Value<'a> = Spanned<DeValue<'a>>;

impl Reader<'_> {
    fn fault(&mut self, at: usize, key: impl Into<String>, why: impl Into<String>) {
        if self.reading.faults.len() >= MAX_FAULTS {
            return;
        }
        let line = line_at(self.text.as_bytes(), at);
        self.reading.faults.push(Fault { line, key: key.into(), why: why.into() });
    }

    /// A value that `check` has to like.
    fn checked<T>(&mut self, key: &str, value: &Value, check: impl Fn(&str) -> Result<T, &'static str>) -> Option<T> {
        let checked = match value.get_ref() {
            DeValue::String(text) => check(text),
            _ => Err("a text in quotes is expected"),
        };
        checked.map_err(|why| self.fault(value.span().start, key, why)).ok()
    }

    fn top(&mut self, table: &DeTable) {
        for (key, value) in table {
            match key.get_ref().as_ref() {
                name @ "hostname" => self.reading.config.hostname = self.checked(name, value, label),
                name @ "target" => self.reading.config.target = self.checked(name, value, configuration),
                name @ "country" => self.reading.config.country = self.checked(name, value, country::code),
                name @ "claim" => self.reading.config.claim = self.checked(name, value, claim),
                name @ "host-key" => self.reading.config.host_key = self.checked(name, value, HostKey::parse),
                name @ "authorized-keys" => self.keys(name, value),
                name @ "network" => self.networks(name, value),
                name => self.unknown(key.span().start, name, KEYS),
            }
        }
    }

    fn unknown(&mut self, at: usize, name: &str, known: &[&str]) {
        // A name is no secret, unless somebody forgot `passphrase =`: TOML has no value without a key, so they did not.
        let name: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
        self.fault(at, name, format!("unknown key; there are {}", known.join(", ")));
    }

    fn keys(&mut self, name: &str, value: &Value) {
        let DeValue::Array(keys) = value.get_ref() else {
            return self.fault(value.span().start, name, "a list in brackets is expected");
        };
        if keys.len() > MAX_KEYS {
            self.fault(value.span().start, name, format!("there are {} keys; {MAX_KEYS} at most", keys.len()));
        }
        for key in keys.iter().take(MAX_KEYS) {
            let key = self.checked(name, key, authorized_key);
            self.reading.config.authorized_keys.extend(key);
        }
    }

    fn networks(&mut self, name: &str, value: &Value) {
        let DeValue::Array(networks) = value.get_ref() else {
            return self.fault(value.span().start, name, "each network is a section that begins with [[network]]");
        };
        if networks.len() > MAX_NETWORKS {
            let why = format!("there are {} networks; {MAX_NETWORKS} at most", networks.len());
            self.fault(value.span().start, name, why);
        }
        let mut found: Vec<Network> = Vec::new();
        let mut given: Vec<i32> = Vec::new();
        for (number, network) in networks.iter().enumerate().take(MAX_NETWORKS) {
            let name = format!("network {}", number + 1);
            let Some(table) = network.get_ref().as_table() else {
                self.fault(network.span().start, name, "each network is a section that begins with [[network]]");
                continue;
            };
            let Some((network_read, priority)) = self.network(&name, table, network.span().start) else { continue };
            if let Some((priority, at)) = priority {
                if given.contains(&priority) {
                    self.fault(
                        at,
                        format!("{name}: priority"),
                        "another network has the same; the first of them goes first",
                    );
                }
                given.push(priority);
            }
            if found.iter().any(|other| other.ssid == network_read.ssid) {
                self.fault(network.span().start, name, "another network has the same name; that one is taken");
                continue;
            }
            found.push(network_read);
        }
        // Stable: of the same priority, as in the file.
        found.sort_by_key(|network| std::cmp::Reverse(network.priority));
        self.reading.config.networks = found;
    }

    fn network(&mut self, name: &str, table: &DeTable, at: usize) -> Option<(Network, Option<(i32, usize)>)> {
        let (mut ssid, mut ssid_hex, mut passphrase, mut pmk) = (None, None, None, None);
        let (mut open, mut hidden, mut priority) = (false, false, None);
        let text = |text: &str| Ok::<String, &'static str>(text.to_owned());
        for (key, value) in table {
            let of = format!("{name}: {}", key.get_ref());
            let start = value.span().start;
            match key.get_ref().as_ref() {
                "ssid" => ssid = self.checked(&of, value, text),
                "ssid-hex" => ssid_hex = self.checked(&of, value, text),
                // Pasted from a file, it may have a line's end.
                "passphrase" => {
                    passphrase = self.checked(&of, value, |secret| text(secret.trim_end_matches(['\r', '\n'])))
                }
                "pmk" => pmk = self.checked(&of, value, text),
                "open" | "hidden" => match value.get_ref().as_bool() {
                    Some(is) if key.get_ref() == "open" => open = is,
                    Some(is) => hidden = is,
                    None => self.fault(start, of, "true or false is expected"),
                },
                "priority" => match value.get_ref().as_integer().and_then(|n| n.as_str().parse::<i32>().ok()) {
                    Some(number) => priority = Some((number, start)),
                    None => self.fault(start, of, "a whole number is expected"),
                },
                other => self.unknown(key.span().start, &format!("{name}: {other}"), NETWORK_KEYS),
            }
        }
        let ssid = match (ssid, ssid_hex) {
            (Some(text), None) => Ssid::new(text).map_err(|error| error.to_string()),
            (None, Some(hex)) => match unhex(&hex) {
                Some(octets) => Ssid::new(octets).map_err(|error| error.to_string()),
                None => Err("ssid-hex is not an even number of hex digits".into()),
            },
            _ => Err("it needs either ssid or ssid-hex".into()),
        };
        let key = Key::of(passphrase, pmk, open);
        let (ssid, key) = match (ssid, key) {
            (Ok(ssid), Ok(key)) => (ssid, key),
            (ssid, key) => {
                for why in [ssid.err(), key.err().map(str::to_owned)].into_iter().flatten() {
                    self.fault(at, name, why);
                }
                return None;
            }
        };
        Some((Network { ssid, key, hidden, priority: priority.map_or(0, |(number, _)| number) }, priority))
    }
}

fn label(text: &str) -> Result<String, &'static str> {
    hostname::check(text).map(|()| text.to_owned())
}

/// What may be an attribute in a flake: more than a host's name, but nothing that would have to be quoted there.
fn configuration(text: &str) -> Result<String, &'static str> {
    let known = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let good = (1..=63).contains(&text.len()) && text.chars().all(known);
    if good { Ok(text.to_owned()) } else { Err("1 to 63 letters, digits, - and _ are expected") }
}

fn claim(text: &str) -> Result<String, &'static str> {
    let good = (1..=63).contains(&text.len()) && !text.chars().any(char::is_control);
    if good { Ok(text.to_owned()) } else { Err("1 to 63 bytes of text without line breaks are expected") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "\u{feff}# Mine\r\nhostname = \"pi-cupboard\"\r\ncountry = \"DE\"\r\nclaim = \"me\"\r\ntarget = \"pi\"\r\n\
        [[network]]\r\nssid = \"guests\"\r\nopen = true\r\n[[network]]\r\nssid-hex = \"636166e9\"\r\n\
        passphrase = \"correct horse\"\r\nhidden = true\r\npriority = 5\r\n";

    fn faults(text: &str) -> Vec<String> {
        read(text.as_bytes()).faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_whole_file_with_windows_ends() {
        let Reading { config, faults } = read(WHOLE.as_bytes());
        assert_eq!(faults, []);
        assert_eq!((config.hostname.as_deref(), config.country.as_deref()), (Some("pi-cupboard"), Some("DE")));
        let names: Vec<&[u8]> = config.networks.iter().map(|network| network.ssid.octets()).collect();
        assert_eq!(names, [&b"caf\xe9"[..], b"guests"]);
        assert!(config.networks[0].hidden && !format!("{config:?}").contains("horse"));
    }

    #[test]
    fn each_fault_has_its_line_and_no_secret() {
        for (text, says) in [
            ("contry = \"DE\"", "line 1: contry: unknown key"),
            ("\n\ncountry = \"deu\"", "line 3: country: two letters"),
            ("country = \"uk\"", "line 1: country: the United Kingdom is GB"),
            ("hostname = \"Pi\"", "line 1: hostname: only a to z"),
            ("hostname = 4", "line 1: hostname: a text in quotes"),
            (
                "[[network]]\nssid = \"x\"\npassphrase = \"hunter2\"",
                "line 1: network 1: the passphrase must have 8 to 63",
            ),
            (
                "[[network]]\nssid = \"x\"\nopen = true\npasphrase = \"hunter2hunter2\"",
                "line 4: network 1: pasphrase: unknown",
            ),
            ("[[network]]\nssid = \"x\"", "line 1: network 1: it needs a passphrase"),
            ("[network]\nssid = \"x\"", "line 1: network: each network is a section"),
            ("authorized-keys = [\"x\"]", "line 1: authorized-keys: it is no public key"),
            ("host-key = \"hunter2\"", "line 1: host-key: it is no private key"),
            ("country = \"DE\"\n[[network]]\nssid = \"x\"\npassphrase = \"hunter2hun", "line 4: it is no TOML"),
            ("a = 1\na = 2", "line 2: it is no TOML"),
        ] {
            let said = faults(text);
            assert!(said.iter().any(|fault| fault.starts_with(says)), "{text:?}: {said:?}");
            assert!(!said.join(" ").contains("hunter2"), "{said:?}");
        }
        assert!(faults("\u{0}").len() == 1 && read(b"a = \"\xff\"").faults[0].why.contains("UTF-8"));
        assert!(read(&vec![b'\n'; super::super::LIMIT + 1]).faults[0].why.contains("more than 64 kB"));
    }

    #[test]
    fn what_is_good_is_taken() {
        let text = "country = \"Germany\"\nhostname = \"pi\"\n[[network]]\nssid = \"a\"\nopen = true\npriority = 3\n\
                    [[network]]\nssid = \"b\"\n[[network]]\nssid = \"c\"\nopen = true\npriority = 3\n";
        let Reading { config, faults } = read(text.as_bytes());
        assert_eq!((config.hostname.as_deref(), config.country, config.networks.len()), (Some("pi"), None, 2));
        let lines: Vec<usize> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [1, 7, 12], "{faults:?}");
        assert!(faults[2].why.contains("goes first"));
    }

    #[test]
    fn a_file_of_nothing_but_faults_is_told_in_few_words() {
        let text: String = (0..5000).map(|n| format!("k{n} = 1\n")).collect();
        assert_eq!(faults(&text).len(), MAX_FAULTS);
    }

    #[test]
    fn sixty_four_hex_digits_are_the_key_itself() {
        let hex = "ab".repeat(32);
        let text = format!("[[network]]\nssid = \"x\"\npassphrase = \"{hex}\"");
        let reading = read(text.as_bytes());
        assert!(matches!(reading.config.networks[0].key, Key::Pmk(_)) && reading.faults.is_empty());
    }
}
