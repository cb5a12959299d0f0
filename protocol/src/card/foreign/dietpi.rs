//! `dietpi-wifi.txt` and `dietpi.txt` of DietPi, one variable in a line. DietPi sources the first (`dietpi-wifidb`), so that
//! its values are quoted as the shell has it; of the second it takes the rest of the line with sed(1), as it is
//! (`s/^[^=]*=//p`). No shell sees either here.

use super::found::{Found, Written, text};
use crate::card::read::Reading;
use std::collections::BTreeMap;

/// How many names of settings that are not used are told.
const NAMES: usize = 12;

/// A line of `dietpi-wifi.txt`: its number, the variable's name and its value.
type Line = (usize, String, String);

/// Reads either of them.
pub fn read(bytes: &[u8]) -> Reading {
    let text = match text(bytes) {
        Ok(text) => text,
        Err(reading) => return *reading,
    };
    let mut found = Found::default();
    let mut networks: BTreeMap<u32, Vec<Line>> = BTreeMap::new();
    let mut others: Vec<(usize, &str)> = Vec::new();
    for (line, content) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        // What is no name may be the rest of a value, and must not be told.
        let Some((name, value)) = content.split_once('=').filter(|(name, _)| is_name(name.trim())) else {
            found.fault(line, "", "a line with NAME=value is expected");
            continue;
        };
        let name = name.trim();
        let value = match unquoted(value.trim()) {
            // A key's comment may have an apostrophe, and a number sign.
            _ if name == "AUTO_SETUP_SSH_PUBKEY" => value.trim().to_owned(),
            Some(value) => value,
            None => {
                found.fault(line, name, "a quotation mark is missing");
                continue;
            }
        };
        match (name, element(name)) {
            (_, Some((name, number))) => networks.entry(number).or_default().push((line, name.to_owned(), value)),
            (_, None) if value.is_empty() => {}
            ("AUTO_SETUP_NET_HOSTNAME", None) => found.hostname(line, name, &value),
            ("AUTO_SETUP_NET_WIFI_COUNTRY_CODE", None) => found.country(line, name, &value),
            ("AUTO_SETUP_SSH_PUBKEY", None) => found.authorized_key(line, name, &value),
            ("AUTO_SETUP_NET_WIFI_ENABLED" | "AUTO_SETUP_NET_ETHERNET_ENABLED", None) => {}
            _ => others.push((line, name)),
        }
    }
    for (number, lines) in networks {
        network(&mut found, number, &lines);
    }
    if let Some((line, _)) = others.first() {
        // DietPi's own file has a hundred of them.
        let names: Vec<&str> = others.iter().take(NAMES).map(|(_, name)| *name).collect();
        let more = others.len().saturating_sub(NAMES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let names: String = names.join(", ").chars().filter(|c| !c.is_control()).take(600).collect();
        found.fault(*line, "", format!("not used by cygnet: {names}{more}"));
    }
    found.reading()
}

fn network(found: &mut Found, number: u32, lines: &[Line]) {
    // dietpi-wifidb writes scan_ssid=1 for each of them.
    let mut written = Written { hidden: true, ..Written::default() };
    let mut first = 0;
    let mut management = "";
    for (line, name, value) in lines {
        match name.as_str() {
            "aWIFI_SSID" => (written.ssid, first) = (value.as_bytes().to_vec(), *line),
            "aWIFI_KEY" => written.secret = Some(value.clone()).filter(|key| !key.is_empty()),
            "aWIFI_KEYMGR" => management = value,
            _ if value.is_empty() => {}
            _ => found.ignored(*line, format!("{name}[{number}]")),
        }
    }
    let key = format!("network {number}");
    if written.ssid.is_empty() {
        // The file comes with five empty ones.
        if written.secret.is_some() {
            found.fault(lines.first().map_or(1, |line| line.0), key, "it has a key and no aWIFI_SSID");
        }
        return;
    }
    // In any case, as dietpi-wifidb has it.
    match management.to_ascii_uppercase().as_str() {
        "NONE" => written.open = true,
        "" | "WPA-PSK" | "SAE" | "WPA-PSK SAE" => {}
        "WEP" => return found.fault(first, key, "it has WEP, which is not joined any more"),
        _ => return found.fault(first, key, "only WPA-PSK, SAE and NONE are possible as aWIFI_KEYMGR"),
    }
    written.open |= written.secret.is_none() && management.is_empty();
    found.network(first, &key, written);
}

