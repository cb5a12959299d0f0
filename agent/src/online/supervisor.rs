//! Lives with the network: looks, publishes, takes the next step, and tries remedies when steps do not help.
//!
//! Everything is an event; the timer only ends patience. Nothing here may block: what can hang in the kernel runs in a
//! thread that can be left behind.

use super::eyes::Eyes;
use super::hardware::Sys;
use super::links::{Links, Snapshot};
use super::steps::{self, Done, Step};
use super::supplicant::{self, Joining, Offer, Signal, Supplicant, SupplicantError};
use super::{Order, kmsg, links, remedy, rfkill, services, settings};
use crate::agent::Agent;
use crate::events::lock;
use cygnet_protocol::event::{EventKind, State};
use cygnet_protocol::online::diagnosis::{Code, Diagnosis};
use cygnet_protocol::online::ladder::{self, Installing, Remedy};
use cygnet_protocol::online::link::{Link, LinkReport, LinkState, NetworkReport};
use cygnet_protocol::online::observation::{self as seen, Observations};
use cygnet_protocol::online::settings::Settings;
use cygnet_protocol::online::{chain, diagnose};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::time::{Instant, sleep_until, timeout};

/// What belongs together comes together: one look for all of it.
const COALESCE: Duration = Duration::from_millis(30);
/// How often it looks by itself while something is not well: patience ends without an event.
const RESTLESS: Duration = Duration::from_secs(2);
/// How often it looks by itself when all is well.
const CALM: Duration = Duration::from_secs(15);
/// How long a step that failed is not tried again.
const STEP_PAUSE: u64 = 5_000;
/// How long a diagnosis must have stood before a remedy for it is tried: others heal themselves.
const REMEDY_PATIENCE: u64 = 3_000;
/// How long a remedy has to show its effect before the next one.
const REMEDY_EFFECT: u64 = 12_000;
/// How often an outage is given another try without a remedy: wpa_supplicant waits longer after each refusal.
const RETRY: u64 = 30_000;
/// Management frames are protected if the access point can.
const PMF_WHERE_POSSIBLE: u8 = 1;
/// Unspecified failure (IEEE 802.11, table 9-78): what an access point answers that has another name by now.
const UNSPECIFIED: u16 = 1;
/// How long no answer from a service may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything that there is, until a remedy narrows it.
const WIDEST: Offer = Offer { sae: true, only_24ghz: false, interface_can_sae: false };
/// The driver of wpa_supplicant for every radio that Linux has had for ten years.
const NL80211: &str = "nl80211";

/// Starts it on a thread of its own. Failure to start stops nothing else.
pub fn spawn(agent: Arc<Agent>) {
    let spawned = std::thread::Builder::new().name("online".into()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!("the supervisor of the network has no runtime: {error}"),
        };
        if let Err(error) = runtime.block_on(live(agent)) {
            tracing::error!("the supervisor of the network stopped: {error}");
        }
    });
    if let Err(error) = spawned {
        tracing::error!("the supervisor of the network did not start: {error}");
    }
}

async fn live(agent: Arc<Agent>) -> std::io::Result<()> {
    let Some(orders) = lock(&agent.order_box).take() else { return Ok(()) };
    let (links, link_events) = Links::open()?;
    let mut supervisor = Supervisor {
        eyes: Eyes::new(Sys::default(), links),
        settings: Settings::default(),
        bus: None,
        supplicant: None,
        signals: None,
        taken: None,
        done: Done::default(),
        offer: WIDEST,
        tried: Vec::new(),
        tried_at: 0,
        retried_at: 0,
        nudged_at: 0,
        forgot_at: 0,
        diagnosed: None,
        paused: BTreeMap::new(),
        since: BTreeMap::new(),
        agent,
    };
    supervisor.read_settings();
    supervisor.run(orders, link_events).await;
    Ok(())
}

struct Supervisor {
    agent: Arc<Agent>,
    eyes: Eyes,
    settings: Settings,
    bus: Option<zbus::Connection>,
    supplicant: Option<Supplicant>,
    signals: Option<Receiver<Signal>>,
    /// The index of the interface that it has.
    taken: Option<u32>,
    done: Done,
    offer: Offer,
    /// Remedies of the present outage.
    tried: Vec<Remedy>,
    tried_at: u64,
    retried_at: u64,
    nudged_at: u64,
    forgot_at: u64,
    /// The present diagnosis, and since when.
    diagnosed: Option<(Code, u64)>,
    /// Steps that failed are not tried again before.
    paused: BTreeMap<Step, u64>,
    since: BTreeMap<Link, (LinkState, u64)>,
}

