//! One running program: waited for by its process and never by its pipes, ended with all that it has started, and left
//! behind if not even SIGKILL ends it.
//!
//! A program that waits in the kernel for a disk that is gone (state D) takes no signal. Waiting for it would take the
//! agent away with it, so it is left behind; and what has the same name is refused until it is gone, because it would most
//! likely wait for the same thing.

use super::Cancel;
use crate::events::lock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a program may take to end after SIGTERM.
const MERCY: Duration = Duration::from_secs(10);
/// How long the kernel may take to end it after SIGKILL; then it is left behind.
const LAST: Duration = Duration::from_secs(5);
/// How often it is looked whether a stop was asked for.
pub const LOOK: Duration = Duration::from_millis(100);
/// The variable by which whatever a program has started is known again, also behind setsid(1).
const MARK: &str = "CYGNET_TOOL";

/// Programs that have not ended although they were killed.
static LEFT: Mutex<Vec<(String, Child)>> = Mutex::new(Vec::new());

/// A program that was started.
pub struct Tool {
    /// Gone once it has ended, or was left behind.
    child: Option<Child>,
    name: String,
    pid: Pid,
    end: OwnedFd,
    mark: String,
    ended: Option<ExitStatus>,
}

/// How far a stop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopping {
    /// It has ended, with all that it has started.
    Ended,
    /// It has some time left.
    Waiting,
    /// It cannot be ended, and was left behind.
    LeftBehind,
}

/// Ends a program, step by step, while its caller goes on reading its output.
#[derive(Debug)]
pub struct Stop {
    begun: Instant,
    killed: bool,
}

impl Tool {
    /// Starts a program in a process group of its own. Its pipes are the caller's business.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = family(command);
        let mark = format!("{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut child = command.env(MARK, &mark).process_group(0).spawn()?;
        let pid = Pid::from_child(&child);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(end) => Ok(Self { child: Some(child), name, pid, end, mark, ended: None }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error.into())
            }
        }
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> Option<&mut Child> {
        self.child.as_mut()
    }

    /// Becomes readable when the program ends.
    pub fn end(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// If the system doesn't tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if let (None, Some(child)) = (self.ended, self.child.as_mut()) {
            self.ended = child.try_wait()?;
            if self.ended.is_some() {
                self.child = None;
            }
        }
        Ok(self.ended)
    }

    /// Waits for its end, this long at most.
    ///
    /// # Errors
    /// If the system doesn't tell.
    pub fn wait(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let begin = Instant::now();
        loop {
            let ended = self.ended()?;
            let left = patience.saturating_sub(begin.elapsed());
            if ended.is_some() || left.is_zero() {
                return Ok(ended);
            }
            wait_for(&mut [PollFd::new(&self.end, PollFlags::IN)], left)?;
        }
    }

    /// Asks it, and all that it has started, to end.
    pub fn stop(&mut self) -> Stop {
        self.signal(Signal::TERM);
        Stop { begun: Instant::now(), killed: false }
    }

    /// Goes on with a stop that was begun.
    pub fn go_on(&mut self, stop: &mut Stop) -> Stopping {
        let late = stop.begun.elapsed();
        if matches!(self.ended(), Ok(Some(_)) | Err(_)) {
            // What it has started and did not wait for.
            signal_marked(&self.mark, Signal::KILL);
            return Stopping::Ended;
        }
        if !stop.killed && late >= MERCY {
            stop.killed = true;
            self.signal(Signal::KILL);
        }
        if late >= MERCY + LAST {
            self.leave();
            return Stopping::LeftBehind;
        }
        Stopping::Waiting
    }

    /// Ends it at once, without its output.
    pub fn kill(&mut self) {
        // One that was left behind is nobody's to wait for.
        if self.child.is_some() && !matches!(self.ended(), Ok(Some(_))) {
            self.signal(Signal::KILL);
            if !matches!(self.wait(LAST), Ok(Some(_))) {
                self.leave();
            }
        }
    }

    fn signal(&mut self, signal: Signal) {
        // As long as it was not waited for, its number is nobody else's.
        if matches!(self.ended(), Ok(None)) {
            let _ = kill_process_group(self.pid, signal);
        }
        signal_marked(&self.mark, signal);
    }

    fn leave(&mut self) {
        if let Some(child) = self.child.take() {
            tracing::error!("{} (process {}) hangs in the kernel and is left behind", self.name, child.id());
            lock(&LEFT).push((self.name.clone(), child));
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a program of this name was left behind and is still there.
pub fn hangs(command: &Command) -> bool {
    let mut left = lock(&LEFT);
    left.retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
    let name = family(command);
    left.iter().any(|(other, _)| *other == name)
}

/// What would hang with it: itself, and with one of ZFS's programs all of them.
fn family(command: &Command) -> String {
    let name = command.get_program().to_string_lossy();
    let name = name.rsplit('/').next().unwrap_or_default();
    match name {
        "zpool" | "zdb" => "zfs".to_owned(),
        // These run something else, which is not known here.
        "timeout" | "choom" => command.get_args().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "),
        name => name.to_owned(),
    }
}

/// Sends a signal to every process that has a mark in its environment.
fn signal_marked(mark: &str, signal: Signal) {
    let is_marked = |pid: Pid| has_mark(pid, |value| value == mark);
    each_process(|pid| {
        if is_marked(pid)
            && let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
            // The number may have become another's between the look and the opening.
            && is_marked(pid)
        {
            let _ = pidfd_send_signal(process, signal);
        }
    });
}

/// Ends what programs of this agent have left running, if `which` says so.
pub fn kill_left_running(which: impl Fn(Pid) -> bool) {
    let own = format!("{}.", std::process::id());
    each_process(|pid| {
        let is_ours = |pid| has_mark(pid, |value| value.starts_with(&own));
        if is_ours(pid)
            && which(pid)
            && let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
            && is_ours(pid)
        {
            tracing::warn!("ending process {}, which a step has left running", pid.as_raw_nonzero());
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    });
}

fn each_process(mut visit: impl FnMut(Pid)) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(pid) = number.and_then(Pid::from_raw).filter(|pid| *pid != rustix::process::getpid()) {
            visit(pid);
        }
    }
}

fn has_mark(pid: Pid, is: impl Fn(&str) -> bool) -> bool {
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| {
        let value = std::str::from_utf8(entry).ok().and_then(|entry| entry.strip_prefix(MARK)?.strip_prefix('='));
        value.is_some_and(&is)
    })
}

