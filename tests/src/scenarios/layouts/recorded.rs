//! What disko makes of a layout, as it was recorded, moved to other disks.

use super::cases::Case;
use crate::pi::quoted;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Where the script below mounts a filesystem for a moment; disko's own is a new directory each time.
const WORKPLACE: &str = "/run/disko-recorded";
/// A passphrase as disko's shell passes it on: `$(cat FILE)` has no newline at its end.
pub const PASSPHRASE: &str = "/tmp/secret.key.as-read";

/// A layout and the commands that disko's script ran on blank disks.
#[derive(Debug, Clone, Deserialize)]
pub struct Recorded {
    /// `config.disko.devices`.
    pub devices: Value,
    format: Vec<Vec<String>>,
}

/// Something that a layout makes and that must be opened before one can look inside; in the order of making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// An array, with its members.
    Array(String, Vec<String>),
    /// A LUKS device: how it is opened, and its name.
    Luks(Vec<String>, String),
    /// A volume group.
    Group(String),
    /// A pool.
    Pool(String),
}

impl Recorded {
    /// Reads a case's recording.
    pub fn read(repository: &Path, case: &Case) -> Result<Self> {
        let path = repository.join("protocol/tests/fixtures/disko").join(format!("{}.json", case.fixture));
        let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let recorded: Self = serde_json::from_slice(&text).with_context(|| format!("parsing {}", path.display()))?;
        Ok(recorded.changed(&|word| exact(case.words, word)))
    }

    /// The paths of its disks, by name.
    pub fn disks(&self) -> Result<Vec<String>> {
        let disks = self.devices["disk"].as_object().context("the layout has no disks")?;
        let device = |disk: &Value| disk["device"].as_str().map(str::to_owned).context("a disk has no device");
        disks.values().map(device).collect()
    }

    /// The same on these disks, in the order of [`Recorded::disks`].
    pub fn moved(&self, to: &[String]) -> Result<Self> {
        let from = self.disks()?;
        ensure!(to.len() == from.len(), "{} disks for a layout of {}", to.len(), from.len());
        let map: BTreeMap<&String, &String> = from.iter().zip(to).collect();
        Ok(self.changed(&|word| {
            if let Some(to) = map.get(&word.to_owned()) {
                return Some((*to).clone());
            }
            map.iter()
                .find_map(|(from, to)| Some(format!("{to}-part{}", partition(word.strip_prefix(from.as_str())?)?)))
        }))
    }

    fn changed(&self, change: &dyn Fn(&str) -> Option<String>) -> Self {
        let argv = |argv: &Vec<String>| argv.iter().map(|word| change(word).unwrap_or_else(|| word.clone())).collect();
        Self { devices: in_strings(&self.devices, change), format: self.format.iter().map(argv).collect() }
    }

    /// A script of bash that runs disko's commands, without those that only ask, which say no on blank disks, and without
    /// those that tell the kernel and udev once more what they know: each takes a second in an emulated Pi.
    pub fn script(&self) -> String {
        let mut lines = vec!["set -eux".to_owned(), format!("mkdir -p {WORKPLACE}")];
        for argv in &self.format {
            let argv: Vec<String> = argv
                .iter()
                .map(|word| word.replace("$TMPDIR/tmp.X", WORKPLACE).replace("/dev/fd/N", PASSPHRASE))
                .collect();
            let words: Vec<&str> = argv.iter().map(String::as_str).collect();
            let line = quoted(&words);
            lines.push(match words.as_slice() {
                argv if only_asks(argv) => continue,
                // sgdisk and parted have told the kernel, which has told udev; disko waits for that next.
                ["partprobe", ..] | ["udevadm", "trigger", ..] => continue,
                // disko's own words: it asks whether metadata at the start is meant.
                ["mdadm", "--create", ..] => format!("echo y | {line}"),
                ["modprobe", ..] => format!("{line} || true"),
                _ => line,
            });
        }
        lines.join("\n")
    }

