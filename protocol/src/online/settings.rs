//! What the user gave the Pi to get online with: `/etc/cygnet/settings.json`, and networks typed on the console.

use super::country;
use super::ssid::Ssid;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The settings file. Every field has a default; unknown ones are refused, because a misspelt `country` is a Pi in a
/// cupboard that does not come online.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// ISO 3166-1 alpha-2: `DE`. Without it only what is allowed everywhere may be used of the radio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The networks to join.
    pub networks: Vec<Network>,
    /// The serial console and tty1.
    pub console: Console,
}

/// The screen on the consoles.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Console {
    /// Terminals to draw on, `ttyS0`; those that the kernel uses as consoles, and tty1, if empty.
    pub devices: Vec<String>,
    /// Whether the key `x` may open a root shell there.
    pub shell: bool,
}

/// A network to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", try_from = "Written", into = "Written")]
pub struct Network {
    /// Its name.
    pub ssid: Ssid,
    /// How to get in.
    pub key: Key,
    /// True if it does not tell its name: it is asked for by name then.
    pub hidden: bool,
    /// Of several that are there, the one with the highest is joined.
    pub priority: i32,
}

/// How to get into a network.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// Anybody may.
    Open,
    /// 8 to 63 bytes of text without control characters; WPA2 and WPA3.
    Passphrase(String),
    /// The pre-shared key made from it, which is good for WPA2 and no use for WPA3 (SAE needs the passphrase).
    Pmk([u8; 32]),
}

/// Never the secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Key::Open => "Open",
            Key::Passphrase(_) => "Passphrase(…)",
            Key::Pmk(_) => "Pmk(…)",
        })
    }
}

/// Why settings can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// JSON that is none, or with fields that we do not know.
    #[error("{0}")]
    Json(String),
    /// None that the kernel knows, and why.
    #[error("the country {0:?} can't be: {1}")]
    Country(String, &'static str),
    /// More than the screen, the supplicant and a person would make sense of.
    #[error("there are {0} networks; {MAX_NETWORKS} at most")]
    TooMany(usize),
}

/// The most networks in a settings file.
pub const MAX_NETWORKS: usize = 64;

impl Settings {
    /// Reads a settings file; a secret is never part of the error.
    pub fn parse(json: &[u8]) -> Result<Self, SettingsError> {
        // serde_json's messages quote the offending value, which may be a passphrase: only their place is told.
        let mut settings: Settings =
            serde_json::from_slice(json).map_err(|error| SettingsError::Json(explain(&error)))?;
        if let Some(text) = &settings.country {
            let code = country::code(text).map_err(|why| SettingsError::Country(text.clone(), why))?;
            settings.country = Some(code);
        }
        if settings.networks.len() > MAX_NETWORKS {
            return Err(SettingsError::TooMany(settings.networks.len()));
        }
        Ok(settings)
    }
}

fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let ours = ["unknown field", "missing field", "duplicate field", "network:"];
    let told = ours.iter().any(|start| text.starts_with(start));
    if told { text } else { format!("not as expected at line {}, column {}", error.line(), error.column()) }
}

/// A network as it is written down: exactly one of the ways to say a name, and one of the keys.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ssid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ssid_hex: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passphrase: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pmk: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    open: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    hidden: bool,
    #[serde(default)]
    priority: i32,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl TryFrom<Written> for Network {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let ssid = match (written.ssid, written.ssid_hex) {
            (Some(text), None) => Ssid::new(text),
            (None, Some(hex)) => Ssid::new(unhex(&hex).ok_or("network: ssid-hex is not an even number of hex digits")?),
            _ => return Err("network: it needs either ssid or ssid-hex".into()),
        }
        .map_err(|error| format!("network: {error}"))?;
        let key = Key::of(written.passphrase, written.pmk, written.open)
            .map_err(|error| format!("network: “{ssid}”: {error}"))?;
        Ok(Self { ssid, key, hidden: written.hidden, priority: written.priority })
    }
}

impl Key {
    /// Exactly one of the three must be given. A passphrase of 64 hex digits is the PMK that it looks like, as for
    /// wpa_supplicant.
    pub fn of(passphrase: Option<String>, pmk: Option<String>, open: bool) -> Result<Self, &'static str> {
        let pmk_of = |hex: &str| unhex(hex).and_then(|octets| octets.try_into().ok()).map(Key::Pmk);
        match (passphrase, pmk, open) {
            (Some(text), None, false) => match text.len() {
                // As wpa_supplicant has it (config.c, has_ctrl_char()); the standard knows ASCII only: see `remark`.
                8..=63 if text.bytes().all(|b| b >= b' ' && b != 0x7f) => Ok(Key::Passphrase(text)),
                8..=63 => Err("the passphrase has control characters, which WPA2 does not allow"),
                64 => pmk_of(&text)
                    .ok_or("the passphrase has 64 characters that are not all hex digits; 8 to 63 are allowed"),
                _ if text.is_ascii() => Err("the passphrase must have 8 to 63 characters"),
                _ => Err("the passphrase must have 8 to 63 bytes; a character that is no ASCII has several"),
            },
            (None, Some(hex), false) => pmk_of(&hex).ok_or("the pmk must have 64 hex digits"),
            (None, None, true) => Ok(Key::Open),
            (None, None, false) => Err("it needs a passphrase, a pmk, or open = true"),
            _ => Err("it must have just one of passphrase, pmk and open"),
        }
    }
}

