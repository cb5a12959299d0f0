//! The one way to stderr. It can't fail: a terminal that was closed (EIO), or a reader that has gone (EPIPE), is no reason to
//! panic, as `eprintln!` does, in the middle of what has to be ended well.

use cygnet_protocol::text;
use std::io::{self, Write};

/// Writes text and a line end. What acts on terminals is hidden, whoever it comes from.
pub fn tell(what: &str) {
    write(&mut io::stderr().lock(), &format!("{what}\n"));
}

/// Writes text that [`super::paint`] has made harmless and given colours, and a line end.
pub(super) fn painted(what: &str) {
    let _ = io::stderr().lock().write_all(format!("{what}\n").as_bytes());
}

/// Writes a question, behind which the answer is typed.
pub fn ask(question: &str) {
    write(&mut io::stderr().lock(), question);
}

/// Writes lines for a terminal that is in raw mode, wherever its cursor is.
pub fn tell_raw(what: &str) {
    let text = text::lines(what).replace('\n', "\r\n");
    // The text is safe already, and would lose its line ends.
    let _ = io::stderr().lock().write_all(format!("\r\n{text}\r\n").as_bytes());
}

fn write(to: &mut impl Write, what: &str) {
    let _ = to.write_all(text::lines(what).as_bytes()).and_then(|()| to.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_the_terminal() {
        let mut seen = Vec::new();
        write(&mut seen, "disk \x1b]0;title\x07\u{9b}2J\u{202e}\r\nnext\n");
        assert_eq!(String::from_utf8(seen).unwrap(), "disk \u{fffd}]0;title\u{fffd}\u{fffd}2J\u{fffd}\nnext\n");
    }
}
