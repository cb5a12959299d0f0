//! An access point as a scenario describes it, and what hostapd and wpa_supplicant are told about it.

use std::fmt::Write as _;

/// How a station has to identify itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Security {
    /// Not at all.
    Open,
    /// WPA2-Personal.
    Wpa2 {
        /// 8 to 63 characters, or 64 hex digits: the key itself.
        passphrase: String,
    },
    /// WPA3-Personal alone.
    Sae {
        /// Any length.
        password: String,
        /// Only hash-to-element, which a station with `sae_pwe=0` doesn't do.
        h2e_only: bool,
    },
    /// WPA2 and WPA3 side by side.
    Transition {
        /// As for WPA2.
        passphrase: String,
    },
}

/// Where in the spectrum an access point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// 2.4 GHz, channel 1 to 13.
    Ghz2(u8),
    /// 5 GHz, channel 36 to 48 without radar detection. Needs a country.
    Ghz5(u8),
}

/// An access point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessPoint {
    /// Its name: up to 32 octets, whatever they mean.
    pub ssid: Vec<u8>,
    /// What it asks for.
    pub security: Security,
    /// Whether its beacons keep the name to themselves.
    pub hidden: bool,
    /// Its channel.
    pub channel: Channel,
    /// The country it is in and announces, two capitals. hostapd sets it for the whole kernel: the Pi has it too then.
    pub country: Option<String>,
    /// How many stations it takes; 0 is an access point that is full.
    pub max_stations: Option<u32>,
    /// Whether the Pi is on its list of those it doesn't want.
    pub denied: bool,
    /// Whether it passes multicasts on, in both directions; broadcasts always pass.
    pub multicast: bool,
}

impl AccessPoint {
    /// An access point of this name that asks for nothing, on channel 1, in no country.
    pub fn open(ssid: impl AsRef<[u8]>) -> AccessPoint {
        AccessPoint::new(ssid, Security::Open)
    }

    /// A usual one at home.
    pub fn wpa2(ssid: impl AsRef<[u8]>, passphrase: &str) -> AccessPoint {
        AccessPoint::new(ssid, Security::Wpa2 { passphrase: passphrase.into() })
    }

    /// A new one at home that keeps old stations out.
    pub fn sae(ssid: impl AsRef<[u8]>, password: &str) -> AccessPoint {
        AccessPoint::new(ssid, Security::Sae { password: password.into(), h2e_only: false })
    }

    /// A new one at home.
    pub fn transition(ssid: impl AsRef<[u8]>, passphrase: &str) -> AccessPoint {
        AccessPoint::new(ssid, Security::Transition { passphrase: passphrase.into() })
    }

    fn new(ssid: impl AsRef<[u8]>, security: Security) -> AccessPoint {
        AccessPoint {
            ssid: ssid.as_ref().to_owned(),
            security,
            hidden: false,
            channel: Channel::Ghz2(1),
            country: None,
            max_stations: None,
            denied: false,
            multicast: true,
        }
    }

