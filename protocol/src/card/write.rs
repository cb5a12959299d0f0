//! `cygnet.toml`, written, so that [`super::read`] reads the same of it.

use super::config::CardConfig;
use crate::online::settings::{Key, Network};
use crate::text::is_hostile;
use zeroize::Zeroizing;

/// The whole file. Networks have their priorities; a caller sees to it that no two are the same.
pub fn write(config: &CardConfig) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::from(
        "# What the Pi takes at its next boot, and then removes the secrets from.\n# `cygnet card configure` wrote it; an editor may change it.\n",
    ));
    let texts = [
        ("hostname", &config.hostname),
        ("country", &config.country),
        ("claim", &config.claim),
        ("target", &config.target),
    ];
    for (key, value) in texts {
        if let Some(value) = value {
            line(&mut out, key, value);
        }
    }
    if !config.authorized_keys.is_empty() {
        out.push_str("authorized-keys = [\n");
        for key in &config.authorized_keys {
            out.push_str("  ");
            quoted(&mut out, key);
            out.push_str(",\n");
        }
        out.push_str("]\n");
    }
    if let Some(key) = &config.host_key {
        // A literal string of many lines: nothing in base64 needs an escape.
        out.push_str("host-key = '''\n");
        out.push_str(key.private());
        out.push_str("'''\n");
    }
    for network in &config.networks {
        out.push_str("\n[[network]]\n");
        section(&mut out, network);
    }
    out
}

fn section(out: &mut Zeroizing<String>, network: &Network) {
    match std::str::from_utf8(network.ssid.octets()) {
        Ok(text) => line(out, "ssid", text),
        Err(_) => line(out, "ssid-hex", &hex(network.ssid.octets())),
    }
    match &network.key {
        Key::Open => out.push_str("open = true\n"),
        Key::Passphrase(text) => line(out, "passphrase", text),
        Key::Pmk(octets) => line(out, "pmk", &Zeroizing::new(hex(octets))),
    }
    if network.hidden {
        out.push_str("hidden = true\n");
    }
    // Said only where it means something: two that say the same are a fault.
    if network.priority != 0 {
        out.push_str("priority = ");
        out.push_str(&network.priority.to_string());
        out.push('\n');
    }
}

fn line(out: &mut Zeroizing<String>, key: &str, value: &str) {
    out.push_str(key);
    out.push_str(" = ");
    quoted(out, value);
    out.push('\n');
}

/// A basic string (TOML 1.0, "String").
fn quoted(out: &mut Zeroizing<String>, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            // What acts on a terminal or is not seen there, for who prints the file; it reads the same.
            c if is_hostile(c) => match u32::from(c) {
                code @ ..=0xffff => out.push_str(&format!("\\u{code:04x}")),
                code => out.push_str(&format!("\\U{code:08x}")),
            },
            c => out.push(c),
        }
    }
    out.push('"');
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::config::HostKey;
    use super::super::foreign::tests::Numbers;
    use super::super::read::read;
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let key = HostKey::parse(include_str!("test-host-key")).unwrap();
        let mut numbers = Numbers::new(4);
        for number in 0..500 {
            let mut networks: Vec<Network> = Vec::new();
            for _ in 0..numbers.below(5) {
                let network = numbers.network();
                let twin = |other: &Network| other.ssid == network.ssid || other.priority == network.priority;
                if !networks.iter().any(twin) {
                    networks.push(network);
                }
            }
            networks.sort_by_key(|network| std::cmp::Reverse(network.priority));
            let config = CardConfig {
                hostname: Some("pi-4".into()),
                country: (number % 2 == 0).then(|| "DE".into()),
                networks,
                authorized_keys: vec![key.public(), format!("{} me \"x\\y\"", key.public())],
                claim: Some("\"me\" \\ 🦢\u{202e}\u{e0041}".into()),
                target: None,
                host_key: (number % 3 == 0).then(|| key.clone()),
            };
            let text = write(&config);
            assert!(text.chars().all(|c| c == '\n' || !is_hostile(c)), "{text:?}");
            let reading = read(text.as_bytes());
            assert_eq!((&reading.config, reading.faults.as_slice()), (&config, &[][..]));
            // As an editor on Windows saves it.
            let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
            assert_eq!(read(windows.as_bytes()).config, config);
            read(&numbers.damage(text.as_bytes()));
        }
    }
}
