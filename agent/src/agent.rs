//! The agent itself: its state, the installation it owns, and its answers to requests.
//!
//! `desk` has what it knows of the installation, `begin` begins one, `notes` goes on with the journal, `channels` are those by
//! which store paths come, and `ends` is how an installation ends that does not end by itself, and the Pi with it.

use crate::card;
use crate::events::{EventLog, lock};
use crate::extra::Stash;
use crate::identity::{self, Identity};
use crate::inspect;
use crate::install;
use crate::journal::{Came, JOURNAL, Job, Journal, Parts, Past, Record};
use crate::online::Order;
use crate::reboot;
use crate::rules::{not_now, permit};
use crate::run::Cancel;
use crate::secrets::Vault;
use crate::store::{database, kept, local};
use crate::substitute;
use cygnet_protocol::event::{Arrival, EventKind, JobStatus, Phase, State};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::message::{ClosureSummary, InstallOptions, Reply, Request, Status};
use cygnet_protocol::online::diagnosis::{Diagnosis, without_counts};
use cygnet_protocol::online::link::NetworkReport;
use cygnet_protocol::online::observation::{Announce, Bss};
use cygnet_protocol::plan::{Action, Mode, Plan, Wanted, layout_hash};
use cygnet_protocol::secret::GivenSecret;
use cygnet_protocol::store::{Part, PathInfo, StorePath};
use cygnet_protocol::trust::{Keys, Trust};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

mod begin;
mod channels;
mod desk;
mod ends;
mod notes;

use desk::Desk;

/// How many shown plans are remembered, to tell a changed disk from a digest out of thin air.
const SHOWN: usize = 16;

/// Where things are; the tests put them elsewhere.
#[derive(Debug, Clone)]
pub struct Places {
    /// The installation's journal and nothing else.
    pub state: PathBuf,
    /// Where the target is mounted.
    pub target: PathBuf,
    /// The root of the system that the Pi runs from: its store is a source.
    pub card: PathBuf,
    /// Where secrets are while they are needed: in memory.
    pub secrets: PathBuf,
}

impl Places {
    /// Where extra files are until they are laid over the target: in memory, beside the secrets.
    pub fn extra_files(&self) -> PathBuf {
        self.secrets.with_file_name("extra-files")
    }
}

/// The one agent of this machine.
pub struct Agent {
    /// Who this Pi is.
    pub identity: Identity,
    /// What happened.
    pub log: EventLog,
    /// Stops the running installation.
    pub cancel: Arc<Cancel>,
    /// Where things are.
    pub places: Places,
    /// What the settings on the card's FAT partition say.
    pub given: card::State,
    /// The secrets of the present installation.
    pub vault: Arc<Vault>,
    /// The extra files of the present installation.
    pub extra: Stash,
    /// What a person at the console wants of the supervisor of the network.
    pub orders: tokio::sync::mpsc::UnboundedSender<Order>,
    /// The other end, until the supervisor takes it.
    pub order_box: Mutex<Option<tokio::sync::mpsc::UnboundedReceiver<Order>>>,
    /// What is in the air, as last scanned.
    pub air: Mutex<Vec<Bss>>,
    /// When we announced ourselves, and when we heard others.
    pub announce: Mutex<Announce>,
    /// Held while a kept store is read; then the target must stay mounted.
    pub looking: Mutex<()>,
    /// Held while store paths are copied from the card.
    pub copying: Mutex<()>,
    /// The Pi is restarted, whatever it takes.
    forcing: AtomicBool,
    /// The agent was told to end.
    ending: AtomicBool,
    /// It only fills a store, without an installation.
    receive_only: bool,
    network: Mutex<NetworkReport>,
    desk: Mutex<Desk>,
    /// Signalled when a data channel has completed the closure, or the installation is aborted.
    arrived: Condvar,
}

