//! A line of `authorized_keys`, judged as sshd(8) does: auth2-pubkeyfile.c, auth-options.c and sshkey.c of OpenSSH 10.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// The fewest bits of an RSA key (`SSH_RSA_MINIMUM_MODULUS_SIZE`), and the most (`SSHBUF_MAX_BIGNUM`).
const RSA_BITS: std::ops::RangeInclusive<usize> = 1024..=16384;

/// A key that may log in, with what its owner may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorizedKey<'a> {
    /// `restrict,from="10.0.0.0/8"`; often empty.
    pub options: &'a str,
    /// `ssh-ed25519`.
    pub kind: &'a str,
    /// The key.
    pub base64: &'a str,
    /// Whose it is.
    pub comment: &'a str,
}

/// In one form: `OPTIONS TYPE BASE64 COMMENT`, with one blank between them.
impl fmt::Display for AuthorizedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { options, kind, base64, comment } = self;
        let parts = [*options, *kind, *base64, *comment].into_iter().filter(|part| !part.is_empty());
        f.write_str(&parts.collect::<Vec<_>>().join(" "))
    }
}

/// What a line without a key is told.
const NO_KEY: &str = "it is no public key as in id_ed25519.pub (type, base64, comment)";
const BLANK: [char; 2] = [' ', '\t'];

impl<'a> AuthorizedKey<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// Why sshd would not let its owner in, or cygnet could not work with what it lets them do. Nothing of the line is
    /// part of that: it may be a secret in the wrong place.
    pub fn parse(line: &'a str) -> Result<Self, &'static str> {
        let line = line.trim();
        if line.contains(['\n', '\r', '\0']) {
            return Err("it has more than one line");
        }
        if line.contains("PRIVATE KEY") {
            return Err("it is a private key; the public one is in the file that ends with .pub");
        }
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err("it has control characters");
        }
        let (first, rest) = word(line);
        // As sshd does: what begins with no type begins with options.
        let (options, kind, rest) = if is_type(first) {
            ("", first, rest)
        } else {
            let (options, rest) = quoted_word(line).ok_or("a quotation mark is missing in the options of the key")?;
            let (kind, rest) = word(rest);
            if !is_type(kind) {
                return Err(NO_KEY);
            }
            (options, kind, rest)
        };
        let (base64, comment) = word(rest);
        judge(kind, base64)?;
        options_are_usable(options)?;
        Ok(Self { options, kind, base64, comment })
    }
}

/// Up to the first blank, and what is behind all that follow.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(BLANK).unwrap_or((text, ""));
    (word, rest.trim_start_matches(BLANK))
}

/// The same, but blanks between quotation marks belong to it (`sshkey_advance_past_options`). `None` if one is missing.
fn quoted_word(text: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '\\' if text.get(at + 1..).is_some_and(|rest| rest.starts_with('"')) => escaped = true,
            '"' if escaped => escaped = false,
            '"' => quoted = !quoted,
            c if BLANK.contains(&c) && !quoted => {
                return Some((text.get(..at)?, text.get(at..)?.trim_start_matches(BLANK)));
            }
            _ => {}
        }
    }
    (!quoted).then_some((text, ""))
}

/// Whether it looks like a type of key, also of one that is not taken.
fn is_type(word: &str) -> bool {
    word.starts_with("ssh-")
        || word.starts_with("ecdsa-sha2-")
        || word.starts_with("sk-")
        || word.starts_with("rsa-sha2-")
}

/// Whether sshd takes the key.
fn judge(kind: &str, base64: &str) -> Result<(), &'static str> {
    if kind.contains("-cert-v0") {
        return Err(
            "it is a certificate, which who logs in shows beside the key; give the key, from the file without -cert",
        );
    }
    let blob = STANDARD.decode(base64).map_err(|_| NO_KEY)?;
    let mut wire = Wire(&blob);
    // A key of one type under the name of another is cut together from two.
    if wire.string() != Some(kind.as_bytes()) {
        return Err(NO_KEY);
    }
    let good = match kind {
        "ssh-ed25519" => wire.string().is_some_and(|key| key.len() == 32),
        "sk-ssh-ed25519@openssh.com" => wire.string().is_some_and(|key| key.len() == 32) && wire.string().is_some(),
        "ecdsa-sha2-nistp256" => wire.point("nistp256", 32),
        "ecdsa-sha2-nistp384" => wire.point("nistp384", 48),
        "ecdsa-sha2-nistp521" => wire.point("nistp521", 66),
        "sk-ecdsa-sha2-nistp256@openssh.com" => wire.point("nistp256", 32) && wire.string().is_some(),
        "ssh-rsa" => {
            let (exponent, modulus) = (wire.number_bits(), wire.number_bits());
            if modulus.is_some_and(|bits| !RSA_BITS.contains(&bits)) {
                return Err("it is an RSA key of fewer than 1024 bits or more than 16384, which sshd does not take");
            }
            exponent.is_some() && modulus.is_some()
        }
        "ssh-dss" => {
            return Err("it is a DSA key, which sshd does not take since 2015; make one with `ssh-keygen -t ed25519`");
        }
        _ => return Err("it is of a type that sshd does not know; make one with `ssh-keygen -t ed25519`"),
    };
    if good && wire.0.is_empty() { Ok(()) } else { Err(NO_KEY) }
}

