//! The installation: one phase after the other, each with its own file, none skipped in silence.
//!
//! [`steps`] carries out the plan (destroy, partition, format, mount), [`blank`] proves that a destroyed disk is blank, [`keep`]
//! looks whether something is there already,
//! [`crate::store::receive`] fills the store,
//! [`register`] tells the target's Nix, [`carry`] gives the networks that the card has, [`provenance`] who signed what of it,
//! [`extra`] lays over it the files that the client has sent, [`given_keys`] looks at those that are ssh host keys, [`activate`] runs the new system's own scripts inside the target, [`verify`] sees
//! that it will boot, [`export`] lets go of the disks and proves it, [`handover`] reboots.

pub mod activate;
mod blank;
mod carry;
pub mod export;
mod extra;
mod given_keys;
pub mod handover;
mod keep;
mod provenance;
pub mod register;
pub mod steps;
pub mod verify;

use crate::agent::Agent;
use crate::inspect;
use crate::journal::Job;
use crate::run::tool::LOOK;
use crate::run::{RunError, Runner};
use crate::store::{import::sweep, kept};
use cygnet_protocol::event::{EventKind, Phase, State};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::plan::{GoOn, Stage, Step};
use cygnet_protocol::store::{StorePath, parse_store_path};
use std::sync::TryLockError;
use std::time::{Duration, Instant};

/// What a phase came to.
pub enum Outcome {
    /// It did its work.
    Done,
    /// It had none.
    Skipped(String),
}

/// Runs the phases to the end or to the first failure; always leaves the disks free.
pub fn run(agent: &Agent, job: &Job, resumed: bool) {
    let begin = match agent.steps_done() {
        _ if !resumed => Begin::Anew,
        Some(done) => Begin::InTheLayout(job.plan.go_on(done, agent.making())),
        None => Begin::Formatted,
    };
    let mut installation = Installation { agent, job, resumed, begin, inside: None };
    for phase in Phase::ALL.iter().copied() {
        if phase == Phase::Handover {
            // The disks are closed; nothing needs opening any more.
            agent.forget_secrets();
        }
        if let Err(fault) = installation.enter_phase(phase) {
            agent.log.emit(Some(phase), EventKind::Failed { fault: fault.clone() });
            agent.note_failed(phase, &fault);
            installation.inside = None;
            agent.cancel.reset();
            // Up to there nothing is ours yet that could be let go of; what is mounted is somebody else's.
            if resumed || phase > Phase::Destroy {
                export::release(agent, &job.plan);
            }
            agent.forget_secrets();
            agent.set_state(State::Failed { phase, fault });
            return;
        }
    }
}

/// Where a run begins.
enum Begin {
    /// With disks that are not ours yet.
    Anew,
    /// In the middle of making the layout.
    InTheLayout(GoOn),
    /// After the layout was made.
    Formatted,
}

/// One run through the phases.
pub struct Installation<'a> {
    /// The agent whose installation it is.
    pub agent: &'a Agent,
    /// What is installed where.
    pub job: &'a Job,
    /// It goes on with what was begun before, maybe before a restart.
    pub resumed: bool,
    begin: Begin,
    /// The process inside the target's namespaces, from activation until the boot loader is done.
    pub inside: Option<activate::Inside>,
}

