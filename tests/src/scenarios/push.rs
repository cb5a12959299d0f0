//! How a closure gets there: what was acknowledged is never sent again, and what the card has is not sent at all.
//!
//! What goes over is counted twice: by `cygnet` itself, and by the kernel, on the virtual cable that leads to the Pi.

use super::failures::{is_free, verify_store};
use super::{BOOT, Scenario, State, World, installing};
use crate::closure::nix::Nix;
use crate::closure::{Closure, Variant};
use crate::host::run::{stdout_of, tool};
use crate::patience;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "push-resume",
        "four cuts in the middle of one long path: nothing that is acknowledged is sent again",
        State::Waiting,
        resume,
    ),
    Scenario::new(
        "push-patch",
        "what is like a path on the card is sent as a patch against that",
        State::Waiting,
        patch,
    ),
    Scenario::new(
        "push-card",
        "what the card's own store has is copied, unless it is damaged there",
        State::Waiting,
        card,
    ),
];

const PATIENCE: Duration = patience::WORK;
/// How often it is looked whether it is time for a cut.
const TICK: Duration = Duration::from_millis(200);
/// How much is unpacked between two cuts whose moment does not depend on the agent's notes, bytes.
const LEG: u64 = 10 << 20;
/// The agent notes so much of a long path at a time, bytes.
const NOTE: u64 = 64 << 20;
/// What may be lost in a cut, bytes on the cable: pipes, ssh's and TCP's windows. Less than the decoder's, which gives what it has at once.
const UNDER_WAY: u64 = 24 << 20;
/// What may come while the bytes of a note are brought to the disk, bytes: they are noted after that.
const SYNC: u64 = 20 << 20;
/// What a push may cost that has nothing to send, bytes on the cable: ssh's handshake, the agent's greeting, one question.
const HANDSHAKE: u64 = 64 << 10;

/// `cygnet`, while it runs.
pub struct Running {
    child: Child,
    said: Arc<Mutex<Vec<Value>>>,
    readers: Vec<JoinHandle<String>>,
}

impl Running {
    /// Starts it; it should be told `--json`.
    pub fn start(world: &mut World, arguments: &[&str]) -> Result<Self> {
        let mut command = world.command(arguments)?;
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("starting cygnet")?;
        let output = child.stdout.take().context("taking cygnet's output")?;
        let mut errors = child.stderr.take().context("taking cygnet's errors")?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let values = said.clone();
        let lines = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Ok(value) = serde_json::from_str(&line) {
                    values.lock().unwrap_or_else(PoisonError::into_inner).push(value);
                }
            }
            String::new()
        });
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            // What came until then is told.
            let _ = errors.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self { child, said, readers: vec![lines, errors] })
    }

    /// Fails if it has ended by itself.
    fn must_run(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait().context("looking at cygnet")? else { return Ok(()) };
        bail!("cygnet ended too early, with {status}:\n{}", self.told())
    }

    fn told(&mut self) -> String {
        self.readers.drain(..).filter_map(|reader| reader.join().ok()).collect()
    }

    /// Presses Ctrl-C.
    fn interrupt(&self) -> Result<()> {
        let status = tool("kill").args(["-INT", &self.child.id().to_string()]).status().context("starting kill")?;
        ensure!(status.success(), "cygnet could not be interrupted");
        Ok(())
    }

    /// Waits for its end and gives its exit code, all that it has said as JSON, and its stderr.
    pub fn end(mut self) -> Result<(Option<i32>, Vec<Value>, String)> {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().context("waiting for cygnet")? {
                break status;
            }
            ensure!(Instant::now() < deadline, "cygnet does not end");
            std::thread::sleep(TICK);
        };
        let told = self.told();
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok((status.code(), said, told))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The account of an installation or a push.
pub fn summary(said: &[Value]) -> Result<&Value> {
    let summary = said.iter().find(|value| value["type"] == "summary").context("there is no summary")?;
    Ok(&summary["sent"])
}

/// One number of it.
pub fn number(sent: &Value, name: &str) -> Result<u64> {
    sent[name].as_u64().with_context(|| format!("there is no {name}: {sent}"))
}

/// Whether it was warned with these words.
pub fn warned(said: &[Value], words: &str) -> bool {
    let is =
        |value: &Value| value["event"] == "warning" && value["text"].as_str().is_some_and(|text| text.contains(words));
    said.iter().any(is)
}

