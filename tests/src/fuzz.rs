//! `cargo fuzz-all`: every fuzz target for a bounded time. A crash ends it with an error that says where the input is.
//!
//! cargo-fuzz builds them with the instrumentation that libFuzzer needs and without a sanitizer, which would need a nightly
//! compiler: there is no unsafe code of ours to sanitize. Debug assertions and overflow checks are on.

use crate::host::run::{file_tail, run, tool, try_output};
use crate::pi::cache;
use crate::workshop;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;

/// What is installed if it is not there.
const CARGO_FUZZ: &str = "0.13.2";

/// How long each runs, seconds.
const SECONDS: u64 = 15;

/// The most memory that one may take, MiB, and the longest that one input may, seconds: more is a finding.
const MEMORY: u64 = 512;
const PATIENCE: u64 = 10;

/// What its help says.
pub const HELP: &str = "\
Usage:
  cargo fuzz-all                        run every fuzz target for 15 seconds
  cargo fuzz-all -- --seconds N NAME…   run these for N seconds each
";

/// Runs every target, or only those that are named, for so many seconds; `words` are the command line.
///
/// # Errors
/// If one finds something, or cannot be built.
pub fn all(words: &[&str]) -> Result<()> {
    let (seconds, names) = match words {
        ["--seconds", seconds, names @ ..] => (seconds.parse::<u64>().context("reading the number of seconds")?, names),
        names => (SECONDS, names),
    };
    let repository = workshop::repository();
    let sources = repository.join("fuzz/targets");
    let mut targets = Vec::new();
    for entry in fs::read_dir(&sources).with_context(|| format!("listing {}", sources.display()))? {
        targets.extend(entry?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    targets.sort();
    if let Some(unknown) = names.iter().find(|name| !targets.iter().any(|target| target == *name)) {
        bail!("there is no fuzz target {unknown:?}; there are {}", targets.join(", "));
    }
    targets.retain(|target| names.is_empty() || names.contains(&target.as_str()));

    let out = workshop::target_dir()?.join("fuzz");
    let programs = &build(repository, &out)?;
    let out = &out;
    let lanes = thread::available_parallelism().map_or(1, usize::from);
    let mut failed = Vec::new();
    for some in targets.chunks(lanes) {
        let results: Vec<_> = thread::scope(|scope| {
            let running: Vec<_> =
                some.iter().map(|name| scope.spawn(move || one(&programs.join(name), name, out, seconds))).collect();
            running.into_iter().map(|lane| lane.join().unwrap_or_else(|_| bail!("a panic"))).collect()
        });
        for (name, result) in some.iter().zip(results) {
            match result {
                Ok(last) => eprintln!("fuzz {name}: nothing found; {last}"),
                Err(error) => {
                    eprintln!("fuzz {name}: {error:#}");
                    failed.push(name.as_str());
                }
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("these fuzz targets found something: {}", failed.join(", ")) }
}

/// Builds all of them; returns the directory that they are in.
fn build(repository: &Path, out: &Path) -> Result<PathBuf> {
    if try_output(tool("c++").arg("--version")).is_err() {
        bail!("libFuzzer is in C++, and there is no compiler for it: install g++");
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // cargo-fuzz would bring the lock file up to date by itself.
    let manifest = repository.join("fuzz/Cargo.toml");
    run(tool(&cargo)
        .args(["metadata", "--quiet", "--locked", "--format-version", "1", "--manifest-path"])
        .arg(manifest))
    .context("reading fuzz/Cargo.toml with its lock file")?;
    let tools = cache::default_dir()?.join("tools");
    let cargo_fuzz = tools.join("bin/cargo-fuzz");
    let there = try_output(tool(&cargo_fuzz).arg("--version"));
    if !there.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(CARGO_FUZZ)) {
        eprintln!("fuzz: installing cargo-fuzz {CARGO_FUZZ}");
        run(tool(&cargo)
            .args(["install", "--quiet", "cargo-fuzz", "--version", CARGO_FUZZ, "--locked", "--root"])
            .arg(&tools))
        .context("installing cargo-fuzz")?;
    }
    eprintln!("build: the fuzz targets");
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    run(tool(cargo_fuzz)
        .args(["fuzz", "build", "--sanitizer", "none", "--target", &triple, "--fuzz-dir", "fuzz", "--target-dir"])
        .arg(out)
        .env_remove("CARGO_TARGET_DIR")
        .current_dir(repository))
    .context("building the fuzz targets")?;
    Ok(out.join(triple).join("release"))
}

/// Runs one; returns the last that it says of how far it came.
fn one(program: &Path, name: &str, out: &Path, seconds: u64) -> Result<String> {
    let (corpus, found) = (out.join("corpus").join(name), out.join("found").join(name));
    for directory in [&corpus, &found] {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    let log = out.join(format!("{name}.log"));
    let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
    // A program in Rust ignores a closed pipe; but here libFuzzer's main is the first.
    let status = tool("sh")
        .args(["-c", "trap '' PIPE; exec \"$@\"", "sh"])
        .arg(program)
        .arg(&corpus)
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args([format!("-max_total_time={seconds}"), format!("-rss_limit_mb={MEMORY}"), format!("-timeout={PATIENCE}")])
        .args(["-max_len=16384", "-len_control=20"])
        .stdout(file.try_clone().context("duplicating the log's handle")?)
        .stderr(file)
        .status()
        .with_context(|| format!("starting {}", program.display()))?;
    if status.success() {
        return Ok(file_tail(&log, 1));
    }
    bail!(
        "{status}\n{}\nthe whole output is in {}; what was found is in {}, and is tried again with\n  {} FILE",
        file_tail(&log, 30),
        log.display(),
        found.display(),
        program.display()
    )
}
