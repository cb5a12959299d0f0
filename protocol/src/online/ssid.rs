//! The name of a network: up to 32 octets of anything (IEEE 802.11-2020, 9.4.2.2).

use crate::text::is_hostile;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// An SSID. Written for people and in JSON as text in which `\` and whatever is no printable UTF-8 are escaped as `\\` and
/// `\xHH`, so that it can be read back.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ssid(Vec<u8>);

/// Why something is no SSID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SsidError {
    /// IEEE 802.11 allows 32 octets.
    #[error("a network's name has 1 to 32 bytes, this one has {0}")]
    Length(usize),
    /// After a `\` there must be `\` or `xHH`.
    #[error("after a backslash there must be another one, or xHH")]
    Escape,
}

impl Ssid {
    /// Of octets.
    pub fn new(octets: impl Into<Vec<u8>>) -> Result<Self, SsidError> {
        let octets = octets.into();
        match octets.len() {
            1..=32 => Ok(Self(octets)),
            length => Err(SsidError::Length(length)),
        }
    }

    /// The octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Result<Self, SsidError> {
        let mut octets = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            if c != '\\' {
                octets.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            match rest.next() {
                Some('\\') => octets.push(b'\\'),
                Some('x') => {
                    let digit = |c: Option<char>| c.and_then(|c| c.to_digit(16)).and_then(|d| u8::try_from(d).ok());
                    let (high, low) = (digit(rest.next()), digit(rest.next()));
                    octets.push(high.ok_or(SsidError::Escape)? * 16 + low.ok_or(SsidError::Escape)?);
                }
                _ => return Err(SsidError::Escape),
            }
        }
        Self::new(octets)
    }
}

impl fmt::Display for Ssid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    // What turns the direction of writing, or takes no room, is as misleading as a control character.
                    c if is_hostile(c) => {
                        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                            write!(f, "\\x{byte:02x}")?;
                        }
                    }
                    c => write!(f, "{c}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Ssid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "“{self}”")
    }
}

impl Serialize for Ssid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ssid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_octets_survive_being_written() {
        for octets in
            [&b"home"[..], "Käfer 🦢".as_bytes(), b"caf\xe9", b"a\\b\x00\x1b[2J", &[0xff; 32], "\u{202e}x".as_bytes()]
        {
            let ssid = Ssid::new(octets).unwrap();
            let text = ssid.to_string();
            assert!(text.chars().all(|c| !is_hostile(c)), "{text:?}");
            assert_eq!(Ssid::parse(&text), Ok(ssid.clone()));
            assert_eq!(serde_json::from_str::<Ssid>(&serde_json::to_string(&ssid).unwrap()).unwrap(), ssid);
        }
        assert_eq!(Ssid::new("Käfer 🦢").unwrap().to_string(), "Käfer 🦢");
        assert_eq!(Ssid::new(&b"caf\xe9"[..]).unwrap().to_string(), "caf\\xe9");
    }

    #[test]
    fn what_is_no_ssid_is_refused() {
        assert_eq!(Ssid::new(vec![]), Err(SsidError::Length(0)));
        assert_eq!(Ssid::new(vec![b'x'; 33]), Err(SsidError::Length(33)));
        assert_eq!(Ssid::parse("a\\"), Err(SsidError::Escape));
        assert_eq!(Ssid::parse("a\\xg0"), Err(SsidError::Escape));
    }
}
