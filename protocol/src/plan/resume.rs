//! How a plan is gone on with that was interrupted before all was formatted.
//!
//! The journal tells how many steps were done. Of the next one nobody knows how far it got: what it may have left is
//! cleared away, and it is done again. Where that alone would not do (a partition in a table, a subvolume in a
//! filesystem), it is gone back to the step that made what it is in, which is a matter of seconds and never loses
//! anything: nothing but the plan's own steps has been on those disks since.

use super::action::{Action, reread, run, tolerated};
use super::action_layers::on_btrfs;
use super::parts::{Stage, SwapFile};
use super::step::Step;
use super::{Plan, WORKPLACE};

/// What is to be done before the steps from [`GoOn::from`] on, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoOn {
    /// Opens what the steps before made: arrays, LUKS devices, volume groups, pools.
    pub open: Vec<Step>,
    /// Removes what the interrupted step may have left.
    pub clear: Vec<Step>,
    /// The first step that is done (again), an index into [`Plan::steps`].
    pub from: usize,
}

impl Plan {
    /// How many steps come before the mounting.
    #[must_use]
    pub fn steps_until_formatted(&self) -> usize {
        self.steps.iter().filter(|step| step.phase() <= Stage::Format).count()
    }

    /// How to go on after the first `done` steps, of which the next one may have begun. Where things are kept, only what
    /// was seen not to be there is cleared away: `making` is the last step of which the journal says so.
    #[must_use]
    pub fn go_on(&self, done: usize, making: Option<usize>) -> GoOn {
        let end = self.steps_until_formatted();
        let done = done.min(end);
        if self.mode.keeps() {
            let begun = self.steps.get(done).filter(|step| making == Some(done) && !step.rests().is_empty());
            let clear = begun.map(|step| Step::ClearAway { step: Box::new(step.clone()) });
            return GoOn { open: self.reopen(done), clear: clear.into_iter().collect(), from: done };
        }
        let from = self.safe_point(done);
        let doubtful = self.steps.get(from..end.min(done + 1)).unwrap_or_default();
        let clear = doubtful.iter().rev().filter(|step| !step.leftovers().is_empty());
        GoOn {
            open: self.reopen(from),
            clear: clear.map(|step| Step::ClearAway { step: Box::new(step.clone()) }).collect(),
            from,
        }
    }

    /// The disks that the first `done` steps, or the one after them, have begun to fill as a whole: without a partition table
    /// of the layout's to know them again by. By their names in the layout.
    #[must_use]
    pub fn filled_whole(&self, done: usize) -> Vec<&str> {
        let begun = self.steps.get(..self.steps.len().min(done.saturating_add(1))).unwrap_or_default();
        let filled: Vec<&str> = begun.iter().flat_map(|step| step.made().fills()).collect();
        let whole = self.disks.iter().filter(|disk| filled.contains(&disk.device.as_str()));
        whole.map(|disk| disk.name.as_str()).collect()
    }

    /// The last step, not after `done`, from which on all can be done again.
    fn safe_point(&self, done: usize) -> usize {
        let mut from = done;
        loop {
            let doubtful = self.steps.get(from..=done).unwrap_or_default();
            let Some(earlier) = doubtful.iter().filter_map(|step| self.made_in(step)).min().filter(|at| *at < from)
            else {
                return from;
            };
            from = earlier;
        }
    }

    /// The step that made what this one changes, if it cannot be repeated without it.
    fn made_in(&self, step: &Step) -> Option<usize> {
        let is_origin: Box<dyn Fn(&Step) -> bool> = match step {
            Step::CreatePartition { device, .. }
            | Step::CreateTablePartition { device, .. }
            | Step::MakeHybridMbr { device, .. } => Box::new(move |other| match other {
                Step::ClearTable { device: on, .. } | Step::CreateTable { device: on, .. } => on == device,
                _ => false,
            }),
            Step::CreateSubvolume { device, .. } | Step::CreateSwapFiles { device, .. } => {
                Box::new(move |other| matches!(other, Step::MakeBtrfs { device: on, .. } if on == device))
            }
            Step::UnlockBcachefs { uuid, .. } | Step::CreateBcachefsSubvolume { uuid, .. } => {
                Box::new(move |other| matches!(other, Step::MakeBcachefs { uuid: of, .. } if of == uuid))
            }
            _ => return None,
        };
        self.steps.iter().position(is_origin)
    }
}

