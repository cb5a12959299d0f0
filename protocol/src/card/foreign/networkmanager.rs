//! NetworkManager's key files: `/etc/NetworkManager/system-connections/*.nmconnection` (nm-settings-keyfile(5)).
//!
//! A setting that means what cygnet does anyway, or only something to that machine, is [`Found::same`]; any other that is not
//! taken is told.

use super::found::NOT_USED;
use super::keyfile::{self, Entry};
use super::{fault, reading, refused, too_long};
use crate::card::config::CardConfig;
use crate::card::read::Reading;
use crate::online::settings::{Key, Network};
use crate::online::ssid::Ssid;

/// Reads one connection. If it is none over WiFi, that is the one fault.
pub fn read(bytes: &[u8]) -> Reading {
    if let Some(refused) = too_long(bytes) {
        return refused;
    }
    let (entries, mut faults) = keyfile::entries(bytes);
    let mut found = Found::default();
    for entry in &entries {
        if let Err(why) = found.take(entry) {
            faults.push(fault(entry.line, entry.key.clone(), why));
        }
    }
    if !found.wifi {
        return refused("it is no connection over WiFi");
    }
    let mut config = CardConfig::default();
    match found.network() {
        Ok(network) => config.networks.push(network),
        Err(why) => faults.push(fault(1, "", why)),
    }
    reading(config, faults)
}

#[derive(Default)]
struct Found {
    wifi: bool,
    ssid: Option<Result<Ssid, String>>,
    passphrase: Option<String>,
    key_management: Option<String>,
    hidden: bool,
    priority: i32,
    asked_for: bool,
    of_its_own: bool,
    wep: bool,
    by_hand: bool,
}

impl Found {
    fn take(&mut self, entry: &Entry<'_>) -> Result<(), &'static str> {
        // Both groups have an older name.
        let group = match entry.group.as_str() {
            "802-11-wireless" => "wifi",
            "802-11-wireless-security" => "wifi-security",
            group => group,
        };
        self.wifi |= group == "wifi";
        match (group, entry.key.as_str()) {
            ("connection", "type") => self.wifi |= matches!(entry.raw, b"wifi" | b"802-11-wireless"),
            ("connection", "autoconnect-priority") => {
                self.priority = entry.text()?.trim().parse().map_err(|_| "a whole number is expected")?;
            }
            ("connection", "autoconnect") => self.by_hand = !entry.is_true()?,
            ("wifi", "ssid") => self.ssid = Some(Ssid::new(octets(entry)?).map_err(|error| error.to_string())),
            ("wifi", "hidden") => self.hidden = entry.is_true()?,
            ("wifi", "mode") => self.of_its_own = !matches!(entry.raw, b"infrastructure" | b""),
            ("wifi-security", "psk") => self.passphrase = Some(entry.text()?),
            ("wifi-security", key) if key.starts_with("wep-") => self.wep = true,
            ("wifi-security", "key-mgmt") => self.key_management = Some(entry.text()?),
            // NMSettingSecretFlags: a desktop's keyring has it, or a person.
            ("wifi-security", "psk-flags") => self.asked_for = !matches!(entry.raw, b"0" | b""),
            (group, key) if Self::same(group, key, entry.raw.trim_ascii_end()) => {}
            _ => return Err(NOT_USED),
        }
        Ok(())
    }

    /// What is the same with cygnet, or means nothing elsewhere.
    fn same(group: &str, key: &str, value: &[u8]) -> bool {
        match (group, key) {
            // Nothing is said.
            _ if value.is_empty() => true,
            // The connection's own name, and who may use it there.
            ("connection", "id" | "uuid" | "timestamp" | "permissions" | "autoconnect-retries") => true,
            // Whom it has seen.
            ("wifi", "seen-bssids") => true,
            // Each access point says these itself.
            ("wifi-security", "proto" | "pairwise" | "group" | "pmf" | "wps-method") => true,
            ("wifi-security", "auth-alg") => value == b"open",
            ("ipv4" | "ipv6", "method") => value == b"auto",
            // How a machine makes its own address.
            ("ipv6", "addr-gen-mode" | "ip6-privacy") => true,
            ("ipv4" | "ipv6", "may-fail") => value == b"true",
            _ => false,
        }
    }

    fn network(self) -> Result<Network, String> {
        let ssid = self.ssid.ok_or("it has no ssid")??;
        if self.of_its_own {
            return Err(format!("“{ssid}” is an access point or a network between two, nothing to join"));
        }
        let open = match self.key_management.as_deref() {
            None => true,
            Some("wpa-psk" | "sae") => false,
            // Without a key of WEP it is what nm-settings calls it: none.
            Some("none") if !self.wep => true,
            Some("none" | "ieee8021x") => return Err(format!("“{ssid}” has WEP, which is not joined any more")),
            Some("wpa-eap" | "wpa-eap-suite-b-192") => {
                return Err(format!("“{ssid}” is a network with accounts (802.1X), which can't be carried over"));
            }
            Some("owe") => return Err(format!("“{ssid}” is Enhanced Open (OWE), which is not supported")),
            Some(_) => return Err(format!("“{ssid}” has a key-mgmt that is not known")),
        };
        if self.by_hand {
            return Err(format!("“{ssid}” is joined by hand only there (autoconnect=false), and not taken"));
        }
        if self.passphrase.is_none() && !open && self.asked_for {
            return Err(format!("the passphrase of “{ssid}” is not in the file but in a keyring (psk-flags)"));
        }
        let key = Key::of(self.passphrase.filter(|_| !open), None, open).map_err(|why| format!("“{ssid}”: {why}"))?;
        Ok(Network { ssid, key, hidden: self.hidden, priority: self.priority })
    }
}

/// A name as text, or as octets: `72;101;` (get_bytes() in nm-keyfile.c). In text, `\;` is a semicolon.
fn octets(entry: &Entry<'_>) -> Result<Vec<u8>, &'static str> {
    let octets = entry.octets()?;
    if let Some(list) = list(&octets) {
        return Ok(list);
    }
    let mut text = Vec::with_capacity(octets.len());
    let mut rest = octets.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' || rest.peek() != Some(&b';') {
            text.push(byte);
        }
    }
    Ok(text)
}