    /// What must be opened to look inside, in the order of making.
    pub fn layers(&self) -> Vec<Layer> {
        let mut layers = Vec::new();
        for argv in &self.format {
            let words: Vec<&str> = argv.iter().map(String::as_str).collect();
            match words.as_slice() {
                ["mdadm", "--create", device, rest @ ..] => {
                    let members = rest.iter().filter(|word| word.starts_with("/dev/")).map(|word| (*word).to_owned());
                    layers.push(Layer::Array((*device).to_owned(), members.collect()));
                }
                ["cryptsetup", "open", _, name, ..] => {
                    let kept = argv.iter().filter(|word| *word != "--persistent");
                    let open = kept.map(|word| word.replace("/dev/fd/N", PASSPHRASE)).collect();
                    layers.push(Layer::Luks(open, (*name).to_owned()));
                }
                ["vgcreate", group, ..] => layers.push(Layer::Group((*group).to_owned())),
                ["zpool", "create", "-f", pool, ..] => layers.push(Layer::Pool((*pool).to_owned())),
                _ => {}
            }
        }
        layers
    }
}

fn exact(words: &[(&str, &str)], word: &str) -> Option<String> {
    words.iter().find(|(from, _)| *from == word).map(|(_, to)| (*to).to_owned())
}

fn in_strings(value: &Value, change: &dyn Fn(&str) -> Option<String>) -> Value {
    match value {
        Value::String(text) => Value::String(change(text).unwrap_or_else(|| text.clone())),
        Value::Array(values) => values.iter().map(|value| in_strings(value, change)).collect(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), in_strings(value, change))).collect())
        }
        other => other.clone(),
    }
}

/// `1`, `p1` and `-part1` behind a disk's path are its first partition.
fn partition(rest: &str) -> Option<&str> {
    let number = rest.strip_prefix("-part").or(rest.strip_prefix('p')).unwrap_or(rest);
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

fn only_asks(argv: &[&str]) -> bool {
    matches!(
        argv,
        ["blkid" | "findmnt" | "lvdisplay" | "vgdisplay", ..]
            | ["zpool", "import" | "list", ..]
            | ["zfs", "get" | "list", ..]
            | ["cryptsetup", "isLuks" | "status", ..]
            | ["btrfs", "subvolume", "show", ..]
    )
}

#[cfg(test)]
mod tests {
    use super::super::cases::{self, ALL};
    use super::*;
    use crate::workshop::repository;

    #[test]
    fn every_case_has_a_root_and_moves_to_other_disks_whole() {
        for case in ALL {
            let recorded = Recorded::read(repository(), case).unwrap();
            let from = recorded.disks().unwrap();
            let to: Vec<String> = (0..from.len()).map(|n| format!("/dev/disk/by-id/virtio-N{n}")).collect();
            let moved = recorded.moved(&to).unwrap();
            let (devices, script) = (moved.devices.to_string(), moved.script());
            assert!(devices.contains("\"mountpoint\":\"/\""), "{}", case.fixture);
            for disk in from {
                assert!(!devices.contains(&format!("\"{disk}")), "{} still has {disk}", case.fixture);
                assert!(!script.contains(&format!(" {disk}")), "{} still has {disk}", case.fixture);
            }
            for (word, _) in case.words {
                assert!(!script.contains(&format!(" {word} ")), "{} still has {word}", case.fixture);
            }
            assert!(!script.contains("TMPDIR") && !script.contains("/dev/fd"), "{script}");
        }
        assert!(Recorded::read(repository(), &cases::MSDOS).unwrap().moved(&[]).is_err());
    }

    #[test]
    fn layers_are_opened_as_they_were_made() {
        let moved = Recorded::read(repository(), &cases::LUKS_LVM).unwrap();
        let open =
            "cryptsetup open /dev/disk/by-partlabel/disk-main-luks crypted --allow-discards --key-file /tmp/secret.key";
        let open = open.split(' ').map(str::to_owned).collect();
        assert_eq!(moved.layers(), [Layer::Luks(open, "crypted".into()), Layer::Group("pool".into())]);
        let moved = Recorded::read(repository(), &cases::MIRROR).unwrap();
        let members = ["a", "b"].map(|disk| format!("/dev/disk/by-partlabel/disk-{disk}-boot"));
        assert_eq!(moved.layers(), [Layer::Array("/dev/md/boot".into(), members.into()), Layer::Pool("rpool".into())]);
    }

    #[test]
    fn partitions_of_a_disk_follow_it() {
        for (rest, number) in [("1", Some("1")), ("p12", Some("12")), ("-part3", Some("3")), ("", None), ("2x", None)] {
            assert_eq!(partition(rest), number);
        }
    }
}
