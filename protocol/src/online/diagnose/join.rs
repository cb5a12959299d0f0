//! The access point: whether it lets us in, and whether both know the key.
//!
//! wpa_supplicant says nothing at all when an access point takes other keys than ours; that is seen by comparing. What it
//! does say are status codes (IEEE 802.11-2020, table 9-50), reason codes (table 9-49) and two signals of its own.

use super::candidate::{Candidate, Obstacle, candidate, obstacle, takes_sae};
use super::patience::{self, waited};
use super::{Finding, say};
use crate::online::diagnosis::{Code, Diagnosis};
use crate::online::link::Link;
use crate::online::observation::{Attempt, Band, KeyKind, Observations};

/// The access point has as many stations as it takes.
const FULL: u16 = 17;
/// The challenge was not answered rightly: with SAE, the password is wrong.
const CHALLENGE: u16 = 15;
/// No frame came in time. FullMAC firmware, brcmfmac's, reports every failure to connect so.
const TIMED_OUT: u16 = 16;
/// The access point wants us to come again later.
const LATER: u16 = 30;
/// It wants protected management frames, or other key management or ciphers.
const OTHER_KEYS: &[u16] = &[31, 40, 41, 42, 43, 44, 45, 46];
/// No failures at all: hash to element is used, or a token against flooding is asked for, or the chip said nothing.
const NO_FAILURES: &[u16] = &[0, 76, 126, 127];

pub(super) fn association(o: &Observations) -> Finding {
    let Some(candidate) = candidate(o) else { return Finding::busy(Link::Association, "") };
    let bssid = o.attempt.bssid.clone().or_else(|| candidate.seen.first().map(|bss| bss.bssid.clone()));
    let bssid = bssid.unwrap_or_default();
    if o.attempt.connected.is_some() {
        let band = candidate.seen.iter().find(|bss| bss.bssid == bssid).and_then(|b| Band::of_frequency(b.frequency));
        let band = band.map_or(String::new(), |band| format!(", {}", super::air::name_of(band)));
        return Finding::up(Link::Association, format!("{bssid}{band}"));
    }
    // It came as far as the key.
    if o.attempt.psk_mismatches > 0 {
        return Finding::up(Link::Association, bssid);
    }
    // What it says of itself now comes before what it once answered: it may have been set up anew since.
    if let Some(obstacle) = obstacle(o, &candidate) {
        return Finding::fault(incompatible(obstacle, &candidate), "other key wanted");
    }
    if let Some(diagnosis) = refusal(o, &candidate) {
        return Finding::fault(diagnosis, "refused");
    }
    if handshake_fails(&o.attempt) {
        return Finding::up(Link::Association, bssid);
    }
    if let Some(diagnosis) = lost(o, &candidate) {
        let short = if diagnosis.code == Code::ApVanished { "gone" } else { "sent away" };
        return Finding::fault(diagnosis, short);
    }
    if let Some(diagnosis) = silent(o, &candidate) {
        return Finding::fault(diagnosis, "no answer");
    }
    Finding::busy(Link::Association, "joining")
}

pub(super) fn handshake(o: &Observations) -> Finding {
    let Some(candidate) = candidate(o) else { return Finding::busy(Link::Handshake, "") };
    if o.attempt.connected.is_some() {
        return Finding::up(Link::Handshake, "");
    }
    let ssid = &candidate.network.ssid;
    if o.attempt.psk_mismatches > 0 {
        let key = match candidate.network.key {
            KeyKind::Pmk => "pre-shared key",
            KeyKind::Passphrase | KeyKind::Open => "passphrase",
        };
        let mut cause = format!("The {key} in the settings is not that of “{ssid}”");
        if candidate.network.key == KeyKind::Pmk {
            cause += ", or was made for another name of the network";
        }
        let diagnosis = say(
            Code::WrongPassphrase,
            format!("“{ssid}” refused the {key} ({}).", times(o.attempt.psk_mismatches)),
            cause + ".",
            "Write the passphrase again, with capitals, blanks and special characters as on the access point.",
        );
        return Finding::fault(diagnosis, "wrong key");
    }
    if handshake_fails(&o.attempt) {
        let reason = o.attempt.disconnect_reason.map_or(String::new(), |reason| format!(", reason {reason}"));
        let diagnosis = say(
            Code::HandshakeTimeout,
            format!("The handshake with “{ssid}” began {} and never ended{reason}.", times(o.attempt.handshakes)),
            "The chip's firmware does the handshake itself and fails at it with this access point (seen with brcmfmac), or the signal is weak.",
            "Wait for the agent to try other settings. Setting the access point to WPA2 only, or to 2.4 GHz, helps most often.",
        );
        return Finding::fault(diagnosis, "does not end");
    }
    Finding::busy(Link::Handshake, "")
}

