//! Sockets in the multicast groups of mDNS, one pair for each interface, beside those of mdns-sd.
//!
//! They are bound to the groups' addresses, so no unicast answer that is for mdns-sd ends up in them.

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};

const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// RFC 6762, section 11.
const HOPS: u32 = 255;
/// What a socket holds for us at most, bytes: we only want to know that something came.
const BUFFER: usize = 8 * 1024;
/// More interfaces than any Pi has.
const MAX_INTERFACES: usize = 16;
/// How many packets of one socket are looked at in one go.
const MAX_PACKETS: usize = 32;

/// The sockets.
#[derive(Default)]
pub struct Air {
    /// By the interface's number and whether it is for IPv6.
    sockets: BTreeMap<(u32, bool), UdpSocket>,
    ours: BTreeSet<IpAddr>,
}

impl Air {
    /// Those of the interfaces that have addresses now.
    pub fn now() -> Self {
        let mut air = Self::default();
        air.refresh();
        air
    }

    /// Opens what came and closes what went; tells whether an address came.
    pub fn refresh(&mut self) -> bool {
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        let ours: BTreeSet<IpAddr> = interfaces.iter().map(if_addrs::Interface::ip).collect();
        let wanted: BTreeSet<(u32, bool)> = interfaces
            .iter()
            .filter(|interface| !interface.is_loopback())
            .filter_map(|interface| Some((interface.index?, interface.ip().is_ipv6())))
            .take(MAX_INTERFACES * 2)
            .collect();
        self.sockets.retain(|key, _| wanted.contains(key));
        for key in wanted {
            if self.sockets.contains_key(&key) {
                continue;
            }
            // An interface without multicast, or one that has just gone, is none to hear anything on.
            if let Ok(socket) = open(key.0, key.1) {
                self.sockets.insert(key, socket);
            }
        }
        let came = ours.difference(&self.ours).next().is_some();
        self.ours = ours;
        came
    }

    /// Sends to everybody; tells whether it left on any interface.
    pub fn send(&self, packet: &[u8]) -> bool {
        self.sockets.iter().fold(false, |sent, ((index, v6), socket)| {
            let to = group(*index, *v6);
            socket.send_to(packet, to).is_ok() || sent
        })
    }

    /// Whether anything of another machine has come since the last time. What it says is not looked at.
    pub fn heard(&mut self) -> bool {
        let mut heard = false;
        let mut byte = [0; 1];
        for socket in self.sockets.values() {
            for _ in 0..MAX_PACKETS {
                match socket.recv_from(&mut byte) {
                    Ok((_, from)) => heard |= from.port() == PORT && self.is_foreign(from.ip()),
                    Err(_) => break,
                }
            }
        }
        heard
    }

    fn is_foreign(&self, source: IpAddr) -> bool {
        !source.is_unspecified() && !source.is_loopback() && !self.ours.contains(&source)
    }
}

fn group(index: u32, v6: bool) -> SocketAddr {
    if v6 { SocketAddrV6::new(GROUP_V6, PORT, 0, index).into() } else { SocketAddrV4::new(GROUP_V4, PORT).into() }
}

fn open(index: u32, v6: bool) -> rustix::io::Result<UdpSocket> {
    let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    bind(&socket, &group(index, v6))?;
    if v6 {
        sockopt::set_ipv6_add_membership(&socket, &GROUP_V6, index)?;
        sockopt::set_ipv6_multicast_if(&socket, index)?;
        sockopt::set_ipv6_multicast_hops(&socket, HOPS)?;
        sockopt::set_ipv6_multicast_loop(&socket, false)?;
    } else {
        sockopt::set_ip_add_membership_with_ifindex(&socket, &GROUP_V4, &Ipv4Addr::UNSPECIFIED, index)?;
        sockopt::set_ip_multicast_if_with_ifindex(&socket, &GROUP_V4, &Ipv4Addr::UNSPECIFIED, index)?;
        sockopt::set_ip_multicast_ttl(&socket, HOPS)?;
        sockopt::set_ip_multicast_loop(&socket, false)?;
    }
    Ok(UdpSocket::from(socket))
}