/// Waits until one of these has something to tell, `patience` at most.
///
/// # Errors
/// If the system doesn't wait.
pub fn wait_for(fds: &mut [PollFd<'_>], patience: Duration) -> io::Result<()> {
    // A year is as long as for ever.
    let patience = patience.min(Duration::from_secs(365 * 24 * 3600));
    let time = Timespec::try_from(patience).map_err(io::Error::other)?;
    match poll(fds, Some(&time)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes reading or writing return at once.
///
/// # Errors
/// If the system doesn't allow it.
pub fn never_wait(fd: impl AsFd) -> io::Result<()> {
    Ok(fcntl_setfl(fd, OFlags::NONBLOCK)?)
}

/// The output of a running program, read as it comes; ends when a stop is asked for, or when it was silent for too long.
pub struct Output<'a, R> {
    reader: R,
    cancel: &'a Cancel,
    silence: Duration,
}

impl<'a, R: Read + AsFd> Output<'a, R> {
    /// # Errors
    /// If the descriptor can't be made one that never waits.
    pub fn new(reader: R, silence: Duration, cancel: &'a Cancel) -> io::Result<Self> {
        never_wait(&reader)?;
        Ok(Self { reader, cancel, silence })
    }
}

impl<R: Read + AsFd> Read for Output<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let begin = Instant::now();
        loop {
            match self.reader.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            if self.cancel.asked() {
                return Err(io::Error::other("stopped on request"));
            }
            if begin.elapsed() >= self.silence {
                let text = format!("it has said nothing for {} s", self.silence.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            wait_for(&mut [PollFd::new(&self.reader, PollFlags::IN)], LOOK)?;
        }
    }
}

/// What a running program complains of, read on a thread that may be left behind.
pub struct Complaints {
    said: Arc<Mutex<Vec<u8>>>,
    done: Receiver<()>,
}

impl Complaints {
    /// Reads all, and keeps the first `most` bytes.
    pub fn of(stderr: Option<ChildStderr>, most: usize) -> Self {
        let said = Arc::new(Mutex::new(Vec::new()));
        let (end, done) = channel();
        let (ours, mut piece) = (said.clone(), [0; 4096]);
        let read = move || {
            let (_end, Some(mut stderr)) = (end, stderr) else { return };
            // What is too much is read all the same, or the program would wait for ever to be rid of it.
            while let Ok(count @ 1..) = stderr.read(&mut piece) {
                let mut said = lock(&ours);
                let room = most.saturating_sub(said.len()).min(count);
                said.extend_from_slice(piece.get(..room).unwrap_or_default());
            }
        };
        if let Err(error) = std::thread::Builder::new().name("complaints".into()).spawn(read) {
            tracing::warn!("no thread for what a program complains of: {error}");
        }
        Self { said, done }
    }

    /// All of it, once the program has ended. Who else holds its stderr is not waited for.
    pub fn text(&self) -> Vec<u8> {
        let _ = self.done.recv_timeout(Duration::from_secs(1));
        lock(&self.said).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn what_hangs_is_left_behind_and_its_kind_is_refused_until_it_is_gone() {
        let program = |name: &str| Command::new(format!("/nowhere/{name}"));
        let mut sleep = Command::new("sleep");
        let mut tool = Tool::start(sleep.arg("600").stdin(Stdio::null())).unwrap();
        tool.name = family(&program("zpool"));
        tool.leave();
        assert!(hangs(&program("zpool")) && hangs(&program("zfs")) && hangs(&program("zdb")));
        assert!(!hangs(&program("umount")));
        let _ = kill_process_group(tool.pid, Signal::KILL);
        let begin = Instant::now();
        while hangs(&program("zpool")) {
            assert!(begin.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_silent_program_is_not_waited_for_for_ever() {
        let cancel = Cancel::default();
        let mut sleep = Command::new("sh");
        sleep.args(["-c", "echo hi; sleep 600"]).stdout(Stdio::piped());
        let mut tool = Tool::start(&mut sleep).unwrap();
        let stdout = tool.child().unwrap().stdout.take().unwrap();
        let mut output = Output::new(stdout, Duration::from_millis(200), &cancel).unwrap();
        let mut text = Vec::new();
        assert_eq!(output.read_to_end(&mut text).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(text, b"hi\n");
        cancel.ask();
        assert!(output.read(&mut [0; 9]).unwrap_err().to_string().contains("on request"));
    }
}
