//! Mounting under [`TARGET`](super::TARGET).

use super::Options;
use super::afterwards::closings;
use super::format::hook;
use super::order::mounted_before;
use super::parts::{HookTime, Stage};
use super::refusal::Refusal;
use super::step::Step;
use crate::disko::{Around, Content, DatasetKind, Devices, Hooks, Origin, Placed, Top, join, toposort};

/// One filesystem the installed system mounts.
pub(super) struct Mounted<'a> {
    /// Where, in the installed system.
    pub at: &'a str,
    /// What NixOS has as `device`, for the order.
    pub device: String,
    /// What holds its data.
    pub backing: Backing<'a>,
    /// Source as mount(8) is told.
    pub source: String,
    /// Type as mount(8) is told.
    pub fstype: &'a str,
    /// Options, as the layout has them, and those disko adds.
    pub options: Vec<String>,
    around: Around<'a>,
}

/// What holds a filesystem's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Backing<'a> {
    /// A partition, a disk, or something made of them.
    Device(Origin<'a>),
    /// A dataset of this pool (its key).
    Pool(&'a str),
    /// Memory.
    Memory,
    /// Another directory of the installed system.
    Bind(&'a str),
    /// Somewhere else.
    Elsewhere,
}

struct SwapSpace<'a> {
    device: String,
    swap: &'a crate::disko::Swap,
    around: Around<'a>,
}

/// What the layout mounts and swaps on.
pub(super) struct Tree<'a> {
    /// Filesystems, in the order they are mounted.
    pub mounts: Vec<Mounted<'a>>,
    swaps: Vec<SwapSpace<'a>>,
}

/// Collects everything mounted and sorts it.
pub(super) fn tree(devices: &Devices) -> Result<Tree<'_>, Refusal> {
    let mut tree = Tree { mounts: Vec::new(), swaps: Vec::new() };
    for placed in devices.contents() {
        tree.content(&placed);
    }
    for (key, pool) in &devices.pools {
        let owner = join("zpool", key);
        for dataset in &pool.datasets {
            let path = join(&format!("{owner}.datasets"), &dataset.key);
            let around = vec![(owner.clone(), &pool.hooks), (path.clone(), &dataset.hooks)];
            match &dataset.kind {
                DatasetKind::Filesystem { mount_options, .. } => {
                    let Some(at) = dataset.mounted_at() else {
                        continue;
                    };
                    let mut options = mount_options.clone();
                    if dataset.options.get("mountpoint").map(String::as_str) != Some("legacy") {
                        options.push("zfsutil".to_owned());
                    }
                    let (device, source) = (dataset.name.clone(), dataset.name.clone());
                    let backing = Backing::Pool(key);
                    tree.mounts.push(Mounted { at, device, backing, source, fstype: "zfs", options, around });
                }
                DatasetKind::Volume { .. } => {}
            }
        }
    }
    for (key, filesystem) in &devices.bcachefs {
        let around = vec![(Top::Bcachefs(key).path(), &filesystem.hooks)];
        let source = format!("/dev/disk/by-uuid/{}", filesystem.uuid);
        if let Some(at) = filesystem.mountpoint.as_deref() {
            let options = beyond_mkdir(&filesystem.mount_options, None);
            tree.mounts.push(Mounted {
                at,
                device: source.clone(),
                backing: Backing::Elsewhere,
                source: source.clone(),
                fstype: "bcachefs",
                options,
                around: around.clone(),
            });
        }
        for subvolume in filesystem.subvolumes.values() {
            let Some(at) = subvolume.mountpoint.as_deref() else {
                continue;
            };
            tree.mounts.push(Mounted {
                at,
                device: source.clone(),
                backing: Backing::Elsewhere,
                source: source.clone(),
                fstype: "bcachefs",
                options: beyond_mkdir(&subvolume.mount_options, Some(&subvolume.name)),
                around: around.clone(),
            });
        }
    }
    for (key, nodev) in &devices.nodev {
        let Some(at) = nodev.mountpoint.as_deref() else {
            continue;
        };
        let binds = binds(&nodev.mount_options);
        let (source, backing) = match (binds, nodev.fstype.as_str()) {
            (true, _) => (under_target(&nodev.device), Backing::Bind(&nodev.device)),
            (false, "tmpfs" | "ramfs" | "none") => (nodev.device.clone(), Backing::Memory),
            (false, _) => (nodev.device.clone(), Backing::Elsewhere),
        };
        tree.mounts.push(Mounted {
            at,
            device: nodev.device.clone(),
            backing,
            source,
            fstype: &nodev.fstype,
            options: nodev.mount_options.clone(),
            around: vec![(join("nodev", key), &nodev.hooks)],
        });
    }
    tree.mounts.sort_by(|a, b| a.at.cmp(b.at));
    match toposort(tree.mounts, |a, b| mounted_before(a.at, b.at, &b.device)) {
        Some(mounts) => Ok(Tree { mounts, swaps: tree.swaps }),
        None => Err(Refusal::Layout {
            path: "nodev".to_owned(),
            what: "bind mounts need each other to be mounted first".to_owned(),
            remedy: "remove one of the bind mounts that form the circle".to_owned(),
        }),
    }
}