/// No mismatch was signalled, so the key is not to blame.
fn handshake_fails(attempt: &Attempt) -> bool {
    let told = matches!(attempt.disconnect_reason, Some(2 | 15));
    attempt.handshakes >= if told { patience::HANDSHAKES } else { patience::HANDSHAKES + 1 }
}

fn refusal(o: &Observations, candidate: &Candidate) -> Option<Diagnosis> {
    let ssid = &candidate.network.ssid;
    let failed = |status: Option<u16>| status.filter(|status| !NO_FAILURES.contains(status));
    let (auth, assoc) = (failed(o.attempt.auth_status), failed(o.attempt.assoc_status));
    if o.attempt.sae_mismatches > 0 || auth == Some(CHALLENGE) {
        return Some(say(
            Code::WrongSaePassword,
            format!("“{ssid}” refused the passphrase (WPA3, {}).", times(o.attempt.sae_mismatches.max(1))),
            format!("The passphrase in the settings is not that of “{ssid}”."),
            "Write the passphrase again, with capitals, blanks and special characters as on the access point.",
        ));
    }
    let status = auth.or(assoc)?;
    let step = if auth.is_some() { "authentication" } else { "association" };
    if auth == Some(FULL) || assoc == Some(FULL) {
        return Some(say(
            Code::ApFull,
            format!("“{ssid}” has no place for another station ({step} status 17)."),
            "As many devices are connected as the access point takes.",
            "Take another device off the network, raise the access point's limit, or restart it; the Pi keeps trying.",
        ));
    }
    if status == TIMED_OUT || status == LATER {
        return None;
    }
    if OTHER_KEYS.contains(&status) {
        return Some(key_management(candidate, &format!("{step} status {status}")));
    }
    Some(say(
        Code::Refused,
        format!("“{ssid}” refuses this Pi whatever its key ({step} status {status})."),
        "The access point lets in only stations whose MAC addresses are listed, or blocks this one.",
        "Add the Pi's MAC address to the access point's list, or switch its MAC filter (“access control”) off.",
    ))
}

fn incompatible(obstacle: Obstacle, candidate: &Candidate) -> Diagnosis {
    let ssid = &candidate.network.ssid;
    match obstacle {
        Obstacle::SaeOnly => say(
            Code::SaeOnly,
            format!("“{ssid}” takes WPA3 (SAE) only, and the settings have the 64-digit pre-shared key."),
            "WPA3 needs the passphrase itself; the key that Raspberry Pi Imager and wpa_passphrase make of it is for WPA2.",
            "Give the passphrase instead of the 64-digit key, or let the access point take WPA2 too.",
        ),
        Obstacle::NoSae => say(
            Code::NoSae,
            format!("“{ssid}” takes WPA3 (SAE) only, which this WiFi chip and its driver cannot do."),
            "The chip's firmware or wpa_supplicant has no SAE.",
            "Let the access point take WPA2 too (“WPA2/WPA3 mixed” or “transition”).",
        ),
        Obstacle::H2eOnly => say(
            Code::H2eOnly,
            format!("“{ssid}” takes WPA3 by hash-to-element only, and wpa_supplicant offers only the older way."),
            "wpa_supplicant's sae_pwe is 0 unless it is told otherwise.",
            "Wait for the agent to offer both (sae_pwe 2); else let the access point take hunting-and-pecking or WPA2 too.",
        ),
        Obstacle::KeyManagement => key_management(candidate, &takes(candidate)),
    }
}

fn takes(candidate: &Candidate) -> String {
    match candidate.seen.first() {
        Some(bss) if bss.key_mgmt.is_empty() => "it is open".into(),
        Some(bss) => format!("it takes {}", bss.key_mgmt.join(", ")),
        None => "it is not seen".into(),
    }
}

fn key_management(candidate: &Candidate, why: &str) -> Diagnosis {
    let ssid = &candidate.network.ssid;
    let given = match candidate.network.key {
        KeyKind::Open => "no key",
        KeyKind::Passphrase => "a passphrase",
        KeyKind::Pmk => "a pre-shared key",
    };
    let enterprise = candidate.seen.iter().any(|bss| bss.key_mgmt.iter().any(|word| word.contains("eap")));
    let open = candidate.seen.iter().any(|bss| bss.key_mgmt.is_empty());
    let (cause, remedy) = match (candidate.network.key, enterprise, open) {
        (_, true, _) => (
            "It is a company's or university's network (WPA Enterprise), where each person has an account.",
            "Use another network, such as one for guests or devices, or a cable: enterprise logins are not supported.",
        ),
        (KeyKind::Passphrase | KeyKind::Pmk, _, true) => (
            "The network needs no key, or another one with the same name pretends to be it.",
            "If the network is really open, set `\"open\": true` in place of the passphrase.",
        ),
        (KeyKind::Open, ..) => (
            "The network needs a key, and the settings say that it is open.",
            "Add the network's passphrase to the settings.",
        ),
        (KeyKind::Passphrase | KeyKind::Pmk, ..) => (
            "The access point demands a protocol that passphrases do not serve.",
            "Set the access point to WPA2, or WPA2/WPA3 mixed, with a passphrase.",
        ),
    };
    say(
        Code::KeyManagement,
        format!("“{ssid}” wants another kind of key than was given ({given}): {why}."),
        cause,
        remedy,
    )
}

