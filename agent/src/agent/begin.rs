//! How an installation begins, or is gone on with: with the digest of the plan that was shown.

use super::desk::journal_fault;
use super::*;
use crate::boot::arm;
use cygnet_protocol::message::BootFrom;

impl Agent {
    /// Compiles a layout against the disks as they are now.
    pub(super) fn plan(
        &self,
        disko: &serde_json::Value,
        closure: Option<&ClosureSummary>,
        (mode, boot_from): (Mode, Option<BootFrom>),
    ) -> Result<(Plan, Option<String>), Fault> {
        if let Some(closure) = closure {
            self.check_closure(closure)?;
        }
        let board = &self.identity.board;
        let compile =
            |from_card| inspect::compile(disko, closure.map(|closure| closure.nar_size), board, mode, from_card);
        let alone = "from the SSD alone: pull the card when the Pi reboots, or it starts that again";
        let why = match boot_from {
            None => return Ok((compile(false)?, None)),
            Some(BootFrom::Ssd) => alone.to_owned(),
            Some(BootFrom::Auto | BootFrom::Card) => {
                // Which disks are meant, and so what the card can do for them, is known with the plan.
                let plan = compile(true)?;
                let way = arm::way_of(&plan, board);
                match arm::possible(&way, board) {
                    Ok(()) => return Ok((plan, Some(way.sentence(board)))),
                    Err(fault) if boot_from == Some(BootFrom::Card) => return Err(fault),
                    Err(fault) => format!("{alone}. {} {}", fault.what, fault.cause),
                }
            }
        };
        Ok((compile(false)?, Some(why)))
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

    pub(super) fn install(
        self: &Arc<Self>,
        (disko, mode): (&serde_json::Value, Mode),
        digest: &str,
        closure: ClosureSummary,
        options: InstallOptions,
        (secrets, hooks): (Vec<GivenSecret>, bool),
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
                    hooks_allowed(&job.plan, hooks)?;
                    let wanted = self.vault.look(job.plan.wanted());
                    let needed = self.vault.look(desk.needed(&job.plan));
                    self.vault.check(&wanted, &needed, &secrets)?;
                    self.extra.claim(options.extra_files.as_ref(), job.options.extra_files.as_ref())?;
                    let noted = Journal::reopen(&self.places.state).and_then(|mut journal| {
                        let record = Record::Continue { closure: closure.clone(), options: options.clone() };
                        journal.append(&[record]).map(|()| journal)
                    });
                    let noted = noted.inspect_err(|_| self.extra.forget()).map_err(journal_fault)?;
                    desk.journal = Some(noted);
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
        let (plan, _) = self.plan(disko, Some(&closure), (mode, options.boot_from))?;
        hooks_allowed(&plan, hooks)?;
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
        self.extra.claim(options.extra_files.as_ref(), None)?;
        self.vault.keep(&wanted, secrets).inspect_err(|_| self.extra.forget())?;
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
        let (agent, number) = (self.clone(), Self::runs(desk));
        let work = move || {
            install::run(&agent, &job, resumed);
            agent.ran(number);
            if agent.state() == State::Rebooting && !agent.is_forcing() {
                reboot::restart(&agent, State::Installed);
            }
        };
        let started = std::thread::Builder::new().name("install".into()).spawn(work);
        started.map(drop).map_err(|error| {
            self.forget_secrets();
            desk.running = None;
            let fault = Fault::internal("The installation could not be started.", error);
            desk.state = State::Failed { phase: Phase::Inspect, fault: fault.clone() };
            fault
        })
    }
}

pub(super) fn digest_matches(whole: &str, given: &str) -> bool {
    given.len() >= 12 && whole.starts_with(&given.to_ascii_lowercase())
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