/// Options of a bcachefs besides the X-mount.mkdir that every mount has, with the subvolume first.
fn beyond_mkdir(options: &[String], subvolume: Option<&str>) -> Vec<String> {
    let subdirectory = subvolume.map(|name| format!("X-mount.subdir={name}"));
    let others = options.iter().filter(|option| *option != "X-mount.mkdir" && Some(*option) != subdirectory.as_ref());
    subdirectory.iter().chain(others).cloned().collect()
}

impl<'a> Tree<'a> {
    fn content(&mut self, placed: &Placed<'a>) {
        let mut around = placed.around.clone();
        around.push((placed.path.clone(), placed.hooks()));
        let mounted = |at: &'a str, fstype: &'a str, options: Vec<String>| Mounted {
            at,
            device: placed.disko_device.clone(),
            backing: Backing::Device(placed.origin),
            source: placed.device.clone(),
            fstype,
            options,
            around: around.clone(),
        };
        match placed.content {
            Content::Filesystem(filesystem) => {
                let at = filesystem.mountpoint.iter();
                self.mounts.extend(at.map(|at| mounted(at, &filesystem.format, filesystem.mount_options.clone())));
            }
            Content::Btrfs(btrfs) => {
                let at = btrfs.mountpoint.iter();
                self.mounts.extend(at.map(|at| mounted(at, "btrfs", btrfs.mount_options.clone())));
                for subvolume in &btrfs.subvolumes {
                    let mut options = subvolume.mount_options.clone();
                    options.push(format!("subvol={}", subvolume.name));
                    let at = subvolume.mountpoint.iter();
                    self.mounts.extend(at.map(|at| mounted(at, "btrfs", options.clone())));
                }
            }
            Content::Swap(swap) if !swap.random_encryption => {
                self.swaps.push(SwapSpace { device: placed.device.clone(), swap, around });
            }
            Content::Swap(_)
            | Content::Gpt(_)
            | Content::Table(_)
            | Content::Luks(_)
            | Content::Zfs(_)
            | Content::Mdraid(_)
            | Content::LvmPv(_)
            | Content::Bcachefs(_) => {}
        }
    }
}

/// Whether they mount a directory at another place.
pub(super) fn binds(options: &[String]) -> bool {
    options.iter().flat_map(|option| option.split(',')).any(|word| matches!(word, "bind" | "rbind"))
}

/// `/mnt` and a path of the installed system.
pub(super) fn under_target(at: &str) -> String {
    let at = crate::disko::normal(at);
    if at == "/" { super::TARGET.to_owned() } else { format!("{}{at}", super::TARGET) }
}

/// Words meant for fstab's readers at boot. Here they would hide a failure (`nofail`) or do nothing.
fn only_fstab(option: &str) -> bool {
    matches!(option, "auto" | "noauto" | "nofail" | "_netdev")
        || option.starts_with("x-")
        || option.starts_with("comment=")
}

