//! What `nix path-info --json` prints, in each of the shapes it has had.
//!
//! Nix before 2.19 prints an array of objects with a `path`, later ones an object keyed by path, since 2.33 also with the
//! version of the format in it, base names instead of paths, and hashes, signatures and content addresses as objects
//! (src/libstore/path-info.cc).

use anyhow::{Context, Result, bail};
use cygnet_protocol::store::{HashAlgorithm, NixHash, PathInfo, STORE_DIR, StorePath, parse_store_path};
use serde_json::Value;

/// What Nix knows of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// All there is to know.
    Valid(PathInfo),
    /// It is not in the database.
    Missing(String),
}

/// Reads all of it, in the order printed.
pub fn parse(text: &str) -> Result<Vec<Known>> {
    let value: Value = serde_json::from_str(text).context("reading the JSON of `nix path-info`")?;
    match value {
        Value::Array(entries) => entries
            .iter()
            .map(|entry| {
                let path = entry.get("path").and_then(Value::as_str).context("an entry has no path")?;
                one(path, entry)
            })
            .collect(),
        Value::Object(mut map) => {
            // The versioned shape has the paths one level deeper.
            let inner = match map.remove("info") {
                Some(Value::Object(inner)) => inner,
                _ => map,
            };
            inner.iter().map(|(path, entry)| one(path, entry)).collect()
        }
        _ => bail!("the JSON of `nix path-info` is neither an array nor an object"),
    }
}

fn one(path: &str, entry: &Value) -> Result<Known> {
    let absolute = whole(path);
    if entry.is_null() || entry.get("valid") == Some(&Value::Bool(false)) {
        return Ok(Known::Missing(absolute));
    }
    let info = || -> Result<PathInfo> {
        Ok(PathInfo {
            path: store_path(path)?,
            nar_hash: hash(entry.get("narHash").context("there is no narHash")?)?,
            nar_size: entry.get("narSize").and_then(Value::as_u64).context("there is no narSize")?,
            references: strings(entry.get("references"))?.into_iter().map(store_path).collect::<Result<_>>()?,
            deriver: match entry.get("deriver").and_then(Value::as_str) {
                None | Some("" | "unknown-deriver") => None,
                Some(deriver) => Some(store_path(deriver)?),
            },
            signatures: signatures(entry.get("signatures"))?,
            ca: content_address(entry.get("ca"))?,
        })
    };
    info().map(Known::Valid).with_context(|| format!("reading what Nix knows of {absolute}"))
}

/// Newer formats leave the store directory out.
fn whole(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{STORE_DIR}/{path}") }
}

fn store_path(path: &str) -> Result<StorePath> {
    parse_store_path(&whole(path)).map_err(anyhow::Error::msg)
}

fn strings(value: Option<&Value>) -> Result<Vec<&str>> {
    match value {
        None | Some(Value::Null) => Ok(vec![]),
        Some(Value::Array(list)) => list.iter().map(|v| v.as_str().context("a list has no string in it")).collect(),
        Some(_) => bail!("a list is none"),
    }
}

/// `sha256:<base32>`, SRI, or an object with its parts.
fn hash(value: &Value) -> Result<NixHash> {
    let hash = any_hash(value)?;
    if hash.algorithm() != HashAlgorithm::Sha256 {
        bail!("the NAR hash is no SHA-256");
    }
    Ok(hash)
}

fn any_hash(value: &Value) -> Result<NixHash> {
    if let Some(text) = value.as_str() {
        return NixHash::parse(text).with_context(|| format!("reading the hash {text:?}"));
    }
    let part = |name: &str| value.get(name).and_then(Value::as_str);
    let algorithm = part("algorithm").context("a hash has no algorithm")?;
    let digits = part("hash").context("a hash has no digits")?;
    NixHash::parse(&format!("{algorithm}:{digits}")).with_context(|| format!("reading the hash {digits:?}"))
}

/// `name:base64`, or an object with both.
fn signatures(value: Option<&Value>) -> Result<Vec<String>> {
    let Some(Value::Array(list)) = value else { return Ok(vec![]) };
    list.iter()
        .map(|signature| {
            if let Some(text) = signature.as_str() {
                return Ok(text.to_owned());
            }
            let part = |name: &str| signature.get(name).and_then(Value::as_str).context("a signature lacks a part");
            Ok(format!("{}:{}", part("keyName")?, part("sig")?))
        })
        .collect()
}

