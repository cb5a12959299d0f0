//! The two packets that mdns-sd has no call for (RFC 6762, RFC 1035). Pure.

use std::net::IpAddr;

/// All kinds of services there are: every responder answers this (RFC 6763, section 9).
const ALL_SERVICES: &str = "_services._dns-sd._udp.local";
const TYPE_A: u16 = 1;
const TYPE_PTR: u16 = 12;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
/// RFC 6762, section 10.2.
const FLUSH: u16 = 0x8000;
/// A response, and by who has authority over the name.
const RESPONSE: u16 = 0x8400;

/// Asks who is there.
pub fn question() -> Vec<u8> {
    let mut packet = header(0, 1, 0);
    put_name(&mut packet, ALL_SERVICES);
    put(&mut packet, &[TYPE_PTR, CLASS_IN]);
    packet
}

/// Takes an address of `host` back.
///
/// With a lifetime of 1 s, which is what a goodbye's 0 comes to (RFC 6762, section 10.1): mdns-sd drops a record that has
/// none without telling those who browse. With the bit that flushes caches, as the record was announced with, or it is
/// another record; the other addresses have to be announced again at once.
pub fn withdrawal(host: &str, address: IpAddr) -> Vec<u8> {
    let mut packet = header(RESPONSE, 0, 1);
    put_name(&mut packet, host);
    let (kind, bytes) = match address {
        IpAddr::V4(v4) => (TYPE_A, v4.octets().to_vec()),
        IpAddr::V6(v6) => (TYPE_AAAA, v6.octets().to_vec()),
    };
    put(&mut packet, &[kind, CLASS_IN | FLUSH, 0, 1, bytes.len() as u16]);
    packet.extend(bytes);
    packet
}

fn header(flags: u16, questions: u16, answers: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    put(&mut packet, &[0, flags, questions, answers, 0, 0]);
    packet
}

fn put(packet: &mut Vec<u8>, words: &[u16]) {
    packet.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

/// A label is 63 bytes at most; ours are shorter.
fn put_name(packet: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let bytes = &label.as_bytes()[..label.len().min(63)];
        packet.push(bytes.len() as u8);
        packet.extend(bytes);
    }
    packet.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_as_the_rfc_has_it() {
        let packet = question();
        assert_eq!(packet[..12], [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(packet[12..], *b"\x09_services\x07_dns-sd\x04_udp\x05local\0\0\x0c\0\x01");
    }

    #[test]
    fn a_withdrawn_address_has_a_second_to_live() {
        let packet = withdrawal("pi.local.", "10.0.0.7".parse().unwrap());
        assert_eq!(packet[..12], [0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(packet[12..], *b"\x02pi\x05local\0\0\x01\x80\x01\0\0\0\x01\0\x04\x0a\0\0\x07");
        assert_eq!(withdrawal("pi.local", "fe80::1".parse().unwrap()).len(), 12 + 10 + 10 + 16);
    }
}
