//! What is to be known of a NixOS system from its toplevel, in this machine's store.

use super::fstab::{self, Entry};
use super::initrd::{self, Contents};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// The largest of the small files that are read, bytes.
const LARGEST: u64 = 1 << 20;

/// A system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// Its name, for messages and for an example that is not everybody's.
    pub toplevel: String,
    /// What it mounts; `None` if it has no table.
    pub fstab: Option<Vec<Entry>>,
    /// `etc/hostid`, which NixOS makes of `networking.hostId`.
    pub host_id: Option<Vec<u8>>,
    /// Its initrd, or why that cannot be looked into.
    pub initrd: Result<Contents, String>,
    /// Modules that are part of the kernel; `None` if it does not tell.
    pub built_in: Option<BTreeSet<String>>,
}

impl System {
    /// Reads it. What cannot be read is not known, and no reason to refuse anything.
    pub fn read(toplevel: &Path) -> Self {
        let initrd = File::open(toplevel.join("initrd"))
            .map_err(|error| error.to_string())
            .and_then(|file| initrd::list(file).map_err(|error| format!("{error:#}")));
        let mut table = small(&toplevel.join("etc/fstab")).map(|text| fstab::parse(&String::from_utf8_lossy(&text)));
        if let (Some(table), Ok(Contents { fstab: Some(text), .. })) = (&mut table, &initrd) {
            for entry in fstab::parse(text) {
                if !table.iter().any(|known| (&known.device, &known.mountpoint) == (&entry.device, &entry.mountpoint)) {
                    table.push(entry);
                }
            }
        }
        Self {
            toplevel: toplevel.display().to_string(),
            fstab: table,
            host_id: small(&toplevel.join("etc/hostid")),
            initrd,
            built_in: built_in(&toplevel.join("kernel-modules/lib/modules")),
        }
    }
}

fn small(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LARGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// `modules.builtin` of the one kernel there is (kbuild: Documentation/kbuild/kbuild.rst).
fn built_in(modules: &Path) -> Option<BTreeSet<String>> {
    let versions = fs::read_dir(modules).ok()?;
    let lists = versions.flatten().filter_map(|version| small(&version.path().join("modules.builtin")));
    let all: Vec<String> = lists.map(|list| String::from_utf8_lossy(&list).into_owned()).collect();
    match all.is_empty() {
        true => None,
        false => Some(all.iter().flat_map(|list| list.lines()).filter_map(initrd::module_name).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toplevel_is_read_as_far_as_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let system = System::read(dir.path());
        assert_eq!((system.fstab, system.host_id, system.built_in), (None, None, None));
        assert!(system.initrd.is_err());

        let modules = dir.path().join("kernel-modules/lib/modules/6.12");
        fs::create_dir_all(&modules).unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(modules.join("modules.builtin"), "kernel/drivers/usb/storage/usb-storage.ko\n").unwrap();
        fs::write(dir.path().join("etc/hostid"), [1, 2, 3, 4]).unwrap();
        fs::write(dir.path().join("etc/fstab"), "tank/root / zfs defaults 0 0\n").unwrap();
        let more = ("nix/store/x-initrd-fstab", "tank/root / zfs zfsutil 0 0\ntank/nix /nix zfs defaults 0 0\n");
        fs::write(dir.path().join("initrd"), initrd::tests::cpio(&[more, ("zpool", "x")])).unwrap();
        let system = System::read(dir.path());
        assert_eq!(system.fstab.unwrap().len(), 2);
        assert_eq!(system.host_id.unwrap(), [1, 2, 3, 4]);
        assert!(system.initrd.unwrap().zpool && system.built_in.unwrap().contains("usb_storage"));
    }
}
