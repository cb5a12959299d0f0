//! The same commands as disko's scripts run on blank disks, once the differences that are listed are taken away.

use crate::differences::{DIFFERENCES, Phase, Sides, document};
use crate::fixtures::{NAMES, plan};
use cygnet_protocol::plan::{Action, Plan, Stage, Step};
use std::collections::BTreeSet;
use std::path::Path;

fn argvs<'a>(steps: impl Iterator<Item = &'a Step>) -> Vec<Vec<String>> {
    let actions = steps.flat_map(Step::actions).filter(|action| !matches!(action, Action::Script { .. }));
    actions.map(|action| action.argv()).collect()
}

fn of(plan: &Plan, stages: &[Stage]) -> Vec<Vec<String>> {
    argvs(plan.steps.iter().filter(|step| stages.contains(&step.phase())))
}

#[test]
fn what_is_run_is_what_disko_runs_but_for_the_differences_that_are_listed() {
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for name in NAMES {
        let (fixture, plan) = plan(name);
        let disks: Vec<String> = plan.disks.iter().map(|disk| disk.device.clone()).collect();
        let phases = [
            (Phase::Format, &fixture.format, of(&plan, &[Stage::Partition, Stage::Format])),
            (Phase::Mount, &fixture.mount, of(&plan, &[Stage::Mount])),
            (Phase::Unmount, &fixture.unmount, argvs(plan.unmount().iter())),
        ];
        for (phase, disko, ours) in phases {
            let mut sides = Sides { name, phase, disks: disks.clone(), disko: disko.clone(), ours };
            for difference in DIFFERENCES {
                if difference.apply.is_some_and(|apply| apply(&mut sides)) {
                    seen.insert(difference.title);
                }
            }
            if sides.ours != sides.disko {
                wrong.push(format!("{name}, {phase:?}:\n  ours  {:?}\n  disko {:?}", sides.ours, sides.disko));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for difference in DIFFERENCES.iter().filter(|difference| difference.apply.is_some()) {
        assert!(seen.contains(difference.title), "“{}” is not seen in any layout", difference.title);
    }
}

#[test]
fn the_document_lists_the_differences() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/disko-differences.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, document()).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(document(), kept, "the differences changed; if that is meant, run again with UPDATE_GOLDEN=1");
}

#[test]
fn order_is_disko_s() {
    for name in NAMES {
        let (fixture, plan) = plan(name);
        let layout = plan.target_layout();
        let at = |target: &str| match target.strip_prefix("/mnt") {
            Some("") => "/".to_owned(),
            Some(path) => path.to_owned(),
            None => panic!("{target} is not under /mnt"),
        };
        let ours: Vec<String> = layout.mounts.iter().map(|mount| at(&mount.target)).collect();
        assert_eq!(ours, fixture.mount_order, "{name}");

        let of = |kind: &str| -> Vec<String> {
            fixture.device_order.iter().filter(|(found, _)| found == kind).map(|(_, name)| name.clone()).collect()
        };
        assert_eq!(layout.pools, of("zpool"), "{name}");
        let disks: BTreeSet<String> = plan.disks.iter().map(|disk| disk.name.clone()).collect();
        assert_eq!(disks, of("disk").into_iter().collect(), "{name}");
    }
}

#[test]
fn stages_never_go_back() {
    for name in NAMES {
        let (_, plan) = plan(name);
        assert!(plan.steps.is_sorted_by_key(Step::phase), "{name}");
    }
}

/// Half of a table, after a power cut, must not be booted from.
#[test]
fn nothing_is_bootable_before_its_table_is_complete() {
    let mut marked = 0;
    for name in NAMES {
        let (_, plan) = plan(name);
        for (at, step) in plan.steps.iter().enumerate() {
            match step {
                Step::CreatePartition { attributes, .. } => assert!(!attributes.contains(&2), "{name}: {step:?}"),
                Step::CreateTablePartition { flags, .. } => {
                    assert!(
                        !flags.iter().any(|flag| matches!(flag.as_str(), "boot" | "esp" | "legacy_boot")),
                        "{name}"
                    );
                }
                Step::MarkBootable { device: marked_device, .. } => {
                    marked += 1;
                    let later = plan.steps.iter().skip(at).any(|later| match later {
                        Step::CreatePartition { device, .. } | Step::CreateTablePartition { device, .. } => {
                            device == marked_device
                        }
                        _ => false,
                    });
                    assert!(!later, "{name}: {marked_device}");
                }
                _ => {}
            }
        }
    }
    assert!(marked >= 3, "only {marked} layouts have anything to mark");
}

#[test]
fn hooks_are_scripts_with_the_variables_disko_defines() {
    let (_, plan) = plan("x-hooks");
    let scripts: Vec<(String, Action)> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Hook { owner, .. } => Some((owner.clone(), step.actions().remove(0))),
            _ => None,
        })
        .collect();
    let (_, Action::Script { text, environment }) = &scripts[0] else { panic!("no script") };
    assert_eq!(text, "set -efu\necho disk-pre $device\n");
    assert_eq!(environment["device"], "/dev/vda");
    assert_eq!(environment["name"], "main");
    let owners: Vec<&str> = scripts.iter().map(|(owner, _)| owner.as_str()).collect();
    assert_eq!(
        owners,
        [
            "disk.main",
            "disk.main.content",
            "disk.main.content.partitions.p.content",
            "disk.main.content",
            "disk.main",
            "zpool.p",
            "zpool.p.datasets.root",
            "zpool.p.datasets.root",
            "zpool.p",
            "disk.main",
            "disk.main.content",
            "zpool.p",
            "zpool.p",
            "zpool.p.datasets.root",
            "zpool.p.datasets.root",
            "zpool.p",
            "zpool.p",
            "disk.main",
        ]
    );
    assert_eq!(plan.unmount().len(), 3 + 2);
}

/// Lists and properties reach a hook as bash arrays, whatever is in them.
#[test]
fn a_hook_sees_its_variables_in_a_real_bash() {
    use cygnet_protocol::disko::Variable;
    use cygnet_protocol::plan::HookTime;
    let odd = "it's $HOME \"q\" * `id`";
    let list = vec!["one".to_owned(), odd.to_owned()];
    let variables = [
        ("name".to_owned(), Variable::Text(odd.to_owned())),
        ("mountOptions".to_owned(), Variable::List(list)),
        ("options".to_owned(), Variable::Map([("com.sun:x".to_owned(), odd.to_owned())].into())),
    ];
    let step = Step::Hook {
        owner: "zpool.p".to_owned(),
        when: HookTime::PostCreate,
        stage: Stage::Format,
        script: "printf '%s|' \"$name\" \"${mountOptions[@]}\" \"${options[com.sun:x]}\"".to_owned(),
        variables: variables.into(),
    };
    let Action::Script { text, environment } = step.actions().remove(0) else { panic!("no script") };
    let output = std::process::Command::new("bash").args(["-c", &text]).envs(environment).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{odd}|one|{odd}|{odd}|"));
    assert!(output.status.success());
}
