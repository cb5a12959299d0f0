//! Tells the agent when it was made: a clock that is earlier than that is wrong. And leaves the tables for unwinding out of
//! the static binary.
//!
//! The same sources must give the same binary, so this is never the time of compiling: SOURCE_DATE_EPOCH if it is set
//! (<https://reproducible-builds.org/specs/source-date-epoch/>), else the time of the checked out commit, else 0: not known.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.trim().parse::<u64>().ok());
    // Every commit and checkout writes a line there.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={log}");
    } else {
        println!("cargo::rerun-if-changed=build.rs");
    }
    let commit = || git(&["log", "-1", "--format=%ct"]).and_then(|text| text.parse().ok());
    println!("cargo::rustc-env=CYGNET_BUILT={}", given.or_else(commit).unwrap_or(0));

    let of_target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if (of_target("OS"), of_target("ENV")) == ("linux".into(), "musl".into()) {
        let script = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("no-unwinding.ld");
        println!("cargo::rerun-if-changed={}", script.display());
        println!("cargo::rustc-link-arg-bins=-T{}", script.display());
    }
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
