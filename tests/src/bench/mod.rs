//! `cargo bench-push`: how fast a closure gets to another machine, by us and by every other way there is, in one run.
//!
//! The story in order:
//! - [`options`] says what is measured;
//! - [`closures`] builds what is pushed, with real Nix;
//! - [`link`] is the network, held to a rate, and [`server`] a real sshd behind it;
//! - [`ways`] are the others, [`ours`] is us;
//! - [`push`] does one push onto a fresh [`volume`] and measures it, with [`usage`], and has real Nix verify what came;
//! - [`table`] prints what came out. Nothing is asserted: these are measurements.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::closure::nix::Nix;
use crate::host::{
    self,
    run::{run, tool},
};
use crate::pi::cache;
use crate::workshop;
use closures::{Builder, Case, Given};
use link::Shape;
use options::Options;
use ours::Programs;
use push::{Bench, Seen};
use server::Keys;
use table::Row;
use ways::{Peer, Way};

pub mod closures;
pub mod link;
pub mod options;
pub mod ours;
pub mod push;
pub mod server;
pub mod table;
pub mod usage;
pub mod volume;
pub mod ways;

/// How a run's directory begins.
const RUN: &str = "run-";

/// Runs it.
///
/// # Errors
/// If it can't be prepared. A push that fails is a line of the table.
pub fn measure_all(options: &Options) -> Result<()> {
    let with_ours = options.ways.contains(&Way::Ours);
    workshop::as_root(|target| if with_ours { Programs::build(target) } else { Ok(()) })?;
    host::ensure_host_packages()?;
    host::ensure_ssh_server()?;
    host::ensure_package_lists()?;
    let cache = cache::default_dir()?;
    let work = workshop::repository().join("target/bench-push");
    let _alone = alone(&work)?;
    let room = tempfile::Builder::new().prefix(RUN).tempdir_in(&work).context("making room")?;
    let bench = Bench {
        peer: Peer::new(&cache)?,
        ours: if with_ours { Some(Programs::find(&workshop::target_dir()?)?) } else { None },
        keys: Keys::make(room.path())?,
        room: room.path().to_owned(),
    };
    let nix = Nix::new(&cache)?;
    let file = work.join("bench-push.json");
    let mut rows = Vec::new();
    // First all that is built, so that nothing is built while something is measured.
    let mut builder = Builder::new(&cache, &nix);
    let givens: Vec<(Case, Given)> =
        options.cases.iter().map(|&case| Ok((case, builder.build(case)?))).collect::<Result<_>>()?;
    for (case, given) in &givens {
        let card = card(&bench, *case, given)?;
        warm(&bench, given)?;
        for &shape in &options.links {
            for &way in &options.ways {
                let seen = known(&rows, *case, shape, way)
                    .map_or_else(|| measure(&bench, *case, given, &card, shape, way), Ok);
                let nar_size = given.closure.nar_size;
                rows.push(Row { case: *case, nar_size, shape, way, seen });
                // A run that is interrupted leaves what it has.
                write(&file, &table::as_json(&rows, bench.peer.version()))?;
            }
        }
    }
    rows.sort_by_key(|row| (row.shape.bits_per_second, row.case, row.way));
    let json = table::as_json(&rows, bench.peer.version());
    write(&file, &json)?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&json)?);
    } else {
        print!("{}", table::render(&rows, bench.peer.version()));
    }
    Ok(())
}

fn write(file: &Path, json: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(json)? + "\n";
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

/// Makes the directory for all that is made, without what a killed run left there. Two at once would measure each other.
fn alone(work: &Path) -> Result<File> {
    fs::create_dir_all(work).with_context(|| format!("creating {}", work.display()))?;
    let lock = File::create(work.join(".lock")).context("creating the bench's lock")?;
    lock.lock().context("waiting for another bench to end")?;
    for entry in fs::read_dir(work).context("looking for what an earlier run left")?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(RUN) {
            unmount_below(&entry.path())?;
            run(tool("rm").arg("-rf").arg(entry.path())).context("removing what an earlier run left")?;
        }
    }
    Ok(lock)
}

/// A killed run leaves its volume mounted.
fn unmount_below(path: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading what is mounted")?;
    let places =
        mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|place| Path::new(place).starts_with(path));
    for place in places {
        run(tool("umount").arg(place)).context("unmounting what an earlier run left")?;
    }
    Ok(())
}

fn measure(
    bench: &Bench,
    case: Case,
    given: &Given,
    card: &Option<PathBuf>,
    shape: Shape,
    way: Way,
) -> Result<Seen, String> {
    let rate = shape.bits_per_second / 1_000_000;
    eprintln!("bench: {} at {rate} Mbit/s by {} …", case.name(), way.title());
    let seen = bench.push(way, given, card.as_deref(), shape).map_err(|error| format!("{error:#}"));
    match &seen {
        Ok(seen) => eprintln!("bench:   {:.2} MB in {:.2} s", seen.bytes_up as f64 / 1e6, seen.wall_seconds),
        Err(error) => eprintln!("bench:   failed: {error}"),
    }
    seen
}

/// B is A for whoever cannot use a card; and E is, as it has the same files under other names.
fn known(rows: &[Row], case: Case, shape: Shape, way: Way) -> Option<Seen> {
    if !matches!(case, Case::B | Case::E) || way == Way::Ours {
        return None;
    }
    let same = rows.iter().find(|row| row.case == Case::A && row.shape == shape && row.way == way)?;
    Some(Seen { taken_over: true, ..same.seen.clone().ok()? })
}

/// The card's store, if there is anything on the card, and anybody who can use it.
fn card(bench: &Bench, case: Case, given: &Given) -> Result<Option<PathBuf>> {
    if given.card.is_empty() || !bench.ours.as_ref().is_some_and(|ours| ours.takes_card) {
        return Ok(None);
    }
    let at = bench.room.join(format!("card-{}", case.name()));
    eprintln!("bench: putting {} paths on the card of {}", given.card.len(), case.name());
    bench.card(&given.card, &at)?;
    Ok(Some(at))
}

/// Reads the closure once: whoever comes first shall not wait for the disk in the place of all others.
fn warm(bench: &Bench, given: &Given) -> Result<()> {
    bench.peer.read(&given.closure.toplevel).context("reading the closure into memory")
}
