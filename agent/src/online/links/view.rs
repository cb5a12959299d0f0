//! From the kernel's tables to what we want to know of them.

use super::super::hardware::Sys;
use super::{Interface, Snapshot, Way};
use cygnet_protocol::online::observation::{Address, Gateway};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType, RouteVia,
};
use std::net::IpAddr;

/// Puts the tables together.
pub fn snapshot(
    sys: &Sys,
    links: &[LinkMessage],
    addresses: &[AddressMessage],
    routes: &[RouteMessage],
    neighbours: &[NeighbourMessage],
) -> Snapshot {
    let interfaces: Vec<_> = links.iter().filter_map(|link| interface(sys, link)).collect();
    let name = |index: u32| interfaces.iter().find(|other| other.index == index).map(|other| other.name.clone());
    let addresses = addresses
        .iter()
        .filter_map(|message| Some(Address { interface: name(message.header.index)?, ip: address(message)? }))
        .collect();
    let mut ways: Vec<Way> = routes
        .iter()
        .filter_map(way)
        .filter_map(|(ip, index, metric)| {
            let entry = neighbours.iter().find(|entry| entry.header.ifindex == index && neighbour(entry) == Some(ip));
            let answers = entry.and_then(|entry| answers(entry.header.state));
            Some(Way { gateway: Gateway { ip, answers }, interface: name(index)?, index, metric })
        })
        .collect();
    // Of equals IPv4: what is to be reached from here at all can be reached with it.
    ways.sort_by_key(|way| (way.metric, way.gateway.ip.is_ipv6()));
    let gateway = ways.first().map(|way| way.gateway);
    Snapshot { interfaces, addresses, ways, gateway }
}

fn interface(sys: &Sys, link: &LinkMessage) -> Option<Interface> {
    let flags = link.header.flags;
    if flags.contains(LinkFlags::Loopback) {
        return None;
    }
    let mut found = Interface {
        index: link.header.index,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        ..Interface::default()
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name.clone_from(name),
            LinkAttribute::Address(octets) => {
                found.mac = octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":");
            }
            _ => {}
        }
    }
    let dir = format!("sys/class/net/{}", found.name);
    found.wireless = sys.has(format!("{dir}/phy80211"));
    // What is made by software has no device behind it.
    found.physical = link.header.link_layer_type == LinkLayerType::Ether
        && sys.has(format!("{dir}/device"))
        && !found.name.is_empty();
    Some(found)
}

/// The address, if it is in use.
fn address(message: &AddressMessage) -> Option<IpAddr> {
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    let (mut own, mut local) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            // Where there is a peer, `Address` is the peer's and `Local` ours; IPv6 has no `Local` otherwise.
            AddressAttribute::Address(ip) => own = Some(*ip),
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Flags(all) => flags |= *all,
            _ => {}
        }
    }
    let unused = AddressFlags::Tentative | AddressFlags::Deprecated | AddressFlags::Dadfailed;
    // An optimistic address is used while it is still tentative (RFC 4429).
    let optimistic = flags.contains(AddressFlags::Optimistic) && !flags.contains(AddressFlags::Dadfailed);
    if flags.intersects(unused) && !optimistic {
        return None;
    }
    local.or(own)
}

/// Gateway, interface and metric of a default route that can be used.
fn way(route: &RouteMessage) -> Option<(IpAddr, u32, u32)> {
    let header = &route.header;
    let dead = RouteFlags::Dead | RouteFlags::Linkdown;
    if header.destination_prefix_length != 0 || header.kind != RouteType::Unicast || header.flags.intersects(dead) {
        return None;
    }
    let (mut gateway, mut index, mut metric, mut table) = (None, None, 0, u32::from(header.table));
    let mut take = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(ip)) => gateway = Some(IpAddr::from(*ip)),
        RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => gateway = Some(IpAddr::from(*ip)),
        // An IPv4 route through an IPv6 gateway (RFC 8950).
        RouteAttribute::Via(RouteVia::Inet(ip)) => gateway = Some(IpAddr::from(*ip)),
        RouteAttribute::Via(RouteVia::Inet6(ip)) => gateway = Some(IpAddr::from(*ip)),
        RouteAttribute::Oif(oif) => index = Some(*oif),
        RouteAttribute::Priority(priority) => metric = *priority,
        RouteAttribute::Table(long) => table = *long,
        _ => {}
    };
    for attribute in &route.attributes {
        take(attribute);
        // Of several next hops the first stands for all.
        if let RouteAttribute::MultiPath(hops) = attribute
            && let Some(hop) = hops.first()
        {
            hop.attributes.iter().for_each(&mut take);
            take(&RouteAttribute::Oif(hop.interface_index));
        }
    }
    (table == u32::from(RouteHeader::RT_TABLE_MAIN)).then_some((gateway?, index?, metric))
}

/// Whose entry it is.
pub fn neighbour(entry: &NeighbourMessage) -> Option<IpAddr> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::from(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::from(*ip)),
        _ => None,
    })
}

/// Whether it is known to answer. Stale is: it did, some time ago.
fn answers(state: NeighbourState) -> Option<bool> {
    match state {
        NeighbourState::Reachable | NeighbourState::Permanent | NeighbourState::Noarp => Some(true),
        NeighbourState::Failed => Some(false),
        // Incomplete, Stale, Delay, Probe: it is not known, or not known any more.
        _ => None,
    }
}
