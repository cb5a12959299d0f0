//! `/var/lib/iwd/NAME.psk` and `NAME.open` (iwd.network(5); storage.c and network.c of iwd). The network's name is the file's.

use super::found::NOT_USED;
use super::keyfile;
use super::{fault, reading, refused, too_long};
use crate::card::config::CardConfig;
use crate::card::read::Reading;
use crate::online::settings::{Key, Network, unhex};
use crate::online::ssid::Ssid;

/// Reads the file that has this name, without its directory.
pub fn read(file_name: &str, bytes: &[u8]) -> Reading {
    if let Some(refused) = too_long(bytes) {
        return refused;
    }
    let (ssid, open) = match network_name(file_name) {
        Ok(named) => named,
        Err(why) => return refused(why),
    };
    let (entries, mut faults) = keyfile::entries(bytes);
    let (mut passphrase, mut pmk, mut hidden, mut by_hand) = (None, None, false, false);
    for entry in &entries {
        let taken = match (entry.group.as_str(), entry.key.as_str()) {
            ("Security", "Passphrase") => entry.text().map(|text| passphrase = Some(text)),
            ("Security", "PreSharedKey") => entry.text().map(|text| pmk = Some(text.trim().to_owned())),
            ("Security", "EncryptedSecurity" | "EncryptedSalt") => {
                Err("iwd has encrypted it with a key of that machine (systemd credentials)")
            }
            ("Settings", "Hidden") => entry.is_true_in_any_case().map(|is| hidden = is),
            // Its older name is still read.
            ("Settings", "AutoConnect" | "Autoconnect") => entry.is_true_in_any_case().map(|is| by_hand = !is),
            // iwd makes these of the passphrase.
            ("Security", key) if key.starts_with("SAE-PT-Group") => Ok(()),
            _ => Err(NOT_USED),
        };
        if let Err(why) = taken {
            faults.push(fault(entry.line, entry.key.clone(), why));
        }
    }
    // iwd writes both; the passphrase is good for WPA3, too.
    if passphrase.is_some() {
        pmk = None;
    }
    let mut config = CardConfig::default();
    match Key::of(passphrase, pmk, open) {
        // As with NetworkManager.
        Ok(_) if by_hand => {
            faults.push(fault(
                1,
                format!("“{ssid}”"),
                "it is joined by hand only there (AutoConnect=false), and not taken",
            ));
        }
        Ok(key) => config.networks.push(Network { ssid, key, hidden, priority: 0 }),
        Err(why) => faults.push(fault(1, format!("“{ssid}”"), why)),
    }
    reading(config, faults)
}

/// `home.psk`, `=636166e9.psk`, `guests.open`.
fn network_name(file_name: &str) -> Result<(Ssid, bool), String> {
    let (name, kind) = file_name.rsplit_once('.').ok_or("its name does not end with .psk or .open")?;
    let open = match kind {
        "psk" => false,
        "open" => true,
        "8021x" => return Err("a network with accounts (802.1X) can't be carried over".into()),
        "hotspot" => return Err("a network of Hotspot 2.0 can't be carried over".into()),
        _ => return Err("its name does not end with .psk or .open".into()),
    };
    let octets = match name.strip_prefix('=') {
        Some(hex) => unhex(hex).ok_or("after the = in its name there must be hex digits")?,
        // iwd itself reads no other name.
        None if name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_ ".contains(&b)) => name.as_bytes().to_vec(),
        None => {
            return Err("iwd reads no file of this name: a network's name with other characters than letters, digits, blank, - \
                        and _ is written as = and hex digits"
                .into());
        }
    };
    Ssid::new(octets).map(|ssid| (ssid, open)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Numbers, hex};
    use super::*;

    /// As iwd's storage_get_network_file_path() and l_settings_set_string() do.
    fn write(network: &Network) -> (String, Vec<u8>) {
        let octets = network.ssid.octets();
        let plain = octets.iter().all(|b| b.is_ascii_alphanumeric() || b" _-".contains(b));
        let name = if plain { String::from_utf8_lossy(octets).into_owned() } else { format!("={}", hex(octets)) };
        let escaped = |text: &str| {
            let text = text.replace('\\', "\\\\").replace('\t', "\\t");
            if let Some(rest) = text.strip_prefix(' ') { format!("\\s{rest}") } else { text }
        };
        let (kind, security) = match &network.key {
            Key::Open => ("open", String::new()),
            Key::Passphrase(text) => (
                "psk",
                format!(
                    "[Security]\nPassphrase={}\nPreSharedKey={}\nSAE-PT-Group19=00ff\n",
                    escaped(text),
                    "ab".repeat(32)
                ),
            ),
            Key::Pmk(octets) => ("psk", format!("[Security]\nPreSharedKey={}\n", hex(octets))),
        };
        let settings = if network.hidden { "[Settings]\nHidden=true\n" } else { "" };
        (format!("{name}.{kind}"), format!("{settings}{security}").into_bytes())
    }

    #[test]
    fn what_iwd_writes_is_read() {
        let mut numbers = Numbers::new(1);
        for _ in 0..2000 {
            let mut network = numbers.network();
            network.priority = 0;
            let (name, bytes) = write(&network);
            let reading = read(&name, &bytes);
            assert_eq!((reading.config.networks, reading.faults), (vec![network], vec![]), "{name}");
            read(&name, &numbers.damage(&bytes));
        }
    }

    #[test]
    fn what_is_none_is_told_without_a_secret() {
        for (name, text, says) in [
            ("x.8021x", "", "802.1X"),
            ("x", "", ".psk"),
            ("=zz.psk", "", "hex"),
            ("caf\u{e9}.psk", "[Security]\nPassphrase=hunter2hunter2\n", "iwd reads no file of this name"),
            ("x.psk", "[Security]\nPassphrase=hunter2hunter2\n[Settings]\nAutoConnect=FALSE\n", "by hand"),
            ("x.psk", "[Settings]\nHidden=yes\n", "line 2: Hidden: true or false"),
            ("x.psk", "[IPv4]\nAddress=hunter2\n", "line 2: Address: not used"),
            ("x.hotspot", "", "Hotspot 2.0"),
            ("x.psk", "[Security]\nPassphrase=hunter2\n", "8 to 63"),
            ("x.psk", "[Security]\nEncryptedSecurity=hunter2hunter2\n", "encrypted"),
            ("x.psk", "hunter2hunter2", "neither"),
            ("x.psk", "[Security]\nPassphrase=hunter2\\hunter2\n", "backslash"),
        ] {
            let said: Vec<String> = read(name, text.as_bytes()).faults.iter().map(ToString::to_string).collect();
            assert!(said.iter().any(|fault| fault.contains(says)), "{name} {text}: {said:?}");
            assert!(!said.join("").contains("hunter2"), "{said:?}");
        }
    }
}
