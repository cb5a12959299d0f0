//! The list of the Pis there are, and what changes in it.

use super::known::KnownHosts;
use super::pi::{Pi, SERVICE};
use anyhow::{Context, Result};
use mdns_sd::{HostnameResolutionEvent, Receiver, ServiceDaemon, ServiceEvent};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// More Pis than anybody has. Announcements beyond are somebody's nonsense.
const MAX_PIS: usize = 256;
/// How often addresses of this machine are compared: WiFi may come up while we watch. Seconds.
const IP_CHECK: u32 = 2;
/// For how long the addresses of one Pi are asked for, milliseconds.
const ASKING: u64 = 15_000;

/// A change of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A Pi announced itself.
    Found(Pi),
    /// It says something else than before, or has other addresses.
    Changed(Pi),
    /// It took its announcement back, or its announcement ran out of time.
    Gone(Pi),
}

impl Change {
    /// As in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Change::Found(_) => "found",
            Change::Changed(_) => "changed",
            Change::Gone(_) => "gone",
        }
    }

    /// The Pi as it is now, or was last.
    pub const fn pi(&self) -> &Pi {
        match self {
            Change::Found(pi) | Change::Changed(pi) | Change::Gone(pi) => pi,
        }
    }
}

/// What has been heard so far.
struct List {
    known: KnownHosts,
    /// By full name, so that the same Pi on two interfaces is one.
    pis: BTreeMap<String, Pi>,
}

impl List {
    /// The next change until then. Who floods the network with announcements does not prolong that: time is looked at before
    /// each of them, and what has not changed is not looked up again.
    fn next(&mut self, until: Instant, mut hear: impl FnMut(Duration) -> Option<ServiceEvent>) -> Option<Change> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            match hear(left) {
                Some(event) => {
                    if let Some(change) = self.change(event) {
                        return Some(change);
                    }
                }
                // The thread of mdns-sd may have ended, too; then nothing will come, and nobody may spin.
                None => std::thread::sleep(until.saturating_duration_since(Instant::now()).min(Duration::from_secs(1))),
            }
        }
    }

    fn change(&mut self, event: ServiceEvent) -> Option<Change> {
        match event {
            ServiceEvent::ServiceResolved(service) => {
                let name = service.get_fullname().to_owned();
                let mut pi = Pi::of(&service);
                let before = self.pis.get(&name);
                if before.is_none() && self.pis.len() >= MAX_PIS {
                    return None;
                }
                if let Some(before) = before {
                    pi.known = before.known;
                    if *before == pi {
                        return None;
                    }
                }
                pi.known = self.known.knows(&pi);
                match self.pis.insert(name, pi.clone()) {
                    None => Some(Change::Found(pi)),
                    Some(_) => Some(Change::Changed(pi)),
                }
            }
            ServiceEvent::ServiceRemoved(_, name) => self.pis.remove(&name).map(Change::Gone),
            _ => None,
        }
    }
}

/// Listens until it is dropped.
pub struct Browser {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
    list: List,
    /// Host names whose addresses were asked for.
    asked: BTreeSet<String>,
    /// Where mdns-sd puts the answers; it stops asking when nobody holds these.
    answers: Vec<Receiver<HostnameResolutionEvent>>,
}

impl Browser {
    /// Starts listening.
    pub fn start(known: KnownHosts) -> Result<Self> {
        let daemon = ServiceDaemon::new().context("starting to listen for mDNS")?;
        daemon.set_ip_check_interval(IP_CHECK).context("setting up mDNS")?;
        let events = daemon.browse(SERVICE).context("asking for Pis by mDNS")?;
        Ok(Self {
            daemon,
            events,
            list: List { known, pis: BTreeMap::new() },
            asked: BTreeSet::new(),
            answers: Vec::new(),
        })
    }

    /// The next change until then; none if time is over.
    pub fn next(&mut self, until: Instant) -> Option<Change> {
        let events = &self.events;
        self.list.next(until, |left| events.recv_timeout(left).ok())
    }

    /// Asks for the addresses of this Pi alone, again and again for a while. What is answered comes as a change.
    pub fn ask_for_addresses(&mut self, pi: &Pi) {
        let host = format!("{}.", pi.host_name.trim_end_matches('.'));
        if self.asked.insert(host.clone()) {
            // The question is what matters: its answers are in the list, too. A name that can't be asked for has none.
            self.answers.extend(self.daemon.resolve_hostname(&host, Some(ASKING)));
        }
    }

    /// Those there are now, by name.
    pub fn pis(&self) -> impl Iterator<Item = &Pi> {
        self.list.pis.values()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends with us in any case.
        self.daemon.shutdown().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_does_not_prolong_the_wait() {
        use clap::Parser;
        let dir = tempfile::tempdir().unwrap();
        let nothing = dir.path().join("none").display().to_string();
        let cli = crate::cli::Cli::parse_from(["cygnet", "discover", "--known-hosts", &nothing]);
        let mut list = List { known: KnownHosts::of(&cli.global), pis: BTreeMap::new() };
        let begun = Instant::now();
        let flood = |_| Some(ServiceEvent::ServiceRemoved("x".into(), "y".into()));
        assert_eq!(list.next(begun + Duration::from_millis(300), flood), None);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
