//! What terminals can show: marks, widths, and lines that fit.

use cygnet_protocol::online::link::LinkState;
use cygnet_protocol::text::is_hostile;
use std::fmt::Write;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The columns of a dumb terminal.
pub const COLUMNS: usize = 80;

/// Which characters a terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glyphs {
    /// A terminal program on somebody's laptop: all of Unicode.
    Unicode,
    /// The kernel's own terminal. Its built-in font has the 256 glyphs of code page 437, which has a √ and no ✓ or ✗;
    /// a card that must boot unattended is not the place to rely on a font having been loaded.
    Cp437,
}

/// What of code page 437 beyond ASCII is of use here; all of it is in the kernel's table (cp437.uni).
const IN_CP437: &str = "·√»«░▒▓│─■°±²½¼ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥áíóúñÑªº¿¡ßµ";

impl Glyphs {
    /// The mark of a link's state.
    pub const fn mark(self, state: LinkState) -> char {
        match (self, state) {
            (Glyphs::Unicode, LinkState::Up) => '✓',
            (Glyphs::Unicode, LinkState::Down) => '✗',
            (Glyphs::Unicode, LinkState::Busy) => '…',
            (Glyphs::Cp437, LinkState::Up) => '√',
            (Glyphs::Cp437, LinkState::Down) => 'x',
            (Glyphs::Cp437, LinkState::Busy) => '»',
            (_, LinkState::Warning) => '!',
            (_, LinkState::Pending) => '·',
            (_, LinkState::Unused) => '-',
        }
    }

    /// The text with nothing in it that this terminal would act on or not show.
    pub fn clean(self, text: &str) -> String {
        let mut clean = String::with_capacity(text.len());
        for c in text.chars() {
            match (self, c) {
                (_, ' '..='~') => clean.push(c),
                // Controls, and what turns the direction of writing, must not reach a terminal.
                (_, c) if is_hostile(c) => {
                    // Writing to a string does not fail.
                    let _ = write!(clean, "\\u{:x}", u32::from(c));
                }
                (Glyphs::Unicode, c) => clean.push(c),
                (Glyphs::Cp437, '“' | '”') => clean.push('"'),
                (Glyphs::Cp437, '‘' | '’') => clean.push('\''),
                (Glyphs::Cp437, '–' | '—') => clean.push('-'),
                (Glyphs::Cp437, '…') => clean.push_str("..."),
                (Glyphs::Cp437, '→') => clean.push_str("->"),
                (Glyphs::Cp437, c) if IN_CP437.contains(c) => clean.push(c),
                (Glyphs::Cp437, c) => clean.extend(std::iter::repeat_n('?', c.width().unwrap_or(0))),
            }
        }
        clean
    }
}

/// Columns that the text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// At most `columns` wide; what is cut off is an ellipsis of two dots, which every font has.
pub fn fit(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        if kept.width() + c.width().unwrap_or(0) + 2 > columns {
            break;
        }
        kept.push(c);
    }
    kept.extend(std::iter::repeat_n('.', 2.min(columns)));
    kept
}

/// Exactly `columns` wide.
pub fn pad(text: &str, columns: usize) -> String {
    let mut text = fit(text, columns);
    text.extend(std::iter::repeat_n(' ', columns.saturating_sub(text.width())));
    text
}

/// Broken between words into lines of at most `columns`; a word that is longer is broken where it must be.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut rest = word;
        while !rest.is_empty() {
            let line = match lines.last_mut() {
                Some(line) => line,
                None => return lines,
            };
            let gap = usize::from(!line.is_empty());
            if line.width() + gap + rest.width() <= columns {
                if gap > 0 {
                    line.push(' ');
                }
                line.push_str(rest);
                break;
            }
            if !line.is_empty() {
                lines.push(String::new());
                continue;
            }
            let mut taken = 0;
            let mut end = 0;
            for (at, c) in rest.char_indices() {
                taken += c.width().unwrap_or(0);
                if taken > columns && end > 0 {
                    break;
                }
                end = at + c.len_utf8();
            }
            line.push_str(&rest[..end]);
            rest = &rest[end..];
            if !rest.is_empty() {
                lines.push(String::new());
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_wide_as_they_must_be() {
        assert_eq!(fit("abcdef", 6), "abcdef");
        assert_eq!(fit("abcdefg", 6), "abcd..");
        assert_eq!(fit("🦢🦢🦢🦢", 7), "🦢🦢..");
        assert_eq!(pad("🦢", 4), "🦢  ");
        assert_eq!(fit("abc", 1), ".");
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("x abcdefghij y", 4), ["x", "abcd", "efgh", "ij y"]);
        assert!(wrap(&"🦢".repeat(100), 9).iter().all(|line| width(line) <= 9));
        assert!(wrap("🦢🦢", 1).len() == 2);
    }

    #[test]
    fn no_terminal_is_told_to_do_anything() {
        assert_eq!(Glyphs::Unicode.clean("a\u{1b}[2J\u{202e}b"), "a\\u1b[2J\\u202eb");
        assert_eq!(Glyphs::Cp437.clean("“Käfer 🦢” – …"), "\"Käfer ??\" - ...");
        for state in
            [LinkState::Up, LinkState::Busy, LinkState::Down, LinkState::Warning, LinkState::Pending, LinkState::Unused]
        {
            let mark = Glyphs::Cp437.mark(state);
            assert!(mark.is_ascii() || IN_CP437.contains(mark));
            assert_eq!(mark.width(), Some(1));
        }
    }
}
