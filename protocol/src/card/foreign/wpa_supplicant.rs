//! `wpa_supplicant.conf` (wpa_supplicant.conf(5), config_file.c and config.c of wpa_supplicant 2.11).

use super::found::NOT_USED;
use super::{fault, lines, reading, too_long};
use crate::card::config::CardConfig;
use crate::card::read::{Fault, Reading};
use crate::online::country;
use crate::online::settings::{Key, MAX_NETWORKS, Network, unhex};
use crate::online::ssid::Ssid;

/// Reads the file. Of global settings only the country is taken.
pub fn read(bytes: &[u8]) -> Reading {
    if let Some(refused) = too_long(bytes) {
        return refused;
    }
    let mut config = CardConfig::default();
    let mut faults = Vec::new();
    let mut block: Option<Block> = None;
    for (line, text) in lines(bytes) {
        let text = without_comment(text);
        if text.is_empty() {
            continue;
        }
        let (key, value) = match text.iter().position(|byte| *byte == b'=') {
            Some(at) => (String::from_utf8_lossy(text[..at].trim_ascii()).into_owned(), text[at + 1..].trim_ascii()),
            None => (String::new(), text),
        };
        block = match block {
            Some(open) if text == b"}" => {
                open.close(&mut config, &mut faults);
                None
            }
            Some(mut open) => {
                if open.joins
                    && let Err(why) = open.take(&key, value)
                {
                    faults.push(fault(line, key, why));
                }
                Some(open)
            }
            None if value == b"{" => {
                // cred={ is for Hotspot 2.0, blob-base64-NAME={ holds certificates. strcmp(pos, "network={") there: not a
                // blank more.
                let joins = text == b"network={";
                if !joins {
                    faults.push(fault(line, key, "such a block is not taken over; only network={ is"));
                }
                Some(Block { line, joins, ..Block::default() })
            }
            // strcmp(pos, "network={") there: nothing may follow.
            None if value.starts_with(b"{") => {
                faults.push(fault(
                    line,
                    key,
                    "nothing of it is read: the brace ends the line, and each key has a line of its own",
                ));
                None
            }
            None => {
                if key == "country" {
                    match country::code(&String::from_utf8_lossy(value)) {
                        Ok(code) => config.country = Some(code),
                        Err(why) => faults.push(fault(line, key, why)),
                    }
                } else if key.is_empty() {
                    faults.push(fault(line, "", "it is neither key=value nor a block"));
                } else if !(GLOBAL.contains(&key.as_str()) || key == "ap_scan" && value == b"1") {
                    faults.push(fault(line, key, NOT_USED));
                }
                None
            }
        };
    }
    if let Some(open) = block {
        faults.push(fault(open.line, "", "the block that begins here has no closing brace; the file is cut off"));
    }
    config.networks.sort_by_key(|network| std::cmp::Reverse(network.priority));
    reading(config, faults)
}

/// Global settings that mean something to that machine's own programs only.
const GLOBAL: &[&str] = &["ctrl_interface", "ctrl_interface_group", "update_config", "p2p_disabled"];
/// Of a network: its name there, and what each access point says itself.
const SAME: &[&str] = &["id_str", "proto", "pairwise", "group", "ieee80211w"];

/// As wpa_config_get_line(): a `#` within quotes is none.
fn without_comment(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii();
    let first = line.iter().position(|byte| *byte == b'"');
    let last = line.iter().rposition(|byte| *byte == b'"');
    let hash = line.iter().position(|byte| *byte == b'#');
    let end = match (first, last, hash) {
        (_, _, None) => line.len(),
        (Some(first), Some(last), Some(hash)) if hash > first && last > first => {
            line[last..].iter().position(|byte| *byte == b'#').map_or(line.len(), |at| last + at)
        }
        (_, _, Some(hash)) => hash,
    };
    line[..end].trim_ascii_end()
}

#[derive(Default)]
struct Block {
    line: usize,
    joins: bool,
    ssid: Option<Vec<u8>>,
    psk: Option<String>,
    sae_password: Option<String>,
    wep: bool,
    /// Of `enum wpas_mode`: 0 joins, 1 is a network between two, 2 an access point.
    mode: i32,
    key_management: Option<Vec<u8>>,
    hidden: bool,
    priority: i32,
    disabled: bool,
}

