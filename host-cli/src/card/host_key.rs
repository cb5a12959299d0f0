//! The Pi's ssh host key: made here, so that its first connection can be verified.

use super::age;
use crate::error::fault;
use anyhow::{Context, Result};
use cygnet_protocol::card::HostKey;
use cygnet_protocol::fault::FaultCode;
use serde::Serialize;
use std::path::Path;
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// The most bytes of a key file.
const LIMIT: u64 = 16 * 1024;

/// What anybody may know of a host key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PublicKey {
    /// `ssh-ed25519 AAAA…`
    pub public: String,
    /// `SHA256:…`
    pub fingerprint: String,
    /// `age1…`; none if it is no ed25519 key.
    pub age: Option<String>,
}

impl PublicKey {
    /// Of a whole key.
    pub fn of(key: &HostKey) -> Self {
        Self { public: key.public(), fingerprint: key.fingerprint(), age: age::recipient(key.octets()) }
    }

    /// As a person reads it: rows of a name and a value.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let all =
            [("Host key", Some(&self.public)), ("Fingerprint", Some(&self.fingerprint)), ("age", self.age.as_ref())];
        all.into_iter().filter_map(|(name, value)| Some(vec![name.to_owned(), value?.clone()])).collect()
    }
}

/// Makes one with ssh-keygen, in a directory that only we may enter and that is gone afterwards.
pub fn make() -> Result<HostKey> {
    let dir =
        tempfile::Builder::new().prefix("cygnet-key-").tempdir().context("making a directory for the host key")?;
    let file = dir.path().join("key");
    let output = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .context("running ssh-keygen (OpenSSH)")?;
    anyhow::ensure!(output.status.success(), "ssh-keygen says: {}", String::from_utf8_lossy(&output.stderr).trim());
    let key = read(&file)?;
    // The directory may be on a disk.
    let length = std::fs::metadata(&file).map_or(0, |metadata| metadata.len());
    std::fs::write(&file, vec![0; usize::try_from(length).unwrap_or(0)]).context("overwriting the host key's file")?;
    Ok(key)
}

/// Reads one from a file.
pub fn read(file: &Path) -> Result<HostKey> {
    let metadata = std::fs::metadata(file).with_context(|| format!("looking at {}", file.display()))?;
    anyhow::ensure!(metadata.len() <= LIMIT, "{} is too large for a key", file.display());
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    HostKey::parse(&Zeroizing::new(text)).map_err(|why| {
        fault(
            FaultCode::BadSettings,
            format!("{} can't be the Pi's host key: {why}.", file.display()),
            "A host key is an ed25519 private key without a passphrase.",
            "Make one with `ssh-keygen -t ed25519 -N '' -f FILE`, or leave `--host-key` out: then it is made.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_and_no_other_is_like_it() {
        let (one, two) = (make().unwrap(), make().unwrap());
        assert_ne!(one.public(), two.public());
        let shown = PublicKey::of(&one);
        assert!(shown.fingerprint.starts_with("SHA256:") && shown.age.unwrap().starts_with("age1"));
    }

    #[test]
    fn what_is_no_key_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "hunter2").unwrap();
        let error = read(&file).unwrap_err().to_string();
        assert!(error.contains("no private key") && !error.contains("hunter2"), "{error}");
        assert!(read(&dir.path().join("gone")).is_err());
    }
}
