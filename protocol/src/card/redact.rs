//! A file without the secrets that are given. What nobody could take stays: somebody has to correct it.

use super::config::{CardConfig, HostKey};
use super::read::Reading;
use crate::online::settings::{Key, Network};
use toml::de::{DeTable, DeValue};

/// What is said first in the place of a secret: by these words a file is known that secrets were taken of.
pub const TAKEN: &str = "cygnet has taken";
/// Where the secrets are. Of another installer's file not all of them need be of use.
const WHERE: &str = "what the Pi uses is in its own storage, readable for root only";

/// The file without the secrets in `taken`; nothing if there are none in it. `read` is its reader.
pub fn redact(bytes: &[u8], taken: &CardConfig, read: impl Fn(&[u8]) -> Reading) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (before, held) = (read(bytes).config, Held::of(taken));
    if !held.any_in(&before) && !held.lines(text).iter().any(|secret| *secret) {
        return None;
    }
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut secret = held.lines(text);
    let keys = if held.has_host_key(&before) { pem_lines(text) } else { Vec::new() };
    for line in toml_lines(text, &held).into_iter().chain(keys) {
        if let Some(line) = secret.get_mut(line) {
            *line = true;
        }
    }
    let mut out = String::new();
    let mut last = false;
    for (line, secret) in text.lines().zip(secret) {
        match secret {
            false => out.push_str(line),
            // Of a secret with several lines, one is enough.
            true if last => continue,
            true => out.push_str(&comment(line, &held)),
        }
        last = secret;
        out.push_str(end);
    }
    let after = read(out.as_bytes());
    // Lines in the middle of something may not be missing; then nothing of the file is left.
    let broken = after.faults.iter().any(|fault| fault.key.is_empty());
    if broken || held.any_in(&after.config) || held.lines(&out).iter().any(|secret| *secret) {
        // What is secret can't be told from the rest.
        out = format!("# {TAKEN} what this file said; {WHERE}.{end}");
    }
    Some(out.into_bytes())
}

/// As far in as the line was, so that YAML stays as it is; with its key, if it has one that is not the beginning of the secret.
fn comment(line: &str, held: &Held) -> String {
    let trimmed = line.trim_start();
    let indent = &line[..line.len() - trimmed.len()];
    let key = trimmed.split(['=', ':']).next().unwrap_or_default().trim();
    let is_key = !key.is_empty()
        && key.len() < trimmed.trim_end().len()
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_[]".contains(c))
        && !held.any_contains(key);
    let key = if is_key { format!("{key}: ") } else { String::new() };
    format!("{indent}# {key}{TAKEN} it; {WHERE}")
}

/// The secrets that were taken.
struct Held<'a> {
    networks: &'a [Network],
    host_key: Option<&'a HostKey>,
}

impl<'a> Held<'a> {
    fn of(taken: &'a CardConfig) -> Self {
        Self { networks: &taken.networks, host_key: taken.host_key.as_ref() }
    }

    fn has(&self, key: &Key) -> bool {
        *key != Key::Open && self.networks.iter().any(|network| network.key == *key)
    }

    /// Whether a file that reads as `config` has one of them.
    fn any_in(&self, config: &CardConfig) -> bool {
        config.networks.iter().any(|network| self.has(&network.key)) || self.has_host_key(config)
    }

    fn has_host_key(&self, config: &CardConfig) -> bool {
        config.host_key.as_ref().is_some_and(|key| Some(key) == self.host_key)
    }

    /// The keys as they are written.
    fn texts(&self) -> Vec<String> {
        let text = |key: &Key| match key {
            Key::Open => None,
            Key::Passphrase(text) => Some(text.clone()),
            Key::Pmk(octets) => Some(octets.iter().map(|octet| format!("{octet:02x}")).collect()),
        };
        self.networks.iter().filter_map(|network| text(&network.key)).collect()
    }

    /// Whether `part` is part of one of them.
    fn any_contains(&self, part: &str) -> bool {
        let lower = part.to_ascii_lowercase();
        self.texts().iter().any(|secret| secret.contains(part) || secret.len() == 64 && secret.contains(&lower))
            || self.host_key.is_some_and(|key| key.private().contains(part))
    }

    /// Which lines have one of them, as it is written.
    fn lines(&self, text: &str) -> Vec<bool> {
        let texts = self.texts();
        let has = |line: &str| {
            let lower = line.to_ascii_lowercase();
            let pem = |key: &HostKey| key.private().lines().any(|part| !part.is_empty() && line.contains(part));
            texts
                .iter()
                .any(|secret| line.contains(secret.as_str()) || secret.len() == 64 && lower.contains(secret.as_str()))
                || self.host_key.is_some_and(pem)
        };
        text.lines().map(has).collect()
    }
}

/// The lines of private keys, each from its first to its last: they may be written otherwise than by us.
fn pem_lines(text: &str) -> Vec<usize> {
    let (mut found, mut begin) = (Vec::new(), None);
    for (at, line) in text.lines().enumerate() {
        if line.contains("-----BEGIN ") {
            begin = begin.or(Some(at));
        }
        if line.contains("-----END ")
            && let Some(begin) = begin.take()
        {
            found.extend(begin..=at);
        }
    }
    found
}

