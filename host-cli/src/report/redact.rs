//! What is struck out of a report. Pure.
//!
//! Known secrets go wherever they stand, in whatever case; what only looks like one goes by the word before it. Names of
//! networks, of users and the devices' own halves of hardware addresses say who somebody is, and nothing of a fault.

use zeroize::Zeroizing;

/// What stands in the place of a secret.
const STRUCK: &str = "(struck out)";
/// Words before a secret: `psk=…`, `"password": "…"`.
const WORDS: &[&str] = &[
    "password",
    "passphrase",
    "passwd",
    "psk",
    "presharedkey",
    "pre-shared-key",
    "pmk",
    "secret",
    "token",
    "wep_key0",
    "wep-key0",
    "private_key",
];
/// The fewest characters by which a secret is looked for.
const FEWEST: usize = 4;

/// What is known of those that must not be in it.
#[derive(Debug, Default)]
pub struct Known {
    secrets: Vec<Zeroizing<String>>,
    names: Vec<String>,
}

impl Known {
    /// Notes a secret.
    pub fn secret(&mut self, text: &str) {
        if text.len() >= FEWEST {
            self.secrets.push(Zeroizing::new(text.to_owned()));
        }
    }

    /// Notes the name of a network.
    pub fn network(&mut self, name: &str) {
        if !name.is_empty() && !self.names.iter().any(|known| known == name) {
            self.names.push(name.to_owned());
        }
    }
}

/// Strikes out what must not be there.
pub fn lines(text: &str, known: &Known) -> String {
    let mut text = text.to_owned();
    for secret in &known.secrets {
        text = replaced(&text, secret, STRUCK);
    }
    // Longer names first: one may be in another.
    let mut names: Vec<(usize, &String)> = known.names.iter().enumerate().collect();
    names.sort_by_key(|(_, name)| std::cmp::Reverse(name.len()));
    for (number, name) in names {
        text = text.replace(&format!("“{name}”"), &format!("“network {}”", number + 1));
        text = text.replace(&format!("\"{name}\""), &format!("\"network {}\"", number + 1));
    }
    let mut out = String::with_capacity(text.len());
    let mut in_key = false;
    for line in text.lines() {
        let begins = line.contains("-----BEGIN ") && line.contains("PRIVATE KEY-----");
        let ends = line.contains("-----END ") && line.contains("PRIVATE KEY-----");
        if begins || in_key {
            // Its first line stands for all of it; one may be within a single line of JSON.
            if begins {
                out.push_str(&format!("{STRUCK}: a private key\n"));
            }
            in_key = !ends;
            continue;
        }
        let line = after_words(line);
        let words: Vec<String> = line.split(' ').map(word).collect();
        out.push_str(words.join(" ").trim_end());
        out.push('\n');
    }
    out.trim_end_matches('\n').to_owned()
}

/// In any case, as hex digits and names may be written.
fn replaced(text: &str, part: &str, by: &str) -> String {
    let (lower, part) = (text.to_ascii_lowercase(), part.to_ascii_lowercase());
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    while let Some(at) = lower[from..].find(&part) {
        out.push_str(&text[from..from + at]);
        out.push_str(by);
        from += at + part.len();
    }
    out.push_str(&text[from..]);
    out
}

/// Strikes out the value behind each of [`WORDS`].
fn after_words(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for word in WORDS {
        let mut from = 0;
        while let Some(at) = lower[from..].find(word) {
            let end = from + at + word.len();
            from = end;
            if let Some(span) = value(line, end) {
                spans.push(span);
            }
        }
    }
    spans.sort_unstable();
    let mut out = String::with_capacity(line.len());
    let mut from = 0;
    for (start, end) in spans {
        if start < from {
            continue;
        }
        out.push_str(&line[from..start]);
        out.push_str(STRUCK);
        from = end;
    }
    out.push_str(&line[from..]);
    out
}

/// Where the value is that belongs to a word that ends at `at`: behind `=` or `:`, with quotation marks or without.
fn value(line: &str, at: usize) -> Option<(usize, usize)> {
    let rest = &line[at..];
    let after = rest.trim_start_matches(['"', '\'', '\\', ' ', '\t']);
    let after = after.strip_prefix(['=', ':'])?;
    let value = after.trim_start();
    let start = line.len() - value.len();
    // A quotation mark may be escaped once more, within JSON.
    let quote = value.strip_prefix('\\').unwrap_or(value).chars().next().filter(|c| matches!(c, '"' | '\''));
    let (start, inner) = match quote {
        Some(quote) => {
            let skip = value.find(quote).unwrap_or(0) + 1;
            (start + skip, &value[skip..])
        }
        None => (start, value),
    };
    let ends = |c: char| match quote {
        Some(quote) => c == quote,
        None => c.is_whitespace() || "\",;'\\}".contains(c),
    };
    let length = inner.find(ends).unwrap_or(inner.len());
    let empty = inner[..length].trim().is_empty() || matches!(&inner[..length], "null" | "true" | "false" | "[" | "{");
    (!empty).then_some((start, start + length))
}

