//! Files that people have, each with what is right.

use super::{cloud_init, dietpi, networkmanager, wpa_supplicant};
use crate::card::authorized_key::AuthorizedKey;
use crate::card::read::Reading;
use crate::online::settings::Key;

/// The names of the networks, and whether they are hidden.
fn networks(reading: &Reading) -> Vec<(String, bool)> {
    reading.config.networks.iter().map(|network| (network.ssid.to_string(), network.hidden)).collect()
}

fn told(reading: &Reading) -> String {
    let told = reading.faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(!told.contains("correct horse") && !told.contains("slash99") && !told.contains("0102030405"), "{told}");
    told
}

fn passphrase(text: &str) -> Key {
    Key::Passphrase(text.to_owned())
}

#[test]
fn netplan_has_more_words_for_true() {
    let text = include_str!("field/hidden-y.network-config");
    assert_eq!(networks(&cloud_init::network_config(text.as_bytes())), [("a".to_owned(), true)]);
    for (word, hidden) in [("Yes", true), ("ON", true), ("true", true), ("n", false), ("Off", false), ("no", false)] {
        let reading = cloud_init::network_config(text.replace("hidden: y", &format!("hidden: {word}")).as_bytes());
        assert_eq!(networks(&reading), [("a".to_owned(), hidden)], "{word}");
        assert_eq!(told(&reading), "", "{word}");
    }
    for word in ["1", "maybe", "\"\""] {
        let reading = cloud_init::network_config(text.replace("hidden: y", &format!("hidden: {word}")).as_bytes());
        assert!(told(&reading).contains("line 7: access-points: hidden: true or false"), "{word}: {}", told(&reading));
    }
}

#[test]
fn what_the_machine_makes_itself_is_not_joined() {
    let reading = cloud_init::network_config(include_bytes!("field/own-access-point.network-config"));
    assert!(reading.config.networks.is_empty());
    assert_eq!(told(&reading).matches("nothing to join").count(), 2, "{}", told(&reading));
    for mode in ["1", "2", "3", "5"] {
        let text = format!("network={{\nssid=\"own\"\nmode={mode}\nkey_mgmt=NONE\n}}\n");
        let reading = wpa_supplicant::read(text.as_bytes());
        assert!(reading.config.networks.is_empty() && told(&reading).contains("nothing to join"), "{}", told(&reading));
    }
    assert_eq!(wpa_supplicant::read(b"network={\nssid=\"x\"\nmode=0\nkey_mgmt=NONE\n}\n").config.networks.len(), 1);
}

#[test]
fn accounts_are_no_passphrases() {
    let text = include_str!("field/enterprise.network-config");
    for text in [
        text.to_owned(),
        text.replace("method: peap", "key-management: eap"),
        text.replace("method: peap", "key-management: psk"),
    ] {
        let reading = cloud_init::network_config(text.as_bytes());
        assert!(reading.config.networks.is_empty() && told(&reading).contains("802.1X"), "{text}: {}", told(&reading));
    }
    let reading =
        cloud_init::network_config(text.replace("method: peap, identity: \"u@example.org\", ", "").as_bytes());
    assert!(reading.config.networks.is_empty() && told(&reading).contains("key-management: psk"), "{}", told(&reading));
}

#[test]
fn a_block_in_one_line_is_told() {
    let reading = wpa_supplicant::read(include_bytes!("field/one-line.conf"));
    assert!(reading.config.networks.is_empty());
    assert!(told(&reading).starts_with("line 1: network: nothing of it is read"), "{}", told(&reading));
}

