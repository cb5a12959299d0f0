//! The name of exactly one plan on exactly these disks.

use super::Mode;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// How many hex digits a person must give at least: 48 bits, too many to hit another plan by accident.
const SHORTEST: usize = 12;

/// SHA-256 of a plan's canonical JSON, as 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Digest(String);

/// Text that is not a SHA-256 in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a plan's digest is 64 lower-case hex digits")]
pub struct NotADigest;

impl Digest {
    /// Hashes what [`super::Plan`] covers. `bytes` is its canonical JSON.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits: what people are shown and type.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..SHORTEST).unwrap_or(&self.0)
    }

    /// Whether `given` (surrounding blanks ignored, any case) is this digest, or at least its first 12 digits.
    #[must_use]
    pub fn matches(&self, given: &str) -> bool {
        let given = given.trim().to_ascii_lowercase();
        given.len() >= SHORTEST && self.0.starts_with(&given)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() == 64 && text.bytes().all(hex) { Ok(Self(text.to_owned())) } else { Err(NotADigest) }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// SHA-256 over a layout in canonical JSON (sorted keys, no blanks) and, unless it is the default, the mode: what both ends
/// know an interrupted installation again by. Lower-case hex.
#[must_use]
pub fn layout_hash(disko: &serde_json::Value, mode: Mode) -> String {
    // serde_json's map is sorted as long as nobody switches `preserve_order` on; the test below would tell.
    let mut text = disko.to_string();
    if !mode.is_default() {
        text.push_str(mode.name());
    }
    Digest::of(text.as_bytes()).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_layout_depends_on_the_mode_and_not_on_the_order() {
        let hash = |text: &str| layout_hash(&serde_json::from_str(text).unwrap(), Mode::Destroy);
        assert_eq!(hash(r#"{"a":1,"b":{"d":2,"c":3}}"#), hash(r#"{ "b": {"c":3, "d":2}, "a":1 }"#));
        assert_ne!(hash(r#"{"a":1}"#), hash(r#"{"a":2}"#));
        // printf '{"a":1}' | sha256sum
        assert_eq!(hash(r#"{"a":1}"#), "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862");
        let value = serde_json::json!({"a": 1});
        assert_ne!(layout_hash(&value, Mode::Format), layout_hash(&value, Mode::Mount));
        assert_ne!(layout_hash(&value, Mode::Format), layout_hash(&value, Mode::Destroy));
    }

    #[test]
    fn a_prefix_of_twelve_digits_is_enough_and_eleven_are_not() {
        let digest = Digest::of(b"");
        assert_eq!(digest.short(), "e3b0c44298fc");
        assert!(digest.matches(digest.as_str()));
        assert!(digest.matches(" E3B0C44298FC\n"));
        assert!(!digest.matches("e3b0c44298f"));
        assert!(!digest.matches(""));
        assert!(!digest.matches("e3b0c44298fd"));
        assert!(!digest.matches(&format!("{digest}0")));
    }

    #[test]
    fn only_a_full_lower_case_digest_is_read_back() {
        let text = serde_json::to_string(&Digest::of(b"x")).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), Digest::of(b"x"));
        assert!("E3B0".parse::<Digest>().is_err());
        assert!(serde_json::from_str::<Digest>("\"é\"").is_err());
    }
}
