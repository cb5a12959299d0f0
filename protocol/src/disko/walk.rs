//! Everything a layout puts on a device, however deep it lies, with what is known about the device.

use super::model::{Content, DatasetKind, Devices, Hooks};
use super::names::numbered;
use super::node::join;

/// A node of the layout's top level, in the order in which disko lists the kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Top<'a> {
    /// `bcachefs_filesystems`.
    Bcachefs(&'a str),
    /// `disk`.
    Disk(&'a str),
    /// `lvm_vg`.
    Group(&'a str),
    /// `mdadm`.
    Array(&'a str),
    /// `nodev`.
    Nodev(&'a str),
    /// `zpool`.
    Pool(&'a str),
}

impl Top<'_> {
    /// Its path in the JSON.
    pub(crate) fn path(self) -> String {
        match self {
            Self::Bcachefs(key) => join("bcachefs_filesystems", key),
            Self::Disk(key) => join("disk", key),
            Self::Group(key) => join("lvm_vg", key),
            Self::Array(key) => join("mdadm", key),
            Self::Nodev(key) => join("nodev", key),
            Self::Pool(key) => join("zpool", key),
        }
    }
}

/// Where the bytes of a content are, as far as its size can be known before anything is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin<'a> {
    /// A whole disk.
    Disk(&'a str),
    /// A partition of a disk's GPT: name of the disk, index.
    Partition(&'a str, usize),
    /// Another device that is made of these.
    Elsewhere,
}

/// A node and its scripts, from the outside in.
pub(crate) type Around<'a> = Vec<(String, &'a Hooks)>;

/// A content in its place.
#[derive(Debug, Clone)]
pub(crate) struct Placed<'a> {
    /// Path of the content in the JSON.
    pub path: String,
    /// The device as the kernel and udev call it.
    pub device: String,
    /// The device as disko calls it.
    pub disko_device: String,
    /// What is put there.
    pub content: &'a Content,
    /// Where its bytes are.
    pub origin: Origin<'a>,
    /// The top-level node it belongs to.
    pub top: Top<'a>,
    /// The nodes around it.
    pub around: Around<'a>,
    /// Attribute name of the GPT partition it fills.
    pub partition: Option<&'a str>,
}

impl<'a> Placed<'a> {
    /// The path people know the place by: that of the partition or volume, rather than of what fills it.
    pub(crate) fn place(&self) -> &str {
        match self.origin {
            Origin::Disk(_) => &self.path,
            Origin::Partition(..) | Origin::Elsewhere => self.path.strip_suffix(".content").unwrap_or(&self.path),
        }
    }

    /// What lies directly in it.
    pub(crate) fn inner(&self) -> Vec<Placed<'a>> {
        let around = |hooks: &'a Hooks| {
            let mut around = self.around.clone();
            around.push((self.path.clone(), hooks));
            around
        };
        match self.content {
            Content::Gpt(gpt) => {
                let partitions = gpt.partitions.iter().enumerate();
                let filled =
                    partitions.filter_map(|(index, partition)| Some((index, partition, partition.content.as_ref()?)));
                let is_disk = self.around.len() == 1;
                filled
                    .map(|(index, partition, content)| Placed {
                        path: format!("{}.content", join(&format!("{}.partitions", self.path), &partition.key)),
                        device: partition.device.clone(),
                        disko_device: partition.disko_device.clone(),
                        content,
                        origin: match self.origin {
                            Origin::Disk(disk) if is_disk => Origin::Partition(disk, index),
                            Origin::Disk(_) | Origin::Partition(..) | Origin::Elsewhere => Origin::Elsewhere,
                        },
                        top: self.top,
                        around: around(&gpt.hooks),
                        partition: Some(&partition.key),
                    })
                    .collect()
            }
            Content::Table(table) => {
                let entries = table.partitions.iter().enumerate();
                let filled = entries.filter_map(|(index, entry)| Some((index, entry, entry.content.as_ref()?)));
                filled
                    .map(|(index, entry, content)| {
                        let device = numbered(&self.device, entry.number).unwrap_or_default();
                        Placed {
                            path: format!("{}.partitions[{index}].content", self.path),
                            disko_device: device.clone(),
                            device,
                            content,
                            origin: Origin::Elsewhere,
                            top: self.top,
                            around: around(&table.hooks),
                            partition: None,
                        }
                    })
                    .collect()
            }
            Content::Luks(luks) => {
                let device = format!("/dev/mapper/{}", luks.name);
                let content = luks.content.iter();
                content
                    .map(|content| Placed {
                        path: format!("{}.content", self.path),
                        device: device.clone(),
                        disko_device: device.clone(),
                        content,
                        origin: self.origin,
                        top: self.top,
                        around: around(&luks.hooks),
                        partition: None,
                    })
                    .collect()
            }
            Content::Filesystem(_)
            | Content::Swap(_)
            | Content::Zfs(_)
            | Content::Mdraid(_)
            | Content::LvmPv(_)
            | Content::Btrfs(_)
            | Content::Bcachefs(_) => Vec::new(),
        }
    }

    /// The content's own scripts.
    pub(crate) fn hooks(&self) -> &'a Hooks {
        match self.content {
            Content::Gpt(gpt) => &gpt.hooks,
            Content::Table(table) => &table.hooks,
            Content::Luks(luks) => &luks.hooks,
            Content::Filesystem(filesystem) => &filesystem.hooks,
            Content::Swap(swap) => &swap.hooks,
            Content::Zfs(member) => &member.hooks,
            Content::Mdraid(member) => &member.hooks,
            Content::LvmPv(volume) => &volume.hooks,
            Content::Btrfs(btrfs) => &btrfs.hooks,
            Content::Bcachefs(member) => &member.hooks,
        }
    }
}

