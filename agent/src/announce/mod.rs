//! The mDNS announcement (RFC 6762, RFC 6763): `_cygnet._tcp` and `_ssh._tcp`, so that `cygnet discover` finds this Pi.
//!
//! [`text`] is what is said. This file says it: at every change of state, diagnosis or address, and each minute without
//! being asked, because a sleeping WiFi radio misses questions. [`ears`] listens whether others are heard; [`air`] and
//! [`packet`] are what mdns-sd has no call for. [`installed`] is the announcement of the system that was installed, which has no
//! agent.
//!
//! Nothing in it is trusted by anyone: the host key's fingerprint is a hint for the person, ssh checks the key.

mod air;
mod ears;
pub mod installed;
mod packet;
mod text;

use crate::agent::Agent;
use crate::events::lock;
use crate::identity;
use air::Air;
use cygnet_protocol::event::{EventKind, State};
use cygnet_protocol::online::link::Link;
use mdns_sd::{DaemonEvent, IfKind, Receiver, ServiceDaemon, ServiceInfo};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

const CYGNET: &str = "_cygnet._tcp.local.";
const SSH: &str = "_ssh._tcp.local.";
const SSH_PORT: u16 = 22;

/// How often mdns-sd compares the machine's addresses by itself, seconds. Events of the way online make it do so at
/// once, but the kernel gives link-local addresses without asking anybody.
const IP_CHECK: u32 = 1;
/// How often it is said again although nothing has changed.
const AGAIN: Duration = Duration::from_secs(50);
/// The pause before the next attempt where mDNS could not be had.
const RETRY: Duration = Duration::from_secs(10);
/// How long what is not said at once is collected for.
const COLLECT: Duration = Duration::from_millis(200);
/// How long `rebooting` is announced before the goodbye; the network goes down a moment later.
const LAST_WORD: Duration = Duration::from_millis(800);
/// mdns-sd says goodbye again after 120 ms, for those who missed it.
const GOODBYE_TWICE: Duration = Duration::from_millis(150);
/// How long the end of the agent may be held up for the goodbye.
const GOODBYE: Duration = Duration::from_millis(1500);
/// A reboot that has not come about after this time never will; then the Pi announces itself anew.
const REBOOT: Duration = Duration::from_secs(200);
/// mdns-sd keeps every wish about its interfaces for ever, so they are numbered.
const MAX_NUDGES: u32 = 10_000;

/// The announcement that is under way.
pub struct Announcement {
    agent: Arc<Agent>,
    bell: Arc<Bell>,
    ended: mpsc::Receiver<()>,
}

/// How the thread that announces is woken.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    ending: AtomicBool,
    moved: AtomicBool,
}

/// Announces until told to say goodbye. Failure to announce stops nothing else.
pub fn spawn(agent: Arc<Agent>) -> Announcement {
    let bell = Arc::new(Bell::default());
    let (done, ended) = mpsc::channel();
    let (ours, rings, weak) = (agent.clone(), bell.clone(), Arc::downgrade(&agent));
    start("announce", move || {
        let _done = done;
        while !rings.ending.load(Ordering::Acquire) {
            if let Err(error) = announce(&ours, &rings) {
                tracing::warn!("mDNS announcement stopped: {error}; until it goes on, find the Pi by its address");
                wait(&ours, &rings, u64::MAX - 1, RETRY);
            }
        }
    });
    start("ears", move || ears::listen(&weak));
    Announcement { agent, bell, ended }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.into()).spawn(work) {
        tracing::warn!("mDNS ({name}) did not start: {error}");
    }
}

impl Announcement {
    /// Takes the announcement back, so that nobody is sent to a Pi that is gone.
    pub fn goodbye(self) {
        self.bell.ending.store(true, Ordering::Release);
        self.bell.ring(&self.agent);
        // Its end of the channel goes with the thread.
        let _ = self.ended.recv_timeout(GOODBYE);
    }
}

impl Bell {
    fn ring(&self, agent: &Agent) {
        self.rung.store(true, Ordering::Release);
        agent.log.wake();
    }
}

/// What of the events calls for another announcement, and the number of the last.
#[derive(Debug, Default, PartialEq, Eq)]
struct News {
    seen: u64,
    /// The state or the diagnosis may be another.
    said: bool,
    /// There may be other addresses.
    addresses: bool,
}

