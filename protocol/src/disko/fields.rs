//! Every field of a layout, release by release: what drives the reader, its messages and `docs/disko-fields.md`.
//!
//! Made from disko's tags: their `lib/types` says since when a field is there, and the scripts of the last release without
//! it say what its absence means. Numbers are releases; 1.14 is what was merged after 1.13.

use std::fmt;

/// A release of disko.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Release(pub u16, pub u16);

/// The oldest release whose layouts are understood, of September 2023.
pub(super) const OLDEST: Release = Release(1, 1);
/// The newest of which this table knows the fields, those merged until spring 2026 included.
pub(super) const NEWEST: Release = Release(1, 14);

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// What a field means that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// Every release has it, or its absence is for the reader to judge.
    Reader,
    /// It has no effect on an installation, whether it is there or not.
    Unread,
    /// `null`.
    Null,
    /// `false`.
    False,
    /// `true`.
    True,
    /// `[]`.
    EmptyList,
    /// `{}`.
    EmptyMap,
    /// `[ "defaults" ]`.
    DefaultOptions,
    /// Sectors that partitions were aligned to.
    OldAlignment,
    /// The order that logical volumes were made in.
    BySize,
    /// The dataset's full name.
    NameInPool,
    /// Whether it is another dataset than the pool's own.
    NotRoot,
    /// Whether nothing says where the key comes from.
    WithoutKey,
}

impl Absent {
    /// For the documentation.
    #[cfg(test)]
    fn meaning(self) -> &'static str {
        match self {
            Self::Reader => "",
            Self::Unread => "nothing: it has no effect on an installation",
            Self::Null => "`null`",
            Self::False => "`false`",
            Self::True => "`true`",
            Self::EmptyList => "`[]`",
            Self::EmptyMap => "`{}`",
            Self::DefaultOptions => "`[ \"defaults\" ]`",
            Self::OldAlignment => {
                "2048 sectors before 1.4, where `efiGptPartitionFirst` is missing, too; 0 in 1.4 and 1.5"
            }
            Self::BySize => "9001 where `size` has `100%`, otherwise 1000",
            Self::NameInPool => "the pool's name, and `/name` unless it is `__root`",
            Self::NotRoot => "`false` for `__root`, otherwise `true`",
            Self::WithoutKey => "`true` where neither `settings.keyFile`, `passwordFile` nor `keyFile` is set",
        }
    }
}

/// What is in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// No node of disko's.
    Data,
    /// One node, or `null`.
    One(Kind),
    /// A node by each name.
    Map(Kind),
    /// A list of nodes, or one of them.
    List(Kind),
    /// What fills a device, by its `type`.
    Content,
    /// Datasets by name, each by its `type`.
    Datasets,
}

/// A field.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub name: &'static str,
    /// The first release that has it.
    pub since: Release,
    /// The last release that has it, if it is gone.
    pub until: Option<Release>,
    pub absent: Absent,
    pub holds: Holds,
    /// Why no value is accepted but the one that its absence means, and what to do instead.
    pub only: Option<(&'static str, &'static str)>,
}

const fn since(major: u16, minor: u16, name: &'static str, absent: Absent) -> Field {
    Field { name, since: Release(major, minor), until: None, absent, holds: Holds::Data, only: None }
}

const fn always(name: &'static str) -> Field {
    since(1, 0, name, Absent::Reader)
}

/// Of layouts that are too old.
const fn gone(name: &'static str) -> Field {
    Field { until: Some(Release(1, 0)), ..always(name) }
}

impl Field {
    const fn holding(self, holds: Holds) -> Self {
        Self { holds, ..self }
    }

    const fn only(self, why: &'static str, instead: &'static str) -> Self {
        Self { only: Some((why, instead)), ..self }
    }
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal, $hooks:literal, [$($field:expr),* $(,)?];)+) => {
        /// A kind of node.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Kind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl Kind {
            /// All of them, for the documentation and the tests.
            #[cfg(test)]
            pub(super) const ALL: &'static [Kind] = &[$(Kind::$kind),+];

            /// As disko calls it.
            #[cfg(test)]
            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            /// Its fields.
            pub(super) const fn fields(self) -> &'static [Field] {
                match self { $(Self::$kind => const { &[$($field),*] },)+ }
            }

            /// Whether the six hooks may be around it.
            pub(super) const fn has_hooks(self) -> bool {
                match self { $(Self::$kind => $hooks,)+ }
            }
        }
    };
}

