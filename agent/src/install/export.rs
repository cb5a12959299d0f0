//! Lets go of the disks: swap off, unmounted, pools exported; then imports each pool once more, read-only, as proof that
//! the new system will be able to.

use super::{Installation, Outcome, steps};
use crate::agent::Agent;
use crate::inspect;
use crate::run::{RunError, TO_LET_GO, capture, capture_within, tool};
use cygnet_protocol::event::{EventKind, Phase};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::plan::{self, Action, Plan, Step};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// udev and others open a device for moments after a change. How often, and how long apart, we try again.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_secs(2);

/// The same for a release, which may meet many things that somebody really holds.
const RELEASE_ATTEMPTS: u32 = 3;
const RELEASE_PAUSE: Duration = Duration::from_millis(700);

/// The export phase.
pub fn export(installation: &Installation<'_>) -> Result<Outcome, Fault> {
    let target = &installation.agent.places.target;
    sync(installation, target)?;
    for step in installation.job.plan.unmount() {
        let sentence = step.sentence();
        installation.task(&sentence);
        for action in step.actions() {
            match &action {
                Action::Run { argv, allow_failure } => insist(installation, argv, &sentence, *allow_failure)?,
                Action::Script { .. }
                | Action::RunWithInput { .. }
                | Action::WaitForDevice { .. }
                | Action::ProveBlank { .. } => {
                    steps::perform(installation, Phase::Export, &step, &action)?;
                }
            }
        }
        // At once: what the pool lies on may be closed next.
        if let Step::ExportPool { pool } = &step {
            prove(installation, pool)?;
        }
    }
    Ok(Outcome::Done)
}

/// How long all that was written may take to reach the disk.
const TO_SYNC: Duration = Duration::from_secs(3600);

/// On a thread that is left behind if the disk does not answer.
fn sync(installation: &Installation<'_>, target: &Path) -> Result<(), Fault> {
    let failed = |error: &std::io::Error| installation.io_fault("syncing the target to the disk", error);
    let root = fs::File::open(target).map_err(|error| failed(&error))?;
    let (done, result) = channel();
    let work = move || {
        // Who does not wait any more has said why.
        let _ = done.send(rustix::fs::syncfs(root));
    };
    std::thread::Builder::new().name("sync".into()).spawn(work).map_err(|error| failed(&error))?;
    let begun = Instant::now();
    loop {
        match result.recv_timeout(tool::LOOK) {
            Ok(result) => return result.map_err(|error| failed(&error.into())),
            Err(_) if installation.agent.cancel.asked() => return Err(crate::run::aborted()),
            Err(RecvTimeoutError::Timeout) if begun.elapsed() < TO_SYNC => {}
            Err(_) => return Err(failed(&std::io::Error::new(ErrorKind::TimedOut, "the disk does not answer"))),
        }
    }
}

fn insist(installation: &Installation<'_>, argv: &[String], sentence: &str, allow_failure: bool) -> Result<(), Fault> {
    let target = &installation.agent.places.target;
    for attempt in 1.. {
        match installation.runner(Phase::Export).run(argv) {
            Ok(()) => break,
            Err(RunError::Failed { .. }) if allow_failure => break,
            Err(RunError::Failed { tail, .. }) if attempt < ATTEMPTS && is_held(&tail) => {
                let holders = holders(target);
                let by = if holders.is_empty() { "nobody to be seen".into() } else { holders.join(", ") };
                installation.warn(format!("{sentence}: busy, held by {by}; trying again"));
                let at = target.to_string_lossy();
                tool::kill_left_running(|pid| holds(pid.as_raw_nonzero().get().unsigned_abs(), &at));
                std::thread::sleep(PAUSE);
            }
            Err(error) => {
                let holders = holders(target);
                let mut fault = error.fault(FaultCode::ExportFailed, &format!("“{sentence}”"));
                if !holders.is_empty() {
                    fault.cause = format!("{} It is held by {}.", fault.cause, holders.join(", "));
                }
                fault.remedy = format!(
                    "End those programs and run `cygnet install` again; the Pi has not been rebooted. {}",
                    fault.remedy
                );
                return Err(fault);
            }
        }
    }
    Ok(())
}

/// Whether a tool could not let go because somebody uses it: each has words of its own.
fn is_held(said: &str) -> bool {
    let said = said.to_lowercase();
    // umount, zpool, dmsetup; vgchange and cryptsetup; mdadm.
    ["busy", "in use", "exclusive access"].iter().any(|words| said.contains(words))
}

/// Runs one command of a release; what is held for a moment only is let go of a moment later.
fn let_go(argv: &[&str]) {
    for attempt in 1..=RELEASE_ATTEMPTS {
        match capture_within(TO_LET_GO, argv) {
            Err(RunError::Failed { tail, .. }) if attempt < RELEASE_ATTEMPTS && is_held(&tail) => {
                std::thread::sleep(RELEASE_PAUSE);
            }
            Ok(_) | Err(_) => break,
        }
    }
}