/// Waits for events after number `seen`, or for the bell.
fn wait(agent: &Agent, bell: &Bell, seen: u64, patience: Duration) -> News {
    let events = agent.log.since_unless(&bell.rung, seen + 1, patience);
    bell.rung.store(false, Ordering::Release);
    let mut news = News { seen: events.last().map_or(seen, |event| event.seq), ..News::default() };
    for event in &events {
        match &event.kind {
            EventKind::StateChanged { .. } | EventKind::Diagnosed { .. } => news.said = true,
            EventKind::Online { .. } => (news.said, news.addresses) = (true, true),
            EventKind::Link { report } => {
                // A diagnosis that is over has no event of its own, but a link that changed with it.
                news.said = true;
                news.addresses |= report.link >= Link::Association;
            }
            EventKind::PhaseStarted
            | EventKind::PhaseFinished { .. }
            | EventKind::Skipped { .. }
            | EventKind::Task { .. }
            | EventKind::Output { .. }
            | EventKind::Progress { .. }
            | EventKind::Warning { .. }
            | EventKind::Failed { .. }
            | EventKind::HostKeys { .. }
            | EventKind::Unknown => {}
        }
    }
    news
}

fn announce(agent: &Arc<Agent>, bell: &Arc<Bell>) -> Result<(), mdns_sd::Error> {
    let daemon = ServiceDaemon::new()?;
    daemon.set_ip_check_interval(IP_CHECK)?;
    // mdns-sd takes its own announcement of one address, when it comes back, for somebody else's claim on the name that
    // it is asking about for another address, and renames us.
    daemon.set_multicast_loop_v4(false)?;
    daemon.set_multicast_loop_v6(false)?;
    nudge(&daemon)?;
    let name = text::name(&agent.identity.serial);
    let (monitor, weak, rings, host) =
        (daemon.monitor()?, Arc::downgrade(agent), bell.clone(), format!("{name}.local."));
    start("announce-watch", move || watch(&monitor, &weak, &rings, host));
    let (mut seen, mut said, mut nudges) = (0, None, 0);
    let mut addresses = identity::addresses();
    let mut next = Instant::now();
    loop {
        let status = agent.status();
        let text = text::text(&status);
        if bell.moved.swap(false, Ordering::AcqRel) || Instant::now() >= next || said.as_ref() != Some(&text) {
            register(&daemon, &name, &text)?;
            said = Some(text);
            next = Instant::now() + AGAIN;
        }
        if status.state == State::Rebooting {
            std::thread::sleep(LAST_WORD);
            goodbye(&daemon, &name);
            wait_for_the_end(agent, bell);
            said = None;
        }
        let begin = Instant::now();
        loop {
            let news = wait(agent, bell, seen, next.saturating_duration_since(Instant::now()));
            seen = news.seen;
            if bell.ending.load(Ordering::Acquire) {
                goodbye(&daemon, &name);
                if let Ok(gone) = daemon.shutdown() {
                    let _ = gone.recv_timeout(GOODBYE_TWICE);
                }
                return Ok(());
            }
            if news.addresses {
                let now = identity::addresses();
                if now != addresses && nudges < MAX_NUDGES {
                    (addresses, nudges) = (now, nudges + 1);
                    nudge(&daemon)?;
                }
            }
            if news.said || bell.moved.load(Ordering::Acquire) || Instant::now() >= next {
                break;
            }
            // An installation tells of its progress all the time, which is not announced.
            std::thread::sleep(COLLECT);
        }
        if begin.elapsed() < COLLECT {
            // Several links change together; one announcement is enough.
            std::thread::sleep(COLLECT - begin.elapsed());
        }
    }
}

/// Leaves loopback out; and any wish about interfaces makes mdns-sd look at once at those there are.
fn nudge(daemon: &ServiceDaemon) -> Result<(), mdns_sd::Error> {
    daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])
}

fn services(name: &str) -> [String; 2] {
    [CYGNET, SSH].map(|service| format!("{name}.{service}"))
}

