//! One push, measured: a fresh store, a fresh sshd, a fresh link; and what came is compared with what was sent.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::closures::Given;
use super::link::{Link, Shape};
use super::ours::{Agent, Programs};
use super::server::{Keys, Server};
use super::usage::{Meter, Used};
use super::volume::Volume;
use super::ways::{self, Peer, Reach, Way, chroot_store};
use crate::host::run::{run, stdout_of, tail, tool, trace};

/// What all pushes share.
#[derive(Debug)]
pub struct Bench {
    /// Nix.
    pub peer: Peer,
    /// Ours; none if only the others are measured.
    pub ours: Option<Programs>,
    /// Keys of both ends.
    pub keys: Keys,
    /// Where everything is; big enough for the closures.
    pub room: PathBuf,
}

/// What was seen of one push.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Seen {
    /// Bytes that the client sent.
    pub bytes_up: u64,
    /// Bytes that it received.
    pub bytes_down: u64,
    /// Until the client had ended with success, seconds.
    pub wall_seconds: f64,
    /// Until all of it was on the disk, seconds.
    pub disk_seconds: f64,
    /// Each process that received.
    pub receivers: Vec<Used>,
    /// CPU time of sshd there, seconds; with the second push, if there was one.
    pub sshd_cpu_seconds: f64,
    /// Processes that wanted to run when it began, on average over a minute: others' work makes it slower.
    pub load: f64,
    /// Store paths that are there now with the right hash.
    pub paths_verified: usize,
    /// Both ways, when the same was pushed again, bytes; only for ours.
    pub bytes_again: Option<u64>,
    /// The card was offered.
    pub card: bool,
    /// Taken over from another closure: this way cannot use a card, and all else is the same.
    pub taken_over: bool,
}

impl Seen {
    /// CPU time of what received, without sshd, seconds.
    pub fn receiver_cpu(&self) -> f64 {
        self.receivers.iter().map(|used| used.cpu_seconds).sum()
    }

    /// CPU time of what received, with sshd, seconds: one way leaves to it what another does itself.
    pub fn all_cpu(&self) -> f64 {
        self.receiver_cpu() + self.sshd_cpu_seconds
    }

    /// All receivers' peaks, bytes.
    pub fn peak_rss(&self) -> u64 {
        self.receivers.iter().map(|used| used.peak_rss).sum()
    }

    /// Both ways.
    pub fn bytes(&self) -> u64 {
        self.bytes_up + self.bytes_down
    }
}

