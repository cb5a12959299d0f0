//! The age recipient of an ssh host key, as `ssh-to-age` and sops make it: so secrets can be encrypted to a host that has not
//! booted yet.

use bech32::{Bech32, Hrp};
use curve25519_dalek::edwards::CompressedEdwardsY;

/// `age1…` of an ed25519 public key: the same point on the other curve (RFC 7748, 4.1) as a bech32 word (C2SP age, "The
/// X25519 recipient type"). None if the octets are no point.
pub fn recipient(ed25519: [u8; 32]) -> Option<String> {
    let point = CompressedEdwardsY(ed25519).decompress()?;
    let x25519 = point.to_montgomery().to_bytes();
    bech32::encode::<Bech32>(Hrp::parse("age").ok()?, &x25519).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::card::HostKey;

    /// RFC 8032, 7.1, test 1: the secret key, of which age's own secret key follows as SHA-512's clamped first half.
    #[test]
    fn the_recipient_belongs_to_the_same_secret() {
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let octets: Vec<u8> =
            (0..64).step_by(2).map(|at| u8::from_str_radix(&public[at..at + 2], 16).unwrap()).collect();
        let recipient = recipient(octets.try_into().unwrap()).unwrap();
        let secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let secret: Vec<u8> =
            (0..64).step_by(2).map(|at| u8::from_str_radix(&secret[at..at + 2], 16).unwrap()).collect();
        let mut scalar: [u8; 32] = <sha2::Sha512 as sha2::Digest>::digest(&secret)[..32].try_into().unwrap();
        scalar[0] &= 248;
        scalar[31] = scalar[31] & 127 | 64;
        let x25519 = curve25519_dalek::montgomery::MontgomeryPoint::mul_base_clamped(scalar).to_bytes();
        let (hrp, decoded) = bech32::decode(&recipient).unwrap();
        assert_eq!((hrp.as_str(), decoded.as_slice()), ("age", &x25519[..]));
    }

    #[test]
    fn what_is_no_point_has_none() {
        let key = HostKey::parse(include_str!("../../../protocol/src/card/test-host-key")).unwrap();
        assert!(recipient(key.octets()).unwrap().starts_with("age1"));
        assert!((0..=255).any(|octet| recipient([octet; 32]).is_none()));
    }
}