/// NAR sizes of the paths of a closure, bytes.
pub fn sizes(world: &World, closure: &Closure) -> Result<HashMap<PathBuf, u64>> {
    let nix = Nix::new(&world.settings.cache)?;
    let paths = nix.closure(&closure.toplevel)?;
    let sizes = stdout_of(nix.command("nix-store").args(["--query", "--size"]).args(&paths))?;
    let sizes: Vec<u64> =
        sizes.split_whitespace().map(str::parse).collect::<Result<_, _>>().context("reading sizes")?;
    ensure!(sizes.len() == paths.len(), "{} sizes for {} paths", sizes.len(), paths.len());
    Ok(paths.into_iter().zip(sizes).collect())
}

/// What the kernel has counted on the cable to the Pi so far, bytes.
fn traffic(world: &mut World) -> Result<u64> {
    let pi = world.pi()?;
    let said = stdout_of(tool("ip").args(["-n", pi.lan().name(), "-s", "-j", "link", "show", &pi.port().tap]))?;
    let said: Value = serde_json::from_str(&said).context("parsing what ip says")?;
    said[0]["stats64"]["tx"]["bytes"].as_u64().with_context(|| format!("finding the count: {said}"))
}

/// NAR bytes of these paths that the agent has noted as being on the disk, those of unfinished ones among them.
fn acknowledged(world: &mut World, own: &HashMap<PathBuf, u64>) -> Result<u64> {
    let journal = world.pi()?.sh("grep -a -v '\"record\":\"begin\"' /var/lib/cygnet/journal.jsonl || true")?;
    let mut paths: HashMap<PathBuf, u64> = HashMap::new();
    for line in journal.lines() {
        // The last line may be half-written.
        let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
        let bytes = match record["record"].as_str() {
            Some("path") => &record["nar-size"],
            Some("part") => &record["bytes"],
            _ => continue,
        };
        let path = PathBuf::from(record["path"].as_str().context("a record has no path")?);
        if !own.contains_key(&path) {
            continue;
        }
        paths.insert(path, bytes.as_u64().with_context(|| format!("a record has no size: {line}"))?);
    }
    Ok(paths.values().sum())
}

/// Waits until so many bytes more are acknowledged, and gives how many are.
fn wait_for_notes(
    world: &mut World,
    own: &HashMap<PathBuf, u64>,
    cygnet: Option<&mut Running>,
    least: u64,
) -> Result<u64> {
    let mut cygnet = cygnet;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = acknowledged(world, own)?;
        if now >= least {
            return Ok(now);
        }
        if let Some(cygnet) = &mut cygnet {
            cygnet.must_run()?;
        }
        ensure!(Instant::now() < deadline, "{now} bytes were noted after {PATIENCE:?}, not {least}");
        std::thread::sleep(TICK);
    }
}

/// Waits until the agent has unpacked so many bytes, as far as `cygnet` has heard.
fn wait_for_progress(cygnet: &mut Running, least: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = cygnet.said.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |event: &Value| {
            (event["event"] == "progress" && event["phase"] == "receive").then(|| event["done"].as_u64())
        };
        let now = said.iter().rev().find_map(of).flatten().unwrap_or_default();
        drop(said);
        if now >= least {
            return Ok(());
        }
        cygnet.must_run()?;
        ensure!(Instant::now() < deadline, "{now} bytes were unpacked after {PATIENCE:?}, not {least}");
        std::thread::sleep(TICK);
    }
}