#[test]
fn a_passphrase_is_better_than_its_hash() {
    let text = include_str!("field/sae-password.conf");
    let key = |text: &str| wpa_supplicant::read(text.as_bytes()).config.networks[0].key.clone();
    let lines = |from: &str| text.replace("SAE\n", from);
    assert_eq!(key(text), passphrase("correct horse"));
    assert_eq!(key(&lines("WPA-PSK SAE\n")), passphrase("correct horse"));
    // Both of them passphrases: WPA2 wants its own, WPA3 the other.
    let both = text.replace(&"0f".repeat(32), "\"battery staple\"");
    assert_eq!(key(&both), passphrase("correct horse"));
    assert_eq!(key(&both.replace("SAE\n", "WPA-PSK SAE\n")), passphrase("battery staple"));
    let hash = text.replace("\tsae_password=\"correct horse\"\n", "");
    assert!(matches!(key(&hash), Key::Pmk(_)));
}

#[test]
fn wep_is_told_and_an_open_network_is_open() {
    let reading = wpa_supplicant::read(include_bytes!("field/wep.conf"));
    assert!(reading.config.networks.is_empty() && told(&reading).contains("“old” has WEP"), "{}", told(&reading));
    let open = include_str!("field/open.nmconnection");
    assert_eq!(networkmanager::read(open.as_bytes()).config.networks[0].key, Key::Open);
    for key in ["wep-key0=0102030405", "wep-tx-keyidx=0", "wep-key-type=1"] {
        let reading = networkmanager::read(format!("{open}{key}\n").as_bytes());
        assert!(reading.config.networks.is_empty() && told(&reading).contains("WEP"), "{key}: {}", told(&reading));
    }
    let reading = networkmanager::read(open.replace("type=wifi", "type=wifi\nautoconnect=false").as_bytes());
    assert!(reading.config.networks.is_empty() && told(&reading).contains("by hand"), "{}", told(&reading));
    let wep = "aWIFI_SSID[0]='old'\naWIFI_KEY[0]='0102030405'\naWIFI_KEYMGR[0]='wep'\n";
    assert!(told(&dietpi::read(wep.as_bytes())).contains("WEP"));
}

#[test]
fn dietpi_quotes_as_what_reads_it() {
    let reading = dietpi::read(include_bytes!("field/dietpi-wifi.txt"));
    assert_eq!(reading.config.networks[0].key, passphrase("back\\slash99"));
    assert_eq!((networks(&reading), told(&reading).as_str()), (vec![("home".to_owned(), true)], ""));
    let of = |value: &str| {
        let text = format!("aWIFI_SSID[0]='home'\naWIFI_KEY[0]={value}\n");
        dietpi::read(text.as_bytes()).config.networks[0].key.clone()
    };
    assert_eq!(of(r#""a\"b\$c\`d\\e12""#), passphrase(r#"a"b$c`d\e12"#));
    assert_eq!(of(r"'back\slash99'"), passphrase(r"back\slash99"));
    assert_eq!(of(r"back\slash99"), passphrase("backslash99"));
    let keys = dietpi::read(include_bytes!("field/dietpi.txt"));
    assert_eq!(keys.faults, []);
    assert!(keys.config.authorized_keys[0].ends_with(" bob's laptop"), "{:?}", keys.config.authorized_keys);
}

#[test]
fn an_ecdsa_key_is_taken_from_every_file() {
    let key = include_str!("field/ecdsa.pub").trim_end();
    assert_eq!(AuthorizedKey::parse(key).map(|key| key.kind), Ok("ecdsa-sha2-nistp256"));
    let toml = format!("[ssh]\nenabled = true\nauthorized_keys = [{key:?}]\n");
    for reading in [
        crate::card::read(format!("authorized-keys = [{key:?}]\n").as_bytes()),
        cloud_init::user_data(format!("#cloud-config\nssh_authorized_keys:\n  - {key}\n").as_bytes()),
        super::custom_toml::read(toml.as_bytes()),
        super::rpi_preseed::read(toml.as_bytes()),
        dietpi::read(format!("AUTO_SETUP_SSH_PUBKEY={key}\n").as_bytes()),
    ] {
        assert_eq!((reading.config.authorized_keys.as_slice(), told(&reading).as_str()), (&[key.to_owned()][..], ""));
    }
}
