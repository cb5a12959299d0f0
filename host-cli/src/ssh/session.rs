//! One ssh connection for everything: the first control channel is its master, the others ride on it.
//!
//! The master has no life of its own: when this process ends, even by SIGKILL, its stdin closes, the bridge at the other
//! end sees the end of its input, and ssh goes with it.

use super::classify::{Ending, explain};
use super::option;
use super::pin::{self, HostKey};
use super::target::Target;
use crate::error::{fault, quoted};
use crate::interrupt::{self, Master};
use anyhow::{Context, Result};
use cygnet_protocol::fault::{Fault, FaultCode};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// sun_path of unix(7) holds 104 bytes on macOS, and ssh appends 17 while it makes the socket.
const MAX_SOCKET: usize = 85;
/// How much of ssh's stderr is kept, bytes.
const MAX_STDERR: usize = 64 * 1024;

/// A connection to a Pi. Dropping it ends all of its channels.
#[derive(Debug)]
pub struct Session {
    target: Target,
    dir: TempDir,
    master: Master,
}

/// One command running on the Pi.
#[derive(Debug)]
pub struct Channel {
    child: Arc<Mutex<Child>>,
    stderr: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    target: Target,
    /// Of the connection.
    dir: PathBuf,
    command: String,
}

/// The pipes of a [`Channel`].
pub type Pipes = (ChildStdin, ChildStdout);

impl Session {
    /// Starts ssh; what comes of it shows on the pipes. `mode` is the first channel's.
    pub fn open(target: &Target, mode: &str) -> Result<(Self, Channel, Pipes)> {
        let dir = private_dir()?;
        let socket = dir.path().join("s");
        let master = Master { socket: socket.clone(), host: target.host.clone() };
        interrupt::remember(master.clone());
        let mut command = target.command();
        command.args(target.key_options()?);
        command.args(pin::recording_options(target, dir.path())?);
        command.args(["-o", "ControlMaster=yes", "-o", "ControlPersist=no"]);
        command.arg("-o").arg(format!("ControlPath={}", option::path(&socket)?));
        let remote = format!("{} {mode}", target.agent_command);
        command.args(["-T", "--", &target.host, &remote]);
        let session = Self { target: target.clone(), dir, master };
        let (channel, pipes) = Channel::spawn(command, &session, &remote)?;
        Ok((session, channel, pipes))
    }

    /// Another channel on the same connection.
    pub fn channel(&self, mode: &str) -> Result<(Channel, Pipes)> {
        let mut command = self.target.command();
        command.args(self.target.key_options()?);
        command.args(["-o", "ControlMaster=no"]);
        command.arg("-o").arg(format!("ControlPath={}", option::path(&self.master.socket)?));
        let remote = format!("{} {mode}", self.target.agent_command);
        command.args(["-T", "--", &self.target.host, &remote]);
        Channel::spawn(command, self, &remote)
    }

    /// The host key of this connection, where ssh tells it.
    pub fn host_key(&self) -> Option<HostKey> {
        pin::recorded(self.dir.path())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        interrupt::release(&self.master);
    }
}

impl Channel {
    fn spawn(mut command: Command, session: &Session, remote: &str) -> Result<(Self, Pipes)> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(no_ssh)?;
        let stdin = child.stdin.take().context("taking ssh's stdin")?;
        let stdout = child.stdout.take().context("taking ssh's stdout")?;
        let mut pipe = child.stderr.take().context("taking ssh's stderr")?;
        let stderr = Arc::new(Mutex::new(String::new()));
        let kept = stderr.clone();
        let reader = std::thread::Builder::new()
            .name("ssh-stderr".into())
            .spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    if kept.len() < MAX_STDERR {
                        kept.push_str(&String::from_utf8_lossy(&buffer[..count]));
                    }
                }
            })
            .context("starting a thread for ssh's stderr")?;
        let channel = Self {
            child: Arc::new(Mutex::new(child)),
            stderr,
            reader: Some(reader),
            target: session.target.clone(),
            dir: session.dir.path().to_owned(),
            command: remote.to_owned(),
        };
        Ok((channel, (stdin, stdout)))
    }

    /// Lets another thread end this channel.
    pub fn killer(&self) -> impl Fn() + Send + 'static {
        let child = self.child.clone();
        move || {
            // It has ended by itself, then.
            child.lock().unwrap_or_else(PoisonError::into_inner).kill().ok();
        }
    }

    /// Waits a moment for ssh to end, helps if it doesn't, and gives its exit code and its stderr.
    pub fn ending(&mut self) -> (Option<i32>, String) {
        let until = Instant::now() + Duration::from_secs(3);
        let mut exit = None;
        loop {
            let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            match child.try_wait() {
                Ok(Some(status)) => {
                    exit = status.code();
                    break;
                }
                Ok(None) if Instant::now() < until => {}
                Ok(None) | Err(_) => {
                    child.kill().ok();
                    child.wait().ok();
                    break;
                }
            }
            drop(child);
            std::thread::sleep(Duration::from_millis(10));
        }
        // A ProxyCommand may hold stderr open longer than ssh lives, so don't wait for its end for long.
        let until = Instant::now() + Duration::from_millis(500);
        while Instant::now() < until && self.reader.as_ref().is_some_and(|reader| !reader.is_finished()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        (exit, self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Why the agent never said hello; `stdout` is what came instead.
    pub fn explain(&mut self, stdout: &str) -> Fault {
        let (exit, stderr) = self.ending();
        let keys = self.target.keys(pin::recorded(&self.dir));
        explain(Ending { host: &self.target.given, command: &self.command, exit, stderr: &stderr, stdout, keys: &keys })
    }

    /// The connection broke in the middle of a conversation.
    pub fn lost(&mut self, why: &str) -> Fault {
        let (exit, stderr) = self.ending();
        let cause = match (stderr.trim().is_empty(), exit) {
            (false, _) => format!("{why}; {}", quoted("ssh says", &stderr)),
            (true, Some(code)) => format!("{why}; ssh ended with exit code {code}"),
            (true, None) => why.to_owned(),
        };
        Fault::new(
            FaultCode::ConnectionLost,
            format!("The connection to the agent on {} was lost.", self.target.given),
            cause,
            format!(
                "If an installation runs, it goes on by itself; look with `cygnet status {0}` and see it through by giving \
                 the same `cygnet install {0} …` again.",
                self.target.given
            ),
        )
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(child.try_wait(), Ok(Some(_))) {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn no_ssh(error: std::io::Error) -> anyhow::Error {
    fault(
        FaultCode::Unreachable,
        "The program ssh could not be started.",
        error.to_string(),
        "Install OpenSSH's client: `apt install openssh-client` on Debian.",
    )
}

/// A directory that only we can enter, with a path short enough for a socket.
fn private_dir() -> Result<TempDir> {
    let make = |parent: &Path| {
        tempfile::Builder::new()
            .prefix("cygnet-")
            .tempdir_in(parent)
            .with_context(|| format!("making a directory in {}", parent.display()))
    };
    let usual = std::env::temp_dir();
    // The prefix, six random characters, a slash and the socket's name.
    if usual.as_os_str().len() + "/cygnet-123456/s".len() <= MAX_SOCKET && option::path(&usual).is_ok() {
        return make(&usual);
    }
    make(Path::new("/tmp"))
}
