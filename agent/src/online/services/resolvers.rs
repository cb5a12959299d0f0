//! Who is asked for names: systemd-resolved's servers, or those in resolv.conf(5).

use super::Object;
use std::net::IpAddr;
use zbus::Connection;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The resolvers that are configured; empty if there are none.
pub async fn resolvers(bus: Option<&Connection>) -> Vec<IpAddr> {
    if let Some(bus) = bus
        && let Ok(manager) = Object::find(bus, "org.freedesktop.resolve1", "/org/freedesktop/resolve1").await
        && let Ok(servers) = manager.get("org.freedesktop.resolve1.Manager", "DNS").await
        && let Ok(servers) = Vec::<(i32, i32, Vec<u8>)>::try_from(servers)
    {
        return servers.iter().filter_map(|(_, _, octets)| address(octets)).collect();
    }
    std::fs::read_to_string(RESOLV_CONF).map(|text| nameservers(&text)).unwrap_or_default()
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

/// An address may have a zone, `fe80::1%wlan0`.
fn nameservers(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    servers.filter_map(|word| word.split('%').next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read() {
        let text = "# by hand\nsearch home\nnameserver 192.168.1.1\nnameserver fe80::1%wlan0 # router\nnameserver x\nnameserver\n";
        assert_eq!(nameservers(text), ["192.168.1.1".parse::<IpAddr>().unwrap(), "fe80::1".parse().unwrap()]);
        assert_eq!(address(&[10, 0, 0, 1]), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(address(&[1]), None);
    }
}
