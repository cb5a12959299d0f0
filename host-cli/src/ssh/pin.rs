//! Holding on to the host key that the agent's connection used, so that the installed system must have it, too.
//!
//! ssh has no option that tells the key it verified. But it runs a `KnownHostsCommand` (ssh_config(5), OpenSSH 8.5)
//! with the key as an argument while it looks for known ones; ours writes the key down and knows none.

use super::option;
use super::target::Target;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The name under which the key stands in the file of the pinned key.
const ALIAS: &str = "cygnet-pinned";

/// A host key: its type and itself in base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    kind: String,
    base64: String,
}

/// Where the key of the connection whose private directory is `dir` is written down.
fn note(dir: &Path) -> PathBuf {
    dir.join("key")
}

/// The options that make ssh write the key down in `dir`; none if the person has a `KnownHostsCommand` of their own.
pub fn recording_options(target: &Target, dir: &Path) -> Result<Vec<String>> {
    let own = target.config().iter().any(|(key, value)| key == "knownhostscommand" && value != "none");
    // An older ssh doesn't know it, and the key is not pinned but left to the known hosts. `IgnoreUnknown` would be no way to
    // try: it would take the place of the person's own.
    if own || !target.understands("KnownHostsCommand=none") {
        return Ok(vec![]);
    }
    let note = option::path(&note(dir))?;
    let command = format!("/bin/sh -c 'test \"$1\" = NONE || echo \"$1\" \"$2\" > \"$3\"' sh %t %K {note}");
    Ok(vec!["-o".into(), format!("KnownHostsCommand={command}")])
}

/// The key that was written down, if there is one. Only to be trusted once the connection has come about.
pub fn recorded(dir: &Path) -> Option<HostKey> {
    parse(&std::fs::read_to_string(note(dir)).ok()?)
}

fn parse(text: &str) -> Option<HostKey> {
    let (kind, base64) = text.lines().last()?.split_once(' ')?;
    // A certificate is not a key that known_hosts could hold as such.
    let plausible = !kind.contains("-cert-")
        && !base64.is_empty()
        && base64.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
    plausible.then(|| HostKey { kind: kind.to_owned(), base64: base64.to_owned() })
}

/// Writes a file of known hosts with these keys alone, and gives the options that allow no other.
pub fn only(keys: &[HostKey], dir: &Path) -> Result<Vec<String>> {
    let file = dir.join("known_hosts");
    let lines: String = keys.iter().map(|key| format!("{ALIAS} {} {}\n", key.kind, key.base64)).collect();
    std::fs::write(&file, lines).with_context(|| format!("writing {}", file.display()))?;
    Ok(vec![
        "-o".into(),
        format!("UserKnownHostsFile={}", option::path(&file)?),
        "-o".into(),
        "GlobalKnownHostsFile=/dev/null".into(),
        "-o".into(),
        format!("HostKeyAlias={ALIAS}"),
        "-o".into(),
        "StrictHostKeyChecking=yes".into(),
        "-o".into(),
        "UpdateHostKeys=no".into(),
    ])
}

impl HostKey {
    /// A key as a line of a public key file has it; `None` if it is not plainly one.
    pub fn of(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-@.".contains(c);
        let kind = words.next().filter(|kind| kind.chars().all(plain))?;
        parse(&format!("{kind} {}", words.next()?))
    }

    /// The key as a line of a public key file has it, without a comment.
    pub fn line(&self) -> String {
        format!("{} {}", self.kind, self.base64)
    }

    /// The fingerprint as `ssh-keygen -l` prints it: `SHA256:…`.
    pub fn fingerprint(&self) -> Option<String> {
        let dir = tempfile::tempdir().ok()?;
        let file = dir.path().join("key.pub");
        std::fs::write(&file, format!("{} {}\n", self.kind, self.base64)).ok()?;
        let output = Command::new("ssh-keygen").arg("-lf").arg(&file).stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().find(|word| word.starts_with("SHA256:")).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIIPCFTCmQyABWhrTOOcHKmGfl0ihSoU5j+yXhCvKAd0Z";

    #[test]
    fn only_a_plain_key_is_taken() {
        assert!(parse(&format!("ssh-ed25519 {KEY}\n")).is_some());
        assert!(parse(&format!("ssh-ed25519-cert-v01@openssh.com {KEY}\n")).is_none());
        assert!(parse("").is_none());
        assert!(parse("ssh-ed25519\n").is_none());
        assert!(parse("ssh-ed25519 x\" y\n").is_none());
    }

    #[test]
    fn the_pinned_file_has_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let key = parse(&format!("ssh-ed25519 {KEY}\n")).unwrap();
        let options = only(std::slice::from_ref(&key), dir.path()).unwrap();
        assert!(options.contains(&"StrictHostKeyChecking=yes".to_owned()));
        let text = std::fs::read_to_string(dir.path().join("known_hosts")).unwrap();
        assert_eq!(text, format!("cygnet-pinned ssh-ed25519 {KEY}\n"));
        let other = HostKey::of("ssh-rsa AAAA root@old").unwrap();
        only(&[key, other], dir.path()).unwrap();
        let text = std::fs::read_to_string(dir.path().join("known_hosts")).unwrap();
        assert_eq!(text, format!("cygnet-pinned ssh-ed25519 {KEY}\ncygnet-pinned ssh-rsa AAAA\n"));
        assert_eq!(HostKey::of("ssh-rsa\"\n* AAAA"), None);
    }
}
