//! Networks as wpa_supplicant, iwd and NetworkManager want them. Pure.

use cygnet_protocol::online::settings::{Key, Network, Settings};
use std::fmt::Write;
use std::str::FromStr;

/// Who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// wpa_supplicant.conf(5), one file.
    WpaSupplicant,
    /// iwd.network(5), a file for each network, which iwd adds to.
    Iwd,
    /// nm-settings-keyfile(5), a file for each network.
    NetworkManager,
}

impl Reader {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Reader::WpaSupplicant => "wpa_supplicant",
            Reader::Iwd => "iwd",
            Reader::NetworkManager => "networkmanager",
        }
    }

    /// Whether all networks are in one file.
    pub const fn is_one_file(self) -> bool {
        matches!(self, Reader::WpaSupplicant)
    }

    /// Whether a file that is there already is somebody else's by now.
    pub const fn keeps_what_is_there(self) -> bool {
        matches!(self, Reader::Iwd)
    }
}

impl FromStr for Reader {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Reader::WpaSupplicant, Reader::Iwd, Reader::NetworkManager];
        let found = all.into_iter().find(|reader| reader.name() == text);
        found.ok_or("--as is wpa_supplicant, iwd or networkmanager")
    }
}

/// A file.
pub struct Rendered {
    /// Its name, if it is one of several.
    pub name: Option<String>,
    /// What is in it.
    pub text: String,
}