/// What is left of a key (RFC 4251, section 5).
struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn string(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (string, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        self.0 = rest;
        Some(string)
    }

    /// A curve's name and a point on it, not compressed (RFC 5656, section 3.1). Whether it is on the curve is for sshd.
    fn point(&mut self, curve: &str, bytes: usize) -> bool {
        self.string() == Some(curve.as_bytes())
            && self.string().is_some_and(|point| point.first() == Some(&4) && point.len() == 1 + 2 * bytes)
    }

    /// How many bits a number has that is not negative.
    fn number_bits(&mut self) -> Option<usize> {
        let bytes = self.string()?;
        if bytes.first().is_some_and(|first| first & 0x80 != 0) {
            return None;
        }
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let first = *bytes.get(zeros)?;
        Some((bytes.len() - zeros) * 8 - first.leading_zeros() as usize)
    }
}

/// Options that take nothing from what cygnet needs: a command without a terminal.
const FLAGS: [&str; 8] = [
    "restrict",
    "agent-forwarding",
    "port-forwarding",
    "pty",
    "user-rc",
    "x11-forwarding",
    "touch-required",
    "verify-required",
];
const VALUES: [&str; 6] = ["from", "expiry-time", "environment", "permitopen", "permitlisten", "tunnel"];

fn options_are_usable(options: &str) -> Result<(), &'static str> {
    let mut rest = options;
    while !rest.is_empty() {
        let end = rest.find(['=', ',']).unwrap_or(rest.len());
        let name = rest.get(..end).unwrap_or_default().to_ascii_lowercase();
        rest = rest.get(end..).unwrap_or_default();
        let mut has_value = false;
        if let Some(value) = rest.strip_prefix('=') {
            rest = behind_quoted(value)
                .ok_or("the value of an option in front of the key is not between quotation marks")?;
            has_value = true;
        }
        match name.as_str() {
            "command" => return Err("the option command= in front of the key would run another command than cygnet's"),
            "cert-authority" | "principals" => {
                return Err("the option cert-authority in front of the key is for certificates, which are not taken");
            }
            name if has_value && VALUES.contains(&name) => {}
            name if !has_value && FLAGS.contains(&name.strip_prefix("no-").unwrap_or(name)) => {}
            _ => return Err("there is an option in front of the key that sshd does not know"),
        }
        rest = match rest.strip_prefix(',') {
            Some("") => return Err("a comma in front of the key has no option behind it"),
            Some(rest) => rest,
            None if rest.is_empty() => rest,
            None => return Err("the options in front of the key are not separated by commas"),
        };
    }
    Ok(())
}