fn list(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?.trim().strip_suffix(';')?;
    text.split(';').map(|number| number.trim().parse::<u8>().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Numbers, hex};
    use super::*;

    /// As ssid_writer() in nm-keyfile.c and g_key_file_set_string() do.
    fn write(network: &Network) -> Vec<u8> {
        let octets = network.ssid.octets();
        let escaped = |text: &str| {
            let text = text.replace('\\', "\\\\");
            let spaces = text.len() - text.trim_start_matches(' ').len();
            format!("{}{}", "\\s".repeat(spaces), &text[spaces..])
        };
        let ssid = match std::str::from_utf8(octets) {
            Ok(text) if octets.iter().all(|b| (b' '..=b'~').contains(b)) => escaped(&text.replace(';', "\\;")),
            _ => octets.iter().map(|byte| format!("{byte};")).collect(),
        };
        let security = match &network.key {
            Key::Open => String::new(),
            Key::Passphrase(text) => format!("[wifi-security]\nkey-mgmt=wpa-psk\npsk={}\n", escaped(text)),
            Key::Pmk(octets) => format!("[wifi-security]\nauth-alg=open\nkey-mgmt=wpa-psk\npsk={}\n", hex(octets)),
        };
        let Network { hidden, priority, .. } = network;
        format!(
            "[connection]\nid=x\ntype=wifi\nautoconnect-priority={priority}\n\n[wifi]\nhidden={hidden}\nmode=infrastructure\n\
             ssid={ssid}\n\n{security}\n[ipv4]\nmethod=auto\n"
        )
        .into_bytes()
    }

    #[test]
    fn what_networkmanager_writes_is_read() {
        let mut numbers = Numbers::new(2);
        for _ in 0..2000 {
            let network = numbers.network();
            let bytes = write(&network);
            let reading = read(&bytes);
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            // A backslash before a semicolon in the name itself: NetworkManager, too, reads back something else.
            if !network.ssid.octets().windows(2).any(|two| two == b"\\;") {
                assert_eq!((reading.config.networks, reading.faults), (vec![network], vec![]), "{shown}");
            }
            read(&numbers.damage(&bytes));
        }
    }

    #[test]
    fn older_names_and_lists_of_octets() {
        let reading = read(b"[802-11-wireless]\r\nssid=72;101;108;233;\r\n[802-11-wireless-security]\r\npsk=correct horse\r\nkey-mgmt=sae\r\n");
        assert_eq!(reading.config.networks[0].ssid.octets(), b"Hel\xe9");
        assert_eq!(reading.config.networks[0].key, Key::Passphrase("correct horse".into()));
        for (text, ssid) in [("1234", "1234"), ("1;2", "1;2"), ("300;1;", "300;1;"), ("caf\u{e9}", "caf\u{e9}")] {
            let reading = read(format!("[wifi]\nssid={text}").as_bytes());
            assert_eq!(reading.config.networks[0].ssid.octets(), ssid.as_bytes());
        }
    }

    #[test]
    fn what_can_not_be_taken_is_told_without_a_secret() {
        for (text, says) in [
            ("[connection]\ntype=ethernet\n[ethernet]\n", "no connection over WiFi"),
            ("[wifi]\nmode=ap\nssid=x\n", "access point"),
            ("[wifi]\nssid=x\n[wifi-security]\nkey-mgmt=wpa-psk\npsk-flags=1\n", "keyring"),
            ("[wifi]\nssid=x\n[wifi-security]\nkey-mgmt=wpa-psk\npsk=hunter2\n", "8 to 63"),
            ("[wifi]\nssid=x\n[wifi-security]\nkey-mgmt=wpa-eap\n[802-1x]\npassword=hunter2\n", "802.1X"),
            ("[wifi]\nssid=x\n[wifi-security]\nkey-mgmt=none\nwep-key0=hunter2\n", "WEP"),
            ("[wifi]\nhidden=hunter2\nssid=x\n", "true or false"),
            ("[wifi]\nhidden=true\n", "no ssid"),
            ("[wifi]\nssid=x\nmac-address=hunter2\n", "line 3: mac-address: not used"),
            ("[wifi]\nssid=x\n[ipv4]\nmethod=manual\naddress1=hunter2\n", "line 5: address1: not used"),
            ("[wifi]\nssid=x\n[ipv4]\nmethod=manual\n", "line 4: method: not used"),
            ("", "no connection"),
        ] {
            let said: Vec<String> = read(text.as_bytes()).faults.iter().map(ToString::to_string).collect();
            assert!(said.iter().any(|fault| fault.contains(says)), "{text}: {said:?}");
            assert!(!said.join("").contains("hunter2"), "{said:?}");
        }
    }
}
