//! The plan as a person reads it before confirming.

use super::facts::{DiskFacts, PartitionFacts, human_bytes};
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

/// Who a disk is; where what is there is kept, that, too.
fn disk(out: &mut String, disk: &PlannedDisk, losses: &[String], keeps: bool) {
    let facts = &disk.facts;
    wrapped(out, &format!("Disk “{}”  ", disk.name), 2, &format!("{} (now {})", disk.device, facts.kernel_path));
    wrapped(out, "  ", 4, &identity(facts));
    let there = there(disk, losses);
    if there.is_empty() {
        out.push_str("  It is blank.\n");
    } else if keeps {
        out.push_str("  IS KEPT:\n");
        there.iter().for_each(|content| wrapped(out, "    - ", 6, content));
    }
}

/// What is on a disk, each in words.
fn there(disk: &PlannedDisk, losses: &[String]) -> Vec<String> {
    let facts = &disk.facts;
    let contents = if losses.is_empty() { &facts.contents } else { losses };
    if !contents.is_empty() {
        return contents.to_vec();
    }
    let partition = |partition: &PartitionFacts| {
        let kind = partition.fstype.as_deref().unwrap_or("unknown contents");
        let label = partition.label.as_ref().map(|label| format!(" “{label}”")).unwrap_or_default();
        format!("{}: {kind}{label}, {}", partition.path, human_bytes(partition.size_bytes))
    };
    let mut there: Vec<String> = facts.fingerprint.partitions.iter().map(partition).collect();
    there.extend(facts.fingerprint.fstype.iter().map(|fstype| format!("{fstype} on the whole disk")));
    if there.is_empty() && !facts.fingerprint.is_blank() {
        there.push("a partition table without partitions".to_owned());
    }
    there
}

/// A text in which disks have the names that the layout gives them: their links were shown once.
fn named(text: &str, disks: &[PlannedDisk]) -> String {
    let mut disks: Vec<&PlannedDisk> = disks.iter().collect();
    // One link may be the beginning of another.
    disks.sort_by_key(|disk| std::cmp::Reverse(disk.device.len()));
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let whole = disks.iter().find_map(|disk| Some((disk, rest.strip_prefix(disk.device.as_str())?)));
        let begins = !out.ends_with(|c: char| c.is_alphanumeric() || "/-_.".contains(c));
        match whole.filter(|_| begins) {
            Some((disk, after)) => {
                let number = after
                    .strip_prefix("-part")
                    .map(|text| text.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
                let (word, after) = match number.filter(|number| !number.is_empty()) {
                    Some(number) => {
                        (format!("partition {number} of disk “{}”", disk.name), &after["-part".len() + number.len()..])
                    }
                    None => (format!("disk “{}”", disk.name), after),
                };
                // Another device's name that only begins so, such as /dev/sda1.
                if after.starts_with(|c: char| c.is_alphanumeric() || "/-_".contains(c)) {
                    out.push_str(&disk.device);
                    rest = &rest[disk.device.len()..];
                } else {
                    out.push_str(&word);
                    rest = after;
                }
            }
            None => {
                let mut chars = rest.chars();
                out.extend(chars.next());
                rest = chars.as_str();
            }
        }
    }
    out
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
    /// What nobody gets back comes before everything else.
    fn render_losses(&self, out: &mut String) {
        let mut lost: Vec<String> = Vec::new();
        for planned in self.disks.iter().filter(|disk| self.destroys(disk)) {
            let losses = self.losses.get(&planned.name).map_or(&[][..], Vec::as_slice);
            lost.extend(there(planned, losses).iter().map(|content| format!("on disk “{}”: {content}", planned.name)));
        }
        if lost.is_empty() {
            return;
        }
        out.push_str("WILL BE LOST:\n");
        lost.iter().for_each(|content| wrapped(out, "  - ", 4, content));
        out.push('\n');
    }

    /// The plan in plain text, 100 columns wide, with everything a person confirms by its digest.
    #[must_use]
    pub fn render(&self) -> String {
        self.render_with(&self.wanted(), None)
    }

    /// As before, with secrets of which it is known whether they are there, and how many files are laid over the system.
    #[must_use]
    pub fn render_with(&self, secrets: &[Wanted], extra_files: Option<Count>) -> String {
        let mut out = String::new();
        let losses = |planned: &PlannedDisk| self.losses.get(&planned.name).map_or(&[][..], Vec::as_slice);
        if !self.mode.keeps() {
            self.render_losses(&mut out);
        }
        for planned in &self.disks {
            disk(&mut out, planned, losses(planned), self.mode.keeps() || !self.destroys(planned));
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
                wrapped(&mut out, "  - ", 4, &named(&step.sentence(), &self.disks));
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
                (false, true) => format!("give {}, or type it when asked", wanted.option()),
                (false, false) => format!("give {}", wanted.option()),
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
                wrapped(&mut out, "  - ", 4, &named(warning, &self.disks));
            }
        }
        out.push_str(&format!("\nDigest {} ({})\n", self.digest.short(), self.digest));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_called_by_its_name_in_the_layout() {
        let disk = |name: &str, device: &str| PlannedDisk {
            name: name.to_owned(),
            device: device.to_owned(),
            facts: DiskFacts::blank(device, 1 << 30),
            destroy: true,
        };
        let disks =
            [disk("ssd", "/dev/disk/by-id/usb-A"), disk("other", "/dev/disk/by-id/usb-A-2"), disk("c", "/dev/sda")];
        for (text, expected) in [
            ("Write an empty GPT on /dev/disk/by-id/usb-A", "Write an empty GPT on disk “ssd”"),
            ("on /dev/disk/by-id/usb-A: 1 GiB", "on disk “ssd”: 1 GiB"),
            ("on /dev/disk/by-id/usb-A-2, twice", "on disk “other”, twice"),
            ("on /dev/disk/by-id/usb-A-part3 (-F)", "on partition 3 of disk “ssd” (-F)"),
            ("/dev/disk/by-id/usb-A-part3x", "/dev/disk/by-id/usb-A-part3x"),
            ("on /dev/disk/by-id/usb-A-party", "on /dev/disk/by-id/usb-A-party"),
            ("from /dev/sda1 and /dev/sda", "from /dev/sda1 and disk “c”"),
            ("of /dev/sdab, /mnt/dev/sda", "of /dev/sdab, /mnt/dev/sda"),
            ("“ünïcödé” /dev/sda.", "“ünïcödé” disk “c”."),
        ] {
            assert_eq!(named(text, &disks), expected);
        }
    }
}