impl Agent {
    /// Begins where the journal on the card ends.
    pub fn new(identity: Identity, places: Places) -> Arc<Self> {
        let mut desk = Desk::empty();
        let log = EventLog::new();
        match Journal::read(&places.state) {
            Ok(Some(past)) => {
                if past.damaged > 0 {
                    let text = format!(
                        "{} line(s) of the journal of the last installation cannot be read: the card is failing, or the power went \
                         while it was written. The others count; what is missing is done again.",
                        past.damaged
                    );
                    log.emit(None, EventKind::Warning { text });
                }
                desk.remember(past);
            }
            Ok(None) => {}
            Err(error) => {
                // What it has left is mounted, maybe, and nobody knows what it is.
                desk.unreadable = true;
                let text = format!(
                    "The journal of the last installation cannot be read: {error}. The card is failing, or somebody has changed \
                     {JOURNAL}. That installation cannot be gone on with; what is mounted in the target's place is let go of, and \
                     anything else it uses by a reboot."
                );
                log.emit(None, EventKind::Warning { text });
            }
        }
        Self::with(identity, places, desk, log, false)
    }

    /// One that takes store paths into the target from the start, and does nothing else.
    ///
    /// # Errors
    /// If the list of what came before cannot be read or written.
    pub fn receive_only(identity: Identity, places: Places) -> std::io::Result<Arc<Self>> {
        std::fs::create_dir_all(places.target.join("nix/store"))?;
        let mut desk = Desk::empty();
        let journal = Journal::collect(&places.state, |came| match came {
            Came::Whole(info) => desk.add(info.path, info.nar_size),
            Came::InPart(part) => {
                desk.parts.insert(part.path.clone(), part);
            }
        })?;
        desk.journal = Some(journal);
        desk.phase = Phase::Receive;
        desk.state = State::Receiving;
        Ok(Self::with(identity, places, desk, EventLog::new(), true))
    }

    fn with(identity: Identity, places: Places, desk: Desk, log: EventLog, receive_only: bool) -> Arc<Self> {
        let (orders, order_box) = tokio::sync::mpsc::unbounded_channel();
        let vault = Arc::new(Vault::new(places.secrets.clone()));
        log.strike_out({
            let vault = vault.clone();
            Box::new(move |line| vault.strike_out(line))
        });
        Arc::new(Self {
            forcing: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            receive_only,
            orders,
            order_box: Mutex::new(Some(order_box)),
            air: Mutex::default(),
            announce: Mutex::default(),
            looking: Mutex::default(),
            copying: Mutex::default(),
            network: Mutex::default(),
            identity,
            log,
            given: card::State::load(&places.state).0,
            cancel: Arc::default(),
            vault,
            extra: Stash::new(places.extra_files()),
            places,
            desk: Mutex::new(desk),
            arrived: Condvar::new(),
        })
    }

    /// Answers one request. `Follow` is the connection's own business: it only gets its permission here.
    /// With `hooks`, plans may have them.
    pub fn answer(self: &Arc<Self>, request: Request, hooks: bool) -> Reply {
        match self.consider(request, hooks) {
            Ok(reply) => reply,
            Err(fault) => Reply::Error(fault),
        }
    }

