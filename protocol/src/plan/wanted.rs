//! Which secrets a plan asks for: by their names, which people give them by. Not part of the plan or its digest.

use super::Plan;
use super::afterwards::zfs_key;
use super::secret::{Key, SecretRef};
use super::step::Step;
use crate::fault::{Fault, FaultCode};
use crate::secret::without_line_ends;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a secret must be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretKind {
    /// Bytes, all of which count.
    Key,
    /// Text; line ends behind it do not count.
    Passphrase,
    /// As before, and 8 to 512 bytes long (`keyformat=passphrase` of zfsprops(7)).
    ZfsPassphrase,
    /// 64 hex digits (`keyformat=hex`).
    ZfsHex,
    /// 32 bytes (`keyformat=raw`).
    ZfsRaw,
}

impl SecretKind {
    /// Whether a person can type it.
    #[must_use]
    pub fn is_text(self) -> bool {
        match self {
            Self::Passphrase | Self::ZfsPassphrase | Self::ZfsHex => true,
            Self::Key | Self::ZfsRaw => false,
        }
    }

    /// What is wrong with these bytes, if anything is: better known now than when the disk is wiped.
    ///
    /// # Errors
    /// In words that follow “the secret …”.
    pub fn check(self, bytes: &[u8]) -> Result<(), &'static str> {
        let text = if self.is_text() { without_line_ends(bytes) } else { bytes };
        if text.is_empty() {
            return Err("is empty");
        }
        // Nobody could type it: it would be a part of the passphrase.
        if self.is_text() && (text.ends_with(b"\r") || text.windows(2).any(|end| end == b"\r\n")) {
            return Err("has line ends of Windows (CR LF): save it with LF, or without a line end");
        }
        match self {
            Self::Key | Self::Passphrase => Ok(()),
            Self::ZfsPassphrase if text.contains(&b'\n') => Err("has more than one line"),
            Self::ZfsPassphrase if text.len() < 8 => Err("is too short: ZFS wants 8 characters at least"),
            Self::ZfsPassphrase if text.len() > 512 => Err("is too long: ZFS takes 512 bytes at most"),
            Self::ZfsHex if text.len() != 64 || !text.iter().all(u8::is_ascii_hexdigit) => {
                Err("is not 64 hex digits, as keyformat=hex wants it")
            }
            Self::ZfsRaw if text.len() != 32 => Err("is not 32 bytes long, as keyformat=raw wants it"),
            Self::ZfsPassphrase | Self::ZfsHex | Self::ZfsRaw => Ok(()),
        }
    }
}

/// A secret that a plan asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Wanted {
    /// What it is given by: the name of a LUKS device or a dataset, or the absolute path of the file that it is to be in.
    pub name: String,
    /// What it must be like.
    pub kind: SecretKind,
    /// What for, in words: “opens the LUKS device “crypted””.
    pub purpose: String,
    /// Nobody has to give it: it is a file, and is on the machine already.
    pub there: bool,
    /// Somebody gave it. The agent does not say so; `cygnet` notes it where it shows what is wanted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given: bool,
}

impl Wanted {
    /// Whether it is a file of the layout.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.name.starts_with('/')
    }

    /// How it is given on the command line: `--secret NAME=FILE`, in quotes if a shell would take the name apart.
    #[must_use]
    pub fn option(&self) -> String {
        secret_option(&self.name)
    }

    /// The refusal of a secret that was given by the `name` of none of those that are wanted.
    #[must_use]
    pub fn unknown(name: &str, wanted: &[Self]) -> Fault {
        let names: Vec<&str> = wanted.iter().map(|wanted| wanted.name.as_str()).collect();
        Fault::new(
            FaultCode::BadSecret,
            format!("The layout asks for no secret {name:?}."),
            match names.as_slice() {
                [] => "It asks for none at all.".to_owned(),
                names => format!("It asks for {}.", names.join(", ")),
            },
            "NAME in `--secret NAME=FILE` is the name of a LUKS device or dataset, or the path of the file, as in the layout.",
        )
    }
}

/// How a secret of this name is given on the command line, as a shell reads it.
#[must_use]
pub fn secret_option(name: &str) -> String {
    // POSIX, 2.2: within '…' everything is itself, but for the quote.
    match name.chars().all(|c| c.is_ascii_alphanumeric() || "@%_+=:,./-".contains(c)) {
        true => format!("--secret {name}=FILE"),
        false => format!("--secret '{}=FILE'", name.replace('\'', "'\\''")),
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match (self.kind.is_text(), self.is_file()) {
            (true, true) => "The passphrase in ",
            (false, true) => "The key in ",
            (true, false) => "The passphrase ",
            (false, false) => "The key ",
        };
        write!(f, "{what}{} {}", self.name, self.purpose)
    }
}

