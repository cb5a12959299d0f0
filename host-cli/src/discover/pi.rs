//! One Pi, as it says of itself. All of it is hearsay until ssh has checked its key. Pure.

use super::known::Known;
use cygnet_protocol::online::diagnosis::Code;
use cygnet_protocol::text;
use mdns_sd::ResolvedService;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What the agent announces.
pub const SERVICE: &str = "_cygnet._tcp.local.";

/// The keys of the announcement; whatever else it has is not passed on.
const KEYS: &[&str] =
    &["proto", "version", "state", "online", "code", "board", "serial", "host", "key", "job", "claim", "toplevel"];
/// The longest value that is passed on, characters.
const MAX_VALUE: usize = 200;
/// The most addresses of one Pi that are passed on.
const MAX_ADDRESSES: usize = 16;
/// From this [`rank`] on an address is good on this very link at most.
const LINK_LOCAL: u8 = 2;

/// One Pi.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pi {
    /// The instance's name: `cygnet-a1b2c3d4`.
    pub name: String,
    /// `cygnet-a1b2c3d4.local`.
    pub host_name: String,
    /// Its addresses, the one to type first.
    pub addresses: Vec<String>,
    /// Where its ssh server listens.
    pub port: u16,
    /// Whether ssh knows the key that it says it has.
    pub known: Known,
    /// What the diagnosis means, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<&'static str>,
    /// What is in its TXT record, as far as we know the keys.
    #[serde(flatten)]
    pub text: BTreeMap<String, String>,
}

impl Pi {
    /// Reads what was announced; whether the key is known is another's to say.
    pub fn of(service: &ResolvedService) -> Self {
        let addresses = service.get_addresses().iter().map(ToString::to_string).collect();
        let properties = service.get_properties().iter().map(|property| (property.key(), property.val_str()));
        Self::new(service.get_fullname(), service.get_hostname(), addresses, service.get_port(), properties)
    }

    fn new<'a>(
        name: &str,
        host: &str,
        mut addresses: Vec<String>,
        port: u16,
        properties: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        addresses.sort_by_key(|address| rank(address));
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES);
        let mut text = BTreeMap::new();
        for (key, value) in properties {
            let key = key.to_ascii_lowercase();
            if KEYS.contains(&key.as_str()) && !value.is_empty() {
                // RFC 6763, section 6.4: of several with the same key the first counts.
                text.entry(key).or_insert_with(|| printable(value));
            }
        }
        let diagnosis = text.get("code").and_then(|code| summary(code));
        Self {
            name: printable(name.strip_suffix(&format!(".{SERVICE}")).unwrap_or(name)),
            host_name: printable(host.trim_end_matches('.')),
            addresses,
            port,
            known: Known::No,
            diagnosis,
            text,
        }
    }

    /// What it says under this key.
    pub fn says(&self, key: &str) -> Option<&str> {
        self.text.get(key).map(String::as_str)
    }

    /// Whether it has an address that is good beyond this link, or is likely to be.
    pub fn is_settled(&self) -> bool {
        self.addresses.first().is_some_and(|address| rank(address).0 < LINK_LOCAL)
    }

    /// Whether a person means this Pi by `given`: its name, host name, an address, or the end of its serial number.
    pub fn is_called(&self, given: &str) -> bool {
        let given = given.rsplit('@').next().unwrap_or(given).trim_end_matches('.');
        let same = |other: &str| !other.is_empty() && other.eq_ignore_ascii_case(given);
        let serial = self.says("serial").unwrap_or_default();
        same(&self.name)
            || same(&self.host_name)
            || self.says("host").is_some_and(|host| same(host) || same(&format!("{host}.local")))
            || self.addresses.iter().any(|address| same(address))
            || given.len() >= 4 && serial.to_ascii_lowercase().ends_with(&given.to_ascii_lowercase())
    }

    /// State and diagnosis in a few words.
    pub fn condition(&self) -> String {
        let state = self.says("state").unwrap_or("no state");
        match (self.says("code"), self.diagnosis) {
            (Some(code), Some(summary)) => format!("{state}, {code}: {summary}"),
            (Some(code), None) => format!("{state}, {code}"),
            (None, _) => state.to_owned(),
        }
    }
}

