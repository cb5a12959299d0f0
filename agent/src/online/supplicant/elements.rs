//! What an access point says about itself: the elements of its beacons (IEEE 802.11-2020, 9.4.2).
//!
//! Anybody in reach can send such bytes, so nothing in here trusts a length.

use cygnet_protocol::online::observation::{Band, Bss};
use cygnet_protocol::online::ssid::Ssid;

const SSID: u8 = 0;
const SUPPORTED_RATES: u8 = 1;
const RSN: u8 = 48;
const EXTENDED_RATES: u8 = 50;
const REDUCED_NEIGHBOR_REPORT: u8 = 201;
const VENDOR: u8 = 221;

/// An access point as wpa_supplicant knows it, before its elements are read.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    /// Octets; empty or all zero if it hides its name.
    pub ssid: Vec<u8>,
    /// As it is written: `02:00:00:00:00:00`.
    pub bssid: String,
    /// MHz.
    pub frequency: u32,
    /// dBm.
    pub signal: i16,
    /// The capability bit Privacy: something is encrypted, at least by WEP.
    pub privacy: bool,
    /// All elements.
    pub elements: Vec<u8>,
}

/// Reads the elements. `wep` is listed as key management if the air is encrypted and no RSN or WPA element says how.
pub(super) fn bss(heard: &Heard) -> Bss {
    let mut ssid = heard.ssid.clone();
    let (mut key_mgmt, mut h2e_only, mut pmf_required) = (Vec::new(), false, false);
    for (id, body) in elements(&heard.elements) {
        match id {
            SSID if ssid.is_empty() => ssid = body.to_vec(),
            SUPPORTED_RATES | EXTENDED_RATES => h2e_only |= body.iter().any(|rate| rate & 0x7f == HASH_TO_ELEMENT_ONLY),
            RSN => {
                if let Some(suites) = suites(body, &RSN_OUI, rsn_akm) {
                    key_mgmt.extend(suites.akms);
                    pmf_required |= suites.capabilities & MFP_REQUIRED != 0;
                }
            }
            // WPA 1: version, suites, as RSN.
            VENDOR if body.starts_with(&WPA_ELEMENT) => {
                key_mgmt.extend(suites(&body[WPA_ELEMENT.len()..], &WPA_OUI, wpa_akm).into_iter().flat_map(|s| s.akms));
            }
            _ => {}
        }
    }
    if key_mgmt.is_empty() && heard.privacy {
        key_mgmt.push("wep");
    }
    key_mgmt.dedup();
    let shown = Some(ssid).filter(|octets| octets.iter().any(|b| *b != 0)).and_then(|octets| Ssid::new(octets).ok());
    let mut siblings: Vec<Band> = elements(&heard.elements)
        .filter(|(id, _)| *id == REDUCED_NEIGHBOR_REPORT)
        .flat_map(|(_, body)| siblings(body, shown.as_ref().map(|ssid| crc32(ssid.octets()))))
        .collect();
    siblings.sort_unstable();
    siblings.dedup();
    Bss {
        ssid: shown,
        bssid: heard.bssid.clone(),
        frequency: heard.frequency,
        signal: heard.signal,
        key_mgmt: key_mgmt.into_iter().map(str::to_owned).collect(),
        h2e_only,
        pmf_required,
        siblings,
    }
}

/// BSS membership selector 123 (9.4.2.3), in a rate's lower seven bits.
const HASH_TO_ELEMENT_ONLY: u8 = 123;
/// Bit 6 of the RSN capabilities (9.4.2.24.4).
const MFP_REQUIRED: u16 = 1 << 6;
const RSN_OUI: [u8; 3] = [0x00, 0x0f, 0xac];
const WPA_OUI: [u8; 3] = [0x00, 0x50, 0xf2];
const WPA_ELEMENT: [u8; 4] = [0x00, 0x50, 0xf2, 0x01];

