//! What `cygnet.toml` says.

use super::authorized_key::AuthorizedKey;
use crate::online::settings::Network;
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey};
use std::fmt;
use zeroize::Zeroizing;

/// The most authorized keys.
pub const MAX_KEYS: usize = 64;

/// `cygnet.toml`. Everything may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CardConfig {
    /// What the Pi is called until it is installed.
    pub hostname: Option<String>,
    /// ISO 3166-1 alpha-2, for the radio.
    pub country: Option<String>,
    /// The networks to join, best first.
    pub networks: Vec<Network>,
    /// Who may log in as root: lines as in sshd's `authorized_keys`.
    pub authorized_keys: Vec<String>,
    /// Whose card it is, for people who see it announced; no permission follows from it.
    pub claim: Option<String>,
    /// The host that is to be installed: the name of a configuration in a flake.
    pub target: Option<String>,
    /// The ssh host key, made on the laptop, so that the first connection is verified.
    pub host_key: Option<HostKey>,
}

/// An ed25519 key without a passphrase, as `ssh-keygen -t ed25519` makes it.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey {
    private: Zeroizing<String>,
    public: PublicKey,
}

/// Never the secret.
impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({})", self.fingerprint())
    }
}

impl HostKey {
    /// Reads OpenSSH's form (`openssh/PROTOCOL.key`).
    ///
    /// # Errors
    /// If it is none, of another algorithm than ed25519, encrypted, or if its halves do not belong together.
    pub fn parse(pem: &str) -> Result<Self, &'static str> {
        let pem = Zeroizing::new(pem.replace("\r\n", "\n"));
        let key = PrivateKey::from_openssh(pem.trim()).map_err(|_| "it is no private key in OpenSSH's form")?;
        if key.is_encrypted() {
            return Err("it is encrypted, and nobody is there to type its passphrase");
        }
        if key.algorithm() != Algorithm::Ed25519 {
            return Err("it is no ed25519 key");
        }
        // Written anew, so that it has the line ends and the length of lines that sshd expects.
        let private = key.to_openssh(LineEnding::LF).map_err(|_| "it can't be written in OpenSSH's form")?;
        Ok(Self { private, public: key.public_key().clone() })
    }

    /// The private key, as sshd reads it.
    pub fn private(&self) -> &str {
        &self.private
    }

    /// `ssh-ed25519 BASE64`, without a comment.
    pub fn public(&self) -> String {
        let mut key = self.public.clone();
        key.set_comment("");
        key.to_openssh().unwrap_or_default()
    }

    /// The public key's 32 octets (RFC 8709).
    pub fn octets(&self) -> [u8; 32] {
        self.public.key_data().ed25519().map_or([0; 32], |key| key.0)
    }

    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        self.public.fingerprint(HashAlg::Sha256).to_string()
    }
}

/// A line for `authorized_keys`, in one form: `OPTIONS TYPE BASE64 COMMENT`.
///
/// # Errors
/// If it is no public key that sshd takes, or if cygnet could not work with the options in front of it.
pub fn authorized_key(line: &str) -> Result<String, &'static str> {
    AuthorizedKey::parse(line).map(|key| key.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made for this test by ssh-keygen, and used nowhere.
    pub const KEY: &str = include_str!("test-host-key");

    #[test]
    fn a_host_key_is_read_and_keeps_its_secret() {
        let key = HostKey::parse(&KEY.replace('\n', "\r\n")).unwrap();
        assert_eq!(key.private(), KEY);
        assert_eq!(key.public(), include_str!("test-host-key.pub").trim_end());
        assert_eq!(format!("{key:?}"), format!("HostKey({})", include_str!("test-host-key.sha256").trim_end()));
        for (bad, says) in [("", "no private key"), ("-----BEGIN", "no private key"), (&KEY[..200], "no private key")] {
            assert!(HostKey::parse(bad).unwrap_err().contains(says));
        }
    }

    #[test]
    fn authorized_keys_are_keys() {
        let key = include_str!("test-host-key.pub").trim_end();
        assert_eq!(authorized_key(&format!("  {key} me@laptop\r\n")).unwrap(), format!("{key} me@laptop"));
        for (bad, says) in [
            ("ssh-ed25519 AAAA me", "no public key"),
            (&format!("command=\"rm\" {key}"), "command="),
            (&format!("{key} me\nssh-rsa x"), "one line"),
            (KEY, "one line"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
        ] {
            let error = authorized_key(bad).unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}
