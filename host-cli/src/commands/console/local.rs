//! The terminal that the person sits at: raw while we have it, with a row at the bottom for how the Pi is.

use anyhow::{Context, Result};
use cygnet_protocol::text;
use rustix::termios::{OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, Write};

/// Fewer rows than this have none to spare.
const LEAST_ROWS: u16 = 8;

/// The terminal; as it was when dropped, or when a signal ends us.
#[derive(Debug)]
pub struct Local {
    before: Termios,
    bar: bool,
    rows: u16,
    columns: u16,
    text: String,
}

impl Local {
    /// Takes it. With `bar`, the last row is ours.
    ///
    /// # Errors
    /// If stdin is no terminal.
    pub fn take(bar: bool) -> Result<Self> {
        let before = tcgetattr(io::stdin()).context("reading the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        // Lines of the Pi end in CR LF anyway, and ours should be as right.
        raw.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
        // Reading gives what there is, and does not wait: see `Line::wait`.
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        let saved = before.clone();
        super::on_signal(move || restore(&saved, bar));
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).context("setting the terminal")?;
        let mut local = Self { before, bar, rows: 0, columns: 0, text: "no report yet".into() };
        local.fit()?;
        Ok(local)
    }

    /// Sees whether the window has another size.
    ///
    /// # Errors
    /// If stdout is gone.
    pub fn fit(&mut self) -> Result<()> {
        let Ok(size) = tcgetwinsize(io::stdout()) else { return Ok(()) };
        if !self.bar || (size.ws_row, size.ws_col) == (self.rows, self.columns) {
            return Ok(());
        }
        (self.rows, self.columns) = (size.ws_row, size.ws_col);
        if self.has_room() {
            // A line feed makes room where the cursor stood in the last row; then the region without it (DECSTBM, which
            // moves the cursor, so that it is put back).
            print(&format!("\n\x1b[A\x1b7\x1b[1;{}r\x1b8", self.rows - 1))?;
        }
        self.draw()
    }

    /// Shows another text in the row.
    ///
    /// # Errors
    /// If stdout is gone.
    pub fn status(&mut self, text: &str) -> Result<()> {
        text.clone_into(&mut self.text);
        self.draw()
    }

    fn has_room(&self) -> bool {
        self.rows >= LEAST_ROWS
    }

    fn draw(&self) -> Result<()> {
        if !self.bar || !self.has_room() {
            return Ok(());
        }
        let columns = usize::from(self.columns);
        // Names of networks may be wider than we count; the terminal must not wrap them into a new row (DECAWM off).
        let text: String = text::line(&self.text).chars().take(columns).collect();
        print(&format!("\x1b7\x1b[{};1H\x1b[?7l\x1b[7m{text:<columns$}\x1b[0m\x1b[?7h\x1b8", self.rows))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        restore(&self.before, self.bar);
    }
}

fn restore(before: &Termios, bar: bool) {
    // First what can't hang.
    let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
    if bar {
        // The whole window scrolls again, and the last row is empty.
        let _ = print("\x1b7\x1b[r\x1b[999;1H\x1b[K\x1b8");
    }
    let _ = print("\r\n");
}

fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("writing to stdout")
}