/// The elements one after the other; a truncated one ends them.
fn elements(mut octets: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[id, length], rest) = octets.split_first_chunk()?;
        let (body, rest) = rest.split_at_checked(length.into())?;
        octets = rest;
        Some((id, body))
    })
}

struct Suites {
    akms: Vec<&'static str>,
    capabilities: u16,
}

/// Version, group cipher, pairwise ciphers, AKM suites, capabilities; everything after the version may be left out.
fn suites(body: &[u8], oui: &[u8; 3], akm: fn(u8) -> Option<&'static str>) -> Option<Suites> {
    let (_version, rest) = body.split_first_chunk::<2>()?;
    let mut suites = Suites { akms: Vec::new(), capabilities: 0 };
    let Some(rest) = rest.get(4..) else { return Some(suites) };
    let Some((_, rest)) = list(rest) else { return Some(suites) };
    let Some((akms, rest)) = list(rest) else { return Some(suites) };
    let of_ours = akms.chunks_exact(4).filter_map(|suite| suite.strip_prefix(oui));
    suites.akms = of_ours.filter_map(|kind| akm(*kind.first()?)).collect();
    if let Some((capabilities, _)) = rest.split_first_chunk::<2>() {
        suites.capabilities = u16::from_le_bytes(*capabilities);
    }
    Some(suites)
}

/// A count of two octets, and that many suites of four.
fn list(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = octets.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*count)) * 4)
}

/// Table 9-151, in the words that wpa_supplicant uses on D-Bus.
fn rsn_akm(kind: u8) -> Option<&'static str> {
    Some(match kind {
        1 => "wpa-eap",
        2 => "wpa-psk",
        3 => "wpa-ft-eap",
        4 => "wpa-ft-psk",
        5 => "wpa-eap-sha256",
        6 => "wpa-psk-sha256",
        8 => "sae",
        9 => "ft-sae",
        11 => "wpa-eap-suite-b",
        12 => "wpa-eap-suite-b-192",
        18 => "owe",
        24 => "sae-ext-key",
        25 => "ft-sae-ext-key",
        _ => return None,
    })
}

fn wpa_akm(kind: u8) -> Option<&'static str> {
    match kind {
        1 => Some("wpa-eap"),
        2 => Some("wpa-psk"),
        _ => None,
    }
}

/// Bands of neighbours with our name (9.4.2.170): those with our short SSID, or with the bit Same SSID.
fn siblings(mut body: &[u8], short_ssid: Option<u32>) -> Vec<Band> {
    let mut bands = Vec::new();
    while let Some((&[header, length, class, _channel], rest)) = body.split_first_chunk() {
        let (count, length) = (usize::from(header >> 4) + 1, usize::from(length));
        let Some((entries, rest)) = rest.split_at_checked(count * length) else { break };
        body = rest;
        // Entry types other than 0 are reserved.
        let (0, Some(band), true) = (header & 3, band(class), length > 0) else { continue };
        if entries.chunks_exact(length).any(|entry| same_name(entry, short_ssid)) {
            bands.push(band);
        }
    }
    bands
}

/// Table 9-281: what an entry has goes by its length.
fn same_name(entry: &[u8], short_ssid: Option<u32>) -> bool {
    let (short, parameters) = match entry.len() {
        5 => (Some(1), None),
        6 => (Some(1), Some(5)),
        2 => (None, Some(1)),
        8 | 9 => (None, Some(7)),
        11 => (Some(7), None),
        12.. => (Some(7), Some(11)),
        _ => (None, None),
    };
    let said = short.and_then(|at| entry.get(at..at + 4)?.try_into().ok()).map(u32::from_le_bytes);
    said.is_some() && said == short_ssid || parameters.and_then(|at| entry.get(at)).is_some_and(|bits| bits & 2 != 0)
}