/// What a code of ours means.
fn summary(code: &str) -> Option<&'static str> {
    Code::ALL.iter().find(|known| known.name() == code).map(|known| known.summary())
}

/// IPv4 first, link-local late, this machine itself last: the first one is what a person types.
fn rank(address: &str) -> (u8, String) {
    let bare = address.split('%').next().unwrap_or(address);
    let kind = match bare.parse() {
        Ok(ip) if ip.is_loopback() => 5,
        Ok(IpAddr::V4(v4)) if v4.is_link_local() => 2,
        Ok(IpAddr::V4(_)) => 0,
        Ok(IpAddr::V6(v6)) if v6.segments()[0] & 0xffc0 == 0xfe80 => 3,
        Ok(IpAddr::V6(_)) => 1,
        Err(_) => 4,
    };
    (kind, address.to_owned())
}

/// Anybody in the network can announce anything; nothing of it may move the cursor or turn the text around.
fn printable(text: &str) -> String {
    text::line(text).chars().take(MAX_VALUE).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn pi(name: &str, addresses: &[&str], text: &[(&str, &str)]) -> Pi {
        let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
        Pi::new(&format!("{name}.{SERVICE}"), &format!("{name}.local."), addresses, 22, text.iter().copied())
    }

    #[test]
    fn the_address_to_type_comes_first() {
        let mixed = ["127.0.0.1", "fe80::1%wlan0", "169.254.3.3", "fd00::5", "192.168.1.7", "10.0.0.2"];
        let pi = pi("cygnet-1", &mixed, &[]);
        assert_eq!(pi.addresses, ["10.0.0.2", "192.168.1.7", "fd00::5", "169.254.3.3", "fe80::1%wlan0", "127.0.0.1"]);
        assert!(pi.is_settled());
    }

    #[test]
    fn link_local_alone_is_not_settled() {
        assert!(!pi("cygnet-1", &["fe80::1%wlan0", "169.254.3.3"], &[]).is_settled());
        assert!(!pi("cygnet-1", &[], &[]).is_settled());
    }

    #[test]
    fn a_hostile_announcement_is_harmless() {
        assert_eq!(printable("pi\x1b[2J\n\u{202e}"), "pi\u{fffd}[2J\u{fffd}\u{fffd}");
        assert_eq!(printable(&"x".repeat(1000)).len(), MAX_VALUE);
        let text = [("addresses", "evil"), ("event", "gone"), ("state", "a"), ("STATE", "b"), ("code", "W99\x07")];
        let pi = pi("x", &["10.0.0.2"], &text);
        let json = serde_json::to_string(&pi).unwrap();
        assert_eq!(json.matches("addresses").count(), 1, "{json}");
        assert!(!json.contains("event") && !json.contains("evil"), "{json}");
        assert_eq!(pi.condition(), "a, W99\u{fffd}");
    }

    #[test]
    fn the_code_is_explained() {
        let pi = pi("x", &[], &[("state", "waiting"), ("code", "W13-ISOLATED")]);
        assert!(pi.condition().starts_with("waiting, W13-ISOLATED: Nothing of other machines'"), "{}", pi.condition());
    }

    #[test]
    fn a_pi_is_called_by_many_names() {
        let pi = pi("cygnet-a1b2c3d4", &["10.0.0.2"], &[("serial", "10000000a1b2c3d4"), ("host", "pi")]);
        for name in ["cygnet-a1b2c3d4", "CYGNET-A1B2C3D4.local", "10.0.0.2", "root@10.0.0.2", "pi", "pi.local", "C3D4"]
        {
            assert!(pi.is_called(name), "{name}");
        }
        for name in ["", "4", "10.0.0.20", "d4", "cygnet"] {
            assert!(!pi.is_called(name), "{name}");
        }
    }
}
