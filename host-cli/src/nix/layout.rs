//! The layout: `config.disko.devices` as JSON, from a file or an evaluation.

use crate::error::fault;
use anyhow::Result;
use cygnet_protocol::fault::FaultCode;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Reads a file with the layout. What it means is for the agent to say; here it must be an object.
pub fn read(file: &Path) -> Result<serde_json::Value> {
    let bytes = std::fs::read(file).map_err(|error| {
        fault(
            FaultCode::BadLayout,
            format!("The layout {} can't be read.", file.display()),
            error.to_string(),
            "Give the file that `nix eval --json` wrote from `config.disko.devices`, or use `--flake`.",
        )
    })?;
    parse(&bytes, &file.display().to_string())
}

/// Parses a layout that came from `origin`.
pub fn parse(bytes: &[u8], origin: &str) -> Result<serde_json::Value> {
    let bad = |cause: String| {
        fault(
            FaultCode::BadLayout,
            format!("The layout from {origin} is not what disko evaluates to."),
            cause,
            "Evaluate it again, or use `--flake`, which does so by itself.",
        )
    };
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| {
        let cause = match error.classify() {
            serde_json::error::Category::Eof => "It is cut off",
            _ => "It is no JSON",
        };
        bad(format!("{cause}: {error}."))
    })?;
    match &value {
        serde_json::Value::Object(map) if !map.is_empty() => Ok(value),
        serde_json::Value::Object(_) => Err(bad("It is empty: there is no disk in it.".into())),
        _ => Err(bad("It is JSON, but no object.".into())),
    }
}

/// Refuses what cygnet could not carry out, before the Pi is asked: the agent would refuse it, too.
pub fn check(layout: &serde_json::Value) -> Result<()> {
    cygnet_protocol::disko::parse(layout.to_string()).map(drop).map_err(|error| {
        fault(
            FaultCode::BadLayout,
            format!("The layout can't be carried out: {}.", error.what.trim_end_matches('.')),
            format!("It is at {}.", error.path),
            error.remedy,
        )
    })
}

/// SHA-256 of the layout in canonical JSON (sorted keys, no blanks), lower-case hex: what tells equal layouts.
pub fn hash(layout: &serde_json::Value) -> String {
    // serde_json's map is sorted as long as nobody switches `preserve_order` on; the test below would tell.
    Sha256::digest(layout.to_string().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::fault_of;

    #[test]
    fn truncated_layouts_are_told_from_other_nonsense() {
        let cause = |text: &str| {
            let fault = fault_of(&parse(text.as_bytes(), "x").unwrap_err());
            assert_eq!(fault.code, FaultCode::BadLayout);
            fault.cause
        };
        assert!(cause("{\"disk\": {").contains("cut off"));
        assert!(cause("").contains("cut off"));
        assert!(cause("{\"disk\": }").contains("no JSON"));
        assert!(cause("[]").contains("no object"));
        assert!(cause("{}").contains("empty"));
        assert!(cause(&"[".repeat(100_000)).contains("no JSON"));
    }

    #[test]
    fn the_hash_does_not_depend_on_the_order() {
        let parse = |text: &str| parse(text.as_bytes(), "x").unwrap();
        let hash = |text: &str| super::hash(&parse(text));
        assert_eq!(hash(r#"{"a":1,"b":{"d":2,"c":3}}"#), hash(r#"{ "b": {"c":3, "d":2}, "a":1 }"#));
        assert_ne!(hash(r#"{"a":1}"#), hash(r#"{"a":2}"#));
        // printf '{"a":1}' | sha256sum
        assert_eq!(hash(r#"{"a":1}"#), "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862");
    }
}
