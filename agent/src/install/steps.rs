//! Carries out the steps of the plan, in order, stopping at the first that fails.

use super::{Installation, blank, keep, step_fault};
use crate::inspect;
use crate::run::{RunError, TO_RUN_SCRIPTS, capture, command};
use cygnet_protocol::event::{EventKind, Phase};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::plan::{Action, DEVICE_PATIENCE, Input, Plan, PlannedDisk, Step};
use cygnet_protocol::secret::Secret;
use std::path::Path;

/// Carries out `steps` in the name of `phase`. If they are the plan's own, the `first` of which has this place in it, each
/// is noted in the journal.
pub fn carry_out(
    installation: &Installation<'_>,
    phase: Phase,
    steps: &[Step],
    first: Option<usize>,
) -> Result<(), Fault> {
    let (agent, plan) = (installation.agent, &installation.job.plan);
    let log = &agent.log;
    for (done, step) in steps.iter().enumerate() {
        log.emit(Some(phase), EventKind::Task { text: step.sentence() });
        let table = first.and_then(|_| table_of(plan, step));
        let tables = || agent.tables().into_iter().filter(|(disk, _)| table != Some(disk));
        if let Some(first) = first {
            agent.note_steps(first + done)?;
            if table.is_some() {
                agent.note_tables(tables().collect())?;
            }
        }
        match step {
            Step::Ensure { step: made } if keep::is_there(installation, phase, step)? => {
                log.emit(Some(phase), EventKind::Task { text: "It is there, and kept".into() });
                for step in plan.instead(made) {
                    for action in step.actions() {
                        perform(installation, phase, &step, &action)?;
                    }
                }
            }
            step => {
                if let (Step::Ensure { .. }, Some(first)) = (step, first) {
                    agent.note_making(first + done)?;
                }
                for action in step.actions() {
                    perform(installation, phase, step, &action)?;
                }
            }
        }
        if let Some(disk) = table {
            let made = inspect::tables(plan)?.into_iter().filter(|(name, _)| name == disk);
            agent.note_tables(tables().chain(made).collect())?;
        }
        if let Some(first) = first {
            agent.note_steps(first + done + 1)?;
        }
        log.emit(
            Some(phase),
            EventKind::Progress { done: done as u64 + 1, total: steps.len() as u64, unit: "steps".into(), came: None },
        );
    }
    Ok(())
}

/// The name in the layout of the disk that this step gives a new partition table.
fn table_of<'a>(plan: &'a Plan, step: &Step) -> Option<&'a String> {
    match step.made() {
        Step::ClearTable { device, .. } | Step::CreateTable { device, .. } => {
            plan.disks.iter().find(|disk| disk.device == *device).map(|disk| &disk.name)
        }
        _ => None,
    }
}

/// Does one thing of a step.
pub(super) fn perform(
    installation: &Installation<'_>,
    phase: Phase,
    step: &Step,
    action: &Action,
) -> Result<(), Fault> {
    let runner = installation.runner(phase);
    match action {
        Action::Run { argv, allow_failure } => {
            leads_home(installation, argv)?;
            match runner.run(argv) {
                Err(RunError::Failed { .. }) if *allow_failure => Ok(()),
                result => result.map_err(|e| {
                    let fault = step_fault(e, &format!("The step “{}”", step.sentence()));
                    if phase == Phase::Destroy { inspect::with_holders(fault, &installation.job.plan) } else { fault }
                }),
            }
        }
        Action::RunWithInput { argv, input } => {
            leads_home(installation, argv)?;
            let text = match input {
                Input::Text { text } => Secret::new(text.clone().into_bytes()),
                Input::Secret { secret } => installation.agent.vault.reveal(secret)?,
            };
            let (program, arguments) = argv.split_first().map_or(("", argv.as_slice()), |(p, rest)| (p, rest));
            let mut tool = command(program);
            tool.args(arguments);
            let result = runner.drive(tool, Some(&mut text.expose()));
            result.map(drop).map_err(|e| step_fault(e, &format!("The step “{}”", step.sentence())))
        }
        Action::WaitForDevice { path, within } => {
            runner.run(&action.argv()).map_err(|error| match error {
                RunError::Failed { .. } => missing_device(path),
                other => step_fault(other, "Waiting for a device"),
            })?;
            match within {
                Some(disk) => on_disk(path, disk),
                None => Ok(()),
            }
        }
        Action::ProveBlank { device, spans } => {
            leads_home(installation, &action.argv())?;
            blank::prove(device, spans)
        }
        Action::Script { text, environment } => {
            let mut bash = command("bash");
            bash.args(["-c", text]).envs(environment);
            let ran = runner.drive_within(TO_RUN_SCRIPTS, bash, None);
            ran.map(drop).map_err(|e| step_fault(e, &format!("The step “{}”", step.sentence())))
        }
    }
}