fn resume(world: &mut World) -> Result<()> {
    let long = world.closure(Variant::TinyLong)?;
    let (toplevel, disko) = (long.toplevel.display().to_string(), long.disko.display().to_string());
    let host = world.host()?;
    let digest = world.digest(&disko)?;
    let install = installing(&host, &toplevel, &disko, &digest, &["--json"]);
    let again: Vec<&str> = install.iter().copied().filter(|argument| *argument != "--fresh").collect();
    let own = sizes(world, &long)?;
    let begin = traffic(world)?;

    // Ctrl-C.
    let mut cygnet = Running::start(world, &install)?;
    wait_for_progress(&mut cygnet, 6 * LEG)?;
    cygnet.interrupt()?;
    let (code, _, told) = cygnet.end()?;
    ensure!(code == Some(130) && told.contains("waits for the rest"), "{code:?} after Ctrl-C:\n{told}");
    let first = wait_for_notes(world, &own, None, 5 * LEG)?;
    let sent = traffic(world)? - begin;
    ensure!(sent < first + UNDER_WAY, "{sent} bytes were sent, and {first} are kept");
    world.expect_state("receiving")?;
    second_push(world)?;
    let first = acknowledged(world, &own)?.max(first);

    // The connection goes away; the same command comes back by itself.
    let since = traffic(world)?;
    let mut cygnet = Running::start(world, &again)?;
    wait_for_progress(&mut cygnet, first + LEG)?;
    // The shell that runs the bridge is a child of the session.
    world
        .pi()?
        .sh("kill -KILL $(ps -o ppid= -p $(pgrep -of '[c]ygnetd bridge data'))")
        .context("killing sshd's session")?;
    let second = wait_for_notes(world, &own, Some(&mut cygnet), first + LEG / 2)?;
    let at_second = traffic(world)?;
    ensure!(at_second - since < second - first + UNDER_WAY, "{} bytes, {first} to {second}", at_second - since);

    // The agent dies; its unit starts it again, and the same command still goes on.
    let third = wait_for_notes(world, &own, Some(&mut cygnet), second + NOTE / 2)?;
    let at_third = traffic(world)?;
    world.pi()?.sh("systemctl kill --signal=KILL cygnetd")?;
    let sent = at_third - at_second;
    ensure!(sent < third - second + UNDER_WAY + SYNC, "{sent} bytes after a lost connection, {second} to {third}");

    // The power goes right after the next note.
    let fourth = wait_for_notes(world, &own, Some(&mut cygnet), third + NOTE / 2)?;
    let sent = traffic(world)? - at_third;
    world.pi()?.power_cut();
    drop(cygnet);
    ensure!(sent < fourth - third + UNDER_WAY + 2 * SYNC, "{sent} bytes after the agent's end, {third} to {fourth}");
    let pi = world.pi()?;
    pi.power_on()?;
    pi.wait_ssh(BOOT)?;
    world.wait_for_agent()?;
    world.expect_state("interrupted")?;
    let kept = acknowledged(world, &own)?;
    ensure!(kept >= fourth, "{fourth} bytes were noted, and after the power cut they are {kept}");

    let (code, said, told) = Running::start(world, &again)?.end()?;
    ensure!(code == Some(0), "{code:?}:\n{told}");
    let rest = number(summary(&said)?, "nar-bytes")?;
    ensure!(rest == long.nar_size - kept, "{rest} bytes were sent of {}, of which {kept} were kept", long.nar_size);
    let sent = traffic(world)? - begin;
    eprintln!(
        "resume: kept {first}, {second}, {third}, {fourth}, then sent {rest}; all in all {sent} bytes on the cable for {}",
        long.nar_size
    );
    ensure!(sent < long.nar_size + 4 * UNDER_WAY + 2 * SYNC, "{sent} bytes were sent for {}", long.nar_size);
    world.expect_state("installed")?;
    is_free(world)?;
    verify_store(world)
}

/// Pushes another system beside the unfinished one, twice: the second time there is nothing to send.
fn second_push(world: &mut World) -> Result<()> {
    let other = world.own_closure("pi-beside")?;
    let (toplevel, host) = (other.toplevel.display().to_string(), world.host()?);
    let mut push = || -> Result<(Value, u64)> {
        let before = traffic(world)?;
        let out = world.expect(&["push", &host, "--closure", &toplevel, "--json"], 0, &[])?;
        // Before it are lines of progress.
        let last = out.lines().last().unwrap_or_default();
        let said: Value = serde_json::from_str(last).context("parsing what push says")?;
        Ok((summary(&[said])?.clone(), traffic(world)? - before))
    };
    let (sent, _) = push()?;
    ensure!(number(&sent, "paths-sent")? > 0, "nothing was sent: {sent}");
    let (sent, bytes) = push()?;
    for name in ["paths-sent", "nar-bytes", "wire-bytes"] {
        ensure!(number(&sent, name)? == 0, "the second push sends something: {sent}");
    }
    ensure!(number(&sent, "paths-skipped")? == other.paths as u64, "not all of it is there: {sent}");
    eprintln!("resume: a push that has nothing to send takes {bytes} bytes on the cable");
    ensure!(bytes < HANDSHAKE, "a push that has nothing to send takes {bytes} bytes on the cable");
    Ok(())
}

