//! What must hold whatever bytes a file of settings has, for the fuzz target `card` and for our own damaged files; no part of
//! the programs.
//!
//! No reader panics, and none says more than a person would read, or a secret. What a reader takes is gone from the file once
//! it is redacted, and can be written down as `cygnet.toml`, which reads as the same.

#![allow(clippy::missing_panics_doc, reason = "panics are how a fuzz target says that it has found something")]

use super::LIMIT;
use super::config::{CardConfig, MAX_KEYS};
pub use super::foreign::Reader;
use super::foreign::{cloud_init, custom_toml, dietpi, iwd, networkmanager, rpi_preseed, wpa_supplicant};
use super::read::{Fault, MAX_FAULTS, Reading, read};
use super::redact::redact;
use super::says::says;
use super::write::write;
use crate::online::settings::{Key, MAX_NETWORKS};

/// Every kind of file that is read, on a card or on a laptop, by its name, and its reader. There is a sample of each in
/// `protocol/tests/fixtures/card`.
pub const FILES: &[(&str, Reader)] = &[
    (super::FILE, read),
    ("rpi-preseed.toml", rpi_preseed::read),
    ("network-config", cloud_init::network_config),
    ("user-data", cloud_init::user_data),
    ("custom.toml", custom_toml::read),
    ("dietpi-wifi.txt", dietpi::read),
    ("dietpi.txt", dietpi::read),
    ("wpa_supplicant.conf", wpa_supplicant::read),
    ("home.nmconnection", networkmanager::read),
    ("iwd.psk", named),
];

/// What is in the secrets of the samples: where it stands only once, it stands in a secret.
const MARK: &str = "hunter2";
/// The most characters that are said of one thing that is wrong.
const MOST_SAID: usize = 1000;
/// So much of a secret must never be seen.
const PART: usize = 40;

/// iwd's files say what the network is called by their names: here the first line.
fn named(bytes: &[u8]) -> Reading {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    // With its name it is no longer than others.
    let (name, file) = if bytes.len() > LIMIT { (&b"long.psk"[..], bytes) } else { bytes.split_at(end) };
    iwd::read(&String::from_utf8_lossy(name), file)
}

/// Reads this, and looks whether all of that holds.
pub fn judge(bytes: &[u8], reader: Reader) {
    let reading = reader(bytes);
    is_bounded(&reading);
    tells_no_secret(bytes, &reading);
    is_redacted(bytes, &reading.config, reader);
    is_written(&reading.config);
    // It reads `cygnet.toml` once more, in a way of its own.
    drop(says(bytes));
}

fn is_bounded(Reading { config, faults }: &Reading) {
    assert!(faults.len() <= MAX_FAULTS, "{} faults", faults.len());
    for fault in faults {
        assert!(fault.line > 0 && fault.to_string().chars().count() <= MOST_SAID, "{fault}");
    }
    assert!(config.networks.len() <= MAX_NETWORKS && config.authorized_keys.len() <= MAX_KEYS, "{config:?}");
}

fn tells_no_secret(bytes: &[u8], Reading { config, faults }: &Reading) {
    let file = bytes.to_ascii_lowercase();
    // A shell's word is put together of quoted parts.
    let bare: Vec<u8> = file.iter().copied().filter(|byte| !b"'\"\\".contains(byte)).collect();
    for part in parts(config) {
        // What stands there a second time may be a name, which is told.
        if count(&file, part.as_bytes()) <= 1 && count(&bare, part.as_bytes()) <= 1 {
            let told = |fault: &Fault| fault.to_string().to_ascii_lowercase().contains(&part);
            assert!(!faults.iter().any(told), "a secret is in {faults:?}");
            assert!(!format!("{config:?}").to_ascii_lowercase().contains(&part), "a secret is in {config:?}");
        }
    }
    // Nor one that is refused: only what is a name may be in the cause.
    if count(&file, MARK.as_bytes()) == 1 {
        let told = |fault: &Fault| without_names(&fault.why).contains(MARK);
        assert!(!faults.iter().any(told), "a value is in {faults:?}");
    }
}

fn is_redacted(bytes: &[u8], config: &CardConfig, reader: Reader) {
    let Some(left) = redact(bytes, config, reader) else { return };
    assert!(left.len() <= LIMIT, "{} bytes are left", left.len());
    let again = reader(&left).config;
    let secret = |key: &Key| *key != Key::Open && config.networks.iter().any(|network| network.key == *key);
    assert!(!again.networks.iter().any(|network| secret(&network.key)), "a passphrase is left: {again:?}");
    assert!(again.host_key.is_none() || again.host_key != config.host_key, "the host key is left");
    let (before, after) = (bytes.to_ascii_lowercase(), left.to_ascii_lowercase());
    for part in parts(config) {
        let gone = count(&before, part.as_bytes()) > 1 || count(&after, part.as_bytes()) == 0;
        assert!(gone, "part of a secret is left");
    }
}

