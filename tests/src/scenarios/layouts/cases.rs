//! Which layouts are compared, and what about each is not as in the recording.

/// One of disko's layouts.
pub struct Case {
    /// Its recording: `protocol/tests/fixtures/disko/FIXTURE.json`.
    pub fixture: &'static str,
    /// Words of the layout and of disko's commands that are others here, on both sides alike: sizes that fit small disks, a
    /// root where the layout has none.
    pub words: &'static [(&'static str, &'static str)],
    /// The agent is killed while it receives the closure; the same command goes on.
    pub interrupted: bool,
    /// Whether a boot loader finds its files. One cannot read them from a pool, an array or LUKS; where the layout has nothing
    /// else, the installation ends with that refusal, and the layout is there.
    pub boots: bool,
    /// Differences that are meant.
    pub allowed: &'static [Allowed],
}

/// A difference that is meant: the title of its paragraph in `docs/disko-differences.md`, and what is seen of it.
pub struct Allowed {
    /// The paragraph's title.
    pub title: &'static str,
    /// What every line that it explains contains. A title that explains no line is an error, too.
    pub shows: &'static str,
}

const fn as_recorded(fixture: &'static str) -> Case {
    with(fixture, &[])
}

const fn with(fixture: &'static str, words: &'static [(&'static str, &'static str)]) -> Case {
    Case { fixture, words, interrupted: false, boots: true, allowed: &[] }
}

/// `/boot` is a mirror of mdadm's, the root a mirror of ZFS. disko passes each extra argument as one word, so that the
/// real mdadm does not take the recorded one.
pub const MIRROR: Case = with("x-mdadm-mirror-zfs-boot", &[("--write-behind 256", "--write-behind=256")]);
/// No recorded raidz has a root; what is mounted at `/data` becomes it.
pub const RAIDZ1: Case =
    Case { boots: false, ..with("x-zfs-raidz1", &[("/data", "/"), ("mountpoint=/data", "mountpoint=/")]) };
/// The root is encrypted by ZFS, with a passphrase in a file; a volume for swap inherits that.
pub const ENCRYPTED: Case = as_recorded("tests-zfs-encrypted-root");
pub const LUKS_LVM: Case = Case { interrupted: true, ..as_recorded("luks-lvm") };
/// The root is on a GPT on an array.
pub const MDADM: Case = Case { interrupted: true, boots: false, ..as_recorded("mdadm") };
pub const BTRFS: Case = as_recorded("btrfs-subvolumes");
pub const HYBRID_MBR: Case = as_recorded("hybrid-mbr");
pub const MSDOS: Case = as_recorded("stand-alone");
/// parted's GPT.
pub const LEGACY_GPT: Case = as_recorded("legacy-table");
/// Volumes for swap, for nothing, and for LUKS, the latter encrypted by ZFS as well; it has no root, so that what is
/// mounted at `/zl` becomes it.
pub const ZVOLS: Case =
    Case { boots: false, ..with("x-zvol-swap-luks", &[("/zl", "/"), ("2G", "64M"), ("1G", "900M")]) };
/// Every class of vdevs: special, dedup, log, cache, spare.
pub const TOPOLOGY: Case = as_recorded("zfs-with-vdevs");
/// A root of 10 MB holds no system.
pub const LVM_THIN: Case = with("lvm-thin", &[("10M", "300M"), ("100M", "700M")]);
pub const LVM_RAID: Case = with("lvm-raid", &[("100M", "400M")]);
pub const LUKS_MDADM: Case = as_recorded("luks-on-mdadm");
/// Secrets that layouts have a path for are put there first.
pub const LUKS_BTRFS: Case = as_recorded("luks-btrfs-subvolumes");

#[cfg(test)]
pub const ALL: &[Case] = &[
    MIRROR, RAIDZ1, ENCRYPTED, LUKS_LVM, MDADM, BTRFS, HYBRID_MBR, MSDOS, LEGACY_GPT, ZVOLS, TOPOLOGY, LVM_THIN,
    LVM_RAID, LUKS_MDADM, LUKS_BTRFS,
];
