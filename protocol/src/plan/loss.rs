//! What a plan would destroy.

use super::parts::Stage;
use super::refusal::Refusal;
use super::step::Step;
use super::{Plan, PlannedDisk};

/// Whether carrying out this step loses what the disk has now. Formatting happens on what was made by such a step, or is
/// left alone by the tools where something is.
fn loses(step: &Step, disk: &PlannedDisk) -> bool {
    let is_there = |device: &str| {
        let facts = &disk.facts;
        device == disk.device
            || device == facts.kernel_path
            || facts.links.iter().any(|link| link == device)
            || facts.fingerprint.partitions.iter().any(|partition| partition.path == device)
    };
    match step {
        Step::ClearPoolLabel { device }
        | Step::WipeSignatures { device, .. }
        | Step::ClearArrayMember { device }
        | Step::RemovePhysicalVolume { device }
        | Step::EraseLabels { device, .. }
        | Step::ZapTable { device }
        | Step::ClearTable { device, .. }
        | Step::CreateTable { device, .. } => is_there(device),
        // Whatever else there will be to destroy with says so by its stage.
        other => {
            other.phase() == Stage::Destroy
                && !matches!(other, Step::Deactivate { .. } | Step::ProveBlank { .. } | Step::Hook { .. })
        }
    }
}

impl Plan {
    /// Whether anything that is on this disk now is lost.
    pub(super) fn destroys(&self, disk: &PlannedDisk) -> bool {
        self.steps.iter().any(|step| loses(step, disk))
    }

    /// What would be lost, disk by disk, in words; empty if all that is destroyed is blank.
    #[must_use]
    pub fn destroyed(&self) -> Vec<String> {
        let full = |disk: &&PlannedDisk| !disk.facts.fingerprint.is_blank() || !disk.facts.contents.is_empty();
        let lost = self.disks.iter().filter(full).filter(|disk| self.destroys(disk));
        lost.map(|disk| {
            let facts = &disk.facts;
            let contents = match facts.contents.as_slice() {
                [] => "something of which only the partition table is known".to_owned(),
                contents => contents.join(", "),
            };
            format!("disk “{}” ({}): {contents}", disk.name, facts.kernel_path)
        })
        .collect()
    }

    /// Refuses a plan that would destroy anything (`--keep-data`).
    ///
    /// # Errors
    /// [`Refusal::WouldDestroy`], with all of it.
    pub fn keeps_data(&self) -> Result<(), Refusal> {
        match self.destroyed() {
            losses if losses.is_empty() => Ok(()),
            losses => Err(Refusal::WouldDestroy { losses }),
        }
    }
}