fn is_written(config: &CardConfig) {
    let text = write(config);
    // Some can only be written longer than they were.
    if text.len() <= LIMIT {
        assert_eq!(&read(text.as_bytes()).config, config);
    }
}

/// Parts by which its secrets are known, in small letters.
fn parts(config: &CardConfig) -> Vec<String> {
    let of = |key: &Key| match key {
        Key::Passphrase(text) if text.contains(MARK) => Some(MARK.to_owned()),
        // Any other may be a word that everybody uses.
        Key::Passphrase(_) | Key::Open => None,
        Key::Pmk(octets) => Some(octets.iter().take(PART / 2).map(|octet| format!("{octet:02x}")).collect()),
    };
    let lines = config.host_key.iter().flat_map(|key| key.private().lines()).filter(|line| !line.starts_with('-'));
    let lines = lines.filter_map(|line| Some(line.get(..PART)?.to_ascii_lowercase()));
    config.networks.iter().filter_map(|network| of(&network.key)).chain(lines).collect()
}

/// What a fault says of its own: names of networks are in quotes, those of settings behind a colon.
fn without_names(why: &str) -> String {
    let why = why.split("not used by cygnet: ").next().unwrap_or_default();
    match (why.find('“'), why.rfind('”')) {
        (Some(start), Some(end)) if start < end => format!("{}{}", &why[..start], &why[end..]),
        _ => why.to_owned(),
    }
}

fn count(text: &[u8], part: &[u8]) -> usize {
    text.windows(part.len()).filter(|window| *window == part).count()
}

#[cfg(test)]
mod tests {
    use super::super::foreign::tests::Numbers;
    use super::*;
    use std::path::Path;

    fn sample(name: &str) -> Vec<u8> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/card").join(name);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    #[test]
    fn the_samples_are_good_and_have_a_secret() {
        for (name, reader) in FILES {
            let bytes = sample(name);
            let reading = reader(&bytes);
            assert_ne!(reading.config, CardConfig::default(), "{name}");
            // These say nothing of networks.
            if !["user-data", "dietpi.txt"].contains(name) {
                assert!(parts(&reading.config).contains(&MARK.to_owned()), "{name}: {reading:?}");
                assert_eq!(count(&bytes, MARK.as_bytes()), 1, "{name}");
            }
            judge(&bytes, *reader);
        }
    }

    #[test]
    fn whatever_was_damaged_is_read() {
        let mut numbers = Numbers::new(7);
        for (name, _) in FILES {
            let bytes = sample(name);
            for _ in 0..150 {
                let damaged = numbers.damage(&bytes);
                // By any reader: a file may have the name of another.
                for (_, reader) in FILES {
                    judge(&damaged, *reader);
                }
            }
        }
    }

    #[test]
    fn files_of_nothing_but_faults_stay_small() {
        for (line, header) in [("k = 1\n", ""), ("k: 1\n", "#cloud-config\n"), ("x\n", ""), ("[x\n", ""), ("=\n", "")] {
            let file = format!("{header}{}", line.repeat(10_000));
            let numbered: String = (0..4000).map(|number| format!("{number}{line}")).collect();
            for (_, reader) in FILES {
                judge(file.as_bytes(), *reader);
                judge(format!("{header}{numbered}").as_bytes(), *reader);
            }
        }
    }

    #[test]
    #[should_panic(expected = "a secret is in")]
    fn a_reader_that_tells_a_secret_is_found_out() {
        fn leaky(bytes: &[u8]) -> Reading {
            let mut reading = read(bytes);
            let key = String::from_utf8_lossy(bytes).into_owned();
            reading.faults.push(Fault { line: 1, key, why: "it is none".into() });
            reading
        }
        judge(b"[[network]]\nssid = \"x\"\npassphrase = \"hunter2hunter3\"\n", leaky);
    }

    #[test]
    #[should_panic(expected = "a value is in")]
    fn a_reader_that_tells_what_it_refuses_is_found_out() {
        fn leaky(bytes: &[u8]) -> Reading {
            let why = format!("“x”: {} is too short", String::from_utf8_lossy(bytes));
            Reading { faults: vec![Fault { line: 1, key: String::new(), why }], ..Reading::default() }
        }
        judge(b"hunter2", leaky);
    }
}