enum Happened {
    Kernel(String),
    Something,
    Signal(Option<Signal>),
    Order(Order),
    Time,
}

impl Supervisor {
    async fn run(&mut self, mut orders: UnboundedReceiver<Order>, mut link_events: Receiver<()>) {
        let mut kernel = kmsg::follow();
        let mut switches = rfkill::watch();
        let mut deadline = Instant::now();
        loop {
            let happened = tokio::select! {
                Some(line) = kernel.recv() => Happened::Kernel(line),
                Some(()) = switches.recv() => Happened::Something,
                Some(()) = link_events.recv() => Happened::Something,
                signal = next_signal(&mut self.signals) => Happened::Signal(signal),
                Some(order) = orders.recv() => Happened::Order(order),
                () = sleep_until(deadline) => Happened::Time,
            };
            let prompt = !matches!(happened, Happened::Time);
            self.take_in(happened).await;
            if prompt {
                // Its siblings are on their way.
                tokio::time::sleep(COALESCE).await;
                while let Ok(line) = kernel.try_recv() {
                    self.eyes.kernel_line(&line);
                }
                while link_events.try_recv().is_ok() || switches.try_recv().is_ok() {}
                while let Some(Ok(signal)) = self.signals.as_mut().map(Receiver::try_recv) {
                    self.take_in(Happened::Signal(Some(signal))).await;
                }
            }
            let settled = self.attend().await;
            deadline = Instant::now() + if settled { CALM } else { RESTLESS };
        }
    }

    async fn take_in(&mut self, happened: Happened) {
        match happened {
            Happened::Kernel(line) => self.eyes.kernel_line(&line),
            Happened::Something | Happened::Time => {}
            Happened::Signal(Some(Signal::InterfaceGone | Signal::Gone) | None) => self.lose_supplicant().await,
            Happened::Signal(Some(signal)) => {
                let now = self.agent.log.now();
                // Most often it is one that has another name by now; only what is said again after a fresh look counts.
                if signal == Signal::AssocStatus(UNSPECIFIED) && now >= self.forgot_at + RETRY {
                    self.forgot_at = now;
                    self.forget_heard().await;
                    return;
                }
                self.eyes.signal(&signal, now);
            }
            Happened::Order(order) => self.obey(order).await,
        }
    }

    /// Looks, publishes and acts until there is nothing more to do now. True if all is well.
    async fn attend(&mut self) -> bool {
        // A step makes the next one due; a bound, in case two of them disagree.
        for _ in 0..12 {
            let (observations, net) = self.eyes.look(&self.agent, self.supplicant.as_ref(), self.bus.as_ref()).await;
            self.follow_interface(&observations, &net).await;
            let report = self.report(&observations);
            let settled = report.diagnosis.is_none() && report.online;
            let diagnosis = report.diagnosis.clone();
            self.agent.publish(report);
            let now = observations.now;
            let due =
                steps::next(&observations, self.done).filter(|step| self.paused.get(step).is_none_or(|t| *t <= now));
            if let Some(step) = due {
                if let Err(why) = self.take(step, &observations, &net).await {
                    tracing::warn!("{step:?}: {why}");
                    self.paused.insert(step, self.agent.log.now() + STEP_PAUSE);
                }
                continue;
            }
            if self.mend(diagnosis.as_ref(), &observations, &net).await {
                continue;
            }
            return settled;
        }
        false
    }

    /// After a rebind the interface is another one, even if it has the same name.
    async fn follow_interface(&mut self, observations: &Observations, net: &Snapshot) {
        if self.taken.is_some() && self.taken != index_of(observations, net) {
            self.lose_supplicant().await;
        }
    }

    async fn lose_supplicant(&mut self) {
        self.taken = None;
        if let Some(supplicant) = self.supplicant.take() {
            // Without this the object of the interface that is gone stays, and CreateInterface refuses.
            timeout(PATIENCE, supplicant.release()).await.ok();
        }
        self.signals = None;
        self.done.interface_taken = false;
        self.done.joined = false;
        self.done.supplicant_runs = false;
        self.eyes.supplicant = seen::Supplicant::Unasked;
        self.eyes.begin_attempt(self.agent.log.now());
    }

