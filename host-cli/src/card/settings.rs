//! What is to be on the card: of a file, of what other programs know, and of the command line, in this order. Pure.

use crate::error::fault;
use anyhow::Result;
use cygnet_protocol::card::config::authorized_key;
use cygnet_protocol::card::{self, CardConfig, HostKey, Reading};
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::online::country;
use cygnet_protocol::online::settings::{Key, Network};
use cygnet_protocol::online::ssid::Ssid;

/// What was said on the command line.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// `--hostname`
    pub hostname: Option<String>,
    /// `--country`
    pub country: Option<String>,
    /// `--claim`
    pub claim: Option<String>,
    /// `--target`
    pub target: Option<String>,
    /// `--authorized-key`, each with where it is from.
    pub keys: Vec<(String, String)>,
    /// `--network`, with what belongs to it.
    pub networks: Vec<Network>,
}

/// Puts what was given over what the file says.
pub fn merge(mut config: CardConfig, given: Given) -> Result<CardConfig> {
    let over = |own: &mut Option<String>, given: Option<String>| *own = given.or(own.take());
    over(&mut config.hostname, given.hostname);
    let country = given.country.map(|text| {
        country::code(&text)
            .map_err(|why| bad(format!("--country {text:?} can't be: {why}."), "Give the code of your country."))
    });
    over(&mut config.country, country.transpose()?);
    over(&mut config.claim, given.claim);
    over(&mut config.target, given.target);
    for (from, line) in given.keys {
        let key = authorized_key(&line).map_err(|why| {
            bad(
                format!("{from} is no key that could be authorized: {why}."),
                "Give the file of a public key (it ends with .pub), or its line in quotes.",
            )
        })?;
        if !config.authorized_keys.contains(&key) {
            config.authorized_keys.push(key);
        }
    }
    add_networks(&mut config.networks, given.networks);
    Ok(config)
}

/// Networks that were named later take the place of those with the same name.
pub fn add_networks(networks: &mut Vec<Network>, more: Vec<Network>) {
    for network in more {
        match networks.iter_mut().find(|other| other.ssid == network.ssid) {
            Some(other) => *other = network,
            None => networks.push(network),
        }
    }
}

/// What other programs allow, two networks with one priority, made unambiguous: the order stays.
pub fn rank(networks: &mut [Network]) {
    networks.sort_by_key(|network| std::cmp::Reverse(network.priority));
    let given = |network: &&Network| network.priority != 0;
    let mut priorities: Vec<i32> = networks.iter().filter(given).map(|network| network.priority).collect();
    let count = priorities.len();
    priorities.dedup();
    if priorities.len() < count {
        for (priority, network) in (1..).zip(networks.iter_mut().rev()) {
            network.priority = priority;
        }
    }
}

/// A network of the command line.
pub fn network(ssid: &str, key: Result<Key, &'static str>, hidden: bool, priority: i32) -> Result<Network> {
    let remedy = "See `cygnet card configure --help`.";
    let ssid = Ssid::parse(ssid).map_err(|error| bad(format!("{ssid:?} is no network's name: {error}."), remedy))?;
    let key = key.map_err(|why| {
        bad(
            format!("The network “{ssid}” can't be joined like this: {why}."),
            "A passphrase has 8 to 63 bytes, one for each ASCII character; 64 hex digits are the key made of it; `--open` means none.",
        )
    })?;
    Ok(Network { ssid, key, hidden, priority })
}

/// A file's faults are a refusal: nobody is there to see them on the Pi.
pub fn accept(reading: Reading, what: &str) -> Result<CardConfig> {
    if reading.faults.is_empty() {
        return Ok(reading.config);
    }
    let lines: Vec<String> = reading.faults.iter().map(ToString::to_string).collect();
    Err(fault(
        FaultCode::BadSettings,
        format!("{what} is not as it should be; nothing was changed."),
        lines.join("\n"),
        "Correct these lines, and try again.",
    ))
}

/// The file for the card. What was written is read as the Pi will read it.
pub fn compose(config: &CardConfig) -> Result<zeroize::Zeroizing<String>> {
    let text = card::write(config);
    let read = accept(card::read(text.as_bytes()), "What was asked for")?;
    if read != *config {
        // The order of networks with one priority, or a key's comment: something that the format does not carry.
        let same = read.networks.len() == config.networks.len() && read.host_key == config.host_key;
        anyhow::ensure!(same, "comparing the settings with what the Pi would read of them");
    }
    Ok(text)
}

/// The name that the Pi has if nobody has given one: of the host to be installed, or of the key.
pub fn default_hostname(config: &CardConfig, key: &HostKey) -> String {
    let target = config.target.clone().filter(|name| card::hostname::check(name).is_ok());
    let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    target.unwrap_or_else(|| format!("cygnet-{}", hex(&key.octets()[..3])))
}

