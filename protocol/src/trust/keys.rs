//! The public keys whose signatures count, and what they sign. Pure.

use crate::fault::{Fault, FaultCode};
use crate::store::{PathInfo, StorePath};
use nix_narinfo::{NixSignature, TrustedPublicKey};
use std::collections::BTreeSet;

/// How many signatures of a path are looked at: each that names a trusted key costs a Pi a millisecond.
pub const MAX_SIGNATURES: usize = 32;

/// Trusted keys (Ed25519, RFC 8032), with the names that signatures call them by.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<TrustedPublicKey>);

impl Keys {
    /// Parses each `name:base64`, as `nix-store --generate-binary-cache-key` writes the public one.
    ///
    /// # Errors
    /// The first that is none, and why.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, Fault> {
        texts.into_iter().map(|text| TrustedPublicKey::parse(text).map_err(|error| bad_key(text, &error))).collect()
    }

    /// Adds those of `other`; the same key under the same name is there once.
    pub fn add(&mut self, other: Keys) {
        for key in other.0 {
            if !self.0.contains(&key) {
                self.0.push(key);
            }
        }
    }

    /// Their names, each once, in order.
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.iter().map(|key| key.name.as_str()).collect()
    }

    /// The name of a key that has signed this path.
    pub fn signer(&self, info: &PathInfo) -> Option<String> {
        let fingerprint = fingerprint(info);
        info.signatures.iter().take(MAX_SIGNATURES).find_map(|text| {
            let signature = NixSignature::parse(text).ok()?;
            let valid = signature.verify(fingerprint.as_bytes(), &self.0).unwrap_or(false);
            valid.then_some(signature.key_name)
        })
    }
}

impl FromIterator<TrustedPublicKey> for Keys {
    fn from_iter<I: IntoIterator<Item = TrustedPublicKey>>(keys: I) -> Self {
        let mut all = Keys::default();
        keys.into_iter().for_each(|key| all.add(Keys(vec![key])));
        all
    }
}

/// What a signature of a path is made over (libstore/path-info.cc, `ValidPathInfo::fingerprint`): deriver and content
/// address are not in it.
pub fn fingerprint(info: &PathInfo) -> String {
    // Sorted by base name and each once, as in Nix's sets.
    let references: BTreeSet<String> = info.references.iter().map(StorePath::to_absolute_path).collect();
    let references: Vec<String> = references.into_iter().collect();
    format!(
        "1;{};{};{};{}",
        info.path.to_absolute_path(),
        info.nar_hash.to_nix_nixbase32_string(),
        info.nar_size,
        references.join(",")
    )
}

/// The names of the keys that a path says it is signed with, each once, in order; what is no signature has none.
pub fn signers(info: &PathInfo) -> BTreeSet<String> {
    let names = info.signatures.iter().take(MAX_SIGNATURES).filter_map(|text| NixSignature::parse(text).ok());
    names.map(|signature| signature.key_name).collect()
}

/// The signatures that Nix can store: well-formed, and without the blank that it puts between two.
pub fn storable(info: &PathInfo) -> Vec<String> {
    let plain = |name: &str| name.chars().all(|c| c.is_ascii_graphic());
    let signatures = info.signatures.iter().filter_map(|text| NixSignature::parse(text).ok());
    signatures.filter(|signature| plain(&signature.key_name)).map(|signature| signature.to_nix_string()).collect()
}

fn bad_key(text: &str, error: &dyn std::fmt::Display) -> Fault {
    // A secret key is as easily given as a public one, and longer; it must not be shown.
    let name = text.split(':').next().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    Fault::new(
        FaultCode::BadRequest,
        format!("The trusted public key {name:?} is none: {error}."),
        "It is cut off or mistyped, or it is the secret half.",
        "Give the public half, NAME:BASE64, as `nix key convert-secret-to-public < KEYFILE` prints it.",
    )
}
