//! Mounting under [`TARGET`](super::TARGET).

use super::Options;
use super::format::hook;
use super::order::{mounted_before, toposort};
use super::refusal::Refusal;
use super::step::{HookTime, Stage, Step};
use crate::disko::{Content, DatasetKind, Devices, Filesystem, Hooks, join};

/// A node of the layout around a mount, with the path that names it.
type Around<'a> = Vec<(String, &'a Hooks)>;

/// One filesystem the installed system mounts.
pub(super) struct Mounted<'a> {
    /// Where, in the installed system.
    pub at: &'a str,
    /// What NixOS has as `device`, for the order.
    pub device: &'a str,
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
    /// A partition: disk and index.
    Partition(&'a str, usize),
    /// A whole disk.
    Disk(&'a str),
    /// A dataset of this pool (its key).
    Pool(&'a str),
    /// A volume of this size (as text).
    Volume(&'a str),
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
    for (name, disk) in &devices.disks {
        let owner = join("disk", name);
        let mut around: Around = vec![(owner.clone(), &disk.hooks)];
        match &disk.content {
            Content::Gpt(gpt) => {
                around.push((format!("{owner}.content"), &gpt.hooks));
                for (index, partition) in gpt.partitions.iter().enumerate() {
                    let Some(content) = &partition.content else {
                        continue;
                    };
                    let path = format!("{}.content", join(&format!("{owner}.content.partitions"), &partition.key));
                    let device = (partition.disko_device.as_str(), partition.device.clone());
                    tree.content(path, content, device, Backing::Partition(name, index), &around);
                }
            }
            content => {
                let device = (disk.device.as_str(), disk.device.clone());
                tree.content(format!("{owner}.content"), content, device, Backing::Disk(name), &around);
            }
        }
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
                    let (device, source) = (dataset.name.as_str(), dataset.name.clone());
                    let backing = Backing::Pool(key);
                    tree.mounts.push(Mounted { at, device, backing, source, fstype: "zfs", options, around });
                }
                DatasetKind::Volume { content: Some(content), size, .. } => {
                    let device = format!("/dev/zvol/{}", dataset.name);
                    tree.content(format!("{path}.content"), content, ("", device), Backing::Volume(size), &around);
                }
                DatasetKind::Volume { content: None, .. } => {}
            }
        }
    }
    for (key, nodev) in &devices.nodev {
        let Some(at) = nodev.mountpoint.as_deref() else {
            continue;
        };
        let binds = nodev.mount_options.iter().any(|option| option == "bind" || option == "rbind");
        let (source, backing) = match (binds, nodev.fstype.as_str()) {
            (true, _) => (under_target(&nodev.device), Backing::Bind(&nodev.device)),
            (false, "tmpfs" | "ramfs" | "none") => (nodev.device.clone(), Backing::Memory),
            (false, _) => (nodev.device.clone(), Backing::Elsewhere),
        };
        tree.mounts.push(Mounted {
            at,
            device: &nodev.device,
            backing,
            source,
            fstype: &nodev.fstype,
            options: nodev.mount_options.clone(),
            around: vec![(join("nodev", key), &nodev.hooks)],
        });
    }
    tree.mounts.sort_by(|a, b| a.at.cmp(b.at));
    match toposort(tree.mounts, |a, b| mounted_before(a.at, b.at, b.device)) {
        Some(mounts) => Ok(Tree { mounts, swaps: tree.swaps }),
        None => Err(Refusal::Layout {
            path: "nodev".to_owned(),
            what: "bind mounts need each other to be mounted first".to_owned(),
            remedy: "remove one of the bind mounts that form the circle".to_owned(),
        }),
    }
}

impl<'a> Tree<'a> {
    fn content(
        &mut self,
        path: String,
        content: &'a Content,
        (device, source): (&'a str, String),
        backing: Backing<'a>,
        around: &Around<'a>,
    ) {
        let mut around = around.clone();
        match content {
            Content::Filesystem(Filesystem { mountpoint: Some(at), format, mount_options, hooks, .. }) => {
                around.push((path, hooks));
                let options = mount_options.clone();
                self.mounts.push(Mounted { at, device, backing, source, fstype: format, options, around });
            }
            Content::Swap(swap) => {
                around.push((path, &swap.hooks));
                self.swaps.push(SwapSpace { device: source, swap, around });
            }
            Content::Filesystem(_) | Content::Zfs(_) | Content::Gpt(_) => {}
        }
    }
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

fn ours(options: &[String]) -> Vec<String> {
    options.iter().filter(|option| !only_fstab(option)).cloned().collect()
}

fn wrapped(around: &Around<'_>, step: Option<Step>) -> Vec<Step> {
    let pre = around.iter().filter_map(|(owner, hooks)| hook(owner, hooks, HookTime::PreMount, Stage::Mount));
    let post = around.iter().rev().filter_map(|(owner, hooks)| hook(owner, hooks, HookTime::PostMount, Stage::Mount));
    pre.chain(step).chain(post).collect()
}

/// The steps, in disko's order: what belongs to devices, then filesystems; and then swap, which disko forgets.
pub(super) fn mount(devices: &Devices, tree: &Tree<'_>, options: &Options) -> Vec<Step> {
    let mut steps = Vec::new();
    // disko wraps a node's mount hooks around its device's fragment and around every filesystem below it.
    for (name, disk) in &devices.disks {
        let owner = join("disk", name);
        let mut around = vec![(owner.clone(), &disk.hooks)];
        if let Content::Gpt(gpt) = &disk.content {
            around.push((format!("{owner}.content"), &gpt.hooks));
        }
        steps.extend(wrapped(&around, None));
    }
    for (key, pool) in &devices.pools {
        steps.extend(wrapped(&vec![(join("zpool", key), &pool.hooks)], None));
    }
    for mounted in &tree.mounts {
        let step = Step::Mount {
            source: mounted.source.clone(),
            target: under_target(mounted.at),
            fstype: mounted.fstype.to_owned(),
            options: ours(&mounted.options),
        };
        steps.extend(wrapped(&mounted.around, Some(step)));
    }
    if options.swap_on {
        for SwapSpace { device, swap, around } in &tree.swaps {
            let step = Step::SwapOn {
                device: device.clone(),
                discard: swap.discard.clone(),
                priority: swap.priority,
                options: ours(&swap.mount_options),
            };
            steps.extend(wrapped(around, Some(step)));
        }
    }
    steps
}