    fn report(&mut self, observations: &Observations) -> NetworkReport {
        let now = observations.now;
        let mut links: Vec<LinkReport> = chain::links(observations);
        for report in &mut links {
            let entry = self.since.entry(report.link).or_insert((report.state, now));
            if entry.0 != report.state {
                *entry = (report.state, now);
            }
            report.since = entry.1;
        }
        let mut diagnosis = diagnose::diagnose(observations);
        match (&diagnosis, self.diagnosed) {
            (Some(found), Some((code, _))) if found.code == code => {}
            (Some(found), _) => self.diagnosed = Some((found.code, now)),
            (None, _) => self.diagnosed = None,
        }
        if let Some(diagnosis) = &mut diagnosis
            && let Some(next) = self.next_attempt(observations, diagnosis)
        {
            diagnosis.next = next;
        }
        NetworkReport {
            online: diagnose::is_online(observations),
            via: diagnose::via(observations),
            links,
            diagnosis,
            warnings: diagnose::warnings(observations),
            tried: self.tried.iter().map(|remedy| remedy.title().to_owned()).collect(),
        }
    }

    /// What will be done, for the person who reads the diagnosis.
    fn next_attempt(&self, observations: &Observations, diagnosis: &Diagnosis) -> Option<String> {
        let next = ladder::next(observations, diagnosis, &self.tried, self.installing(observations))?;
        Some(format!("{}, in a few seconds", next.title()))
    }

    fn installing(&self, observations: &Observations) -> Installing {
        let runs = matches!(self.agent.state(), State::Installing { .. } | State::Receiving);
        let cable = observations.wired.iter().any(|wired| {
            wired.carrier && observations.addresses.iter().any(|address| address.interface == wired.interface)
        });
        match (runs, cable) {
            (false, _) => Installing::No,
            (true, true) => Installing::OverCable,
            (true, false) => Installing::OverWifi,
        }
    }

    async fn take(&mut self, step: Step, observations: &Observations, net: &Snapshot) -> Result<(), String> {
        match step {
            Step::LoadDriver => {
                let driver = "brcmfmac";
                remedy::load_driver(driver).await.map_err(|error| error.to_string())
            }
            Step::StartSupplicant => self.start_supplicant().await,
            Step::PowerSaveOff => {
                let refused = match (&self.eyes.radio, observations.radio.as_ref()) {
                    (Some(netlink), Some(radio)) => match net.interface(&radio.interface) {
                        Some(interface) => netlink.set_power_save(interface.index, false).await.err(),
                        None => None,
                    },
                    _ => None,
                };
                if let Some(error) = refused {
                    self.done.power_save_refused = true;
                    return Err(error.to_string());
                }
                Ok(())
            }
            Step::TakeInterface => {
                self.taken = index_of(observations, net);
                self.take_interface(observations).await
            }
            Step::Join => self.join(observations).await,
        }
    }

    async fn start_supplicant(&mut self) -> Result<(), String> {
        if self.bus.is_none() {
            match services::bus().await {
                Ok(bus) => self.bus = Some(bus),
                Err(error) => tracing::warn!("{error}"),
            }
        }
        let Some(bus) = &self.bus else {
            // The second way: a supplicant that somebody else started, through its control socket.
            self.done.supplicant_runs = true;
            return Ok(());
        };
        for (name, program) in services::RIVALS {
            if matches!(services::name_owner(bus, name).await, Ok(Some(_))) {
                self.eyes.supplicant = seen::Supplicant::Taken { by: (*program).into() };
                return Ok(());
            }
        }
        // Whoever has no networkd running has another way to addresses, or will read this.
        if let Ok(Err(error)) = timeout(PATIENCE, services::start_unit(bus, services::networkd::UNIT)).await {
            tracing::warn!("{error}");
        }
        match timeout(PATIENCE, services::start_unit(bus, supplicant::UNIT)).await {
            Ok(Ok(())) => {
                self.done.supplicant_runs = true;
                Ok(())
            }
            Ok(Err(error)) => {
                self.eyes.supplicant = seen::Supplicant::Absent { why: error.to_string() };
                Err(error.to_string())
            }
            Err(_) => {
                // A bus that does not answer may be another one by now.
                self.bus = None;
                let why = "systemd did not answer".to_owned();
                self.eyes.supplicant = seen::Supplicant::Absent { why: why.clone() };
                Err(why)
            }
        }
    }

