//! The layout: `config.disko.devices` as JSON, from a file or an evaluation.

use crate::error::fault;
use anyhow::Result;
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::plan::Refusal;
use std::io::{self, Read};
use std::path::Path;

/// The most bytes of a layout: it travels in one message.
const MOST_BYTES: u64 = cygnet_protocol::frame::MAX_LINE as u64;

/// Reads a file with the layout. What it means is for the agent to say; here it must be an object.
pub fn read(file: &Path) -> Result<serde_json::Value> {
    let bytes = limited(file).map_err(|error| {
        fault(
            FaultCode::BadLayout,
            format!("The layout {} can't be read.", file.display()),
            error.to_string(),
            "Give the file that `nix eval --json` wrote from `config.disko.devices`, or use `--flake`.",
        )
    })?;
    if is_nix(file, &bytes) {
        return Err(fault(
            FaultCode::BadLayout,
            format!("{} is a Nix expression, and not what disko makes of one.", file.display()),
            "What your module says becomes a layout when disko's options are evaluated with it.",
            "Use `--flake FLAKE#HOST`, which evaluates it, or give the JSON of `config.disko.devices`.",
        ));
    }
    parse(&bytes, &file.display().to_string())
}

/// Reads no more than a layout may have: a device, a pipe or a wrong file has no end.
fn limited(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= MOST_BYTES => Ok(bytes),
        _ => Err(io::Error::other("it has more than 4 MiB, which no layout has")),
    }
}

/// Whether a file is Nix: by its name, or because it is no JSON and begins as only Nix does.
fn is_nix(file: &Path, bytes: &[u8]) -> bool {
    if file.extension().is_some_and(|end| end.eq_ignore_ascii_case("nix")) {
        return true;
    }
    let text = String::from_utf8_lossy(bytes.get(..4096).unwrap_or(bytes));
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let words = ["#", "/*", "let", "with ", "rec ", "rec{", "inherit "];
    let in_braces = text.strip_prefix('{').map(str::trim_start);
    // `{ lib, ... }:`, `{ disko.devices = …`; in JSON a quotation mark or a brace follows.
    let is_set = in_braces.is_some_and(|rest| rest.starts_with(|c: char| c.is_alphabetic() || c == '.' || c == '#'));
    is_set || words.iter().any(|word| text.starts_with(word))
}

/// Parses a layout that came from `origin`; the whole of `config.disko` is as good.
pub fn parse(bytes: &[u8], origin: &str) -> Result<serde_json::Value> {
    let bad = |cause: String| {
        fault(
            FaultCode::BadLayout,
            format!("The layout from {origin} is not what disko evaluates to."),
            cause,
            "Evaluate it again, or use `--flake`, which does so by itself.",
        )
    };
    // PowerShell and some editors put a byte order mark there, which JSON does not have (RFC 8259, 8.1).
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| {
        let cause = match error.classify() {
            serde_json::error::Category::Eof => "It is cut off",
            _ => "It is no JSON",
        };
        bad(format!("{cause}: {error}."))
    })?;
    let value = cygnet_protocol::disko::devices_of(value);
    match &value {
        serde_json::Value::Object(map) if !map.is_empty() => Ok(value),
        serde_json::Value::Object(_) => Err(bad("It is empty: there is no disk in it.".into())),
        _ => Err(bad("It is JSON, but no object.".into())),
    }
}

/// Puts disks of the layout onto other devices (`--disk`), before anything is made of it.
pub fn retarget(layout: &mut serde_json::Value, disks: &[(String, String)]) -> Result<()> {
    let twice = disks.iter().enumerate().find(|(at, (name, _))| disks.iter().take(*at).any(|(other, _)| other == name));
    if let Some((_, (name, _))) = twice {
        return Err(fault(
            FaultCode::BadRequest,
            format!("--disk names the disk “{name}” twice."),
            "Each disk of the layout can be put onto one device only.",
            "Give one --disk for each disk.",
        ));
    }
    let moved = cygnet_protocol::disko::retarget(layout, disks);
    moved.map_err(|error| Fault::from(&Refusal::from(error)).into())
}

