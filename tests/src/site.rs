//! The real `cygnet`, run from outside the Pi, inside its network.

use crate::pi::Pi;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

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
        let mut command = pi.command(&self.cygnet.to_string_lossy());
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
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().context("starting cygnet")
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
