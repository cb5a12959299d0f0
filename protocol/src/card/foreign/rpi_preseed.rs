//! `rpi-preseed.toml`, which Raspberry Pi's Imager 2 writes for images of the kind `rpi-preseed`.

use super::imager::{self, Dialect};
use crate::card::read::Reading;

/// Reads it.
pub fn read(bytes: &[u8]) -> Reading {
    imager::read(bytes, Dialect::Preseed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::online::settings::Key;

    const KEY: &str = include_str!("../test-host-key.pub");

    #[test]
    fn a_file_of_the_imager() {
        let text = format!(
            "\u{feff}config_version = \"1.0\"\r\n[system]\r\nhostname = \"Cupboard.local\"\r\ntimezone = \"Europe/Berlin\"\r\n[user]\r\nname = \"pi\"\r\n\
             password = \"$5$salt$hash\"\r\n[ssh]\r\nenabled = true\r\nauthorized_keys = [\"{}\", \"junk\"]\r\n[wlan]\r\nssid_hex = \"636166e9\"\r\n\
             password = \"{}\"\r\npassword_encrypted = true\r\nhidden = true\r\ncountry = \"de\"\r\nkey_mgmt = \"wpa-psk\"\r\n[interfaces]\r\nserial = true\r\n",
            KEY.trim_end(),
            "aB".repeat(32)
        );
        let Reading { config, faults } = read(text.as_bytes());
        assert_eq!((config.hostname.as_deref(), config.country.as_deref()), (Some("cupboard"), Some("DE")));
        assert_eq!(config.authorized_keys, [KEY.trim_end()]);
        let network = &config.networks[0];
        assert!(network.hidden && matches!(network.key, Key::Pmk(_)) && network.ssid.octets() == b"caf\xe9");
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(
            told[0].starts_with("line 4: system.timezone: not used") && told[1].starts_with("line 5: user: not used")
        );
        assert!(told[2].starts_with("line 10: ssh.authorized_keys: it is no public key"), "{told:?}");
        assert!(!told.join(" ").contains("salt"));
    }

    #[test]
    fn bad_files_are_told_and_give_nothing_away() {
        for (text, says) in [
            ("[wlan]\nssid = \"x\"\npassword = \"hunter2\"", "line 1: wlan: the passphrase must have 8 to 63"),
            ("[wlan]\npassword = \"hunter2hunter2\"", "line 1: wlan: it has a password and no ssid"),
            ("[wlan]\nssid = \"x\"\npassword = \"hunter2hun", "line 3: it is no TOML"),
            ("[wlan]\nssid = \"x\"\npassword = \"hunter2hunter2\"\npassword_encrypted = true", "not 64 hex"),
            ("[wlan]\nssid = \"x\"\nkey_mgmt = \"sae\"", "no passphrase"),
            ("[wlan]\nssid = 4\n", "line 2: wlan.ssid: the value"),
            ("system = 1\nwlan = \"hunter2\"", "line 1: system: not used"),
        ] {
            let told = read(text.as_bytes()).faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            assert!(told.contains(says) && !told.contains("hunter2"), "{text}: {told}");
        }
        assert!(read(b"\xff\xfeh\0").faults[0].why.contains("UTF-8"));
        assert!(read(&[b'\n'; 70_000]).faults[0].why.contains("more than 64 kB"));
        assert_eq!(read(b"[wlan]\nssid = \"x\"\nkey_mgmt = \"none\"").config.networks[0].key, Key::Open);
    }
}
