//! `cygnet discover`: Pis that announce themselves by mDNS (RFC 6762, RFC 6763).

use crate::cli;
use crate::error::fault;
use crate::ui::Ui;
use crate::ui::format::table;
use anyhow::{Context, Result};
use cygnet_protocol::fault::FaultCode;
use mdns_sd::{ResolvedService, ServiceDaemon, ServiceEvent};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What the agent announces.
const SERVICE: &str = "_cygnet._tcp.local.";

/// How long `--first` waits for more addresses of the Pi that answered.
const SAME_PI: Duration = Duration::from_millis(400);

/// How long `--first` waits while only link-local addresses are known: the agent is up before DHCP has given one.
const SETTLING: Duration = Duration::from_secs(4);

/// One Pi. All of it is hearsay until ssh has checked its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Found {
    name: String,
    host_name: String,
    addresses: Vec<String>,
    port: u16,
    /// Everything in its TXT record.
    #[serde(flatten)]
    text: BTreeMap<String, String>,
}

/// Carries it out.
pub fn run(ui: &Ui, arguments: &cli::Discover) -> Result<()> {
    let found = browse(ui, arguments)?;
    if found.is_empty() {
        return Err(fault(
            FaultCode::NotFound,
            format!("No Pi announced itself within {} s.", arguments.timeout.as_secs_f64()),
            "It is off, still booting, not in this network, or the network or a firewall here holds mDNS (UDP port 5353) back.",
            "Wait until the Pi has booted and try with `--timeout 30s`, or use its address, which its console and your router know.",
        ));
    }
    if ui.json() {
        return found.values().try_for_each(|pi| ui.record(pi));
    }
    ui.data(&as_table(found.values()))
}

/// Listens; keyed by full name, so that the same Pi on two interfaces is one.
fn browse(ui: &Ui, arguments: &cli::Discover) -> Result<BTreeMap<String, Found>> {
    let daemon = ServiceDaemon::new().context("starting to listen for mDNS")?;
    let events = daemon.browse(SERVICE).context("asking for Pis by mDNS")?;
    ui.status(&format!("Listening for {} s …", arguments.timeout.as_secs_f64()));
    let mut until = Instant::now() + arguments.timeout;
    let mut found = BTreeMap::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match events.recv_timeout(left) {
            Ok(ServiceEvent::ServiceResolved(service)) => {
                let another = !found.is_empty() && !found.contains_key(service.get_fullname());
                if arguments.first && another {
                    continue;
                }
                let pi = of_service(&service);
                let patience = match pi.addresses.first() {
                    None => None,
                    // Its answers on other interfaces come at the same time, more or less.
                    Some(address) if rank(address).0 < LINK_LOCAL => Some(SAME_PI),
                    Some(_) => Some(SETTLING),
                };
                found.insert(service.get_fullname().to_owned(), pi);
                if let Some(patience) = patience.filter(|_| arguments.first) {
                    until = until.min(Instant::now() + patience);
                }
            }
            Ok(ServiceEvent::ServiceRemoved(_, name)) => {
                found.remove(&name);
            }
            Ok(_) => {}
            // Time is over, or the daemon is.
            Err(_) => break,
        }
    }
    // It ends with us in any case.
    daemon.shutdown().ok();
    Ok(found)
}

fn of_service(service: &ResolvedService) -> Found {
    let mut addresses: Vec<String> = service.get_addresses().iter().map(ToString::to_string).collect();
    addresses.sort_by_key(|address| rank(address));
    addresses.dedup();
    let name = service.get_fullname();
    Found {
        name: printable(name.strip_suffix(&format!(".{SERVICE}")).unwrap_or(name)),
        host_name: printable(service.get_hostname().trim_end_matches('.')),
        addresses,
        port: service.get_port(),
        text: service
            .get_properties()
            .iter()
            .map(|property| (printable(property.key()), printable(property.val_str())))
            .collect(),
    }
}

/// From this [`rank`] on an address is good on this very link at most.
const LINK_LOCAL: u8 = 2;

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

/// Anybody in the network can announce anything; it must not reach the terminal as control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(200).collect()
}

fn as_table<'a>(found: impl Iterator<Item = &'a Found>) -> String {
    let header = ["NAME", "STATE", "ADDRESS", "BOARD", "SERIAL", "PROTOCOL", "JOB", "HOST", "HOST KEY"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for pi in found {
        let text =
            |key: &str| pi.text.get(key).filter(|value| !value.is_empty()).cloned().unwrap_or_else(|| "-".into());
        rows.push(vec![
            pi.name.clone(),
            text("state"),
            pi.addresses.first().cloned().unwrap_or_else(|| "-".into()),
            text("board"),
            text("serial"),
            text("proto"),
            text("job"),
            pi.host_name.clone(),
            text("key"),
        ]);
        for address in pi.addresses.iter().skip(1) {
            rows.push(vec![String::new(), String::new(), address.clone()]);
        }
    }
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_to_type_comes_first() {
        let mut addresses =
            ["127.0.0.1", "fe80::1%wlan0", "169.254.3.3", "fd00::5", "192.168.1.7", "10.0.0.2"].map(str::to_owned);
        addresses.sort_by_key(|address| rank(address));
        assert_eq!(addresses, ["10.0.0.2", "192.168.1.7", "fd00::5", "169.254.3.3", "fe80::1%wlan0", "127.0.0.1"]);
    }

    #[test]
    fn a_hostile_name_is_harmless() {
        assert_eq!(printable("pi\x1b[2J\n"), "pi?[2J?");
        assert_eq!(printable(&"x".repeat(1000)).len(), 200);
    }

    #[test]
    fn every_address_has_a_line() {
        let pi = Found {
            name: "cygnet-1".into(),
            host_name: "cygnet-1.local".into(),
            addresses: vec!["10.0.0.2".into(), "fe80::1%wlan0".into()],
            port: 22,
            text: BTreeMap::from([("state".into(), "waiting".into())]),
        };
        let text = as_table([&pi].into_iter());
        assert_eq!(text.lines().count(), 3);
        assert!(text.lines().nth(1).unwrap().starts_with("cygnet-1  waiting  10.0.0.2"), "{text}");
        let json = serde_json::to_value(&pi).unwrap();
        assert_eq!(json["state"], "waiting");
        assert_eq!(json["addresses"][0], "10.0.0.2");
    }
}
