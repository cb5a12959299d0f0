//! The radio, the country, the supplicant, and whether a network that we know is in the air.

use super::candidate::{Candidate, candidate, lacking, sounds_like_high_band, stem};
use super::patience::{self, waited};
use super::{Finding, say};
use crate::online::diagnosis::{Code, Diagnosis};
use crate::online::kernel::KernelSign;
use crate::online::link::Link;
use crate::online::observation::{Band, Bss, Observations, Supplicant};
use crate::online::ssid::Ssid;

pub(super) fn rfkill(o: &Observations) -> Finding {
    if o.rfkill.hard {
        let diagnosis = say(
            Code::RfkillHard,
            "The radio is switched off by hardware (rfkill hard block).",
            "A switch on the board or case, or a pin that an overlay in config.txt drives.",
            "Turn the switch, or take the overlay (`disable-wifi`, a HAT's) out of config.txt on the card.",
        );
        return Finding::fault(diagnosis, "off by hardware");
    }
    if o.rfkill.soft {
        let diagnosis = say(
            Code::RfkillSoft,
            "The radio is switched off by software (rfkill soft block).",
            "It was off when the system was last shut down, or another program switches it off.",
            "Wait for the agent to switch it on; if it stays off, look for another program that does it (NetworkManager, `rfkill block`).",
        );
        return Finding::fault(diagnosis, "off by software");
    }
    Finding::up(Link::Rfkill, "on")
}

pub(super) fn regdomain(o: &Observations) -> Finding {
    let kernel = o.regdomain.as_deref().filter(|domain| *domain != "00");
    let no_database = o.hardware.kernel.contains(&KernelSign::NoRegulatoryDatabase);
    match (&o.country, kernel) {
        (_, Some(domain)) => Finding::up(Link::Regdomain, domain),
        (Some(country), None) if no_database => {
            let diagnosis = say(
                Code::NoRegulatoryDatabase,
                format!("The country {country} has no effect: the kernel found no regulatory.db."),
                "The image lacks the wireless regulatory database, or cfg80211 was loaded before it could be read.",
                "Build the image with `hardware.wirelessRegulatoryDatabase = true`. Channels that are allowed everywhere (1 to 11) work without.",
            );
            Finding::warning(diagnosis, format!("{country} without effect"))
        }
        (Some(country), None) => Finding::up(Link::Regdomain, format!("{country} asked for")),
        (None, None) => {
            let diagnosis = say(
                Code::NoCountry,
                "No country is set, so the radio keeps to what is allowed everywhere.",
                "The settings have no `country`. Channels 12 and 13 and much of 5 GHz are not used, so a network there is not seen.",
                "Add the two letters of your country to the settings, such as `\"country\": \"DE\"`.",
            );
            Finding::warning(diagnosis, "not set")
        }
    }
}

pub(super) fn supplicant(o: &Observations) -> Finding {
    let interface = o.radio.as_ref().map_or("the interface", |radio| &radio.interface);
    match &o.supplicant {
        Supplicant::Unasked => Finding::busy(Link::Supplicant, "starting"),
        Supplicant::Absent { why } => {
            let diagnosis = say(
                Code::NoSupplicant,
                format!("wpa_supplicant cannot be had: {}.", why.trim_end_matches('.')),
                "It is not in the image, its unit failed, or D-Bus lets nobody talk to it.",
                "Build the image with wpa_supplicant and the agent's unit for it, and look at `journalctl -u 'wpa_supplicant*'` on the console.",
            );
            Finding::fault(diagnosis, "none")
        }
        Supplicant::Taken { by } => {
            let diagnosis = say(
                Code::InterfaceTaken,
                format!("{by} has {interface}, so the agent cannot use it."),
                "Two programs manage the WiFi of this image.",
                format!(
                    "Build the image without {by} (`networking.networkmanager`, `networking.wireless.iwd`), or let it join the network itself."
                ),
            );
            Finding::fault(diagnosis, format!("{by} has it"))
        }
        Supplicant::Ready { state, through, .. } => {
            Finding::up(Link::Supplicant, format!("{}, {through}", state.replace('_', " ")))
        }
    }
}

