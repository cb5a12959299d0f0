//! Going on in the middle: wherever a plan is interrupted, nothing is made twice, and nothing is missing at the end.

use crate::fixtures::{NAMES, plan};
use cygnet_protocol::plan::{Plan, Stage, Step};
use std::collections::BTreeSet;

/// What there is, as far as a second making of it would fail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct There(BTreeSet<(&'static str, String)>);

impl There {
    fn make(&mut self, kind: &'static str, name: &str) {
        assert!(self.0.insert((kind, name.to_owned())), "{kind} {name} is made twice");
    }

    fn remove(&mut self, kind: &'static str, name: &str) {
        self.0.remove(&(kind, name.to_owned()));
    }

    fn remove_below(&mut self, kind: &'static str, name: &str) {
        let within = format!("{name}#");
        self.0.retain(|(other, path)| *other != kind || !path.starts_with(&within));
    }

    fn wiped(&mut self, device: &str) {
        self.remove("contents", device);
        self.remove_below("subvolume", device);
        self.remove_below("partition", device);
    }

    fn done(&mut self, step: &Step) {
        match step {
            Step::ClearTable { device, .. } | Step::CreateTable { device, .. } => {
                self.remove_below("partition", device)
            }
            Step::WipeSignatures { device, .. } => self.wiped(device),
            Step::CreatePartition { device, number, .. } | Step::CreateTablePartition { device, number, .. } => {
                self.make("partition", &format!("{device}#{number}"));
            }
            Step::MakeFilesystem { device, .. }
            | Step::MakeSwap { device, .. }
            | Step::MakeBtrfs { device, .. }
            | Step::CreatePhysicalVolume { device } => self.make("contents", device),
            Step::CreateSubvolume { device, name, .. } => self.make("subvolume", &format!("{device}#{name}")),
            Step::MakeBcachefs { uuid, .. } => {
                self.remove("contents", uuid);
                self.remove_below("subvolume", uuid);
                self.make("contents", uuid);
            }
            Step::CreateBcachefsSubvolume { uuid, name } => self.make("subvolume", &format!("{uuid}#{name}")),
            Step::CreateArray { name, .. } => self.make("array", name),
            Step::CreateVolumeGroup { group, .. } => self.make("group", group),
            Step::CreateLogicalVolume { group, name, .. } => self.make("volume", &format!("{group}/{name}")),
            Step::OpenLuks { name, .. } => self.make("open", name),
            Step::CreatePool { pool, .. } => self.make("pool", pool),
            Step::CreateDataset { dataset, .. } | Step::CreateVolume { dataset, .. } => self.make("dataset", dataset),
            Step::ClearAway { step } => match step.as_ref() {
                Step::MakeFilesystem { device, .. }
                | Step::MakeSwap { device, .. }
                | Step::MakeBtrfs { device, .. }
                | Step::FormatLuks { device, .. }
                | Step::ClearTable { device, .. }
                | Step::CreateTable { device, .. }
                | Step::CreatePhysicalVolume { device } => self.wiped(device),
                Step::MakeBcachefs { .. } => {}
                Step::CreateArray { name, .. } => self.remove("array", name),
                Step::CreateVolumeGroup { group, .. } => self.remove("group", group),
                Step::CreateLogicalVolume { group, name, .. } => self.remove("volume", &format!("{group}/{name}")),
                // zpool create -f takes what has labels of a pool that is not imported.
                Step::CreatePool { pool, .. } => self.remove("pool", pool),
                Step::CreateDataset { dataset, .. } | Step::CreateVolume { dataset, .. } => {
                    self.remove("dataset", dataset)
                }
                other => panic!("nothing is to be cleared away after {other:?}"),
            },
            _ => {}
        }
    }

    /// The agent lets go of everything before it goes on.
    fn closed(&mut self) {
        self.0.retain(|(kind, _)| *kind != "open");
    }
}

fn through(plan: &Plan, interrupted_at: usize) -> There {
    let end = plan.steps_until_formatted();
    let mut there = There::default();
    // The interrupted step had its effect, but nobody noted it: the worst case.
    plan.steps.iter().take((interrupted_at + 1).min(end)).for_each(|step| there.done(step));
    there.closed();
    let go_on = plan.go_on(interrupted_at, None);
    assert!(go_on.from <= interrupted_at.min(end));
    for step in go_on.open.iter().chain(&go_on.clear).chain(&plan.steps[go_on.from..end]) {
        there.done(step);
    }
    there
}

#[test]
fn wherever_it_was_interrupted_all_is_there_once_at_the_end() {
    for name in NAMES {
        let (_, plan) = plan(name);
        let mut whole = There::default();
        plan.steps.iter().take(plan.steps_until_formatted()).for_each(|step| whole.done(step));
        for at in 0..=plan.steps_until_formatted() {
            assert_eq!(through(&plan, at), whole, "{name}, interrupted at step {at}: {:?}", plan.steps.get(at));
        }
    }
}

#[test]
fn nothing_is_opened_or_cleared_away_before_anything_is_formatted() {
    let (_, plan) = plan("luks-lvm");
    for (at, step) in plan.steps.iter().enumerate().filter(|(_, step)| step.phase() < Stage::Format) {
        let go_on = plan.go_on(at, None);
        assert!(go_on.open.is_empty() && go_on.clear.is_empty(), "{step:?}: {go_on:?}");
    }
    // A partition is repeated with its table, a volume by itself.
    let position = |is: &dyn Fn(&Step) -> bool| plan.steps.iter().position(is).unwrap();
    let table = position(&|step| matches!(step, Step::ClearTable { .. }));
    let partition = position(&|step| matches!(step, Step::CreatePartition { number: 2, .. }));
    assert_eq!(plan.go_on(partition, None).from, table);
    let volume = position(&|step| matches!(step, Step::CreateLogicalVolume { .. }));
    let go_on = plan.go_on(volume, None);
    assert_eq!((go_on.from, go_on.clear.len()), (volume, 1));
    assert!(matches!(go_on.open.last(), Some(Step::ActivateVolumeGroup { .. })), "{:?}", go_on.open);
}

#[test]
fn a_disk_that_is_filled_as_a_whole_is_ours_from_then_on() {
    let (_, plan) = plan("x-zfs-wholedisk-mirror");
    let create = plan.steps.iter().position(|step| matches!(step, Step::CreatePool { .. })).unwrap();
    let whole: Vec<&str> = plan.filled_whole(create);
    assert!(whole.len() >= 2, "{whole:?}");
    assert!(plan.filled_whole(create - 1).is_empty());
    assert_eq!(plan.filled_whole(usize::MAX), whole);
    // Disks with a table are known by that.
    let (_, divided) = crate::fixtures::plan("simple-efi");
    assert!(divided.filled_whole(divided.steps.len()).is_empty());
}
