//! The tests of the crates: built by whoever runs this, so that no file of theirs becomes root's, and run by root, so that
//! none that needs a namespace, a loop device or the Nix store is left out.

use crate::host::{self, run::tool};
use crate::pi::{cache, unpacked};
use crate::workshop;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Where the list of test programs lies between the two steps, in the target directory.
const LIST: &str = "cygnet-tests.json";

/// Builds the test programs, and runs the examples in the documentation, which need nothing.
///
/// # Errors
/// If something does not compile, or an example fails.
pub fn build(target: &Path) -> Result<()> {
    eprintln!("build: the tests of the crates");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = tool(cargo)
        // Not the examples, which take as long to link, and test nothing.
        .args(["test", "--quiet", "--workspace", "--lib", "--bins", "--tests", "--no-run"])
        .arg("--message-format=json-render-diagnostics")
        .env("CARGO_TARGET_DIR", target)
        .current_dir(workshop::repository())
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        bail!("building the tests failed: {}", output.status);
    }
    let programs = programs(&String::from_utf8_lossy(&output.stdout));
    let list = target.join(LIST);
    fs::write(&list, serde_json::to_string(&programs)?).with_context(|| format!("writing {}", list.display()))?;
    workshop::cargo(target, &["test", "--quiet", "--workspace", "--doc"])
}

/// Runs the test programs, each in its package's directory as cargo does.
///
/// # Errors
/// If one fails; all are run first.
pub fn run(target: &Path) -> Result<()> {
    let list = target.join(LIST);
    let text = fs::read_to_string(&list).with_context(|| format!("reading {}", list.display()))?;
    let programs: Vec<(PathBuf, PathBuf)> = serde_json::from_str(&text).context("parsing the list of test programs")?;
    if programs.is_empty() {
        bail!("cargo named no test programs");
    }
    let nix = another_nix()?;
    let mut failed = Vec::new();
    for (directory, program) in &programs {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        eprintln!("\ntests of {}: {name}", directory.file_name().unwrap_or_default().to_string_lossy());
        let status = tool(program)
            .arg("--quiet")
            .env("CYGNET_TEST_NIX", &nix)
            // What they need was installed, so none of them may leave anything out for want of it.
            .env("CYGNET_TEST_ALL", "1")
            .current_dir(directory)
            .status()
            .with_context(|| format!("starting {}", program.display()))?;
        if !status.success() {
            failed.push(name);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("these test programs failed: {}", failed.join(", ")) }
}

/// The words that start Debian 13's Nix, beside which this host's may be older: both have to get along with the agent.
fn another_nix() -> Result<String> {
    host::ensure_package_lists()?;
    let nix = unpacked::unpack(&cache::default_dir()?, "nix", "nix-bin").context("unpacking Debian 13's Nix")?;
    Ok(nix.words("usr/bin/nix")?.join(" "))
}

/// Package directory and executable of every test, from cargo's messages (the cargo book, "External tools").
fn programs(messages: &str) -> Vec<(PathBuf, PathBuf)> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["profile"]["test"] == true)
        .filter_map(|message| {
            let manifest = Path::new(message["manifest_path"].as_str()?);
            Some((manifest.parent()?.to_owned(), PathBuf::from(message["executable"].as_str()?)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tests_are_run() {
        let messages = r#"{"reason":"compiler-artifact","manifest_path":"/x/agent/Cargo.toml","profile":{"test":true},"executable":"/t/a"}
{"reason":"compiler-artifact","manifest_path":"/x/agent/Cargo.toml","profile":{"test":false},"executable":"/t/b"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(programs(messages), [(PathBuf::from("/x/agent"), PathBuf::from("/t/a"))]);
    }
}