/// Registering again what is registered announces it without a question: twice, a second apart.
fn register(daemon: &ServiceDaemon, name: &str, text: &[(&'static str, String)]) -> Result<(), mdns_sd::Error> {
    let host = format!("{name}.local.");
    let none: &[(&str, String)] = &[];
    for (service, text) in [(CYGNET, text), (SSH, none)] {
        daemon.register(ServiceInfo::new(service, name, &host, "", SSH_PORT, text)?.enable_addr_auto())?;
    }
    Ok(())
}

fn goodbye(daemon: &ServiceDaemon, name: &str) {
    // What cannot be taken back runs out of time by itself.
    let answers: Vec<_> = services(name).iter().filter_map(|service| daemon.unregister(service).ok()).collect();
    for answer in answers {
        let _ = answer.recv_timeout(GOODBYE_TWICE);
    }
    std::thread::sleep(GOODBYE_TWICE);
}

/// Until the Pi goes down; or goes on, which the agent notices.
fn wait_for_the_end(agent: &Agent, bell: &Bell) {
    let begin = Instant::now();
    let waits = || begin.elapsed() < REBOOT && agent.state() == State::Rebooting;
    while waits() && !bell.ending.load(Ordering::Acquire) {
        std::thread::sleep(COLLECT);
    }
}

/// Follows what mdns-sd does: when the present addresses were announced, and which have to be taken back.
fn watch(monitor: &Receiver<DaemonEvent>, agent: &Weak<Agent>, bell: &Bell, host: String) {
    let mut hosts = BTreeSet::from([host]);
    while let Ok(event) = monitor.recv() {
        let Some(agent) = agent.upgrade() else { return };
        match event {
            DaemonEvent::Announce(..) => {
                lock(&agent.announce).since.get_or_insert_with(|| agent.log.now());
            }
            DaemonEvent::IpAdd(_) => {
                lock(&agent.announce).since = None;
                bell.moved.store(true, Ordering::Release);
                bell.ring(&agent);
            }
            DaemonEvent::IpDel(address) => {
                lock(&agent.announce).since = None;
                // mdns-sd says no more of it, so others would keep it until its time is over, two minutes.
                let air = Air::now();
                for host in &hosts {
                    air.send(&packet::withdrawal(host, address));
                }
                bell.moved.store(true, Ordering::Release);
                bell.ring(&agent);
            }
            DaemonEvent::NameChange(change) => {
                tracing::info!("{} is taken on {}; announcing {}", change.original, change.intf_name, change.new_name);
                // Bounded: whoever takes name after name from us gets no more addresses taken back.
                if hosts.len() < 16 && !change.new_name.contains("._tcp.") {
                    hosts.insert(change.new_name);
                }
            }
            DaemonEvent::Error(error) => tracing::warn!("mDNS: {error}"),
            // `Respond`, and what later versions tell.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{Agent, Places};
    use crate::identity::Identity;
    use cygnet_protocol::online::link::{LinkReport, LinkState};

    fn agent(directory: &std::path::Path) -> Arc<Agent> {
        let places = Places {
            state: directory.join("state"),
            target: directory.join("mnt"),
            card: directory.join("card"),
            secrets: directory.join("secrets"),
        };
        Agent::new(Identity::read(), places)
    }

    #[test]
    fn progress_is_no_news_but_an_address_is() {
        let directory = tempfile::tempdir().unwrap();
        let (agent, bell) = (agent(directory.path()), Bell::default());
        agent.log.emit(None, EventKind::Progress { done: 1, total: 2, unit: "bytes".into(), came: None });
        assert_eq!(wait(&agent, &bell, 0, RETRY), News { seen: 1, said: false, addresses: false });
        let report = LinkReport { link: Link::Address, state: LinkState::Up, detail: String::new(), since: 0 };
        agent.log.emit(None, EventKind::Link { report });
        assert_eq!(wait(&agent, &bell, 1, RETRY), News { seen: 2, said: true, addresses: true });
    }

    #[test]
    fn the_bell_ends_the_wait() {
        let directory = tempfile::tempdir().unwrap();
        let (agent, bell) = (agent(directory.path()), Bell::default());
        bell.ring(&agent);
        let begin = Instant::now();
        assert_eq!(wait(&agent, &bell, 0, RETRY), News::default());
        assert!(begin.elapsed() < RETRY);
    }
}