    fn consider(self: &Arc<Self>, request: Request, hooks: bool) -> Result<Reply, Fault> {
        permit(&lock(&self.desk).state, &request)?;
        if self.receive_only
            && let Request::Plan { .. }
            | Request::Install { .. }
            | Request::ExtraFiles { .. }
            | Request::Abort
            | Request::Reboot { .. } = request
        {
            return Err(not_now(
                "this agent was started with --receive-only.",
                "Push store paths with `cygnet push HOST …`; for an installation, start the agent's service.",
            ));
        }
        if matches!(request, Request::Plan { .. } | Request::Install { .. }) {
            self.after_clearing()?;
        }
        match request {
            Request::Status => Ok(Reply::Status(Box::new(self.status()))),
            Request::Plan { disko, closure, mode, boot_from } => {
                let (plan, boot) = self.plan(&disko, closure.as_ref(), (mode, boot_from))?;
                hooks_allowed(&plan, hooks)?;
                let mut desk = lock(&self.desk);
                if desk.shown.len() == SHOWN {
                    desk.shown.pop_front();
                }
                desk.shown.push_back(plan.clone());
                let secrets = self.vault.look(plan.wanted());
                Ok(Reply::Plan { plan: Box::new(plan), secrets, boot })
            }
            Request::Install { disko, digest, closure, mode, options, secrets } => {
                self.install((&disko, mode), &digest, closure, options, (secrets, hooks))
            }
            Request::ExtraFiles { id, at, total, bytes } => {
                self.extra.take(id, at, total, &bytes)?;
                Ok(Reply::Accepted { resumed: false })
            }
            Request::QueryValid { paths } => {
                let keeps = lock(&self.desk).job.as_ref().is_some_and(|job| job.plan.mode.keeps());
                if keeps {
                    kept::adopt(self, &paths)?;
                }
                // Clients ask for the system alone first, and that the card never has.
                let kin = if paths.len() > 1 { local::copy(self, &paths)? } else { Vec::new() };
                let desk = lock(&self.desk);
                let parts = paths.iter().filter_map(|path| desk.parts.get(path)).cloned().collect();
                let paths = paths.into_iter().filter(|path| desk.valid.contains(path)).collect();
                let from_card = desk.from_card;
                // Of a kept store, or the card's, one never knows before one has asked.
                let empty =
                    !keeps && desk.valid.is_empty() && desk.parts.is_empty() && !database::is_there(&self.places.card);
                Ok(Reply::Valid { paths, parts, empty, card_paths: from_card.0, card_bytes: from_card.1, kin })
            }
            Request::Substitute { paths, substituters, public_keys } => {
                substitute::serve(self, &paths, &substituters, &public_keys)
            }
            Request::Follow { .. } => Ok(Reply::Accepted { resumed: false }),
            Request::Disks => {
                let busy = matches!(lock(&self.desk).state, State::Installing { .. } | State::Receiving);
                inspect::list(busy).map(Reply::Disks)
            }
            Request::Abort => {
                // With the lock, whoever waits for the closure has either seen this or is waiting to be woken.
                let desk = lock(&self.desk);
                self.cancel.ask();
                self.arrived.notify_all();
                drop(desk);
                self.see_abort_through();
                Ok(Reply::Accepted { resumed: false })
            }
            Request::Reboot { force } => {
                self.reboot(force)?;
                Ok(Reply::Accepted { resumed: false })
            }
        }
    }

    /// Removes what was given for the present installation only: nobody needs it any more.
    pub fn forget_secrets(&self) {
        self.vault.forget();
        self.extra.forget();
    }

