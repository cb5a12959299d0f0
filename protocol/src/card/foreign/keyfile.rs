//! `[group]`, `key=value`, `#`: GLib's key files and iwd's settings files, which have the same five escapes (iwd.network(5),
//! "SETTINGS FORMAT"; glib/gkeyfile.c).

use super::{Fault, fault, lines};

/// One `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Counted from 1.
    pub line: usize,
    /// The name in brackets above it; empty if there is none.
    pub group: String,
    /// What is left of the `=`.
    pub key: String,
    /// What is right of it, escapes and all.
    pub raw: &'a [u8],
}

/// All entries, and the lines that are none.
pub fn entries(bytes: &[u8]) -> (Vec<Entry<'_>>, Vec<Fault>) {
    let (mut entries, mut faults) = (Vec::new(), Vec::new());
    let mut group = String::new();
    for (line, text) in lines(bytes) {
        let text = text.trim_ascii_start();
        match text {
            [] | [b'#', ..] => {}
            [b'[', ..] => match text.trim_ascii_end() {
                [b'[', name @ .., b']'] => group = String::from_utf8_lossy(name).into_owned(),
                _ => faults.push(fault(line, "", "a group has no closing bracket")),
            },
            _ => match text.iter().position(|byte| *byte == b'=') {
                Some(at) => {
                    let key = String::from_utf8_lossy(text[..at].trim_ascii_end()).into_owned();
                    let raw = text[at + 1..].trim_ascii_start();
                    entries.push(Entry { line, group: group.clone(), key, raw });
                }
                // It may be the second half of a passphrase.
                None => faults.push(fault(line, "", "it is neither a group, a comment nor key=value")),
            },
        }
    }
    (entries, faults)
}

impl Entry<'_> {
    /// The value with its escapes undone: `\s`, `\t`, `\n`, `\r`, `\\`; `\;` is left for those who know lists.
    pub fn octets(&self) -> Result<Vec<u8>, &'static str> {
        let mut octets = Vec::with_capacity(self.raw.len());
        let mut rest = self.raw.iter();
        while let Some(byte) = rest.next() {
            match byte {
                b'\\' => match rest.next() {
                    Some(b's') => octets.push(b' '),
                    Some(b't') => octets.push(b'\t'),
                    Some(b'n') => octets.push(b'\n'),
                    Some(b'r') => octets.push(b'\r'),
                    Some(b'\\') => octets.push(b'\\'),
                    Some(b';') => octets.extend(b"\\;"),
                    _ => return Err("after a backslash there must be s, t, n, r or another one"),
                },
                byte => octets.push(*byte),
            }
        }
        Ok(octets)
    }

    /// The same as text.
    pub fn text(&self) -> Result<String, &'static str> {
        String::from_utf8(self.octets()?).map_err(|_| "it is no UTF-8 text")
    }

    /// As iwd's `l_settings_get_bool()`: in any case, 1 and 0.
    pub fn is_true_in_any_case(&self) -> Result<bool, &'static str> {
        let value = self.raw.trim_ascii_end();
        match value {
            _ if value.eq_ignore_ascii_case(b"true") || value == b"1" => Ok(true),
            _ if value.eq_ignore_ascii_case(b"false") || value == b"0" => Ok(false),
            _ => Err("true or false is expected"),
        }
    }

    /// `true`, `false`, or what GLib takes for them.
    pub fn is_true(&self) -> Result<bool, &'static str> {
        match self.raw.trim_ascii_end() {
            b"true" | b"1" => Ok(true),
            b"false" | b"0" => Ok(false),
            _ => Err("true or false is expected"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_keys_and_escapes() {
        let text = b"\xef\xbb\xbf# x\r\n[a]\r\nk = \\sv\\\\w\\; \r\nodd\r\n[b\nx=\\q\n";
        let (entries, faults) = entries(text);
        assert_eq!((entries[0].line, entries[0].group.as_str(), entries[0].key.as_str()), (3, "a", "k"));
        assert_eq!(entries[0].octets().unwrap(), b" v\\w\\; ");
        assert!(entries[1].octets().is_err() && entries.len() == 2);
        assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [4, 5]);
    }
}