impl Installation<'_> {
    fn enter_phase(&mut self, phase: Phase) -> Result<(), Fault> {
        if self.agent.cancel.asked() {
            return Err(crate::run::aborted());
        }
        let begin = Instant::now();
        self.agent.set_state(State::Installing { phase });
        self.agent.log.emit(Some(phase), EventKind::PhaseStarted);
        if let Outcome::Skipped(why) = self.perform(phase)? {
            self.agent.log.emit(Some(phase), EventKind::Skipped { why });
        }
        self.agent.note_done(phase)?;
        let took = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.agent.log.emit(Some(phase), EventKind::PhaseFinished { took });
        Ok(())
    }

    fn perform(&mut self, phase: Phase) -> Result<Outcome, Fault> {
        match phase {
            Phase::Inspect | Phase::Plan | Phase::Confirmed if self.resumed => {
                Ok(Outcome::Skipped("it goes on with the interrupted installation".into()))
            }
            // Done before the installation was accepted, and what it is accepted for; shown here for the record.
            Phase::Inspect => Ok(self.task(format!("{} target disk(s) looked at", self.job.plan.disks.len()))),
            Phase::Plan => Ok(self.task(format!("{} steps", self.job.plan.steps.len()))),
            Phase::Confirmed => Ok(self.task(format!("the digest is {}", self.job.plan.digest))),

            Phase::Destroy | Phase::Partition | Phase::Format if matches!(self.begin, Begin::Formatted) => {
                Ok(Outcome::Skipped("the layout is kept".into()))
            }
            Phase::Destroy => {
                inspect::tools_are_there(&self.job.plan)?;
                match &self.begin {
                    Begin::Anew => {
                        inspect::unchanged(&self.job.plan, false)?;
                        if self.job.plan.mode.keeps() {
                            // Tables that are kept are what the disks are known again by.
                            self.agent.note_tables(inspect::tables(&self.job.plan)?)?;
                        }
                    }
                    Begin::InTheLayout(_) | Begin::Formatted => self.take_up()?,
                }
                self.stage(phase, Stage::Destroy)
            }
            Phase::Partition => self.stage(phase, Stage::Partition),
            Phase::Format => {
                if let Begin::InTheLayout(GoOn { open, clear, .. }) = &self.begin {
                    steps::carry_out(self, phase, open, None)?;
                    steps::carry_out(self, phase, clear, None)?;
                }
                let outcome = self.stage(phase, Stage::Format)?;
                self.agent.note_tables(inspect::tables(&self.job.plan)?)?;
                Ok(outcome)
            }
            Phase::Mount if matches!(self.begin, Begin::Formatted) => {
                self.take_up()?;
                steps::carry_out(self, phase, &self.job.plan.remount(), None)?;
                Ok(Outcome::Done)
            }
            Phase::Mount => self.stage(phase, Stage::Mount),

            Phase::Receive => self.receive(),
            Phase::Register => register::register(self),
            Phase::Activate => activate::activate(self),
            Phase::Bootloader => activate::install_boot_loader(self),
            Phase::Firmware => verify::firmware(self),
            Phase::Verify => verify::boot_files(self),
            Phase::Export => export::export(self),
            Phase::Handover => handover::hand_over(self),
        }
    }

    /// Sees that the disks are those on which it was begun, and lets go of what is still open on them.
    fn take_up(&self) -> Result<(), Fault> {
        inspect::unchanged(&self.job.plan, true)?;
        let written = self.agent.tables();
        inspect::same_tables(&self.job.plan, &written)?;
        if matches!(self.begin, Begin::InTheLayout(_)) {
            inspect::only_rests(&self.job.plan, &written, self.agent.steps_done().unwrap_or_default())?;
        }
        export::release(self.agent, &self.job.plan);
        Ok(())
    }

    fn stage(&mut self, phase: Phase, stage: Stage) -> Result<Outcome, Fault> {
        let from = match &self.begin {
            Begin::InTheLayout(go_on) => go_on.from,
            Begin::Anew | Begin::Formatted => 0,
        };
        // The stages of a plan never go back, so that the steps of one are next to each other.
        let all = || self.job.plan.steps.iter().enumerate().filter(|(_, step)| step.phase() == stage);
        let left: Vec<_> = all().filter(|(at, _)| *at >= from).collect();
        let Some((first, _)) = left.first() else {
            let why = if all().next().is_some() {
                "that was done before the interruption"
            } else {
                "the plan has no such steps"
            };
            return Ok(Outcome::Skipped(why.into()));
        };
        let first = *first;
        let steps: Vec<Step> = left.into_iter().map(|(_, step)| step.clone()).collect();
        steps::carry_out(self, phase, &steps, Some(first))?;
        Ok(Outcome::Done)
    }

    fn receive(&mut self) -> Result<Outcome, Fault> {
        if self.job.plan.mode.keeps() {
            kept::prepare(self)?;
        }
        let store = self.agent.places.target.join("nix/store");
        std::fs::create_dir_all(&store).map_err(|e| self.io_fault(&format!("creating {}", store.display()), &e))?;
        let toplevel = self.toplevel()?;
        if self.agent.is_valid(&toplevel) {
            return Ok(Outcome::Skipped("the closure is there already, from the interrupted installation".into()));
        }
        self.agent.set_state(State::Receiving);
        let arrived = self.agent.wait_for_closure(&toplevel);
        // Whoever still reads a kept store stops now; until then the target stays mounted.
        let_readers_end(self.agent);
        arrived?;
        // Of other closures, whose installation was not gone on with.
        sweep(&store).map_err(|e| self.io_fault("removing parts of store paths that are not wanted any more", &e))?;
        self.agent.set_state(State::Installing { phase: Phase::Receive });
        Ok(Outcome::Done)
    }

    /// The store path of the system being installed.
    pub fn toplevel(&self) -> Result<StorePath, Fault> {
        let text = &self.job.closure.toplevel;
        parse_store_path(text).map_err(|e| {
            Fault::new(
                FaultCode::BadClosure,
                format!("The system to install is no store path: {e}."),
                "The client sent something else.",
                "Give the path that `nix build --print-out-paths` prints.",
            )
        })
    }

    /// Says what is being done.
    pub fn task(&self, text: impl Into<String>) -> Outcome {
        let phase = self.phase();
        self.agent.log.emit(phase, EventKind::Task { text: text.into() });
        Outcome::Done
    }

    /// Warns.
    pub fn warn(&self, text: impl Into<String>) {
        self.agent.log.emit(self.phase(), EventKind::Warning { text: text.into() });
    }

    fn phase(&self) -> Option<Phase> {
        Some(self.agent.phase())
    }

    /// Runs tools for a phase.
    pub fn runner(&self, phase: Phase) -> Runner<'_> {
        Runner { log: &self.agent.log, phase: Some(phase), cancel: &self.agent.cancel }
    }

    /// A failure of the file system while `doing` something.
    pub fn io_fault(&self, doing: &str, error: &std::io::Error) -> Fault {
        Fault::new(
            FaultCode::StepFailed,
            format!("It failed while {doing}: {error}."),
            "The target disk is full, faulty, or not mounted as the plan says.",
            "Look at the agent's log: `cygnet logs HOST`.",
        )
    }
}

/// How long who reads a kept store may take to stop. It looks at the wish to stop between two files.
const TO_STOP_LOOKING: Duration = Duration::from_secs(60);

/// Waits until nobody reads the target's store, but not for somebody whom a disk keeps.
fn let_readers_end(agent: &Agent) {
    let begun = Instant::now();
    while matches!(agent.looking.try_lock(), Err(TryLockError::WouldBlock)) && begun.elapsed() < TO_STOP_LOOKING {
        std::thread::sleep(LOOK);
    }
}

/// A tool's failure as the failure of a step.
pub fn step_fault(error: RunError, doing: &str) -> Fault {
    error.fault(FaultCode::StepFailed, doing)
}