    /// The state's name, or `None` while somebody is busy with the state: the watchdog must not wait for a slow card.
    pub fn state_name(&self) -> Option<&'static str> {
        self.desk.try_lock().ok().map(|desk| desk.state.name())
    }

    /// What the agent is doing.
    pub fn state(&self) -> State {
        lock(&self.desk).state.clone()
    }

    /// The phase of the present installation.
    pub fn phase(&self) -> Phase {
        lock(&self.desk).phase
    }

    /// What `status` tells.
    pub fn status(&self) -> Status {
        let host_keys = identity::host_keys(std::path::Path::new("/etc/ssh"));
        let addresses = identity::addresses();
        let running_disk = inspect::running_disk();
        let desk = lock(&self.desk);
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            host_name: self.identity.host_name.clone(),
            board: self.identity.board.clone(),
            serial: self.identity.serial.clone(),
            system: self.identity.system.clone(),
            state: desk.state.clone(),
            job: desk.job.as_ref().map(|job| JobStatus {
                digest: job.digest.clone(),
                layout: job.layout.clone(),
                toplevel: job.closure.toplevel.clone(),
                phase: desk.phase,
                resumable: desk.resumable(),
                paths_done: desk.valid.len() as u64,
                bytes_done: desk.bytes,
                secrets: match desk.resumable() {
                    true => self.vault.look(desk.needed(&job.plan)),
                    false => Vec::new(),
                },
                extra_files: job.options.extra_files.as_ref().map(|extra| extra.count),
            }),
            running_disk,
            uptime_seconds: identity::uptime_seconds(),
            memory_total: identity::memory_total(),
            memory_available: identity::memory_available(),
            agent_peak_memory: identity::peak_memory(),
            host_keys,
            addresses,
            network: Some(self.network()).filter(|network| !network.links.is_empty()),
            claim: self.given.claim.clone(),
            target: self.given.target.clone(),
        }
    }

    /// The way online as it was last seen.
    pub fn network(&self) -> NetworkReport {
        lock(&self.network).clone()
    }

    /// Notes how the way online is now, and tells everyone what of it is news.
    pub fn publish(&self, now: NetworkReport) {
        let before = std::mem::replace(&mut *lock(&self.network), now.clone());
        for report in &now.links {
            let known = before.links.iter().find(|old| old.link == report.link);
            if known.is_none_or(|old| (old.state, &old.detail) != (report.state, &report.detail)) {
                self.log.emit(None, EventKind::Link { report: report.clone() });
            }
        }
        let told = |report: &NetworkReport| -> Vec<Diagnosis> {
            report.diagnosis.iter().chain(&report.warnings).cloned().collect()
        };
        let old = told(&before);
        for diagnosis in told(&now) {
            // What is told anew is another fault, or another network's.
            let gist = |told: &Diagnosis| (told.code, without_counts(&told.what));
            if !old.iter().any(|known| gist(known) == gist(&diagnosis)) {
                self.log.emit(None, EventKind::Diagnosed { diagnosis });
            }
        }
        if (now.online, &now.via) != (before.online, &before.via) {
            self.log.emit(None, EventKind::Online { online: now.online, via: now.via });
        }
    }

    /// Changes the state and tells everyone.
    pub fn set_state(&self, state: State) {
        let mut desk = lock(&self.desk);
        if let State::Installing { phase } | State::Failed { phase, .. } = &state {
            desk.phase = *phase;
        }
        desk.state = state.clone();
        drop(desk);
        self.log.emit(None, EventKind::StateChanged { to: state });
    }

    /// Notes that the SSD was to run, and the card runs. What was begun since is not disturbed.
    pub fn came_back(&self, fault: Fault) {
        let phase = Phase::Handover;
        let mut desk = lock(&self.desk);
        if desk.state != State::Waiting {
            drop(desk);
            self.log.emit(None, EventKind::Warning { text: fault.what });
            return;
        }
        desk.phase = phase;
        desk.state = State::Failed { phase, fault: fault.clone() };
        let to = desk.state.clone();
        drop(desk);
        self.log.emit(Some(phase), EventKind::Failed { fault });
        self.log.emit(None, EventKind::StateChanged { to });
    }

    /// The installation that a crash or a power cut left unfinished, for the clean-up at the start.
    pub fn unfinished(&self) -> Option<Job> {
        let desk = lock(&self.desk);
        matches!(desk.state, State::Interrupted { .. } | State::Failed { .. })
            .then(|| desk.job.clone().filter(|job| job.plan.is_intact()))
            .flatten()
    }
}

/// Refuses a plan that runs somebody's scripts, if this connection may not have that.
fn hooks_allowed(plan: &Plan, allowed: bool) -> Result<(), Fault> {
    let is_script = |action: &Action| matches!(action, Action::Script { .. });
    match plan.steps.iter().find(|step| step.actions().iter().any(is_script)) {
        Some(step) if !allowed => Err(Fault::new(
            FaultCode::HooksRefused,
            format!("The plan has a hook, which this connection may not run: “{}”.", step.sentence()),
            "Its ssh key is tied to `cygnetd bridge --no-hooks` in authorized_keys on the Pi.",
            "Take the hooks out of the layout, or connect with a key that is not so tied.",
        )),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
