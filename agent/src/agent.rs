//! The agent itself: its state, the installation it owns, and its answers to requests.

use crate::card;
use crate::events::{EventLog, lock};
use crate::extra::Stash;
use crate::identity::{self, Identity};
use crate::inspect;
use crate::install;
use crate::journal::{Came, Job, Journal, Parts, Past, Record};
use crate::online::Order;
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
use cygnet_protocol::plan::{Mode, Plan, Wanted, layout_hash};
use cygnet_protocol::secret::GivenSecret;
use cygnet_protocol::store::{Part, PathInfo, StorePath};
use cygnet_protocol::trust::{Keys, Trust};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many shown plans are remembered, to tell a changed disk from a digest out of thin air.
const SHOWN: usize = 16;

/// How long a data channel may take to end after its bridge was told to.
const HANG_UP: Duration = Duration::from_secs(20);

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
    pub vault: Vault,
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
    /// It only fills a store, without an installation.
    receive_only: bool,
    network: Mutex<NetworkReport>,
    desk: Mutex<Desk>,
    /// Signalled when a data channel has completed the closure, or the installation is aborted.
    arrived: Condvar,
}

struct Desk {
    state: State,
    job: Option<Job>,
    phase: Phase,
    done: Option<Phase>,
    /// Steps of the plan that are done, once the disks are written to.
    steps: Option<usize>,
    /// The last step that was seen to be needed, where things are kept.
    making: Option<usize>,
    tables: BTreeMap<String, String>,
    journal: Option<Journal>,
    valid: HashSet<StorePath>,
    bytes: u64,
    parts: Parts,
    /// Store paths and NAR bytes that were copied from the card.
    from_card: (u64, u64),
    /// Paths on the card that are not what its database says.
    bad_bases: HashSet<StorePath>,
    shown: VecDeque<Plan>,
    /// The bridge of the one data channel that is open; shutting it down hangs up.
    channel: Option<UnixStream>,
    /// The bridges of those who read the target's store, by numbers that [`Reading`] has.
    readers: BTreeMap<u64, UnixStream>,
}

/// Somebody reads the target's store; until this is dropped, it is not unmounted.
pub struct Reading<'a> {
    agent: &'a Agent,
    number: u64,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        lock(&self.agent.desk).readers.remove(&self.number);
        self.agent.arrived.notify_all();
    }
}

