//! What is remembered of an installation, and what may be gone on with.

use super::begin::digest_matches;
use super::*;
use cygnet_protocol::extra::{Count, ExtraFiles};
use cygnet_protocol::plan::{HookTime, Stage, Step};

#[test]
fn a_digest_may_be_shortened_but_not_too_much() {
    let whole = "0123456789abcdef0123456789abcdef";
    assert!(digest_matches(whole, "0123456789ab"));
    assert!(digest_matches(whole, "0123456789ABCDEF"));
    assert!(!digest_matches(whole, "0123456789a"));
    assert!(!digest_matches(whole, "1123456789ab"));
}

/// An agent that receives store paths into a directory.
pub(crate) fn receiving(directory: &std::path::Path) -> Arc<Agent> {
    let places = Places {
        state: directory.join("state"),
        target: directory.join("mnt"),
        card: directory.join("card"),
        secrets: directory.join("secrets"),
    };
    std::fs::create_dir_all(places.target.join("nix/store")).unwrap();
    let agent = Agent::new(Identity::read(), places);
    let mut desk = lock(&agent.desk);
    desk.journal = Some(Journal::begin(&agent.places.state, &crate::journal::tests::job()).unwrap());
    desk.state = State::Receiving;
    desk.valid.clear();
    drop(desk);
    agent
}

fn desk(done: Option<Phase>, failed: Option<Phase>) -> Desk {
    let fault = || Fault::new(FaultCode::StepFailed, "w", "c", "r");
    let mut desk = Desk::empty();
    desk.remember(Past {
        job: crate::journal::tests::job(),
        done,
        steps: None,
        making: None,
        tables: BTreeMap::new(),
        failed: failed.map(|phase| (phase, fault())),
        valid: HashSet::new(),
        bytes: 7,
        parts: Parts::new(),
        damaged: 0,
    });
    desk
}

#[test]
fn an_installation_is_gone_on_with_only_between_format_and_export() {
    for done in [None].into_iter().chain(Phase::ALL.iter().copied().map(Some)) {
        let finished = done >= Some(Phase::Export);
        let desk = desk(done, None);
        assert_eq!(matches!(desk.state, State::Waiting), finished, "{done:?}");
        assert_eq!(matches!(desk.state, State::Interrupted { phase } if Some(phase) > done), !finished, "{done:?}");
        assert_eq!(desk.resumable(), done >= Some(Phase::Format) && !finished, "{done:?}");
        assert_eq!(desk.bytes, 7);
    }
    assert_eq!(desk(None, None).phase, Phase::Inspect);
    assert_eq!(desk(Some(Phase::Handover), None).phase, Phase::Handover);
}

#[test]
fn a_failure_is_remembered_with_its_phase() {
    let formatting = desk(Some(Phase::Partition), Some(Phase::Format));
    assert!(matches!(formatting.state, State::Failed { phase: Phase::Format, .. }));
    assert!(!formatting.resumable(), "nothing was written");
    let mut begun = desk(Some(Phase::Partition), Some(Phase::Format));
    begun.steps = Some(7);
    assert!(begun.resumable(), "the journal tells which steps were done");
    let activating = desk(Some(Phase::Register), Some(Phase::Activate));
    assert!(matches!(activating.state, State::Failed { phase: Phase::Activate, .. }) && activating.resumable());
    assert_eq!(activating.phase, Phase::Activate);
    let rebooting = desk(Some(Phase::Export), Some(Phase::Handover));
    assert!(matches!(rebooting.state, State::Waiting) && !rebooting.resumable());
}

#[test]
fn nothing_is_gone_on_with_while_it_runs_or_with_a_damaged_plan() {
    let mut desk = desk(Some(Phase::Mount), None);
    assert!(desk.resumable());
    desk.state = State::Receiving;
    assert!(!desk.resumable());
    desk.state = State::Interrupted { phase: Phase::Receive };
    desk.job.as_mut().unwrap().plan.steps.pop();
    assert!(!desk.resumable());
    desk.job = None;
    assert!(!desk.resumable());
}

#[test]
fn the_phases_that_a_second_run_skips_take_nothing_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = Journal::begin(directory.path(), &crate::journal::tests::job()).unwrap();
    journal.append(&[Record::Done { phase: Phase::Format }]).unwrap();
    let places = Places {
        state: directory.path().to_owned(),
        target: directory.path().join("mnt"),
        card: directory.path().join("card"),
        secrets: directory.path().join("secrets"),
    };
    let agent = Agent::new(Identity::read(), places);
    agent.note_done(Phase::Inspect).unwrap();
    assert!(agent.status().job.unwrap().resumable, "the disk would be formatted again");
    assert!(agent.unfinished().is_some());
}

