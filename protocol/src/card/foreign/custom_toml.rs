//! `custom.toml` of Raspberry Pi OS “bookworm”.

use super::imager::{self, Dialect};
use crate::card::read::Reading;

/// Reads it.
pub fn read(bytes: &[u8]) -> Reading {
    imager::read(bytes, Dialect::Custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::online::settings::Key;

    #[test]
    fn a_file_as_the_documentation_has_it() {
        let text = "# Required:\nconfig_version = 1\n[system]\nhostname = \"raspberrypi\"\n[user]\nname = \"user\"\npassword = \"hunter2hunter2\"\n\
            password_encrypted = true\n[ssh]\nenabled = true\npassword_authentication = false\nauthorized_keys = []\n[wlan]\nssid = \"home\"\n\
            password = \"correct horse\"\npassword_encrypted = false\nhidden = false\ncountry = \"GB\"\nkey_mgmt = \"sae\"\n[locale]\nkeymap = \"gb\"\n";
        let Reading { config, faults } = read(text.as_bytes());
        assert_eq!((config.hostname.as_deref(), config.country.as_deref()), (Some("raspberrypi"), Some("GB")));
        assert_eq!(config.networks[0].key, Key::Passphrase("correct horse".into()));
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "line 5: user: not used by cygnet",
                "line 19: wlan.key_mgmt: not used by cygnet",
                "line 20: locale: not used by cygnet"
            ]
        );
        assert!(read(b"").faults.is_empty() && read(b"[wlan]\ncountry = \"DE\"").faults.is_empty());
        assert!(read(b"\0\x01").faults[0].why.contains("no TOML"));
    }
}