    async fn take_interface(&mut self, observations: &Observations) -> Result<(), String> {
        let Some(radio) = &observations.radio else { return Ok(()) };
        let opened = timeout(PATIENCE, Supplicant::open(self.bus.as_ref(), &radio.interface, NL80211)).await;
        match opened {
            Ok(Ok((supplicant, signals))) => {
                self.eyes.sae_pwe =
                    if is_broadcom(&radio.driver) || self.tried.contains(&Remedy::SaeSettings) { 2 } else { 0 };
                self.configure(&supplicant).await;
                self.supplicant = Some(supplicant);
                self.signals = Some(signals);
                self.done.interface_taken = true;
                self.done.joined = false;
                self.eyes.begin_attempt(self.agent.log.now());
                Ok(())
            }
            Ok(Err(SupplicantError::Taken { by })) => {
                self.eyes.supplicant = seen::Supplicant::Taken { by };
                Ok(())
            }
            Ok(Err(error)) => {
                self.eyes.supplicant = seen::Supplicant::Absent { why: error.to_string() };
                self.done.supplicant_runs = false;
                Err(error.to_string())
            }
            Err(_) => {
                self.done.supplicant_runs = false;
                Err("wpa_supplicant did not answer".into())
            }
        }
    }

    fn refused(&self, joining: &Joining) {
        for ssid in &joining.refused {
            let text = format!("wpa_supplicant does not take the network “{ssid}”; it does not say why.");
            self.agent.log.emit(None, EventKind::Warning { text });
        }
    }

    async fn configure(&self, supplicant: &Supplicant) {
        let done = supplicant.configure(self.settings.country.as_deref(), self.eyes.sae_pwe, PMF_WHERE_POSSIBLE).await;
        if let Err(error) = done {
            tracing::warn!("{error}");
        }
    }

    async fn forget_heard(&self) {
        if let Some(supplicant) = &self.supplicant
            && let Err(error) = supplicant.forget_heard().await
        {
            tracing::warn!("{error}");
        }
    }

