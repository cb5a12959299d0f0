//! Nix's own tools against the agent, by real Nix: that of this machine, and another one if `CYGNET_TEST_NIX` has the words
//! that start it.
//!
//! Nix starts `remote-program` itself, without ssh, if the host is exactly `localhost` (libstore/ssh.cc).

use crate::channel::{TOPLEVEL, follower, interrupted, receiving, until};
use crate::rig::{CYGNETD, Place};
use cygnet_protocol::event::{EventKind, Phase, State};
use cygnet_protocol::message::Reply;
use cygnet_protocol::store::{HashAlgorithm, NixHash, PathInfo, parse_store_path};
use nix_archive::nar::{CaseHack, encode_path};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// How many paths there are, the toplevel not counted.
const PATHS: usize = 40;

/// A Nix with settings and stores of its own.
struct Nix {
    words: Vec<String>,
    home: tempfile::TempDir,
}

/// Every Nix that is to be had.
fn all() -> Vec<Nix> {
    let other = std::env::var("CYGNET_TEST_NIX").ok();
    let other = other.map(|words| words.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    [Some(vec!["nix".to_owned()]), other].into_iter().flatten().map(Nix::new).collect()
}

impl Nix {
    fn new(words: Vec<String>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let settings = "experimental-features = nix-command\nsubstituters =\nbuild-users-group =\nsandbox = false\n";
        fs::write(home.path().join("nix.conf"), settings).unwrap();
        Self { words, home }
    }

    /// `nix` with these arguments.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.words[0]);
        let home = self.home.path();
        command.args(&self.words[1..]).args(arguments).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home).env("LC_ALL", "C.UTF-8");
        command.env("NIX_CONF_DIR", home).env("NIX_USER_CONF_FILES", home.join("nix.conf"));
        command.env("NIX_REMOTE", self.store("own")).stdin(Stdio::null());
        command
    }

    /// A store below our home.
    fn store(&self, name: &str) -> String {
        format!("local?root={}", self.home.path().join(name).display())
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("nix is needed");
        assert!(output.status.success(), "nix {}:\n{}", arguments.join(" "), said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, arguments: &[&str], texts: &[&str]) {
        let output = self.command(arguments).output().expect("nix is needed");
        let said = said(&output);
        assert!(!output.status.success(), "nix {} did not fail:\n{said}", arguments.join(" "));
        for text in texts {
            assert!(said.contains(text), "nix {} does not say {text:?}:\n{said}", arguments.join(" "));
        }
    }

    /// What it knows of the closure of a path, without what differs from store to store.
    fn infos(&self, store: &str, path: &str) -> BTreeMap<String, Value> {
        let text = self.run(&["path-info", "--json", "-r", "--store", store, path]);
        let infos = match serde_json::from_str(&text).unwrap() {
            Value::Array(infos) => {
                infos.into_iter().map(|info| (info["path"].as_str().unwrap().to_owned(), info)).collect()
            }
            Value::Object(infos) => infos.into_iter().collect::<BTreeMap<_, _>>(),
            other => panic!("{other}"),
        };
        let gist = |info: &Value| {
            let of = |name: &str| info.get(name).filter(|value| !value.is_null()).cloned();
            ["narHash", "narSize", "references", "signatures", "deriver", "ca"].map(of).into_iter().collect()
        };
        infos.into_iter().map(|(path, info)| (path, gist(&info))).collect()
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// As `cygnet push --print-nix-copy` has it, but for the socket.
fn url(place: &Place) -> String {
    let words = format!("{CYGNETD} bridge --socket {} nix-daemon", place.socket().display());
    format!("ssh-ng://localhost?remote-program={}", words.replace(' ', "%20"))
}

fn name(number: usize) -> String {
    format!("/nix/store/{number:032}-path-{number}")
}

/// Fills the store `origin` with paths that refer to each other, signed, and a toplevel that refers to the last.
fn origin(nix: &Nix) -> (String, Vec<String>) {
    let store = nix.home.path().join("origin/nix/store");
    fs::create_dir_all(&store).unwrap();
    let mut names: Vec<String> = (0..PATHS).map(name).collect();
    names.push(TOPLEVEL.into());
    let mut text = String::new();
    for (number, path) in names.iter().enumerate() {
        let references = (number.saturating_sub(3)..=number).filter(|other| other % 7 != 0 || number < PATHS - 1);
        text += &make(&store, path, references.map(|other| names[other].clone()).collect()).registration();
    }
    let mut load = Command::new("nix-store")
        .args(["--load-db", "--store", &nix.store("origin")])
        .env("NIX_CONF_DIR", nix.home.path())
        .stdin(Stdio::piped())
        .spawn()
        .expect("nix-store is needed");
    load.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(load.wait().unwrap().success());
    let key = nix.home.path().join("key");
    fs::write(&key, nix.run(&["key", "generate-secret", "--key-name", "test-1"])).unwrap();
    nix.run(&["store", "sign", "-r", "-k", key.to_str().unwrap(), "--store", &nix.store("origin"), TOPLEVEL]);
    (nix.store("origin"), names)
}

/// A path with a file of each kind.
fn make(store: &Path, path: &str, references: Vec<String>) -> PathInfo {
    let path = parse_store_path(path).unwrap();
    let directory = store.join(path.to_basename());
    fs::create_dir_all(directory.join("bin")).unwrap();
    fs::write(directory.join("text"), path.name().repeat(10_000)).unwrap();
    fs::write(directory.join("bin/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(directory.join("bin/run"), fs::Permissions::from_mode(0o555)).unwrap();
    symlink("text", directory.join("link")).unwrap();
    let mut nar = Vec::new();
    encode_path(&mut nar, &directory, CaseHack::Disabled).unwrap();
    PathInfo {
        path,
        nar_hash: NixHash::from_algorithm_and_digest(HashAlgorithm::Sha256, &Sha256::digest(&nar)).unwrap(),
        nar_size: nar.len() as u64,
        references: references.iter().map(|path| parse_store_path(path).unwrap()).collect(),
        deriver: None,
        signatures: vec![],
        ca: None,
    }
}

/// What an import leaves behind for as long as it lasts.
fn leftovers(place: &Place) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.at("mnt/nix/store")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with('.')).collect()
}

#[test]
fn nix_copies_into_the_target_and_out_of_it() {
    for nix in all() {
        let (origin, names) = origin(&nix);
        let (place, install) = interrupted();
        let _daemon = place.start();
        let url = url(&place);
        // It answers before there is a target; only paths it has none.
        nix.run(&["store", "ping", "--store", &url]);
        let last = names[PATHS - 1].as_str();
        let copy = ["copy", "--no-check-sigs", "--from", &origin, "--to", &url, last];
        nix.fails(&copy, &["No target is mounted", "cause:", "cygnet install"]);

        let mut client = place.client();
        let mut events = follower(&place);
        assert_eq!(client.ask(&install), Reply::Accepted { resumed: true });
        until(&mut events, receiving);
        nix.run(&copy);
        // Nothing is sent a second time, which Nix shows by copying nothing.
        nix.run(&copy);
        assert_eq!(nix.infos(&url, last), nix.infos(&origin, last));
        assert_eq!(nix.run(&["path-info", "--store", &url, last]).trim(), last);
        nix.fails(&["path-info", "--store", &url, TOPLEVEL], &["not valid"]);
        nix.fails(&["store", "gc", "--store", &url], &["collecting garbage", "remedy:"]);
        let all = nix.run(&["path-info", "--all", "--store", &url]);
        assert_eq!(all.lines().count(), nix.infos(&origin, last).len());

        let back = nix.store("back");
        nix.run(&["copy", "--no-check-sigs", "--from", &url, "--to", &back, last]);
        assert_eq!(nix.infos(&back, last), nix.infos(&origin, last));
        nix.run(&["store", "verify", "--no-trust", "-r", "--store", &back, last]);
        assert!(client.status().job.unwrap().paths_done >= 30);
        assert!(leftovers(&place).is_empty());

        // With the toplevel, the installation has what it waits for.
        nix.run(&["copy", "--no-check-sigs", "--from", &origin, "--to", &url, TOPLEVEL]);
        let registering = State::Installing { phase: Phase::Register };
        until(&mut events, |kind| matches!(kind, EventKind::StateChanged { to } if *to == registering));
    }
}

#[test]
fn what_is_damaged_or_incomplete_stays_outside() {
    for nix in all() {
        let (origin, names) = origin(&nix);
        let (place, install) = interrupted();
        let _daemon = place.start();
        let url = url(&place);
        let mut client = place.client();
        let mut events = follower(&place);
        assert_eq!(client.ask(&install), Reply::Accepted { resumed: true });
        until(&mut events, receiving);
        let file = nix.home.path().join("origin").join(&names[20][1..]).join("text");
        let whole = fs::read(&file).unwrap();
        let last = names[PATHS - 1].as_str();
        let copy = ["copy", "--no-check-sigs", "--from", &origin, "--to", &url, last];
        let mut damaged = whole.clone();
        damaged[35_000] ^= 1;
        for (content, words) in
            [(damaged, "SHA-256"), (whole[..35_000].to_vec(), ""), ([&whole[..], b"more"].concat(), "")]
        {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(&file, content).unwrap();
            nix.fails(&copy, &["path-20", words]);
            let store = place.at("mnt/nix/store");
            assert!(!store.join(names[20].rsplit('/').next().unwrap()).exists() && leftovers(&place).is_empty());
        }
        // What came before it is kept.
        let done = client.status().job.unwrap().paths_done;
        assert!((1..=20).contains(&done), "{done}");
        fs::write(&file, whole).unwrap();
        nix.run(&copy);
        assert_eq!(nix.infos(&url, last), nix.infos(&origin, last));
    }
}
