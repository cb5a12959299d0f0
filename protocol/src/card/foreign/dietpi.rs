//! `dietpi-wifi.txt` and `dietpi.txt` of DietPi, one variable in a line. DietPi sources the first (`dietpi-wifidb`), so that
//! its values are quoted as the shell has it; of the second it takes the rest of the line with sed(1), as it is
//! (`/^[[:blank:]]*NAME=/{s/^[^=]*=//p;q}`), and the first such line counts. No shell sees either here.

use super::found::{Found, Written, text};
use crate::card::read::Reading;
use std::collections::BTreeMap;

/// How many names of settings that are not used are told.
const NAMES: usize = 12;
/// How many networks `dietpi-wifidb` writes down (`MAX_SSID_SLOTS`).
const SLOTS: u32 = 5;

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
    let mut given: Vec<&str> = Vec::new();
    for (line, content) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        // What is no name may be the rest of a value, and must not be told.
        let Some((name, value)) = content.split_once('=').filter(|(name, _)| is_name(name)) else {
            found.fault(line, "", "a line with NAME=value is expected");
            continue;
        };
        if let Some((array, number)) = element(name) {
            match unquoted(value.trim()) {
                Ok(value) => networks.entry(number).or_default().push((line, array.to_owned(), value)),
                Err(why) => found.fault(line, name, why),
            }
            continue;
        }
        let value = value.trim();
        let many = name == "AUTO_SETUP_SSH_PUBKEY";
        if !many && given.contains(&name) {
            found.fault(line, name, "it is there twice; the first is taken");
            continue;
        }
        given.push(name);
        match name {
            _ if value.is_empty() => {}
            "AUTO_SETUP_NET_HOSTNAME" => found.hostname(line, name, value),
            "AUTO_SETUP_NET_WIFI_COUNTRY_CODE" => found.country(line, name, value),
            "AUTO_SETUP_SSH_PUBKEY" => found.authorized_key(line, name, value),
            // Both are always on here.
            "AUTO_SETUP_NET_WIFI_ENABLED" | "AUTO_SETUP_NET_ETHERNET_ENABLED" if value == "1" => {}
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
        let names: String = names.join(", ").chars().filter(|c| !c.is_control()).take(500).collect();
        let word = if others.len() == 1 { "line" } else { "lines" };
        let lines = runs(others.iter().map(|(line, _)| *line));
        found.fault(*line, "", format!("not used by cygnet: {names}{more} ({word} {lines})"));
    }
    found.reading()
}

/// `1, 3-7, 9`, as far as anybody reads it.
fn runs(lines: impl Iterator<Item = usize>) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for line in lines {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == line => *last = line,
            _ => runs.push((line, line)),
        }
    }
    let text = |(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let more = if runs.len() > 40 { ", …" } else { "" };
    format!("{}{more}", runs.iter().take(40).map(text).collect::<Vec<_>>().join(", "))
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
    if number >= SLOTS {
        return found.fault(first.max(1), key, "DietPi has five networks, 0 to 4; this one is not read");
    }
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
        // Without a word on it, it is WPA-PSK (Init_Wifi_Db_Slot): without a key, too, it is not open.
        "" | "WPA-PSK" | "SAE" | "WPA-PSK SAE" => {}
        "WEP" => return found.fault(first, key, "it has WEP, which is not joined any more"),
        _ => return found.fault(first, key, "only WPA-PSK, SAE and NONE are possible as aWIFI_KEYMGR"),
    }
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