impl Block {
    fn take(&mut self, key: &str, value: &[u8]) -> Result<(), &'static str> {
        match key {
            "ssid" => self.ssid = Some(octets(value)?),
            "psk" if value.starts_with(b"ext:") => {
                return Err("it is not in this file but in another (ext_password_backend)");
            }
            "psk" => self.psk = Some(passphrase(value)?),
            "sae_password" => self.sae_password = Some(text(octets(value)?)?),
            "wep_key0" | "wep_key1" | "wep_key2" | "wep_key3" => self.wep = true,
            "mode" => self.mode = number(value)?,
            "key_mgmt" => self.key_management = Some(value.to_vec()),
            "scan_ssid" => self.hidden = number(value)? == 1,
            "priority" => self.priority = number(value)?,
            "disabled" => self.disabled = number(value)? != 0,
            "auth_alg" if value == b"OPEN" => {}
            "auth_alg" if value.starts_with(b"SHARED") => self.wep = true,
            "" => return Err("it is no key=value"),
            _ if SAME.contains(&key) => {}
            // bssid, freq_list…: how that machine likes to join it.
            _ => return Err(NOT_USED),
        }
        Ok(())
    }

    fn close(self, config: &mut CardConfig, faults: &mut Vec<Fault>) {
        if !self.joins {
            return;
        }
        let line = self.line;
        let disabled = self.disabled;
        match self.network() {
            Ok(network) if disabled => {
                faults.push(fault(
                    line,
                    format!("“{}”", network.ssid),
                    "it is switched off there (disabled=1), and not taken",
                ));
            }
            // A second block for the same network says how else to join it; the agent knows that by itself.
            Ok(network) if config.networks.iter().any(|other| other.ssid == network.ssid) => {
                let same = config.networks.iter().any(|other| other.ssid == network.ssid && other.key == network.key);
                if !same {
                    faults.push(fault(
                        line,
                        format!("“{}”", network.ssid),
                        "another network has the same name; that one is taken",
                    ));
                }
            }
            Ok(_) if config.networks.len() == MAX_NETWORKS => {
                faults.push(fault(line, "", format!("there are more than {MAX_NETWORKS} networks")));
            }
            Ok(network) => config.networks.push(network),
            Err(why) => faults.push(fault(line, "", why)),
        }
    }

    fn network(self) -> Result<Network, String> {
        let ssid = self.ssid.ok_or("the network has no ssid; others are not joined")?;
        let ssid = Ssid::new(ssid).map_err(|error| error.to_string())?;
        let methods = self.key_management.unwrap_or_else(|| b"WPA-PSK".to_vec());
        let has = |name: &str| methods.split(u8::is_ascii_whitespace).any(|method| method == name.as_bytes());
        if self.mode != 0 {
            return Err(format!("“{ssid}” is an access point or a network between two (mode), nothing to join"));
        }
        let psk = ["WPA-PSK", "WPA-PSK-SHA256", "FT-PSK", "SAE", "FT-SAE", "SAE-EXT-KEY"].iter().any(|name| has(name));
        let open = !psk && has("NONE");
        if !psk && has("OWE") {
            return Err(format!("“{ssid}” is Enhanced Open (OWE), which is not supported"));
        }
        if !psk && !open {
            return Err(format!("“{ssid}” is joined in a way (key_mgmt) that can't be carried over"));
        }
        if open && self.wep {
            return Err(format!("“{ssid}” has WEP, which is not joined any more"));
        }
        // WPA3 has no use for the hash of a passphrase, and WPA2 the same passphrase as a rule.
        let hashed = self.psk.as_ref().is_none_or(|psk| psk.len() == 64);
        let wpa2 = ["WPA-PSK", "WPA-PSK-SHA256", "FT-PSK"].iter().any(|name| has(name));
        let secret = match (self.psk, self.sae_password) {
            (psk, Some(password)) if hashed || !wpa2 || psk.is_none() => Some(password),
            (psk, _) => psk,
        };
        let key = Key::of(secret.filter(|_| !open), None, open).map_err(|why| format!("“{ssid}”: {why}"))?;
        Ok(Network { ssid, key, hidden: self.hidden, priority: self.priority })
    }
}

