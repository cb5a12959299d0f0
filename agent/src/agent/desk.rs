//! What the agent knows of the present installation.

use super::*;

/// Locked for a moment only; never while a disk is looked at.
pub(super) struct Desk {
    pub(super) state: State,
    pub(super) job: Option<Job>,
    pub(super) phase: Phase,
    pub(super) done: Option<Phase>,
    /// Steps of the plan that are done, once the disks are written to.
    pub(super) steps: Option<usize>,
    /// The last step that was seen to be needed, where things are kept.
    pub(super) making: Option<usize>,
    pub(super) tables: BTreeMap<String, String>,
    pub(super) journal: Option<Journal>,
    pub(super) valid: HashSet<StorePath>,
    pub(super) bytes: u64,
    pub(super) parts: Parts,
    /// Store paths and NAR bytes that were copied from the card.
    pub(super) from_card: (u64, u64),
    /// Paths on the card that are not what its database says.
    pub(super) bad_bases: HashSet<StorePath>,
    pub(super) shown: VecDeque<Plan>,
    /// The bridge of the one data channel that is open; shutting it down hangs up.
    pub(super) channel: Option<UnixStream>,
    /// The bridges of those who read the target's store, by numbers that [`Reading`] has.
    pub(super) readers: BTreeMap<u64, UnixStream>,
    /// What a crash has left is being let go of.
    pub(super) clearing: bool,
    /// There is a journal that does not say what of.
    pub(super) unreadable: bool,
    /// How many installations were begun.
    pub(super) run: u64,
    /// The number of the one whose thread there is.
    pub(super) running: Option<u64>,
    /// That thread was told to end, and did not.
    pub(super) left_behind: bool,
}

impl Desk {
    pub(super) fn empty() -> Self {
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
            clearing: false,
            unreadable: false,
            run: 0,
            running: None,
            left_behind: false,
        }
    }

    pub(super) fn add(&mut self, path: StorePath, nar_size: u64) {
        self.parts.remove(&path);
        if self.valid.insert(path) {
            self.bytes += nar_size;
        }
    }

    pub(super) fn remember(&mut self, past: Past) {
        let Past { job, done, steps, making, tables, failed, valid, bytes, parts, damaged: _ } = past;
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
    pub(super) fn resumable(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.plan.is_intact())
            && (self.steps.is_some() || self.done >= Some(Phase::Format))
            && matches!(self.state, State::Failed { .. } | State::Interrupted { .. })
    }

    /// The secrets without which this cannot be gone on with.
    pub(super) fn needed(&self, plan: &Plan) -> Vec<Wanted> {
        if self.done >= Some(Phase::Format) { plan.wanted_again() } else { plan.wanted() }
    }

    pub(super) fn append(&mut self, record: Record) -> Result<(), Fault> {
        match &mut self.journal {
            Some(journal) => journal.append(&[record]).map_err(journal_fault),
            None => Ok(()),
        }
    }
}

pub(super) fn journal_fault(error: std::io::Error) -> Fault {
    Fault::new(
        FaultCode::StepFailed,
        format!("The journal on the card cannot be written: {error}."),
        "The card is full, worn out, or mounted read-only.",
        "Make room on the card, or flash another one.",
    )
}
