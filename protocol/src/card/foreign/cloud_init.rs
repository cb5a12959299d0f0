//! cloud-init's `network-config` (version 2, as netplan has it) and `user-data` (`#cloud-config`).

use super::found::{Found, Written, text, unreadable};
use super::yaml::{self, Node, Value};
use crate::card::read::Reading;

/// Reads `network-config`.
pub fn network_config(bytes: &[u8]) -> Reading {
    let text = match text(bytes) {
        Ok(text) => text,
        Err(reading) => return *reading,
    };
    let root = match yaml::parse(text) {
        Ok(Some(root)) => root,
        Ok(None) => return Reading::default(),
        Err(line) => return unreadable(line, "YAML"),
    };
    let mut found = Found::default();
    not_a(&mut found, &root, "", Kind::Map);
    let inner = root.entries().iter().find(|(key, _)| key == "network").map_or(&root, |(_, inner)| inner);
    if !std::ptr::eq(inner, &root) {
        not_a(&mut found, inner, "network", Kind::Map);
        let beside = root.entries().iter().filter(|(key, _)| key != "network");
        beside.for_each(|(key, node)| found.ignored(node.line, key));
    }
    for (key, node) in inner.entries() {
        match key.as_str() {
            "version" if node.text() == Some("2") => {}
            "version" => found.fault(node.line, "version", "only version 2 is read"),
            "wifis" => {
                not_a(&mut found, node, key, Kind::Map);
                node.entries().iter().for_each(|(name, node)| interface(&mut found, name, node));
            }
            // Who would carry it out there; here it is cygnet.
            "renderer" if node.text().is_some() => {}
            _ => found.ignored(node.line, key),
        }
    }
    found.reading()
}

fn interface(found: &mut Found, name: &str, node: &Node) {
    not_a(found, node, &format!("wifis.{name}"), Kind::Map);
    for (key, node) in node.entries() {
        let of = format!("wifis.{name}.{key}");
        match (key.as_str(), node.text()) {
            ("regulatory-domain", Some(code)) => found.country(node.line, &of, code),
            ("access-points", _) => {
                not_a(found, node, &of, Kind::Map);
                node.entries().iter().for_each(|(ssid, node)| access_point(found, ssid, node));
            }
            // DHCP is what cygnet does, and nothing at boot waits for a network.
            ("dhcp4" | "dhcp6", Some(word)) if boolean(word) == Some(true) => {}
            ("optional" | "renderer", Some(_)) => {}
            _ => found.ignored(node.line, of),
        }
    }
}

/// netplan's words for a boolean, in any case (`handle_generic_bool()` in parse.c).
fn boolean(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "y" => Some(true),
        "false" | "off" | "no" | "n" => Some(false),
        _ => None,
    }
}

/// What one of the access points says of itself.
#[derive(Default)]
struct AccessPoint<'a> {
    secret: Option<&'a str>,
    hidden: bool,
    /// The line, too.
    management: Option<(&'a str, usize)>,
    /// Whether it has an `auth`: netplan takes a password beside it for a passphrase, and needs to be told within it.
    has_auth: bool,
    /// Whether it says who logs in.
    has_account: bool,
    /// Whether it is made by the machine rather than joined.
    of_its_own: bool,
}

impl<'a> AccessPoint<'a> {
    fn take(&mut self, found: &mut Found, key: &str, node: &'a Node) {
        match (key, node.text()) {
            ("password", Some(secret)) => self.secret = Some(secret).filter(|secret| !secret.is_empty()),
            ("hidden", Some(word)) => match boolean(word) {
                Some(is) => self.hidden = is,
                None => found.fault(node.line, "access-points: hidden", "true or false is expected"),
            },
            ("mode", Some(mode)) => {
                self.of_its_own |= mode != "infrastructure";
            }
            ("key-management", Some(kind)) => self.management = Some((kind, node.line)),
            ("method" | "identity" | "anonymous-identity" | "client-certificate" | "ca-certificate", Some(_)) => {
                self.has_account = true;
            }
            _ => found.ignored(node.line, format!("access-points: {key}")),
        }
    }

