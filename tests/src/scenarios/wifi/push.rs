//! An installation through the air, whose access point goes away for a minute in the middle.

use super::{Scenario, State, World};
use crate::closure::Variant;
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

pub const SCENARIOS: &[Scenario] = &[Scenario::new(
    "wifi-push",
    "the access point is gone for 60 s in the middle of a push, and the push goes on",
    State::InTheAir,
    push,
)];

/// How long the access point is away.
const AWAY: Duration = Duration::from_secs(60);

fn push(world: &mut World) -> Result<()> {
    world.healthy()?;
    let system = world.closure(Variant::TinyHuge)?;
    let (toplevel, disko) = (system.toplevel.display().to_string(), system.disko.display().to_string());
    let (host, digest) = (world.host()?, world.digest(&disko)?);
    let arguments = ["install", &host, "--closure", &toplevel, "--disko", &disko, "--yes", &digest, "--fresh"];
    let mut command = world.command(&[&arguments[..], &["--no-reboot", "--json"]].concat())?;
    let mut child = command.stdout(Stdio::piped()).spawn().context("starting cygnet")?;
    let mut lines = BufReader::new(child.stdout.take().context("taking cygnet's output")?).lines();
    let receiving = lines.by_ref().map_while(Result::ok).any(|line| line.contains("\"progress\""));
    ensure!(receiving, "cygnet sends nothing");
    let rest = std::thread::spawn(move || lines.map_while(Result::ok).last());
    world.pi()?.air().off()?;
    world.named("W09-AP-VANISHED")?;
    // The outage itself: there is nothing to wait for in it.
    std::thread::sleep(AWAY);
    ensure!(child.try_wait()?.is_none(), "cygnet has ended in the outage");
    world.pi()?.air().on()?;
    let status = child.wait().context("waiting for cygnet")?;
    let last = rest.join().ok().flatten().unwrap_or_default();
    ensure!(status.success(), "cygnet install ended with {status}: {last}");
    world.expect_state("installed").map(drop)
}