/// A shell's variable, or an element of one.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_[]".contains(c))
}

/// `aWIFI_SSID[0]` in its parts.
fn element(name: &str) -> Option<(&str, u32)> {
    let (array, rest) = name.split_once('[')?;
    let number = rest.strip_suffix(']')?.parse().ok()?;
    array.starts_with("aWIFI_").then_some((array, number))
}

/// What a shell would make of the word, as far as it is quoted text; nothing in it is ever run.
fn unquoted(word: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = word.chars();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, '\\') => out.push(chars.next()?),
            // Within double quotes a backslash is one unless it quotes what is special there (bash(1), QUOTING).
            (Some('"'), '\\') => match chars.next()? {
                special @ ('$' | '`' | '"' | '\\') => out.push(special),
                other => out.extend(['\\', other]),
            },
            // A comment behind the value.
            (None, '#') if out.ends_with(char::is_whitespace) => break,
            (_, c) => out.push(c),
        }
    }
    quote
        .is_none()
        .then(|| out.trim_end_matches(|c: char| c.is_whitespace() && !word.ends_with(['\'', '"'])).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::online::settings::Key;

    #[test]
    fn networks_as_in_dietpis_file() {
        let text = "\u{feff}#---\r\n# Entry 0\r\naWIFI_SSID[0]='Bob'\\''s net'\r\naWIFI_KEY[0]='p#ss \"w$(reboot)'\r\naWIFI_KEYMGR[0]='WPA-PSK'\r\n\
            aWIFI_PROTO[0]='RSN'\r\naWIFI_IDENTITY[0]=''\r\naWIFI_SSID[1]=''\r\naWIFI_KEY[1]=''\r\naWIFI_KEYMGR[1]='WPA-PSK'\r\n\
            aWIFI_SSID[2]='guests'\r\naWIFI_KEYMGR[2]='NONE'\r\naWIFI_SSID[3]='corp'\r\naWIFI_KEYMGR[3]='WPA-EAP'\r\naWIFI_KEY[4]='hunter2hunter2'\r\n";
        let Reading { config, faults } = read(text.as_bytes());
        assert_eq!(config.networks.len(), 2, "{faults:?}");
        assert_eq!(config.networks[0].ssid.octets(), b"Bob's net");
        assert_eq!(config.networks[0].key, Key::Passphrase("p#ss \"w$(reboot)".into()));
        assert_eq!(config.networks[1].key, Key::Open);
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(told[0], "line 6: aWIFI_PROTO[0]: not used by cygnet");
        assert!(
            told[1].starts_with("line 13: network 3: only WPA-PSK")
                && told[2].starts_with("line 15: network 4: it has a key"),
            "{told:?}"
        );
        assert!(!told.join(" ").contains("hunter2"));
    }

    #[test]
    fn the_other_file_has_a_country_and_many_more() {
        let text = "AUTO_SETUP_LOCALE=C.UTF-8\nAUTO_SETUP_NET_WIFI_ENABLED=1\nAUTO_SETUP_NET_WIFI_COUNTRY_CODE=GB # where\nAUTO_SETUP_NET_HOSTNAME=DietPi\n\
            AUTO_SETUP_GLOBAL_PASSWORD=hunter2\nAUTO_SETUP_SSH_PUBKEY=\nrubbish\nX='open\nthe rest of a hunter2 = '\n";
        let Reading { config, faults } = read(text.as_bytes());
        assert_eq!((config.hostname.as_deref(), config.country.as_deref()), (Some("dietpi"), Some("GB")));
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "line 1: not used by cygnet: AUTO_SETUP_LOCALE, AUTO_SETUP_GLOBAL_PASSWORD",
                "line 7: a line with NAME=value is expected",
                "line 8: X: a quotation mark is missing",
                "line 9: a line with NAME=value is expected"
            ]
        );
        let many: String = (0..3000).map(|n| format!("A{n}=1\n")).collect();
        assert!(read(many.as_bytes()).faults[0].why.ends_with("and 2988 more"));
        assert!(read(&[0; 70_000]).faults[0].why.contains("64 kB") && read(b"\xff").faults.len() == 1);
    }
}
