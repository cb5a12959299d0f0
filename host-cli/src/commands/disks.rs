//! `cygnet disks`: every disk of the Pi, what is on it, and whether a plan may take it. Touches nothing.

use crate::control::{self, unexpected};
use crate::ssh::Target;
use crate::ui::Ui;
use anyhow::Result;
use cygnet_protocol::disks::{DiskList, DiskReport, Health, Layer, Verdict};
use cygnet_protocol::message::{Reply, Request};
use cygnet_protocol::plan::human_bytes;
use cygnet_protocol::text;

/// Carries it out.
pub fn run(ui: &Ui, target: &Target) -> Result<()> {
    let (_session, mut control) = control::connect(target)?;
    let list = match control.request(&Request::Disks)? {
        Reply::Disks(list) => list,
        other => return Err(unexpected("disks", &other)),
    };
    if ui.json() {
        return ui.record(&list);
    }
    ui.data(&text(&list))
}

/// For a person: a tree for each disk.
fn text(list: &DiskList) -> String {
    let mut lines = Vec::new();
    for disk in &list.disks {
        describe(disk, &mut lines);
        lines.push(String::new());
    }
    if list.disks.is_empty() {
        lines.push("There are no disks.".to_owned());
    }
    lines.extend(list.notes.iter().map(|note| format!("Note: {note}")));
    lines.iter().map(|line| text::line(line).trim_end().to_owned() + "\n").collect()
}

fn describe(disk: &DiskReport, lines: &mut Vec<String>) {
    let mut about = vec![
        disk.model.clone().unwrap_or_else(|| "no model name".to_owned()),
        human_bytes(disk.size_bytes),
        disk.bus.clone().unwrap_or_else(|| "unknown bus".to_owned()),
    ];
    about.extend(disk.removable.then(|| "removable".to_owned()));
    about.extend(disk.read_only.then(|| "read-only".to_owned()));
    about.extend(disk.is_running_disk.then(|| "the Pi runs from it".to_owned()));
    lines.push(format!("{}  {}", disk.path, about.join(", ")));
    let mut field = |name: &str, value: &str| lines.push(format!("  {name:<9}{value}"));
    for (nth, link) in disk.by_id.iter().enumerate() {
        field(if nth == 0 { "by-id" } else { "" }, link);
    }
    if disk.by_id.is_empty() {
        for (nth, link) in disk.by_path.iter().enumerate() {
            field(if nth == 0 { "by-path" } else { "" }, link);
        }
    }
    field("serial", disk.serial.as_deref().unwrap_or("none"));
    field("sectors", &format!("{} bytes, {} physically", disk.logical_sector_bytes, disk.physical_sector_bytes));
    field("health", &health(&disk.health));
    if disk.objections.is_empty() {
        field("plan", "may take it");
    } else {
        field("plan", &format!("may not take it: {}", disk.objections.join("; ")));
    }
    for warning in &disk.warnings {
        field("warning", warning);
    }
    let on_it = contents(&disk.holds);
    let blank = on_it.is_empty() && disk.holds.children.is_empty();
    field("holds", if blank { "nothing" } else { &on_it });
    branches(&disk.holds, "           ", lines);
}

fn health(health: &Health) -> String {
    let verdict = match health.verdict {
        Verdict::Passed => "good",
        Verdict::Failing => "FAILING",
        Verdict::Unknown => "unknown",
    };
    let mut words = vec![verdict.to_owned()];
    words.extend(health.why.clone());
    words.extend(health.celsius.map(|degrees| format!("{degrees} °C")));
    words.extend(health.hours.map(|hours| format!("{hours} h of use")));
    words.extend(health.worn_percent.map(|percent| format!("{percent} % worn")));
    words.join(", ")
}

/// What a device holds itself, and who uses it.
fn contents(layer: &Layer) -> String {
    let mut words: Vec<String> = layer.contents.iter().map(cygnet_protocol::disks::Content::words).collect();
    words.extend(layer.mounts.iter().map(|at| match at.as_str() {
        "[SWAP]" => "active swap".to_owned(),
        at => format!("mounted at {at}"),
    }));
    words.join("; ")
}

fn branches(layer: &Layer, indent: &str, lines: &mut Vec<String>) {
    for (nth, child) in layer.children.iter().enumerate() {
        let last = nth + 1 == layer.children.len();
        let (corner, trunk) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let name = child.name.as_ref().map(|name| format!(" “{name}”")).unwrap_or_default();
        let kind = if child.kind == "part" { String::new() } else { format!(" ({})", child.kind) };
        let on_it = contents(child);
        let on_it = match (on_it.as_str(), child.children.is_empty()) {
            ("", true) => "nothing known".to_owned(),
            _ => on_it,
        };
        let size = human_bytes(child.size_bytes);
        lines.push(format!("{indent}{corner}{}{name}{kind}  {size}  {on_it}", child.path));
        branches(child, &format!("{indent}{trunk}"), lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::disks::Content;

    #[test]
    fn a_disk_is_a_tree() {
        let volume = Layer {
            path: "/dev/mapper/vg0-root".into(),
            kind: "lvm".into(),
            size_bytes: 10 << 30,
            contents: vec![Content::Filesystem {
                format: "ext4".into(),
                label: Some("ro\u{1b}ot".into()),
                used_bytes: Some(3 << 30),
                total_bytes: Some(10 << 30),
                others: vec![],
            }],
            mounts: vec!["/data".into()],
            ..Layer::default()
        };
        let part = |path: &str, children: Vec<Layer>| Layer {
            path: path.into(),
            kind: "part".into(),
            size_bytes: 20 << 30,
            name: Some("data".into()),
            children,
            ..Layer::default()
        };
        let disk = DiskReport {
            path: "/dev/sda".into(),
            model: Some("PSSD T7".into()),
            size_bytes: 1 << 40,
            bus: Some("usb".into()),
            by_id: vec!["/dev/disk/by-id/usb-T7".into()],
            logical_sector_bytes: 512,
            physical_sector_bytes: 4096,
            objections: vec!["/dev/mapper/vg0-root is mounted at /data".into()],
            health: Health { celsius: Some(40), verdict: Verdict::Passed, ..Health::default() },
            holds: Layer {
                contents: vec![Content::Table { format: "gpt".into(), partitions: 2 }],
                children: vec![part("/dev/sda1", vec![volume]), part("/dev/sda2", vec![])],
                ..Layer::default()
            },
            ..DiskReport::default()
        };
        let shown = text(&DiskList { disks: vec![disk, DiskReport::default()], notes: vec!["x".into()] });
        let expected = "\
/dev/sda  PSSD T7, 1 TiB, usb
  by-id    /dev/disk/by-id/usb-T7
  serial   none
  sectors  512 bytes, 4096 physically
  health   good, 40 °C
  plan     may not take it: /dev/mapper/vg0-root is mounted at /data
  holds    GPT partition table with 2 partitions
           ├─ /dev/sda1 “data”  20 GiB
           │  └─ /dev/mapper/vg0-root (lvm)  10 GiB  ext4 “ro\u{fffd}ot”, 3 GiB in use of 10 GiB; mounted at /data
           └─ /dev/sda2 “data”  20 GiB  nothing known
";
        assert!(shown.starts_with(expected), "{shown}");
        assert!(shown.contains("  holds    nothing\n") && shown.ends_with("Note: x\n"), "{shown}");
    }
}