/// A word without what says who somebody is.
fn word(word: &str) -> String {
    let mut word = home(word);
    if let Some((before, rest)) = word.split_once("://")
        && let Some((credentials, after)) = rest.split_once('@')
        && !credentials.contains('/')
    {
        word = format!("{before}://{STRUCK}@{after}");
    }
    if let Some(at) = word.to_ascii_uppercase().find("AGE-SECRET-KEY-1") {
        word = format!("{}{STRUCK}", &word[..at]);
    }
    // A public key is known by its end.
    if let Some(at) = word.find("AAAA").filter(|at| word[*at..].len() > 60 && word[*at..].is_ascii()) {
        word = format!("{}AAAA…{}", &word[..at], &word[word.len() - 12..]);
    }
    hardware(&word)
}

/// `/home/USER/x`
fn home(word: &str) -> String {
    for root in ["/home/", "/Users/"] {
        if let Some(at) = word.find(root) {
            let (before, after) = word.split_at(at + root.len());
            let name = after.find(|c: char| !(c.is_alphanumeric() || "._-".contains(c))).unwrap_or(after.len());
            if name > 0 {
                return format!("{before}USER{}", &after[name..]);
            }
        }
    }
    word.to_owned()
}

/// Of a hardware address the maker's half stays.
fn hardware(word: &str) -> String {
    let bytes = word.as_bytes();
    let is_address = |at: usize| {
        let part = bytes.get(at..at + 17)?;
        let fits = part.iter().enumerate().all(|(n, byte)| match n % 3 {
            2 => *byte == b':',
            _ => byte.is_ascii_hexdigit(),
        });
        let neighbour = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit() || *byte == b':');
        let alone =
            !neighbour(at.checked_sub(1).and_then(|before| bytes.get(before))) && !neighbour(bytes.get(at + 17));
        (fits && alone).then_some(at)
    };
    match (0..bytes.len()).find_map(is_address) {
        Some(at) => format!("{}{}:xx:xx:xx{}", &word[..at], &word[at..at + 8], hardware(&word[at + 17..])),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_wherever_they_stand() {
        let mut known = Known::default();
        known.secret("Correct Horse");
        known.secret(&"0f".repeat(32));
        known.secret("x");
        known.network("home");
        known.network("home 2");
        let pem = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\ndef\n-----END OPENSSH PRIVATE KEY-----";
        for (text, expected) in [
            ("key correct horse!", "key (struck out)!"),
            (&format!("pmk {} x", "0F".repeat(32)), "pmk (struck out) x"),
            ("joined “home 2” and “home”, at home", "joined “network 2” and “network 1”, at home"),
            ("psk=\"a b c\" # x", "psk=\"(struck out)\" # x"),
            ("\"password\": \"hunter2\",", "\"password\": \"(struck out)\","),
            ("echo \\\"passphrase = 'a b'\\\"", "echo \\\"passphrase = '(struck out)'\\\""),
            ("PASSWORD: hunter2, next", "PASSWORD: (struck out), next"),
            ("passwordFile = /tmp/x; password = null", "passwordFile = /tmp/x; password = null"),
            ("Secrets\n  - give --secret crypted=FILE", "Secrets\n  - give --secret crypted=FILE"),
            (&format!("a\n{pem}\nb"), "a\n(struck out): a private key\nb"),
            ("git+https://me:tok@example.org/x", "git+https://(struck out)@example.org/x"),
            ("https://example.org/a@b", "https://example.org/a@b"),
            ("/home/joe/fleet and /Users/Joe.X/y /home/", "/home/USER/fleet and /Users/USER/y /home/"),
            ("(d8:3a:dd:01:02:03), d8:3a:dd:01:02:03:04", "(d8:3a:dd:xx:xx:xx), d8:3a:dd:01:02:03:04"),
            ("AGE-SECRET-KEY-1QQQ", "(struck out)"),
        ] {
            assert_eq!(lines(text, &known), expected, "{text}");
        }
        let key = format!("ssh-ed25519 AAAA{} me", "b".repeat(64));
        assert_eq!(lines(&key, &known), format!("ssh-ed25519 AAAA…{} me", "b".repeat(12)));
        let digest = "4cb7e98a38e41478cc5041604260a6e3cb86d1640e2e88ae28c12c60adae4f51";
        assert_eq!(lines(digest, &known), digest, "a digest is no secret");
        // Whatever it is, it ends, and does not panic.
        for odd in [
            "psk",
            "psk=",
            "psk=\"",
            "password:ü",
            "://@",
            "“home”\u{212a}İpsk=ß",
            "AAAA",
            "-----BEGIN X PRIVATE KEY-----",
        ] {
            lines(odd, &known);
        }
    }
}
