//! Which properties zpool(8) and zfs(8) take when they make something: zpoolprops(7), zfsprops(7) and zpool-features(7) of
//! OpenZFS 2.4, compared with its module/zcommon (zfs_prop.c, zpool_prop.c, zfeature_common.c), which also take the short names
//! that `zfs list` prints as headings. What they would refuse on Linux is refused before the disks are wiped.

use super::DiskoError;
use super::node::join;
use std::collections::BTreeMap;

/// What properties are given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// `options` of a pool: `zpool create -o`.
    Pool,
    /// `rootFsOptions` of a pool: `zpool create -O`.
    Root,
    /// `options` of a `zfs_fs`: `zfs create -o`.
    Filesystem,
    /// `options` of a `zfs_volume`: `zfs create -V SIZE -o`.
    Volume,
}

/// Of pools, but for features.
const POOL: [&str; 22] = [
    "altroot",
    "ashift",
    "autoexpand",
    "autoreplace",
    "autotrim",
    "bootfs",
    "cachefile",
    "comment",
    // Since 2.1.
    "compatibility",
    // Since 2.3, by two names.
    "dedup_table_quota",
    "ddtquota",
    // Without effect since 2.0, and still taken.
    "dedupditto",
    "delegation",
    "expand",
    "failmode",
    "listsnapshots",
    "listsnaps",
    "multihost",
    "rdonly",
    "readonly",
    "replace",
    "version",
];

/// `feature@…` of a pool (zpool-features(7)); those after a number came with that version, the others with 2.0 or before.
const FEATURES: [&str; 43] = [
    "allocation_classes",
    "async_destroy",
    "bookmark_v2",
    "bookmark_written",
    "bookmarks",
    "device_rebuild",
    "device_removal",
    "edonr",
    "embedded_data",
    "empty_bpobj",
    "enabled_txg",
    "encryption",
    "extensible_dataset",
    "filesystem_limits",
    "hole_birth",
    "large_blocks",
    "large_dnode",
    "livelist",
    "log_spacemap",
    "lz4_compress",
    "multi_vdev_crash_dump",
    "obsolete_counts",
    "project_quota",
    "redacted_datasets",
    "redaction_bookmarks",
    "resilver_defer",
    "sha512",
    "skein",
    "spacemap_histogram",
    "spacemap_v2",
    "userobj_accounting",
    "zpool_checkpoint",
    "zstd_compress",
    // 2.1
    "draid",
    // 2.2
    "blake3",
    "block_cloning",
    "head_errlog",
    "vdev_zaps_v2",
    "zilsaxattr",
    // 2.3
    "fast_dedup",
    "large_microzap",
    "longname",
    "raidz_expansion",
];
/// Those of 2.4, and one whose version is not known here.
const NEW_FEATURES: [&str; 4] =
    ["block_cloning_endian", "dynamic_gang_header", "physical_rewrite", "redaction_list_spill"];

/// Of filesystems only.
const FILESYSTEM: [&str; 39] = [
    "aclinherit",
    "aclmode",
    "acltype",
    "atime",
    "canmount",
    "case",
    "casesensitivity",
    // Since 2.4, the five of them.
    "defaultgroupobjquota",
    "defaultgroupquota",
    "defaultprojectobjquota",
    "defaultprojectquota",
    "defaultuserobjquota",
    "defaultuserquota",
    "devices",
    // Since 2.3.
    "direct",
    "dnodesize",
    "dnsize",
    "exec",
    "filesystem_limit",
    "fslimit",
    // Since 2.3.
    "longname",
    "mountpoint",
    "nbmand",
    "normalization",
    "overlay",
    "quota",
    "recordsize",
    "recsize",
    "refquota",
    "relatime",
    "setuid",
    "sharenfs",
    "sharesmb",
    "snapdir",
    "utf8only",
    "version",
    "vscan",
    "xattr",
    "zoned",
];

/// Of volumes only.
const VOLUME: [&str; 4] = ["volblock", "volblocksize", "volsize", "volthreading"];

