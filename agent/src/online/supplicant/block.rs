//! A network's block of configuration, in the names of wpa_supplicant.conf(5), which D-Bus and the control socket share.

use cygnet_protocol::online::settings::{Key, Network};

/// How the networks are offered to the access points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Whether SAE may be used at all.
    pub sae: bool,
    /// Whether only 2.4 GHz is used.
    pub only_24ghz: bool,
    /// Whether driver and wpa_supplicant can do SAE (Interface.Capabilities.KeyMgmt).
    pub interface_can_sae: bool,
}

/// A value. It may be a passphrase or a key: there is no way to print it.
pub(super) enum Value {
    /// Octets: hex in a file, `ay` on D-Bus.
    Octets(Vec<u8>),
    /// Text that is quoted in a file.
    Quoted(String),
    /// Words that aren't.
    Words(&'static str),
    /// A number.
    Number(i32),
}

impl Value {
    /// As it stands in a configuration file and behind SET_NETWORK.
    pub(super) fn written(&self) -> String {
        match self {
            Value::Octets(octets) => octets.iter().map(|octet| format!("{octet:02x}")).collect(),
            // Nothing is escaped: wpa_supplicant takes all up to the last quote.
            Value::Quoted(text) => format!("\"{text}\""),
            Value::Words(words) => (*words).to_owned(),
            Value::Number(number) => number.to_string(),
        }
    }
}

/// Centre frequencies of the channels 1 to 14, MHz.
const CHANNELS_24GHZ: &str = "2412 2417 2422 2427 2432 2437 2442 2447 2452 2457 2462 2467 2472 2484";

/// The block of a network.
///
/// A PMK is offered without SAE: wpa_supplicant would choose SAE on an access point that has both, and fail for ever with
/// “SAE: No password available”. The passphrase serves both.
pub(super) fn block(network: &Network, offer: Offer) -> Vec<(&'static str, Value)> {
    let mut block = vec![("ssid", Value::Octets(network.ssid.octets().to_vec()))];
    let wpa2 = "WPA-PSK WPA-PSK-SHA256";
    match &network.key {
        Key::Open => block.push(("key_mgmt", Value::Words("NONE"))),
        Key::Pmk(octets) => {
            block.extend([("psk", Value::Octets(octets.to_vec())), ("key_mgmt", Value::Words(wpa2))]);
        }
        Key::Passphrase(text) => {
            block.push(("psk", Value::Quoted(text.clone())));
            if offer.sae && offer.interface_can_sae {
                // SAE demands protected management frames, WPA2 may come without: optional.
                block.push(("key_mgmt", Value::Words("WPA-PSK WPA-PSK-SHA256 SAE")));
                block.push(("ieee80211w", Value::Number(1)));
            } else {
                block.push(("key_mgmt", Value::Words(wpa2)));
            }
        }
    }
    if network.priority != 0 {
        block.push(("priority", Value::Number(network.priority)));
    }
    if network.hidden {
        block.push(("scan_ssid", Value::Number(1)));
    }
    if offer.only_24ghz {
        block.push(("freq_list", Value::Words(CHANNELS_24GHZ)));
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::online::ssid::Ssid;

    fn written(key: Key, offer: Offer) -> String {
        let network = Network { ssid: Ssid::new(&b"caf\xe9"[..]).unwrap(), key, hidden: true, priority: 3 };
        block(&network, offer).iter().map(|(name, value)| format!("{name}={}\n", value.written())).collect()
    }

    const ALL: Offer = Offer { sae: true, only_24ghz: false, interface_can_sae: true };

    #[test]
    fn sae_is_offered_only_with_a_passphrase_and_only_if_it_can_be_done() {
        let passphrase = || Key::Passphrase("say \"please\"".into());
        assert_eq!(
            written(passphrase(), ALL),
            "ssid=636166e9\npsk=\"say \"please\"\"\nkey_mgmt=WPA-PSK WPA-PSK-SHA256 SAE\nieee80211w=1\npriority=3\nscan_ssid=1\n"
        );
        for offer in [Offer { sae: false, ..ALL }, Offer { interface_can_sae: false, ..ALL }] {
            assert!(!written(passphrase(), offer).contains("SAE"));
        }
        let pmk = written(Key::Pmk([0xab; 32]), ALL);
        assert!(pmk.contains(&format!("psk={}\n", "ab".repeat(32))) && !pmk.contains("SAE"), "{pmk}");
        let open = written(Key::Open, Offer { only_24ghz: true, ..ALL });
        assert!(
            open.contains("key_mgmt=NONE\n") && open.contains("freq_list=2412 ") && !open.contains("psk"),
            "{open}"
        );
    }
}