/// What is behind a text in quotation marks.
fn behind_quoted(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('"')?;
    let mut escaped = false;
    for (at, c) in inner.char_indices() {
        match c {
            '"' if !escaped => return inner.get(at + 1..),
            '\\' if !escaped => escaped = true,
            _ => escaped = false,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made for this test by ssh-keygen, and used nowhere.
    const P256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGN3JI+qPAigweEOlojimk4di9flY9Qn6+1RUA8P37nn6pd0RETe6x+Am8+ch8nO77eFYwRA3CjBGi02wI/0ABM= me@laptop";
    const P384: &str = "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBORyW385mINn7jYyQI02RfIu95rbBQg64x/YLFudjkFIR9HYEg5k/vF7eAz33x1Jf5S0swdzZfHJUSfYtR0PoMyYiMhKNWGdBDwQINeAB8arCTERxFG2YcmLsH27A8QeQQ== me@laptop";
    const P521: &str = "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAH+UkGggYymKq0cebuoMn5JRFOIr08IJsoAzjTmvN/ae1LpgDO4KM4A7kOfjNr6JTZEHQBm6angsJSIxScL2KpqxgBcu5r8WgfWo5SpRTE7SDy0yHqgJVJBwwGIvE/xK0kG2Vxbr4+XwX5E9SCfVk8OriMwwLDqbgWyfKxTJVwNuDp9WA== me@laptop";
    const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQCyte44U+4L6pYfbhZZ3UnnpIX9qMuojUHBM00XkppyBXiHnUuofko+SX9hnlZgr8Okp77EC9kWGH3oeQRGMPf4wnmgoipUZVkpdnCtFvY1vq2bEt/WZivLKXT+yAj1o9YMZsJfL8guY786Y29x1CR2Z149H8DG4PFrKIiBbdzP2w== me@laptop";
    const DSA: &str = "ssh-dss AAAAB3NzaC1kc3MAAACBAL/Od6qVze1SwiZhX3eGRK/QPtPRDekqYYg2keNc9HPm5mVxm6fJhI9vAYdnibKFIl/CuFV1/dH97+i8gDkB+izuFQkiQWSKOOf1TGJ4BRrbphJf5k7+FUa5HRJx4YZZbLM24gUpMMspSVkTNb4tejYBr0G+2CnBKLnxEdBi8mbxAAAAFQD8DQs+wXKPh+tEnZ2oLWWzt6wsaQAAAIEAorbULj1vdIK4cZUEzvGv9/mwIy2bU4KzK7q93x4zBhBhTuD0Cwpt1Q78uO9H0u04wgu2cdD9thHt/rEtvgOVDJ851sLSgQ9aykrwSJA8lwq+hdy5QqFCFgdZSQQMzI16JYup2AwgGfjZxLOEUg337qVmmli8YmvpEkuYD4WEmzIAAACALKePrLT/p0k+mSBnV3MbLafEKomzPml59M8cbSZAzKURZAJjRjmb+/8UW2gXEwNGsuZ0jANiHGeGoFFp8msihcj3TxhxR4CpHY5aBwPXgoVQuaU1j0itnFwXCUWkmo0M0jCHhRgJYge9ZQoVUWc5uyWQ6VV8+nsm/iLOsQckhUY= me@laptop";
    const CERTIFICATE: &str = "ecdsa-sha2-nistp256-cert-v01@openssh.com AAAAKGVjZHNhLXNoYTItbmlzdHAyNTYtY2VydC12MDFAb3BlbnNzaC5jb20AAAAgs4DLeDqusFR3DsNSfpmylgGqNbCJ/pkteNjm0vjvDYUAAAAIbmlzdHAyNTYAAABBBGN3JI+qPAigweEOlojimk4di9flY9Qn6+1RUA8P37nn6pd0RETe6x+Am8+ch8nO77eFYwRA3CjBGi02wI/0ABMAAAAAAAAAAAAAAAEAAAACaWQAAAAIAAAABHJvb3QAAAAAAAAAAP//////////AAAAAAAAAIIAAAAVcGVybWl0LVgxMS1mb3J3YXJkaW5nAAAAAAAAABdwZXJtaXQtYWdlbnQtZm9yd2FyZGluZwAAAAAAAAAWcGVybWl0LXBvcnQtZm9yd2FyZGluZwAAAAAAAAAKcGVybWl0LXB0eQAAAAAAAAAOcGVybWl0LXVzZXItcmMAAAAAAAAAAAAAADMAAAALc3NoLWVkMjU1MTkAAAAgbLfSJBpqCQA/K78M76mOOyWaIAPkyeo71/gcN6q6saEAAABTAAAAC3NzaC1lZDI1NTE5AAAAQJ/nuOxYbqh5YtYauTnfgtAtqOvl4daPq4v4Uwmwi4iF2RpmyK0QGaGc3KJ5hMrlu4XfB3dKJ6oe6Ep2/DP1RwU= me@laptop";
    const ED25519: &str = include_str!("test-host-key.pub");

    fn blob(parts: &[&[u8]]) -> String {
        let mut wire = Vec::new();
        for part in parts {
            wire.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            wire.extend(*part);
        }
        STANDARD.encode(wire)
    }

    fn sk() -> [String; 2] {
        let point = [&[4][..], &[7; 64]].concat();
        let (ed, ec) = ("sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com");
        [
            format!("{ed} {} me@laptop", blob(&[ed.as_bytes(), &[7; 32], b"ssh:"])),
            format!("{ec} {} me@laptop", blob(&[ec.as_bytes(), b"nistp256", &point, b"ssh:"])),
        ]
    }

    #[test]
    fn every_type_that_sshd_takes_is_taken() {
        let [sk_ed, sk_ec] = sk();
        for line in [P256, P384, P521, RSA, ED25519.trim_end(), &sk_ed, &sk_ec] {
            assert_eq!(AuthorizedKey::parse(line).map(|key| key.to_string()).as_deref(), Ok(line));
            let spaced = format!(" \t{}\r\n", line.replacen(' ', "\t  ", 1));
            assert_eq!(AuthorizedKey::parse(&spaced).map(|key| key.to_string()).as_deref(), Ok(line));
            // Every character counts: one less, one more, another type.
            let (kind, rest) = line.split_once(' ').unwrap();
            let (base64, _) = word(rest);
            for bad in [
                format!("{kind} {}", &base64[..base64.len() - 4]),
                format!("{kind} {base64}AAAA"),
                format!("{kind} {}", &base64[1..]),
                format!("{}x {base64}", kind),
                format!("ssh-ed448 {base64}"),
                kind.to_owned(),
            ] {
                assert!(AuthorizedKey::parse(&bad).is_err(), "{bad}");
            }
        }
    }

    #[test]
    fn what_sshd_does_not_take_is_told_apart() {
        let short = format!("ssh-rsa {}", blob(&[b"ssh-rsa", &[1, 0, 1], &[0x7f; 64]]));
        let huge = format!("ssh-rsa {}", blob(&[b"ssh-rsa", &[1, 0, 1], &[0x7f; 4096]]));
        let negative = format!("ssh-rsa {}", blob(&[b"ssh-rsa", &[1, 0, 1], &[0xff; 256]]));
        let compressed = [&[2][..], &[7; 32]].concat();
        let compressed = format!("ecdsa-sha2-nistp256 {}", blob(&[b"ecdsa-sha2-nistp256", b"nistp256", &compressed]));
        let other_curve = format!(
            "ecdsa-sha2-nistp256 {}",
            blob(&[b"ecdsa-sha2-nistp256", b"nistp384", &[&[4][..], &[7; 64]].concat()])
        );
        for (line, says) in [
            (DSA, "DSA"),
            (CERTIFICATE, "certificate"),
            (&short, "fewer than 1024"),
            (&huge, "more than 16384"),
            (&negative, "no public key"),
            (&compressed, "no public key"),
            (&other_curve, "no public key"),
            ("", "no public key"),
            ("# comment", "no public key"),
            ("hunter2", "no public key"),
            ("ssh-ed25519", "no public key"),
            (include_str!("test-host-key"), "more than one line"),
        ] {
            let why = AuthorizedKey::parse(line).unwrap_err();
            assert!(why.contains(says), "{line}: {why}");
            assert!(!why.contains("hunter2"));
        }
    }

    #[test]
    fn options_are_kept_or_refused_by_name() {
        for options in [
            "restrict",
            "no-pty,No-Port-Forwarding",
            "from=\"10.0.0.0/8,*.example.org\"",
            "from=\"a b\",expiry-time=\"20300101\",verify-required",
            "environment=\"A=\\\"x, y\\\"\",no-touch-required",
        ] {
            let line = format!("{options} {P256}");
            let key = AuthorizedKey::parse(&line).unwrap_or_else(|why| panic!("{options}: {why}"));
            assert_eq!((key.options, key.comment, key.to_string()), (options, "me@laptop", line.clone()));
        }
        for (options, says) in [
            ("command=\"rm -rf /\"", "command="),
            ("restrict,Command=\"x\"", "command="),
            ("cert-authority", "cert-authority"),
            ("principals=\"root\"", "cert-authority"),
            ("no-such-option", "does not know"),
            ("restrict=\"x\"", "does not know"),
            ("from", "does not know"),
            ("from=10.0.0.1", "quotation marks"),
            ("from=\"10.0.0.1", "quotation mark"),
            ("restrict,", "no option"),
            ("from=\"x\"restrict", "commas"),
        ] {
            let line = format!("{options} {P256}");
            let why = AuthorizedKey::parse(&line).unwrap_err();
            assert!(why.contains(says), "{options}: {why}");
        }
    }
}
