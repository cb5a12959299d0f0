//! Makes text that comes from outside safe to show.
//!
//! A disk's model, an access point's name, an announcement, a file's name or a program's output can hold anything. Sent to a
//! terminal as it is, it moves the cursor, turns the text around, hides a part of it, or adds lines that look like ours.
//! Everything of that kind reaches a person only through [`line`] or [`lines`]; what is compared, hashed or stored does not.

/// Stands for each character that is not shown.
pub const HIDDEN: char = char::REPLACEMENT_CHARACTER;

/// Makes text fit for one line: whatever ends a line is hidden as well.
#[must_use]
pub fn line(text: &str) -> String {
    text.trim_end_matches(['\r', '\n']).chars().map(|c| if c == '\t' { ' ' } else { shown(c) }).collect()
}

/// Makes text fit for several lines: line feeds and tabs stay, and a carriage return before a line feed goes.
#[must_use]
pub fn lines(text: &str) -> String {
    let keep = |c: char| if matches!(c, '\n' | '\t') { c } else { shown(c) };
    text.replace("\r\n", "\n").chars().map(keep).collect()
}

/// Makes text fit for one line without losing what was there: what [`line`] hides is spelled out, tabs stay.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hostile(c) && c != '\t' {
            escaped.extend(c.escape_unicode());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Escapes in a JSON document what [`line`] would hide, so that its reader gets the same value and its terminal is left alone.
///
/// JSON (RFC 8259, section 7) allows such characters only within strings, where an escape means the same.
#[must_use]
pub fn json(document: &str) -> String {
    let mut escaped = String::with_capacity(document.len());
    for c in document.chars() {
        if is_hostile(c) && !matches!(c, '\n' | '\r' | '\t') {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Quotes a word for a shell, so that a command we advise can be pasted (POSIX.1-2017, Shell Command Language, 2.2.2).
#[must_use]
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", line(word).replace('\'', "'\\''"))
}

fn shown(c: char) -> char {
    if is_hostile(c) { HIDDEN } else { c }
}

/// Whether a character acts on the terminal, turns text around, or is not seen at all (Unicode 16, `Cc`, `Bidi_Control`,
/// `Default_Ignorable_Code_Point` and what fonts draw as nothing; but not the variation selectors of emoji).
#[must_use]
pub const fn is_hostile(c: char) -> bool {
    matches!(c,
        // C0, DEL and C1.
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // Soft hyphen, combining grapheme joiner.
        | '\u{ad}' | '\u{34f}'
        // Arabic letter mark.
        | '\u{61c}'
        // Fillers and vowels that are drawn as nothing.
        | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}' | '\u{ffa0}'
        // Zero-width, marks of direction, separators of lines and paragraphs, embeddings, overrides and isolates.
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        // Byte order mark, interlinear annotation.
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        // Musical beams, tags and what is reserved beside them.
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind.
    const HOSTILE: &[char] = &[
        '\0',
        '\u{7}',
        '\u{8}',
        '\r',
        '\u{1b}',
        '\u{7f}',
        '\u{80}',
        '\u{9b}',
        '\u{ad}',
        '\u{61c}',
        '\u{200b}',
        '\u{200e}',
        '\u{2028}',
        '\u{202e}',
        '\u{2066}',
        '\u{feff}',
        '\u{fff9}',
        '\u{e0041}',
        '\u{e007f}',
    ];

    #[test]
    fn each_kind_is_hidden_and_nothing_else_is() {
        for c in HOSTILE {
            assert_eq!(line(&format!("a{c}b")), "a\u{fffd}b", "{c:?}");
            assert_eq!(lines(&format!("a{c}b")), "a\u{fffd}b", "{c:?}");
        }
        for text in ["cygnet 🦢", "Größe", "日本", "“home”", "❤\u{fe0f}", "naïve", "שלום"] {
            assert_eq!(line(text), text);
        }
    }

    #[test]
    fn one_line_stays_one() {
        assert_eq!(line("SanDisk\nDigest 0000\r\nx\ty\n"), "SanDisk\u{fffd}Digest 0000\u{fffd}\u{fffd}x y");
        assert_eq!(lines("one\r\ntwo\n\tthree\rfour"), "one\ntwo\n\tthree\u{fffd}four");
    }

    #[test]
    fn what_is_spelled_out_is_all_there() {
        assert_eq!(escaped("rm\u{202e}\x1b[2J\tx"), "rm\\u{202e}\\u{1b}[2J\tx");
    }

    #[test]
    fn a_script_reads_the_same_value() {
        let value: String = HOSTILE.iter().collect();
        let document = json(&serde_json::to_string(&value).unwrap());
        assert!(document.chars().all(|c| !is_hostile(c)), "{document:?}");
        assert_eq!(serde_json::from_str::<String>(&document).unwrap(), value);
    }

    #[test]
    fn a_word_of_a_command_is_one_word() {
        for (word, quoted) in [
            ("/home/me/.ssh/known_hosts", "/home/me/.ssh/known_hosts"),
            ("[pi]:2222", "'[pi]:2222'"),
            ("a b", "'a b'"),
            ("x; rm -rf ~", "'x; rm -rf ~'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
            ("a\nb", "'a\u{fffd}b'"),
        ] {
            assert_eq!(shell_word(word), quoted);
        }
    }
}