/// Imports without -f: that works only if the export was clean, whatever the host id.
fn prove(installation: &Installation<'_>, pool: &str) -> Result<(), Fault> {
    installation.task(format!("Import the pool {pool} once more, read-only, as proof"));
    let target = installation.agent.places.target.to_string_lossy().into_owned();
    let import = ["zpool", "import", "-N", "-o", "readonly=on", "-o", "cachefile=none", "-R", &target, pool];
    let runner = installation.runner(Phase::Export);
    let proof = |error: RunError| {
        let mut fault = error.fault(FaultCode::ExportFailed, &format!("Importing the exported pool {pool}"));
        fault.remedy =
            format!("The new system would not find its pool; the Pi has not been rebooted. {}", fault.remedy);
        fault
    };
    runner.run(&import.map(String::from)).map_err(proof)?;
    runner.run(&["zpool", "export", pool].map(String::from)).map_err(proof)
}

fn pools(plan: &Plan) -> Vec<String> {
    plan.unmount()
        .into_iter()
        .filter_map(|step| match step {
            Step::ExportPool { pool } => Some(pool),
            _ => None,
        })
        .collect()
}

/// Frees the disks as far as possible after a failure, an abort or a crash; complains of nothing but a pool that stays.
///
/// What somebody else uses under the same name stays as it is: a pool that was imported for another place than the target,
/// swap on a disk that is none of the plan's.
pub fn release(agent: &Agent, plan: &Plan) {
    let target = agent.places.target.to_string_lossy().into_owned();
    unmount_all(&agent.places.target);
    let imported = || capture(&["zpool", "list", "-H", "-o", "name,altroot"]).unwrap_or_default();
    let foreign =
        |pool: &str, table: &str| altroot(table, pool).is_some_and(|root| root != plan::TARGET && root != target);
    let before = imported();
    for step in plan.unmount() {
        let theirs = match &step {
            Step::ExportPool { pool } => foreign(pool, &before),
            Step::SwapOff { device } => match device.strip_prefix("/dev/zvol/") {
                Some(volume) => foreign(volume.split('/').next().unwrap_or_default(), &before),
                None => !leads_to_the_plans_disks(plan, device),
            },
            Step::CloseLuks { name } => !is_ours(plan, Path::new("/dev/mapper"), name),
            Step::StopArray { name } => !is_ours(plan, Path::new("/dev/md"), name),
            Step::RemovePartitions { partitions } => {
                !partitions.iter().all(|path| leads_to_the_plans_disks(plan, path))
            }
            Step::DeactivateVolumeGroup { group } => {
                // Of a group that is not active there is nothing here, and nothing to do.
                let volumes = fs::read_dir(Path::new("/dev").join(group)).into_iter().flatten().flatten();
                let paths: Vec<String> = volumes.map(|volume| volume.path().to_string_lossy().into_owned()).collect();
                paths.is_empty() || !paths.iter().all(|path| leads_to_the_plans_disks(plan, path))
            }
            _ => false,
        };
        if theirs {
            continue;
        }
        for action in step.actions() {
            if let Action::Run { argv, .. } = action {
                let_go(&argv.iter().map(String::as_str).collect::<Vec<_>>());
            }
        }
    }
    let after = imported();
    for pool in pools(plan).iter().filter(|pool| altroot(&after, pool).is_some()) {
        let text = if foreign(pool, &after) {
            format!("A pool called {pool} is imported, but not for this installation; it was left as it is.")
        } else {
            let holders = holders(&agent.places.target);
            let by = if holders.is_empty() { "nobody to be seen".into() } else { holders.join(", ") };
            format!("The pool {pool} could not be exported; held by: {by}.")
        };
        agent.log.emit(None, EventKind::Warning { text });
    }
}

/// Lets go of what a journal that cannot be read has left: what is mounted in the target's place, and pools imported for it.
/// Which swap, arrays and mappings belong to it, nobody knows.
pub fn release_unknown(agent: &Agent) {
    let target = agent.places.target.to_string_lossy().into_owned();
    unmount_all(&agent.places.target);
    let imported = capture(&["zpool", "list", "-H", "-o", "name,altroot"]).unwrap_or_default();
    for (pool, root) in imported.lines().filter_map(|line| line.split_once('\t')) {
        if root.trim() == target {
            let_go(&["zpool", "export", pool]);
        }
    }
}

/// Unmounts the target and all below it. Mounts that hooks or an interrupted activation made are not in the plan.
fn unmount_all(target: &Path) {
    let at = target.to_string_lossy();
    let unmount = || capture_within(TO_LET_GO, &["umount", "-R", &at]);
    if matches!(unmount(), Err(RunError::Failed { tail, .. }) if is_held(&tail)) {
        // A hook may have left something running there.
        tool::kill_left_running(|pid| holds(pid.as_raw_nonzero().get().unsigned_abs(), &at));
        let _ = unmount();
    }
    let _ = capture_within(TO_LET_GO, &["umount", "-R", plan::WORKPLACE]);
}

