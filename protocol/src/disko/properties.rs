//! Which properties zpool(8) and zfs(8) take when they make something: zpoolprops(7), zfsprops(7) and zpool-features(7) of
//! OpenZFS 2.4. What they would refuse is refused before the disks are wiped.

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
const POOL: [&str; 17] = [
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
    // Since 2.3.
    "dedup_table_quota",
    "delegation",
    "failmode",
    "listsnapshots",
    "listsnaps",
    "multihost",
    "readonly",
    "version",
];

/// Of filesystems only.
const FILESYSTEM: [&str; 36] = [
    "aclinherit",
    "aclmode",
    "acltype",
    "atime",
    "canmount",
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
    "exec",
    "filesystem_limit",
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
const DATASET: [&str; 31] = [
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
    "sync",
    "volmode",
    "jailed",
];

fn is_of_pool(name: &str) -> bool {
    POOL.contains(&name) || name.starts_with("feature@")
}

fn is_of_filesystem(name: &str) -> bool {
    // userquota@joe and its like.
    let of_somebody = name.split_once('@').is_some_and(|(kind, _)| kind.ends_with("quota"));
    FILESYSTEM.contains(&name) || DATASET.contains(&name) || of_somebody
}

fn is_of_volume(name: &str) -> bool {
    VOLUME.contains(&name) || DATASET.contains(&name)
}

/// Refuses the first property that what is to be made can't have.
pub(super) fn check(path: &str, owner: Owner, properties: &BTreeMap<String, String>) -> Result<(), DiskoError> {
    for name in properties.keys() {
        // A user's own has a colon; pools have had such since 2.2.
        let fits = name.contains(':')
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
        check("zpool.p.options", owner, &[(name.to_owned(), "x".to_owned())].into())
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