/// The scripts around a node; absent is none.
pub(super) const HOOKS: [Field; 6] = [
    since(1, 0, "preCreateHook", Absent::Reader),
    since(1, 0, "postCreateHook", Absent::Reader),
    since(1, 0, "preMountHook", Absent::Reader),
    since(1, 0, "postMountHook", Absent::Reader),
    since(1, 10, "preUnmountHook", Absent::Reader),
    since(1, 10, "postUnmountHook", Absent::Reader),
];

const BY_HAND: &str = "needs somebody at the machine while it is installed";
const CRYPTENROLL: &str = "leave it out, and enroll on the installed system with systemd-cryptenroll(1)";

kinds! {
    /// The whole layout.
    Devices = "disko.devices", false, [
        always("disk").holding(Holds::Map(Kind::Disk)),
        always("mdadm").holding(Holds::Map(Kind::Array)),
        always("lvm_vg").holding(Holds::Map(Kind::Group)),
        always("zpool").holding(Holds::Map(Kind::Pool)),
        always("nodev").holding(Holds::Map(Kind::Nodev)),
        since(1, 12, "bcachefs_filesystems", Absent::EmptyMap).holding(Holds::Map(Kind::BcachefsFilesystem)),
    ];
    /// A disk.
    Disk = "disk", true, [
        always("type"),
        always("name"),
        always("device"),
        always("content").holding(Holds::Content),
        since(1, 1, "imageSize", Absent::Unread),
        since(1, 9, "imageName", Absent::Unread),
        since(1, 12, "destroy", Absent::True),
    ];
    /// A GUID partition table.
    Gpt = "gpt", true, [
        since(1, 1, "type", Absent::Reader),
        since(1, 1, "device", Absent::Reader),
        since(1, 1, "partitions", Absent::Reader).holding(Holds::Map(Kind::Partition)),
        since(1, 4, "efiGptPartitionFirst", Absent::True),
    ];
    /// A partition of it.
    Partition = "gpt partition", false, [
        since(1, 1, "_index", Absent::Reader),
        since(1, 1, "name", Absent::Reader),
        since(1, 1, "label", Absent::Reader),
        since(1, 1, "device", Absent::Reader),
        since(1, 1, "type", Absent::Reader),
        since(1, 1, "priority", Absent::Reader),
        since(1, 1, "size", Absent::Reader),
        since(1, 1, "start", Absent::Reader),
        since(1, 1, "end", Absent::Reader),
        since(1, 1, "content", Absent::Reader).holding(Holds::Content),
        since(1, 4, "hybrid", Absent::Null).holding(Holds::One(Kind::Hybrid)),
        since(1, 6, "alignment", Absent::OldAlignment),
        since(1, 12, "uuid", Absent::Null),
        since(1, 13, "attributes", Absent::EmptyList),
    ];
    /// Its entry in a hybrid MBR.
    Hybrid = "hybrid", false, [
        since(1, 4, "mbrPartitionType", Absent::Reader),
        since(1, 4, "mbrBootableFlag", Absent::Reader),
    ];
    /// A table that parted writes.
    Table = "table", true, [
        always("type"),
        since(1, 1, "device", Absent::Reader),
        always("format"),
        always("partitions").holding(Holds::List(Kind::Entry)),
    ];
    /// A partition of that.
    Entry = "table partition", false, [
        gone("index"),
        since(1, 1, "_index", Absent::Reader),
        always("name"),
        always("part-type"),
        always("fs-type"),
        always("start"),
        always("end"),
        always("flags"),
        always("bootable"),
        always("content").holding(Holds::Content),
    ];
    /// A filesystem that mkfs makes.
    Filesystem = "filesystem", true, [
        always("type"),
        since(1, 1, "device", Absent::Reader),
        always("format"),
        always("extraArgs"),
        always("mountpoint"),
        always("mountOptions"),
    ];
    /// Swap.
    Swap = "swap", true, [
        always("type"),
        since(1, 1, "device", Absent::Reader),
        since(1, 1, "extraArgs", Absent::Reader),
        always("randomEncryption"),
        since(1, 1, "resumeDevice", Absent::False),
        since(1, 7, "discardPolicy", Absent::Null),
        since(1, 7, "mountOptions", Absent::DefaultOptions),
        since(1, 7, "priority", Absent::Null),
    ];
    /// A member of a pool.
    ZfsMember = "zfs", true, [
        always("type"),
        since(1, 1, "device", Absent::Reader),
        always("pool"),
    ];
    /// A LUKS device.
    Luks = "luks", true, [
        always("type"),
        since(1, 1, "device", Absent::Reader),
        always("name"),
        always("keyFile"),
        since(1, 1, "passwordFile", Absent::Reader),
        since(1, 1, "settings", Absent::Reader),
        since(1, 1, "additionalKeyFiles", Absent::Reader),
        since(1, 1, "initrdUnlock", Absent::Reader),
        always("extraFormatArgs"),
        always("extraOpenArgs"),
        always("content").holding(Holds::Content),
        since(1, 2, "askPassword", Absent::WithoutKey),
        since(1, 14, "enrollFido2", Absent::False).only(BY_HAND, CRYPTENROLL),
        since(1, 14, "enrollRecovery", Absent::False).only(BY_HAND, CRYPTENROLL),
        since(1, 14, "extraFido2EnrollArgs", Absent::Unread),
    ];
    /// A member of an array.
    ArrayMember = "mdraid", true, [
        always("type"),
        since(1, 1, "device", Absent::Reader),
        always("name"),
    ];
    /// A member of a volume group.
    PhysicalVolume = "lvm_pv", true, [
        always("type"),
        since(1, 1, "device", Absent::Reader),
        always("vg"),
    ];
    /// A btrfs.
    Btrfs = "btrfs", true, [
        always("type"),
        since(1, 1, "device", Absent::Reader),
        always("extraArgs"),
        always("mountpoint"),
        always("mountOptions"),
        always("subvolumes").holding(Holds::Map(Kind::BtrfsSubvolume)),
        since(1, 2, "swap", Absent::EmptyMap).holding(Holds::Map(Kind::SwapFile)),
    ];
    /// A subvolume of it.
    BtrfsSubvolume = "btrfs_subvol", false, [
        always("type"),
        always("name"),
        always("extraArgs"),
        always("mountpoint"),
        always("mountOptions"),
        since(1, 2, "swap", Absent::EmptyMap).holding(Holds::Map(Kind::SwapFile)),
    ];
    /// A swap file on a btrfs.
    SwapFile = "btrfs swap", false, [
        since(1, 2, "path", Absent::Reader),
        since(1, 2, "size", Absent::Reader),
        since(1, 7, "priority", Absent::Null),
        since(1, 7, "options", Absent::DefaultOptions),
    ];
    /// A member of a bcachefs.
    BcachefsMember = "bcachefs", true, [
        since(1, 12, "type", Absent::Reader),
        since(1, 12, "device", Absent::Reader),
        since(1, 12, "filesystem", Absent::Reader),
        since(1, 12, "label", Absent::Reader),
        since(1, 12, "extraFormatArgs", Absent::Reader),
    ];
    /// A bcachefs.
    BcachefsFilesystem = "bcachefs_filesystem", true, [
        since(1, 12, "type", Absent::Reader),
        since(1, 12, "name", Absent::Reader),
        since(1, 12, "uuid", Absent::Reader),
        since(1, 12, "passwordFile", Absent::Reader),
        since(1, 12, "extraFormatArgs", Absent::Reader),
        since(1, 12, "mountpoint", Absent::Reader),
        since(1, 12, "mountOptions", Absent::Reader),
        since(1, 12, "subvolumes", Absent::Reader).holding(Holds::Map(Kind::BcachefsSubvolume)),
    ];
    /// A subvolume of it.
    BcachefsSubvolume = "bcachefs_subvolume", false, [
        since(1, 12, "type", Absent::Reader),
        since(1, 12, "name", Absent::Reader),
        since(1, 12, "mountpoint", Absent::Reader),
        since(1, 12, "mountOptions", Absent::Reader),
    ];
    /// An array.
    Array = "mdadm", true, [
        always("type"),
        always("name"),
        always("level"),
        always("metadata"),
        always("content").holding(Holds::Content),
        since(1, 13, "extraArgs", Absent::EmptyList),
    ];
    /// A volume group.
    Group = "lvm_vg", true, [
        always("type"),
        always("name"),
        always("lvs").holding(Holds::Map(Kind::Volume)),
    ];
    /// A logical volume.
    Volume = "lvm_vg volume", false, [
        always("name"),
        always("size"),
        always("lvm_type"),
        always("extraArgs"),
        always("content").holding(Holds::Content),
        since(1, 4, "priority", Absent::BySize),
        since(1, 7, "pool", Absent::Null),
    ];
    /// A pool.
    Pool = "zpool", true, [
        always("type"),
        always("name"),
        always("mode").holding(Holds::One(Kind::Mode)),
        always("options"),
        always("rootFsOptions"),
        always("mountpoint"),
        always("mountOptions"),
        always("datasets").holding(Holds::Datasets),
    ];
    /// The grouping of a pool, written out.
    Mode = "zpool mode", false, [
        since(1, 7, "topology", Absent::Reader).holding(Holds::One(Kind::Topology)),
    ];
    /// The groups.
    Topology = "topology", false, [
        since(1, 7, "type", Absent::Reader),
        since(1, 7, "vdev", Absent::Reader).holding(Holds::List(Kind::Vdev)),
        since(1, 7, "special", Absent::Reader).holding(Holds::List(Kind::Vdev)),
        since(1, 7, "cache", Absent::Reader),
        since(1, 10, "spare", Absent::EmptyList),
        since(1, 10, "log", Absent::EmptyList).holding(Holds::List(Kind::Vdev)),
        since(1, 10, "dedup", Absent::EmptyList).holding(Holds::List(Kind::Vdev)),
    ];
    /// A group.
    Vdev = "vdev", false, [
        since(1, 7, "mode", Absent::Reader),
        since(1, 7, "members", Absent::Reader),
    ];
    /// A dataset that is a filesystem.
    Dataset = "zfs_fs", true, [
        gone("zfs_type"),
        always("type"),
        always("name"),
        always("options"),
        always("mountpoint"),
        always("mountOptions"),
        since(1, 3, "_name", Absent::NameInPool),
        since(1, 8, "_createFilesystem", Absent::NotRoot),
    ];
    /// A dataset that is a volume.
    ZfsVolume = "zfs_volume", true, [
        gone("zfs_type"),
        always("type"),
        always("name"),
        always("size"),
        always("options"),
        always("mountOptions"),
        always("content").holding(Holds::Content),
        since(1, 10, "extraArgs", Absent::EmptyList),
    ];
    /// What is mounted without a device of the layout.
    Nodev = "nodev", true, [
        always("type"),
        always("device"),
        always("fsType"),
        always("mountpoint"),
        always("mountOptions"),
    ];
}

impl Kind {
    /// What fills a device, by its `type`.
    pub(super) fn of_content(name: &str) -> Option<Self> {
        Some(match name {
            "gpt" => Self::Gpt,
            "table" => Self::Table,
            "filesystem" => Self::Filesystem,
            "swap" => Self::Swap,
            "zfs" => Self::ZfsMember,
            "luks" => Self::Luks,
            "mdraid" => Self::ArrayMember,
            "lvm_pv" => Self::PhysicalVolume,
            "btrfs" => Self::Btrfs,
            "bcachefs" => Self::BcachefsMember,
            _ => return None,
        })
    }

    /// A dataset, by its `type`.
    pub(super) fn of_dataset(name: &str) -> Option<Self> {
        match name {
            // Both of them until March 2023.
            "zfs_fs" | "zfs_dataset" => Some(Self::Dataset),
            "zfs_volume" => Some(Self::ZfsVolume),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
