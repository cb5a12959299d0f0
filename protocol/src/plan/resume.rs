//! How a plan is gone on with that was interrupted before all was formatted.
//!
//! The journal tells how many steps were done. Of the next one nobody knows how far it got: what it may have left is
//! cleared away, and it is done again. Where that alone would not do (a partition in a table, a subvolume in a
//! filesystem), it is gone back to the step that made what it is in, which is a matter of seconds and never loses
//! anything: nothing but the plan's own steps has been on those disks since.

use super::Plan;
use super::action::{Action, run, tolerated};
use super::parts::Stage;
use super::step::Step;

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

    /// How to go on after the first `done` steps, of which the next one may have begun.
    #[must_use]
    pub fn go_on(&self, done: usize) -> GoOn {
        let end = self.steps_until_formatted();
        let done = done.min(end);
        let from = self.safe_point(done);
        let doubtful = self.steps.get(from..end.min(done + 1)).unwrap_or_default();
        let clear = doubtful.iter().rev().filter(|step| !step.leftovers().is_empty());
        GoOn {
            open: self.reopen(from),
            clear: clear.map(|step| Step::ClearAway { step: Box::new(step.clone()) }).collect(),
            from,
        }
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
