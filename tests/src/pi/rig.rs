//! The test rig's line into a virtual Pi that has no network: commands over a virtio-serial port.
//!
//! The other end is `air/rigd.sh`, which says how requests and answers look.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::serial::Serial;

/// The port's name in the guest: `/sys/class/virtio-ports/*/name`.
pub const PORT: &str = "cygnet.rig";

/// How long one command may take in the Pi, unless said otherwise.
pub const COMMAND: Duration = crate::patience::COMMAND;

/// How much longer than the command itself the answer may take: the Pi may have to boot first, and its clock runs slowly.
const GRACE: Duration = crate::patience::BOOT;

/// QEMU makes its socket right after it starts.
const CONNECT: Duration = crate::patience::QEMU;

/// Where in the Pi a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the Pi's own network, as its system sees it.
    Pi,
    /// In the namespace where the access points and the cable are.
    AccessPoints,
    /// In the namespace where the Pi's radio is while it isn't there.
    Away,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::Pi => "-",
            Place::AccessPoints => "ap",
            Place::Away => "away",
        }
    }
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its exit code; 124 if its time was up.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: Vec<u8>,
}

/// The line to a Pi that is on.
#[derive(Debug)]
pub struct Rig {
    line: Mutex<Line>,
    serial: Serial,
}

#[derive(Debug)]
struct Line {
    socket: UnixStream,
    received: Vec<u8>,
    number: u64,
}

impl Rig {
    /// Connects to QEMU's socket.
    ///
    /// # Errors
    /// If there is none soon.
    pub fn connect(socket: &Path, serial: &Serial) -> Result<Rig> {
        let deadline = Instant::now() + CONNECT;
        loop {
            match UnixStream::connect(socket) {
                Ok(socket) => {
                    let line = Mutex::new(Line { socket, received: Vec::new(), number: 0 });
                    return Ok(Rig { line, serial: serial.clone() });
                }
                Err(error) if Instant::now() > deadline || serial.has_ended() => {
                    return Err(error).with_context(|| format!("connecting to {}", socket.display()));
                }
                // The socket appears without an event that we could wait for.
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Runs a shell command and returns what came of it.
    ///
    /// # Errors
    /// If the Pi goes off or doesn't answer; the error shows the console's end.
    pub fn run(&self, place: Place, command: &str, input: &[u8], time: Duration) -> Result<Answer> {
        let mut line = self.line();
        line.number += 1;
        let number = line.number;
        let seconds = time.as_secs().max(1);
        let request = format!(
            "{number} {seconds} {} {} {}\n",
            place.name(),
            BASE64.encode(command),
            // Never empty, so that the shell sees the field.
            if input.is_empty() { "=".to_owned() } else { BASE64.encode(input) }
        );
        line.socket.write_all(request.as_bytes()).context("sending a command to the test rig")?;
        let deadline = Instant::now() + time + GRACE;
        loop {
            let text = line
                .next(deadline, &self.serial)
                .with_context(|| format!("waiting for the test rig to run `{}`", first_line(command)))?;
            let (of, answer) = parse(&text).with_context(|| format!("the test rig answered {text:?}"))?;
            // An answer to a command whose wait was given up.
            if of == number {
                return Ok(answer);
            }
        }
    }

    /// Runs a shell command and returns its stdout without the last newline.
    ///
    /// # Errors
    /// As [`Rig::run`], and if it exits with anything but 0; the error has its stderr.
    pub fn sh(&self, place: Place, command: &str, input: &[u8], time: Duration) -> Result<String> {
        let answer = self.run(place, command, input, time)?;
        let stdout = String::from_utf8_lossy(&answer.stdout);
        match answer.code {
            0 => Ok(stdout.trim_end().to_owned()),
            code => {
                let why = if code == 124 { format!("took over {} s", time.as_secs()) } else { format!("exit {code}") };
                let stderr = String::from_utf8_lossy(&answer.stderr);
                bail!("`{}` failed in the Pi ({why}):\n{stdout}{stderr}", first_line(command))
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Line {
    fn next(&mut self, deadline: Instant, serial: &Serial) -> Result<String> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no answer came in time:\n{}", serial.last_lines());
            }
            self.socket.set_read_timeout(Some(left)).context("setting a time limit")?;
            match self.socket.read(&mut buffer) {
                Ok(0) => bail!("the Pi went off:\n{}", serial.last_lines()),
                Ok(length) => self.received.extend_from_slice(&buffer[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error).context("reading the test rig's answer"),
            }
        }
    }
}

/// `NUMBER CODE STDOUT STDERR`; either of the last two may be empty.
fn parse(line: &str) -> Result<(u64, Answer)> {
    let mut fields = line.trim_end_matches('\r').split(' ');
    let mut next = |what: &str| fields.next().with_context(|| format!("there is no {what}"));
    let number = next("number")?.parse().context("reading the number")?;
    let code = next("exit code")?.parse().context("reading the exit code")?;
    let stdout = BASE64.decode(next("stdout")?).context("decoding stdout")?;
    let stderr = BASE64.decode(next("stderr")?).context("decoding stderr")?;
    Ok((number, Answer { code, stdout, stderr }))
}

fn first_line(command: &str) -> &str {
    command.lines().find(|line| !line.trim().is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_may_be_empty() {
        let (number, answer) = parse("7 0 b2s= ").unwrap();
        assert_eq!((number, answer.code, answer.stdout.as_slice()), (7, 0, b"ok".as_slice()));
        assert!(answer.stderr.is_empty());
        assert!(parse("7 0 b2s=").is_err());
        assert!(parse("").is_err());
        assert!(parse("7 0 %%% ").is_err());
    }
}
