//! The agent's memory does not grow with what it receives: closures of four shapes, each into a fresh ext4, by an agent that
//! has 64 MiB for itself and its page cache.
//!
//! The streams are made as they are sent ([`closures`]), with the longest window the agent takes. It needs root, for the
//! control group ([`cgroup`]) and the file system, 5 GB of disk, and a `cygnetd` beside the test programs.

mod cgroup;
mod closures;
mod daemon;

use anyhow::{Context, Result, bail, ensure};
use cgroup::Cgroup;
use closures::{Tree, closure};
use cygnet_tests::bench::volume::Volume;
use daemon::Daemon;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What the agent and the pages of the files it writes may have together, bytes.
const LIMIT: u64 = 64 << 20;
/// What the agent may have, bytes. A development build has some 5 MB more of its own code in memory than what users have.
const PEAK: u64 = 48_000_000;
/// How much of that may be due to the closure's shape, bytes: a directory's names, a batch of the journal.
const GROWTH: u64 = 8_000_000;

#[test]
fn a_closure_of_any_shape_fits_in_the_same_memory() -> Result<()> {
    let program = program()?;
    let shapes: [(&str, Vec<Tree>); 4] = [
        ("a small closure", vec![Tree::Short(1), Tree::File(80 << 20), Tree::Many(2000)]),
        ("10 000 store paths", (0..10_000).map(Tree::Short).collect()),
        ("a file of 4 GB", vec![Tree::File(4_000_000_000)]),
        ("200 000 files", vec![Tree::Many(200_000)]),
    ];
    let mut peaks = Vec::new();
    for (what, trees) in shapes {
        peaks.push(peak(&program, what, trees).with_context(|| format!("receiving {what}"))?);
    }
    let (least, most) = (peaks.iter().min().unwrap_or(&0), peaks.iter().max().unwrap_or(&0));
    ensure!(*most <= PEAK, "the agent had {most} bytes, more than {PEAK}");
    ensure!(
        most - least <= GROWTH,
        "between {least} and {most} bytes is more than {GROWTH}: memory grows with the closure"
    );
    Ok(())
}

/// Has an agent receive it, and tells the most memory that took.
fn peak(program: &Path, what: &str, trees: Vec<Tree>) -> Result<u64> {
    let begin = Instant::now();
    let room = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).context("making a directory")?;
    let target = room.path().join("target");
    let closure = closure(trees).context("making the closure")?;
    let made = begin.elapsed();
    let volume = Volume::mount(room.path(), &target)?;
    let group = Cgroup::new("memory", LIMIT)?;
    let mut daemon = Daemon::start(program, &group, room.path(), &target)?;
    let before = daemon.peak()?;
    // In two halves, each by a channel of its own: what the first one took must be free for the second.
    for half in closure.chunks(closure.len().div_ceil(2)) {
        daemon.push(half)?;
    }
    let peak = daemon.peak()?;
    let kills = group.kills()?;
    ensure!(kills == 0, "the kernel killed {kills} process(es) for want of memory");
    let with_cache = group.peak().map_or_else(String::new, |peak| format!(", with page cache {:.1} MB", mb(peak)));
    // Past the test's capture: what is measured is wanted, whatever comes of it.
    writeln!(
        std::io::stderr(),
        "memory: {what}: {:.1} MB, {:.1} MB of it before{with_cache}; in {:.0} s, {:.0} s of them to make it",
        mb(peak),
        mb(before),
        begin.elapsed().as_secs_f64(),
        made.as_secs_f64()
    )?;
    drop(daemon);
    drop((group, volume));
    Ok(peak)
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// `cygnetd` as cargo leaves it beside `deps`, where this program is.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program")?;
    let program = own.ancestors().nth(2).context("finding the target directory")?.join("cygnetd");
    if !program.is_file() {
        bail!("{} is missing; make it with `cargo build --package cygnet-agent`", program.display());
    }
    Ok(program)
}
