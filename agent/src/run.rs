//! Child processes: every tool the agent runs goes through here.
//!
//! An argv, never a shell; output passed on line by line as it comes; the tail of it in the error; stoppable.

use crate::events::{EventLog, lock};
use cygnet_protocol::event::{EventKind, Phase};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::text;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How many lines of a failed tool's output go into the error.
const TAIL: usize = 8;
/// The longest line that is read at once, bytes; a longer one comes in pieces.
const MAX_LINE: u64 = 4096;

/// How long a tool may take to end after SIGTERM.
const MERCY: Duration = Duration::from_secs(10);

/// Stops whatever runs, and all that would run next.
#[derive(Default)]
pub struct Cancel {
    inner: Mutex<CancelState>,
}

#[derive(Default)]
struct CancelState {
    asked: bool,
    running: Option<Pid>,
}

impl Cancel {
    /// Asks for a stop: the running process group gets SIGTERM, and SIGKILL if it is still there after [`MERCY`].
    pub fn ask(self: &Arc<Self>) {
        let mut inner = lock(&self.inner);
        inner.asked = true;
        if let Some(pid) = inner.running {
            // It may have ended just now; then there is nothing to stop.
            let _ = kill_process_group(pid, Signal::TERM);
            let cancel = self.clone();
            std::thread::spawn(move || {
                std::thread::sleep(MERCY);
                if lock(&cancel.inner).running == Some(pid) {
                    let _ = kill_process_group(pid, Signal::KILL);
                }
            });
        }
    }

    /// Whether a stop was asked for.
    pub fn asked(&self) -> bool {
        lock(&self.inner).asked
    }

    /// Takes the wish back, for the clean-up that follows an abort.
    pub fn reset(&self) {
        lock(&self.inner).asked = false;
    }

    /// The fault that an abort ends in.
    pub fn check(&self) -> Result<(), RunError> {
        if self.asked() { Err(RunError::Cancelled) } else { Ok(()) }
    }

    pub(crate) fn note(&self, pid: Option<Pid>) {
        let mut inner = lock(&self.inner);
        inner.running = pid;
        if let (true, Some(pid)) = (inner.asked, pid) {
            // Asked for after the caller looked and before there was anything to stop.
            let _ = kill_process_group(pid, Signal::TERM);
        }
    }
}

/// Why a tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error("starting {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It said no.
    #[error("{program} ended with {status}: {tail}")]
    Failed {
        /// The program.
        program: String,
        /// The whole command, for the log.
        command: String,
        /// Its exit status.
        status: ExitStatus,
        /// The last lines it printed.
        tail: String,
    },
    /// An abort was asked for.
    #[error("stopped on request")]
    Cancelled,
    /// Its output could not be read.
    #[error("reading the output of {program}: {source}")]
    Output {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
}

impl RunError {
    /// The fault for a person, `code` and `doing` (a gerund: “making the file system”) being the caller's.
    pub fn fault(self, code: FaultCode, doing: &str) -> Fault {
        match self {
            RunError::Cancelled => aborted(),
            RunError::Start { program, source } => Fault::new(
                code,
                format!("{doing} needs {program}, which could not be started: {source}."),
                "The bootstrap image on the card does not have this tool.",
                format!("Add {program} to the image, or take it out of the layout."),
            ),
            RunError::Failed { program, command, status, tail } => Fault::new(
                code,
                format!("{doing} failed: {program} ended with {status}."),
                if tail.is_empty() { "It printed nothing.".into() } else { format!("It said: {tail}") },
                format!("The command was: {command}"),
            ),
            RunError::Output { program, source } => {
                Fault::internal(format!("{doing} failed: the output of {program} could not be read."), source)
            }
        }
    }
}

/// The fault of every phase that an abort ends.
pub fn aborted() -> Fault {
    Fault::new(
        FaultCode::Aborted,
        "The installation was aborted.",
        "Somebody asked for it with `cygnet abort`.",
        "Run `cygnet install` again when you want to go on.",
    )
}