/// A passphrase is in quotes, a key of 64 hex digits is not.
fn passphrase(value: &[u8]) -> Result<String, &'static str> {
    match value.first() {
        // Quotes within it need no escape: the last one ends it.
        Some(b'"') => match text(octets(value)?)? {
            // wpa_config_parse_psk(): the key itself stands there without.
            long if long.len() > 63 => {
                Err("in quotes it has 8 to 63 characters; 64 hex digits stand there without quotes")
            }
            text => Ok(text),
        },
        _ if value.len() == 64 => text(value.to_vec()),
        _ => Err("it is neither in quotes nor 64 hex digits"),
    }
}

/// As wpa_config_parse_string(): `"text"`, `P"text with escapes"`, or hex digits.
fn octets(value: &[u8]) -> Result<Vec<u8>, &'static str> {
    let quoted = |value: &[u8]| {
        let end = value.iter().rposition(|byte| *byte == b'"').filter(|end| *end > 0)?;
        (end + 1 == value.len()).then(|| value[1..end].to_vec())
    };
    match value {
        [b'"', ..] => quoted(value).ok_or("the closing quote is missing"),
        [b'P', b'"', ..] => unescaped(&quoted(&value[1..]).ok_or("the closing quote is missing")?),
        _ => std::str::from_utf8(value).ok().and_then(unhex).ok_or("it is neither in quotes nor hex digits"),
    }
}

fn text(octets: Vec<u8>) -> Result<String, &'static str> {
    String::from_utf8(octets).map_err(|_| "it is no UTF-8 text")
}

/// As printf_decode() in utils/common.c.
fn unescaped(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            octets.push(byte);
            continue;
        }
        let bad = "after a backslash there must be \\, \", n, r, t, e, x and hex digits, or octal digits";
        let mut digits = |radix: u32, most: usize| {
            let mut value = None;
            for _ in 0..most {
                let Some(digit) = rest.peek().and_then(|byte| char::from(*byte).to_digit(radix)) else { break };
                value = Some(value.unwrap_or(0) * radix + digit);
                rest.next();
            }
            value.and_then(|value: u32| u8::try_from(value).ok()).ok_or(bad)
        };
        let octal = digits(8, 3);
        let octet = match octal {
            Ok(octet) => octet,
            Err(_) => match rest.next() {
                Some(byte @ (b'\\' | b'"')) => byte,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'e') => 0x1b,
                Some(b'x') => {
                    let mut value = None;
                    for _ in 0..2 {
                        let Some(digit) = rest.peek().and_then(|byte| char::from(*byte).to_digit(16)) else { break };
                        value = Some(value.unwrap_or(0) * 16 + digit);
                        rest.next();
                    }
                    value.and_then(|value| u8::try_from(value).ok()).ok_or(bad)?
                }
                _ => return Err(bad),
            },
        };
        octets.push(octet);
    }
    Ok(octets)
}

