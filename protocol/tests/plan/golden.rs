//! One plan kept as it is stored and shown, and what changes its digest.

use crate::facts::{card, layout, parsed, ssd};
use cygnet_protocol::plan::{self, DiskFacts, Options, Plan, Step};
use std::path::Path;

fn golden_plan() -> Plan {
    plan::compile(&parsed(&layout()), &[card(), ssd()], &Options::default()).unwrap()
}

/// Compares with a file, or writes it when `UPDATE_GOLDEN` is set.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, kept, "{name} changed; if that is meant, run again with UPDATE_GOLDEN=1");
}

#[test]
fn the_json_of_a_plan_is_stable() {
    let plan = golden_plan();
    let json = serde_json::to_string_pretty(&plan).unwrap() + "\n";
    golden("plan.json", &json);
    let back: Plan = serde_json::from_str(&json).unwrap();
    assert_eq!(back, plan);
    assert!(back.is_intact());
}

#[test]
fn what_a_person_reads_is_stable_and_narrow() {
    let plan = golden_plan();
    let text = plan.render();
    golden("plan.txt", &text);
    let hooks = |line: &&str| !line.trim_start().starts_with('|');
    let longest = text.lines().filter(hooks).map(|line| line.chars().count()).max();
    assert!(longest <= Some(100), "{longest:?}");
    for content in &ssd().contents {
        assert!(text.contains(content.as_str()), "{content}");
    }
    assert!(text.contains(plan.digest.as_str()));
}

#[test]
fn what_is_lost_is_told_in_more_words_than_the_digest_covers() {
    let mut plan = golden_plan();
    let digest = plan.digest.clone();
    plan.losses.insert("ssd".to_owned(), vec!["/dev/sda1: ext4 “root”, 12 GiB in use of 30 GiB".to_owned()]);
    assert!(plan.is_intact() && plan.digest == digest);
    let text = plan.render();
    assert!(text.contains("12 GiB in use") && !text.contains("oldpool"), "{text}");
}

#[test]
fn a_disk_cannot_write_to_the_terminal_through_its_name() {
    let mut facts = ssd();
    facts.model = Some("\u{1b}[2Jnice".to_owned());
    facts.contents.push("a\u{9b}b".to_owned());
    facts.contents.push("a\u{202e}\u{61c}\u{200b}\u{e0041}\nDigest 000000000000".to_owned());
    facts.serial = Some("\u{2066}7\u{feff}".to_owned());
    let mut layout = layout();
    layout["zpool"]["rpool"]["postCreateHook"] = "rm -rf /\r true\u{1b}[1A".into();
    let plan = plan::compile(&parsed(&layout), &[facts], &Options::default()).unwrap();
    let text = plan.render();
    assert!(text.chars().all(|c| !cygnet_protocol::text::is_hostile(c) || c == '\n'), "{text:?}");
    // Spelled out, so that nothing of a hook is hidden.
    assert!(text.contains("rm -rf /\\u{d} true\\u{1b}[1A"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("Digest ")).count(), 1, "{text}");
}

#[test]
fn a_plan_that_was_touched_is_not_intact() {
    let json = serde_json::to_value(golden_plan()).unwrap();
    let read = |json: &serde_json::Value| serde_json::from_value::<Plan>(json.clone());

    let mut edited = json.clone();
    edited["steps"][0]["device"] = "/dev/sdb".into();
    assert!(!read(&edited).unwrap().is_intact());

    let mut newer = json.clone();
    newer["version"] = 2.into();
    assert!(!read(&newer).unwrap().is_intact());

    for pointer in ["", "/steps/0", "/disks/0", "/disks/0/facts", "/disks/0/facts/fingerprint"] {
        let mut more = json.clone();
        more.pointer_mut(pointer).unwrap()["surprise"] = 1.into();
        assert!(read(&more).is_err(), "an unknown field in {pointer:?} was accepted");
    }
    let mut unknown = json.clone();
    unknown["steps"][0]["type"] = "make-coffee".into();
    assert!(read(&unknown).is_err());
}

