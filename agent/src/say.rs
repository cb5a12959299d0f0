//! Where the agent's words go: stdout, stderr and systemd's journal behind them.
//!
//! Nothing here panics when the other end is gone, as `println!` would (a panic ends the agent), and what a disk, an access
//! point or a program has said is made safe on the way.

use cygnet_protocol::text;
use std::io::{self, Write};

/// Writes to stdout, and a line end.
pub fn out(what: &str) {
    write(&mut io::stdout().lock(), what);
}

/// Writes to stderr, and a line end.
pub fn err(what: &str) {
    write(&mut io::stderr().lock(), what);
}

fn write(to: &mut impl Write, what: &str) {
    let _ =
        to.write_all(format!("{}\n", text::lines(what.trim_end_matches('\n'))).as_bytes()).and_then(|()| to.flush());
}

/// What the log is written to.
#[derive(Debug)]
pub struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().lock().write_all(text::lines(&String::from_utf8_lossy(bytes)).as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal or a journal that is gone.
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn nobody_listening_is_no_panic() {
        write(&mut Gone, "x");
    }

    #[test]
    fn what_others_said_is_made_safe() {
        let mut seen = Vec::new();
        write(&mut seen, "model \x1b[2J\u{202e}\nnext\n");
        assert_eq!(String::from_utf8(seen).unwrap(), "model \u{fffd}[2J\u{fffd}\nnext\n");
    }
}
