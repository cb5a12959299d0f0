//! What keeps the Pi from getting online, found from what is to be seen and from nothing else.
//!
//! Each link is judged by itself, in the chain's order: the chip, its driver and its firmware in `hardware`, the radio
//! and what it hears in `air`, the access point in `join`, addresses and what is beyond them in `address`.
//! `patience` says for how long what is not there yet is no fault. [`diagnose`] is then the first fault of the chain,
//! [`warnings`] what else is not well, and [`super::chain`] the same findings as links.

pub(super) mod address;
pub(super) mod air;
pub(super) mod candidate;
pub(super) mod hardware;
pub(super) mod join;
pub mod patience;
pub mod told;

use super::diagnosis::{Code, Diagnosis};
use super::link::Link;
use super::observation::Observations;

/// What one link is found to be, as though all before it were well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) link: Link,
    pub(super) verdict: Verdict,
    /// A few words for the screen.
    pub(super) detail: String,
}

/// How a link is found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Up,
    /// Under way, and not for too long yet.
    Busy,
    /// The chain ends here.
    Fault(Box<Diagnosis>),
    /// Not well, but the chain goes on.
    Warning(Box<Diagnosis>),
    /// Not as it should be, but nothing that needs words: another link tells it, or it is too early.
    Odd,
    /// Of no concern.
    Unused,
}

impl Finding {
    fn up(link: Link, detail: impl Into<String>) -> Self {
        Self { link, verdict: Verdict::Up, detail: detail.into() }
    }

    fn busy(link: Link, detail: impl Into<String>) -> Self {
        Self { link, verdict: Verdict::Busy, detail: detail.into() }
    }

    fn odd(link: Link, detail: impl Into<String>) -> Self {
        Self { link, verdict: Verdict::Odd, detail: detail.into() }
    }

    fn unused(link: Link) -> Self {
        Self { link, verdict: Verdict::Unused, detail: String::new() }
    }

    fn fault(diagnosis: Diagnosis, detail: impl Into<String>) -> Self {
        Self { link: diagnosis.link, detail: detail.into(), verdict: Verdict::Fault(Box::new(diagnosis)) }
    }

    fn warning(diagnosis: Diagnosis, detail: impl Into<String>) -> Self {
        Self { link: diagnosis.link, detail: detail.into(), verdict: Verdict::Warning(Box::new(diagnosis)) }
    }
}

/// What the agent does next unless the supervisor knows better.
pub const NEXT: &str = "tries again within 30 s";

fn say(code: Code, what: impl Into<String>, cause: impl Into<String>, remedy: impl Into<String>) -> Diagnosis {
    Diagnosis {
        link: code.link(),
        code,
        what: what.into(),
        cause: cause.into(),
        remedy: remedy.into(),
        next: NEXT.into(),
    }
}

/// The one thing that keeps the Pi from getting online, or that would keep the WiFi from it while a cable serves. None
/// if all is well, or if what is missing may yet come by itself.
pub fn diagnose(o: &Observations) -> Option<Diagnosis> {
    for finding in reached(o) {
        match finding.verdict {
            Verdict::Fault(diagnosis) => return Some(*diagnosis),
            Verdict::Up | Verdict::Busy | Verdict::Warning(_) | Verdict::Odd | Verdict::Unused => {}
        }
    }
    None
}

/// What is not well, but does not keep the Pi from getting online.
pub fn warnings(o: &Observations) -> Vec<Diagnosis> {
    let found = reached(o).into_iter().filter_map(|finding| match finding.verdict {
        Verdict::Warning(diagnosis) => Some(*diagnosis),
        Verdict::Up | Verdict::Busy | Verdict::Fault(_) | Verdict::Odd | Verdict::Unused => None,
    });
    let mut warnings: Vec<Diagnosis> = found.collect();
    // Where no WiFi is wanted its links are not judged, but low voltage harms disks as well.
    let told = |code| warnings.iter().any(|w| w.code == code);
    if o.hardware.under_voltage && !told(Code::UnderVoltage) && !blames(o, Code::UnderVoltage) {
        warnings.insert(0, hardware::low_voltage(o));
    }
    warnings
}

fn blames(o: &Observations, code: Code) -> bool {
    diagnose(o).is_some_and(|diagnosis| diagnosis.code == code)
}

/// Whether there is an address that others can reach the Pi at: on a cable with somebody at its other end, or on a radio
/// that is connected. An address of the link alone (fe80::, 169.254) is good enough to announce ([`can_announce`]), but not
/// to be called online.
pub fn is_online(o: &Observations) -> bool {
    address::serving(o).is_some()
}

/// Whether anybody could hear an announcement: there is any address on an interface that is connected.
pub fn can_announce(o: &Observations) -> bool {
    o.addresses.iter().any(|a| address::is_connected(o, &a.interface))
}

/// Through what the Pi is online: `end0 (cable)`, `wlan0 (“home”)`.
pub fn via(o: &Observations) -> Option<String> {
    let interface = address::serving(o)?;
    let radio = o.radio.as_ref().is_some_and(|radio| radio.interface == interface);
    Some(match (&o.attempt.ssid, radio) {
        (Some(ssid), true) => format!("{interface} (“{ssid}”)"),
        (None, true) => format!("{interface} (WiFi)"),
        (_, false) => format!("{interface} (cable)"),
    })
}

/// All links, judged each by itself.
pub(super) fn examine(o: &Observations) -> Vec<Finding> {
    Link::ALL.iter().map(|link| examine_link(o, *link)).collect()
}

fn examine_link(o: &Observations, link: Link) -> Finding {
    // Who plugs in a cable and gives no network does not miss the WiFi.
    let by_cable = o.networks.is_empty() && o.wired.iter().any(|wired| wired.carrier);
    let radio_counts = o.wants_wifi && !by_cable;
    if link <= Link::Handshake && !radio_counts {
        return Finding::unused(link);
    }
    match link {
        Link::Sdio => hardware::sdio(o),
        Link::Driver => hardware::driver(o),
        Link::Firmware => hardware::firmware(o),
        Link::Interface => hardware::interface(o),
        Link::Rfkill => air::rfkill(o),
        Link::Regdomain => air::regdomain(o),
        Link::Supplicant => air::supplicant(o),
        Link::Scan => air::scan(o),
        Link::Association => join::association(o),
        Link::Handshake => join::handshake(o),
        Link::Address => address::address(o),
        Link::Gateway => address::gateway(o),
        Link::Dns => address::dns(o),
        Link::Clock => address::clock(o),
        Link::Announce => address::announce(o),
    }
}

/// The findings that count: up to the first link that fails or is busy, and again from the address on if a cable serves.
fn reached(o: &Observations) -> Vec<Finding> {
    let mut over = false;
    let mut reached = Vec::new();
    for finding in examine(o) {
        over &= !starts_again(o, finding.link);
        if !over {
            over = ends_chain(&finding.verdict);
            reached.push(finding);
        }
    }
    reached
}

pub(super) fn ends_chain(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Busy | Verdict::Fault(_) => true,
        Verdict::Up | Verdict::Warning(_) | Verdict::Odd | Verdict::Unused => false,
    }
}

/// A cable does not wait for the WiFi.
pub(super) fn starts_again(o: &Observations, link: Link) -> bool {
    link == Link::Address && address::cable(o).is_some()
}