/// Every scalar of a JSON value, changed one at a time.
fn changed(value: &serde_json::Value) -> Vec<serde_json::Value> {
    use serde_json::Value;
    match value {
        Value::Null => vec!["something".into()],
        Value::Bool(value) => vec![(!value).into()],
        Value::Number(number) => vec![(number.as_u64().unwrap() + 512).into()],
        Value::String(text) => vec![format!("{text}x").into()],
        Value::Array(items) => {
            let mut all = vec![Value::Array(items.iter().skip(1).cloned().collect())];
            for (i, item) in items.iter().enumerate() {
                all.extend(changed(item).into_iter().map(|item| {
                    let mut items = items.clone();
                    items[i] = item;
                    Value::Array(items)
                }));
            }
            all.into_iter().filter(|other| other != value).collect()
        }
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, item)| {
                changed(item).into_iter().map(move |item| {
                    let mut map = map.clone();
                    map.insert(key.clone(), item);
                    Value::Object(map)
                })
            })
            .collect(),
    }
}

#[test]
fn any_changed_fact_changes_the_digest_or_is_refused() {
    let devices = parsed(&layout());
    let plan = golden_plan();
    let facts = serde_json::to_value(ssd()).unwrap();
    let mut tried = 0;
    for facts in changed(&facts) {
        let Ok(facts) = serde_json::from_value::<DiskFacts>(facts) else { continue };
        if let Ok(other) = plan::compile(&devices, &[card(), facts.clone()], &Options::default()) {
            assert_ne!(other.digest, plan.digest, "{facts:?}");
        }
        tried += 1;
    }
    assert!(tried > 40, "{tried}");
}

#[test]
fn a_changed_layout_changes_the_digest_and_a_compilation_repeated_does_not() {
    let plan = golden_plan();
    assert_eq!(golden_plan().digest, plan.digest);
    let mut layout = layout();
    layout["zpool"]["rpool"]["postCreateHook"] = "true".into();
    let other = plan::compile(&parsed(&layout), &[card(), ssd()], &Options::default()).unwrap();
    assert_ne!(other.digest, plan.digest);
    let without_swap = Options { swap_on: false, ..Options::default() };
    let other = plan::compile(&parsed(&self::layout()), &[card(), ssd()], &without_swap).unwrap();
    assert_ne!(other.digest, plan.digest);
}

#[test]
fn unmounting_undoes_mounting_and_remounting_repeats_it() {
    let plan = golden_plan();
    let said = |steps: Vec<Step>| steps.iter().map(Step::sentence).collect::<Vec<_>>();
    assert_eq!(
        said(plan.unmount()),
        [
            "Stop using swap on /dev/disk/by-partlabel/disk-ssd-swap",
            "Unmount /mnt/var/lib",
            "Unmount /mnt/var",
            "Unmount /mnt/nix",
            "Unmount /mnt/home",
            "Unmount /mnt/boot/firmware",
            "Unmount /mnt/boot",
            "Unmount /mnt",
            "Export pool “rpool”",
        ]
    );
    let again = said(plan.remount());
    assert_eq!(again[0], "Import pool “rpool” without mounting it");
    assert_eq!(again[1], "Mount rpool/system/root at /mnt as zfs");
    // Two partitions and the swap are waited for.
    assert_eq!(again.len(), 9 + 3);
}

#[test]
fn key_files_are_named_and_loaded_again_from_where_they_were() {
    let (_, plan) = crate::fixtures::plan("x-zfs-encrypted-poolroot");
    assert_eq!(plan.key_files(), ["/tmp/raw.key", "/tmp/secret.key"]);
    let keys: Vec<Step> = plan.remount().into_iter().filter(|step| matches!(step, Step::LoadKey { .. })).collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0].sentence(), "Load the key of dataset rpool from file:///tmp/secret.key");
}

#[test]
fn pools_are_searched_on_their_own_members_only() {
    let search = |name: &str| match crate::fixtures::plan(name).1.remount().remove(0) {
        Step::ImportPool { search, .. } => search,
        other => panic!("{other:?}"),
    };
    assert_eq!(search("zfs"), ["/dev/disk/by-partlabel/disk-x-zfs", "/dev/disk/by-partlabel/disk-y-zfs"]);
    let halves =
        ["wwn-0x5000c500aaaaaaaa-part1", "wwn-0x5000c500bbbbbbbb-part1"].map(|id| format!("/dev/disk/by-id/{id}"));
    assert_eq!(search("x-zfs-wholedisk-mirror"), halves);
}