pub(super) fn scan(o: &Observations) -> Finding {
    let Some(candidate) = candidate(o) else {
        if !o.wired.is_empty() && o.now < patience::CARRIER {
            return Finding::busy(Link::Scan, "waiting for a cable");
        }
        let diagnosis = say(
            Code::NoNetworks,
            "No network to join was given.",
            "The settings on the card have no `networks`, or were not found.",
            "Add a network to settings.json on the card, press `n` on the console to type one, or plug in a cable.",
        );
        return Finding::fault(diagnosis, "no network given");
    };
    let ssid = &candidate.network.ssid;
    if o.attempt.connected.is_some() {
        return Finding::up(Link::Scan, sighting(ssid, candidate.seen.first().copied()));
    }
    if let Some(diagnosis) = wrong_band(o, &candidate) {
        return Finding::fault(diagnosis, format!("“{ssid}” on another band"));
    }
    // What was seen before the radio went deaf is of no use.
    if scans_fail(o)
        && let Some(diagnosis) = scan_failure(o)
    {
        return Finding::fault(diagnosis, "no scan succeeds");
    }
    if let Some(best) = candidate.seen.first() {
        return Finding::up(Link::Scan, sighting(ssid, Some(best)));
    }
    // A network that was joined and is gone is the access point's affair: see `join`.
    if o.attempt.was_connected && o.attempt.ssid.as_ref() == Some(ssid) {
        return Finding::odd(Link::Scan, format!("“{ssid}” is gone"));
    }
    if o.scan.done == 0 {
        return match scan_failure(o) {
            Some(diagnosis) => Finding::fault(diagnosis, "no scan succeeds"),
            None => Finding::busy(Link::Scan, "listening"),
        };
    }
    if o.scan.done < patience::SCANS && waited(o) < patience::SEEN {
        return Finding::busy(Link::Scan, "listening");
    }
    Finding::fault(not_seen(o, &candidate), format!("“{ssid}” not seen"))
}

fn sighting(ssid: &Ssid, best: Option<&Bss>) -> String {
    match best {
        Some(bss) => format!("“{ssid}” at {} dBm", bss.signal),
        None => format!("“{ssid}”"),
    }
}

/// Single scans fail while others succeed; that is no fault.
pub(super) const fn scans_fail(o: &Observations) -> bool {
    o.scan.failed >= patience::FAILED_SCANS && o.scan.failed > o.scan.done
}

fn scan_failure(o: &Observations) -> Option<Diagnosis> {
    if !scans_fail(o) && waited(o) < patience::FIRST_SCAN {
        return None;
    }
    let said = o.hardware.kernel.iter().rev().find_map(|sign| match sign {
        KernelSign::ScanError { line } => Some(format!(" The kernel says: “{line}”.")),
        _ => None,
    });
    Some(say(
        Code::ScanFailed,
        format!(
            "The radio finished {} scans in {} s, and {} failed.{}",
            o.scan.done,
            waited(o) / 1000,
            o.scan.failed,
            said.unwrap_or_default()
        ),
        "The chip's firmware is confused, or the country and the firmware's own channel table disagree.",
        "Wait for the agent to reload the driver; check `country` in the settings; take the power off for ten seconds.",
    ))
}

fn wrong_band(o: &Observations, candidate: &Candidate) -> Option<Diagnosis> {
    let ssid = &candidate.network.ssid;
    let lacking = lacking(o);
    let on_lacking = |bss: &Bss| Band::of_frequency(bss.frequency).is_some_and(|band| lacking.contains(&band));
    let why = if let Some(bss) = candidate.seen.iter().find(|bss| on_lacking(bss)) {
        if !candidate.seen.iter().all(|bss| on_lacking(bss)) {
            return None;
        }
        format!("“{ssid}” is on {} MHz only", bss.frequency)
    } else {
        if !candidate.seen.is_empty() || o.scan.done == 0 {
            return None;
        }
        twin(o, ssid, &lacking)?
    };
    let bands: Vec<&str> = o.radio.iter().flat_map(|radio| radio.bands.iter().map(|band| name_of(*band))).collect();
    Some(say(
        Code::WrongBand,
        format!("{why}; this WiFi chip has {} only.", bands.join(" and ")),
        "The chips of the Raspberry Pi 3B, Zero W and Zero 2 W have 2.4 GHz only.",
        "Switch 2.4 GHz on at the access point, or give the name of its 2.4 GHz network in the settings.",
    ))
}

