//! How often something was given to this card: a number that grows with every change of what it says of networks, and the
//! card's own name. A Pi has no clock that could say which of two things was given last.

use super::replace;
use cygnet_protocol::online::settings::Settings;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// The file, in the agent's state directory.
const GIVEN: &str = "given.json";

/// What of a card's networks can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Given {
    /// Which card, by chance.
    pub card: String,
    /// How many different things were given to it, one after the other.
    pub count: u64,
    /// The SHA-256 of what was given last.
    pub content: String,
}

/// Counts `settings`, if they are other ones than the last that were counted.
///
/// # Errors
/// If the card can't be written. Then nothing is known of the order.
pub fn count(state: &Path, settings: &Settings) -> io::Result<Given> {
    let path = state.join(GIVEN);
    // One that cannot be read is as good as another card's.
    let before = fs::read(&path).ok().and_then(|json| serde_json::from_slice::<Given>(&json).ok());
    let mut given = match before {
        Some(given) if !given.card.is_empty() => given,
        Some(_) | None => Given { card: by_chance()?, ..Given::default() },
    };
    let content = digest(&serde_json::to_vec(settings)?);
    if given.content != content {
        given.content = content;
        given.count += 1;
        replace(&path, &serde_json::to_vec(&given)?, 0o600)?;
    }
    Ok(given)
}

/// The SHA-256 of something, as text.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn by_chance() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(passphrase: &str) -> Settings {
        let json = format!(r#"{{"networks":[{{"ssid":"home","passphrase":"{passphrase}"}}]}}"#);
        Settings::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn only_changes_count_and_a_return_is_a_change() {
        let state = tempfile::tempdir().unwrap();
        let counted = |passphrase| count(state.path(), &settings(passphrase)).unwrap();
        let first = counted("correct horse");
        assert_eq!((first.count, counted("correct horse")), (1, first.clone()));
        assert_eq!((counted("battery staple").count, counted("correct horse").count), (2, 3));
        assert_eq!(counted("correct horse").card, first.card);
        fs::write(state.path().join(GIVEN), "torn").unwrap();
        assert_ne!(counted("correct horse").card, first.card, "of another card's, no order is known");
    }
}
