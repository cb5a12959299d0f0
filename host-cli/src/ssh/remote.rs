//! One command on the Pi over plain ssh, as root, with a limit to what it says and to how long it takes.
//!
//! It is the same with the card's agent and with the installed system, which has no agent.

use crate::ssh::Target;
use crate::ssh::classify::{Ending, explain};
use anyhow::{Context, Result, anyhow};
use std::io::{IsTerminal, Read};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

/// No such command takes longer.
const PATIENCE: Duration = Duration::from_secs(120);
/// The most that is read of its complaints, bytes.
const COMPLAINTS: u64 = 64 * 1024;

/// What a command has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// What it ended with; none of ssh's own failures.
    pub code: i32,
    /// Its output, without what a terminal would obey.
    pub out: String,
    /// Its complaints, likewise.
    pub err: String,
}

/// A command line that runs `command` as root, whoever logs in; sudo must not ask.
pub fn root_command(command: &str) -> String {
    let quoted = command.replace('\'', r"'\''");
    format!("if [ \"$(id -u)\" = 0 ]; then sh -c '{quoted}'; else sudo -n sh -c '{quoted}'; fi")
}

/// Runs `command` as root there, whoever logs in; sudo must not ask. No more than `most` bytes of its output are read.
///
/// # Errors
/// If ssh can't be started, nobody answers, or it takes too long.
pub fn as_root(target: &Target, command: &str, most: u64) -> Result<Said> {
    let remote = root_command(command);
    let mut ssh = target.command_with(&target.key_options()?);
    if !std::io::stdin().is_terminal() {
        ssh.args(["-o", "BatchMode=yes"]);
    }
    ssh.args(["-T", "--", &target.host, &remote]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = ssh.spawn().context("starting ssh")?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let child = Arc::new(Mutex::new(child));
    let (done, waits) = mpsc::channel::<()>();
    let watched = Arc::clone(&child);
    let watch = std::thread::spawn(move || {
        let late = waits.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            kill(&watched);
        }
        late
    });
    let complaints = std::thread::spawn(move || bounded(stderr, COMPLAINTS));
    let out = bounded(stdout, most);
    if out.len() as u64 >= most {
        // What it goes on to say is not wanted.
        kill(&child);
    }
    let err = complaints.join().unwrap_or_default();
    let code = loop {
        // Not held while it waits, so that the watch can end it.
        let ended = child.lock().unwrap_or_else(PoisonError::into_inner).try_wait().context("waiting for ssh")?;
        match ended {
            Some(status) => break status.code(),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    drop(done);
    if watch.join().unwrap_or(false) {
        return Err(anyhow!("{} has not answered within {} s", target.given, PATIENCE.as_secs()));
    }
    match code {
        Some(255) => {
            let keys = target.keys(None);
            let ending =
                Ending { host: &target.given, command: &remote, exit: code, stderr: &err, stdout: "", keys: &keys };
            Err(explain(ending).into())
        }
        // Killed by us, as it has said enough.
        None => Ok(Said { code: 0, out: printable(&out), err: printable(&err) }),
        Some(code) => Ok(Said { code, out: printable(&out), err: printable(&err) }),
    }
}

fn kill(child: &Mutex<Child>) {
    let _ = child.lock().unwrap_or_else(PoisonError::into_inner).kill();
}

fn bounded(source: Option<impl Read>, most: u64) -> String {
    let mut bytes = Vec::new();
    if let Some(source) = source {
        // What was read before an error counts.
        let _ = source.take(most).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn printable(text: &str) -> String {
    cygnet_protocol::text::lines(text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_has_a_limit_and_is_harmless() {
        assert_eq!(bounded(Some(&b"abcdef"[..]), 4), "abcd");
        assert_eq!(bounded(None::<&[u8]>, 4), "");
        assert_eq!(printable("a\x1b[2J\nb\n"), "a\u{fffd}[2J\nb");
    }
}