/// `fixed:r:sha256:…`, or an object with method and hash; rendered as the former (libstore/content-address.cc).
fn content_address(value: Option<&Value>) -> Result<Option<String>> {
    let value = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text.clone())),
        Some(value) => value,
    };
    let hash = any_hash(value.get("hash").context("a content address has no hash")?)?.to_nix_nixbase32_string();
    let prefix = match value.get("method").and_then(Value::as_str) {
        Some("nar") => "fixed:r:",
        Some("flat") => "fixed:",
        Some("git") => "fixed:git:",
        Some("text") => "text:",
        other => bail!("a content address has the method {other:?}"),
    };
    Ok(Some(format!("{prefix}{hash}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "/nix/store/y5srb0b0r6pwzil8av0grjq4sq1a6glr-os-release";
    const B: &str = "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-hello";
    const SRI: &str = "sha256-PRvxRqHFjEvJ3Ejyg8iSgumZfV/eTEcvWtcZlMA93YA=";
    const CA: &str = "fixed:r:sha256:106x7p0986fpb8plfk6ybxyrksc2jb487wj8vk4lp365l53g26rx";

    fn only(text: &str) -> PathInfo {
        match parse(text).unwrap().remove(0) {
            Known::Valid(info) => info,
            Known::Missing(path) => panic!("{path} is missing"),
        }
    }

    #[test]
    fn nix_2_8_prints_an_array() {
        let info = only(&format!(
            r#"[{{"path":"{A}","narHash":"{SRI}","narSize":136,"references":["{A}","{B}"],"ca":"{CA}","registrationTime":1,
            "deriver":"{B}.drv","signatures":["k:AA=="],"ultimate":true}}]"#
        ));
        assert_eq!(info.path.to_absolute_path(), A);
        assert_eq!(info.nar_hash.to_sri_string(), SRI);
        assert_eq!(info.nar_size, 136);
        assert_eq!(info.references.len(), 2);
        assert_eq!(info.deriver.unwrap().to_absolute_path(), format!("{B}.drv"));
        assert_eq!(info.signatures, ["k:AA=="]);
        assert_eq!(info.ca.as_deref(), Some(CA));
    }

    #[test]
    fn all_shapes_and_hash_spellings_mean_the_same() {
        let base32 = CA.strip_prefix("fixed:r:").unwrap();
        let base64 = SRI.strip_prefix("sha256-").unwrap();
        let base_a = A.rsplit('/').next().unwrap();
        let base_b = B.rsplit('/').next().unwrap();
        let shapes = [
            format!(r#"[{{"path":"{A}","narHash":"{base32}","narSize":136,"references":["{B}"],"ca":"{CA}"}}]"#),
            format!(
                r#"{{"{A}":{{"narHash":"{SRI}","narSize":136,"references":["{B}"],"ca":"{CA}","deriver":null,"signatures":[]}}}}"#
            ),
            format!(
                r#"{{"version":2,"storeDir":"/nix/store","info":{{"{base_a}":{{"narHash":"{SRI}","narSize":136,"references":["{base_b}"],
                "ca":{{"method":"nar","hash":"{SRI}"}},"storeDir":"/nix/store","version":2}}}}}}"#
            ),
            format!(
                r#"{{"version":3,"info":{{"{base_a}":{{"narHash":{{"algorithm":"sha256","format":"base64","hash":"{base64}"}},
                "narSize":136,"references":["{base_b}"],
                "ca":{{"method":"nar","hash":{{"algorithm":"sha256","format":"base64","hash":"{base64}"}}}}}}}}}}"#
            ),
        ];
        let first = only(&shapes[0]);
        for shape in &shapes {
            assert_eq!(only(shape), first, "{shape}");
        }
    }

    #[test]
    fn signatures_may_be_objects() {
        let info = only(&format!(
            r#"{{"{A}":{{"narHash":"{SRI}","narSize":1,"references":[],"signatures":[{{"keyName":"k","sig":"AA=="}}]}}}}"#
        ));
        assert_eq!(info.signatures, ["k:AA=="]);
    }

    #[test]
    fn paths_that_are_not_there_are_told_in_every_shape() {
        for text in [
            format!(r#"[{{"path":"{B}","valid":false}}]"#),
            format!(r#"{{"{B}":null}}"#),
            format!(r#"{{"info":{{"{}":null}},"version":3}}"#, B.rsplit('/').next().unwrap()),
        ] {
            assert_eq!(parse(&text).unwrap(), [Known::Missing(B.to_owned())]);
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for text in [
            "",
            "3",
            "[3]",
            "[{}]",
            &format!(r#"{{"{A}":{{}}}}"#),
            &format!(r#"{{"{A}":{{"narHash":"md5:d41d8cd98f00b204e9800998ecf8427e","narSize":1}}}}"#),
            &format!(r#"{{"{A}":{{"narHash":"{SRI}","narSize":-1}}}}"#),
            &format!(r#"{{"{A}":{{"narHash":"{SRI}","narSize":1,"references":["../x"]}}}}"#),
            r#"{"/etc/passwd":{"narHash":"x","narSize":1}}"#,
        ] {
            assert!(parse(text).is_err(), "{text} was accepted");
        }
    }
}
