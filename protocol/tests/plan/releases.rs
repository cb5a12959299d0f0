//! One layout, evaluated by several releases of disko: one plan.

use crate::fixtures::{blank_disks, options};
use cygnet_protocol::disko;
use cygnet_protocol::plan::{self, Plan, Step};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

const RELEASES: [&str; 6] = ["1.2", "1.6", "1.9", "1.12", "1.13", "1.14"];

fn recorded(release: &str) -> BTreeMap<String, Value> {
    let name = format!("tests/fixtures/disko/releases/{release}.json");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn plan_of(layout: &Value) -> Plan {
    let devices = disko::parse(layout.to_string()).unwrap_or_else(|error| panic!("{error} ({})", error.remedy));
    plan::compile(&devices, &blank_disks(&devices), &options()).unwrap()
}

/// Everything that is run, and what a person reads of it.
fn run(plan: &Plan) -> Vec<(String, Vec<Vec<String>>)> {
    let argv = |step: &Step| step.actions().iter().map(|action| action.argv()).collect();
    plan.steps.iter().map(|step| (step.sentence(), argv(step))).collect()
}

#[test]
fn every_release_s_layout_gives_the_plan_of_the_newest() {
    let newest = recorded("1.14");
    let mut compared = BTreeMap::new();
    for release in RELEASES {
        for (name, layout) in recorded(release) {
            if (release, name.as_str()) == ("1.2", "long-label") {
                continue;
            }
            let (old, new) = (plan_of(&layout), plan_of(&newest[&name]));
            let (mut old_steps, new_steps) = (run(&old), run(&new));
            if release == "1.2" {
                // Until 1.3 disko gave sgdisk the alignment that it has by itself on a blank disk.
                let words = old_steps.iter_mut().flat_map(|(_, argvs)| argvs.iter_mut());
                words.for_each(|argv| argv.retain(|word| word != "--set-alignment=2048"));
            }
            assert_eq!(old_steps, new_steps, "{name} of disko {release}");
            assert_eq!(old.disks, new.disks, "{name} of disko {release}");
            if name != "blanks" {
                assert_eq!(old.warnings, new.warnings, "{name} of disko {release}");
            }
            *compared.entry(release).or_insert(0) += 1;
        }
    }
    let expected = [("1.12", 16), ("1.13", 16), ("1.14", 16), ("1.2", 11), ("1.6", 13), ("1.9", 15)];
    assert_eq!(compared, expected.into());
}

/// sgdisk cuts a name after 36 letters, and the installed system would look for all of them.
#[test]
fn a_label_that_an_old_release_leaves_too_long_is_refused() {
    let layout = &recorded("1.2")["long-label"];
    let error = disko::parse(layout.to_string()).unwrap_err();
    assert!(
        error.path.ends_with("partitions.root.label") && error.remedy.contains("nix flake update disko"),
        "{error:?}"
    );
}

#[test]
fn partitions_were_aligned_by_the_release_that_has_no_word_for_it() {
    let aligned = |release: &str| {
        let plan = plan_of(&recorded(release)["simple"]);
        let argvs = plan.steps.iter().flat_map(Step::actions).map(|action| action.argv().join(" "));
        argvs.filter(|argv| argv.contains("--set-alignment=2048")).count()
    };
    assert_eq!((aligned("1.2"), aligned("1.6")), (3, 0));
    // 1.4 and 1.5 left it to sgdisk, and have the field that comes with hybrid MBRs.
    let mut layout = recorded("1.2")["simple"].clone();
    layout["disk"]["main"]["content"]["efiGptPartitionFirst"] = true.into();
    let plan = plan_of(&layout);
    assert!(!plan.steps.iter().flat_map(Step::actions).any(|action| action.argv().concat().contains("alignment")));
}

#[test]
fn a_link_that_a_release_before_1_9_misspells_is_warned_of() {
    let warned = |release: &str| {
        let warnings = plan_of(&recorded(release)["blanks"]).warnings;
        warnings
            .iter()
            .any(|warning| warning.contains("will look for /dev/disk/by-partlabel/disk-main-name with spaces"))
    };
    assert!(warned("1.6") && !warned("1.9"));
}

#[test]
fn the_digest_of_a_plan_does_not_depend_on_what_says_nothing() {
    let newest = recorded("1.14");
    for (name, layout) in &newest {
        let plain = plan_of(layout);
        let mut layout = layout.clone();
        let disk = layout["disk"].as_object().unwrap().keys().next().unwrap().clone();
        for value in [json!({}), json!(null), json!([]), json!(""), json!(false)] {
            let at = &mut layout;
            let key = "newThing";
            at[key] = value.clone();
            at["disk"][&disk][key] = value;
            let plan = plan_of(at);
            assert_eq!(plan.digest, plain.digest, "{name}");
            let noted = |warning: &&String| warning.contains(key) && warning.contains("passed over");
            assert_eq!(plan.warnings.iter().filter(noted).count(), 2, "{:?}", plan.warnings);
        }
    }
}