/// Links in /dev/disk follow what is plugged in. Before a tool is given one, it must still lead to the disk that was
/// confirmed.
fn leads_home(installation: &Installation<'_>, argv: &[String]) -> Result<(), Fault> {
    let resolve = |path: &str| std::fs::canonicalize(path).ok().map(|real| real.to_string_lossy().into_owned());
    let look = || astray(&installation.job.plan, installation.resumed, argv, &resolve);
    if look().is_none() {
        return Ok(());
    }
    // udev may be about to make the link anew, after a table was written.
    let _ = capture(&["udevadm", "settle", "--timeout=30"]);
    match look() {
        None => Ok(()),
        Some(what) => Err(Fault::new(
            FaultCode::DiskChanged,
            format!("{what}."),
            "The disk was unplugged, or another one was plugged in that has the same name or a partition of the same name.",
            "Leave only the disks plugged in that the plan names, and run `cygnet install` again.",
        )),
    }
}

/// The first of these arguments that names a disk of the plan, or a partition of one, and leads to something else.
///
/// After a restart (`resumed`) the kernel may call the disks something else; then the layout's own link tells.
fn astray(plan: &Plan, resumed: bool, argv: &[String], resolve: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let now = |disk: &PlannedDisk| match resumed {
        true => resolve(&disk.device),
        false => Some(disk.facts.kernel_path.clone()),
    };
    let lost = |path: &str| match resolve(path) {
        Some(real) => format!("{path} leads to {real} now"),
        None => format!("{path} is gone"),
    };
    for argument in argv {
        for disk in &plan.disks {
            let old = disk.facts.fingerprint.partitions.iter().any(|partition| partition.path == *argument);
            if (*argument == disk.device || old) && resolve(&disk.device) != now(disk) {
                return Some(lost(&disk.device));
            }
        }
        let within = plan.steps.iter().find_map(|step| match step {
            Step::WaitForDevice { path, within: Some(disk), .. } if path == argument => Some(disk),
            _ => None,
        });
        let Some(disk) = within.and_then(|kernel| plan.disks.iter().find(|disk| disk.facts.kernel_path == *kernel))
        else {
            continue;
        };
        let at_home = match (resolve(argument), now(disk)) {
            (Some(real), Some(disk)) => is_partition_of(&real, &disk),
            _ => false,
        };
        if !at_home {
            return Some(format!("{}, which is no partition of {}", lost(argument), disk.device));
        }
    }
    None
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
pub fn is_partition_of(partition: &str, disk: &str) -> bool {
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
    use cygnet_protocol::plan::PartitionFacts;

    #[test]
    fn partitions_belong_to_their_disk() {
        assert!(is_partition_of("/dev/zz-a1", "/dev/zz-a"));
        assert!(is_partition_of("/dev/zz0n1p12", "/dev/zz0n1"));
        assert!(!is_partition_of("/dev/zz0n1", "/dev/zz0n1"));
        assert!(!is_partition_of("/dev/zz0n11", "/dev/zz0n1"));
        assert!(!is_partition_of("/dev/zz-b1", "/dev/zz-a"));
        assert!(!is_partition_of("/dev/zz-ab1", "/dev/zz-a"));
    }
    #[test]
    fn a_link_that_leads_to_another_disk_than_the_confirmed_one_stops_the_tool() {
        let plan = crate::journal::tests::job().plan;
        let disk = plan.disks[0].clone();
        let (link, kernel) = (disk.device.as_str(), disk.facts.kernel_path.as_str());
        let partition = plan.steps.iter().find_map(|step| match step {
            Step::WaitForDevice { path, within: Some(_), .. } => Some(path.clone()),
            _ => None,
        });
        let partition = partition.unwrap();
        assert_ne!(link, kernel);
        let stray = |resumed: bool, argument: &str, disk_at: Option<&str>, partition_at: Option<&str>| {
            let resolve = |path: &str| match path {
                _ if path == link => disk_at.map(str::to_owned),
                _ if path == partition => partition_at.map(str::to_owned),
                _ => Some(path.to_owned()),
            };
            astray(&plan, resumed, &["tool".into(), "--all".into(), argument.to_owned()], &resolve)
        };
        let own = format!("{kernel}1");
        assert_eq!(stray(false, link, Some(kernel), None), None);
        assert_eq!(
            stray(false, link, Some("/dev/zz-other"), None).unwrap(),
            format!("{link} leads to /dev/zz-other now")
        );
        assert_eq!(stray(false, link, None, None).unwrap(), format!("{link} is gone"));
        assert_eq!(stray(false, &partition, Some(kernel), Some(&own)), None);
        assert!(stray(false, &partition, Some(kernel), Some("/dev/zz-other1")).is_some());
        assert!(stray(false, &partition, Some(kernel), None).is_some());
        // After a restart the disk may be called something else, but must be one with its partitions.
        assert_eq!(stray(true, &partition, Some("/dev/zz-new"), Some("/dev/zz-new2")), None);
        assert!(stray(true, &partition, Some("/dev/zz-new"), Some(&own)).is_some());
        // Old partitions are named by the kernel's path, which another disk may have by now.
        let mut plan = plan.clone();
        plan.disks[0].facts.fingerprint.partitions = vec![PartitionFacts { path: own.clone(), ..Default::default() }];
        let wipe = [own.clone()];
        assert!(astray(&plan, false, &wipe, &|_| Some("/dev/zz-other".into())).is_some());
        assert!(astray(&plan, false, &wipe, &|_| Some(kernel.to_owned())).is_none());
    }
}