/// A command with the environment that tools get: a path on which NixOS and others keep theirs, and no locale.
pub fn command(program: &str) -> Command {
    // An empty part of a PATH would be the working directory.
    let own = std::env::var("PATH").map(|path| path + ":").unwrap_or_default();
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", format!("{own}/run/wrappers/bin:/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin"))
        .env("LC_ALL", "C")
        .env("HOME", "/root")
        .stdin(Stdio::null());
    command
}

/// Whether [`command`] would find this program.
pub fn is_there(program: &str) -> bool {
    let mut command = command(program);
    let path = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value.map(ToOwned::to_owned));
    command.env_clear();
    std::env::split_paths(&path.unwrap_or_default()).any(|directory| directory.join(program).is_file())
}

/// Runs tools for one phase.
pub struct Runner<'a> {
    /// Where output goes.
    pub log: &'a EventLog,
    /// Whose work it is.
    pub phase: Option<Phase>,
    /// What may stop it.
    pub cancel: &'a Cancel,
}

impl Runner<'_> {
    /// Runs an argv to its end; a non-zero exit is an error.
    pub fn run(&self, argv: &[String]) -> Result<(), RunError> {
        let (program, args) = argv
            .split_first()
            .ok_or_else(|| RunError::Start { program: String::new(), source: io::Error::other("empty command") })?;
        let mut command = command(program);
        command.args(args);
        self.drive(command, None).map(drop)
    }

    /// Runs a command, feeding it `input` if there is any; returns the last lines of its output.
    pub fn drive(&self, mut command: Command, input: Option<&mut dyn Read>) -> Result<String, RunError> {
        self.cancel.check()?;
        let program = command.get_program().to_string_lossy().into_owned();
        let text = render(&command);
        let start = |source| RunError::Start { program: program.clone(), source };
        let (reader, writer) = io::pipe().map_err(start)?;
        command.stdout(writer.try_clone().map_err(start)?).stderr(writer);
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.process_group(0).spawn().map_err(start)?;
        // The command holds the write ends of the pipe; the end of the output is seen only without them.
        drop(command);
        self.cancel.note(i32::try_from(child.id()).ok().and_then(Pid::from_raw));
        let stdin = child.stdin.take();
        let tail = std::thread::scope(|scope| {
            let tail = scope.spawn(|| self.relay(reader));
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // A child that stops reading says why in its output and exit status.
                let _ = io::copy(input, &mut stdin).and_then(|_| stdin.flush());
            }
            tail.join().unwrap_or_else(|_| Ok(VecDeque::new()))
        });
        let status = child.wait();
        self.cancel.note(None);
        let output = |source| RunError::Output { program: program.clone(), source };
        let status = status.map_err(output)?;
        let tail = Vec::from(tail.map_err(output)?).join(" | ");
        self.cancel.check()?;
        if status.success() { Ok(tail) } else { Err(RunError::Failed { program, command: text, status, tail }) }
    }

    fn relay(&self, reader: impl Read) -> io::Result<VecDeque<String>> {
        let mut reader = BufReader::new(reader);
        let mut tail = VecDeque::new();
        loop {
            let mut line = Vec::new();
            if (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                return Ok(tail);
            }
            let line = printable(&line);
            if line.is_empty() {
                continue;
            }
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(line.clone());
            self.log.emit(self.phase, EventKind::Output { line });
        }
    }
}

/// A line of a tool's output as text that cannot move the cursor of the terminal it ends up on: tabs and what a progress
/// bar draws over become blanks, other control characters the replacement character.
pub fn printable(line: &[u8]) -> String {
    let show = |c: char| match c {
        '\t' | '\r' => ' ',
        c if text::is_hostile(c) => text::HIDDEN,
        c => c,
    };
    String::from_utf8_lossy(line).trim_end().chars().map(show).collect()
}