/// Of both: a filesystem may have them for the volumes below it.
const DATASET: [&str; 32] = [
    "checksum",
    "compress",
    "compression",
    "context",
    "copies",
    "dedup",
    "defcontext",
    "encryption",
    "fscontext",
    "keyformat",
    "keylocation",
    "logbias",
    "mlslabel",
    "pbkdf2iters",
    // Since 2.2.
    "prefetch",
    "primarycache",
    "rdonly",
    "readonly",
    "redund_md",
    "redundant_metadata",
    "refreservation",
    "refreserv",
    "reservation",
    "reserv",
    "rootcontext",
    "secondarycache",
    "snapdev",
    "snapshot_limit",
    "special_small_blocks",
    "sslimit",
    "sync",
    "volmode",
];

fn is_of_pool(name: &str) -> bool {
    POOL.contains(&name) || name.starts_with("feature@")
}

fn is_feature(name: &str) -> bool {
    FEATURES.contains(&name) || NEW_FEATURES.contains(&name)
}

/// A user's own has a colon, and these characters (zfs_prop_user() in zfs_prop.c); pools have had such since 2.2.
fn is_of_user(name: &str) -> bool {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.:".contains(c);
    name.contains(':') && name.chars().all(known)
}

fn is_of_filesystem(name: &str) -> bool {
    // userquota@joe and its like (zfs_userquota_prop_prefixes); those that end with used can't be set.
    let whose = |kind: &str| ["user", "group", "userobj", "groupobj", "project", "projectobj"].contains(&kind);
    let of_somebody = name.split_once('@').and_then(|(kind, _)| kind.strip_suffix("quota")).is_some_and(whose);
    FILESYSTEM.contains(&name) || DATASET.contains(&name) || of_somebody
}

fn is_of_volume(name: &str) -> bool {
    VOLUME.contains(&name) || DATASET.contains(&name)
}

/// Refuses the first property that what is to be made can't have.
pub(super) fn check(path: &str, owner: Owner, properties: &BTreeMap<String, String>) -> Result<(), DiskoError> {
    for (name, value) in properties {
        if owner == Owner::Pool
            && let Some(feature) = name.strip_prefix("feature@")
        {
            features(path, name, feature, value)?;
        }
        let fits = is_of_user(name)
            || match owner {
                Owner::Pool => is_of_pool(name),
                Owner::Root | Owner::Filesystem => is_of_filesystem(name),
                Owner::Volume => is_of_volume(name),
            };
        if !fits {
            let (what, remedy) = misplaced(name, owner);
            return Err(DiskoError::new(&join(path, name), what, remedy));
        }
    }
    Ok(())
}

/// Refuses a feature that `zpool create` does not know, and what it can't be.
fn features(path: &str, name: &str, feature: &str, value: &str) -> Result<(), DiskoError> {
    let (what, remedy) = match value {
        _ if !is_feature(feature) => {
            ("is no feature that OpenZFS 2.4 has", "see zpool-features(7) for their names".to_owned())
        }
        "enabled" | "disabled" => return Ok(()),
        _ => ("is neither enabled nor disabled, and ZFS refuses anything else", "write enabled or disabled".to_owned()),
    };
    Err(DiskoError::new(&join(path, name), what, remedy))
}

