//! Passphrases and keys on their way from whoever has them to the tool that wants them.
//!
//! They travel in the request `install`, which ssh encrypts, and nowhere else. Nothing shows one: [`Secret`] has a
//! `Debug` that does not, no `Display`, and is overwritten when it is dropped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use zeroize::{Zeroize as _, Zeroizing};

/// The largest secret, bytes. A passphrase has tens, a key file a few thousand.
pub const MAX_BYTES: usize = 64 * 1024;

/// How many secrets one installation may have.
pub const MAX_SECRETS: usize = 16;

/// The longest name of a secret, bytes: a path, which is PATH_MAX at most.
const MAX_NAME: usize = 4096;

/// A secret's bytes. On the wire they are base64, because a key may be any bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves: for the tool that wants them, and nobody else.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Without the line ends behind it: what `$(cat FILE)` makes of a file, which is how disko reads passphrases.
    #[must_use]
    pub fn into_text(mut self) -> Self {
        let length = without_line_ends(&self.0).len();
        if let Some(rest) = self.0.get_mut(length..) {
            rest.zeroize();
        }
        self.0.truncate(length);
        self
    }
}

/// A passphrase's bytes without the line ends behind it.
#[must_use]
pub fn without_line_ends(bytes: &[u8]) -> &[u8] {
    let length = bytes.iter().rposition(|byte| *byte != b'\n').map_or(0, |last| last + 1);
    bytes.get(..length).unwrap_or_default()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(self.expose())))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        at_most(deserializer, MAX_BYTES)
    }
}

/// Reads a secret of so many bytes at most.
pub(crate) fn at_most<'de, D: Deserializer<'de>>(deserializer: D, bytes: usize) -> Result<Secret, D::Error> {
    deserializer.deserialize_str(Base64 { most: bytes })
}

struct Base64 {
    /// Bytes.
    most: usize,
}

impl Visitor<'_> for Base64 {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret in base64")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        // Four characters stand for three bytes; nothing is allocated for what is too long.
        if text.len() > self.most.div_ceil(3) * 4 {
            return Err(E::custom("a secret is too large"));
        }
        let bytes = STANDARD.decode(text).map_err(|_| E::custom("a secret is not in base64"))?;
        let secret = Secret::new(bytes);
        if secret.expose().len() > self.most { Err(E::custom("a secret is too large")) } else { Ok(secret) }
    }
}

/// A secret, and which of those it is that the layout asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenSecret {
    /// As in [`crate::plan::Wanted`]: the name of a LUKS device or a dataset, or the absolute path of a file.
    pub name: String,
    /// The secret.
    pub value: Secret,
}

/// Reads a list of secrets, [`MAX_SECRETS`] at most. What it complains of, it does not quote.
pub(crate) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<GivenSecret>, D::Error> {
    struct List;
    impl<'de> Visitor<'de> for List {
        type Value = Vec<GivenSecret>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of secrets")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut all: Vec<GivenSecret> = Vec::new();
            while let Some(given) = items.next_element::<GivenSecret>()? {
                if all.len() == MAX_SECRETS || given.name.len() > MAX_NAME {
                    return Err(de::Error::custom("too many"));
                }
                all.push(given);
            }
            Ok(all)
        }
    }
    // serde's own messages quote what they did not expect, which here may be a secret.
    deserializer.deserialize_seq(List).map_err(|_| {
        de::Error::custom(format!(
            "`secrets` is no list of at most {MAX_SECRETS} objects with a name and a base64 value of at most {MAX_BYTES} bytes"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Request {
        #[serde(deserialize_with = "list")]
        secrets: Vec<GivenSecret>,
    }

    fn read(text: &str) -> Result<Vec<GivenSecret>, String> {
        serde_json::from_str::<Request>(text).map(|request| request.secrets).map_err(|error| error.to_string())
    }

    #[test]
    fn any_bytes_survive_the_wire() {
        let all = GivenSecret { name: "/tmp/key".into(), value: Secret::new((0..=255).collect()) };
        let text = format!(r#"{{"secrets":[{}]}}"#, serde_json::to_string(&all).unwrap());
        assert_eq!(read(&text).unwrap(), [all]);
    }

    #[test]
    fn nothing_shows_a_secret() {
        let given = GivenSecret { name: "crypted".into(), value: Secret::new(b"hunter2".to_vec()) };
        assert_eq!(format!("{given:?}"), r#"GivenSecret { name: "crypted", value: Secret(…) }"#);
        for wrong in [
            r#"{"secrets":"hunter2"}"#,
            r#"{"secrets":["hunter2"]}"#,
            r#"{"secrets":[{"name":"a","value":"hunter2!"}]}"#,
            r#"{"secrets":[{"name":"a","value":["hunter2"]}]}"#,
            r#"{"secrets":[{"name":"a","value":"","hunter2":""}]}"#,
        ] {
            let error = read(wrong).unwrap_err();
            assert!(!error.contains("hunter2") && error.contains("base64"), "{error}");
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let one = |size: usize| {
            let given = GivenSecret { name: "a".into(), value: Secret::new(vec![7; size]) };
            serde_json::to_string(&given).unwrap()
        };
        let many = |item: String, count: usize| format!(r#"{{"secrets":[{}]}}"#, vec![item; count].join(","));
        assert_eq!(read(&many(one(MAX_BYTES), MAX_SECRETS)).unwrap().len(), MAX_SECRETS);
        assert!(read(&many(one(MAX_BYTES + 1), 1)).is_err());
        assert!(read(&many(one(MAX_BYTES + 9), 1)).is_err());
        assert!(read(&many(one(1), MAX_SECRETS + 1)).is_err());
        // All that may be given goes into one message, with room for the layout.
        assert!(many(one(MAX_BYTES), MAX_SECRETS).len() < crate::frame::MAX_LINE / 2);
    }

    #[test]
    fn line_ends_behind_a_passphrase_do_not_count() {
        for (from, to) in [("a b\n", "a b"), ("a\n\n", "a"), ("\na \r\n", "\na \r"), ("\n", ""), ("", "")] {
            assert_eq!(Secret::new(from.into()).into_text().expose(), to.as_bytes(), "{from:?}");
        }
    }
}
