//! Whoever is cut off in the middle finds everything in order again: the host's program, the agent, the whole Pi. All begin in
//! the middle of a push whose most is there already, so that a cut costs seconds.

use super::failures::{is_free, verify_store};
use super::{BOOT, SSD, Scenario, State, World};
use crate::closure::Variant;
use crate::patience;
use crate::pi::disk::Disk;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("cut-abort", "an abort in the middle of the push", State::MiddleOfPush, abort),
    Scenario::new("cut-cli", "the host's program killed in the middle of the push", State::MiddleOfPush, killed_cli),
    Scenario::new(
        "cut-push",
        "`push` sends the rest, the agent sees it through by itself, `logs` tells it",
        State::MiddleOfPush,
        push_the_rest,
    ),
    Scenario::new(
        "cut-agent",
        "the agent killed in the middle; the same command sees it through",
        State::MiddleOfPush,
        killed_agent,
    ),
    Scenario::new(
        "cut-power",
        "the power cut in the middle; after the next boot it goes on",
        State::MiddleOfPush,
        power_cut,
    )
    .makes(State::AfterPowerCut),
    Scenario::new(
        "cut-other-disk",
        "another disk that calls itself the same is not gone on with, nor written to",
        State::AfterPowerCut,
        other_disk,
    ),
    Scenario::new("cut-finish", "the same command finishes it, and the store is whole", State::AfterPowerCut, finish),
];

/// Of the 600 MB of the closure's long path so many bytes are there when scenarios begin. Syncs have happened by then.
const MOST: u64 = 440 << 20;
/// So many more come before something is cut, bytes.
const SOME: u64 = 25 << 20;
const PATIENCE: Duration = patience::WORK;

/// Starts `install` of the huge closure with this digest, and waits until so many bytes more of it are there.
fn begin(world: &mut World, digest: &str, more: u64) -> Result<Child> {
    let huge = world.closure(Variant::TinyHuge)?;
    let (toplevel, disko) = (huge.toplevel.display().to_string(), huge.disko.display().to_string());
    let host = world.host()?;
    let status = world.status()?;
    let goes_on = status["job"]["digest"] == digest;
    let before = if goes_on { status["job"]["bytes-done"].as_u64().unwrap_or(0) } else { 0 };
    let mut command = world.command(&[
        "install",
        &host,
        "--closure",
        &toplevel,
        "--disko",
        &disko,
        "--yes",
        digest,
        "--no-reboot",
        "--json",
    ])?;
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("starting cygnet")?;
    let output = child.stdout.take().context("taking cygnet's output")?;
    let (tell, arrived) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            let received = event["event"] == "progress" && event["phase"] == "receive";
            if received && event["done"].as_u64().unwrap_or(0) >= before + more {
                let _ = tell.send(());
            }
        }
    });
    match arrived.recv_timeout(PATIENCE) {
        Ok(()) => Ok(child),
        Err(why) => {
            let _ = child.kill();
            let output = child.wait_with_output().context("waiting for cygnet")?;
            bail!("the push did not get far enough ({why}):\n{}", String::from_utf8_lossy(&output.stderr))
        }
    }
}

/// Runs `install` to its end.
fn see_through(world: &mut World, digest: &str) -> Result<()> {
    let huge = world.closure(Variant::TinyHuge)?;
    let (toplevel, disko) = (huge.toplevel.display().to_string(), huge.disko.display().to_string());
    let host = world.host()?;
    world
        .expect(&["install", &host, "--closure", &toplevel, "--disko", &disko, "--yes", digest, "--no-reboot"], 0, &[])
        .map(drop)
}

fn job(world: &mut World) -> Result<String> {
    world.status()?["job"]["digest"].as_str().map(str::to_owned).context("finding the job's digest")
}

/// Pushes the most of the huge closure, and kills the sender.
pub(super) fn middle_of_push(world: &mut World) -> Result<()> {
    let disko = crate::closure::layout().display().to_string();
    let digest = world.digest(&disko)?;
    let mut child = begin(world, &digest, MOST)?;
    child.kill().context("killing cygnet")?;
    child.wait().context("waiting for cygnet")?;
    world.expect_state("receiving").map(drop)
}

fn abort(world: &mut World) -> Result<()> {
    let digest = job(world)?;
    let mut child = begin(world, &digest, SOME)?;
    let host = world.host()?;
    world.expect(&["abort", &host, "--yes"], 0, &[])?;
    let status = child.wait().context("waiting for cygnet install")?;
    ensure!(status.code() == Some(37), "the aborted install ended with {status}");
    world.expect_state("failed")?;
    is_free(world)
}