    /// hostapd.conf(5) for this access point on `interface`. A denied Pi is found on the list in [`deny_list`].
    pub fn configuration(&self, interface: &str) -> String {
        let (mode, channel) = match self.channel {
            Channel::Ghz2(channel) => ("g", channel),
            Channel::Ghz5(channel) => ("a", channel),
        };
        let mut text = format!(
            "interface={interface}\nbridge=br0\ndriver=nl80211\nctrl_interface=/run/cygnet-rig/hostapd\n\
             ssid2={}\nhw_mode={mode}\nchannel={channel}\nieee80211n=1\nwmm_enabled=1\nauth_algs=1\n",
            hex(&self.ssid)
        );
        let mut add = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        if self.hidden {
            add("ignore_broadcast_ssid=1".into());
        }
        if let Some(country) = &self.country {
            add(format!("country_code={country}\nieee80211d=1"));
        }
        if let Some(stations) = self.max_stations {
            add(format!("max_num_sta={stations}"));
        }
        if self.denied {
            add(format!("macaddr_acl=0\ndeny_mac_file={}", deny_list(interface)));
        }
        match &self.security {
            Security::Open => {}
            Security::Wpa2 { passphrase } => {
                add(format!("wpa=2\nrsn_pairwise=CCMP\nwpa_key_mgmt=WPA-PSK\nieee80211w=1\n{}", key(passphrase)));
            }
            Security::Sae { password, h2e_only } => {
                let pwe = if *h2e_only { 1 } else { 2 };
                add(format!(
                    "wpa=2\nrsn_pairwise=CCMP\nwpa_key_mgmt=SAE\nieee80211w=2\nsae_password={password}\nsae_pwe={pwe}"
                ));
            }
            Security::Transition { passphrase } => add(format!(
                "wpa=2\nrsn_pairwise=CCMP\nwpa_key_mgmt=WPA-PSK SAE\nieee80211w=1\nsae_require_mfp=1\nsae_pwe=2\n\
                 sae_password={passphrase}\n{}",
                key(passphrase)
            )),
        }
        text
    }

    /// wpa_supplicant.conf(5) for a station that is to join this access point.
    pub fn supplicant_configuration(&self) -> String {
        let mut text = format!("sae_pwe=2\nnetwork={{\n  ssid={}\n", hex(&self.ssid));
        if self.hidden {
            text.push_str("  scan_ssid=1\n");
        }
        // Writing into a String can't fail.
        let _ = match &self.security {
            Security::Open => writeln!(text, "  key_mgmt=NONE"),
            Security::Wpa2 { passphrase } if passphrase.len() == 64 => {
                writeln!(text, "  key_mgmt=WPA-PSK\n  psk={passphrase}")
            }
            Security::Wpa2 { passphrase } => writeln!(text, "  key_mgmt=WPA-PSK\n  psk=\"{passphrase}\""),
            Security::Sae { password, .. } => {
                writeln!(text, "  key_mgmt=SAE\n  sae_password=\"{password}\"\n  ieee80211w=2")
            }
            Security::Transition { passphrase } => {
                writeln!(text, "  key_mgmt=WPA-PSK SAE\n  psk=\"{passphrase}\"\n  ieee80211w=1")
            }
        };
        text.push_str("}\n");
        text
    }
}

/// Where an interface's access point reads which stations it doesn't want.
pub fn deny_list(interface: &str) -> String {
    format!("/run/cygnet-rig/{interface}.deny")
}

fn key(passphrase: &str) -> String {
    let raw = passphrase.len() == 64;
    format!("{}={passphrase}", if raw { "wpa_psk" } else { "wpa_passphrase" })
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_octets() {
        let text = AccessPoint::open(b"\xff\x00\xf0\x9f\xa6\xa2").configuration("wlan1");
        assert!(text.contains("\nssid2=ff00f09fa6a2\n"), "{text}");
        assert!(!text.contains("wpa"), "{text}");
    }

    #[test]
    fn each_fault_has_its_line() {
        let ill = AccessPoint {
            hidden: true,
            max_stations: Some(0),
            denied: true,
            security: Security::Sae { password: "p".into(), h2e_only: true },
            ..AccessPoint::open("x")
        };
        let text = ill.configuration("wlan2");
        for line in [
            "ignore_broadcast_ssid=1",
            "max_num_sta=0",
            "deny_mac_file=/run/cygnet-rig/wlan2.deny",
            "sae_pwe=1",
            "ieee80211w=2",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing:\n{text}");
        }
    }

    #[test]
    fn a_key_in_hex_is_not_a_passphrase() {
        let text = AccessPoint::wpa2("x", &"ab".repeat(32)).configuration("wlan1");
        assert!(text.contains("wpa_psk=abab"), "{text}");
    }
}