/// What is said of a passphrase with other characters than ASCII's.
const NO_ASCII: &str = "the passphrase has characters that are no ASCII: the standard does not say how they are sent, and it \
    works where the access point has the same bytes (UTF-8). If joining fails, give the 64 hex digits that `wpa_passphrase` makes \
    of it in the access point's encoding as pmk, or take another passphrase; iwd takes none of these";

impl Network {
    /// What the other end must do, where that is not a matter of course.
    pub fn remark(&self) -> Option<&'static str> {
        match &self.key {
            Key::Passphrase(text) if !text.is_ascii() => Some(NO_ASCII),
            Key::Passphrase(_) | Key::Pmk(_) | Key::Open => None,
        }
    }
}

impl From<Network> for Written {
    fn from(network: Network) -> Self {
        let (ssid, ssid_hex) = match String::from_utf8(network.ssid.octets().to_vec()) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(hex(error.as_bytes()))),
        };
        let (passphrase, pmk, open) = match network.key {
            Key::Open => (None, None, true),
            Key::Passphrase(text) => (Some(text), None, false),
            Key::Pmk(octets) => (None, Some(hex(&octets)), false),
        };
        Self { ssid, ssid_hex, passphrase, pmk, open, hidden: network.hidden, priority: network.priority }
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|b| format!("{b:02x}")).collect()
}

/// Octets of hex digits, if it is an even number of those.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let digits = digits?;
    (digits.len() % 2 == 0).then(|| digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_written() {
        let json = br#"{"country":"DE","networks":[
            {"ssid":"home","passphrase":"correct horse","priority":5},
            {"ssid-hex":"636166e9","pmk":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF","hidden":true},
            {"ssid":"caf\u00e9","open":true}]}"#;
        let settings = Settings::parse(json).unwrap();
        assert_eq!(settings.networks.len(), 3);
        assert!(matches!(settings.networks[1].key, Key::Pmk(_)) && settings.networks[1].hidden);
        assert_eq!(Settings::parse(&serde_json::to_vec(&settings).unwrap()).unwrap(), settings);
        assert!(!format!("{settings:?}").contains("horse"));
        assert_eq!(Settings::parse(b"{}").unwrap(), Settings::default());
    }

    #[test]
    fn bad_settings_are_refused_without_telling_a_secret() {
        for (json, says) in [
            (r#"{"contry":"DE"}"#, "unknown field `contry`"),
            (r#"{"country":"Germany"}"#, "two letters"),
            (r#"{"networks":[{"ssid":"x"}]}"#, "needs a passphrase"),
            (r#"{"networks":[{"ssid":"x","passphrase":"hunter2"}]}"#, "8 to 63"),
            (r#"{"networks":[{"ssid":"x","passphrase":"hunter2hunter2","open":true}]}"#, "just one"),
            (r#"{"networks":[{"passphrase":"hunter2hunter2"}]}"#, "ssid or ssid-hex"),
            (r#"{"networks":[{"ssid":"","passphrase":"hunter2hunter2"}]}"#, "1 to 32"),
            (r#"{"networks":["hunter2hunter2"]}"#, "line 1"),
            (r#"{"networks":[{"ssid":"x","passphrase":["hunter2hunter2"]}]}"#, "line 1"),
            ("hunter2", "line 1"),
        ] {
            let error = Settings::parse(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("hunter2"), "{json}: {error}");
        }
    }

    #[test]
    fn sixty_four_hex_digits_are_a_pmk() {
        assert!(matches!(Key::of(Some("ab".repeat(32)), None, false), Ok(Key::Pmk(_))));
        assert!(Key::of(Some("x".repeat(64)), None, false).is_err());
    }

    #[test]
    fn a_passphrase_may_have_any_characters_but_control_ones() {
        let of = |text: &str| Key::of(Some(text.into()), None, false);
        let remark = |key| Network { ssid: Ssid::new("x").unwrap(), key, hidden: false, priority: 0 }.remark();
        // Bytes count, not characters: seven and eight of these, and 63 and 64.
        assert_eq!(of("pässword"), Ok(Key::Passphrase("pässword".into())));
        assert!(of("ü23456").unwrap_err().contains("bytes") && of("ü234567").is_ok());
        assert!(of(&"é".repeat(31)).is_ok() && of(&"é".repeat(32)).is_err() && of(&"é".repeat(33)).is_err());
        for bad in ["tab\tand more", "new\nline and", "del\u{7f}delete", "nul\0nulnul"] {
            assert!(of(bad).unwrap_err().contains("control characters"), "{bad:?}");
        }
        assert!(remark(of("pässword").unwrap()).is_some_and(|text| text.contains("wpa_passphrase")));
        assert_eq!(remark(of("password").unwrap()), None);
    }
}
