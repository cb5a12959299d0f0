//! Child processes: every tool the agent runs goes through here.
//!
//! An argv, never a shell; output passed on line by line as it comes; the tail of it in the error; stoppable, and with a
//! deadline. [`tool`] starts and ends them, [`course`] is one run from its start to its end.

mod course;
pub mod tool;

use crate::events::EventLog;
use course::{Ended, to_its_end};
use cygnet_protocol::event::{EventKind, Phase};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::text;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How many lines of a failed tool's output go into the error.
const TAIL: usize = 8;
/// The longest line that is read at once, bytes; a longer one comes in pieces.
const MAX_LINE: usize = 4096;

/// How long a tool may take that only looks.
pub const TO_LOOK: Duration = Duration::from_secs(60);
/// How long a tool may take that lets go of a disk. What was written lately goes to the disk before that.
pub const TO_LET_GO: Duration = Duration::from_secs(120);
/// How long a tool may take that does a step. The longest known ones are minutes, on slow disks.
pub const TO_WORK: Duration = Duration::from_secs(2 * 3600);
/// How long scripts may take that somebody else has written: some fill a disk.
pub const TO_RUN_SCRIPTS: Duration = Duration::from_secs(12 * 3600);

/// The wish to stop whatever runs, and all that would run next.
#[derive(Debug, Default)]
pub struct Cancel {
    asked: AtomicBool,
}

impl Cancel {
    /// Asks for a stop. Whoever runs a tool ends it; nobody else knows its number, which could be another's by then.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }

    /// Whether a stop was asked for.
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Takes the wish back, for the clean-up that follows an abort.
    pub fn reset(&self) {
        self.asked.store(false, Ordering::Release);
    }

    /// The fault that an abort ends in.
    pub fn check(&self) -> Result<(), RunError> {
        if self.asked() { Err(RunError::Cancelled) } else { Ok(()) }
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
    /// It did not end in time, and was ended.
    #[error("{program} had not ended after {seconds} s: {tail}")]
    Overdue {
        /// The program.
        program: String,
        /// The whole command, for the log.
        command: String,
        /// The deadline.
        seconds: u64,
        /// Not even SIGKILL has ended it.
        hangs: bool,
        /// The last lines it printed.
        tail: String,
    },
    /// It was not started, because an earlier one still hangs in the kernel.
    #[error("an earlier {program} still hangs in the kernel")]
    Hangs {
        /// The program.
        program: String,
    },
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
            RunError::Overdue { program, command, seconds, hangs, tail } => Fault::new(
                code,
                format!("{doing} took too long: {program} had not ended after {seconds} s."),
                match (hangs, tail.is_empty()) {
                    (true, _) => "It waits in the kernel for a device that does not answer (unplugged, suspended or faulty), and cannot be ended.".to_owned(),
                    (false, true) => "It was ended. The device is very slow or faulty, or it waits for something that does not come.".to_owned(),
                    (false, false) => format!("It was ended. The device is very slow or faulty, or it waits for something that does not come. It said: {tail}"),
                },
                format!("Look at the disk, its cable and its power. If it does not come back, run `cygnet reboot HOST --force`. The command was: {command}"),
            ),
            RunError::Hangs { program } => Fault::new(
                code,
                format!("{doing} needs {program}, and an earlier {program} still hangs in the kernel."),
                "It waits for a device that does not answer: unplugged, suspended or faulty. Another one would wait with it.",
                "Plug the disk in again and try once more; if that does not help, run `cygnet reboot HOST --force`.",
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
    pub fn drive(&self, command: Command, input: Option<&mut dyn Read>) -> Result<String, RunError> {
        self.drive_within(TO_WORK, command, input)
    }

    /// The same with another deadline.
    pub fn drive_within(
        &self,
        limit: Duration,
        mut command: Command,
        input: Option<&mut dyn Read>,
    ) -> Result<String, RunError> {
        self.cancel.check()?;
        let start = |source| started_not(&command, source);
        let (reader, writer) = io::pipe().map_err(start)?;
        let both = writer.try_clone().map_err(start)?;
        command.stdout(both).stderr(writer);
        let mut lines = Lines { part: Vec::new(), tail: VecDeque::new(), runner: self };
        let result = to_its_end(command, vec![reader], input, limit, &|| self.cancel.asked(), &mut |_, bytes| {
            lines.take(bytes);
        });
        lines.flush();
        let tail = Vec::from(lines.tail).join(" | ");
        result?.judge(tail.clone())?;
        self.cancel.check()?;
        Ok(tail)
    }
}

/// A tool's output, cut into lines and told.
struct Lines<'a> {
    part: Vec<u8>,
    tail: VecDeque<String>,
    runner: &'a Runner<'a>,
}

impl Lines<'_> {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.part.push(*byte);
            if *byte == b'\n' || self.part.len() == MAX_LINE {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        let line = self.runner.log.clean(printable(&std::mem::take(&mut self.part)));
        if line.is_empty() {
            return;
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.clone());
        self.runner.log.emit(self.runner.phase, EventKind::Output { line });
    }
}

