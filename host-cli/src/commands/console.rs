//! `cygnet console`: follows a Pi over its serial line, which needs no network.
//!
//! [`line`] opens the serial device, [`local`] takes the terminal that a person sits at and gives it back, [`show`] makes
//! text of what the Pi reports of itself. What the person types goes to the Pi, whose agent has the keys; nothing is ever
//! typed by itself, because it might be a boot loader that reads it.

mod line;
mod local;
mod show;

use crate::cli;
use crate::error::fault;
use crate::interrupt;
use crate::ui::{Ui, sink};
use anyhow::{Context, Result};
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::online::line::{ConsoleReport, Finder, PREFIX};
use line::Line;
use local::Local;
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Without a byte for so long, something is wrong: a Pi that is well reports each 20 s.
const SILENCE: Duration = Duration::from_secs(30);
/// With bytes, but without a report.
const NO_AGENT: Duration = Duration::from_secs(120);
/// How long one wait for bytes is; the size of the window is looked at as often.
const TICK: Duration = Duration::from_millis(250);
/// Ctrl-], as in telnet(1).
const QUIT: u8 = 0x1d;

/// Carries it out.
pub fn run(ui: &Ui, arguments: &cli::Console) -> Result<()> {
    let Some(device) = &arguments.device else { return list(ui) };
    let line = Line::open(device, arguments.baud)?;
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let local = if terminal && !ui.json() { Some(Local::take(!arguments.raw)?) } else { None };
    let mut session = Session {
        ui,
        line,
        raw: arguments.raw,
        finder: Finder::default(),
        held: Held::default(),
        last: None,
        local,
        heard: Instant::now(),
        reported: Instant::now(),
        warned: false,
    };
    let keys = if session.local.is_some() { "Ctrl-] quits; all other keys go to the Pi" } else { "Ctrl-C quits" };
    session.status(&format!("{device} at {} baud. {keys}.", arguments.baud));
    let ended = session.run();
    // The terminal is as it was before anything else is said.
    drop(session);
    ended
}

/// Without a device: those that there are.
fn list(ui: &Ui) -> Result<()> {
    let candidates = line::candidates();
    if ui.json() {
        for device in &candidates {
            ui.record(&serde_json::json!({ "type": "device", "path": device }))?;
        }
    }
    if candidates.is_empty() {
        return Err(fault(
            FaultCode::NotFound,
            "No serial adapter is plugged into this machine.",
            "There is no /dev/ttyUSB*, /dev/ttyACM* or /dev/cu.usb*: the adapter is not plugged in, or has no driver.",
            "Plug in a USB serial adapter with 3.3 V levels; its GND, RXD and TXD belong to the Pi's pins 6, 8 and 10.",
        ));
    }
    if !ui.json() {
        candidates.iter().try_for_each(|device| ui.data(device))?;
        ui.status("Follow one with `cygnet console DEVICE`.");
    }
    Ok(())
}

/// One report as `--json` prints it.
#[derive(Serialize)]
struct Record<'a> {
    r#type: &'static str,
    seq: u64,
    #[serde(flatten)]
    report: &'a ConsoleReport,
}

struct Session<'a> {
    ui: &'a Ui,
    line: Line,
    raw: bool,
    finder: Finder,
    held: Held,
    last: Option<ConsoleReport>,
    local: Option<Local>,
    heard: Instant,
    reported: Instant,
    warned: bool,
}

impl Session<'_> {
    fn run(&mut self) -> Result<()> {
        loop {
            let (bytes, keys) = self.line.wait(self.local.is_some(), TICK)?;
            if let Some(at) = keys.iter().position(|key| *key == QUIT) {
                self.line.write(&keys[..at])?;
                return Ok(());
            }
            self.line.write(&keys)?;
            if bytes.is_empty() {
                self.patience()?;
            } else {
                self.heard = Instant::now();
                self.take(&bytes)?;
            }
            if let Some(local) = &mut self.local {
                local.fit()?;
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        if self.raw {
            self.out(bytes)?;
        } else if self.local.is_some() {
            let text = self.held.push(bytes);
            self.out(&text)?;
        }
        for (seq, report) in self.finder.push(bytes) {
            self.reported = Instant::now();
            if self.ui.json() {
                self.ui.record(&Record { r#type: "console", seq, report: &report })?;
            } else if !self.raw && !self.last.as_ref().is_some_and(|last| show::same(last, &report)) {
                match &mut self.local {
                    Some(local) => local.status(&show::row(&report))?,
                    None => self.ui.data(&show::text(&report))?,
                }
            }
            self.last = Some(report);
        }
        Ok(())
    }

    /// Nothing came: is that still patience?
    fn patience(&mut self) -> Result<()> {
        // What looked like the beginning of a report and was none is shown after all.
        if self.heard.elapsed() > Duration::from_secs(1) {
            let text = self.held.take();
            self.out(&text)?;
        }
        let silent = self.heard.elapsed() >= SILENCE;
        if self.warned || !(silent || self.reported.elapsed() >= NO_AGENT) {
            return Ok(());
        }
        let error = if silent { self.line.silent() } else { self.line.no_agent() };
        if self.local.is_none() {
            return Err(error);
        }
        // A person may be about to switch the Pi on.
        self.warned = true;
        self.status(&crate::error::fault_of(&error).to_string());
        Ok(())
    }

    /// Tells the person something of our own, wherever the cursor is.
    fn status(&self, text: &str) {
        if self.local.is_some() {
            sink::tell_raw(text);
        } else {
            self.ui.status(text);
        }
    }

    fn out(&self, bytes: &[u8]) -> Result<()> {
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(crate::error::StdoutClosed.into()),
            other => other.context("writing to stdout"),
        }
    }
}

/// Passes text on, but for the lines that are for us: what may become one is held back.
#[derive(Debug, Default)]
struct Held {
    line: Vec<u8>,
    ours: bool,
}

impl Held {
    fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let prefix = PREFIX.as_bytes();
        let mut text = Vec::new();
        for &byte in bytes {
            if self.ours {
                self.ours = byte != b'\n';
                continue;
            }
            self.line.push(byte);
            if self.line == prefix {
                self.line.clear();
                self.ours = true;
            } else if !prefix.starts_with(&self.line) {
                // The last byte may begin another.
                let begins = byte == prefix[0] && self.line.len() > 1;
                let length = self.line.len() - usize::from(begins);
                text.extend(self.line.drain(..length));
            }
        }
        text
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.line)
    }
}

/// What a signal must set right before the process ends.
pub(super) fn on_signal(restore: impl FnOnce() + Send + 'static) {
    interrupt::set_last_wish(Box::new(restore));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reports_are_kept_from_the_screen_and_nothing_else_is() {
        let report = cygnet_protocol::online::line::write(1, &ConsoleReport::default());
        let stream = format!("CYGNUS CYCYGNET\r\n{report}\r\nlogin: C{report}\nCYG");
        for size in [1, 2, 3, 7, 1000] {
            let mut held = Held::default();
            let mut text: Vec<u8> = stream.as_bytes().chunks(size).flat_map(|piece| held.push(piece)).collect();
            assert_eq!(text, b"CYGNUS CYCYGNET\r\nlogin: C", "{size}");
            text.extend(held.take());
            assert!(text.ends_with(b"CYG"));
        }
    }
}