/// What is wrong with a property there, and what to do.
fn misplaced(name: &str, owner: Owner) -> (&'static str, &'static str) {
    let of_dataset = is_of_filesystem(name) || is_of_volume(name);
    match owner {
        Owner::Pool if of_dataset => {
            ("is a property of datasets, which `zpool create -o` refuses", "put it under rootFsOptions of the pool")
        }
        Owner::Root if is_of_pool(name) => {
            ("is a property of pools, which `zpool create -O` refuses", "put it under options of the pool")
        }
        Owner::Filesystem | Owner::Volume if is_of_pool(name) => {
            ("is a property of pools, which `zfs create -o` refuses", "put it under options of the zpool")
        }
        Owner::Root | Owner::Filesystem if VOLUME.contains(&name) => {
            ("is a property of volumes, which a filesystem can't have", "put it under options of a zfs_volume")
        }
        Owner::Volume if FILESYSTEM.contains(&name) => {
            ("is a property of filesystems, which a volume can't have", "put it under options of a zfs_fs")
        }
        _ if name.contains(':') => {
            ("is no name for a property of your own: ZFS takes a to z, 0 to 9 and -_.: there", "write it with those")
        }
        Owner::Pool => {
            ("is no property of pools that can be set", "see zpoolprops(7); those of datasets go under rootFsOptions")
        }
        Owner::Root | Owner::Filesystem | Owner::Volume => (
            "is no property of datasets that can be set",
            "see zfsprops(7); a property of your own needs a colon in its name",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(owner: Owner, name: &str) -> Result<(), DiskoError> {
        check("zpool.p.options", owner, &[(name.to_owned(), "enabled".to_owned())].into())
    }

    #[test]
    fn features_are_known_and_on_or_off() {
        let of = |name: &str, value: &str| {
            let error = check("zpool.p.options", Owner::Pool, &[(format!("feature@{name}"), value.to_owned())].into());
            error.map_err(|error| format!("{} {}", error.path, error.what))
        };
        for name in ["zstd_compress", "draid", "raidz_expansion", "block_cloning_endian"] {
            assert_eq!((of(name, "enabled"), of(name, "disabled")), (Ok(()), Ok(())));
        }
        assert!(of("zstd", "enabled").unwrap_err().contains("no feature"));
        assert!(of("encryption", "active").unwrap_err().contains("neither enabled nor disabled"));
    }

    #[test]
    fn properties_go_where_the_tools_take_them() {
        use Owner::{Filesystem, Pool, Root, Volume};
        for (owner, names) in [
            (Pool, ["ashift", "autotrim", "feature@encryption", "org.example:note"]),
            (Root, ["acltype", "compression", "encryption", "volmode"]),
            (Filesystem, ["mountpoint", "userquota@joe", "readonly", "com.sun:auto-snapshot"]),
            (Volume, ["volblocksize", "snapdev", "keylocation", "refreservation"]),
        ] {
            for name in names {
                assert_eq!(of(owner, name), Ok(()), "{owner:?} {name}");
            }
        }
        for (owner, name, what, remedy) in [
            (Pool, "compression", "of datasets", "rootFsOptions"),
            (Pool, "encryption", "of datasets", "rootFsOptions"),
            (Pool, "keylocation", "of datasets", "rootFsOptions"),
            (Pool, "volblocksize", "of datasets", "rootFsOptions"),
            (Pool, "ashfit", "no property of pools", "zpoolprops(7)"),
            (Pool, "size", "no property of pools", "zpoolprops(7)"),
            (Root, "ashift", "of pools", "options of the pool"),
            (Root, "autotrim", "of pools", "options of the pool"),
            (Root, "feature@edonr", "of pools", "options of the pool"),
            (Root, "volblocksize", "of volumes", "zfs_volume"),
            (Filesystem, "autotrim", "of pools", "options of the zpool"),
            (Filesystem, "used", "no property of datasets", "zfsprops(7)"),
            (Filesystem, "jailed", "no property of datasets", "zfsprops(7)"),
            (Filesystem, "userused@joe", "no property of datasets", "zfsprops(7)"),
            (Filesystem, "com.Sun:x", "no name for a property of your own", "write it with those"),
            (Filesystem, "compresion", "no property of datasets", "zfsprops(7)"),
            (Volume, "ashift", "of pools", "options of the zpool"),
            (Volume, "recordsize", "of filesystems", "zfs_fs"),
        ] {
            let error = of(owner, name).unwrap_err();
            assert!(error.what.contains(what) && error.remedy.contains(remedy), "{owner:?} {name}: {error:?}");
            assert!(error.path.contains(name), "{error}");
        }
    }
}