    async fn join(&mut self, observations: &Observations) -> Result<(), String> {
        let Some(supplicant) = &self.supplicant else { return Ok(()) };
        let interface_can_sae = observations.radio.as_ref().is_some_and(|radio| radio.sae);
        let offer = Offer { interface_can_sae, ..self.offer };
        match timeout(PATIENCE, supplicant.join(&self.settings.networks, offer)).await {
            Ok(Ok(joining)) => {
                self.refused(&joining);
                self.done.joined = true;
                self.retried_at = self.agent.log.now();
                Ok(())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => {
                self.lose_supplicant().await;
                Err("wpa_supplicant did not answer".into())
            }
        }
    }

    /// Tries what may help. True if something was done.
    async fn mend(&mut self, diagnosis: Option<&Diagnosis>, observations: &Observations, net: &Snapshot) -> bool {
        let now = observations.now;
        let Some(diagnosis) = diagnosis else {
            if diagnose::is_online(observations) && !self.tried.is_empty() {
                tracing::info!("the outage is over");
                self.tried.clear();
            }
            self.nudge_gateway(observations, now);
            return false;
        };
        let since = self.diagnosed.map_or(now, |(_, since)| since);
        let effect = self.tried.is_empty() || now >= self.tried_at + REMEDY_EFFECT;
        // What is switched off is switched on at once; all else may heal by itself.
        let patience = if diagnosis.code == Code::RfkillSoft { 0 } else { REMEDY_PATIENCE };
        if now >= since + patience && (effect || diagnosis.code == Code::RfkillSoft) {
            let next = ladder::next(observations, diagnosis, &self.tried, self.installing(observations));
            if let Some(remedy) = next {
                self.tried.push(remedy);
                self.tried_at = now;
                self.agent.log.emit(
                    None,
                    EventKind::Task { text: format!("{}: trying: {}", diagnosis.code.name(), remedy.title()) },
                );
                self.apply(remedy, observations, net).await;
                return true;
            }
        }
        if now >= self.retried_at + RETRY {
            self.retried_at = now;
            tracing::info!("trying again: {}", diagnosis.code.name());
            self.retry(diagnosis, observations, net).await;
        }
        false
    }

    /// Without a remedy: the same again, because access points and passphrases change.
    async fn retry(&mut self, diagnosis: &Diagnosis, observations: &Observations, net: &Snapshot) {
        match diagnosis.link {
            Link::Address | Link::Gateway => {
                if let (Some(bus), Some(radio)) = (&self.bus, &observations.radio)
                    && let Some(interface) = net.interface(&radio.interface)
                    && let Err(error) = if observations.dhcp == seen::Dhcp::Bound {
                        services::renew(bus, interface.index).await
                    } else {
                        services::reconfigure(bus, interface.index).await
                    }
                {
                    tracing::warn!("asking for an address again: {error}");
                }
            }
            Link::Scan | Link::Association | Link::Handshake => {
                // Anew: what it holds against the network until then is forgotten, and what it heard of it.
                self.forget_heard().await;
                self.done.joined = false;
            }
            _ => {}
        }
        if diagnosis.code == Code::GatewaySilent
            && let Some(supplicant) = &self.supplicant
            && let Err(error) = supplicant.reassociate().await
        {
            tracing::warn!("{error}");
        }
    }

    async fn apply(&mut self, remedy: Remedy, observations: &Observations, net: &Snapshot) {
        let result: Result<(), String> = match remedy {
            Remedy::Unblock => rfkill::unblock_wlan().map_err(|error| error.to_string()),
            Remedy::PowerSaveOff => {
                self.done.power_save_refused = false;
                self.take(Step::PowerSaveOff, observations, net).await
            }
            Remedy::SaeSettings => {
                self.eyes.sae_pwe = 2;
                if let Some(supplicant) = &self.supplicant {
                    self.configure(supplicant).await;
                }
                self.done.joined = false;
                Ok(())
            }
            Remedy::DropSae => {
                self.offer.sae = false;
                self.done.joined = false;
                Ok(())
            }
            Remedy::TwoGigahertz => {
                self.offer.only_24ghz = true;
                self.done.joined = false;
                Ok(())
            }
            Remedy::ReloadModule => {
                self.lose_supplicant().await;
                self.eyes.forget_kernel();
                remedy::reload_driver().await.map_err(|error| error.to_string())
            }
            Remedy::RebindSdio => {
                self.lose_supplicant().await;
                self.eyes.forget_kernel();
                remedy::rebind_sdio(&self.eyes.sys).await.map_err(|error| error.to_string())
            }
            Remedy::PowerCycle => Ok(()),
        };
        if let Err(why) = result {
            let text = format!("{} did not work: {why}", remedy.title());
            self.agent.log.emit(None, EventKind::Warning { text });
        }
    }

    /// A gateway that is asked nothing is not known to answer; a link that is stuck shows by its silence.
    fn nudge_gateway(&mut self, observations: &Observations, now: u64) {
        if now >= self.nudged_at + 10_000
            && let Some(gateway) = observations.gateway
        {
            self.nudged_at = now;
            links::poke(gateway.ip);
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Retry => {
                self.agent.log.emit(None, EventKind::Task { text: "trying everything again, as wished".into() });
                self.tried.clear();
                self.paused.clear();
                self.offer = WIDEST;
                self.read_settings();
                self.done.joined = false;
                self.done.supplicant_runs = false;
                self.eyes.supplicant = seen::Supplicant::Unasked;
                self.eyes.begin_attempt(self.agent.log.now());
            }
            Order::Scan => {
                if let Some(supplicant) = &self.supplicant
                    && let Err(error) = supplicant.scan().await
                {
                    self.agent.log.emit(None, EventKind::Warning { text: error.to_string() });
                }
            }
            Order::Join { network, country } => {
                match settings::remember(&self.typed(), network.clone(), country.as_deref()) {
                    Ok(()) => self.read_settings(),
                    Err(error) => {
                        let text =
                            format!("The network could not be saved on the card, and is lost at a reboot: {error}");
                        self.agent.log.emit(None, EventKind::Warning { text });
                        self.settings.networks.retain(|known| known.ssid != network.ssid);
                        self.settings.networks.insert(0, network);
                        self.settings.country = country.or(self.settings.country.take());
                        self.show_settings();
                    }
                }
                self.done.joined = false;
                self.tried.clear();
                self.paused.clear();
                if let Some(supplicant) = &self.supplicant {
                    self.configure(supplicant).await;
                }
                self.eyes.begin_attempt(self.agent.log.now());
            }
        }
    }

    fn read_settings(&mut self) {
        let given = settings::read(Path::new(settings::SETTINGS), &self.agent.places.state);
        for problem in given.problems {
            self.agent.log.emit(None, EventKind::Warning { text: problem.to_string() });
        }
        self.settings = given.settings;
        self.show_settings();
    }

    /// Where the networks are that were typed on the console.
    fn typed(&self) -> PathBuf {
        self.agent.places.state.join(settings::TYPED)
    }

    fn show_settings(&mut self) {
        self.eyes.country.clone_from(&self.settings.country);
        self.eyes.networks = settings::known(&self.settings.networks);
    }
}

fn index_of(observations: &Observations, net: &Snapshot) -> Option<u32> {
    let radio = observations.radio.as_ref()?;
    net.interface(&radio.interface).map(|interface| interface.index)
}

/// The FullMAC driver of all Raspberry Pis.
fn is_broadcom(driver: &str) -> bool {
    driver.starts_with("brcmfmac")
}

async fn next_signal(signals: &mut Option<Receiver<Signal>>) -> Option<Signal> {
    match signals {
        Some(signals) => signals.recv().await,
        None => std::future::pending().await,
    }
}
