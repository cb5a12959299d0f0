//! The two TOML files of Raspberry Pi's Imager, which differ in a few defaults.

use super::found::{Found, Written, text, unreadable};
use crate::card::read::Reading;
use crate::online::settings::unhex;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `rpi-preseed.toml`: `key_mgmt`, `ssid_hex`.
    Preseed,
    /// `custom.toml` of Raspberry Pi OS “bookworm”.
    Custom,
}

impl Dialect {
    /// `config_version`, which is a text in the one and a number in the other (`init_config` of raspberrypi-sys-mods).
    fn is_version(self, value: &DeValue<'_>) -> bool {
        match (self, value) {
            (Dialect::Preseed, DeValue::String(text)) => text == "1" || text.starts_with("1."),
            (_, DeValue::Integer(number)) => number.as_str() == "1",
            _ => false,
        }
    }
}

type Value<'a> = Spanned<DeValue<'a>>;

/// Reads it.
pub fn read(bytes: &[u8], dialect: Dialect) -> Reading {
    let text = match text(bytes) {
        Ok(text) => text,
        Err(reading) => return *reading,
    };
    let line = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => return unreadable(line(error.span().map_or(0, |span| span.start)), "TOML"),
    };
    let mut found = Found::default();
    for (section, value) in table.get_ref() {
        let (name, at) = (section.get_ref().as_ref(), line(section.span().start));
        match (name, value.get_ref()) {
            ("config_version", value) if dialect.is_version(value) => {}
            ("config_version", _) => {
                found.fault(at, name, "it is another version than is known; what is known of it is taken")
            }
            ("wlan", DeValue::Table(keys)) => network(&mut found, keys, at, &line, dialect),
            ("system" | "ssh", DeValue::Table(keys)) => {
                for (key, value) in keys {
                    let (of, at) = (format!("{name}.{}", key.get_ref()), line(key.span().start));
                    match (of.as_str(), value.get_ref()) {
                        ("system.hostname", DeValue::String(name)) => found.hostname(at, &of, name),
                        ("ssh.authorized_keys", DeValue::Array(keys)) => {
                            for key in keys {
                                let at = line(key.span().start);
                                match key.get_ref().as_str() {
                                    Some(key) => found.authorized_key(at, &of, key),
                                    None => found.fault(at, of.as_str(), "a text in quotes is expected"),
                                }
                            }
                        }
                        // Keys only, and always on: as with cygnet.
                        ("ssh.enabled", DeValue::Boolean(true))
                        | ("ssh.password_authentication", DeValue::Boolean(false)) => {}
                        ("ssh.enabled", DeValue::Boolean(false)) => {
                            found.fault(at, of, "ssh is always on here, for those whose keys are authorized");
                        }
                        ("ssh.password_authentication", DeValue::Boolean(true)) => {
                            found.fault(at, of, "only keys let somebody in here");
                        }
                        (
                            "system.hostname" | "ssh.authorized_keys" | "ssh.enabled" | "ssh.password_authentication",
                            _,
                        ) => {
                            found.fault(at, of, "the value is of another kind than expected");
                        }
                        _ => found.ignored(at, of),
                    }
                }
            }
            // Their keys are of one purpose each, which a section's name tells.
            _ => found.ignored(at, name),
        }
    }
    found.reading()
}

fn network(found: &mut Found, keys: &DeTable, at: usize, line: &dyn Fn(usize) -> usize, dialect: Dialect) {
    let mut written = Written::default();
    let mut named = false;
    let mut management = None;
    let mut encrypted = None;
    let mut entries: Vec<(&Spanned<_>, &Value)> = keys.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let (of, at) = (format!("wlan.{}", key.get_ref()), line(key.span().start));
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("ssid", DeValue::String(name)) => (written.ssid, named) = (name.as_bytes().to_vec(), true),
            ("ssid_hex", DeValue::String(hex)) if dialect == Dialect::Preseed => match unhex(hex) {
                Some(octets) => (written.ssid, named) = (octets, true),
                None => found.fault(at, of, "it is not an even number of hex digits"),
            },
            ("password", DeValue::String(secret)) => {
                written.secret = Some(secret.to_string()).filter(|s| !s.is_empty())
            }
            ("password_encrypted", DeValue::Boolean(is)) => encrypted = Some(*is),
            ("hidden", DeValue::Boolean(is)) => written.hidden = *is,
            ("country", DeValue::String(code)) => found.country(at, &of, code),
            ("key_mgmt", DeValue::String(kind)) if dialect == Dialect::Preseed => match kind.as_ref() {
                // OWE is tried where an open network offers it.
                "none" | "owe" => management = Some(true),
                "wpa-psk" | "sae" => management = Some(false),
                _ => found.fault(at, of, "none, owe, wpa-psk or sae is expected"),
            },
            ("ssid" | "password" | "password_encrypted" | "hidden" | "country", _) => {
                found.fault(at, of, "the value is of another kind than expected");
            }
            _ => found.ignored(at, of),
        }
    }
    if !named {
        // A country alone is fine.
        if written.secret.is_some() {
            found.fault(at, "wlan", "it has a password and no ssid");
        }
        return;
    }
    if encrypted == Some(true) && written.secret.as_ref().is_some_and(|secret| secret.len() != 64) {
        return found.fault(at, "wlan", "password_encrypted is true, but the password is not 64 hex digits");
    }
    written.open = management.unwrap_or(written.secret.is_none());
    found.network(at, "wlan", written);
}