/// What a shell would make of the word, as far as it is quoted text (bash(1), QUOTING); nothing in it is ever run.
fn unquoted(word: &str) -> Result<String, &'static str> {
    const OPEN: &str = "a quotation mark is missing";
    const RUN: &str =
        "a shell would put something else in the place of $ or `, which is never done here; write the value in '…'";
    const WORDS: &str = "a shell would take it for several words; write the value in '…'";
    let mut out = String::new();
    let mut chars = word.chars().peekable();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, '\\') => out.push(chars.next().ok_or(OPEN)?),
            // Within double quotes a backslash is one unless it quotes what is special there.
            (Some('"'), '\\') => match chars.next().ok_or(OPEN)? {
                special @ ('$' | '`' | '"' | '\\') => out.push(special),
                other => out.extend(['\\', other]),
            },
            (None | Some('"'), '`') => return Err(RUN),
            (None | Some('"'), '$') => {
                let next = chars.peek();
                // `$'…'` and `$"…"` are ways to quote; within double quotes they are none.
                let quotes = quote.is_none() && matches!(next, Some('\'' | '"'));
                if quotes || next.is_some_and(|c| c.is_ascii_alphanumeric() || "_{(*@#?-$!".contains(*c)) {
                    return Err(RUN);
                }
                out.push('$');
            }
            // A comment behind the value, or nothing.
            (None, c) if c.is_whitespace() => match chars.clone().find(|c| !c.is_whitespace()) {
                None | Some('#') => break,
                Some(_) => return Err(WORDS),
            },
            (None, ';' | '&' | '|' | '<' | '>' | '(' | ')') => return Err(WORDS),
            (_, c) => out.push(c),
        }
    }
    if quote.is_some() { Err(OPEN) } else { Ok(out) }
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
    fn what_a_shell_would_make_of_it_is_not_guessed() {
        let of = |key: &str| read(format!("aWIFI_SSID[0]=x\naWIFI_KEY[0]={key}\n").as_bytes());
        for (good, is) in [
            ("'a $b `c` #d'", "a $b `c` #d"),
            ("\"cost: 5$ \\$6 ok\"", "cost: 5$ $6 ok"),
            ("plain-text # comment", "plain-text"),
            ("'two ''parts' ", "two parts"),
        ] {
            let reading = of(good);
            assert_eq!(reading.config.networks[0].key, Key::Passphrase(is.into()), "{good}: {:?}", reading.faults);
        }
        for (bad, says) in [
            ("\"pass$word1\"", "place of $"),
            ("hunter2`id`", "place of $"),
            ("$'hunter2hunter2'", "place of $"),
            ("hunter2 hunter2", "several words"),
            ("hunter2;hunter2", "several words"),
            ("'hunter2", "quotation mark"),
        ] {
            let Reading { config, faults } = of(bad);
            let told: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
            assert!(config.networks.is_empty() && told.contains(says) && !told.contains("hunter2"), "{bad}: {told}");
        }
        // Neither open by silence, nor one of more than DietPi has.
        let told = |text: &str| read(text.as_bytes()).faults[0].to_string();
        assert!(told("aWIFI_SSID[0]=x\n").contains("no passphrase"));
        assert!(told("aWIFI_SSID[7]=x\naWIFI_KEYMGR[7]=NONE\n").contains("five networks"));
    }

    #[test]
    fn the_other_file_has_a_country_and_many_more() {
        let text = "AUTO_SETUP_LOCALE=C.UTF-8\nAUTO_SETUP_NET_WIFI_ENABLED=1\nAUTO_SETUP_NET_WIFI_COUNTRY_CODE=gb\nAUTO_SETUP_NET_HOSTNAME=DietPi\n\
            AUTO_SETUP_GLOBAL_PASSWORD=hunter2\nAUTO_SETUP_SSH_PUBKEY=\nrubbish\nX='open\nthe rest of a hunter2 = '\n\
            AUTO_SETUP_NET_HOSTNAME=two\n";
        let Reading { config, faults } = read(text.as_bytes());
        assert_eq!((config.hostname.as_deref(), config.country.as_deref()), (Some("dietpi"), Some("GB")));
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "line 1: not used by cygnet: AUTO_SETUP_LOCALE, AUTO_SETUP_GLOBAL_PASSWORD, X (lines 1, 5, 8)",
                "line 7: a line with NAME=value is expected",
                "line 9: a line with NAME=value is expected",
                "line 10: AUTO_SETUP_NET_HOSTNAME: it is there twice; the first is taken",
            ]
        );
        let many: String = (0..3000).map(|n| format!("A{n}=1\n")).collect();
        assert!(read(many.as_bytes()).faults[0].why.ends_with("and 2988 more (lines 1-3000)"));
        // sed(1) takes the rest of the line, whatever is in it.
        for (text, says) in [
            ("AUTO_SETUP_NET_WIFI_COUNTRY_CODE=GB # where", "AUTO_SETUP_NET_WIFI_COUNTRY_CODE: two letters"),
            ("AUTO_SETUP_NET_HOSTNAME='pi'", "AUTO_SETUP_NET_HOSTNAME: only a to z"),
            ("AUTO_SETUP_NET_HOSTNAME =pi", "NAME=value"),
            ("AUTO_SETUP_NET_WIFI_ENABLED=0", "AUTO_SETUP_NET_WIFI_ENABLED (line 1)"),
        ] {
            let reading = read(text.as_bytes());
            assert!(reading.faults[0].to_string().contains(says), "{text}: {:?}", reading.faults);
        }
        assert!(read(&[0; 70_000]).faults[0].why.contains("64 kB") && read(b"\xff").faults.len() == 1);
    }
}