/// Refuses what cygnet could not carry out, before the Pi is asked: the agent would refuse it, too.
pub fn check(layout: &serde_json::Value) -> Result<()> {
    cygnet_protocol::disko::parse(layout.to_string()).map(drop).map_err(|error| {
        // As the agent says it: the path first.
        Fault::from(&Refusal::from(error)).into()
    })
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
    fn a_byte_order_mark_is_no_fault_and_no_end_is() {
        assert!(parse("\u{feff}{\"disk\": {}}".as_bytes(), "x").is_ok());
        let endless = fault_of(&read(Path::new("/dev/zero")).unwrap_err());
        assert!(endless.code == FaultCode::BadLayout && endless.cause.contains("4 MiB"), "{endless}");
    }

    #[test]
    fn a_nix_file_is_told_and_the_whole_of_disko_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let given = |name: &str, text: &str| {
            let file = dir.path().join(name);
            std::fs::write(&file, text).unwrap();
            read(&file)
        };
        for (name, text) in [
            ("disko.nix", "{}"),
            ("layout", "{ disko.devices.disk.m = { }; }"),
            ("a.json", "# mine\n{ lib, ... }: {}"),
            ("b.json", "{lib, ...}: { }"),
            ("c.json", "let x = 1; in {}"),
            ("d.json", "{ ... }: {}"),
        ] {
            let fault = fault_of(&given(name, text).unwrap_err());
            assert!(fault.what.contains("is a Nix expression"), "{text}: {fault}");
            assert!(fault.remedy.contains("--flake"), "{fault}");
        }
        for text in ["{", "{\"disk\": ", "", "[]", "nonsense"] {
            let fault = fault_of(&given("x.json", text).unwrap_err());
            assert!(!fault.what.contains("Nix"), "{text}: {fault}");
        }
        let whole = r#"{"disko": {"devices": {"disk": {"main": {"device": "/dev/sda"}}}}}"#;
        let mut layout = given("whole.json", whole).unwrap();
        retarget(&mut layout, &[("main".to_owned(), "/dev/sdb".to_owned())]).unwrap();
        assert_eq!(layout["disk"]["main"]["device"], "/dev/sdb");
    }

    #[test]
    fn what_is_wrong_with_a_layout_begins_with_its_path() {
        let layout =
            serde_json::json!({"disk": {"m": {"type": "disk", "device": "/dev/sda", "content": {"type": "nonsense"}}}});
        let fault = fault_of(&check(&layout).unwrap_err());
        assert!(fault.what.starts_with("disk.m.content") && fault.code == FaultCode::BadLayout, "{fault}");
    }

    #[test]
    fn a_disk_is_moved_once_and_by_a_name_it_has() {
        let mut layout = parse(br#"{"disk": {"main": {"device": "/dev/sda"}, "data": {}}}"#, "x").unwrap();
        let moves = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(name, device)| ((*name).to_owned(), (*device).to_owned())).collect()
        };
        let twice = fault_of(&retarget(&mut layout, &moves(&[("main", "/dev/a"), ("main", "/dev/b")])).unwrap_err());
        assert_eq!((twice.code, twice.what.contains("main")), (FaultCode::BadRequest, true));
        let unknown = fault_of(&retarget(&mut layout, &moves(&[("ssd", "/dev/sdb")])).unwrap_err());
        assert_eq!(unknown.code, FaultCode::BadLayout);
        assert!(unknown.remedy.contains("data, main"), "{unknown}");
        retarget(&mut layout, &moves(&[("main", "/dev/sdb")])).unwrap();
        assert_eq!(layout["disk"]["main"]["device"], "/dev/sdb");
    }
}