/// Runs a tool quietly and returns what it printed on stdout, 16 MiB at most.
pub fn capture(argv: &[&str]) -> Result<String, RunError> {
    let Some((program, args)) = argv.split_first() else { return Ok(String::new()) };
    let start = |source| RunError::Start { program: (*program).to_owned(), source };
    let mut child = command(program).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(start)?;
    let stderr = child.stderr.take();
    let stdout = child.stdout.take();
    let (out, err) = std::thread::scope(|scope| {
        let err = scope.spawn(move || {
            let mut text = Vec::new();
            if let Some(stderr) = stderr {
                let _ = stderr.take(64 * 1024).read_to_end(&mut text);
            }
            text
        });
        let mut text = Vec::new();
        let read = stdout.map_or(Ok(0), |out| out.take(16 * 1024 * 1024).read_to_end(&mut text));
        (read.map(|_| text), err.join().unwrap_or_default())
    });
    let output = |source| RunError::Output { program: (*program).to_owned(), source };
    let status = child.wait().map_err(output)?;
    let out = out.map_err(output)?;
    if !status.success() {
        return Err(RunError::Failed {
            program: (*program).to_owned(),
            command: argv.join(" "),
            status,
            tail: String::from_utf8_lossy(&err).trim().to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// The command as a person would type it.
fn render(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| {
            let part = part.to_string_lossy();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+:,./@%".contains(c);
            if !part.is_empty() && part.chars().all(plain) {
                part.into_owned()
            } else {
                format!("'{}'", part.replace('\'', r"'\''"))
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn sh(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(String::from).to_vec()
    }

    #[test]
    fn a_failure_carries_the_tail_and_the_command() {
        let (log, cancel) = (EventLog::new(), Arc::new(Cancel::default()));
        let runner = Runner { log: &log, phase: None, cancel: &cancel };
        let error = runner.run(&sh("seq 20; echo 'no space left' >&2; exit 3")).unwrap_err();
        let fault = error.fault(FaultCode::StepFailed, "Making the pool");
        assert!(fault.cause.ends_with("19 | 20 | no space left"), "{fault}");
        assert!(fault.what.contains("exit status: 3"), "{fault}");
        assert!(fault.remedy.contains("sh -c 'seq 20;"), "{fault}");
        assert_eq!(log.since(0, Duration::ZERO).len(), 21);
    }

    #[test]
    fn output_cannot_paint_on_a_terminal() {
        assert_eq!(printable(b"a\tb\rc \x1b[2Jd\n"), "a b c \u{fffd}[2Jd");
        assert_eq!(printable(b"\xff\n"), "\u{fffd}");
    }

    #[test]
    fn a_missing_tool_is_named() {
        let (log, cancel) = (EventLog::new(), Arc::new(Cancel::default()));
        let runner = Runner { log: &log, phase: None, cancel: &cancel };
        let error = runner.run(&["mkfs.imaginary".into()]).unwrap_err();
        assert!(error.fault(FaultCode::StepFailed, "x").what.contains("mkfs.imaginary"));
    }

    #[test]
    fn an_abort_stops_what_runs_and_what_would_run_next() {
        let (log, cancel) = (EventLog::new(), Arc::new(Cancel::default()));
        let runner = Runner { log: &log, phase: None, cancel: &cancel };
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| runner.run(&sh("echo up; sleep 600")));
            log.since(1, Duration::from_secs(60));
            cancel.ask();
            assert!(matches!(running.join().unwrap(), Err(RunError::Cancelled)));
        });
        assert!(begin.elapsed() < Duration::from_secs(300));
        assert!(matches!(runner.run(&sh("true")), Err(RunError::Cancelled)));
    }

    #[test]
    fn input_reaches_the_child() {
        let (log, cancel) = (EventLog::new(), Arc::new(Cancel::default()));
        let runner = Runner { log: &log, phase: None, cancel: &cancel };
        let out = runner.drive(command("wc"), Some(&mut &b"one two\n"[..])).unwrap();
        assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["1", "2", "8"]);
        assert_eq!(capture(&["echo", "hi"]).unwrap(), "hi\n");
        assert!(matches!(capture(&["false"]), Err(RunError::Failed { .. })));
    }
}
