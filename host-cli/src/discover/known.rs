//! Whether ssh knows the host key that a Pi says it has.
//!
//! It is what the Pi says: a copy of a known fingerprint costs nothing. ssh itself checks the key when it connects.

use super::pi::Pi;
use crate::cli::Global;
use crate::ssh::option;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Known {
    /// The known hosts have it under one of its names or addresses.
    Yes,
    /// They have nothing of it.
    No,
    /// They have another key of the same type under one of its names or addresses.
    OtherKey,
}

impl Known {
    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Known::Yes => "yes",
            Known::No => "no",
            Known::OtherKey => "other-key",
        }
    }
}

/// The files of known hosts.
#[derive(Debug, Clone)]
pub struct KnownHosts {
    files: Vec<PathBuf>,
}

impl KnownHosts {
    /// The file given with `--known-hosts`, or those of ssh_config(5).
    pub fn of(global: &Global) -> Self {
        let files = match &global.known_hosts {
            Some(file) => vec![file.clone()],
            // And the keys that were put on cards.
            None => crate::card::pins::file().into_iter().chain(configured(&global.ssh_options)).collect(),
        };
        Self { files: files.into_iter().filter(|file| file.is_file()).collect() }
    }

    /// Asks them.
    pub fn knows(&self, pi: &Pi) -> Known {
        let mut keys = BTreeSet::new();
        for name in names(pi) {
            for file in &self.files {
                keys.extend(found(&name, file));
            }
        }
        judge(pi.says("key").unwrap_or_default(), &keys)
    }
}

/// A type as in `ssh-keygen -l` (`ED25519`) and a fingerprint.
type Key = (String, String);

/// `announced` is `ssh-ed25519 SHA256:…`.
fn judge(announced: &str, known: &BTreeSet<Key>) -> Known {
    let Some((kind, fingerprint)) = announced.split_once(' ') else { return Known::No };
    if known.iter().any(|(_, other)| other == fingerprint) {
        return Known::Yes;
    }
    let kind = kind.trim_start_matches("ssh-").split('-').next().unwrap_or_default();
    let same_kind = |other: &str| !kind.is_empty() && other.eq_ignore_ascii_case(kind);
    if known.iter().any(|(other, _)| same_kind(other)) { Known::OtherKey } else { Known::No }
}

/// What a person may have typed for it. A name that ssh-keygen would take for a pattern is none.
fn names(pi: &Pi) -> BTreeSet<String> {
    let announced = [Some(pi.host_name.as_str()), pi.says("host")].into_iter().flatten();
    let local = pi.says("host").map(|host| format!("{host}.local"));
    let plain = |name: &&str| {
        !name.is_empty()
            && !name.starts_with('-')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:%".contains(c))
    };
    let all = announced.chain(local.as_deref()).chain(pi.addresses.iter().map(String::as_str)).filter(plain);
    all.flat_map(|name| match pi.port {
        22 => vec![name.to_owned()],
        port => vec![name.to_owned(), format!("[{name}]:{port}")],
    })
    .collect()
}

fn found(name: &str, file: &Path) -> Vec<Key> {
    let output = Command::new("ssh-keygen").args(["-l", "-F", name, "-f"]).arg(file).stdin(Stdio::null()).output();
    output.map(|output| parse(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default()
}

/// Lines like `10.0.0.2 ED25519 SHA256:…` between comments.
fn parse(text: &str) -> Vec<Key> {
    let key = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| word.starts_with("SHA256:"))?;
        Some(((*words.get(at.checked_sub(1)?)?).to_owned(), words[at].to_owned()))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(key).collect()
}

/// `UserKnownHostsFile` and `GlobalKnownHostsFile`; that of a host which nobody has configured.
fn configured(options: &[String]) -> Vec<PathBuf> {
    let mut command = Command::new("ssh");
    command.args(options.iter().flat_map(|option| ["-o", option]));
    let Ok(output) = command.args(["-G", "--", "cygnet.invalid"]).stdin(Stdio::null()).output() else { return vec![] };
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(key, _)| matches!(*key, "userknownhostsfile" | "globalknownhostsfile"))
        .flat_map(|(_, files)| option::files(files))
        .map(|file| file.strip_prefix("~/").map_or_else(|_| file.clone(), |rest| home.join(rest)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::pi::tests::pi;
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIIPCFTCmQyABWhrTOOcHKmGfl0ihSoU5j+yXhCvKAd0Z";

    #[test]
    fn a_key_of_another_type_is_no_other_key() {
        let known = BTreeSet::from([("ED25519".to_owned(), "SHA256:aaa".to_owned())]);
        assert_eq!(judge("ssh-ed25519 SHA256:aaa", &known), Known::Yes);
        assert_eq!(judge("ssh-ed25519 SHA256:bbb", &known), Known::OtherKey);
        assert_eq!(judge("ssh-rsa SHA256:bbb", &known), Known::No);
        assert_eq!(judge("", &known), Known::No);
    }

    #[test]
    fn names_for_a_shell_or_an_option_are_not_looked_up() {
        let pi = pi("cygnet-1", &["10.0.0.2", "fe80::1%wlan0"], &[("host", "-x*")]);
        assert_eq!(names(&pi), BTreeSet::from(["10.0.0.2", "cygnet-1.local", "fe80::1%wlan0"].map(str::to_owned)));
    }

    #[test]
    fn the_file_is_read_by_ssh_keygen() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known");
        std::fs::write(&file, format!("10.0.0.2 ssh-ed25519 {KEY}\n")).unwrap();
        let keys = found("10.0.0.2", &file);
        // On a machine without OpenSSH nothing is known, which is no failure.
        let Some((kind, fingerprint)) = keys.first() else { return };
        assert_eq!(kind, "ED25519");
        let hosts = KnownHosts { files: vec![file] };
        let ours = format!("ssh-ed25519 {fingerprint}");
        assert_eq!(hosts.knows(&pi("x", &["10.0.0.2"], &[("key", &ours)])), Known::Yes);
        assert_eq!(hosts.knows(&pi("x", &["10.0.0.2"], &[("key", "ssh-ed25519 SHA256:x")])), Known::OtherKey);
        assert_eq!(hosts.knows(&pi("x", &["10.0.0.3"], &[("key", &ours)])), Known::No);
    }
}
