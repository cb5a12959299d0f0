//! What wpa_supplicant says through its control socket: events (wpa_ctrl.h), and replies of `key=value` lines.

use super::Signal;
use super::elements::Heard;

/// What an event means; its level `<3>` is in front. Most mean nothing to us.
pub(super) fn signals(event: &str) -> Vec<Signal> {
    let text = event.strip_prefix('<').and_then(|rest| rest.split_once('>')).map_or(event, |(_, text)| text);
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    match name {
        "CTRL-EVENT-CONNECTED" => vec![Signal::State("completed".into())],
        "CTRL-EVENT-DISCONNECTED" => {
            let reason = number(rest, "reason").unwrap_or(0);
            let ours = word(rest, "locally_generated") == Some("1");
            vec![Signal::State("disconnected".into()), Signal::Disconnected(if ours { -reason } else { reason })]
        }
        "CTRL-EVENT-AUTH-REJECT" => {
            let status = number(rest, "status_code").unwrap_or(0);
            let mut signals = vec![Signal::AuthStatus(status)];
            // SAE (3) whose confirmation was not verified (15): the passwords differ.
            if word(rest, "auth_type") == Some("3") && status == 15 {
                signals.push(Signal::SaeMismatch);
            }
            signals
        }
        "CTRL-EVENT-ASSOC-REJECT" => number(rest, "status_code").map(Signal::AssocStatus).into_iter().collect(),
        "CTRL-EVENT-SSID-TEMP-DISABLED" if word(rest, "reason") == Some("WRONG_KEY") => vec![Signal::PskMismatch],
        "CTRL-EVENT-SCAN-RESULTS" => vec![Signal::ScanDone(true)],
        "CTRL-EVENT-SCAN-FAILED" => vec![Signal::ScanDone(false)],
        "CTRL-EVENT-BSS-ADDED" | "CTRL-EVENT-BSS-REMOVED" => vec![Signal::BssChanged],
        "CTRL-EVENT-TERMINATING" => vec![Signal::Gone],
        _ => vec![],
    }
}

fn word<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    // An SSID that reads like one of the others comes in quotes and, in these events, last.
    text.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn number<N: std::str::FromStr>(text: &str, key: &str) -> Option<N> {
    word(text, key)?.parse().ok()
}

/// A line's value in a reply.
pub(super) fn field<'a>(reply: &'a str, key: &str) -> Option<&'a str> {
    reply.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

/// The reply to `BSS FIRST` and `BSS NEXT-id`, with the entry's number.
pub(super) fn heard(reply: &str) -> Option<(u32, Heard)> {
    let id = field(reply, "id")?.parse().ok()?;
    let elements = field(reply, "ie").and_then(unhex).unwrap_or_default();
    let capabilities =
        field(reply, "capabilities").and_then(|text| u16::from_str_radix(text.strip_prefix("0x")?, 16).ok());
    let heard = Heard {
        // The name is read from the elements: there it isn't escaped.
        ssid: Vec::new(),
        bssid: field(reply, "bssid")?.to_owned(),
        frequency: field(reply, "freq")?.parse().ok()?,
        signal: field(reply, "level").and_then(|text| text.parse().ok()).unwrap_or(0),
        privacy: capabilities.is_some_and(|bits| bits & 0x10 != 0),
        elements,
    };
    Some((id, heard))
}

/// Undoes printf_encode, in which replies have names.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'\\' => match rest.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'e' => 0x1b,
                b'x' => {
                    let pair = [rest.next()?, rest.next()?];
                    u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?
                }
                other => other,
            },
            other => other,
        });
    }
    Some(octets)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_signals() {
        for (event, says) in [
            (
                "<3>CTRL-EVENT-CONNECTED - Connection to 02:00:00:00:00:00 completed [id=0]",
                vec![Signal::State("completed".into())],
            ),
            (
                "<3>CTRL-EVENT-DISCONNECTED bssid=02:00:00:00:00:00 reason=3 locally_generated=1",
                vec![Signal::State("disconnected".into()), Signal::Disconnected(-3)],
            ),
            (
                "<3>CTRL-EVENT-AUTH-REJECT 02:00:00:00:00:00 auth_type=3 auth_transaction=2 status_code=15",
                vec![Signal::AuthStatus(15), Signal::SaeMismatch],
            ),
            ("<3>CTRL-EVENT-ASSOC-REJECT bssid=02:00:00:00:00:00 status_code=16", vec![Signal::AssocStatus(16)]),
            (
                "<3>CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid=\"home\" auth_failures=1 duration=10 reason=WRONG_KEY",
                vec![Signal::PskMismatch],
            ),
            ("<3>CTRL-EVENT-SCAN-FAILED ret=-16 retry=1", vec![Signal::ScanDone(false)]),
            ("<2>CTRL-EVENT-SCAN-STARTED ", vec![]),
            ("CTRL-EVENT-TERMINATING ", vec![Signal::Gone]),
            ("<", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(signals(event), says, "{event}");
        }
    }

    #[test]
    fn names_are_unescaped() {
        assert_eq!(unescape(r#"caf\xe9 \"a\\b\" \e\n"#).unwrap(), b"caf\xe9 \"a\\b\" \x1b\n");
        assert!(unescape("a\\").is_none() && unescape("\\x4").is_none() && unescape("\\xzz").is_none());
    }

    #[test]
    fn a_bss_is_read() {
        let reply =
            "id=7\nbssid=02:00:00:00:00:01\nfreq=2437\ncapabilities=0x0411\nlevel=-42\nie=0004636166e9\nflags=[ESS]\n";
        let (id, heard) = heard(reply).unwrap();
        assert_eq!((id, heard.frequency, heard.signal, heard.privacy), (7, 2437, -42, true));
        assert_eq!(heard.elements, b"\0\x04caf\xe9");
        assert!(super::heard("FAIL\n").is_none() && super::heard("").is_none());
    }
}