/// The altroot of an imported pool (`-` if it has none), from `zpool list -H -o name,altroot`.
fn altroot<'a>(table: &'a str, pool: &str) -> Option<&'a str> {
    table.lines().filter_map(|line| line.split_once('\t')).find(|(name, _)| *name == pool).map(|(_, root)| root.trim())
}

/// Whether this is on the plan's disks alone, whatever lies between. A volume of a pool is, if the plan makes volumes.
fn leads_to_the_plans_disks(plan: &Plan, device: &str) -> bool {
    let Ok(device) = fs::canonicalize(device) else { return false };
    let name = device.to_string_lossy();
    let disks: Vec<String> = plan
        .disks
        .iter()
        .filter_map(|disk| Some(fs::canonicalize(&disk.device).ok()?.to_string_lossy().into_owned()))
        .collect();
    if disks.iter().any(|disk| *disk == name || steps::is_partition_of(&name, disk)) {
        return true;
    }
    let makes_volumes = plan.steps.iter().any(|step| matches!(step, Step::CreateVolume { .. }));
    let below = inspect::disks_below(&device);
    !below.is_empty() && below.iter().all(|disk| disks.contains(disk) || makes_volumes && disk.starts_with("/dev/zd"))
}

fn is_ours(plan: &Plan, directory: &Path, name: &str) -> bool {
    leads_to_the_plans_disks(plan, &directory.join(name).to_string_lossy())
}

/// Which processes use something below `target`, as `name (pid)`: by a working directory, a root, an open file, or a
/// mount in a namespace of their own.
fn holders(target: &Path) -> Vec<String> {
    let target = target.to_string_lossy();
    let mut found = Vec::new();
    let own = std::process::id();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()).filter(|pid| *pid != own)
        else {
            continue;
        };
        if holds(pid, &target) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push(format!("{} ({pid})", name.trim()));
        }
    }
    // Every process of our own mount namespace sees the same mounts; that says nothing.
    found.truncate(12);
    found
}

fn holds(pid: u32, target: &str) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    let links = ["cwd", "root", "exe"].into_iter().map(|name| process.join(name));
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|fd| fd.path());
    let mut places = links.chain(files).filter_map(|link| fs::read_link(link).ok());
    let mounts = || fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    places.any(|to| below(&to.to_string_lossy(), target)) || mounted_below(&mounts(), target)
}

fn below(path: &str, target: &str) -> bool {
    path.strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a mountinfo table (proc_pid_mountinfo(5)) has a mount below `target` that our own table does not have.
fn mounted_below(table: &str, target: &str) -> bool {
    let ours = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    points(table).any(|point| below(point, target) && !points(&ours).any(|other| other == point))
}

fn points(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter_map(|line| line.split(' ').nth(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_in_the_target_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").current_dir(directory.path()).spawn().unwrap();
        let found = holders(directory.path());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, [format!("sleep ({})", child.id())]);
        assert!(below("/mnt/nix", "/mnt") && below("/mnt", "/mnt") && !below("/mnt2", "/mnt"));
    }
    /// As the tools of Debian 13 say it.
    #[test]
    fn what_is_held_for_a_moment_is_tried_again() {
        for said in [
            "umount: /mnt: target is busy.",
            "cannot export 'rpool': pool is busy",
            "  Logical volume pool/root in use.",
            "Device crypted is still in use.",
            "mdadm: Cannot get exclusive access to /dev/md/raid1:Perhaps a running process, mounted filesystem or active volume group?",
            "device-mapper: remove ioctl on crypted1 failed: Device or resource busy",
        ] {
            assert!(is_held(said), "{said}");
        }
        assert!(!is_held("umount: /mnt: not mounted.") && !is_held("cannot open 'rpool': no such pool"));
    }
    #[test]
    fn only_pools_of_the_target_and_swap_on_its_disks_are_ours() {
        let table = "rpool\t/mnt\nmy pool\t-\nrpool2\t/rescue\n";
        assert_eq!(altroot(table, "rpool"), Some("/mnt"));
        assert_eq!(altroot(table, "my pool"), Some("-"));
        assert_eq!(altroot(table, "rpool2"), Some("/rescue"));
        assert_eq!(altroot(table, "pool"), None);

        // A disk is a file here: what counts is where the links lead.
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        for name in ["sda", "sda2", "sdb2"] {
            fs::write(at(name), "").unwrap();
        }
        let mut plan = crate::journal::tests::job().plan;
        plan.disks[0].device = at("sda");
        for (to, ours) in [("sda", true), ("sda2", true), ("sdb2", false), ("gone", false)] {
            let _ = fs::remove_file(at("disk-main-swap"));
            std::os::unix::fs::symlink(at(to), at("disk-main-swap")).unwrap();
            assert_eq!(leads_to_the_plans_disks(&plan, &at("disk-main-swap")), ours, "{to}");
        }
    }
}
