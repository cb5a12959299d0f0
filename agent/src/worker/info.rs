//! What Nix says of a store path: libstore/worker-protocol.cc, `UnkeyedValidPathInfo`, in the form since protocol 1.16.

use super::wire::{Input, MAX_LIST, Output, Text, paths};
use super::{Result, bad_request};
use cygnet_protocol::fault::Fault;
use cygnet_protocol::store::{HashAlgorithm, NixHash, PathInfo};
use std::io::{self, Read, Write};

/// The most paths that one path may refer to. That of a system with everything in it has some thousands.
const MAX_REFERENCES: u64 = 20_000;
const _: () = assert!(MAX_REFERENCES <= MAX_LIST);
/// The most signatures of one path.
const MAX_SIGNATURES: u64 = 64;

/// Read whole before any of it is judged, so that a refusal leaves the conversation where the next thing begins.
pub struct Described {
    path: Text,
    deriver: Text,
    hash: Text,
    references: Vec<Text>,
    size: u64,
    signatures: Vec<Text>,
    ca: Text,
}

impl Described {
    /// Reads a path and what is said of it. When it was registered, and whether it was built there, is no matter here.
    pub fn read(input: &mut Input<impl Read>) -> Result<Self> {
        let (path, deriver, hash) = (input.text()?, input.text()?, input.text()?);
        let references = input.texts(MAX_REFERENCES)?;
        let (_registered, size, _ultimate) = (input.number()?, input.number()?, input.number()?);
        let (signatures, ca) = (input.texts(MAX_SIGNATURES)?, input.text()?);
        Ok(Self { path, deriver, hash, references, size, signatures, ca })
    }

    /// What is described, if it can be.
    pub fn path_info(&self) -> std::result::Result<PathInfo, Fault> {
        Ok(PathInfo {
            path: self.path.path()?,
            nar_hash: sha256(&self.hash.string()?)?,
            nar_size: self.size,
            references: paths(&self.references)?,
            deriver: self.deriver.optional_path()?,
            signatures: self.signatures.iter().map(Text::string).collect::<std::result::Result<_, _>>()?,
            ca: if self.ca.is_empty() { None } else { Some(self.ca.string()?) },
        })
    }
}

/// Nix writes 64 hex digits without the algorithm; any of its other forms is understood as well.
fn sha256(text: &str) -> std::result::Result<NixHash, Fault> {
    let named = text.contains(':') || text.contains('-');
    let parsed = if named { NixHash::parse(text) } else { NixHash::parse(&format!("sha256:{text}")) };
    match parsed {
        Ok(hash) if hash.algorithm() == HashAlgorithm::Sha256 => Ok(hash),
        Ok(_) => Err(bad_request(format_args!("{text:?} is no SHA-256, as the hash of a NAR always is"))),
        Err(error) => Err(bad_request(format_args!("{text:?} is no hash: {error}"))),
    }
}

/// Answers with what is known of a path, without its name. When it was registered is not kept: 0, as in a binary cache.
pub fn write(output: &mut Output<impl Write>, info: &PathInfo) -> io::Result<()> {
    output.text(&info.deriver.as_ref().map(|path| path.to_absolute_path()).unwrap_or_default())?;
    let hash = info.nar_hash.to_nix_base16_string();
    output.text(hash.rsplit(':').next().unwrap_or(&hash))?;
    output.paths(&info.references)?;
    output.number(0)?;
    output.number(info.nar_size)?;
    // Nobody has built it here.
    output.number(0)?;
    let mut signatures = info.signatures.clone();
    signatures.sort_unstable();
    output.texts(&signatures)?;
    output.text(info.ca.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn what_is_said_is_understood() {
        let info: PathInfo = serde_json::from_value(serde_json::json!({
            "path": "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-hello-2.12",
            "nar-hash": "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
            "nar-size": 120,
            "references": [
                "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-hello-2.12",
                "/nix/store/1c5b8vw40dy178xlpddw65q9gf1h2186-glibc",
            ],
            "deriver": "/nix/store/2c5b8vw40dy178xlpddw65q9gf1h2186-hello.drv",
            "signatures": ["cache:AAAA"],
            "ca": "fixed:r:sha256:x",
        }))
        .unwrap();
        let mut bytes = Vec::new();
        let mut output = Output::new(&mut bytes);
        output.text(&info.path.to_absolute_path()).unwrap();
        write(&mut output, &info).unwrap();
        let read = Described::read(&mut Input::new(&bytes[..])).unwrap();
        assert_eq!(read.path_info().unwrap(), info);
        for length in 0..bytes.len() {
            assert!(Described::read(&mut Input::new(&bytes[..length])).is_err(), "{length}");
        }
    }

    #[test]
    fn a_hash_is_a_sha256_in_any_form() {
        let hash = sha256(HEX).unwrap();
        for same in [&hash.to_sri_string(), &hash.to_nix_nixbase32_string(), &format!("sha256:{HEX}")] {
            assert_eq!(sha256(same).unwrap(), hash, "{same}");
        }
        for bad in ["", "sha256:", &HEX[1..], "sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", "sha256:zz", "é:é-é"] {
            assert!(sha256(bad).is_err(), "{bad:?}");
        }
    }
}