    /// Whether everybody is let in.
    ///
    /// # Errors
    /// Why it is not joined.
    fn is_open(&self) -> Result<bool, &'static str> {
        const ACCOUNTS: &str = "it is a network with accounts (802.1X), which can't be carried over";
        if self.of_its_own {
            return Err("it is an access point or a network between two (mode), nothing to join");
        }
        match self.management {
            Some(("eap" | "eap-sha256" | "eap-suite-b-192" | "802.1x", _)) => Err(ACCOUNTS),
            Some(("none" | "psk" | "sae", _)) if self.has_account => Err(ACCOUNTS),
            Some((kind @ ("none" | "psk" | "sae"), _)) => Ok(kind == "none"),
            Some(_) => Err("only none, psk and sae are possible as key-management"),
            None if self.has_account => Err(ACCOUNTS),
            None if self.has_auth && self.secret.is_some() => {
                Err("auth has no key-management, and netplan joins without the password then; say key-management: psk")
            }
            None => Ok(self.secret.is_none()),
        }
    }
}

fn access_point(found: &mut Found, name: &str, node: &Node) {
    let mut point = AccessPoint::default();
    for (key, node) in node.entries() {
        if key == "auth" {
            point.has_auth = true;
            if !matches!(node.value, Value::Map(_)) && !node.is_empty() {
                // It has some key: not one that is open.
                return not_a(found, node, "access-points: auth", Kind::Map);
            }
            node.entries().iter().for_each(|(key, node)| point.take(found, key, node));
        } else {
            point.take(found, key, node);
        }
    }
    // Something else than settings for it: not a network that is open.
    if !matches!(node.value, Value::Map(_)) && !node.is_empty() {
        return not_a(found, node, "access-points", Kind::Map);
    }
    let line = point.management.map_or(node.line, |(_, line)| line);
    match point.is_open() {
        Ok(open) => {
            let secret = point.secret.map(str::to_owned);
            let written = Written { ssid: octets(name), secret, open, hidden: point.hidden, priority: 0 };
            found.network(node.line, "access-points", written);
        }
        Err(why) => found.fault(line, "access-points", why),
    }
}

/// The octets of a name. The Imager writes each octet that is no ASCII as `\xHH`, which YAML takes for a character; two
/// octets that are one character in UTF-8 are that one.
fn octets(name: &str) -> Vec<u8> {
    let latin: Option<Vec<u8>> = name.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    let meant = |octets: &Vec<u8>| !octets.is_ascii() && std::str::from_utf8(octets).is_ok();
    latin.filter(meant).unwrap_or_else(|| name.as_bytes().to_vec())
}

/// Reads `user-data`.
pub fn user_data(bytes: &[u8]) -> Reading {
    let text = match text(bytes) {
        Ok(text) => text,
        Err(reading) => return *reading,
    };
    let mut found = Found::default();
    let first = text.lines().next().unwrap_or_default().trim_end();
    if first != "#cloud-config" {
        if !text.trim().is_empty() {
            found.fault(1, "", "the first line is not #cloud-config; scripts and templates are never run here");
        }
        return found.reading();
    }
    let root = match yaml::parse(text) {
        Ok(Some(root)) => root,
        Ok(None) => return Reading::default(),
        Err(line) => return unreadable(line, "YAML"),
    };
    not_a(&mut found, &root, "", Kind::Map);
    let named = |name: &str| root.entries().iter().any(|(key, node)| key == name && !node.is_empty());
    for (key, node) in root.entries() {
        match (key.as_str(), node.text()) {
            ("hostname", Some(name)) => found.hostname(node.line, key, name),
            ("fqdn", Some(name)) if !named("hostname") => found.hostname(node.line, key, name),
            // Who writes the name into /etc/hosts is the image's affair.
            ("manage_etc_hosts", Some(_)) => {}
            ("preserve_hostname", Some(word)) if is_false(word) => {}
            // Keys only, as with cygnet.
            ("ssh_pwauth", Some(word)) if is_false(word) => {}
            ("ssh_authorized_keys" | "ssh-authorized-keys", _) => authorized(&mut found, key, node),
            ("ssh_keys", _) => {
                for (key, node) in node.entries() {
                    match (key.as_str(), node.text()) {
                        ("ed25519_private", Some(pem)) => found.host_key(node.line, "ssh_keys.ed25519_private", pem),
                        // It is in the private one.
                        ("ed25519_public", Some(_)) => {}
                        _ => found.ignored(node.line, format!("ssh_keys.{key}")),
                    }
                }
            }
            ("users", _) => {
                not_a(&mut found, node, key, Kind::List);
                node.items().iter().for_each(|node| user(&mut found, node));
            }
            _ => found.ignored(node.line, key),
        }
    }
    found.reading()
}