fn number(value: &[u8]) -> Result<i32, &'static str> {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or("a whole number is expected")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Numbers, hex};
    use super::*;

    /// As wpa_config_write_string() does, and by hand with P"…".
    fn write(networks: &[Network], numbers: &mut Numbers) -> Vec<u8> {
        let mut file =
            b"ctrl_interface=DIR=/run/wpa_supplicant GROUP=netdev\r\nupdate_config=1\r\ncountry=GB\r\n".to_vec();
        for network in networks {
            let octets = network.ssid.octets();
            let printable = octets.iter().all(|b| (b' '..=b'~').contains(b) && *b != b'"' && *b != b'\\');
            let ssid = match numbers.below(3) {
                0 if printable => format!("\"{}\"", String::from_utf8_lossy(octets)),
                1 => {
                    let escaped = |byte: &u8| match byte {
                        b'\\' | b'"' => format!("\\{}", char::from(*byte)),
                        b' '..=b'~' => char::from(*byte).to_string(),
                        byte => format!("\\x{byte:02x}"),
                    };
                    format!("P\"{}\"", octets.iter().map(escaped).collect::<String>())
                }
                _ => hex(octets),
            };
            let key = match &network.key {
                Key::Open => "key_mgmt=NONE".to_owned(),
                Key::Passphrase(text) => format!("psk=\"{text}\""),
                Key::Pmk(octets) => format!("psk={}", hex(octets)),
            };
            let Network { hidden, priority, .. } = network;
            let block = format!(
                "network={{\n\tssid={ssid}\n\tscan_ssid={}\n\t{key} # home\n\tpriority={priority}\n}}\n",
                u8::from(*hidden)
            );
            file.extend(block.as_bytes());
        }
        file
    }

    #[test]
    fn what_is_written_is_read() {
        let mut numbers = Numbers::new(3);
        for _ in 0..1000 {
            let mut networks: Vec<Network> = (0..numbers.below(4)).map(|_| numbers.network()).collect();
            networks.sort_by_key(|network| std::cmp::Reverse(network.priority));
            networks.dedup_by_key(|network| network.ssid.clone());
            let bytes = write(&networks, &mut numbers);
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            let reading = read(&bytes);
            let distinct: std::collections::BTreeSet<_> = networks.iter().map(|network| &network.ssid).collect();
            if distinct.len() == networks.len() {
                assert_eq!((reading.config.networks, reading.faults), (networks, vec![]), "{shown}");
                assert_eq!(reading.config.country.as_deref(), Some("GB"));
            }
            read(&numbers.damage(&bytes));
        }
    }

    #[test]
    fn the_three_forms_of_a_name() {
        for (written, octets) in [
            ("\"home\"", &b"home"[..]),
            ("\"a\"b#c\"  # x", b"a\"b#c"),
            ("636166e9", b"caf\xe9"),
            ("P\"caf\\xe9\\t\\\"\\\\\\033\"", b"caf\xe9\t\"\\\x1b"),
        ] {
            let reading = read(format!("network={{\nssid={written}\nkey_mgmt=NONE\n}}").as_bytes());
            assert_eq!(reading.config.networks[0].ssid.octets(), octets, "{written}");
        }
    }

    #[test]
    fn two_blocks_for_one_network_are_one() {
        let text = "network={\nssid=\"x\"\npsk=\"correct horse\"\npriority=1\n}\nnetwork={\nssid=\"x\"\npsk=\"correct horse\"\n}\n";
        let reading = read(text.as_bytes());
        assert_eq!((reading.config.networks.len(), reading.faults.len()), (1, 0));
    }

    #[test]
    fn what_can_not_be_taken_is_told_without_a_secret() {
        for (text, says) in [
            ("network={\nssid=\"x\"\npsk=\"hunter2\"\n}", "line 1: “x”: the passphrase must have 8 to 63"),
            ("network={\nssid=\"x\"\npsk=\"hunter2hunter2", "line 3: psk: the closing quote"),
            ("network={\nssid=\"x\"\npsk=hunter2hunter2\n}", "line 3: psk: it is neither"),
            ("network={\nssid=\"x\"\npsk=\"hunter2hunter2\"\n", "line 1: the block"),
            ("network={\nssid=\"x\"\nkey_mgmt=WPA-EAP\npassword=\"hunter2\"\n}", "key_mgmt"),
            ("network={\nssid=\"x\"\npsk=ext:hunter2\n}", "another"),
            ("network={\nssid=\"x\"\npsk=\"hunter2hunter2\"\ndisabled=1\n}", "switched off"),
            ("cred={\npassword=\"hunter2\"\n}", "line 1: cred: such a block"),
            ("country=Germany", "line 1: country: two letters"),
            ("network={\npsk=\"hunter2hunter2\"\n}", "no ssid"),
            ("hunter2", "neither"),
            ("network = {\nssid=\"x\"\npsk=\"hunter2hunter2\"\n}", "line 1: network: such a block"),
            ("network={\nssid=\"x\"\nkey_mgmt=OWE\n}", "Enhanced Open"),
            ("network={\nssid=\"x\"\nkey_mgmt=NONE\nauth_alg=SHARED\n}", "WEP"),
            ("network={\nssid=\"x\"\nbssid=hunter2\n}", "line 3: bssid: not used"),
            ("ap_scan=2\nsae_pwe=hunter2\n", "line 2: sae_pwe: not used"),
            (&format!("network={{\nssid=\"x\"\npsk=\"{}\"\n}}", "ab".repeat(32)), "line 3: psk: in quotes"),
        ] {
            let said: Vec<String> = read(text.as_bytes()).faults.iter().map(ToString::to_string).collect();
            assert!(said.iter().any(|fault| fault.contains(says)), "{text}: {said:?}");
            assert!(!said.join("").contains("hunter2"), "{said:?}");
        }
    }
}
