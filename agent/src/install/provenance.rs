//! Signatures and content addresses in the target's database, so that whoever trusts the key can copy from the new system.
//!
//! `nix-store --load-db` has no place for them (libstore/store-api.cc, `decodeValidPathInfo`), `nix store copy-sigs` adds
//! signatures only, and every other way of Nix writes the files a second time. So two columns are filled in by sqlite3, in
//! one transaction, if the database has the schema that they are known from.

use super::Installation;
use crate::journal::Journal;
use crate::run::{command, is_there};
use crate::store::database;
use cygnet_protocol::event::Phase;
use cygnet_protocol::store::PathInfo;
use cygnet_protocol::trust::Address;
use cygnet_protocol::trust::keys::storable;
use std::fs;
use std::io::{self, Read, Write};

/// The schema whose columns `sigs` and `ca` are filled in (libstore/local-store.hh, `nixSchemaVersion`; since Nix 2.0).
const SCHEMA: &str = "10";

/// Fills them in. That it can't is told, and no reason to stop: the new system works without.
pub fn keep(installation: &Installation<'_>) {
    match statements_wanted(installation) {
        Ok(0) => {}
        Ok(count) => match fill_in(installation) {
            Ok(()) => {
                installation.task(format!("Signatures or content addresses of {count} store paths registered"));
            }
            Err(why) => installation.warn(format!(
                "Signatures and content addresses of {count} store paths are not in the new system's Nix database: {why}. \
                 The system works without them; who copies from it has to sign first (`nix store sign --all`), or to \
                 fetch signatures (`nix store copy-sigs`)."
            )),
        },
        Err(error) => installation.warn(format!("Signatures are not registered: reading the journal: {error}.")),
    }
}

fn statements_wanted(installation: &Installation<'_>) -> io::Result<u64> {
    let mut count = 0;
    Journal::paths(&installation.agent.places.state, |info| {
        count += u64::from(!statements(&info).is_empty());
        Ok(())
    })?;
    Ok(count)
}

fn fill_in(installation: &Installation<'_>) -> Result<(), String> {
    let directory = database::directory(&installation.agent.places.target);
    let mut schema = String::new();
    fs::File::open(directory.join("schema"))
        .and_then(|file| file.take(16).read_to_string(&mut schema))
        .map_err(|error| format!("the version of its schema cannot be read ({error})"))?;
    if schema.trim() != SCHEMA {
        return Err(format!("its schema has version {}, and {SCHEMA} is known here", schema.trim()));
    }
    if !is_there("sqlite3") {
        return Err("the bootstrap image on the card has no sqlite3".into());
    }
    let mut sqlite = command("sqlite3");
    // Whatever somebody likes in his own shell must not be in this one.
    sqlite.args(["-batch", "-bail", "-init", "/dev/null"]).arg(directory.join("db.sqlite"));
    let (mut reader, mut writer) = io::pipe().map_err(|error| error.to_string())?;
    let state = installation.agent.places.state.clone();
    let written = std::thread::spawn(move || {
        writer.write_all(b".timeout 10000\nBEGIN IMMEDIATE;\n")?;
        Journal::paths(&state, |info| writer.write_all(statements(&info).as_bytes()))?;
        writer.write_all(b"COMMIT;\n")
    });
    let driven = installation.runner(Phase::Register).drive(sqlite, Some(&mut reader));
    drop(reader);
    let written = written.join();
    driven.map_err(|error| error.to_string())?;
    match written {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the reader of the journal stopped".into()),
    }
}

/// One path's statements, a line each; none if there is nothing to fill in.
///
/// What a kept database has already is not touched, and neither is a path that is registered with other content.
fn statements(info: &PathInfo) -> String {
    let path = quoted(&info.path.to_absolute_path());
    let hash = quoted(&info.nar_hash.to_nix_base16_string());
    let set = |column: &str, value: &str| {
        let value = quoted(value);
        format!(
            "UPDATE ValidPaths SET {column}={value} WHERE path={path} AND hash={hash} AND coalesce({column},'')='';\n"
        )
    };
    let signatures = storable(info);
    let mut text = String::new();
    if !signatures.is_empty() {
        text += &set("sigs", &signatures.join(" "));
    }
    // Any that is in the journal was seen to be right, but those that nobody here can verify.
    if let Ok(Some(address)) = Address::of(info) {
        text += &set("ca", &address.to_nix_string());
    }
    text
}

/// A string of SQL. What is given has no control characters, so a statement is a line.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(signatures: &[&str], ca: Option<&str>) -> PathInfo {
        serde_json::from_value(serde_json::json!({
            "path": "/nix/store/184as4ansdrqycvrial4bzlpkc3942wi-src",
            "nar-hash": "sha256-8o0DBb0yE+dbLyDe85hGPPhmjfnJ5YFV5rNLl+pnrSk=",
            "nar-size": 288,
            "signatures": signatures,
            "ca": ca,
        }))
        .unwrap()
    }

    #[test]
    fn only_what_there_is_is_filled_in() {
        let ca = "fixed:r:sha256:0addczm9fjxkwraq3rf9z66ndy1w8scg7pi05xdyf4rjpl2h73gj";
        assert_eq!(statements(&info(&[], None)), "");
        let text = statements(&info(&["a-1:AAAA", "garbage", "b-1:BBBB"], Some(ca)));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines[0]
                .contains("SET sigs='a-1:AAAA b-1:BBBB' WHERE path='/nix/store/184as4ansdrqycvrial4bzlpkc3942wi-src'")
        );
        assert!(lines[1].contains(&format!("SET ca='{ca}'")), "{text}");
        assert_eq!(statements(&info(&[], Some("fixed:r:sha256:wrong"))), "");
    }

    #[test]
    fn a_name_cannot_end_the_string() {
        let text = statements(&info(&["x';DROP--:AAAA", "a\nb:AAAA", "c d:AAAA"], None));
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("SET sigs='x'';DROP--:AAAA'"), "{text}");
        let none = statements(&info(&["a\n.shell id\n:AAAA", "blank in it:AAAA"], None));
        assert_eq!(none, "");
    }
}
