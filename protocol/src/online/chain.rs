//! How each link of the chain is, for the screen.

use super::diagnose::{Verdict, ends_chain, examine, starts_again};
use super::link::{Link, LinkReport, LinkState};
use super::observation::Observations;

/// Every link, in order. After the first that is down or busy the others wait ([`LinkState::Pending`]), but a cable that
/// serves does not wait for the WiFi. `since` is 0: what is seen now does not say when it came to be so.
pub fn links(o: &Observations) -> Vec<LinkReport> {
    let mut over = false;
    let mut links = Vec::with_capacity(Link::ALL.len());
    for finding in examine(o) {
        over &= !starts_again(o, finding.link);
        let report = |state, detail| LinkReport { link: finding.link, state, detail, since: 0 };
        if over {
            links.push(match (finding.link, &finding.verdict) {
                // With no address from anybody it announces itself all the same.
                (Link::Announce, Verdict::Up) => report(LinkState::Pending, finding.detail),
                (_, Verdict::Unused) => report(LinkState::Unused, String::new()),
                _ => report(LinkState::Pending, String::new()),
            });
            continue;
        }
        over = ends_chain(&finding.verdict);
        links.push(report(state_of(&finding.verdict), finding.detail));
    }
    links
}

const fn state_of(verdict: &Verdict) -> LinkState {
    match verdict {
        Verdict::Up => LinkState::Up,
        Verdict::Busy => LinkState::Busy,
        Verdict::Fault(_) => LinkState::Down,
        Verdict::Warning(_) | Verdict::Odd => LinkState::Warning,
        Verdict::Unused => LinkState::Unused,
    }
}