/// Another band is likely if the access point's neighbour has the same name there, or if the name says so itself.
fn twin(o: &Observations, ssid: &Ssid, lacking: &[Band]) -> Option<String> {
    let ours = stem(ssid)?;
    let related = |bss: &&Bss| bss.ssid.as_ref().and_then(stem).is_some_and(|stem| stem == ours);
    for bss in o.scan.seen.iter().filter(related) {
        let band = bss.siblings.iter().find(|band| lacking.contains(band));
        if let (Some(band), Some(name)) = (band, &bss.ssid) {
            return Some(format!(
                "“{ssid}” is not seen, and “{name}” says that it has a sibling on {}",
                name_of(*band)
            ));
        }
    }
    let name = o.scan.seen.iter().find(related)?.ssid.as_ref()?;
    let high = sounds_like_high_band(ssid) && lacking.contains(&Band::Five);
    high.then(|| format!("“{ssid}” is not seen but “{name}” is, and by its name the first is on 5 GHz"))
}

fn not_seen(o: &Observations, candidate: &Candidate) -> Diagnosis {
    let ssid = &candidate.network.ssid;
    let others = o.networks.len().saturating_sub(1);
    let names = match others {
        0 => format!("“{ssid}” is"),
        1 => format!("“{ssid}” and the other network given are"),
        _ => format!("“{ssid}” and the {others} other networks given are"),
    };
    let mut heard: Vec<&Bss> = o.scan.seen.iter().filter(|bss| bss.ssid.is_some()).collect();
    heard.sort_by_key(|bss| std::cmp::Reverse(bss.signal));
    let mut seen: Vec<String> = heard.iter().filter_map(|bss| bss.ssid.as_ref()).map(|s| format!("“{s}”")).collect();
    let mut known = std::collections::HashSet::new();
    seen.retain(|name| known.insert(name.clone()));
    let more = seen.len().saturating_sub(3);
    seen.truncate(3);
    let heard = match (seen.is_empty(), more) {
        (true, _) => "no other network is either".to_string(),
        (false, 0) => format!("heard: {}", seen.join(", ")),
        (false, more) => format!("heard: {} and {more} more", seen.join(", ")),
    };
    let mut cause = match similar(o, ssid) {
        Some(other) => format!("Names are case-sensitive, and “{other}” is in the air"),
        None if o.scan.seen.is_empty() => "The access point is off or too far away, or the radio is deaf".to_string(),
        None => "The access point is off or too far away, or the name is misspelt".to_string(),
    };
    if lacking(o).contains(&Band::Five) {
        cause += "; this chip has no 5 GHz, so the network must be on 2.4 GHz";
    }
    if o.country.is_none() && o.regdomain.as_deref().is_none_or(|domain| domain == "00") {
        cause += "; with no country set, channels 12, 13 and much of 5 GHz are not listened to";
    }
    let mut remedy =
        "Compare the name in the settings letter by letter, and put the Pi nearer to the access point.".to_string();
    if !candidate.network.hidden {
        remedy += " If the network hides its name, set `\"hidden\": true`.";
    }
    let what = format!("{names} not in the air here ({} scans); {heard}.", o.scan.done);
    say(Code::NotSeen, what, cause + ".", remedy)
}

/// A name that differs only by case or blanks at its ends.
fn similar<'a>(o: &'a Observations, ssid: &Ssid) -> Option<&'a Ssid> {
    let plain = |ssid: &Ssid| ssid.to_string().trim().to_lowercase();
    o.scan.seen.iter().filter_map(|bss| bss.ssid.as_ref()).find(|other| *other != ssid && plain(other) == plain(ssid))
}

pub(super) const fn name_of(band: Band) -> &'static str {
    match band {
        Band::Two => "2.4 GHz",
        Band::Five => "5 GHz",
        Band::Six => "6 GHz",
    }
}
