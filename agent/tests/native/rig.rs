//! A daemon in namespaces of its own, and clients that reach it as sshd's children do.

use cygnet_protocol::frame;
use cygnet_protocol::message::{Hello, Reply, Request, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The program under test.
pub const CYGNETD: &str = env!("CARGO_BIN_EXE_cygnetd");
/// How long anything may take before the test fails; nothing here waits for it to pass.
pub const LIMIT: Duration = Duration::from_secs(120);
/// What systemd would ask for. A third of it is how often the daemon shows that it lives.
pub const WATCHDOG: Duration = Duration::from_secs(6);

/// What the daemon keeps, and where it listens.
pub struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.at("run/agent.sock")
    }

    pub fn journal(&self) -> PathBuf {
        self.at("state/journal.jsonl")
    }

    /// The daemon's command. The strict umask is what our systemd unit gives it.
    pub fn daemon(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "umask 077; exec \"$@\"", "sh", "unshare", "--net", "--mount"]);
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--", CYGNETD, "daemon", "--socket"]).arg(self.socket());
        command.arg("--state").arg(self.at("state")).arg("--target").arg(self.at("mnt"));
        command.stdin(Stdio::null()).env_remove("NOTIFY_SOCKET");
        command
    }

    /// Starts the daemon and waits until it tells systemd that it is ready.
    pub fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    /// The same, with stand-ins for tools in this directory: a script each.
    pub fn start_on(&self, tools: &[(&str, &str)]) -> Daemon {
        let directory = self.at("tools");
        std::fs::create_dir_all(&directory).unwrap();
        for (name, script) in tools {
            let path = directory.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = self.daemon();
        command.env("PATH", path);
        self.start_by(command)
    }

    /// The same with more arguments.
    pub fn start_with(&self, arguments: &[&OsStr]) -> Daemon {
        let mut command = self.daemon();
        command.args(arguments);
        self.start_by(command)
    }

    fn start_by(&self, mut command: Command) -> Daemon {
        let notify = self.at("notify");
        let _ = std::fs::remove_file(&notify);
        let notifications = listen(UnixDatagram::bind(&notify).unwrap());
        let log = std::fs::File::create(self.at("log")).unwrap();
        let child = command
            .env("NOTIFY_SOCKET", &notify)
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sh and unshare (util-linux) are needed");
        let mut daemon = Daemon { child, notifications, log: self.at("log") };
        daemon.notified("READY=1");
        daemon
    }

    /// A bridge for a channel, connected to nothing of ours yet but its pipes.
    pub fn bridge(&self, channel: &str) -> Client {
        self.bridge_with(&[channel])
    }

    /// The same with these words.
    pub fn bridge_with(&self, words: &[&str]) -> Client {
        Client::start(Command::new(CYGNETD).arg("bridge").arg("--socket").arg(self.socket()).args(words))
    }

    /// A client of the control channel that has greeted and was greeted.
    pub fn client(&self) -> Client {
        let mut client = self.bridge("control");
        let hello: Hello = client.hear();
        assert_eq!(hello.agree(&hello), Ok(1));
        client.say(&Hello::ours("test"));
        client
    }
}

/// Hears all notifications, as systemd does: a socket holds ten, and then the daemon waits.
fn listen(socket: UnixDatagram) -> Receiver<String> {
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let (tell, notifications) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            // Nothing for a second is told as nothing: so the thread notices that nobody listens any more.
            let count = socket.recv(&mut buffer).unwrap_or(0);
            if tell.send(String::from_utf8_lossy(&buffer[..count]).into_owned()).is_err() {
                return;
            }
        }
    });
    notifications
}

/// A running daemon; its end is the end of this.
pub struct Daemon {
    child: Child,
    notifications: Receiver<String>,
    log: PathBuf,
}

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of sd_notify(3).
    pub fn notified(&mut self, line: &str) {
        let begin = Instant::now();
        while begin.elapsed() < LIMIT {
            // A time-out only leads to another look whether the daemon still runs.
            let said = self.notifications.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
            if !said.is_empty() {
                if said.lines().any(|text| text == line) {
                    return;
                }
            } else if let Some(status) = self.child.try_wait().unwrap() {
                panic!(
                    "the daemon ended ({status}) before {line}. Its namespaces need root, or a kernel that lets users \
                     make their own (unshare --user). It said:\n{}",
                    self.said()
                );
            }
        }
        panic!("the daemon did not say {line} within {LIMIT:?}; it said:\n{}", self.said());
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the daemon said:\n{}", self.said());
        }
    }
}

/// Waits for a child that is expected to end.
pub fn wait(child: &mut Child) -> ExitStatus {
    let begin = Instant::now();
    while begin.elapsed() < LIMIT {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("the process {} does not end", child.id());
}

/// A bridge and its pipes.
pub struct Client {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Client {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .env_remove("SSH_ORIGINAL_COMMAND")
            .env("SSH_CONNECTION", "192.0.2.1 1 192.0.2.2 22")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { input: child.stdin.take(), child, lines }
    }

    /// Sends raw bytes; that the other end hung up meanwhile is no error.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Some(input) = &mut self.input {
            let _ = input.write_all(bytes).and_then(|()| input.flush());
        }
    }

    pub fn say(&mut self, message: &impl Serialize) {
        frame::send(self.input.as_mut().unwrap(), message).unwrap();
    }

    /// Ends our direction, as ssh does when its stdin ends.
    pub fn close(&mut self) {
        self.input = None;
    }

    pub fn hear<T: DeserializeOwned>(&mut self) -> T {
        let line = self.lines.recv_timeout(LIMIT).expect("the agent says nothing");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    pub fn ask(&mut self, request: &Request) -> Reply {
        self.say(request);
        self.hear()
    }

    pub fn status(&mut self) -> Status {
        match self.ask(&Request::Status) {
            Reply::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Everything until the agent hangs up, and how the bridge ended.
    pub fn rest(mut self) -> (Vec<String>, ExitStatus) {
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) => lines.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("the agent does not hang up"),
            }
        }
        let status = wait(&mut self.child);
        (lines, status)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