/// As cloud-init's `util.is_false()`.
fn is_false(word: &str) -> bool {
    ["false", "no", "off", "0"].contains(&word.trim().to_ascii_lowercase().as_str())
}

/// There is only root here: whoever may log in as one of the users there may do so as root here.
fn user(found: &mut Found, node: &Node) {
    // The image's own user, who has no key.
    if node.text() == Some("default") {
        return;
    }
    not_a(found, node, "users", Kind::Map);
    for (key, node) in node.entries() {
        match key.as_str() {
            "ssh_authorized_keys" | "ssh-authorized-keys" => authorized(found, key, node),
            "name" if node.text() == Some("root") => {}
            "name" => found.fault(
                node.line,
                "users: name",
                "there is only root here; with this user's keys one logs in as root",
            ),
            _ => found.ignored(node.line, format!("users: {key}")),
        }
    }
}

fn authorized(found: &mut Found, name: &str, node: &Node) {
    not_a(found, node, name, Kind::List);
    for key in node.items() {
        match key.text() {
            Some(text) => found.authorized_key(key.line, name, text),
            None => found.fault(key.line, name, "a key as in id_ed25519.pub is expected"),
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Map,
    List,
}

/// Tells of something that is not what it must be; nothing at all is fine.
fn not_a(found: &mut Found, node: &Node, key: &str, kind: Kind) {
    match (&node.value, kind) {
        (Value::Map(_), Kind::Map) | (Value::List(_), Kind::List) => {}
        (Value::Alias, _) => found.fault(node.line, key, "it is a reference (*name) to something that contains it"),
        _ if node.is_empty() => {}
        (_, Kind::Map) => found.fault(node.line, key, "lines with KEY: VALUE are expected"),
        (_, Kind::List) => found.fault(node.line, key, "a list is expected, each line with a - before it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::online::settings::Key;

    const PUBLIC: &str = include_str!("../test-host-key.pub");
    const PRIVATE: &str = include_str!("../test-host-key");

    fn told(reading: &Reading) -> String {
        reading.faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_network_of_the_imager() {
        let pmk = "0f".repeat(32);
        let text = format!(
            "\u{feff}network:\r\n  version: 2\r\n  renderer: NetworkManager\r\n  ethernets:\r\n    eth0:\r\n      dhcp4: true\r\n  wifis:\r\n    wlan0:\r\n      dhcp4: true\r\n\
             \x20     regulatory-domain: \"DE\"\r\n      optional: true\r\n      addresses: [10.0.0.2/24]\r\n      access-points:\r\n        \"K\\xc3\\xa4fer\":\r\n          hidden: true\r\n\
             \x20         password: \"{pmk}\"\r\n        guests: {{}}\r\n        new:\r\n          auth:\r\n            key-management: sae\r\n            password: correct horse\r\n\
             \x20       corp:\r\n          auth: {{key-management: eap, password: hunter2hunter2}}\r\n        short:\r\n          password: hunter2\r\n"
        );
        let reading = network_config(text.as_bytes());
        let networks = &reading.config.networks;
        assert_eq!(networks.len(), 3, "{}", told(&reading));
        assert!(
            networks[0].ssid.octets() == "Käfer".as_bytes()
                && networks[0].hidden
                && matches!(networks[0].key, Key::Pmk(_))
        );
        assert_eq!((&networks[1].key, &networks[2].key), (&Key::Open, &Key::Passphrase("correct horse".into())));
        assert_eq!(reading.config.country.as_deref(), Some("DE"));
        let told = told(&reading);
        for says in [
            "ethernets: not used",
            "wifis.wlan0.addresses: not used",
            "line 23: access-points: it is a network with accounts (802.1X)",
            "8 to 63",
        ] {
            assert!(told.contains(says), "{says}: {told}");
        }
        assert!(reading.faults.len() == 4 && !told.contains("hunter2"), "{told}");
    }

    #[test]
    fn what_is_referred_to_is_as_if_it_stood_there() {
        let text = "wifis:\n  wlan0:\n    regulatory-domain: &c DE\n    access-points: &points\n      home:\n        \
            auth: &auth {key-management: psk, password: correct horse}\n      attic:\n        auth: *auth\n  wlan1:\n    \
            regulatory-domain: *c\n    access-points: *points\n";
        let reading = network_config(text.as_bytes());
        let keys: Vec<&Key> = reading.config.networks.iter().map(|network| &network.key).collect();
        assert_eq!(keys, [&Key::Passphrase("correct horse".into()); 2], "{}", told(&reading));
        assert_eq!(reading.config.country.as_deref(), Some("DE"));
    }

    #[test]
    fn user_data_gives_a_name_and_keys() {
        let pem: String = PRIVATE.lines().map(|line| format!("    {line}\n")).collect();
        let text = format!(
            "#cloud-config\nfqdn: other.example.org\nhostname: Cupboard.example.org\nssh_pwauth: false\npackages: [vim]\nruncmd:\n  - reboot\n\
             ssh_authorized_keys:\n  - {key}\nusers:\n  - default\n  - name: pi\n    passwd: $6$hunter2\n    ssh_authorized_keys:\n      - {key} again\n      - junk\n\
             ssh_keys:\n  ed25519_private: |\n{pem}  rsa_private: x\n",
            key = PUBLIC.trim_end()
        );
        let reading = user_data(text.as_bytes());
        assert_eq!(reading.config.hostname.as_deref(), Some("cupboard"), "{}", told(&reading));
        assert_eq!(reading.config.authorized_keys.len(), 2);
        assert_eq!(reading.config.host_key.as_ref().map(|key| key.private()), Some(PRIVATE));
        let told = told(&reading);
        for says in [
            "packages: not used",
            "runcmd: not used",
            "users: passwd: not used",
            "line 16: ssh_authorized_keys: it is no public key",
            "rsa_private: not used",
        ] {
            assert!(told.contains(says), "{says}: {told}");
        }
        assert!(!told.contains("hunter2"));
    }

    #[test]
    fn nothing_is_run_expanded_or_guessed() {
        for (text, says) in [
            ("#!/bin/sh\nreboot", "not #cloud-config"),
            ("## template: jinja\n#cloud-config\nhostname: x", "not #cloud-config"),
            ("#cloud-config\nhostname: [", "it is no YAML"),
            ("#cloud-config\nx: &a [1]\nssh_authorized_keys: *a\n", "line 2: ssh_authorized_keys: it is no public key"),
            ("#cloud-config\nssh_authorized_keys: &a [*a]\n", "line 2: ssh_authorized_keys: a key as in"),
            ("#cloud-config\nusers: x", "users: a list is expected"),
            ("#cloud-config\nusers: [x]", "users: lines with KEY: VALUE"),
            ("#cloud-config\nhostname: x\nfqdn: y.example.org", "line 3: fqdn: not used"),
            ("#cloud-config\npreserve_hostname: true", "preserve_hostname: not used"),
            ("#cloud-config\n- hostname", "lines with KEY: VALUE"),
            ("#cloud-config\nssh_authorized_keys: x", "a list is expected"),
        ] {
            let told = told(&user_data(text.as_bytes()));
            assert!(told.contains(says), "{text}: {told}");
        }
        for (text, says) in [
            ("network: {version: 1, config: []}", "only version 2"),
            ("network: {version: 2}\nwifis: {}\n", "line 2: wifis: not used"),
            ("wifis: {wlan0: x}\n", "line 1: wifis.wlan0: lines with KEY"),
            ("wifis: {wlan0: {access-points: {x: {auth: hunter2}}}}\n", "access-points: auth: lines with KEY"),
            ("wifis: {wlan0: {match: {name: wl*}}}\n", "wifis.wlan0.match: not used"),
            ("wifis:\n  wlan0:\n    access-points:\n      x: *y\n", "it is no YAML"),
            ("wifis:\n  wlan0:\n    access-points:\n      x: hunter2\n", "line 4: access-points: lines with KEY"),
            ("wifis:\n  wlan0:\n    access-points:\n      x:\n        password: \"hunter2hun", "it is no YAML"),
        ] {
            let reading = network_config(text.as_bytes());
            let told = told(&reading);
            assert!(
                told.contains(says) && !told.contains("hunter2") && reading.config.networks.is_empty(),
                "{text}: {told}"
            );
        }
        assert!(network_config(b"").faults.is_empty() && user_data(b"\n").faults.is_empty());
        assert!(
            network_config(&[b' '; 70_000]).faults[0].why.contains("64 kB") && user_data(b"\xff").faults.len() == 1
        );
    }
}
