//! Whether a path is let in, and if not, what a person can do about it. Pure.

use super::Policy;
use super::address::{Address, BadAddress};
use super::keys::{Keys, signers};
use crate::fault::{Fault, FaultCode};
use crate::store::PathInfo;
use std::collections::BTreeSet;

/// Why a path is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A key of this name has signed it.
    Signed(String),
    /// It is addressed by its content, as far as that can be told before the content is there.
    Addressed(Address),
    /// Whoever sends it is trusted.
    Operator,
}

/// Why a path is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// No trusted key has signed it.
    NotSigned {
        /// The path.
        path: String,
        /// The keys it says it is signed with.
        signed: BTreeSet<String>,
        /// The keys that are trusted.
        trusted: BTreeSet<String>,
    },
    /// Its content address is not its own.
    Address {
        /// The path.
        path: String,
        /// What is wrong with it.
        bad: BadAddress,
    },
}

/// Decides by what is known of a path.
///
/// A content address that is wrong is refused from everybody: Nix would believe it for ever.
///
/// # Errors
/// Why it is not let in.
pub fn judge(info: &PathInfo, policy: Policy, keys: &Keys) -> Result<Verdict, Denial> {
    let path = || info.path.to_absolute_path();
    let address = Address::of(info).map_err(|bad| Denial::Address { path: path(), bad })?;
    match (address, policy) {
        (Some(address), _) => Ok(Verdict::Addressed(address)),
        (None, Policy::Operator) => Ok(Verdict::Operator),
        (None, Policy::Signatures) => match keys.signer(info) {
            Some(name) => Ok(Verdict::Signed(name)),
            None => Err(Denial::NotSigned {
                path: path(),
                signed: signers(info),
                trusted: keys.names().into_iter().map(str::to_owned).collect(),
            }),
        },
    }
}

impl From<Denial> for Fault {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::NotSigned { path, signed, trusted } => {
                let only = "This installation lets in signed paths only";
                let cause = if signed.is_empty() && trusted.is_empty() {
                    format!("{only}, and this one has no signature.")
                } else if signed.is_empty() {
                    format!("{only}, and this one has no signature. Trusted: {}.", list(&trusted))
                } else if trusted.is_empty() {
                    format!("{only}, and no key is trusted at all. It is signed with {}.", list(&signed))
                } else if signed.intersection(&trusted).next().is_some() {
                    format!(
                        "It names {}, but the signature does not belong to this path: hash, size or references were \
                         changed after it was signed, or another key has the same name.",
                        list(&signed)
                    )
                } else {
                    format!("It is signed with {}, and trusted is {}.", list(&signed), list(&trusted))
                };
                Fault::new(
                    FaultCode::Untrusted,
                    format!("{path} is not signed by a key that is trusted."),
                    cause,
                    "Sign the closure where it was built (`nix store sign --recursive --key-file KEYFILE PATH`) and name \
                     the public key with --trusted-public-key, or trust who runs this command: --trust operator.",
                )
            }
            Denial::Address { path, bad } => Fault::new(
                FaultCode::Untrusted,
                format!("The content address of {path} is not its own: {bad}."),
                "What the sender's Nix database says of this path was changed, or is of another path.",
                "Check it where it was built with `nix-store --verify --check-contents`; build it again if that complains.",
            ),
        }
    }
}

fn list(names: &BTreeSet<String>) -> String {
    let names: Vec<String> =
        names.iter().take(8).map(|name| name.chars().filter(|c| !c.is_control()).take(64).collect()).collect();
    names.join(", ")
}