/// Several options may stand in one element, with commas between them, as mount(8) has it.
fn ours(options: &[String]) -> Vec<String> {
    let kept = |option: &String| {
        let kept: Vec<&str> = option.split(',').filter(|word| !only_fstab(word)).collect();
        (!kept.is_empty()).then(|| kept.join(","))
    };
    options.iter().filter_map(kept).collect()
}

type Times = (HookTime, HookTime, Stage);
const MOUNT: Times = (HookTime::PreMount, HookTime::PostMount, Stage::Mount);
const UNMOUNT: Times = (HookTime::PreUnmount, HookTime::PostUnmount, Stage::Unmount);

fn wrapped(around: &Around<'_>, (before, after, stage): Times, steps: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let pre = around.iter().filter_map(|(owner, hooks)| hook(owner, hooks, before, stage));
    let post = around.iter().rev().filter_map(|(owner, hooks)| hook(owner, hooks, after, stage));
    pre.chain(steps).chain(post).collect()
}

/// The nodes around what of a top-level node is opened rather than mounted: itself, tables and LUKS devices.
///
/// disko wraps a node's mount hooks around its device's fragment and around every filesystem below it.
fn around_devices<'a>(devices: &'a Devices, top: Top<'a>) -> Around<'a> {
    fn add<'a>(placed: &Placed<'a>, around: &mut Around<'a>) {
        if matches!(placed.content, Content::Gpt(_) | Content::Table(_) | Content::Luks(_)) {
            around.push((placed.path.clone(), placed.hooks()));
            placed.inner().iter().for_each(|inner| add(inner, around));
        }
    }
    let hooks: Option<&Hooks> = match top {
        Top::Disk(key) => devices.disks.get(key).map(|disk| &disk.hooks),
        Top::Array(key) => devices.arrays.get(key).map(|array| &array.hooks),
        Top::Group(key) => devices.groups.get(key).map(|group| &group.hooks),
        Top::Pool(key) => devices.pools.get(key).map(|pool| &pool.hooks),
        Top::Bcachefs(_) | Top::Nodev(_) => None,
    };
    let mut around: Around<'a> = hooks.map(|hooks| (top.path(), hooks)).into_iter().collect();
    devices.outermost(top).iter().for_each(|placed| add(placed, &mut around));
    around
}

/// The steps, in disko's order: what belongs to devices, then filesystems; and then swap, which disko forgets.
pub(super) fn mount(devices: &Devices, order: &[Top<'_>], tree: &Tree<'_>, options: &Options) -> Vec<Step> {
    let mut steps = Vec::new();
    for top in order {
        steps.extend(wrapped(&around_devices(devices, *top), MOUNT, None));
    }
    for mounted in &tree.mounts {
        let step = Step::Mount {
            source: mounted.source.clone(),
            target: under_target(mounted.at),
            fstype: mounted.fstype.to_owned(),
            options: ours(&mounted.options),
        };
        steps.extend(wrapped(&mounted.around, MOUNT, Some(step)));
    }
    if options.swap_on {
        for SwapSpace { device, swap, around } in &tree.swaps {
            let step = Step::SwapOn {
                device: device.clone(),
                discard: swap.discard.clone(),
                priority: swap.priority,
                options: ours(&swap.mount_options),
            };
            steps.extend(wrapped(around, MOUNT, Some(step)));
        }
    }
    steps
}

/// Undoing all that, with the hooks around it. `made` is what each node of the top level is made by, in order.
pub(super) fn unmount(
    devices: &Devices,
    made: &[(Top<'_>, Vec<Step>)],
    tree: &Tree<'_>,
    options: &Options,
) -> Vec<Step> {
    let mut steps = Vec::new();
    if options.swap_on {
        for SwapSpace { device, around, .. } in tree.swaps.iter().rev() {
            steps.extend(wrapped(around, UNMOUNT, Some(Step::SwapOff { device: device.clone() })));
        }
    }
    for mounted in tree.mounts.iter().rev() {
        let step = Step::Unmount { target: under_target(mounted.at) };
        steps.extend(wrapped(&mounted.around, UNMOUNT, Some(step)));
    }
    for (top, made) in made.iter().rev() {
        steps.extend(wrapped(&around_devices(devices, *top), UNMOUNT, closings(made)));
    }
    steps
}
