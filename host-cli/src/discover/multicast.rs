//! Why nothing may be heard: a machine, a container or a permission that lets no multicast out.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

/// A question for the services there are (RFC 6763, section 9): harmless if it does get out.
const QUESTION: &[u8] = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x09_services\x07_dns-sd\x04_udp\x05local\0\0\x0c\0\x01";

/// What the system says to a multicast packet of ours, if it lets none out, neither by IPv4 nor by IPv6.
pub fn obstacle() -> Option<String> {
    let v4 = send("0.0.0.0:0", SocketAddr::from((GROUP_V4, PORT))).err()?;
    let v6 = send("[::]:0", SocketAddrV6::new(GROUP_V6, PORT, 0, 0).into()).err()?;
    Some(format!("This machine lets no multicast out (IPv4: {v4}; IPv6: {v6})."))
}

fn send(from: &str, to: SocketAddr) -> std::io::Result<()> {
    UdpSocket::bind(from)?.send_to(QUESTION, to).map(drop)
}
