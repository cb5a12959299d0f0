//! Which store paths are let into the target's store, and why. Pure: the agent enforces it, the client looks ahead.
//!
//! [`Trust`] is what a person asks for. [`keys`] are those whose signatures count, [`address`] is what a path that is
//! addressed by its content proves by itself, [`verdict`] puts them together.

pub mod address;
pub mod keys;
pub mod verdict;

pub use address::Address;
pub use keys::Keys;
pub use verdict::{Denial, Verdict, judge};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Whose word is enough for a store path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// That of whoever could log in as root over ssh.
    #[default]
    Operator,
    /// That of a trusted key: a path needs its signature, or must be addressed by its content.
    Signatures,
}

impl Policy {
    /// All, as on the command line.
    pub const ALL: [Policy; 2] = [Policy::Operator, Policy::Signatures];

    /// As on the command line and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Policy::Operator => "operator",
            Policy::Signatures => "signatures",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|policy| policy.name() == text).ok_or_else(|| format!("{text:?} is no such policy"))
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Trust {
    /// Whose word is enough.
    pub policy: Policy,
    /// Keys that are trusted beside those of the card's nix.conf, each `name:base64`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub public_keys: Vec<String>,
}

impl Trust {
    /// Whether it is what an older client means, which says nothing of it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
