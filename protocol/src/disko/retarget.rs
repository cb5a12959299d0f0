//! Putting a disk of a layout onto another device: `--disk NAME=DEVICE`.

use super::error::DiskoError;
use super::names::{self, numbered};
use super::node::join;
use serde_json::Value;

/// A GPT has room for 128 partitions, as sgdisk makes it.
const MOST_PARTITIONS: u32 = 128;

/// Puts disks of a layout (`config.disko.devices`) onto other devices; `moves` are names and paths, each name once.
///
/// disko bakes the path into everything that lies directly on the disk, into the paths of the partitions of its legacy
/// tables, and into pools that name members by path; all of these follow. What is found by its label, its UUID or its
/// name stays, and so do the texts of hooks. The result is to be parsed like any other layout.
///
/// # Errors
/// No disk has that name, the device is not a path under `/dev`, or nobody knows how its partitions would be called.
pub fn retarget(layout: &mut Value, moves: &[(String, String)]) -> Result<(), DiskoError> {
    let all = moves.iter().map(|(name, device)| moving(layout, name, device)).collect::<Result<Vec<Moving>, _>>()?;
    for ((name, _), moving) in moves.iter().zip(&all) {
        if let Some(disk) = layout.get_mut("disk").and_then(|disks| disks.get_mut(name)) {
            devices(disk, moving)?;
        }
    }
    let pools = layout.get_mut("zpool").and_then(Value::as_object_mut);
    for pool in pools.into_iter().flat_map(|pools| pools.values_mut()) {
        // Members are the texts in here that are paths; everything else is a word.
        if let Some(mode) = pool.get_mut("mode").filter(|mode| mode.is_object()) {
            texts(mode, &all)?;
        }
    }
    Ok(())
}

fn moving(layout: &Value, name: &str, device: &str) -> Result<Moving, DiskoError> {
    let at = join("disk", name);
    let disks = layout.get("disk").and_then(Value::as_object);
    let Some(disk) = disks.and_then(|disks| disks.get(name)) else {
        let names: Vec<&str> = disks.into_iter().flat_map(|disks| disks.keys().map(String::as_str)).collect();
        let remedy = match names.as_slice() {
            [] => "import your disko configuration, and define disko.devices.disk".to_owned(),
            names => format!("use one of: {}", names.join(", ")),
        };
        return Err(DiskoError::new(&at, format!("the layout has no disk “{name}”"), remedy));
    };
    let path = format!("{at}.device");
    names::device_path(&path, device)?;
    match disk.get("device").and_then(Value::as_str) {
        Some(old) => Ok(Moving { old: old.to_owned(), new: device.to_owned(), path }),
        None => Err(DiskoError::new(&path, "is missing", "evaluate the layout again")),
    }
}

/// One disk's way from one device to another.
struct Moving {
    old: String,
    new: String,
    /// Where the layout names it.
    path: String,
}

impl Moving {
    /// What becomes of a path; `None` for one that has nothing to do with this disk.
    fn moved(&self, text: &str) -> Result<Option<String>, DiskoError> {
        if text == self.old {
            return Ok(Some(self.new.clone()));
        }
        if !text.starts_with(&self.old) {
            return Ok(None);
        }
        let is_text = |number: &u32| numbered(&self.old, *number).as_deref() == Some(text);
        let Some(number) = (1..=MOST_PARTITIONS).find(is_text) else {
            return Ok(None);
        };
        numbered(&self.new, number).map(Some).ok_or_else(|| {
            let what = format!("nobody knows how the kernel calls partitions of {}", self.new);
            DiskoError::new(&self.path, what, "use a path such as /dev/sda, or better one in /dev/disk/by-id")
        })
    }
}

/// Moves every `device` at any depth.
fn devices(value: &mut Value, moving: &Moving) -> Result<(), DiskoError> {
    match value {
        Value::Object(map) => map.iter_mut().try_for_each(|(key, inner)| match inner {
            Value::String(text) if key == "device" => {
                if let Some(moved) = moving.moved(text)? {
                    *text = moved;
                }
                Ok(())
            }
            _ => devices(inner, moving),
        }),
        Value::Array(items) => items.iter_mut().try_for_each(|item| devices(item, moving)),
        _ => Ok(()),
    }
}

/// Moves every text at any depth, all disks at once: they may change places.
fn texts(value: &mut Value, all: &[Moving]) -> Result<(), DiskoError> {
    match value {
        Value::Object(map) => map.values_mut().try_for_each(|inner| texts(inner, all)),
        Value::Array(items) => items.iter_mut().try_for_each(|item| texts(item, all)),
        Value::String(text) => {
            for moving in all {
                if let Some(moved) = moving.moved(text)? {
                    *text = moved;
                    break;
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
