//! Addresses, and what is beyond them: the gateway, names, the time, and whether others hear us.

use super::patience::{self, since};
use super::{Finding, say};
use crate::online::diagnosis::{Code, Diagnosis};
use crate::online::link::Link;
use crate::online::observation::{Address, Dhcp, Observations};

/// The interface that others can reach us at. A cable goes before the radio.
pub(super) fn serving(o: &Observations) -> Option<&str> {
    cable(o).or_else(|| {
        let radio = &o.radio.as_ref()?.interface;
        (is_connected(o, radio) && routable(o, radio).is_some()).then_some(radio.as_str())
    })
}

/// The cable that serves: somebody is at its other end, and it has an address.
pub(super) fn cable(o: &Observations) -> Option<&str> {
    let serves = |interface: &str| routable(o, interface).is_some();
    o.wired.iter().find(|w| w.carrier && serves(&w.interface)).map(|w| w.interface.as_str())
}

/// Whether somebody is at the other end.
pub(super) fn is_connected(o: &Observations, interface: &str) -> bool {
    let cable = o.wired.iter().any(|wired| wired.carrier && wired.interface == interface);
    let radio = o.radio.as_ref().is_some_and(|radio| radio.interface == interface);
    cable || radio && o.attempt.connected.is_some()
}

/// IPv4 first: it is what people type.
fn routable<'a>(o: &'a Observations, interface: &str) -> Option<&'a Address> {
    let good =
        |a: &&Address| a.interface == interface && !a.is_link_local() && !a.ip.is_loopback() && !a.ip.is_unspecified();
    o.addresses.iter().filter(good).min_by_key(|a| a.ip.is_ipv6())
}

pub(super) fn address(o: &Observations) -> Finding {
    if let Some(interface) = serving(o) {
        let ip = routable(o, interface).map(|a| a.ip.to_string()).unwrap_or_default();
        return Finding::up(Link::Address, format!("{ip} ({interface})"));
    }
    let detail = if super::can_announce(o) { "link-local only" } else { "none" };
    if let (true, Some(radio), Some(connected)) = (o.wants_wifi, &o.radio, o.attempt.connected) {
        let began = match o.dhcp {
            Dhcp::Asking { since } => connected.max(since),
            Dhcp::Idle | Dhcp::Bound => connected,
        };
        // A client that began again is no reason for more patience than once over.
        let waits = since(o, began) < patience::DHCP && since(o, connected) < 2 * patience::DHCP;
        if waits {
            return Finding::busy(Link::Address, "asking for one");
        }
        return Finding::fault(no_dhcp(o, &radio.interface, since(o, connected)), detail);
    }
    let Some(wired) = o.wired.iter().find(|wired| wired.carrier) else {
        if o.wants_wifi {
            return Finding::busy(Link::Address, detail);
        }
        return no_cable(o);
    };
    if o.now < patience::CABLE {
        return Finding::busy(Link::Address, "asking for one");
    }
    Finding::fault(no_dhcp(o, &wired.interface, o.now), detail)
}

fn no_dhcp(o: &Observations, interface: &str, waited: u64) -> Diagnosis {
    let radio = o.radio.as_ref().is_some_and(|radio| radio.interface == interface);
    let at = match (&o.attempt.ssid, radio) {
        (Some(ssid), true) => format!("“{ssid}”"),
        (None, true) => "the network".into(),
        (_, false) => "the cable".into(),
    };
    let (what, cause) = match (o.dhcp, radio) {
        (Dhcp::Idle, true) => (
            format!("{interface} is connected to {at}, but no DHCP client asks for an address on it."),
            "The image has no systemd-networkd, or a unit of its own that leaves this interface alone.",
        ),
        (Dhcp::Asking { .. } | Dhcp::Bound, true) | (_, false) => (
            format!("{interface} is connected to {at}, but nobody gave it an address in {} s.", waited / 1000),
            "The network's DHCP server (mostly the router) is off, has no address left, or does not hear the Pi.",
        ),
    };
    let remedy = if super::can_announce(o) {
        "Restart the router. Until then the Pi announces itself with its IPv6 link-local address: `cygnet discover` finds it from the same network."
    } else {
        "Restart the router, or look into its list of DHCP leases."
    };
    say(Code::NoDhcp, what, cause, remedy)
}

