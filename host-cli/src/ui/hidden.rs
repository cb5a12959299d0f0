//! Typing what nobody should see.

use super::{Ui, sink};
use crate::error::fault;
use crate::interrupt;
use anyhow::{Context, Result};
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::secret::Secret;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io;

/// The longest line that a terminal gives, termios(3).
const LONGEST: usize = 4096;

impl Ui {
    /// Asks for one line that is not shown while it is typed, and gives it without its end.
    pub fn ask_hidden(&self, question: &str) -> Result<Secret> {
        sink::ask(question);
        let line = {
            let _hidden = Hidden::begin()?;
            read_line()
        };
        // The key that ended it was not shown, either.
        sink::tell("");
        line?.ok_or_else(|| {
            fault(
                FaultCode::Declined,
                "Nothing was done, because nothing was typed.",
                "The terminal's input has ended.",
                "Type the passphrase, or give it in a file: `--secret NAME=FILE`, `--passphrase-file FILE`.",
            )
        })
    }
}

/// The terminal while it shows nothing of what is typed; as it was when dropped, or when a signal ends us.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> Result<Self> {
        let before = tcgetattr(io::stdin()).context("reading the terminal's settings")?;
        let mut hidden = before.clone();
        hidden.local_modes &= !LocalModes::ECHO;
        let saved = before.clone();
        interrupt::set_last_wish(Box::new(move || restore(&saved)));
        // What was typed before the question is no answer to it.
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden).context("setting the terminal")?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        restore(&self.0);
        interrupt::set_last_wish(Box::new(|| {}));
    }
}

fn restore(before: &Termios) {
    let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
}

/// Reads a line without its end, nothing if the input has ended. Not through std's buffer, which would keep it.
fn read_line() -> Result<Option<Secret>> {
    let mut bytes = vec![0; LONGEST];
    let read = loop {
        match rustix::io::read(io::stdin(), &mut bytes) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other,
        }
    };
    let count = *read.as_ref().unwrap_or(&0);
    bytes.truncate(count);
    let secret = Secret::new(bytes);
    read.context("reading the terminal")?;
    Ok((count > 0).then(|| secret.into_text()))
}