impl Agent {
    /// Begins where the journal on the card ends.
    pub fn new(identity: Identity, places: Places) -> Arc<Self> {
        let mut desk = Desk::empty();
        let log = EventLog::new();
        match Journal::read(&places.state) {
            Ok(Some(past)) => desk.remember(past),
            Ok(None) => {}
            Err(error) => log.emit(
                None,
                EventKind::Warning {
                    text: format!("The journal of the last installation cannot be read: {error}; starting afresh."),
                },
            ),
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
        Arc::new(Self {
            receive_only,
            orders,
            order_box: Mutex::new(Some(order_box)),
            air: Mutex::default(),
            announce: Mutex::default(),
            looking: Mutex::default(),
            network: Mutex::default(),
            identity,
            log,
            given: card::State::load(&places.state).0,
            cancel: Arc::default(),
            vault: Vault::new(places.secrets.clone()),
            extra: Stash::new(places.extra_files()),
            places,
            desk: Mutex::new(desk),
            arrived: Condvar::new(),
        })
    }

    /// Answers one request. `Follow` is the connection's own business: it only gets its permission here.
    pub fn answer(self: &Arc<Self>, request: Request) -> Reply {
        match self.consider(request) {
            Ok(reply) => reply,
            Err(fault) => Reply::Error(fault),
        }
    }

    fn consider(self: &Arc<Self>, request: Request) -> Result<Reply, Fault> {
        permit(&lock(&self.desk).state, &request)?;
        if self.receive_only
            && let Request::Plan { .. }
            | Request::Install { .. }
            | Request::ExtraFiles { .. }
            | Request::Abort
            | Request::Reboot = request
        {
            return Err(not_now(
                "this agent was started with --receive-only.",
                "Push store paths with `cygnet push HOST …`; for an installation, start the agent's service.",
            ));
        }
        match request {
            Request::Status => Ok(Reply::Status(Box::new(self.status()))),
            Request::Plan { disko, closure, mode } => {
                let plan = self.plan(&disko, closure.as_ref(), mode)?;
                let mut desk = lock(&self.desk);
                if desk.shown.len() == SHOWN {
                    desk.shown.pop_front();
                }
                desk.shown.push_back(plan.clone());
                let secrets = self.vault.look(plan.wanted());
                Ok(Reply::Plan { plan: Box::new(plan), secrets })
            }
            Request::Install { disko, digest, closure, mode, options, secrets } => {
                self.install((&disko, mode), &digest, closure, options, secrets)
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
                Ok(Reply::Accepted { resumed: false })
            }
            Request::Reboot => {
                {
                    // An installation may have begun since the first look; none can begin after this one.
                    let mut desk = lock(&self.desk);
                    permit(&desk.state, &request)?;
                    desk.state = State::Rebooting;
                }
                self.set_state(State::Rebooting);
                install::handover::reboot_soon();
                Ok(Reply::Accepted { resumed: false })
            }
        }
    }

    /// Compiles a layout against the disks as they are now.
    fn plan(&self, disko: &serde_json::Value, closure: Option<&ClosureSummary>, mode: Mode) -> Result<Plan, Fault> {
        if let Some(closure) = closure {
            self.check_closure(closure)?;
        }
        inspect::compile(disko, closure.map(|closure| closure.nar_size), &self.identity.board, mode)
    }

    fn check_closure(&self, closure: &ClosureSummary) -> Result<(), Fault> {
        if closure.system != self.identity.system {
            return Err(Fault::new(
                FaultCode::WrongArchitecture,
                format!("{} is for {}, this Pi is {}.", closure.toplevel, closure.system, self.identity.system),
                "The system was built for the machine that built it, not for the Pi.",
                format!(
                    "Set nixpkgs.hostPlatform = \"{}\" in this host's configuration and build it again.",
                    self.identity.system
                ),
            ));
        }
        cygnet_protocol::store::parse_store_path(&closure.toplevel).map(drop).map_err(|error| {
            Fault::new(
                FaultCode::BadClosure,
                format!("The system to install is no store path: {error}."),
                "It was given by a link or a relative path.",
                "Give the path that `nix build --print-out-paths` prints.",
            )
        })
    }

    fn install(
        self: &Arc<Self>,
        (disko, mode): (&serde_json::Value, Mode),
        digest: &str,
        closure: ClosureSummary,
        options: InstallOptions,
        secrets: Vec<GivenSecret>,
    ) -> Result<Reply, Fault> {
        self.check_closure(&closure)?;
        // Before anything is touched for it.
        Keys::parse(options.trust.public_keys.iter().map(String::as_str))?;
        let layout = layout_hash(disko, mode);
        {
            let mut desk = lock(&self.desk);
            let same =
                desk.job.as_ref().filter(|job| job.layout == layout && digest_matches(&job.digest, digest)).cloned();
            match (&desk.state, same) {
                (State::Installing { .. } | State::Receiving, Some(job))
                    if job.closure.toplevel == closure.toplevel =>
                {
                    return Ok(Reply::Accepted { resumed: true });
                }
                (State::Installing { .. } | State::Receiving, _) => {
                    return Err(not_now(
                        "another installation is running.",
                        "Follow it with `cygnet logs HOST --follow`, or stop it with `cygnet abort HOST`.",
                    ));
                }
                (_, Some(job)) if desk.resumable() => {
                    let wanted = self.vault.look(job.plan.wanted());
                    let needed = self.vault.look(desk.needed(&job.plan));
                    self.vault.check(&wanted, &needed, &secrets)?;
                    self.extra.check(options.extra_files.as_ref(), job.options.extra_files.as_ref())?;
                    let mut journal = Journal::reopen(&self.places.state).map_err(journal_fault)?;
                    let record = Record::Continue { closure: closure.clone(), options: options.clone() };
                    journal.append(&[record]).map_err(journal_fault)?;
                    desk.journal = Some(journal);
                    self.extra.claim(options.extra_files.as_ref());
                    desk.job = Some(Job { closure, options, ..job });
                    desk.done = desk.done.min(Some(Phase::Mount));
                    self.vault.keep(&wanted, secrets).inspect_err(|_| self.extra.forget())?;
                    self.begin(&mut desk, true)?;
                    return Ok(Reply::Accepted { resumed: true });
                }
                _ => {}
            }
        }
        // Compiling looks at the disks, which takes a moment; the desk must not be locked meanwhile.
        let plan = self.plan(disko, Some(&closure), mode)?;
        let mut desk = lock(&self.desk);
        if matches!(desk.state, State::Installing { .. } | State::Receiving | State::Rebooting) {
            return Err(not_now(
                "another installation began a moment ago.",
                "Follow it with `cygnet logs HOST --follow`.",
            ));
        }
        if !plan.digest.matches(digest) {
            return Err(wrong_digest(digest, &plan, desk.shown.iter().find(|shown| shown.digest.matches(digest))));
        }
        let wanted = self.vault.look(plan.wanted());
        self.vault.check(&wanted, &wanted, &secrets)?;
        self.extra.check(options.extra_files.as_ref(), None)?;
        self.vault.keep(&wanted, secrets)?;
        self.extra.claim(options.extra_files.as_ref());
        let job = Job { digest: plan.digest.to_string(), layout, plan, closure, options };
        let journal = Journal::begin(&self.places.state, &job).map_err(journal_fault);
        desk.journal = Some(journal.inspect_err(|_| self.forget_secrets())?);
        desk.job = Some(job);
        desk.valid.clear();
        desk.bytes = 0;
        desk.parts.clear();
        desk.from_card = (0, 0);
        desk.done = None;
        desk.steps = None;
        desk.making = None;
        desk.tables.clear();
        self.begin(&mut desk, false)?;
        Ok(Reply::Accepted { resumed: false })
    }

    fn begin(self: &Arc<Self>, desk: &mut Desk, resumed: bool) -> Result<(), Fault> {
        let Some(job) = desk.job.clone() else { return Ok(()) };
        self.cancel.reset();
        desk.phase = Phase::Inspect;
        desk.state = State::Installing { phase: Phase::Inspect };
        self.log.emit(None, EventKind::StateChanged { to: desk.state.clone() });
        let agent = self.clone();
        let started =
            std::thread::Builder::new().name("install".into()).spawn(move || install::run(&agent, &job, resumed));
        started.map(drop).map_err(|error| {
            self.forget_secrets();
            let fault = Fault::internal("The installation could not be started.", error);
            desk.state = State::Failed { phase: Phase::Inspect, fault: fault.clone() };
            fault
        })
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

    /// Notes in the journal that a phase is done.
    pub fn note_done(&self, phase: Phase) -> Result<(), Fault> {
        let mut desk = lock(&self.desk);
        // A resumed run skips phases that are long done; they take nothing back.
        desk.done = desk.done.max(Some(phase));
        desk.append(Record::Done { phase })
    }

    /// Notes that so many steps of the plan are done and the next may begin.
    pub fn note_steps(&self, done: usize) -> Result<(), Fault> {
        let mut desk = lock(&self.desk);
        if desk.steps == Some(done) {
            return Ok(());
        }
        desk.append(Record::Steps { done })?;
        desk.steps = Some(done);
        Ok(())
    }

    /// Notes that what the step at this place makes is not there, and is made now.
    pub fn note_making(&self, step: usize) -> Result<(), Fault> {
        let mut desk = lock(&self.desk);
        desk.append(Record::Making { step })?;
        desk.making = Some(step);
        Ok(())
    }

    /// The last step that [`Self::note_making`] noted.
    pub fn making(&self) -> Option<usize> {
        lock(&self.desk).making
    }

    /// How many steps of the plan are done, if the disks were written to but not all is formatted.
    pub fn steps_done(&self) -> Option<usize> {
        let desk = lock(&self.desk);
        desk.steps.filter(|_| desk.done < Some(Phase::Format))
    }

    /// Notes the UUIDs of the partition tables that were written, to know the disks again by.
    pub fn note_tables(&self, tables: BTreeMap<String, String>) -> Result<(), Fault> {
        let mut desk = lock(&self.desk);
        desk.tables.clone_from(&tables);
        desk.append(Record::Tables { tables })
    }

    /// What [`Self::note_tables`] noted.
    pub fn tables(&self) -> BTreeMap<String, String> {
        lock(&self.desk).tables.clone()
    }

    /// Notes in the journal that the installation failed.
    pub fn note_failed(&self, phase: Phase, fault: &Fault) {
        let noted = lock(&self.desk).append(Record::Failed { phase, fault: fault.clone() });
        if let Err(error) = noted {
            self.log.emit(Some(phase), EventKind::Warning { text: error.what });
        }
    }

    /// Whether the target store has this path.
    pub fn is_valid(&self, path: &StorePath) -> bool {
        lock(&self.desk).valid.contains(path)
    }

    /// All paths that the target store has.
    pub fn valid_paths(&self) -> Vec<StorePath> {
        lock(&self.desk).valid.iter().cloned().collect()
    }

    /// Which store paths the present installation lets in.
    pub fn trust(&self) -> Trust {
        lock(&self.desk).job.as_ref().map(|job| job.options.trust.clone()).unwrap_or_default()
    }

    /// The file with a [`Record::Path`] for each of them.
    pub fn journal_file(&self) -> PathBuf {
        self.places.state.join(if self.receive_only { "received.jsonl" } else { "journal.jsonl" })
    }

    /// Notes paths that are whole and on the disk.
    pub fn note_valid(&self, infos: Vec<PathInfo>) -> Result<(), Fault> {
        let mut desk = lock(&self.desk);
        if desk.state != State::Receiving {
            // The installation ended under a channel that would not; its target may be unmounted.
            return Err(not_now("the installation has ended.", "Go on with it: `cygnet install HOST …`."));
        }
        let records: Vec<Record> = infos.iter().cloned().map(Record::Path).collect();
        match &mut desk.journal {
            Some(journal) => journal.append(&records).map_err(journal_fault)?,
            None => return Err(not_now("no installation is running.", "Start one with `cygnet install HOST …`.")),
        }
        for info in infos {
            desk.add(info.path, info.nar_size);
        }
        drop(desk);
        // It may be the last one, whoever brought it.
        self.arrived.notify_all();
        Ok(())
    }

    /// Notes what of a path is on the disk; `bytes` 0: that nothing is any more.
    pub fn note_part(&self, info: &PathInfo, bytes: u64) -> Result<(), Fault> {
        let mut desk = lock(&self.desk);
        if desk.state != State::Receiving {
            return Err(not_now("the installation has ended.", "Go on with it: `cygnet install HOST …`."));
        }
        let part = Part { path: info.path.clone(), nar_hash: info.nar_hash.clone(), bytes };
        desk.append(Record::Part(part.clone()))?;
        desk.parts.insert(info.path.clone(), part);
        Ok(())
    }

    /// Notes so many store paths and NAR bytes that came from the card.
    pub fn note_from_card(&self, (paths, bytes): (u64, u64)) {
        let mut desk = lock(&self.desk);
        desk.from_card.0 += paths;
        desk.from_card.1 += bytes;
    }

    /// Notes that nothing can be made of this path on the card.
    pub fn note_bad_base(&self, base: &StorePath) {
        lock(&self.desk).bad_bases.insert(base.clone());
    }

    /// Whether [`Self::note_bad_base`] noted it.
    pub fn is_bad_base(&self, base: &StorePath) -> bool {
        lock(&self.desk).bad_bases.contains(base)
    }

    /// How much of this very archive is on the disk, bytes.
    pub fn part(&self, info: &PathInfo) -> u64 {
        let desk = lock(&self.desk);
        desk.parts.get(&info.path).filter(|part| part.nar_hash == info.nar_hash).map_or(0, |part| part.bytes)
    }

    /// NAR bytes in the target store, `pending` more that are not synced yet, and those of the whole closure, 0 without one.
    pub fn receive_progress(&self, pending: u64) -> (u64, u64) {
        let desk = lock(&self.desk);
        let total = desk.job.as_ref().map_or(0, |job| job.closure.nar_size);
        (of_total(desk.bytes + pending, total), total)
    }

    /// Tells how far receiving is: `done` NAR bytes are in the target store, and this has come.
    pub fn tell_came(&self, (done, total): (u64, u64), came: Arrival) {
        let kind = EventKind::Progress { done: of_total(done, total), total, unit: "bytes".into(), came: Some(came) };
        self.log.emit(Some(Phase::Receive), kind);
    }

    /// Takes part in receiving; refused unless the installation waits for store paths.
    ///
    /// There is one channel at a time. A later one hangs up on the earlier one, which may be a client's whose connection
    /// was cut without sshd having noticed yet.
    pub fn open_channel(&self, bridge: &UnixStream) -> Result<(), Fault> {
        let own =
            bridge.try_clone().map_err(|error| Fault::internal("The data channel could not be opened.", error))?;
        let mut desk = lock(&self.desk);
        if desk.channel.is_some() {
            desk = self.hang_up(desk);
        }
        if desk.channel.is_some() {
            return Err(not_now("another client sends store paths.", "Wait for it, or stop it where it runs."));
        }
        if desk.state != State::Receiving || self.cancel.asked() {
            return Err(not_now(
                "no installation waits for store paths.",
                "Start one with `cygnet install HOST …`, which sends them by itself.",
            ));
        }
        desk.channel = Some(own);
        Ok(())
    }

    /// Keeps the target mounted while somebody reads from its store; refused unless the installation receives paths.
    ///
    /// An installation that goes on does not wait: it hangs up on readers as on the channel.
    pub fn read_target(&self, bridge: &UnixStream) -> Result<Reading<'_>, Fault> {
        let own = bridge.try_clone().map_err(|error| Fault::internal("The store could not be opened.", error))?;
        let mut desk = lock(&self.desk);
        permit(&desk.state, &Request::QueryValid { paths: Vec::new() })?;
        let number = desk.readers.last_key_value().map_or(0, |(last, _)| last + 1);
        desk.readers.insert(number, own);
        Ok(Reading { agent: self, number })
    }

    /// Ends the open channel's bridge, and so the channel; waits until it is gone, [`HANG_UP`] at most.
    fn hang_up<'a>(&self, desk: MutexGuard<'a, Desk>) -> MutexGuard<'a, Desk> {
        if let Some(bridge) = &desk.channel {
            // Already gone is as good.
            let _ = bridge.shutdown(Shutdown::Both);
        }
        let (desk, _) = self
            .arrived
            .wait_timeout_while(desk, HANG_UP, |desk| desk.channel.is_some())
            .unwrap_or_else(PoisonError::into_inner);
        desk
    }

    /// Ends the bridges of those who read the target's store, once no more are let in; waits, [`HANG_UP`] at most.
    fn see_readers_off(&self, desk: MutexGuard<'_, Desk>) {
        for bridge in desk.readers.values() {
            // Already gone is as good.
            let _ = bridge.shutdown(Shutdown::Both);
        }
        let waited = self.arrived.wait_timeout_while(desk, HANG_UP, |desk| !desk.readers.is_empty());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// The end of the data channel: whoever waits for the closure looks whether it is complete.
    pub fn close_channel(&self) {
        lock(&self.desk).channel = None;
        self.arrived.notify_all();
    }

    /// Waits until `toplevel` is in the target store and no channel is open, or an abort is asked for.
    ///
    /// A path is only accepted after all it refers to, so with the toplevel the closure is complete.
    /// Whatever the outcome, no channel is let in any more.
    pub fn wait_for_closure(&self, toplevel: &StorePath) -> Result<(), Fault> {
        let mut desk = lock(&self.desk);
        loop {
            if self.cancel.asked() {
                desk = self.hang_up(desk);
                // Before the clean-up takes the wish to stop back, or a new channel would be let in beside it.
                desk.state = State::Installing { phase: Phase::Receive };
                self.see_readers_off(desk);
                return Err(crate::run::aborted());
            }
            if desk.channel.is_none() && desk.valid.contains(toplevel) {
                // In one go with the look, so that no channel opens in between.
                desk.state = State::Installing { phase: Phase::Receive };
                self.see_readers_off(desk);
                return Ok(());
            }
            desk = self.arrived.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The installation that a crash or a power cut left unfinished, for the clean-up at the start.
    pub fn unfinished(&self) -> Option<Job> {
        let desk = lock(&self.desk);
        matches!(desk.state, State::Interrupted { .. } | State::Failed { .. })
            .then(|| desk.job.clone().filter(|job| job.plan.is_intact()))
            .flatten()
    }
}

impl Desk {
    fn empty() -> Self {
        Self {
            state: State::Waiting,
            job: None,
            phase: Phase::Inspect,
            done: None,
            steps: None,
            making: None,
            tables: BTreeMap::new(),
            journal: None,
            valid: HashSet::new(),
            bytes: 0,
            parts: Parts::new(),
            from_card: (0, 0),
            bad_bases: HashSet::new(),
            shown: VecDeque::new(),
            channel: None,
            readers: BTreeMap::new(),
        }
    }

    fn add(&mut self, path: StorePath, nar_size: u64) {
        self.parts.remove(&path);
        if self.valid.insert(path) {
            self.bytes += nar_size;
        }
    }

    fn remember(&mut self, past: Past) {
        let Past { job, done, steps, making, tables, failed, valid, bytes, parts } = past;
        let next = Phase::ALL.iter().copied().find(|phase| Some(*phase) > done);
        self.phase = next.unwrap_or(Phase::Handover);
        self.state = match failed {
            _ if done >= Some(Phase::Export) => State::Waiting,
            Some((phase, fault)) => {
                self.phase = phase;
                State::Failed { phase, fault }
            }
            None => State::Interrupted { phase: self.phase },
        };
        self.job = Some(job);
        self.done = done;
        self.steps = steps;
        self.making = making;
        self.tables = tables;
        self.valid = valid;
        self.bytes = bytes;
        self.parts = parts;
    }

    /// The disks were written to by a plan that was confirmed, and the new system is not finished.
    fn resumable(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.plan.is_intact())
            && (self.steps.is_some() || self.done >= Some(Phase::Format))
            && matches!(self.state, State::Failed { .. } | State::Interrupted { .. })
    }

    /// The secrets without which this cannot be gone on with.
    fn needed(&self, plan: &Plan) -> Vec<Wanted> {
        if self.done >= Some(Phase::Format) { plan.wanted_again() } else { plan.wanted() }
    }

    fn append(&mut self, record: Record) -> Result<(), Fault> {
        match &mut self.journal {
            Some(journal) => journal.append(&[record]).map_err(journal_fault),
            None => Ok(()),
        }
    }
}

/// Never more than all of it, where that is known. A store may have more than the closure.
fn of_total(done: u64, total: u64) -> u64 {
    if total == 0 { done } else { done.min(total) }
}

fn digest_matches(whole: &str, given: &str) -> bool {
    given.len() >= 12 && whole.starts_with(&given.to_ascii_lowercase())
}

fn journal_fault(error: std::io::Error) -> Fault {
    Fault::new(
        FaultCode::StepFailed,
        format!("The journal on the card cannot be written: {error}."),
        "The card is full, worn out, or mounted read-only.",
        "Make room on the card, or flash another one.",
    )
}

fn wrong_digest(given: &str, now: &Plan, shown: Option<&Plan>) -> Fault {
    match shown {
        Some(shown) => Fault::new(
            FaultCode::DiskChanged,
            format!(
                "A disk is not what it was when the plan {} was shown: {}.",
                shown.digest.short(),
                inspect::difference(shown, now)
            ),
            "Something wrote to it, or another disk was plugged in, between the plan and the installation.",
            "Look at the plan again and confirm the new one: `cygnet plan HOST …`.",
        ),
        None => Fault::new(
            FaultCode::WrongDigest,
            format!(
                "The digest {given:?} belongs to no plan that this agent has shown; the plan for this layout is {}.",
                now.digest.short()
            ),
            "It is from another Pi, another layout, or from before the agent was restarted, or it was mistyped (12 digits at least are needed).",
            "Look at the plan and confirm that one: `cygnet plan HOST …`.",
        ),
    }
}

#[cfg(test)]
pub(crate) mod tests;