fn killed_cli(world: &mut World) -> Result<()> {
    let digest = job(world)?;
    let mut child = begin(world, &digest, SOME)?;
    child.kill().context("killing cygnet")?;
    child.wait().context("waiting for cygnet")?;
    // The agent waits for somebody to go on.
    let status = world.expect_state("receiving")?;
    ensure!(status["job"]["paths-done"].as_u64().unwrap_or(0) > 0, "nothing was kept: {status}");
    Ok(())
}

fn push_the_rest(world: &mut World) -> Result<()> {
    let huge = world.closure(Variant::TinyHuge)?.toplevel.display().to_string();
    let host = world.host()?;
    let mut follower = world.command(&["logs", &host, "--follow", "--json"])?;
    let mut follower = follower.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("starting cygnet logs")?;
    let followed = follower.stdout.take().context("taking its output")?;
    let followed = std::thread::spawn(move || {
        // To the line that says that it is over; a log that never says so ends with the program.
        BufReader::new(followed).lines().map_while(Result::ok).any(|line| line.contains("\"installed\""))
    });
    let out = world.expect(&["push", &host, "--closure", &huge, "--json"], 0, &[])?;
    // Before it are lines of progress.
    let last = out.lines().last().unwrap_or_default();
    let pushed: serde_json::Value = serde_json::from_str(last).context("parsing what push printed")?;
    ensure!(pushed["sent"]["paths-sent"].as_u64().unwrap_or(0) > 0, "nothing was sent: {pushed}");
    let deadline = Instant::now() + PATIENCE;
    while world.status()?["state"]["state"] != "installed" {
        ensure!(Instant::now() < deadline, "the agent did not see it through");
        std::thread::sleep(Duration::from_secs(1));
    }
    let told = Instant::now();
    while !followed.is_finished() && told.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(100));
    }
    follower.kill().context("stopping cygnet logs")?;
    follower.wait().context("waiting for cygnet logs")?;
    ensure!(followed.join().unwrap_or(false), "`logs --follow` did not tell of the end");
    let log = world.expect(&["logs", &host, "--json"], 0, &[])?;
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line).with_context(|| format!("parsing {line}"))?;
    }
    ensure!(log.contains("\"phase\":\"export\"") && log.contains("phase-finished"), "the log lacks the end:\n{log}");
    is_free(world)
}

fn killed_agent(world: &mut World) -> Result<()> {
    let digest = job(world)?;
    let mut child = begin(world, &digest, SOME)?;
    world.pi()?.sh("systemctl kill --signal=KILL cygnetd")?;
    // cygnet comes back by itself, and the new agent goes on from its journal.
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().context("waiting for cygnet")? {
            break status;
        }
        ensure!(Instant::now() < deadline, "cygnet did not end");
        std::thread::sleep(Duration::from_millis(200));
    };
    ensure!(status.success(), "cygnet ended with {status} although the agent came back");
    world.expect_state("installed")?;
    is_free(world)
}

pub(super) fn power_cut(world: &mut World) -> Result<()> {
    let digest = job(world)?;
    let mut child = begin(world, &digest, SOME)?;
    let pi = world.pi()?;
    pi.power_cut();
    let _ = child.kill();
    child.wait().context("waiting for cygnet")?;
    pi.power_on()?;
    pi.wait_ssh(BOOT)?;
    world.wait_for_agent()?;
    let status = world.expect_state("interrupted")?;
    ensure!(status["job"]["resumable"] == true, "it cannot be gone on with: {status}");
    ensure!(status["job"]["digest"] == digest.as_str(), "another job: {status}");
    Ok(())
}

/// Some USB adapters give every disk the same serial number.
fn other_disk(world: &mut World) -> Result<()> {
    let digest = job(world)?;
    let tiny = world.closure(Variant::Tiny)?;
    let (toplevel, disko) = (tiny.toplevel.display().to_string(), tiny.disko.display().to_string());
    let pi = world.pi()?;
    pi.power_cut();
    let blank = Disk::blank(SSD, pi.dir().join("other.img"), 4 << 30)?;
    *pi.ssd(SSD)? = blank;
    pi.power_on()?;
    pi.wait_ssh(BOOT)?;
    world.wait_for_agent()?;
    let host = world.host()?;
    let install = ["install", &host, "--closure", &toplevel, "--disko", &disko, "--yes", &digest, "--no-reboot"];
    world.expect(&install, 19, &["partition table"])?;
    world.expect_untouched(SSD)?;
    world.expect_blank(SSD)
}

fn finish(world: &mut World) -> Result<()> {
    let digest = job(world)?;
    see_through(world, &digest)?;
    world.expect_state("installed")?;
    is_free(world)?;
    verify_store(world)?;
    let host = world.host()?;
    world.expect(&["reboot", &host, "--yes"], 0, &[])?;
    world.pi()?.wait_off(PATIENCE).context("waiting for the Pi to go down for its reboot")
}
