//! The real `cygnet`, run from outside the Pi, inside its network.

use crate::host::run::trace;
use crate::pi::{Lan, Pi};
use anyhow::{Context, Result, ensure};
use cygnet_protocol::boot::environment::says;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// After so long without an answer the access point is restarted, as a person restarts a router: on a slow machine the simulated one
/// loses a station in the handshake that goes on to believe it is associated.
pub const KICK: Duration = Duration::from_secs(300);

/// How `cygnet` is run.
#[derive(Debug, Clone)]
pub struct Site {
    cygnet: PathBuf,
}

impl Site {
    /// With this binary.
    pub fn new(cygnet: &Path) -> Self {
        Self { cygnet: cygnet.to_owned() }
    }

    /// `cygnet` with the Pi's keys and these arguments; its output goes where ours goes.
    pub fn cygnet(&self, pi: &Pi, arguments: &[&str]) -> Command {
        let mut command = self.bare(pi, arguments);
        command.arg("-i").arg(pi.keys().identity()).arg("--known-hosts").arg(pi.keys().known_hosts());
        command
    }

    /// `cygnet` on the Pi's network, without its keys.
    pub fn bare(&self, pi: &Pi, arguments: &[&str]) -> Command {
        self.on(pi.lan(), arguments)
    }

    /// `cygnet` on a network, without anybody's keys.
    pub fn on(&self, lan: &Lan, arguments: &[&str]) -> Command {
        let mut command = lan.command(&self.cygnet.to_string_lossy());
        command
            .args(arguments)
            .args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"])
            .env_remove("CYGNET_AGENT_COMMAND")
            .env_remove("NIX_REMOTE")
            .stdin(Stdio::null());
        command
    }

    /// Runs it with its output shown; any exit code but 0 is an error.
    ///
    /// # Errors
    /// If it cannot be started or fails.
    pub fn show(&self, mut command: Command) -> Result<()> {
        let status = command.status().context("starting cygnet")?;
        ensure!(status.success(), "cygnet ended with {status}");
        Ok(())
    }

    /// Runs it to its end, whatever that is, and returns what it said.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn output(&self, mut command: Command) -> Result<Output> {
        trace(&command);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().context("starting cygnet")
    }

    /// Runs `cygnet install … --json` to its end. The Pi reboots by itself, with its card in; when its U-Boot begins the trial of
    /// what is on the SSD, `rebooted` is called. Returns the summary.
    ///
    /// # Errors
    /// If it fails, prints no summary, or the Pi can't be started again.
    pub fn install_through_reboot(
        &self,
        mut command: Command,
        pi: &mut Pi,
        rebooted: impl Fn(&Pi) -> Result<()>,
    ) -> Result<Value> {
        let mut child = command.stdout(Stdio::piped()).spawn().context("starting cygnet")?;
        let output = child.stdout.take().context("taking cygnet's output")?;
        let lines = std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).filter(|line| line.contains("\"summary\"")).last()
        });
        pi.let_it_reboot()?;
        let console = pi.serial()?.from_now_on();
        let mut started = None::<Instant>;
        let status = loop {
            if let Some(status) = child.try_wait().context("waiting for cygnet")? {
                break status;
            }
            ensure!(pi.is_on(), "the Pi went off:\n{}", console.last_lines());
            if started.is_none() && console.wait(says::TRIAL, Duration::ZERO).is_ok() {
                rebooted(pi)?;
                started = Some(Instant::now());
            } else if started.is_some_and(|since| since.elapsed() > KICK) {
                eprintln!("virtual Pi: nothing came through the air for {} s; once more", KICK.as_secs());
                rebooted(pi)?;
                started = Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        ensure!(status.success(), "cygnet install ended with {status}");
        ensure!(started.is_some(), "the Pi has not begun a trial");
        let summary = lines.join().ok().flatten().context("finding the summary in cygnet's output")?;
        serde_json::from_str(&summary).context("parsing cygnet's summary")
    }

    /// Runs it and parses the one object that it prints.
    ///
    /// # Errors
    /// If it fails or prints something else.
    pub fn json(&self, command: Command) -> Result<Value> {
        let output = self.output(command)?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "cygnet ended with {}:\n{out}{err}", output.status);
        serde_json::from_str(&out).with_context(|| format!("parsing what cygnet printed:\n{out}"))
    }
}
