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

/// Listens until it is dropped.
pub struct Browser {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
    known: KnownHosts,
    /// By full name, so that the same Pi on two interfaces is one.
    pis: BTreeMap<String, Pi>,
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
        Ok(Self { daemon, events, known, pis: BTreeMap::new(), asked: BTreeSet::new(), answers: Vec::new() })
    }

    /// The next change until then; none if time is over.
    pub fn next(&mut self, until: Instant) -> Option<Change> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let event = match self.events.recv_timeout(left) {
                Ok(event) => event,
                Err(_) => {
                    // The thread of mdns-sd may have ended, too; then nothing will come, and nobody may spin.
                    std::thread::sleep(until.saturating_duration_since(Instant::now()).min(Duration::from_secs(1)));
                    if Instant::now() >= until {
                        return None;
                    }
                    continue;
                }
            };
            match event {
                ServiceEvent::ServiceResolved(service) => {
                    let name = service.get_fullname().to_owned();
                    if self.pis.len() >= MAX_PIS && !self.pis.contains_key(&name) {
                        continue;
                    }
                    let mut pi = Pi::of(&service);
                    pi.known = self.known.knows(&pi);
                    match self.pis.insert(name, pi.clone()) {
                        None => return Some(Change::Found(pi)),
                        Some(before) if before != pi => return Some(Change::Changed(pi)),
                        Some(_) => {}
                    }
                }
                ServiceEvent::ServiceRemoved(_, name) => {
                    if let Some(pi) = self.pis.remove(&name) {
                        return Some(Change::Gone(pi));
                    }
                }
                _ => {}
            }
        }
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
        self.pis.values()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends with us in any case.
        self.daemon.shutdown().ok();
    }
}