/// All files.
pub fn render(settings: &Settings, by: Reader) -> Vec<Rendered> {
    let each = |one: fn(&Network) -> Rendered| settings.networks.iter().map(one).collect();
    match by {
        Reader::WpaSupplicant => vec![Rendered { name: None, text: wpa_supplicant(settings) }],
        Reader::Iwd => each(iwd),
        Reader::NetworkManager => each(network_manager),
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn wpa_supplicant(settings: &Settings) -> String {
    let mut text = String::from("# The networks by which cygnet installed this system; written anew at each start.\n");
    if let Some(country) = &settings.country {
        let _ = writeln!(text, "country={country}");
    }
    // brcmfmac's firmware wants SAE's hash-to-element, which is off by default.
    text.push_str("sae_pwe=2\n");
    for network in &settings.networks {
        // In hex a name needs no quotes, whatever is in it.
        let _ = writeln!(text, "network={{\n  ssid={}", hex(network.ssid.octets()));
        match &network.key {
            Key::Open => text.push_str("  key_mgmt=NONE\n"),
            // The last quote of the line ends it: those within are no trouble.
            Key::Passphrase(passphrase) => {
                let _ = writeln!(text, "  key_mgmt=WPA-PSK WPA-PSK-SHA256 SAE\n  ieee80211w=1\n  psk=\"{passphrase}\"");
            }
            // Without the passphrase SAE cannot succeed, and would be tried for ever.
            Key::Pmk(pmk) => {
                let _ = writeln!(text, "  key_mgmt=WPA-PSK WPA-PSK-SHA256\n  ieee80211w=1\n  psk={}", hex(pmk));
            }
        }
        if network.hidden {
            text.push_str("  scan_ssid=1\n");
        }
        let _ = writeln!(text, "  priority={}\n}}", network.priority);
    }
    text
}

fn iwd(network: &Network) -> Rendered {
    let octets = network.ssid.octets();
    let plain = octets.iter().all(|b| b.is_ascii_alphanumeric() || b" _-".contains(b));
    let name = if plain { String::from_utf8_lossy(octets).into_owned() } else { format!("={}", hex(octets)) };
    let (end, mut text) = match &network.key {
        Key::Open => ("open", String::new()),
        Key::Passphrase(passphrase) => ("psk", format!("[Security]\nPassphrase={}\n", escaped(passphrase))),
        Key::Pmk(pmk) => ("psk", format!("[Security]\nPreSharedKey={}\n", hex(pmk))),
    };
    if network.hidden {
        text.push_str("[Settings]\nHidden=true\n");
    }
    Rendered { name: Some(format!("{name}.{end}")), text }
}

fn network_manager(network: &Network) -> Rendered {
    let octets = network.ssid.octets();
    let id = hex(octets);
    let mut text = format!(
        "[connection]\nid=cygnet-{id}\ntype=wifi\nautoconnect-priority={}\n\n",
        network.priority.clamp(-999, 999)
    );
    // As numbers: then no name needs escapes.
    let numbers: String = octets.iter().map(|octet| format!("{octet};")).collect();
    let _ = writeln!(text, "[wifi]\nmode=infrastructure\nssid={numbers}");
    if network.hidden {
        text.push_str("hidden=true\n");
    }
    let psk = match &network.key {
        Key::Open => None,
        Key::Passphrase(passphrase) => Some(escaped(passphrase)),
        Key::Pmk(pmk) => Some(hex(pmk)),
    };
    if let Some(psk) = psk {
        let _ = write!(text, "\n[wifi-security]\nkey-mgmt=wpa-psk\npsk={psk}\n");
    }
    text.push_str("\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n");
    Rendered { name: Some(format!("cygnet-{id}.nmconnection")), text }
}

/// Of a key file: a blank at an end would be lost, and a backslash begins an escape.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\");
    let inner = text.trim_matches(' ');
    let before = text.len() - text.trim_start_matches(' ').len();
    let after = text.len() - before - inner.len();
    format!("{}{inner}{}", "\\s".repeat(before), "\\s".repeat(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let json = br##"{"country":"DE","networks":[
            {"ssid":"home","passphrase":" a\\b\"#c ","priority":5},
            {"ssid-hex":"636166e9","pmk":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","hidden":true},
            {"ssid":"library","open":true}]}"##;
        Settings::parse(json).unwrap()
    }

    #[test]
    fn wpa_supplicant_gets_one_file() {
        let [file] = render(&settings(), Reader::WpaSupplicant).try_into().unwrap_or_else(|_| panic!("one file"));
        let expected = "# The networks by which cygnet installed this system; written anew at each start.\n\
            country=DE\nsae_pwe=2\n\
            network={\n  ssid=686f6d65\n  key_mgmt=WPA-PSK WPA-PSK-SHA256 SAE\n  ieee80211w=1\n  psk=\" a\\b\"#c \"\n  priority=5\n}\n\
            network={\n  ssid=636166e9\n  key_mgmt=WPA-PSK WPA-PSK-SHA256\n  ieee80211w=1\n  \
            psk=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n  scan_ssid=1\n  priority=0\n}\n\
            network={\n  ssid=6c696272617279\n  key_mgmt=NONE\n  priority=0\n}\n";
        assert_eq!(file.text, expected);
        assert!(file.name.is_none());
    }

    #[test]
    fn iwd_gets_a_file_for_each() {
        let files = render(&settings(), Reader::Iwd);
        let names: Vec<_> = files.iter().filter_map(|file| file.name.as_deref()).collect();
        assert_eq!(names, ["home.psk", "=636166e9.psk", "library.open"]);
        assert_eq!(files[0].text, "[Security]\nPassphrase=\\sa\\\\b\"#c\\s\n");
        assert!(files[1].text.contains("PreSharedKey=0123") && files[1].text.ends_with("[Settings]\nHidden=true\n"));
        assert_eq!(files[2].text, "");
    }

    #[test]
    fn network_manager_gets_a_file_for_each() {
        let files = render(&settings(), Reader::NetworkManager);
        assert_eq!(files[1].name.as_deref(), Some("cygnet-636166e9.nmconnection"));
        assert!(files[1].text.contains("ssid=99;97;102;233;\nhidden=true\n"), "{}", files[1].text);
        assert!(files[0].text.contains("psk=\\sa\\\\b\"#c\\s\n") && !files[2].text.contains("wifi-security"));
    }

    #[test]
    fn a_name_cannot_leave_its_directory() {
        let json = br#"{"networks":[{"ssid":"../../etc/x","open":true},{"ssid":"..","open":true}]}"#;
        for reader in [Reader::Iwd, Reader::NetworkManager] {
            for file in render(&Settings::parse(json).unwrap(), reader) {
                assert!(!file.name.unwrap().contains('/'));
            }
        }
    }
}
