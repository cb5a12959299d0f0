//! Whose public keys go on the card: those that were given, those in ~/.ssh, or those that the ssh agent has.

use super::account;
use crate::cli::{self, Global};
use crate::error::fault;
use crate::ui::Ui;
use anyhow::{Context, Result};
use cygnet_protocol::card::authorized_key::AuthorizedKey;
use cygnet_protocol::card::{self, CardConfig};
use cygnet_protocol::fault::FaultCode;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long an agent may take; one that asks somebody for a smart card's PIN is not waited for.
const AGENT_PATIENCE: Duration = Duration::from_secs(5);

/// Each line with where it is from.
pub fn authorized(
    ui: &Ui,
    global: &Global,
    arguments: &cli::Configure,
    config: &CardConfig,
) -> Result<Vec<(String, String)>> {
    if arguments.no_authorized_keys {
        return Ok(vec![]);
    }
    let mut keys = Vec::new();
    for given in &arguments.authorized_keys {
        keys.extend(of_argument(given)?);
    }
    if !keys.is_empty() || !config.authorized_keys.is_empty() {
        return Ok(keys);
    }
    if arguments.authorized_keys.is_empty() {
        keys = own(ui, global);
    }
    if keys.is_empty() {
        let cause = match arguments.authorized_keys.as_slice() {
            [] => "None was given, there is none in ~/.ssh, and no ssh agent has one.".to_owned(),
            given => format!("There is no key in {}, only comments or nothing.", given.join(", ")),
        };
        return Err(fault(
            FaultCode::BadSettings,
            "Nobody could log in: there is no public key to put on the card.",
            cause,
            "Give `--authorized-key FILE`, make one with `ssh-keygen -t ed25519`, or say `--no-authorized-keys` if the image has one.",
        ));
    }
    Ok(keys)
}

/// A line, or the lines of a file. A file's name with blanks is one only if it is there.
fn of_argument(given: &str) -> Result<Vec<(String, String)>> {
    if given.trim().contains([' ', '\t']) && !Path::new(given).is_file() {
        return Ok(vec![("The key that was given".to_owned(), given.to_owned())]);
    }
    let text = public_key_file(Path::new(given)).with_context(|| format!("reading the public key {given}"))?;
    Ok(lines(&text).map(|line| (given.to_owned(), line.to_owned())).collect())
}

/// Without comments.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The person's own.
fn own(ui: &Ui, global: &Global) -> Vec<(String, String)> {
    let identity = global.identity.as_ref().map(|file| PathBuf::from(format!("{}.pub", file.display())));
    let files = match identity.filter(|file| file.is_file()) {
        Some(file) => vec![file],
        None => own_files(),
    };
    let mut keys = Vec::new();
    for file in files {
        let text = public_key_file(&file).unwrap_or_default();
        // Certificates and the like end with .pub, too.
        let usable: Vec<&str> = lines(&text).filter(|line| AuthorizedKey::parse(line).is_ok()).collect();
        if !usable.is_empty() {
            ui.status(&format!("Who has the private key of {} may log in.", file.display()));
        }
        keys.extend(usable.into_iter().map(|line| (file.display().to_string(), line.to_owned())));
    }
    if keys.is_empty() {
        for line in lines(&of_agent().unwrap_or_default()) {
            let Ok(key) = AuthorizedKey::parse(line) else { continue };
            ui.status(&format!("Who has the private key “{}” of the ssh agent may log in.", key.comment));
            keys.push(("The ssh agent".to_owned(), line.to_owned()));
        }
    }
    keys
}

/// Reads a file of public keys, and no more than such a file may have: behind sudo it is root who reads in somebody's home.
fn public_key_file(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)?.take(card::LIMIT as u64).read_to_string(&mut text)?;
    Ok(text)
}

fn own_files() -> Vec<PathBuf> {
    let dir = account::home().map(|home| home.join(".ssh"));
    let entries = dir.and_then(|dir| std::fs::read_dir(dir).ok());
    let files = entries.into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    // A pipe would keep us waiting.
    let is_key = |file: &PathBuf| file.extension().is_some_and(|end| end == "pub") && file.is_file();
    let mut files: Vec<PathBuf> = files.filter(is_key).collect();
    files.sort();
    files
}

/// What `ssh-add -L` says (ssh-add(1): the public keys of all that the agent has). None without an agent.
fn of_agent() -> Option<String> {
    std::env::var_os("SSH_AUTH_SOCK")?;
    let mut command = Command::new("ssh-add");
    let child = command.arg("-L").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.ok()?;
    let until = Instant::now() + AGENT_PATIENCE;
    while child.try_wait().ok()?.is_none() {
        if Instant::now() > until {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_a_line_or_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys of mine");
        std::fs::write(&file, "\u{feff}# mine\n\n  # more\r\nssh-ed25519 AAAA me\r\nrestrict ssh-rsa AAAA\n").unwrap();
        let found =
            |given: &str| -> Vec<String> { of_argument(given).unwrap().into_iter().map(|(_, line)| line).collect() };
        assert_eq!(found(file.to_str().unwrap()), ["ssh-ed25519 AAAA me", "restrict ssh-rsa AAAA"]);
        assert_eq!(found("from=\"10.0.0.1\" ssh-ed25519 AAAA"), ["from=\"10.0.0.1\" ssh-ed25519 AAAA"]);
        assert_eq!(found("ecdsa-sha2-nistp256 AAAA"), ["ecdsa-sha2-nistp256 AAAA"]);
        assert!(of_argument(dir.path().join("none.pub").to_str().unwrap()).is_err());
    }
}