fn bad(what: String, remedy: &str) -> anyhow::Error {
    fault(FaultCode::BadSettings, what, "The Pi would not take it, and nobody could see that there.", remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = include_str!("../../../protocol/src/card/test-host-key.pub");

    fn open(ssid: &str, priority: i32) -> Network {
        network(ssid, Ok(Key::Open), false, priority).unwrap()
    }

    #[test]
    fn the_command_line_goes_over_the_file() {
        let file = card::read(b"hostname = \"a\"\ncountry = \"DE\"\n[[network]]\nssid = \"x\"\nopen = true\n");
        let config = accept(file, "the file").unwrap();
        let given = Given {
            hostname: Some("b".into()),
            keys: vec![("x.pub".into(), PUBLIC.into()), ("x.pub".into(), PUBLIC.into())],
            networks: vec![network("x", Ok(Key::Passphrase("correct horse".into())), true, 0).unwrap(), open("y", 3)],
            ..Given::default()
        };
        let config = merge(config, given).unwrap();
        assert_eq!((config.hostname.as_deref(), config.country.as_deref()), (Some("b"), Some("DE")));
        assert_eq!((config.networks.len(), config.authorized_keys.len()), (2, 1));
        assert!(config.networks[0].hidden);
        let text = compose(&config).unwrap();
        assert!(text.contains("passphrase = \"correct horse\""));
    }

    #[test]
    fn bad_values_are_refused_without_the_secret() {
        let says = |error: anyhow::Error| crate::error::fault_of(&error).to_string();
        for (config, expected) in [
            (CardConfig { country: Some("Germany".into()), ..CardConfig::default() }, "line 3: country: two letters"),
            (CardConfig { hostname: Some("Pi".into()), ..CardConfig::default() }, "hostname: only a to z"),
            (
                CardConfig { networks: vec![open("a", 5), open("b", 5)], ..CardConfig::default() },
                "network 2: priority: another",
            ),
        ] {
            let said = says(compose(&config).unwrap_err());
            assert!(said.contains(expected), "{said}");
        }
        let said = says(network("x", Key::of(Some("hunter2".into()), None, false), false, 0).unwrap_err());
        assert!(said.contains("8 to 63") && !said.contains("hunter2"), "{said}");
        assert!(network("", Ok(Key::Open), false, 0).is_err());
        let given = Given { keys: vec![("key".into(), "ssh-rsa nonsense".into())], ..Given::default() };
        assert!(says(merge(CardConfig::default(), given).unwrap_err()).contains("no public key"));
        let truncated = card::read(b"country = \"DE\"\n[[network]]\nssid = \"x\"\npassphrase = \"hunter2hunter2");
        let said = says(accept(truncated, "cygnet.toml").unwrap_err());
        assert!(said.contains("line 4") && !said.contains("hunter2"), "{said}");
        let unknown = card::read(b"\xef\xbb\xbfcountry = \"DE\"\r\ncontry = 1\r\n");
        assert!(says(accept(unknown, "cygnet.toml").unwrap_err()).contains("line 2: contry: unknown key"));
    }

    #[test]
    fn one_priority_for_two_is_made_unambiguous() {
        let ranked = |list: &[(&str, i32)]| {
            let mut networks: Vec<Network> = list.iter().map(|(ssid, priority)| open(ssid, *priority)).collect();
            rank(&mut networks);
            networks.iter().map(|network| (network.ssid.to_string(), network.priority)).collect::<Vec<_>>()
        };
        let named = |list: &[(&str, i32)]| list.iter().map(|(s, p)| ((*s).to_owned(), *p)).collect::<Vec<_>>();
        assert_eq!(ranked(&[("a", 0), ("b", 0)]), named(&[("a", 0), ("b", 0)]));
        assert_eq!(ranked(&[("a", 1), ("b", 7)]), named(&[("b", 7), ("a", 1)]));
        assert_eq!(ranked(&[("a", 5), ("b", 5), ("c", 9)]), named(&[("c", 3), ("a", 2), ("b", 1)]));
    }

    #[test]
    fn a_pi_without_a_name_gets_one() {
        let key = HostKey::parse(include_str!("../../../protocol/src/card/test-host-key")).unwrap();
        let mut config = CardConfig { target: Some("pi".into()), ..CardConfig::default() };
        assert_eq!(default_hostname(&config, &key), "pi");
        config.target = Some("My_Pi".into());
        let name = default_hostname(&config, &key);
        assert!(name.starts_with("cygnet-") && card::hostname::check(&name).is_ok());
    }
}
