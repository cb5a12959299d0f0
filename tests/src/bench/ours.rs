//! Our own way: an agent for this machine that only receives, and `cygnet push` to it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::server::mortal;
use super::usage::{self, Meter, Used, quoted};
use super::ways::{Peer, Reach};
use crate::host::run::{file_tail, stdout_of, tool};
use crate::workshop;

/// What the agent is built for.
const TARGET: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-musl" } else { "x86_64-unknown-linux-musl" };

/// How long the agent may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// The programs, built for this machine as they are built for users.
#[derive(Debug, Clone)]
pub struct Programs {
    agent: PathBuf,
    cygnet: PathBuf,
    /// The agent takes `--card DIR`: store paths that it has already.
    pub takes_card: bool,
}

impl Programs {
    /// Builds them below the target directory.
    ///
    /// # Errors
    /// If a build fails.
    pub fn build(target: &Path) -> Result<()> {
        eprintln!("bench: building cygnetd and cygnet for this machine, optimised");
        // With musl, as on the Pi: how much memory is used depends on who allocates it.
        crate::host::ensure_rust_target(TARGET)?;
        let agent = ["build", "--quiet", "--package", "cygnet-agent", "--profile", "agent", "--target", TARGET];
        workshop::cargo(target, &agent)?;
        workshop::cargo(target, &["build", "--quiet", "--package", "cygnet-cli", "--release"])
    }

    /// Finds them where [`Programs::build`] leaves them.
    ///
    /// # Errors
    /// If they aren't there, or don't start.
    pub fn find(target: &Path) -> Result<Programs> {
        let (agent, cygnet) = (target.join(TARGET).join("agent/cygnetd"), target.join("release/cygnet"));
        let help = stdout_of(tool(&agent).arg("--help"))?;
        if !help.contains("--receive-only") {
            bail!("this cygnetd can't receive without installing; it has no --receive-only");
        }
        stdout_of(tool(&cygnet).arg("--version"))?;
        Ok(Programs { agent, cygnet, takes_card: help.contains("--card") })
    }
}

/// A running agent; dropping it stops it.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    socket: PathBuf,
    bridge: PathBuf,
}

impl Agent {
    /// Starts one that receives into `root`, with its own files in `room`. `card` is a store that it has besides.
    ///
    /// # Errors
    /// If it doesn't listen in time; the error has the end of its log.
    pub fn start(programs: &Programs, meter: &Meter, room: &Path, root: &Path, card: Option<&Path>) -> Result<Agent> {
        let (socket, log) = (room.join("agent.sock"), room.join("agent.log"));
        let errors = std::fs::File::create(&log).context("creating the agent's log")?;
        let mut command = mortal(&programs.agent);
        command.args(["daemon", "--receive-only", "--socket"]).arg(&socket);
        command.arg("--state").arg(room.join("state")).arg("--target").arg(root);
        // Without one it would take this machine's own store, which has everything.
        let none = room.join("no-card");
        command.arg("--card").arg(card.unwrap_or(&none));
        let child = command.stdout(Stdio::null()).stderr(errors).spawn().context("starting cygnetd")?;
        let words = [programs.agent.as_path(), Path::new("bridge"), Path::new("--socket"), &socket];
        let words: Vec<String> = words.iter().map(|word| word.display().to_string()).collect();
        let bridge = meter.script("bridge", &[], &words)?;
        let mut agent = Agent { child, socket, bridge };
        let begin = Instant::now();
        while !agent.socket.exists() {
            if agent.child.try_wait().context("looking at cygnetd")?.is_some() || begin.elapsed() > PATIENCE {
                bail!("cygnetd does not listen; it said:\n{}", file_tail(&log, 10));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(agent)
    }

    /// `cygnet push`, with `nix` in its path as the peers have it.
    ///
    /// # Errors
    /// If the path for Nix can't be made.
    pub fn push(
        &self,
        programs: &Programs,
        peer: &Peer,
        reach: &Reach,
        room: &Path,
        toplevel: &Path,
    ) -> Result<Command> {
        let mut command = tool(&programs.cygnet);
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", sender_tools(peer, room)?.display());
        command.env_clear().env("PATH", path).env("HOME", room).env("LC_ALL", "C.UTF-8").envs(peer.environment());
        command.env("CYGNET_AGENT_COMMAND", quoted(&self.bridge.display().to_string()));
        command.args(["push", &reach.host(), "--json", "--closure"]).arg(toplevel);
        command.arg("-i").arg(reach.keys.identity()).arg("--known-hosts").arg(&reach.known_hosts);
        command.args(["-o", &format!("Port={}", reach.port)]);
        command.args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]);
        Ok(command)
    }

    /// What the daemon has used so far.
    ///
    /// # Errors
    /// If it is gone.
    pub fn used(&self) -> Result<Used> {
        usage::of_process("cygnetd", self.child.id())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `nix` and `nix-store` under their names, for a program that looks for them in PATH.
fn sender_tools(peer: &Peer, room: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = room.join("sender");
    std::fs::create_dir_all(&dir).context("creating a directory for Nix")?;
    for name in ["nix", "nix-store"] {
        let words: Vec<String> = peer.words(name)?.iter().map(|word| quoted(word)).collect();
        let file = dir.join(name);
        std::fs::write(&file, format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" "))).context("writing a script")?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).context("making it executable")?;
    }
    Ok(dir)
}