impl Devices {
    /// What lies directly on a node of the top level.
    pub(crate) fn outermost<'a>(&'a self, top: Top<'a>) -> Vec<Placed<'a>> {
        let path = top.path();
        let placed = |path: String, device: String, content: &'a Content, origin: Origin<'a>, around: Around<'a>| {
            Placed { path, disko_device: device.clone(), device, content, origin, top, around, partition: None }
        };
        match top {
            Top::Bcachefs(_) | Top::Nodev(_) => Vec::new(),
            Top::Disk(key) => {
                let disk = self.disks.get(key).into_iter();
                disk.map(|disk| {
                    let around = vec![(path.clone(), &disk.hooks)];
                    let content = format!("{path}.content");
                    placed(content, disk.device.clone(), &disk.content, Origin::Disk(key), around)
                })
                .collect()
            }
            Top::Array(key) => {
                let array = self.arrays.get(key).into_iter();
                let filled = array.filter_map(|array| Some((array, array.content.as_ref()?)));
                filled
                    .map(|(array, content)| {
                        let around = vec![(path.clone(), &array.hooks)];
                        let device = format!("/dev/md/{}", array.name);
                        placed(format!("{path}.content"), device, content, Origin::Elsewhere, around)
                    })
                    .collect()
            }
            Top::Group(key) => {
                let groups = self.groups.get(key).into_iter();
                let volumes = groups.flat_map(|group| group.volumes.iter().map(move |volume| (group, volume)));
                let filled = volumes.filter_map(|(group, volume)| Some((group, volume, volume.content.as_ref()?)));
                filled
                    .map(|(group, volume, content)| {
                        let inside = join(&format!("{path}.lvs"), &volume.key);
                        let device = format!("/dev/{}/{}", group.name, volume.name);
                        let around = vec![(path.clone(), &group.hooks)];
                        placed(format!("{inside}.content"), device, content, Origin::Elsewhere, around)
                    })
                    .collect()
            }
            Top::Pool(key) => {
                let pools = self.pools.get(key).into_iter();
                let datasets = pools.flat_map(|pool| pool.datasets.iter().map(move |dataset| (pool, dataset)));
                let filled = datasets.filter_map(|(pool, dataset)| match &dataset.kind {
                    DatasetKind::Volume { content: Some(content), .. } => Some((pool, dataset, &**content)),
                    DatasetKind::Volume { content: None, .. } | DatasetKind::Filesystem { .. } => None,
                });
                filled
                    .map(|(pool, dataset, content)| {
                        let inside = join(&format!("{path}.datasets"), &dataset.key);
                        let around = vec![(path.clone(), &pool.hooks), (inside.clone(), &dataset.hooks)];
                        let device = format!("/dev/zvol/{}", dataset.name);
                        placed(format!("{inside}.content"), device, content, Origin::Elsewhere, around)
                    })
                    .collect()
            }
        }
    }

    /// The nodes of the top level, by kind and name.
    pub(crate) fn tops(&self) -> Vec<Top<'_>> {
        let mut tops: Vec<Top<'_>> = self.bcachefs.keys().map(|key| Top::Bcachefs(key)).collect();
        tops.extend(self.disks.keys().map(|key| Top::Disk(key)));
        tops.extend(self.groups.keys().map(|key| Top::Group(key)));
        tops.extend(self.arrays.keys().map(|key| Top::Array(key)));
        tops.extend(self.nodev.keys().map(|key| Top::Nodev(key)));
        tops.extend(self.pools.keys().map(|key| Top::Pool(key)));
        tops
    }

    /// Every content, the outer before the inner, by kind and name of what it lies on.
    pub(crate) fn contents(&self) -> Vec<Placed<'_>> {
        fn add<'a>(placed: Placed<'a>, found: &mut Vec<Placed<'a>>) {
            let inner = placed.inner();
            found.push(placed);
            inner.into_iter().for_each(|placed| add(placed, found));
        }
        let mut found = Vec::new();
        self.tops().into_iter().flat_map(|top| self.outermost(top)).for_each(|placed| add(placed, &mut found));
        found
    }

    /// The node a content is a member of.
    pub(crate) fn joins(&self, content: &Content) -> Option<Top<'_>> {
        match content {
            Content::Zfs(member) => {
                self.pools.iter().find(|(_, pool)| pool.name == member.pool).map(|(key, _)| Top::Pool(key))
            }
            Content::Mdraid(member) => {
                self.arrays.iter().find(|(_, array)| array.name == member.array).map(|(key, _)| Top::Array(key))
            }
            Content::LvmPv(member) => {
                self.groups.iter().find(|(_, group)| group.name == member.group).map(|(key, _)| Top::Group(key))
            }
            Content::Bcachefs(member) => {
                let mut all = self.bcachefs.iter();
                all.find(|(_, filesystem)| filesystem.name == member.filesystem).map(|(key, _)| Top::Bcachefs(key))
            }
            Content::Gpt(_)
            | Content::Table(_)
            | Content::Luks(_)
            | Content::Filesystem(_)
            | Content::Swap(_)
            | Content::Btrfs(_) => None,
        }
    }

    /// The members of a pool, array, group or bcachefs, in the order in which disko comes upon them.
    pub(crate) fn members_of(&self, container: Top<'_>) -> Vec<Placed<'_>> {
        let order = self.order().unwrap_or_default();
        let mut members: Vec<Placed<'_>> =
            self.contents().into_iter().filter(|placed| self.joins(placed.content) == Some(container)).collect();
        members.sort_by_key(|placed| order.iter().position(|top| *top == placed.top));
        members
    }

    /// The order in which disko works on the nodes: what is made of others after them. `None` if they go in a circle.
    pub(crate) fn order(&self) -> Option<Vec<Top<'_>>> {
        let edges: Vec<(Top<'_>, Top<'_>)> =
            self.contents().into_iter().filter_map(|placed| Some((placed.top, self.joins(placed.content)?))).collect();
        super::order::toposort(self.tops(), |a, b| edges.contains(&(*a, *b)))
    }
}
