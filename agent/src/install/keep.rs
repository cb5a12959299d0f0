//! Looks whether something is there already, before it would be made: in the modes that keep what is there.

use super::{Installation, step_fault};
use crate::run::{RunError, capture};
use cygnet_protocol::event::Phase;
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::plan::{Action, Presence, Question, Seen, Step, WORKPLACE};
use std::fs;

/// blkid(8): nothing was found, or there is no such device.
const NOTHING: i32 = 2;
/// blkid(8): several things were found that contradict each other.
const AMBIVALENT: i32 = 8;

/// Whether what `step` makes is there. What is not what the layout asks for is a failure: it is never overwritten.
pub fn is_there(installation: &Installation<'_>, phase: Phase, step: &Step) -> Result<bool, Fault> {
    let Some(question) = installation.job.plan.question(step) else { return Ok(false) };
    match ask(installation, phase, step, &question)? {
        Presence::There => Ok(true),
        Presence::Missing => Ok(false),
        Presence::Other(there) => Err(Fault::new(
            FaultCode::WouldDestroy,
            format!("The step “{}” finds something else: {there}.", step.made().sentence()),
            "The mode keeps what is there, and this was not made by the layout.",
            "Change the layout to what is there; or, if nothing on the disk is needed any more, install with --mode destroy,format,mount.",
        )),
    }
}

fn ask(installation: &Installation<'_>, phase: Phase, step: &Step, question: &Question) -> Result<Presence, Fault> {
    let doing = || format!("Looking whether “{}” is needed", step.made().sentence());
    let yes = |there: bool| if there { Presence::There } else { Presence::Missing };
    match question {
        Question::Signature { devices, wanted } => {
            let mut seen = Vec::new();
            for device in devices {
                seen.push((device.clone(), probe(device).map_err(|error| step_fault(error, &doing()))?));
            }
            Ok(wanted.judge(&seen))
        }
        Question::Command { argv, speaks } => {
            let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
            match capture(&argv) {
                Ok(said) => Ok(yes(!speaks || !said.trim().is_empty())),
                Err(RunError::Failed { .. }) => Ok(Presence::Missing),
                Err(error) => Err(step_fault(error, &doing())),
            }
        }
        Question::Path { mount, path } => {
            let runner = installation.runner(phase);
            let run = |action: &Action| runner.run(&action.argv()).map_err(|error| step_fault(error, &doing()));
            fs::create_dir_all(WORKPLACE).map_err(|e| installation.io_fault(&format!("creating {WORKPLACE}"), &e))?;
            run(mount)?;
            let there = fs::symlink_metadata(path).is_ok();
            runner.run(&["umount", WORKPLACE].map(str::to_owned)).map_err(|error| step_fault(error, &doing()))?;
            Ok(yes(there))
        }
    }
}

fn probe(device: &str) -> Result<Seen, RunError> {
    match capture(&["blkid", "--probe", "--output", "export", device]) {
        Ok(export) => Ok(Seen::parse(&export)),
        Err(RunError::Failed { status, .. }) if status.code() == Some(NOTHING) => Ok(Seen::default()),
        Err(RunError::Failed { status, .. }) if status.code() == Some(AMBIVALENT) => {
            Ok(Seen { fstype: Some("several things that contradict each other".to_owned()), ..Seen::default() })
        }
        Err(error) => Err(error),
    }
}
