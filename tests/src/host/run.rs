//! One way to run a tool: an argv, its output kept, and an error that shows what the tool said last.
//!
//! Set `CYGNET_TEST_TRACE=1` to see every command as it is started.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, ExitStatus, Output, Stdio};

use anyhow::{Context, Result, bail};

/// How many lines of a failed tool's output an error shows.
const TAIL_LINES: usize = 20;

/// Starts building a command for `program`, with the locale that makes its messages predictable.
pub fn tool(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

/// Runs a command to its end and returns what it wrote to stdout.
///
/// # Errors
/// If it can't be started, is ended by a signal or exits with anything but 0; the error carries the tail of its stderr.
pub fn stdout_of(command: &mut Command) -> Result<String> {
    let output = output_of(command)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command to its end and drops what it wrote.
///
/// # Errors
/// As [`stdout_of`].
pub fn run(command: &mut Command) -> Result<()> {
    output_of(command).map(drop)
}

/// Runs a command to its end and returns everything about it, whatever its exit status was.
///
/// # Errors
/// If it can't be started.
pub fn try_output(command: &mut Command) -> Result<Output> {
    trace(command);
    command.output().with_context(|| format!("starting {}", program(command)))
}

/// Runs a command with stdout and stderr written to `log`, for tools whose output is too much for memory or is worth
/// keeping.
///
/// # Errors
/// As [`stdout_of`]; the error shows the log's tail and its path.
pub fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    trace(command);
    let out = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let err = out.try_clone().with_context(|| format!("duplicating the handle of {}", log.display()))?;
    let status = command.stdout(out).stderr(err).status().with_context(|| format!("starting {}", program(command)))?;
    if status.success() {
        return Ok(());
    }
    bail!("{}\n{}\nthe whole output is in {}", failed(command, status), file_tail(log, TAIL_LINES), log.display())
}

/// Shows a command the way a person would type it, without quoting.
pub fn shown(command: &Command) -> String {
    let mut line = program(command);
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// The last `lines` lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The last `lines` lines of a file, or why they can't be read.
pub fn file_tail(path: &Path, lines: usize) -> String {
    /// Enough for any tail we print, and it keeps a log of gigabytes out of memory.
    const WINDOW: u64 = 64 * 1024;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(WINDOW)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(tail(&String::from_utf8_lossy(&bytes), lines))
    };
    read().unwrap_or_else(|error| format!("({} can't be read: {error})", path.display()))
}

/// Prints what is about to be started, when that was asked for.
pub fn trace(command: &Command) {
    if std::env::var_os("CYGNET_TEST_TRACE").is_some() {
        eprintln!("+ {}", shown(command));
    }
}

fn output_of(command: &mut Command) -> Result<Output> {
    let output = try_output(command)?;
    if output.status.success() {
        return Ok(output);
    }
    let mut said = tail(&String::from_utf8_lossy(&output.stderr), TAIL_LINES);
    if said.is_empty() {
        said = tail(&String::from_utf8_lossy(&output.stdout), TAIL_LINES);
    }
    bail!("{}\n{said}", failed(command, output.status))
}

fn failed(command: &Command, status: ExitStatus) -> String {
    format!("`{}` failed ({status}); it said last:", shown(command))
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_what_the_tool_said() {
        let error = run(tool("sh").args(["-c", "echo first; echo why >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(text.ends_with("why"), "{text}");
    }

    #[test]
    fn a_missing_tool_is_named() {
        let error = run(&mut tool("cygnet-no-such-tool")).unwrap_err();
        assert_eq!(error.to_string(), "starting cygnet-no-such-tool");
    }

    #[test]
    fn the_tail_is_the_end() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
    }
}
