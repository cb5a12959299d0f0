//! The plan as a person reads it before confirming.

use super::facts::{DiskFacts, human_bytes};
use super::parts::Stage;
use super::step::Step;
use super::{Plan, PlannedDisk, StoreSpace, Wanted};
use crate::extra::Count;
use crate::text::escaped;

/// Width in characters no line exceeds, unless one word does.
const WIDTH: usize = 100;

/// Breaks `text` at blanks; lines after the first are indented by `hanging`.
fn wrapped(out: &mut String, first: &str, hanging: usize, text: &str) {
    // Disks choose their own model names, and layouts and hooks may hold anything.
    let mut line = escaped(first);
    let mut empty = true;
    for word in text.split_whitespace() {
        let extra = usize::from(!empty);
        if !empty && line.chars().count() + extra + word.chars().count() > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line = " ".repeat(hanging);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(&escaped(word));
        empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

fn identity(facts: &DiskFacts) -> String {
    let mut parts = Vec::new();
    parts.push(facts.model.clone().unwrap_or_else(|| "no model name".to_owned()));
    parts.push(facts.serial.as_ref().map_or_else(|| "no serial".to_owned(), |serial| format!("serial {serial}")));
    parts.push(human_bytes(facts.size_bytes));
    parts.extend(facts.bus.clone());
    if facts.removable {
        parts.push("removable".to_owned());
    }
    parts.join(", ")
}

fn heading(stage: Stage) -> &'static str {
    match stage {
        Stage::Destroy => "Destroy",
        Stage::Partition => "Partition",
        Stage::Format => "Format",
        Stage::Mount => "Mount",
        Stage::Unmount => "Unmount",
    }
}

fn disk(out: &mut String, disk: &PlannedDisk, losses: &[String], keeps: bool) {
    let facts = &disk.facts;
    wrapped(out, &format!("Disk “{}”  ", disk.name), 2, &format!("{} (now {})", disk.device, facts.kernel_path));
    wrapped(out, "  ", 4, &identity(facts));
    if facts.contents.is_empty() && facts.fingerprint.is_blank() && losses.is_empty() {
        out.push_str("  It is blank.\n");
        return;
    }
    out.push_str(if keeps { "  IS KEPT:\n" } else { "  WILL BE LOST:\n" });
    let contents = if losses.is_empty() { &facts.contents } else { losses };
    for content in contents {
        wrapped(out, "    - ", 6, content);
    }
    if contents.is_empty() {
        for partition in &facts.fingerprint.partitions {
            let kind = partition.fstype.as_deref().unwrap_or("unknown contents");
            let label = partition.label.as_ref().map(|label| format!(" “{label}”")).unwrap_or_default();
            let size = human_bytes(partition.size_bytes);
            wrapped(out, "    - ", 6, &format!("{}: {kind}{label}, {size}", partition.path));
        }
        if let Some(fstype) = &facts.fingerprint.fstype {
            wrapped(out, "    - ", 6, &format!("{fstype} on the whole disk"));
        }
        if facts.fingerprint.partitions.is_empty() && facts.fingerprint.fstype.is_none() {
            out.push_str("    - a partition table without partitions\n");
        }
    }
}

fn space(store: &StoreSpace) -> String {
    let StoreSpace { holder, mountpoint, size_bytes, system_bytes, free_bytes } = store;
    let size = human_bytes(*size_bytes);
    let there = format!("/nix/store will be on {holder}, mounted at {mountpoint}: {size}");
    match (system_bytes, free_bytes) {
        (Some(system), Some(free)) => {
            format!("{there}, {} for the system, {} free after it", human_bytes(*system), human_bytes(*free))
        }
        _ => there,
    }
}

impl Plan {
    /// The plan in plain text, 100 columns wide, with everything a person confirms by its digest.
    #[must_use]
    pub fn render(&self) -> String {
        self.render_with(&self.wanted(), None)
    }

    /// As before, with secrets of which it is known whether they are there, and how many files are laid over the system.
    #[must_use]
    pub fn render_with(&self, secrets: &[Wanted], extra_files: Option<Count>) -> String {
        let mut out = String::new();
        for planned in &self.disks {
            let losses = self.losses.get(&planned.name).map_or(&[][..], Vec::as_slice);
            disk(&mut out, planned, losses, self.mode.keeps());
            out.push('\n');
        }
        let mut stage = None;
        for step in &self.steps {
            // Neither a decision: waiting, and clearing the ground of a partition just made.
            if matches!(step, Step::WaitForDevice { .. } | Step::WipeSignatures { stage: Stage::Format, .. }) {
                continue;
            }
            if stage != Some(step.phase()) {
                stage = Some(step.phase());
                out.push_str(heading(step.phase()));
                out.push('\n');
            }
            if let Step::Hook { owner, when, script, .. } = step {
                wrapped(&mut out, "  - ", 4, &format!("Run the {} of {owner}, with bash:", when.option()));
                // Verbatim, as it will run.
                for line in script.trim_end().lines() {
                    out.push_str("      | ");
                    out.push_str(&escaped(line.trim_end()));
                    out.push('\n');
                }
            } else {
                wrapped(&mut out, "  - ", 4, &step.sentence());
            }
        }
        if let Some(store) = &self.store {
            out.push_str("\nSpace\n");
            wrapped(&mut out, "  - ", 4, &space(store));
        }
        if !secrets.is_empty() {
            out.push_str("\nSecrets\n");
        }
        for wanted in secrets {
            let how = match (wanted.there || wanted.given, wanted.kind.is_text()) {
                (true, _) if wanted.given => "given".to_owned(),
                (true, _) => "it is on the Pi already".to_owned(),
                (false, true) => format!("give --secret {}=FILE, or type it when asked", wanted.name),
                (false, false) => format!("give --secret {}=FILE", wanted.name),
            };
            wrapped(&mut out, "  - ", 4, &format!("{wanted}: {how}"));
        }
        if let Some(count) = extra_files {
            out.push_str("\nExtra files\n");
            wrapped(&mut out, "  - ", 4, &format!("Lay {count} over the root of the new system, owned by root"));
        }
        if !self.warnings.is_empty() {
            out.push_str("\nWarnings\n");
            for warning in &self.warnings {
                wrapped(&mut out, "  - ", 4, warning);
            }
        }
        out.push_str(&format!("\nDigest {} ({})\n", self.digest.short(), self.digest));
        out
    }
}