/// The lines of values in `cygnet.toml` that are such secrets, however they are quoted.
fn toml_lines(text: &str, held: &Held) -> Vec<usize> {
    let start = text.len() - text.trim_start_matches('\u{feff}').len();
    let Ok(table) = DeTable::parse(&text[start..]) else { return Vec::new() };
    let mut found = Vec::new();
    let mut look = |value: &toml::Spanned<DeValue<'_>>, is: &dyn Fn(&str) -> bool| {
        if value.get_ref().as_str().is_some_and(is) {
            let line = |at: usize| text.bytes().take(start + at).filter(|byte| *byte == b'\n').count();
            found.extend(line(value.span().start)..=line(value.span().end.saturating_sub(1)));
        }
    };
    let table = table.get_ref();
    if let Some(value) = table.get("host-key") {
        look(value, &|pem| HostKey::parse(pem).is_ok_and(|key| Some(&key) == held.host_key));
    }
    if let Some(DeValue::Array(networks)) = table.get("network").map(|value| value.get_ref()) {
        for network in networks.iter().filter_map(|network| network.get_ref().as_table()) {
            if let Some(value) = network.get("passphrase") {
                let key = |text: &str| Key::of(Some(text.trim_end_matches(['\r', '\n']).to_owned()), None, false);
                look(value, &|text| key(text).is_ok_and(|key| held.has(&key)));
            }
            if let Some(value) = network.get("pmk") {
                look(value, &|text| Key::of(None, Some(text.to_owned()), false).is_ok_and(|key| held.has(&key)));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::read::read;
    use super::*;

    fn without(text: &str) -> Option<String> {
        let config = read(text.as_bytes()).config;
        redact(text.as_bytes(), &config, read).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn what_was_taken_is_gone_and_the_rest_stays() {
        let key = include_str!("test-host-key");
        let text = format!(
            "\u{feff}# mine\r\nhost-key = \"\"\"\r\n{}\"\"\"\r\nhostname = \"pi\"\r\n[[network]]\r\nssid = \"a\"\r\n  passphrase = \"hunter2hunter2\"\r\n\
             [[network]]\r\nssid = \"b\"\r\npassphrase = \"\\u0068unter3hunter3\"\r\n[[network]]\r\nssid = \"c\"\r\npasphrase = \"not taken of it\"\r\n",
            key.replace('\n', "\r\n")
        );
        let left = without(&text).unwrap();
        assert!(!left.contains("hunter") && !left.contains("OPENSSH") && !left.contains(&key[60..90]), "{left}");
        assert!(left.contains("hostname = \"pi\"\r\n") && left.contains("not taken of it"), "{left}");
        assert!(
            left.contains("\r\n# host-key: cygnet has taken it") && left.contains("\r\n  # passphrase: cygnet has"),
            "{left}"
        );
        // Nothing more to do, and still a file that can be read.
        assert_eq!(without(&left), None);
        assert!(read(left.as_bytes()).faults.iter().all(|fault| !fault.key.is_empty()));
    }

    #[test]
    fn where_a_line_is_more_than_the_secret_all_is_gone() {
        let left = without(
            "hostname = \"pi\"\nnetwork = [{ ssid = \"a\",\n passphrase = \"hunter2hunter2\", open = false }]\n",
        )
        .unwrap();
        assert!(!left.contains("hunter2"), "{left}");
        assert_eq!(without("hostname = \"pi\"\n[[network]]\nssid = \"x\"\nopen = true\n"), None);
        assert_eq!(without("[[network]]\nssid = \"a\"\npassphrase = \"hunter2hun"), None);
    }

    #[test]
    fn the_beginning_of_a_secret_is_no_key() {
        let file =
            b"wifis:\n  wlan0:\n    access-points:\n      home:\n        password:\n          hunter2=and more\n";
        let read = super::super::foreign::cloud_init::network_config;
        let left = String::from_utf8(redact(file, &read(file).config, read).unwrap()).unwrap();
        assert!(!left.contains("hunter2") && left.contains("password:\n          # cygnet has taken it"), "{left}");
    }

    #[test]
    fn a_host_key_is_found_though_its_file_is_another() {
        // A length that its reader does not look at.
        let key = include_str!("test-host-key").replace("AAAAMwAAAAtzc2gtZW", "AAAzMwAAAAtzc2gtZW");
        let lines: String = key.lines().map(|line| format!("    {line}\n")).collect();
        let file = format!("#cloud-config\nssh_keys:\n  ed25519_private: |\n{lines}hostname: pi\n");
        let read = super::super::foreign::cloud_init::user_data;
        let config = read(file.as_bytes()).config;
        assert!(config.host_key.as_ref().is_some_and(|read| read.private() != key));
        let left = String::from_utf8(redact(file.as_bytes(), &config, read).unwrap()).unwrap();
        assert!(!left.contains("AAAzMwAAAAtzc2gtZW") && left.contains("hostname: pi"), "{left}");
    }

    #[test]
    fn a_key_in_hex_is_found_in_any_case() {
        let hex = "aB".repeat(32);
        let left = without(&format!("[[network]]\nssid = \"a\"\npmk = \"{hex}\" # {hex}\n")).unwrap();
        assert!(!left.contains(&hex), "{left}");
    }
}
