//! What `cygnet.toml` speaks of, whether or not its values are good: what it does not mention stays as it was.

use crate::online::settings::unhex;
use crate::online::ssid::Ssid;
use std::collections::BTreeSet;
use toml::de::{DeTable, DeValue};

/// What is mentioned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Says {
    /// The keys at the top: `country`, `network`.
    pub keys: BTreeSet<String>,
    /// The networks that have a name.
    pub networks: Vec<Named>,
}

/// A network that is mentioned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Which it is in the file, from 1; faults call it `network 1`.
    pub number: usize,
    /// Its name.
    pub ssid: Ssid,
    /// Whether it has a passphrase, a PMK, or `open`; one that was taken has none any more.
    pub has_key: bool,
}

/// Reads that. A file that is no TOML says nothing.
pub fn says(bytes: &[u8]) -> Says {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let Ok(table) = DeTable::parse(text.strip_prefix('\u{feff}').unwrap_or(text)) else { return Says::default() };
    let keys = table.get_ref().keys().map(|key| key.get_ref().to_string()).collect();
    let networks = match table.get_ref().get("network").map(|value| value.get_ref()) {
        Some(DeValue::Array(networks)) => networks.iter().enumerate().filter_map(named).collect(),
        _ => Vec::new(),
    };
    Says { keys, networks }
}

fn named((at, value): (usize, &toml::Spanned<DeValue<'_>>)) -> Option<Named> {
    let table = value.get_ref().as_table()?;
    let text = |key: &str| table.get(key).and_then(|value| value.get_ref().as_str());
    let octets = match (text("ssid"), text("ssid-hex")) {
        (Some(name), None) => name.as_bytes().to_vec(),
        (None, Some(hex)) => unhex(hex)?,
        _ => return None,
    };
    let has_key = ["passphrase", "pmk", "open"].iter().any(|key| table.contains_key(*key));
    Some(Named { number: at + 1, ssid: Ssid::new(octets).ok()?, has_key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_known_by_their_names() {
        let text = "\u{feff}country = 4\r\n[[network]]\r\nssid = \"a\"\r\n[[network]]\r\nopen = true\r\n[[network]]\r\nssid-hex = \"ff\"\r\nopen = true\r\n";
        let says = says(text.as_bytes());
        assert_eq!(says.keys.iter().map(String::as_str).collect::<Vec<_>>(), ["country", "network"]);
        let networks: Vec<_> = says.networks.iter().map(|n| (n.number, n.ssid.octets(), n.has_key)).collect();
        assert_eq!(networks, [(1, &b"a"[..], false), (3, &b"\xff"[..], true)]);
        assert_eq!(super::says(b"a = \""), Says::default());
    }
}