/// Of a global operating class (table E-4).
const fn band(class: u8) -> Option<Band> {
    match class {
        81..=84 => Some(Band::Two),
        115..=130 => Some(Band::Five),
        131..=137 => Some(Band::Six),
        _ => None,
    }
}

/// The short SSID (9.4.2.170.3) is the CRC-32 of the SSID.
fn crc32(octets: &[u8]) -> u32 {
    !octets.iter().fold(u32::MAX, |crc, octet| {
        (0..8).fold(crc ^ u32::from(*octet), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(elements: &[u8]) -> Bss {
        bss(&Heard {
            ssid: b"home".into(),
            frequency: 2412,
            privacy: true,
            elements: elements.into(),
            ..Heard::default()
        })
    }

    const TRANSITION: &[u8] =
        &[48, 24, 1, 0, 0, 0x0f, 0xac, 4, 1, 0, 0, 0x0f, 0xac, 4, 2, 0, 0, 0x0f, 0xac, 2, 0, 0x0f, 0xac, 8, 0x80, 0];

    #[test]
    fn key_management_is_read_from_the_elements() {
        let bss = heard(TRANSITION);
        assert_eq!(
            (bss.key_mgmt, bss.pmf_required, bss.h2e_only),
            (vec!["wpa-psk".into(), "sae".into()], false, false)
        );
        let mut sae_h2e = vec![1, 2, 0x82, 0xfb];
        sae_h2e.extend([48, 20, 1, 0, 0, 0x0f, 0xac, 4, 1, 0, 0, 0x0f, 0xac, 4, 1, 0, 0, 0x0f, 0xac, 8, 0xc0, 0]);
        let bss = heard(&sae_h2e);
        assert_eq!((bss.key_mgmt, bss.pmf_required, bss.h2e_only), (vec!["sae".into()], true, true));
        let wpa1 = [221, 22, 0, 0x50, 0xf2, 1, 1, 0, 0, 0x50, 0xf2, 2, 1, 0, 0, 0x50, 0xf2, 2, 1, 0, 0, 0x50, 0xf2, 2];
        assert_eq!(heard(&wpa1).key_mgmt, ["wpa-psk"]);
        assert_eq!(heard(&[]).key_mgmt, ["wep"]);
        assert!(bss_open().key_mgmt.is_empty());
    }

    fn bss_open() -> Bss {
        bss(&Heard { ssid: vec![0; 4], elements: vec![0, 2, b'h', b'i'], ..Heard::default() })
    }

    #[test]
    fn a_name_of_zeros_is_hidden() {
        assert_eq!(bss_open().ssid, None);
        let named = bss(&Heard { elements: vec![0, 2, b'h', b'i'], ..Heard::default() });
        assert_eq!(named.ssid.unwrap().octets(), b"hi");
    }

    #[test]
    fn siblings_are_those_with_our_short_ssid() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let mut report = vec![201, 4 + 13, 0x00, 13, 131, 5, 255];
        report.extend([2, 0, 0, 0, 0, 1]);
        report.extend(crc32(b"home").to_le_bytes());
        report.extend([0, 0]);
        assert_eq!(heard(&report).siblings, [Band::Six]);
        // Same SSID by its bit; and another's short SSID.
        assert_eq!(heard(&[201, 6, 0, 2, 115, 36, 255, 0x02]).siblings, [Band::Five]);
        assert_eq!(heard(&[201, 9, 0, 5, 115, 36, 255, 1, 2, 3, 4]).siblings, []);
    }

    #[test]
    fn no_bytes_are_too_bad() {
        for length in 0..TRANSITION.len() {
            let mut cut = TRANSITION[..length].to_vec();
            heard(&cut);
            if let Some(said) = cut.get_mut(1) {
                *said = u8::try_from(length.saturating_sub(2)).unwrap();
                heard(&cut);
            }
        }
        for first in 0..=255 {
            heard(&[201, 8, first, first, 115, 36, first, first, first, first]);
            heard(&[first; 64]);
        }
    }
}