fn started_not(command: &Command, source: io::Error) -> RunError {
    RunError::Start { program: command.get_program().to_string_lossy().into_owned(), source }
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

/// Runs a tool that only looks, quietly, and returns what it printed on stdout, 16 MiB at most.
pub fn capture(argv: &[&str]) -> Result<String, RunError> {
    capture_within(TO_LOOK, argv)
}

/// The same with another deadline.
pub fn capture_within(limit: Duration, argv: &[&str]) -> Result<String, RunError> {
    let Some((program, args)) = argv.split_first() else { return Ok(String::new()) };
    let mut command = command(program);
    command.args(args);
    let (ended, [out, err]) = quietly(limit, command)?;
    ended.judge(String::from_utf8_lossy(&err).trim().to_owned())?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// Runs a tool that reads a disk, this long at most; whatever it ends with, what it printed on stdout counts.
pub fn whatever_it_says(limit: Duration, argv: &[&str]) -> Option<String> {
    let (program, args) = argv.split_first()?;
    let mut command = command(program);
    command.args(args);
    let (_, [out, _]) = quietly(limit, command).ok()?;
    Some(String::from_utf8_lossy(&out).into_owned()).filter(|text| !text.trim().is_empty())
}

fn quietly(limit: Duration, mut command: Command) -> Result<(Ended, [Vec<u8>; 2]), RunError> {
    const MOST: [usize; 2] = [16 * 1024 * 1024, 64 * 1024];
    let pipes = io::pipe().and_then(|out| io::pipe().map(|err| (out, err)));
    let ((out, out_end), (err, err_end)) = pipes.map_err(|source| started_not(&command, source))?;
    command.stdout(out_end).stderr(err_end);
    let mut texts = [Vec::new(), Vec::new()];
    let ended = to_its_end(command, vec![out, err], None, limit, &|| false, &mut |number, bytes: &[u8]| {
        // What is too much is read all the same, or the tool would wait for ever to be rid of it.
        if let (Some(text), Some(most)) = (texts.get_mut(number), MOST.get(number)) {
            let room = most.saturating_sub(text.len());
            text.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        }
    })?;
    Ok((ended, texts))
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
    use std::sync::Arc;
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

    /// Whether a process with this argument is there.
    fn runs(argument: &str) -> bool {
        std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
        })
    }

    #[test]
    fn who_keeps_the_output_open_holds_nobody_up() {
        let (log, cancel) = (EventLog::new(), Arc::new(Cancel::default()));
        let runner = Runner { log: &log, phase: None, cancel: &cancel };
        let begin = Instant::now();
        runner.run(&sh("setsid sleep 25 & echo done")).unwrap();
        assert_eq!(capture(&["sh", "-c", "setsid sleep 25 & echo done"]).unwrap(), "done\n");
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        assert_eq!(log.since(0, Duration::ZERO).len(), 1);
    }

    #[test]
    fn an_abort_ends_what_has_left_the_process_group() {
        let (log, cancel) = (EventLog::new(), Arc::new(Cancel::default()));
        let runner = Runner { log: &log, phase: None, cancel: &cancel };
        let begin = Instant::now();
        let second = 20_000 + std::process::id() % 10_000;
        std::thread::scope(|scope| {
            let script = format!("setsid sleep {second} & trap '' TERM; echo up; sleep 30");
            let running = scope.spawn(move || runner.run(&sh(&script)));
            log.since(1, Duration::from_secs(60));
            cancel.ask();
            assert!(matches!(running.join().unwrap(), Err(RunError::Cancelled)));
        });
        assert!(begin.elapsed() < Duration::from_secs(25), "{:?}", begin.elapsed());
        assert!(!runs(&second.to_string()));
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
