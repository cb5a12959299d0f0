//! What the readers have in common: a file's text, and settings that are checked one by one.

use crate::card::LIMIT;
use crate::card::config::{HostKey, MAX_KEYS, authorized_key};
use crate::card::hostname;
use crate::card::read::{Fault, MAX_FAULTS, Reading};
use crate::online::country;
use crate::online::settings::{Key, MAX_NETWORKS, Network};
use crate::online::ssid::Ssid;

/// Why a key is not used.
pub const NOT_USED: &str = "not used by cygnet";

/// A network as it is written in such files.
#[derive(Default)]
pub struct Written {
    /// Its name.
    pub ssid: Vec<u8>,
    /// A passphrase, or 64 hex digits.
    pub secret: Option<String>,
    /// Whether it says that it has none.
    pub open: bool,
    /// Whether it does not tell its name.
    pub hidden: bool,
    /// Of several, the one with the highest is joined.
    pub priority: i32,
}

/// What was found so far.
#[derive(Default)]
pub struct Found(Reading);

impl Found {
    /// Notes something that is not as it should be.
    pub fn fault(&mut self, line: usize, key: impl Into<String>, why: impl Into<String>) {
        if self.0.faults.len() < MAX_FAULTS {
            let key: String = key.into().chars().filter(|c| !c.is_control()).take(60).collect();
            self.0.faults.push(Fault { line, key, why: why.into() });
        }
    }

    /// Notes a key that is not used.
    pub fn ignored(&mut self, line: usize, key: impl Into<String>) {
        self.fault(line, key, NOT_USED);
    }

    /// What the host is to be called. Only the first label of a longer name is wanted.
    pub fn hostname(&mut self, line: usize, key: &str, name: &str) {
        let label = name.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
        match hostname::check(&label) {
            Ok(()) => self.0.config.hostname = Some(label),
            Err(why) => self.fault(line, key, why),
        }
    }

    /// Where the radio is.
    pub fn country(&mut self, line: usize, key: &str, code: &str) {
        match country::code(code) {
            Ok(code) => self.0.config.country = Some(code),
            Err(why) => self.fault(line, key, why),
        }
    }

    /// Who may log in.
    pub fn authorized_key(&mut self, line: usize, key: &str, text: &str) {
        match authorized_key(text) {
            Ok(_) if self.0.config.authorized_keys.len() >= MAX_KEYS => {
                self.fault(line, key, format!("{MAX_KEYS} keys at most"));
            }
            Ok(known) if self.0.config.authorized_keys.contains(&known) => {}
            Ok(known) => self.0.config.authorized_keys.push(known),
            Err(why) => self.fault(line, key, why),
        }
    }

    /// The ssh host key.
    pub fn host_key(&mut self, line: usize, key: &str, pem: &str) {
        match HostKey::parse(pem) {
            Ok(host_key) => self.0.config.host_key = Some(host_key),
            Err(why) => self.fault(line, key, why),
        }
    }

    /// A network; 64 hex digits are its PMK.
    pub fn network(&mut self, line: usize, key: &str, written: Written) {
        let ssid = match Ssid::new(written.ssid) {
            Ok(ssid) => ssid,
            Err(error) => return self.fault(line, key, error.to_string()),
        };
        if self.0.config.networks.len() >= MAX_NETWORKS {
            return self.fault(line, key, format!("{MAX_NETWORKS} networks at most"));
        }
        let other = self.0.config.networks.iter().find(|known| known.ssid == ssid).cloned();
        match Key::of(written.secret.filter(|_| !written.open), None, written.open) {
            Ok(access) => {
                let network = Network { ssid, key: access, hidden: written.hidden, priority: written.priority };
                match other {
                    // The same once more, as for a second radio.
                    Some(other) if other == network => {}
                    Some(_) => self.fault(line, key, "another network has the same name; that one is taken"),
                    None => self.0.config.networks.push(network),
                }
            }
            Err("it needs a passphrase, a pmk, or open = true") => {
                self.fault(line, key, "it has no passphrase and does not say that it is open");
            }
            Err(why) => self.fault(line, key, why),
        }
    }

    /// All of it, faults by line.
    pub fn reading(mut self) -> Reading {
        self.0.faults.sort();
        self.0.config.networks.sort_by_key(|network| std::cmp::Reverse(network.priority));
        self.0
    }
}

/// The file as text, without a byte order mark.
///
/// # Errors
/// What is to be told of a file that is too long or no UTF-8.
pub fn text(bytes: &[u8]) -> Result<&str, Box<Reading>> {
    let whole = |line, why: String| {
        Box::new(Reading { faults: vec![Fault { line, key: String::new(), why }], ..Reading::default() })
    };
    if bytes.len() > LIMIT {
        return Err(whole(1, format!("it has more than {} kB", LIMIT / 1024)));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let line = 1 + bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count();
            Err(whole(line, "it is no UTF-8 text; an editor may have saved it as UTF-16 or Latin-1".into()))
        }
    }
}

/// The fault of a file that can't be read from some line on. Nothing of it is taken then.
pub fn unreadable(line: usize, kind: &str) -> Reading {
    let why = format!("it is no {kind} from here on, or the file is cut off");
    Reading { faults: vec![Fault { line, key: String::new(), why }], ..Reading::default() }
}