impl Plan {
    /// Every secret that the layout asks for, each once, by name. None is said to be [`Wanted::there`]: that is the
    /// machine's to know.
    #[must_use]
    pub fn wanted(&self) -> Vec<Wanted> {
        let mut all: Vec<Wanted> = Vec::new();
        for (name, kind, purpose) in self.steps.iter().map(Step::made).flat_map(wanted_by) {
            match all.iter_mut().find(|wanted| wanted.name == name) {
                None => all.push(Wanted { name, kind, purpose, there: false, given: false }),
                Some(known) => {
                    // One that serves several must be good for the strictest of them.
                    known.kind = known.kind.max(kind);
                    if !known.purpose.contains(&purpose) {
                        known.purpose = format!("{}, {purpose}", known.purpose);
                    }
                }
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Those of [`Self::wanted`] without which the formatted disks cannot be mounted again.
    #[must_use]
    pub fn wanted_again(&self) -> Vec<Wanted> {
        let mut names: Vec<String> = Vec::new();
        for step in self.remount() {
            match &step {
                Step::LoadKey { dataset, location } if location == "prompt" => names.push(dataset.clone()),
                Step::LoadKey { location, .. } => {
                    names.extend(location.strip_prefix("file://").map(str::to_owned));
                }
                other => names.extend(wanted_by(other).into_iter().map(|(name, ..)| name)),
            }
        }
        let mut wanted = self.wanted();
        wanted.retain(|wanted| names.contains(&wanted.name));
        wanted
    }
}

/// Name, kind and purpose of what a step wants.
fn wanted_by(step: &Step) -> Vec<(String, SecretKind, String)> {
    let of_luks = |key: &Key, purpose: String| match key {
        Key::File { path, .. } => (path.clone(), SecretKind::Key, purpose),
        Key::Secret { secret, .. } => (name_of(secret), SecretKind::Passphrase, purpose),
    };
    match step {
        Step::OpenLuks { key, name, .. } => vec![of_luks(key, format!("opens the LUKS device “{name}”"))],
        Step::AddLuksKey { path, device, .. } => {
            vec![(path.clone(), SecretKind::Key, format!("opens the LUKS device on {device}, too"))]
        }
        Step::MakeBcachefs { secret: Some(secret), uuid, .. } | Step::UnlockBcachefs { secret, uuid } => {
            vec![(name_of(secret), SecretKind::Passphrase, format!("opens the bcachefs {uuid}"))]
        }
        Step::LoadKey { dataset, location } => {
            let purpose = format!("opens the dataset {dataset}");
            match location.strip_prefix("file://") {
                Some(path) => vec![(path.to_owned(), SecretKind::Key, purpose)],
                None => vec![(dataset.clone(), SecretKind::ZfsPassphrase, purpose)],
            }
        }
        Step::CreatePool { root_properties: properties, .. }
        | Step::CreateDataset { properties, .. }
        | Step::CreateVolume { properties, .. } => {
            let Some((dataset, location)) = zfs_key(step) else { return Vec::new() };
            let name = if location == "prompt" { Some(dataset) } else { location.strip_prefix("file://") };
            let kind = match properties.get("keyformat").map(String::as_str) {
                Some("passphrase") => SecretKind::ZfsPassphrase,
                Some("hex") => SecretKind::ZfsHex,
                Some("raw") => SecretKind::ZfsRaw,
                // zfs(8) will say what it thinks of it.
                Some(_) | None => SecretKind::Key,
            };
            let purpose = format!("opens the dataset {dataset}");
            name.map(|name| (name.to_owned(), kind, purpose)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn name_of(secret: &SecretRef) -> String {
    match secret {
        SecretRef::Person { name } => name.clone(),
        SecretRef::PasswordFile { path } => path.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_cannot_be_right_is_known_before() {
        use SecretKind::{Key, Passphrase, ZfsHex, ZfsPassphrase, ZfsRaw};
        let hex = "0123456789abcdef".repeat(4);
        for (kind, good) in [
            (Key, "\n"),
            (Key, "any bytes\r\n"),
            (Passphrase, "a\n"),
            (ZfsPassphrase, "12345678\n"),
            (ZfsHex, hex.as_str()),
            (ZfsRaw, &hex[..32]),
        ] {
            assert_eq!(kind.check(good.as_bytes()), Ok(()), "{kind:?}");
        }
        for (kind, bad, why) in [
            (Key, "", "empty"),
            (Passphrase, "\n\n", "empty"),
            (Passphrase, "correct horse\r\n", "CR LF"),
            (ZfsPassphrase, "12345678\r\n", "CR LF"),
            (ZfsPassphrase, "1234567\n", "short"),
            (ZfsPassphrase, &"x".repeat(513), "long"),
            (ZfsPassphrase, "12345678\n9", "line"),
            (ZfsHex, &hex[1..], "hex"),
            (ZfsRaw, &hex[..33], "32"),
        ] {
            assert!(kind.check(bad.as_bytes()).unwrap_err().contains(why), "{kind:?} {bad}");
        }
    }
}
