//! Carries out the steps of the plan, in order, stopping at the first that fails.

use super::{Installation, step_fault};
use crate::run::{RunError, command};
use cygnet_protocol::event::{EventKind, Phase};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::plan::{Action, Step};
use std::path::Path;

/// How long udev may take to make a device node or link, seconds. Pools with hundreds of volumes need most of it.
const DEVICE_PATIENCE: &str = "60";

/// Carries out `steps` in the name of `phase`.
pub fn carry_out(installation: &Installation<'_>, phase: Phase, steps: &[Step]) -> Result<(), Fault> {
    let log = &installation.agent.log;
    for (done, step) in steps.iter().enumerate() {
        log.emit(Some(phase), EventKind::Task { text: step.sentence() });
        for action in step.actions() {
            perform(installation, phase, step, &action)?;
        }
        log.emit(
            Some(phase),
            EventKind::Progress { done: done as u64 + 1, total: steps.len() as u64, unit: "steps".into() },
        );
    }
    Ok(())
}

fn perform(installation: &Installation<'_>, phase: Phase, step: &Step, action: &Action) -> Result<(), Fault> {
    let runner = installation.runner(phase);
    match action {
        Action::Run { argv, allow_failure } => match runner.run(argv) {
            Err(RunError::Failed { .. }) if *allow_failure => Ok(()),
            result => result.map_err(|e| step_fault(e, &format!("The step “{}”", step.sentence()))),
        },
        Action::WaitForDevice { path, within } => {
            let wait = ["udevadm", "wait", "--timeout", DEVICE_PATIENCE, path].map(String::from);
            runner.run(&wait).map_err(|error| match error {
                RunError::Failed { .. } => missing_device(path),
                other => step_fault(other, "Waiting for a device"),
            })?;
            match within {
                Some(disk) => on_disk(path, disk),
                None => Ok(()),
            }
        }
        Action::Script { text, environment } => {
            let mut bash = command("bash");
            bash.args(["-c", text]).envs(environment);
            runner.drive(bash, None).map(drop).map_err(|e| step_fault(e, &format!("The step “{}”", step.sentence())))
        }
    }
}

/// Another disk may have a partition of the same name; its link must not lead us there.
fn on_disk(path: &str, disk: &str) -> Result<(), Fault> {
    let real = std::fs::canonicalize(path).map_err(|_| missing_device(path))?;
    if is_partition_of(&real.to_string_lossy(), disk) {
        return Ok(());
    }
    Err(Fault::new(
        FaultCode::StepFailed,
        format!("{path} leads to {}, which is no partition of {disk}.", real.display()),
        "Another disk has a partition with the same name.",
        "Unplug the other disk, or give the partition another label in the layout.",
    ))
}

/// `/dev/sda1` is of `/dev/sda`, `/dev/nvme0n1p2` of `/dev/nvme0n1`.
fn is_partition_of(partition: &str, disk: &str) -> bool {
    let disk = Path::new(disk).canonicalize().map_or_else(|_| disk.to_owned(), |d| d.to_string_lossy().into_owned());
    partition.strip_prefix(&disk).is_some_and(|rest| {
        let digits = if disk.ends_with(|c: char| c.is_ascii_digit()) { rest.strip_prefix('p') } else { Some(rest) };
        digits.is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))
    })
}

fn missing_device(path: &str) -> Fault {
    Fault::new(
        FaultCode::StepFailed,
        format!("{path} did not appear within {DEVICE_PATIENCE} s."),
        "udev did not make the link: the kernel has not read the new partition table, or the disk went away.",
        "Look for messages about the disk with `dmesg` on the Pi; unplug and replug it, or try another cable or port.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_belong_to_their_disk() {
        assert!(is_partition_of("/dev/zz-a1", "/dev/zz-a"));
        assert!(is_partition_of("/dev/zz0n1p12", "/dev/zz0n1"));
        assert!(!is_partition_of("/dev/zz0n1", "/dev/zz0n1"));
        assert!(!is_partition_of("/dev/zz0n11", "/dev/zz0n1"));
        assert!(!is_partition_of("/dev/zz-b1", "/dev/zz-a"));
        assert!(!is_partition_of("/dev/zz-ab1", "/dev/zz-a"));
    }
}