impl Step {
    /// The devices that this step puts something on, from their beginning to their end.
    fn fills(&self) -> Vec<&str> {
        match self {
            Self::FormatLuks { device, .. }
            | Self::MakeBtrfs { device, .. }
            | Self::MakeFilesystem { device, .. }
            | Self::MakeSwap { device, .. }
            | Self::CreatePhysicalVolume { device } => vec![device],
            Self::MakeBcachefs { devices, .. } => devices.iter().map(|member| member.device.as_str()).collect(),
            Self::CreatePool { vdevs, .. } => vdevs.iter().flat_map(|vdev| &vdev.members).map(String::as_str).collect(),
            Self::CreateArray { members, .. } => members.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// What removes the rests of this step without a trace in what it belongs to: that may be kept, and hold more.
    pub(super) fn rests(&self) -> Vec<Action> {
        let Self::Ensure { step } = self else { return self.leftovers() };
        match step.as_ref() {
            // A table that was begun on a blank disk is there, or is not.
            Self::ClearTable { stage: Stage::Partition, .. } | Self::CreateTable { stage: Stage::Partition, .. } => {
                Vec::new()
            }
            Self::CreatePartition { device, number, .. } => {
                let delete = tolerated(run(["sgdisk", &format!("--delete={number}"), device]));
                [delete].into_iter().chain(reread(device)).collect()
            }
            Self::CreateTablePartition { device, number, .. } => {
                let delete = tolerated(run(["parted", "-s", device, "--", "rm", &number.to_string()]));
                [delete].into_iter().chain(reread(device)).collect()
            }
            Self::CreateSubvolume { device, name, .. } => {
                let delete = ["btrfs", "subvolume", "delete", &format!("{WORKPLACE}/{name}")].map(str::to_owned);
                on_btrfs(device, vec![tolerated(run(delete))])
            }
            Self::CreateSwapFiles { device, files } => {
                let remove = |file: &SwapFile| {
                    run(["rm".to_owned(), "-f".to_owned(), "--".to_owned(), format!("{WORKPLACE}/{}", file.path)])
                };
                on_btrfs(device, files.iter().map(remove).collect())
            }
            step => step.leftovers(),
        }
    }

    /// What removes the rests of this step, should it have been interrupted; none if it can be repeated as it is.
    pub(super) fn leftovers(&self) -> Vec<Action> {
        let wiped = |device: &String| tolerated(run(["wipefs", "--all", "--force", device]));
        match self {
            Self::FormatLuks { device, .. }
            | Self::MakeBtrfs { device, .. }
            | Self::MakeFilesystem { device, .. }
            | Self::MakeSwap { device, .. }
            | Self::CreatePhysicalVolume { device }
            | Self::ClearTable { device, stage: Stage::Format }
            | Self::CreateTable { device, stage: Stage::Format, .. } => vec![wiped(device)],
            Self::MakeBcachefs { devices, .. } => devices.iter().map(|member| wiped(&member.device)).collect(),
            Self::CreatePool { vdevs, .. } => {
                let members = vdevs.iter().flat_map(|vdev| &vdev.members);
                members.map(|member| tolerated(run(["zpool", "labelclear", "-f", member]))).collect()
            }
            Self::CreateDataset { dataset, .. } | Self::CreateVolume { dataset, .. } => {
                vec![tolerated(run(["zfs", "destroy", "-r", dataset]))]
            }
            Self::CreateArray { name, members, .. } => {
                let stop = tolerated(run(["mdadm".to_owned(), "--stop".to_owned(), format!("/dev/md/{name}")]));
                let clear = |member: &String| tolerated(run(["mdadm", "--zero-superblock", member]));
                [stop].into_iter().chain(members.iter().map(clear)).collect()
            }
            // Limited to our members: another disk may have a group of that name.
            Self::CreateVolumeGroup { group, members, .. } => {
                vec![tolerated(run(["vgremove", "--force", "--yes", "--devices", &members.join(","), group]))]
            }
            Self::CreateLogicalVolume { group, name, .. } => {
                vec![tolerated(run(["lvremove", "--force", "--yes", &format!("{group}/{name}")]))]
            }
            _ => Vec::new(),
        }
    }
}
