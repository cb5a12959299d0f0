//! The initial RAM disk of the card's system: busybox, a handful of modules, and a script that mounts the card.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::archive::{Archive, SEED};
use super::card::{FAT_PARTITION, ROOT_PARTITION};
use super::kernel::{Kernel, one};
use super::packages::{self, Arch};
use super::{cache, vm};
use crate::host::run::{tool, try_output};

/// What must be loaded before the root can be mounted. `crc32c_generic` is asked for by ext4 at mount, not by depmod's list.
/// The network card's driver would otherwise wait for udev's turn, and the address with it.
const WANTED: &[&str] = &["crc32c_generic", "ext4", "vfat", "nls_cp437", "nls_ascii", "nls_utf8"];

/// What each board needs besides: the word in its device tree's `compatible`, the name of its list, its modules. A Pi has its
/// card behind one of two controllers, and dwc2 wants its phy's driver first.
const BOARDS: &[(&str, &str, &[&str])] = &[
    ("linux,dummy-virt", "virt", &["virtio_blk", "virtio_net"]),
    (
        "brcm,bcm2837",
        "pi3",
        &[
            "bcm2835",
            "sdhci_iproc",
            "phy_generic",
            "dwc2",
            "usb_storage",
            "sd_mod",
            "cdc_ether",
            "cdc_subset",
            "bcm2835_wdt",
        ],
    ),
];

/// Increased whenever the script or the archive's shape changes.
const RECIPE: u32 = 5;

fn script() -> String {
    format!(
        r#"#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
load() {{ while read -r module; do insmod "/modules/$module" || echo "initrd: $module can't be loaded"; done < "/modules/$1"; }}
load order
compatible=$(tr '\\0' ' ' < /proc/device-tree/compatible)
case $compatible in
{cases}*) echo "initrd: no list of modules for $compatible"; poweroff -f ;;
esac

# A card in an SD slot is known by its controller, a virtual one by its serial number: which letter it gets depends on what
# else is attached.
find_card() {{
  for disk in /sys/block/vd*; do
    if [ "$(cat "$disk/serial" 2>/dev/null)" = {serial} ]; then card="/dev/${{disk##*/}}"; fi
  done
  if [ -b /dev/mmcblk0 ]; then card=/dev/mmcblk0p; fi
  [ -b "${{card}}{partition}" ]
}}
# A busy machine takes its time.
tries=0
until find_card; do
  tries=$((tries + 1))
  if [ $tries -gt 1200 ]; then echo "initrd: no card with the serial number {serial}, and none in the SD slot"; poweroff -f; fi
  sleep 0.1
done
mount -t ext4 "${{card}}{partition}" /root || {{ echo "initrd: ${{card}}{partition} can't be mounted"; poweroff -f; }}
# Here, and not by the card's system: the settings on it are the first thing that the agent reads.
mount -t vfat -o flush "${{card}}{fat}" /root/boot/firmware || echo "initrd: ${{card}}{fat} can't be mounted"
if [ -d /{seed} ]; then cp -a /{seed}/. /root/; fi
for dir in dev proc sys; do mount --move /$dir /root/$dir; done
exec switch_root /root /sbin/init
"#,
        cases = BOARDS.iter().map(|(word, list, _)| format!("*{word}*) load {list} ;;\n")).collect::<String>(),
        serial = vm::CARD_SERIAL,
        partition = ROOT_PARTITION,
        fat = FAT_PARTITION,
        seed = SEED,
    )
}

