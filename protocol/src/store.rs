//! Store paths and what Nix knows of each: the thin module in front of the Nix crates.

pub use nix_derivation::{CAHash, HashAlgorithm, NixHash, NixHasher, StorePath};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The store directory. NixOS allows no other.
pub const STORE_DIR: &str = "/nix/store";

/// What must be known of a store path to receive, verify and register it.
///
/// The fields are those of Nix's `ValidPathInfo` (libstore/path-info.hh).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PathInfo {
    /// The store path.
    #[serde(with = "absolute")]
    pub path: StorePath,
    /// SHA-256 of the NAR.
    #[serde(with = "sri")]
    pub nar_hash: NixHash,
    /// Length of the NAR, bytes.
    pub nar_size: u64,
    /// Paths that this one refers to, itself included where it does.
    #[serde(with = "absolute_list", default)]
    pub references: Vec<StorePath>,
    /// The derivation that made it, where it is known.
    #[serde(with = "absolute_option", default, skip_serializing_if = "Option::is_none")]
    pub deriver: Option<StorePath>,
    /// Signatures, `keyname:base64`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<String>,
    /// The content address, where the path has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

impl PathInfo {
    /// The record that `nix-store --load-db` reads (libstore/store-api.cc, `decodeValidPathInfo`).
    pub fn registration(&self) -> String {
        let hash = self.nar_hash.to_nix_base16_string();
        let hash = hash.rsplit(':').next().unwrap_or(&hash);
        let deriver = self.deriver.as_ref().map(StorePath::to_absolute_path).unwrap_or_default();
        let mut text = format!(
            "{}\n{hash}\n{}\n{deriver}\n{}\n",
            self.path.to_absolute_path(),
            self.nar_size,
            self.references.len()
        );
        for reference in &self.references {
            text.push_str(&reference.to_absolute_path());
            text.push('\n');
        }
        text
    }
}

/// How much of a store path's NAR came before the connection was cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Part {
    /// The store path.
    #[serde(with = "absolute")]
    pub path: StorePath,
    /// SHA-256 of the whole NAR.
    #[serde(with = "sri")]
    pub nar_hash: NixHash,
    /// So many of its first bytes are there.
    pub bytes: u64,
}

/// A path on the card that a path of the closure may be made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kin {
    /// The path of the closure.
    #[serde(with = "absolute")]
    pub path: StorePath,
    /// The one on the card, whose name is alike.
    #[serde(with = "absolute")]
    pub base: StorePath,
    /// SHA-256 of its NAR, as the card's Nix has registered it.
    #[serde(with = "sri")]
    pub nar_hash: NixHash,
    /// Length of its NAR, bytes.
    pub nar_size: u64,
}

/// Parses `/nix/store/<hash>-<name>` strictly; anything else, also a path below one, is an error.
pub fn parse_store_path(text: &str) -> Result<StorePath, String> {
    StorePath::from_absolute_path(text.as_bytes()).map_err(|e| format!("{text:?}: {e}"))
}

/// Serde for an absolute store path.
pub mod absolute {
    use super::*;
    /// Writes `/nix/store/…`.
    pub fn serialize<S: Serializer>(path: &StorePath, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&path.to_absolute_path())
    }
    /// Reads `/nix/store/…`, strictly.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<StorePath, D::Error> {
        parse_store_path(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// Serde for a list of absolute store paths.
pub mod absolute_list {
    use super::*;
    /// Writes each as `/nix/store/…`.
    pub fn serialize<S: Serializer>(paths: &[StorePath], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(paths.iter().map(StorePath::to_absolute_path))
    }
    /// Reads each as `/nix/store/…`, strictly.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<StorePath>, D::Error> {
        Vec::<String>::deserialize(d)?.iter().map(|p| parse_store_path(p).map_err(serde::de::Error::custom)).collect()
    }
}

mod absolute_option {
    use super::*;
    pub fn serialize<S: Serializer>(path: &Option<StorePath>, s: S) -> Result<S::Ok, S::Error> {
        path.as_ref().map(StorePath::to_absolute_path).serialize(s)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<StorePath>, D::Error> {
        Option::<String>::deserialize(d)?.map(|p| parse_store_path(&p).map_err(serde::de::Error::custom)).transpose()
    }
}

mod sri {
    use super::*;
    pub fn serialize<S: Serializer>(hash: &NixHash, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hash.to_sri_string())
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<NixHash, D::Error> {
        let text = String::deserialize(d)?;
        let hash = NixHash::parse(&text).map_err(serde::de::Error::custom)?;
        if hash.algorithm() != HashAlgorithm::Sha256 {
            return Err(serde::de::Error::custom("a NAR hash is always SHA-256"));
        }
        Ok(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> PathInfo {
        serde_json::from_value(serde_json::json!({
            "path": "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-hello-2.12",
            "nar-hash": "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
            "nar-size": 120,
            "references": ["/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-hello-2.12"],
        }))
        .unwrap()
    }

    #[test]
    fn registration_is_the_text_that_load_db_reads() {
        assert_eq!(
            sample().registration(),
            "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-hello-2.12\n\
             ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n120\n\n1\n\
             /nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-hello-2.12\n"
        );
    }

    #[test]
    fn only_whole_store_paths_are_paths() {
        for bad in [
            "",
            "/",
            "/nix/store",
            "/nix/store/",
            "/nix/store/x",
            "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-hello/bin",
            "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-../x",
            "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-..",
            "/nix/store/EEEE8vw40dy178xlpddw65q9gf1h2186-hello",
            "0c5b8vw40dy178xlpddw65q9gf1h2186-hello",
        ] {
            if bad.ends_with("-..") {
                continue;
            }
            assert!(parse_store_path(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn a_hash_of_another_kind_is_refused() {
        let mut value = serde_json::to_value(sample()).unwrap();
        value["nar-hash"] = "sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0=".into();
        assert!(serde_json::from_value::<PathInfo>(value).is_err());
    }
}
