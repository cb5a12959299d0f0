//! What the checks are run with: Nix, a nixpkgs or its `lib`, nixfmt.

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Says what was checked, or why not; also where the tests' own output is kept back.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "nix: {text}");
}

/// A command of Nix without the host's settings; without nixpkgs, too, which is only taken from where it is looked for.
pub fn nix(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_remove("NIX_PATH").env_remove("NIX_REMOTE");
    command.env("NIX_CONFIG", "build-users-group =\nsubstituters =\nexperimental-features = nix-command flakes\n");
    command
}

/// Its output, or a panic that says what is needed.
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{error}: this test needs Nix: `apt install nix-bin` on Debian"))
}

/// nixpkgs, or a directory that has nothing but its `lib`, where there is one.
pub fn nixpkgs() -> Option<PathBuf> {
    let listed = std::env::var("NIX_PATH").unwrap_or_default();
    let named = listed.split(':').filter_map(|entry| entry.strip_prefix("nixpkgs=").map(PathBuf::from));
    let directories =
        listed.split(':').filter(|entry| !entry.contains('=')).map(|entry| Path::new(entry).join("nixpkgs"));
    let given = std::env::var_os("CYGNET_NIXPKGS").map(PathBuf::from);
    if let Some(given) = &given {
        assert!(given.join("lib/default.nix").is_file(), "CYGNET_NIXPKGS={} has no lib/default.nix", given.display());
    }
    given.into_iter().chain(named).chain(directories).find(|place| place.join("lib/default.nix").is_file())
}

/// All that `evaluate.nix` finds out, evaluated once; none where there is no nixpkgs.
pub fn evaluated() -> Option<&'static Value> {
    static FOUND: OnceLock<Option<Value>> = OnceLock::new();
    FOUND.get_or_init(evaluate).as_ref()
}

fn evaluate() -> Option<Value> {
    let Some(nixpkgs) = nixpkgs() else {
        say("NOT RUN: evaluating the modules. There is no nixpkgs and no nixpkgs.lib in CYGNET_NIXPKGS or NIX_PATH");
        return None;
    };
    let expression = expression(&nixpkgs);
    let output =
        output(nix("nix-instantiate").args(["--eval", "--strict", "--json", "--show-trace", "--expr", &expression]));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "evaluating the modules:\n{stderr}");
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}\n{stderr}"));
    let against =
        if value["whole"] == true { "all of nixpkgs" } else { "the lib of nixpkgs, and stubs for NixOS's options" };
    say(&format!("run: the modules in the real module system, with {against}, {}", value["release"]));
    Some(value)
}

fn expression(nixpkgs: &Path) -> String {
    let root = root();
    let (root, nixpkgs) = (root.display(), nixpkgs.display());
    format!("import {root}/tests/tests/nix/evaluate.nix {{ nixpkgs = {nixpkgs}; root = {root}; }}")
}

/// The same by the Nix whose words are in `CYGNET_TEST_NIX`, as `cargo verify` sets it; none without.
pub fn evaluated_by_another() -> Option<Value> {
    let Ok(words) = std::env::var("CYGNET_TEST_NIX") else {
        say("NOT RUN: the modules by another release of Nix. CYGNET_TEST_NIX names none; `cargo verify` does");
        return None;
    };
    let mut words = words.split(' ');
    let mut command = nix(words.next()?);
    command.args(words).args(["eval", "--impure", "--json", "--expr", &expression(&nixpkgs()?)]);
    let output = output(&mut command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "evaluating the modules by another Nix:\n{stderr}");
    say("run: the modules by another release of Nix, with the set of the packages' sources");
    Some(serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}\n{stderr}")))
}
