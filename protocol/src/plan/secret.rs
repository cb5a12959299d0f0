//! Secrets as a plan names them. A plan never holds one.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A secret, by where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SecretRef {
    /// Somebody gives it.
    Person {
        /// What it opens: the name of a LUKS device, or a dataset.
        name: String,
    },
    /// The text of a file on the machine that is installed, without the line ends behind it.
    PasswordFile {
        /// Absolute path.
        path: String,
    },
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person { name } => write!(f, "the passphrase for {name}"),
            Self::PasswordFile { path } => write!(f, "the text of {path}"),
        }
    }
}

/// What opens a LUKS device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Key {
    /// A file on the machine that is installed, whole or in part.
    File {
        /// Absolute path.
        path: String,
        /// Bytes that count; all without it.
        size: Option<u64>,
        /// Bytes that are skipped.
        offset: Option<u64>,
    },
    /// Given on standard input.
    Secret {
        /// Which.
        secret: SecretRef,
        /// Bytes that count; all without it.
        size: Option<u64>,
        /// Bytes that are skipped.
        offset: Option<u64>,
    },
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => write!(f, "the key in {path}"),
            Self::Secret { secret, .. } => write!(f, "{secret}"),
        }
    }
}