fn card(world: &mut World) -> Result<()> {
    let closure = world.own_closure("pi-card")?;
    let (toplevel, disko) = (closure.toplevel.display().to_string(), closure.disko.display().to_string());
    let host = world.host()?;
    let sizes = sizes(world, &closure)?;
    let there: Vec<&PathBuf> = sizes.keys().filter(|path| **path != closure.toplevel).collect();
    let is_kernel = |path: &&&PathBuf| path.to_string_lossy().ends_with("-linux-none");
    let bad = there.iter().find(is_kernel).context("finding the kernel in the closure")?;
    give_to_card(world, &there)?;
    // One bit of one file, behind Nix's back.
    let file = bad.join("Image").display().to_string();
    world.pi()?.sh(&format!(
        "nix-store --verify --check-contents && chmod u+w {file} && printf X | dd of={file} bs=1 count=1 conv=notrunc && \
         chmod a-w {file} && sync"
    ))?;
    let digest = world.digest(&disko)?;
    let install = installing(&host, &toplevel, &disko, &digest, &["--json"]);
    let (code, said, told) = Running::start(world, &install)?.end()?;
    ensure!(code == Some(0), "{code:?}:\n{told}");
    let size = |path: &PathBuf| sizes.get(path).copied().unwrap_or_default();
    let from_card = sizes.values().sum::<u64>() - size(&closure.toplevel) - size(bad);
    let sent = summary(&said)?;
    let expected = [
        ("paths-from-card", sizes.len() as u64 - 2),
        ("bytes-from-card", from_card),
        ("paths-sent", 2),
        ("paths-skipped", 0),
        ("nar-bytes", size(&closure.toplevel) + size(bad)),
    ];
    for (name, expected) in expected {
        ensure!(number(sent, name)? == expected, "{name} should be {expected}: {sent}");
    }
    ensure!(warned(&said, "on the card is not what its database says"), "nobody said that a path is damaged");
    world.expect_state("installed")?;
    is_free(world)?;
    verify_store(world)
}

fn patch(world: &mut World) -> Result<()> {
    let old = world.closure_of(Variant::TinyTwin, "pi-old")?;
    let new = world.closure_of(Variant::TinyTwin, "pi-new")?;
    let (toplevel, disko) = (new.toplevel.display().to_string(), new.disko.display().to_string());
    let host = world.host()?;
    let (old, new) = (sizes(world, &old)?, sizes(world, &new)?);
    // The toplevel's name ends so, too.
    let is_twin = |path: &&PathBuf| path.to_string_lossy().split_once('-').is_some_and(|(_, name)| name == "twin");
    let twin = new.keys().find(is_twin).context("finding the twin in the closure")?;
    ensure!(!old.contains_key(twin), "both closures have {}", twin.display());
    give_to_card(world, &old.keys().collect::<Vec<_>>())?;
    let digest = world.digest(&disko)?;
    let install = installing(&host, &toplevel, &disko, &digest, &["--json"]);
    let (code, said, told) = Running::start(world, &install)?.end()?;
    ensure!(code == Some(0), "{code:?}:\n{told}");
    let sent = summary(&said)?;
    let from_card = new.keys().filter(|path| old.contains_key(*path)).count() as u64;
    let size = new.get(twin).copied().unwrap_or_default();
    for (name, expected) in [("paths-from-card", from_card), ("patched-paths", 1), ("patched-bytes", size)] {
        ensure!(number(sent, name)? == expected, "{name} should be {expected}: {sent}");
    }
    let wire = number(sent, "wire-bytes")?;
    ensure!(wire < size / 100, "{wire} bytes for {size} that differ in a line: {sent}");
    world.expect_state("installed")?;
    is_free(world)?;
    verify_store(world)
}

/// Has the card's own Nix import paths from this host's store.
fn give_to_card(world: &mut World, paths: &[&PathBuf]) -> Result<()> {
    let nix = Nix::new(&world.settings.cache)?;
    let pi = world.pi()?;
    let mut copy: Command = pi.command("sh");
    let script = "paths=$1; shift; nix-store --export $paths | ssh \"$@\" nix-store --import";
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    copy.args(["-c", script, "sh", &paths.join(" ")]).args(pi.keys().options()).arg(format!("root@{}", pi.address()));
    copy.envs(nix.environment()).env_remove("NIX_REMOTE").env_remove("NIX_CONFIG");
    stdout_of(&mut copy).context("giving store paths to the card").map(drop)
}
