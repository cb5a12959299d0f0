//! `cygnet key`.

use crate::card::age;
use crate::card::configure::Found;
use crate::card::fat::Firmware;
use crate::card::host_key::PublicKey;
use crate::card::medium::{Medium, Purpose};
use crate::card::pins::{self, Doing, Note};
use crate::cli::{Global, KeyCommand};
use crate::error::fault;
use crate::ssh::pin::HostKey;
use crate::ui::Ui;
use crate::ui::format::table;
use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cygnet_protocol::fault::FaultCode;
use serde_json::json;
use std::io::Read;
use std::path::Path;

/// The most bytes that say what to note.
const NOTE_LIMIT: u64 = 64 * 1024;

/// Carries it out.
pub fn run(ui: &Ui, global: &Global, command: &KeyCommand) -> Result<()> {
    let arguments = match command {
        KeyCommand::Show(arguments) => arguments,
        KeyCommand::Note => return note(),
    };
    let what = arguments.what.as_str();
    let path = Path::new(what);
    let key = if path.exists() || what.contains('/') { of_card(path)? } else { of_host(global, what)? };
    if ui.json() {
        return ui.record(&json!({
            "type": "key",
            "of": what,
            "public": key.public,
            "fingerprint": key.fingerprint,
            "age": key.age,
        }));
    }
    ui.data(&table(&key.rows()))
}

/// Notes what stdin says; [`pins`] starts it behind sudo with the person's rights.
fn note() -> Result<()> {
    let (doing, note): (Doing, Note) =
        serde_json::from_reader(std::io::stdin().lock().take(NOTE_LIMIT)).context("reading what to note")?;
    pins::pin_myself(&note, doing)
}

fn of_card(path: &Path) -> Result<PublicKey> {
    let medium = Medium::open(path, Purpose::Read, false)?;
    let found = Found::read(&Firmware::open(&medium)?)?;
    found.host_key().ok_or_else(|| {
        fault(
            FaultCode::NotFound,
            format!("There is no host key on {}.", path.display()),
            if found.stamp.is_some() {
                "A Pi has booted with it, and has moved the key off the FAT partition."
            } else {
                "No settings with a host key were put on it."
            },
            "Ask by the Pi's name (`cygnet key show HOST`), which is noted here; `cygnet card configure` makes a key.",
        )
    })
}

fn of_host(global: &Global, name: &str) -> Result<PublicKey> {
    let file = global.known_hosts.clone().or_else(pins::file);
    let text = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    let found = pins::find(&text, name).and_then(|public| public_key(&public));
    found.ok_or_else(|| {
        let left_behind = if global.known_hosts.is_none() { pins::left_behind(name) } else { None };
        not_noted(name, file.as_deref(), left_behind.as_deref())
    })
}

/// `left_behind` is another file that has it.
fn not_noted(name: &str, file: Option<&Path>, left_behind: Option<&Path>) -> anyhow::Error {
    let file = file.map_or_else(|| "cygnet's known hosts".into(), |file| file.display().to_string());
    let (cause, remedy) = match left_behind {
        Some(other) => (
            format!(
                "It is in {0}, and not in {file}: `sudo cygnet card configure` does not hear of XDG_STATE_HOME unless sudo is told.",
                other.display()
            ),
            format!(
                "Give `--known-hosts {}`, or configure cards with `{} cygnet card configure`.",
                other.display(),
                pins::sudo()
            ),
        ),
        None => (
            format!(
                "{file} has the keys that `cygnet card configure` has put on cards from this account, under the names given then."
            ),
            "Give the name that the card was configured with, or the card or image itself.".to_owned(),
        ),
    };
    fault(FaultCode::NotFound, format!("No host key is noted for {name:?}."), cause, remedy)
}

/// Of `ssh-ed25519 BASE64` (RFC 8709: two strings, the second of 32 octets).
fn public_key(line: &str) -> Option<PublicKey> {
    let fingerprint = HostKey::of(line)?.fingerprint()?;
    let blob = STANDARD.decode(line.split(' ').nth(1)?).ok()?;
    let octets: [u8; 32] = blob.get(blob.len().checked_sub(32)?..)?.try_into().ok()?;
    Some(PublicKey { public: line.to_owned(), fingerprint, age: age::recipient(octets) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_says_the_same_as_the_private_one() {
        let key =
            cygnet_protocol::card::HostKey::parse(include_str!("../../../protocol/src/card/test-host-key")).unwrap();
        assert_eq!(public_key(&key.public()), Some(PublicKey::of(&key)));
        assert_eq!(public_key("ssh-ed25519 AAAA"), None);
    }
}