/// The initial RAM disk for `kernel`, from the cache or made now.
///
/// # Errors
/// If busybox can't be downloaded or a module can't be read.
pub fn initrd(cache_dir: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let busybox = one(packages::download(cache_dir, Arch::Arm64, &["busybox-static"])?)?;
    let key = cache::key(&[
        script().as_bytes(),
        busybox.version.as_bytes(),
        kernel.root.to_string_lossy().as_bytes(),
        &RECIPE.to_le_bytes(),
    ]);
    let entry = cache::entry(cache_dir, "initrd", &key, "packing busybox and modules", |out| {
        let room = tempfile::tempdir().context("creating a temporary directory")?;
        busybox.unpack(room.path(), &["./usr/share/*"])?;
        let binary = room.path().join("usr/bin/busybox");
        let binary = fs::read(&binary).with_context(|| format!("reading {}", binary.display()))?;

        let mut archive = Archive::default();
        for directory in ["dev", "proc", "sys", "root"] {
            archive.directory(directory)?;
        }
        archive.file("init", 0o755, script().as_bytes())?;
        archive.file("bin/busybox", 0o755, &binary)?;
        let mut packed = BTreeSet::new();
        let base = closure(&kernel.modules(), WANTED)?;
        let lists = BOARDS.iter().map(|(_, name, modules)| (*name, *modules)).chain([("order", WANTED)]);
        for (list, modules) in lists {
            let mut order = String::new();
            for path in closure(&kernel.modules(), modules)? {
                if list != "order" && base.contains(&path) {
                    continue;
                }
                let (name, content) = plain_module(&kernel.modules().join(path))?;
                if packed.insert(name.clone()) {
                    archive.file(&format!("modules/{name}"), 0o644, &content)?;
                }
                order.push_str(&name);
                order.push('\n');
            }
            archive.file(&format!("modules/{list}"), 0o644, order.as_bytes())?;
        }
        let to = out.join("initrd.img");
        fs::write(&to, archive.finish()?).with_context(|| format!("writing {}", to.display()))
    })?;
    Ok(entry.join("initrd.img"))
}

/// The modules to load, each after those it depends on, as paths relative to `modules`.
///
/// # Errors
/// If depmod's list can't be read or knows neither a module nor a builtin of that name.
pub fn closure(modules: &Path, wanted: &[&str]) -> Result<Vec<String>> {
    let read = |name: &str| {
        let path = modules.join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    in_order(&read("modules.dep")?, &read("modules.builtin")?, wanted)
}

fn in_order(dep: &str, builtin: &str, wanted: &[&str]) -> Result<Vec<String>> {
    let known: BTreeMap<String, (&str, Vec<&str>)> = dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needs)| (module_name(path), (path, needs.split_whitespace().collect())))
        .collect();
    let builtin: BTreeSet<String> = builtin.lines().map(module_name).collect();
    let mut order: Vec<String> = Vec::new();
    for name in wanted {
        if builtin.contains(*name) {
            continue;
        }
        let (path, needs) = known.get(*name).with_context(|| format!("this kernel has no module {name}"))?;
        // depmod lists what must be loaded first at the end (modules.dep(5)).
        for path in needs.iter().rev().chain([path]) {
            if !order.iter().any(|have| have == path) {
                order.push((*path).to_owned());
            }
        }
    }
    Ok(order)
}

/// `kernel/fs/ext4/ext4.ko.xz` is the module `ext4`; `-` and `_` are the same in module names.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// A module's file name and content, decompressed: emulated decompression costs more than the bytes do.
fn plain_module(path: &Path) -> Result<(String, Vec<u8>)> {
    let name = path
        .file_name()
        .with_context(|| format!("{} has no file name", path.display()))?
        .to_string_lossy()
        .into_owned();
    match name.strip_suffix(".xz") {
        None => {
            let content = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            Ok((name, content))
        }
        Some(plain) => {
            let output = try_output(tool("xz").args(["-d", "-c"]).arg(path))?;
            anyhow::ensure!(output.status.success(), "xz can't read {}", path.display());
            Ok((plain.to_owned(), output.stdout))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_load_first() {
        let dep = "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz\n\
                   kernel/lib/crc16.ko.xz:\n\
                   kernel/drivers/block/virtio_blk.ko.xz:\n";
        let builtin = "kernel/drivers/virtio/virtio.ko\n";
        let order = in_order(dep, builtin, &["virtio", "ext4", "virtio_blk"]).unwrap();
        assert_eq!(
            order,
            [
                "kernel/lib/crc16.ko.xz",
                "kernel/fs/jbd2/jbd2.ko.xz",
                "kernel/fs/ext4/ext4.ko.xz",
                "kernel/drivers/block/virtio_blk.ko.xz"
            ]
        );
        let error = in_order(dep, builtin, &["nvme"]).unwrap_err();
        assert_eq!(error.to_string(), "this kernel has no module nvme");
    }
}
