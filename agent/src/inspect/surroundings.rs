//! What a plan depends on besides disks: names that must be free, files with keys, and tools.

use super::disks_below;
use crate::run::{capture, is_there};
use crate::secrets::can_be_put;
use cygnet_protocol::plan::{Action, Plan, Refusal, Step};
use std::collections::BTreeSet;
use std::path::Path;

/// Refuses a plan whose names are taken or whose keys can be nowhere. Nothing is touched.
pub fn check(plan: &Plan) -> Result<(), Refusal> {
    // A key may be the first bytes of a USB stick, too. Files that are missing can be given with the installation.
    let is_missing = |file: &String| !std::fs::metadata(file).is_ok_and(|found| !found.is_dir());
    plan.key_files().into_iter().filter(is_missing).try_for_each(|file| can_be_put(&file))?;
    let taken = |kind: &str, name: &str, other: String| Refusal::NameTaken {
        kind: kind.to_owned(),
        name: name.to_owned(),
        other,
    };
    // The plan's own disks are not in use: whatever has one of these names is on another.
    for step in &plan.steps {
        match step.made() {
            Step::OpenLuks { name, .. } => {
                let path = format!("/dev/mapper/{name}");
                if Path::new(&path).exists() {
                    return Err(taken("LUKS device", name, path));
                }
            }
            Step::CreateArray { name, .. } => {
                let path = format!("/dev/md/{name}");
                if Path::new(&path).exists() {
                    return Err(taken("array", name, path));
                }
            }
            Step::CreateVolumeGroup { group, .. } => {
                let volumes = capture(&["pvs", "--noheadings", "--separator", "\t", "-o", "vg_name,pv_name"]);
                if let Some(other) = elsewhere(plan, group, &volumes.unwrap_or_default()) {
                    return Err(taken("volume group", group, other));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A physical volume of a group called `group` on a disk that is none of the plan's, from the output of pvs(8).
fn elsewhere(plan: &Plan, group: &str, volumes: &str) -> Option<String> {
    let ours: BTreeSet<&str> = plan.disks.iter().map(|disk| disk.facts.kernel_path.as_str()).collect();
    let mut of_group =
        volumes.lines().filter_map(|line| line.trim().split_once('\t')).filter(|(name, _)| *name == group);
    let is_other = |device: &str| !disks_below(Path::new(device)).iter().all(|disk| ours.contains(disk.as_str()));
    of_group.find(|(_, device)| is_other(device)).map(|(_, device)| device.to_owned())
}

/// The tools that are missing, in words. Those whose failure is passed over anyway do not count.
pub fn missing_tools(plan: &Plan) -> Option<String> {
    let missing: BTreeSet<String> = programs(plan).into_iter().filter(|program| !is_there(program)).collect();
    let missing: Vec<String> = missing.into_iter().collect();
    if missing.is_empty() { None } else { Some(missing.join(", ")) }
}

fn programs(plan: &Plan) -> BTreeSet<String> {
    let steps = plan.steps.iter().cloned().chain(plan.unmount());
    let actions = steps.flat_map(|step| step.actions());
    let needed = actions.filter(|action| !matches!(action, Action::Run { allow_failure: true, .. }));
    needed.filter_map(|action| action.argv().into_iter().next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_group_of_the_same_name_is_taken_only_elsewhere() {
        let plan = crate::journal::tests::job().plan;
        // No such devices here: nothing is known of them.
        assert_eq!(elsewhere(&plan, "pool", "  pool\t/dev/nowhere1\n  other\t/dev/nowhere2\n"), None);
        assert_eq!(elsewhere(&plan, "pool", ""), None);
    }

    #[test]
    fn the_programs_of_a_plan_are_known_before_it_is_carried_out() {
        let plan = crate::journal::tests::job().plan;
        let programs = programs(&plan);
        for program in ["sgdisk", "wipefs", "udevadm", "mount", "umount"] {
            assert!(programs.contains(program), "{program} of {programs:?}");
        }
        assert!(!programs.contains("partprobe"));
    }

    #[test]
    fn a_key_that_can_be_nowhere_is_named() {
        let mut plan = crate::journal::tests::job().plan;
        plan.steps.push(Step::AddLuksKey {
            device: "/dev/x".into(),
            path: "/dev/nowhere/key".into(),
            key: cygnet_protocol::plan::Key::File { path: "/nowhere/a".into(), size: None, offset: None },
        });
        assert_eq!(check(&plan), Err(Refusal::NoKeyFile { file: "/dev/nowhere/key".into() }));
    }
}