fn lost(o: &Observations, candidate: &Candidate) -> Option<Diagnosis> {
    // What was lost may be another network than the one that is there now.
    let other = o.attempt.ssid.as_ref().is_some_and(|lost| *lost != candidate.network.ssid);
    if !o.attempt.was_connected || other || waited(o) < patience::ROAM {
        return None;
    }
    let ssid = &candidate.network.ssid;
    let seconds = waited(o) / 1000;
    let reason = o.attempt.disconnect_reason;
    // 3: it is leaving; 4: it was not heard for too long.
    let left = matches!(reason, Some(3 | 4)) && o.scan.done < patience::FRESH_SCANS;
    if left || candidate.seen.is_empty() {
        return Some(say(
            Code::ApVanished,
            format!("“{ssid}” was connected and is gone since {seconds} s."),
            "The access point was switched off, restarts or changed its name, or something shields the Pi.",
            "Switch the access point on; the Pi joins again by itself within a minute of its return.",
        ));
    }
    if waited(o) < patience::RECONNECT {
        return None;
    }
    let why = match reason {
        Some(reason) => format!("reason {reason}, {}", reason_text(reason)),
        None => "with no reason".to_string(),
    };
    Some(say(
        Code::Deauthenticated,
        format!("“{ssid}” sent the Pi away {seconds} s ago ({why}), and does not take it back."),
        "The access point's station limit, band steering or session timeout, or the chip's power saving.",
        "Wait for the agent to try other settings; restart the access point; look into its log for the Pi's MAC address.",
    ))
}

fn silent(o: &Observations, candidate: &Candidate) -> Option<Diagnosis> {
    let timed_out = o.attempt.assoc_status == Some(TIMED_OUT) || o.attempt.auth_status == Some(TIMED_OUT);
    let unanswered = o.attempt.timeouts >= patience::TIMEOUTS || timed_out && waited(o) >= patience::RECONNECT;
    // Not every way of failing is signalled: some only end in the next scan.
    if !unanswered && waited(o) < patience::JOIN {
        return None;
    }
    let ssid = &candidate.network.ssid;
    let best = candidate.seen.first();
    let at = best.map_or(String::new(), |bss| format!(" at {} dBm", bss.signal));
    let tries = match o.attempt.timeouts {
        0 => format!("for {} s", waited(o) / 1000),
        count => times(count),
    };
    let full_mac = o.radio.as_ref().is_some_and(|radio| radio.driver.starts_with("brcmfmac"));
    let cause = match best {
        Some(bss) if bss.signal <= -80 => {
            "The signal is too weak: the access point is heard, but does not hear the Pi."
        }
        Some(bss) if full_mac && takes_sae(bss) => {
            "This chip's firmware often fails with WPA2/WPA3 mixed access points; it does not say so if the passphrase is wrong, either."
        }
        _ if full_mac => {
            "The access point is overloaded, or the passphrase is wrong: this chip's firmware does not tell the two apart."
        }
        _ => "The access point is overloaded, hangs, or does not hear the Pi.",
    };
    Some(say(
        Code::NoAnswer,
        format!("“{ssid}”{at} did not answer when asked to let the Pi in ({tries})."),
        cause,
        "Put the Pi nearer to the access point, check the passphrase, restart the access point, or set it to WPA2 only.",
    ))
}

fn times(count: u32) -> String {
    match count {
        1 => "once".into(),
        2 => "twice".into(),
        more => format!("{more} times"),
    }
}

/// What the commoner ones mean, in a few words.
const fn reason_text(reason: u16) -> &'static str {
    match reason {
        1 => "unspecified",
        2 => "our authentication is no longer valid",
        3 => "it is leaving",
        4 => "we were silent for too long",
        5 => "it has too many stations",
        6 | 7 => "it does not know us",
        8 => "it wants us elsewhere",
        12 => "it wants us at another access point",
        15 => "handshake timeout",
        23 => "802.1X failed",
        34 => "poor reception",
        _ => "see IEEE 802.11, table 9-49",
    }
}