fn no_cable(o: &Observations) -> Finding {
    if o.now < patience::CABLE {
        return Finding::busy(Link::Address, "waiting for a cable");
    }
    let what = match o.wired.first() {
        Some(wired) => format!("Nobody is at the other end of {}, and no WiFi is wanted.", wired.interface),
        None => "There is no network interface, by cable or by WiFi.".to_string(),
    };
    let diagnosis = say(
        Code::NoCarrier,
        what,
        "The cable is not plugged in, or the switch at its other end is off.",
        "Plug in a cable whose lamp lights up, or put a WiFi network into the settings on the card.",
    );
    Finding::fault(diagnosis, "no cable")
}

pub(super) fn gateway(o: &Observations) -> Finding {
    let Some(gateway) = o.gateway else {
        // An address may be there some seconds before a router says that it is one.
        let by_cable = cable(o).is_some();
        let early = match o.attempt.connected {
            Some(connected) if !by_cable => since(o, connected) < patience::GATEWAY,
            Some(_) | None => o.now < patience::GATEWAY,
        };
        if early {
            return Finding::odd(Link::Gateway, "none yet");
        }
        let diagnosis = say(
            Code::NoGateway,
            format!("There is an address{}, but no gateway out of the network.", place(o)),
            "The DHCP server gave none: it is a network of its own, or the router is not set up.",
            "Computers in the same network reach the Pi all the same. For anything beyond it, let the DHCP server give a router (option 3).",
        );
        return Finding::warning(diagnosis, "none");
    };
    if gateway.answers == Some(false) {
        let diagnosis = say(
            Code::GatewaySilent,
            format!("The gateway {}{} does not answer.", gateway.ip, place(o)),
            "The router hangs or has moved to another address, or the WiFi carries nothing although it is connected.",
            "Restart the router; the agent joins the network again by itself.",
        );
        return Finding::warning(diagnosis, format!("{} silent", gateway.ip));
    }
    Finding::up(Link::Gateway, gateway.ip.to_string())
}

pub(super) fn dns(o: &Observations) -> Finding {
    if let Some(resolver) = o.resolvers.first() {
        return Finding::up(Link::Dns, resolver.to_string());
    }
    // Without a way out there is nobody to ask, and that was said already.
    if o.gateway.is_none() {
        return Finding::odd(Link::Dns, "none");
    }
    let diagnosis = say(
        Code::NoResolver,
        format!("There is an address{}, but no resolver for names.", place(o)),
        "The DHCP server gave none, or systemd-resolved does not run.",
        "A push from the laptop needs none. For substituters and time servers, let the DHCP server give one (option 6).",
    );
    Finding::warning(diagnosis, "none")
}

fn place(o: &Observations) -> String {
    super::via(o).map_or_else(String::new, |via| format!(" on {via}"))
}

pub(super) fn clock(o: &Observations) -> Finding {
    let wrong = o.clock.built != 0 && o.clock.unix < o.clock.built;
    match (wrong, o.clock.synchronized) {
        (false, true) => Finding::up(Link::Clock, "synchronized"),
        (false, false) => Finding::up(Link::Clock, "not synchronized"),
        (true, _) if o.now < patience::CLOCK => Finding::odd(Link::Clock, "not set yet"),
        (true, _) => {
            let days = (o.clock.built - o.clock.unix) / 86_400;
            let diagnosis = say(
                Code::ClockBeforeBuild,
                format!("The clock is at least {days} days behind: it is earlier than the making of this program."),
                "The Pi has no battery for its clock, and no time server was reached.",
                "A push works all the same, and the laptop's time can be taken over with it. Else let the Pi reach a time server (UDP port 123).",
            );
            Finding::warning(diagnosis, "in the past")
        }
    }
}

pub(super) fn announce(o: &Observations) -> Finding {
    let Some(began) = o.announce.since else { return Finding::busy(Link::Announce, "not yet") };
    let heard = o.announce.heard.is_some_and(|heard| heard.saturating_add(patience::ISOLATION) >= began);
    if o.announce.asked.is_some() && !heard && since(o, began) >= patience::ISOLATION {
        let diagnosis = say(
            Code::Isolated,
            format!(
                "The Pi announces itself{} for {} s and hears nobody else's multicast.",
                place(o),
                since(o, began) / 1000
            ),
            "The access point keeps its stations apart (“client isolation”, guest network) or filters multicast; or nobody else is there.",
            "Switch client isolation off, use the main network and not the guests', or give the Pi's address: `cygnet` takes it in place of a name.",
        );
        return Finding::warning(diagnosis, "unheard");
    }
    let link_local = if serving(o).is_none() { "link-local only" } else { "" };
    Finding::up(Link::Announce, link_local)
}