impl Bench {
    /// Pushes `given` by `way` over a link like `shape`. `card` is a store with [`Given::card`] in it.
    ///
    /// # Errors
    /// If the push fails, or what arrives is not what was sent.
    pub fn push(&self, way: Way, given: &Given, card: Option<&Path>, shape: Shape) -> Result<Seen> {
        let room = tempfile::Builder::new().prefix("push-").tempdir_in(&self.room).context("making room for a push")?;
        let room = room.path();
        let root = room.join("root");
        let _volume = Volume::mount(room, &root)?;
        let meter = Meter::new(&room.join("bin"))?;
        let server = Server::start(room, &self.keys)?;
        let link = Link::open(server.address(), shape)?;
        let port = link.address().port();
        let reach = Reach { port, keys: self.keys.clone(), known_hosts: self.keys.known_hosts(port)? };
        let paths =
            stdout_of(self.peer.command("nix-store")?.args(["--query", "--requisites"]).arg(&given.closure.toplevel))?;
        let paths: Vec<PathBuf> = paths.lines().map(PathBuf::from).collect();

        let toplevel = &given.closure.toplevel;
        let (agent, command) = match (way, &self.ours) {
            (Way::Ours, Some(programs)) => {
                let agent = Agent::start(programs, &meter, room, &root, card.filter(|_| programs.takes_card))?;
                let command = agent.push(programs, &self.peer, &reach, room, toplevel)?;
                (Some(agent), command)
            }
            (Way::Ours, None) => bail!("cygnet is not built"),
            _ => {
                let receivers = self.peer.receivers(&meter)?;
                (None, ways::peer(&self.peer, way, &reach, &receivers, &root, toplevel, &paths)?)
            }
        };
        let load = load();
        let before = link.bytes();
        let wall = client(command).with_context(|| format!("pushing by {}", way.title()))?;
        let after = link.bytes();
        let begin = Instant::now();
        run(tool("sync").arg("--file-system").arg(&root)).context("waiting for the disk")?;
        let disk = wall + begin.elapsed();
        let mut receivers = meter.read()?;
        if let Some(agent) = &agent {
            receivers.push(agent.used()?);
        }
        let bytes_again = match (&agent, &self.ours) {
            (Some(agent), Some(programs)) => {
                client(agent.push(programs, &self.peer, &reach, room, toplevel)?).context("pushing the same again")?;
                let again = link.bytes();
                Some(again.0 + again.1 - after.0 - after.1)
            }
            _ => None,
        };
        let sshd = server.finish()?;
        drop(agent);
        if way == Way::Ours {
            self.register(&root, &paths)?;
        }
        Ok(Seen {
            bytes_up: after.0 - before.0,
            bytes_down: after.1 - before.1,
            wall_seconds: wall.as_secs_f64(),
            disk_seconds: disk.as_secs_f64(),
            receivers,
            sshd_cpu_seconds: sshd.as_secs_f64(),
            load,
            paths_verified: self.verify(&root, toplevel, paths.len())?,
            bytes_again,
            card: way == Way::Ours && card.is_some() && self.ours.as_ref().is_some_and(|ours| ours.takes_card),
            taken_over: false,
        })
    }

    /// Makes a store with `paths` in it: what is on the card.
    ///
    /// # Errors
    /// If Nix fails.
    pub fn card(&self, paths: &[PathBuf], at: &Path) -> Result<()> {
        run(self.peer.command("nix")?.args(["copy", "--no-check-sigs", "--to", &chroot_store(at)]).args(paths))
            .context("making the card's store")
    }

    /// Tells the target's Nix what the sender's knows of the paths: an installation would, by the agent's journal.
    fn register(&self, root: &Path, paths: &[PathBuf]) -> Result<()> {
        let known = stdout_of(self.peer.command("nix-store")?.arg("--dump-db").args(paths))?;
        let file = root.with_file_name("registration");
        std::fs::write(&file, known).context("writing the registration")?;
        let input = std::fs::File::open(&file).context("opening the registration")?;
        run(self.peer.command("nix-store")?.args(["--load-db", "--store", &chroot_store(root)]).stdin(input))
            .context("registering what came")
    }

    /// Real Nix hashes every file of the target, and counts what belongs to the closure.
    fn verify(&self, root: &Path, toplevel: &Path, expected: usize) -> Result<usize> {
        let store = chroot_store(root);
        run(self.peer.command("nix-store")?.args(["--verify", "--check-contents", "--store", &store]))
            .context("verifying what came")?;
        let there = stdout_of(
            self.peer.command("nix-store")?.args(["--store", &store, "--query", "--requisites"]).arg(toplevel),
        )
        .context("counting what came")?;
        let count = there.lines().count();
        ensure!(count == expected, "{count} paths came of {expected}");
        Ok(count)
    }
}

/// Runs the client to its end; what it says is only shown if it fails.
fn client(mut command: Command) -> Result<Duration> {
    trace(&command);
    let begin = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("starting it")?;
    let mut said = String::new();
    if let Some(mut errors) = child.stderr.take() {
        errors.read_to_string(&mut said).context("reading what it says")?;
    }
    let status = child.wait().context("waiting for it")?;
    let took = begin.elapsed();
    ensure!(status.success(), "{status}; it said last:\n{}", tail(&said, 20));
    Ok(took)
}

/// proc_loadavg(5).
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default()
}