#[test]
fn an_installation_with_extra_files_does_not_go_on_without_them() {
    let directory = tempfile::tempdir().unwrap();
    let (disko, identity) = (serde_json::json!({}), Identity::read());
    let mut job = crate::journal::tests::job();
    job.layout = layout_hash(&disko, job.plan.mode);
    job.closure.system.clone_from(&identity.system);
    let count = Count { files: 3, ..Count::default() };
    job.options.extra_files = Some(ExtraFiles { id: 1, count });
    let mut journal = Journal::begin(directory.path(), &job).unwrap();
    journal.append(&[Record::Done { phase: Phase::Format }]).unwrap();
    let places = Places {
        state: directory.path().to_owned(),
        target: directory.path().join("mnt"),
        card: directory.path().join("card"),
        secrets: directory.path().join("secrets"),
    };
    let agent = Agent::new(identity, places);
    let install = |extra_files| Request::Install {
        disko: disko.clone(),
        digest: job.digest.clone(),
        closure: job.closure.clone(),
        mode: job.plan.mode,
        options: InstallOptions { extra_files, ..InstallOptions::default() },
        secrets: Vec::new(),
    };
    // The agent was restarted, so they are gone.
    for (given, says) in [(None, "--extra-files DIR"), (job.options.extra_files.clone(), "the same `cygnet install`")] {
        match agent.answer(install(given), true) {
            Reply::Error(fault) => {
                assert_eq!(fault.code, FaultCode::BadExtraFiles, "{fault}");
                assert!(fault.remedy.contains(says), "{fault}");
            }
            other => panic!("{other:?}"),
        }
    }
    let status = agent.status();
    assert!(matches!(status.state, State::Interrupted { .. }), "{:?}", status.state);
    assert_eq!(status.job.unwrap().extra_files, Some(count));
}

#[test]
fn extra_files_are_not_taken_while_an_installation_has_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let agent = receiving(directory.path());
    let bytes = cygnet_protocol::secret::Secret::new(vec![7]);
    let reply = agent.answer(Request::ExtraFiles { id: 1, at: 0, total: 1, bytes }, true);
    assert!(matches!(reply, Reply::Error(fault) if fault.code == FaultCode::NotNow));
}

#[test]
fn a_channel_and_copies_from_the_card_never_write_at_the_same_time() {
    let directory = tempfile::tempdir().unwrap();
    let agent = receiving(directory.path());
    let (bridge, _other) = UnixStream::pair().unwrap();
    let copying = lock(&agent.copying);
    std::thread::scope(|scope| {
        let opened = scope.spawn(|| agent.open_channel(&bridge));
        while !agent.has_channel() {
            std::thread::yield_now();
        }
        assert!(!opened.is_finished(), "a copy is under way");
        drop(copying);
        opened.join().unwrap().unwrap();
    });
    let path = cygnet_protocol::store::parse_store_path("/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-a").unwrap();
    assert!(local::copy(&agent, &[path]).unwrap().is_empty(), "while one is open, nothing is copied");
    agent.close_channel();
}

#[test]
fn an_abort_that_a_disk_keeps_is_told_and_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let agent = receiving(directory.path());
    let number = Agent::runs(&mut lock(&agent.desk));
    agent.see_through(Duration::ZERO, Duration::from_millis(50));
    let begin = std::time::Instant::now();
    loop {
        let events = agent.log.since(0, Duration::from_millis(10));
        let says = |words: &str| events.iter().any(|event| format!("{:?}", event.kind).contains(words));
        // The state is another a moment before that is told.
        if says("reboot HOST --force") && says("hangs in the kernel") {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{events:?}");
    }
    assert!(matches!(agent.state(), State::Failed { .. }));
    let plan = Request::Plan { disko: serde_json::json!({}), closure: None, mode: Mode::default(), boot_from: None };
    match agent.answer(plan.clone(), true) {
        Reply::Error(fault) => assert!(fault.what.contains("hangs in the kernel"), "{fault}"),
        other => panic!("{other:?}"),
    }
    // The disk was plugged in again, and the thread has come back.
    agent.ran(number);
    match agent.answer(plan, true) {
        Reply::Error(fault) => assert_ne!(fault.code, FaultCode::NotNow, "{fault}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pi_that_does_not_go_down_is_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let agent = receiving(directory.path());
    agent.set_state(State::Rebooting);
    let fault = || Fault::new(FaultCode::StepFailed, "The Pi was not rebooted.", "c", "cygnet reboot HOST --force");
    agent.stays(State::Installed, fault());
    assert_eq!(agent.state(), State::Installed);
    assert!(permit(&agent.state(), &Request::Reboot { force: false }).is_ok());
    // Something else has begun meanwhile, and is not disturbed.
    agent.set_state(State::Receiving);
    agent.stays(State::Installed, fault());
    assert_eq!(agent.state(), State::Receiving);
    let events = agent.log.since(0, Duration::ZERO);
    assert!(events.iter().any(|event| matches!(&event.kind, EventKind::Warning { text } if text.contains("--force"))));
}

#[test]
fn a_connection_without_hooks_gets_no_plan_that_has_some() {
    let mut plan = crate::journal::tests::job().plan;
    plan.steps.retain(|step| !matches!(step, Step::Hook { .. }));
    assert_eq!(hooks_allowed(&plan, false), Ok(()));
    plan.steps.push(Step::Hook {
        owner: "disk.ssd".into(),
        when: HookTime::PostMount,
        stage: Stage::Mount,
        script: "id".into(),
        variables: BTreeMap::new(),
    });
    assert_eq!(hooks_allowed(&plan, true), Ok(()));
    let fault = hooks_allowed(&plan, false).unwrap_err();
    assert!(fault.code == FaultCode::HooksRefused && fault.cause.contains("--no-hooks"), "{fault}");
}
