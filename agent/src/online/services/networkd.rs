//! systemd-networkd, which has the DHCP client (org.freedesktop.network1(5)).

use super::{Object, ServiceError, refused};
use cygnet_protocol::online::observation::Dhcp;
use zbus::{Connection, OwnedObjectPath};

/// The unit to start if it is not there.
pub const UNIT: &str = "systemd-networkd.service";

const NAME: &str = "org.freedesktop.network1";
const ROOT: &str = "/org/freedesktop/network1";
const MANAGER: &str = "org.freedesktop.network1.Manager";
const LINK: &str = "org.freedesktop.network1.Link";
const DHCPV4_CLIENT: &str = "org.freedesktop.network1.DHCPv4Client";

/// How the DHCP client of the interface with that index is; `Idle` if there is no networkd, or it doesn't know the
/// interface. `before` is what was seen last, and `now` the time, for [`Dhcp::Asking`].
pub async fn dhcp(bus: &Connection, index: u32, before: Dhcp, now: u64) -> Dhcp {
    let seen = match link(bus, index).await {
        Ok(link) => {
            let state = link.text(DHCPV4_CLIENT, "State").await;
            // systemd before 255 has no such property.
            if state.is_empty() { from_description(&describe(&link).await) } else { from_state(&state) }
        }
        Err(_) => Seen::Idle,
    };
    match (seen, before) {
        (Seen::Idle, _) => Dhcp::Idle,
        (Seen::Bound, _) => Dhcp::Bound,
        (Seen::Asking, Dhcp::Asking { since }) => Dhcp::Asking { since },
        (Seen::Asking, Dhcp::Idle | Dhcp::Bound) => Dhcp::Asking { since: now },
    }
}

/// Asks the DHCP server anew.
///
/// # Errors
/// If there is no networkd, or it refuses.
pub async fn renew(bus: &Connection, index: u32) -> Result<(), ServiceError> {
    on_link(bus, "renewing the lease", "RenewLink", index).await
}

/// Begins the interface's configuration anew, DHCP with it.
///
/// # Errors
/// If there is no networkd, or it refuses.
pub async fn reconfigure(bus: &Connection, index: u32) -> Result<(), ServiceError> {
    on_link(bus, "configuring the interface", "ReconfigureLink", index).await
}

async fn on_link(bus: &Connection, doing: &str, method: &'static str, index: u32) -> Result<(), ServiceError> {
    let manager = Object::find(bus, NAME, ROOT).await?;
    manager.call(doing, MANAGER, method, &number(index)).await.map(drop)
}

async fn link(bus: &Connection, index: u32) -> Result<Object<'_>, ServiceError> {
    let manager = Object::find(bus, NAME, ROOT).await?;
    let doing = "finding the interface";
    let reply = manager.call(doing, MANAGER, "GetLinkByIndex", &number(index)).await?;
    let (_, path): (String, OwnedObjectPath) = reply.body().deserialize().map_err(|error| refused(doing, &error))?;
    Ok(manager.at(&path))
}

/// On D-Bus an interface's index is signed.
fn number(index: u32) -> i32 {
    i32::try_from(index).unwrap_or_default()
}

async fn describe(link: &Object<'_>) -> serde_json::Value {
    let reply = link.call("describing the interface", LINK, "Describe", &()).await;
    let text = reply.ok().and_then(|reply| reply.body().deserialize::<String>().ok()).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Idle,
    Asking,
    Bound,
}

/// The states of sd-dhcp-client.
fn from_state(state: &str) -> Seen {
    match state {
        "bound" | "renewing" | "rebinding" => Seen::Bound,
        "init" | "selecting" | "init-reboot" | "reboot" | "rebooting" | "requesting" => Seen::Asking,
        _ => Seen::Idle,
    }
}

/// What `networkctl status --json=short` shows.
fn from_description(link: &serde_json::Value) -> Seen {
    let addresses = link["Addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
    if addresses.iter().any(|address| address["ConfigSource"] == "DHCPv4") {
        return Seen::Bound;
    }
    match link["AdministrativeState"].as_str() {
        Some("configuring") if link["CarrierState"] != "no-carrier" && link["CarrierState"] != "off" => Seen::Asking,
        _ => Seen::Idle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_client_is_read_from_its_state_or_the_description() {
        assert_eq!(from_state("bound"), Seen::Bound);
        assert_eq!(from_state("selecting"), Seen::Asking);
        assert_eq!(from_state("stopped"), Seen::Idle);
        let bound = json!({"AdministrativeState": "configured", "Addresses": [{"ConfigSource": "DHCPv4"}]});
        assert_eq!(from_description(&bound), Seen::Bound);
        let asking = json!({"AdministrativeState": "configuring", "CarrierState": "carrier", "Addresses": []});
        assert_eq!(from_description(&asking), Seen::Asking);
        for idle in [json!({"AdministrativeState": "unmanaged"}), json!(null), json!([1])] {
            assert_eq!(from_description(&idle), Seen::Idle);
        }
    }
}
