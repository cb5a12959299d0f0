//! Datasets that ZFS itself mounts, and only when the installed system boots: over what the installation has written there.
//!
//! disko mounts a dataset during the installation if its `mountpoint` is set, and NixOS's initial RAM disk what is then in
//! `fileSystems`. With `options.mountpoint` alone it is `zfs mount -a` that does so, late in the boot (zfs-mount.service): the
//! files lie in the file system above until then, and are hidden afterwards.

use super::model::{Dataset, DatasetKind, Devices, Pool};
use super::walk::Top;
use super::{DiskoError, node};
use std::collections::BTreeMap;

/// What an installation writes, whatever the system is: nixos-install, activation, the boot loader.
const WRITTEN: &[&str] = &[
    "/bin/sh",
    "/boot",
    "/etc",
    "/home",
    "/nix/store",
    "/nix/var/nix",
    "/root",
    "/usr/bin/env",
    "/var/empty",
    "/var/lib/nixos",
];
/// Where everything below is of the installation, too.
const WHOLE: &[&str] = &["/boot", "/etc", "/nix/store", "/nix/var"];

/// What a mount at `target` would hide.
fn hides(target: &str) -> Option<&'static str> {
    let below = |inner: &str, outer: &str| {
        let outer = outer.trim_end_matches('/');
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let written = WRITTEN.iter().find(|written| below(written, target));
    written.or_else(|| WHOLE.iter().find(|whole| below(target, whole))).copied()
}

/// Where a dataset's property says that it is mounted; it is inherited (zfsprops(7)).
fn mountpoint(pool: &Pool, own: &BTreeMap<&str, &BTreeMap<String, String>>, name: &str) -> String {
    let property = own.get(name).and_then(|options| options.get("mountpoint"));
    let inherited = |word: &String| word == "inherit";
    match (property.filter(|word| !inherited(word)), name.rsplit_once('/')) {
        (Some(property), _) => property.clone(),
        (None, Some((above, last))) => match mountpoint(pool, own, above) {
            path if path.starts_with('/') => format!("{}/{last}", path.trim_end_matches('/')),
            word => word,
        },
        (None, None) => pool.root_options.get("mountpoint").cloned().unwrap_or_else(|| format!("/{}", pool.name)),
    }
}

/// Refuses the first of these.
pub(super) fn check(devices: &Devices) -> Result<(), DiskoError> {
    for (key, pool) in &devices.pools {
        let own = pool.datasets.iter().map(|dataset| (dataset.name.as_str(), &dataset.options)).collect();
        let top = Top::Pool(key).path();
        for dataset in &pool.datasets {
            let path = match dataset.kind {
                DatasetKind::Filesystem { create: false, .. } => top.clone(),
                DatasetKind::Filesystem { .. } | DatasetKind::Volume { .. } => {
                    node::join(&format!("{top}.datasets"), &dataset.key)
                }
            };
            one(pool, &own, dataset, &path)?;
        }
    }
    Ok(())
}

fn one(
    pool: &Pool,
    own: &BTreeMap<&str, &BTreeMap<String, String>>,
    dataset: &Dataset,
    path: &str,
) -> Result<(), DiskoError> {
    let DatasetKind::Filesystem { create, mountpoint: None, .. } = &dataset.kind else { return Ok(()) };
    let options = &dataset.options;
    // Not inherited: who does not say so is mounted.
    if options.get("canmount").is_some_and(|word| word != "on") {
        return Ok(());
    }
    let target = mountpoint(pool, own, &dataset.name);
    let Some(hidden) = hides(&target).filter(|_| target.starts_with('/')) else { return Ok(()) };
    let list = if *create { "options" } else { "rootFsOptions" };
    let is_its_own = options.contains_key("mountpoint");
    let path = if is_its_own { format!("{path}.{list}.mountpoint") } else { path.to_owned() };
    Err(DiskoError::new(
        &path,
        format!(
            "has ZFS mount {} at {target}, and only when the installed system boots: that hides {hidden}, which the installation \
             writes beneath it",
            dataset.name
        ),
        format!(
            "set mountpoint = \"{target}\" on it, too (beside options), so that it is mounted for the installation and by the \
             initial RAM disk; or {list}.mountpoint = \"none\", or {list}.canmount = \"off\", if nothing is to be mounted there"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_known() {
        for (target, hidden) in [
            ("/", Some("/bin/sh")),
            ("/nix", Some("/nix/store")),
            ("/nix/", Some("/nix/store")),
            ("/nix/store", Some("/nix/store")),
            ("/nix/store/x", Some("/nix/store")),
            ("/nix/var/log", Some("/nix/var")),
            ("/var", Some("/var/empty")),
            ("/var/lib", Some("/var/lib/nixos")),
            ("/etc/ssh", Some("/etc")),
            ("/home", Some("/home")),
            ("/boot/firmware", Some("/boot")),
            ("/var/lib/docker", None),
            ("/var/log", None),
            ("/home/me", None),
            ("/nixos", None),
            ("/data", None),
            ("/tank", None),
        ] {
            assert_eq!(hides(target), hidden, "{target}");
        }
    }
}
