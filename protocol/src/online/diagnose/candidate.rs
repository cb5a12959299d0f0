//! Which of several networks the words are about.

use crate::online::observation::{Attempt, Band, Bss, KeyKind, KnownNetwork, Observations, Supplicant};
use crate::online::ssid::Ssid;

/// The best network to speak of, and the access points that have its name.
pub(in crate::online) struct Candidate<'a> {
    pub(in crate::online) network: &'a KnownNetwork,
    /// Strongest first.
    pub(in crate::online) seen: Vec<&'a Bss>,
}

/// Why an access point does not do for the key we have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::online) enum Obstacle {
    /// Another kind of key altogether.
    KeyManagement,
    /// SAE only, and we have no passphrase.
    SaeOnly,
    /// SAE only, which we cannot do.
    NoSae,
    /// SAE by hash to element only, which we do not offer.
    H2eOnly,
}

/// The one that is being tried, if something came of it; else one that can be joined, one that is seen, or the first.
pub(in crate::online) fn candidate(o: &Observations) -> Option<Candidate<'_>> {
    let of = |network| Candidate { network, seen: sightings(o, network) };
    if let Some(tried) = &o.attempt.ssid
        && (has_evidence(&o.attempt) || o.attempt.connected.is_some())
        && let Some(network) = o.networks.iter().find(|n| n.ssid == *tried)
    {
        let tried = of(network);
        // What was lost and is gone is of less interest than another one that is there.
        let elsewhere = tried.seen.is_empty()
            && !was_refused(&o.attempt)
            && o.attempt.connected.is_none()
            && o.networks.iter().any(|other| !sightings(o, other).is_empty());
        if !elsewhere {
            return Some(tried);
        }
    }
    let rank = |c: &Candidate| match (c.seen.is_empty(), obstacle(o, c)) {
        (false, None) => 0,
        (false, Some(_)) => 1,
        (true, _) => 2,
    };
    // The first of the best: min_by_key keeps the earliest.
    o.networks.iter().map(of).min_by_key(rank)
}

fn has_evidence(attempt: &Attempt) -> bool {
    attempt.was_connected || attempt.disconnect_reason.is_some() || was_refused(attempt)
}

fn was_refused(attempt: &Attempt) -> bool {
    attempt.auth_status.is_some()
        || attempt.assoc_status.is_some()
        || attempt.psk_mismatches + attempt.sae_mismatches > 0
        || attempt.timeouts > 0
        || attempt.handshakes > 0
}

fn sightings<'a>(o: &'a Observations, network: &KnownNetwork) -> Vec<&'a Bss> {
    let mut seen: Vec<&Bss> = o.scan.seen.iter().filter(|bss| bss.ssid.as_ref() == Some(&network.ssid)).collect();
    seen.sort_by_key(|bss| std::cmp::Reverse(bss.signal));
    seen
}

/// Why none of the access points with this name does; none if one of them may, or none is seen.
pub(in crate::online) fn obstacle(o: &Observations, candidate: &Candidate) -> Option<Obstacle> {
    let all: Option<Vec<Obstacle>> =
        candidate.seen.iter().map(|bss| obstacle_of(o, candidate.network.key, bss)).collect();
    all.and_then(|all| all.first().copied())
}

fn obstacle_of(o: &Observations, key: KeyKind, bss: &Bss) -> Option<Obstacle> {
    if key == KeyKind::Open {
        return (!bss.key_mgmt.is_empty()).then_some(Obstacle::KeyManagement);
    }
    if takes_psk(bss) {
        return None;
    }
    if !takes_sae(bss) {
        return Some(Obstacle::KeyManagement);
    }
    if key == KeyKind::Pmk {
        return Some(Obstacle::SaeOnly);
    }
    if o.radio.as_ref().is_some_and(|radio| !radio.sae) {
        return Some(Obstacle::NoSae);
    }
    (bss.h2e_only && sae_pwe(o) == Some(0)).then_some(Obstacle::H2eOnly)
}

/// Whether the access point takes WPA2 with a pre-shared key.
pub(in crate::online) fn takes_psk(bss: &Bss) -> bool {
    bss.key_mgmt.iter().any(|word| word.contains("psk"))
}

/// Whether it takes WPA3.
pub(in crate::online) fn takes_sae(bss: &Bss) -> bool {
    bss.key_mgmt.iter().any(|word| word.contains("sae"))
}

/// Which way of SAE is offered, if the supplicant is there.
pub(in crate::online) fn sae_pwe(o: &Observations) -> Option<u8> {
    match &o.supplicant {
        Supplicant::Ready { sae_pwe, .. } => Some(*sae_pwe),
        Supplicant::Unasked | Supplicant::Absent { .. } | Supplicant::Taken { .. } => None,
    }
}

/// Bands that exist and that this radio lacks; none if its bands are not known.
pub(in crate::online) fn lacking(o: &Observations) -> Vec<Band> {
    let bands = o.radio.as_ref().map_or(&[][..], |radio| &radio.bands);
    let known = !bands.is_empty();
    [Band::Two, Band::Five, Band::Six].into_iter().filter(|band| known && !bands.contains(band)).collect()
}

/// The name without what people append for a band: `home-5G` and `home_2.4GHz` are both `home`. None if nothing is left.
pub(super) fn stem(ssid: &Ssid) -> Option<String> {
    let text = ssid.to_string().to_lowercase();
    let text = text.trim_end();
    let text = text.strip_suffix("hz").unwrap_or(text);
    let text = text.strip_suffix('g').unwrap_or(text).trim_end();
    let text = ["2.4", "2,4", "24", "5", "6", "2"].iter().find_map(|band| text.strip_suffix(band)).unwrap_or(text);
    let text = text.trim_end_matches(['-', '_', ' ', '.', '(']);
    (!text.is_empty()).then(|| text.to_string())
}

/// Whether the name says that it is for 5 or 6 GHz: `home-5G`, `home 5GHz`, `HOME_5`.
pub(super) fn sounds_like_high_band(ssid: &Ssid) -> bool {
    let text = ssid.to_string().to_lowercase();
    let text = text.trim_end_matches([')', ' ']);
    ["5g", "5ghz", "5 ghz", "6g", "6ghz", "6 ghz", "-5", "_5", " 5"].iter().any(|end| text.ends_with(end))
}
