//! A first look: boots one Pi and checks that what scenarios build on is there.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Parts, Settings, prepare};
use crate::host::{
    self,
    run::{run, tool},
};

/// Emulation is slow, and slower on a busy host; a wait this long means that something is broken.
const PATIENCE: Duration = crate::patience::BOOT;

/// Prepares everything, boots a Pi from its card, looks around, and boots it again through U-Boot and its SSD.
///
/// # Errors
/// The first thing that isn't as it should be.
pub fn smoke() -> Result<()> {
    host::ensure_host_packages()?;
    host::ensure_package_lists()?;
    let parts = prepare(&Settings::default_here()?)?;
    look_around(&parts)
}

fn look_around(parts: &Parts) -> Result<()> {
    let started = Instant::now();
    let say = |what: &str| {
        eprintln!("virtual Pi: {:5.1} s: {what}", started.elapsed().as_secs_f64());
    };
    let mut pi = parts
        .pi()
        .ssd("CYGSSD0", 4 << 30)
        .file("etc/cygnet-smoke", 0o600, "from the seed\n")
        .fat_file("SMOKE.TXT", "from the laptop\n")
        .build()?;
    say("the card is written");
    pi.power_on()?;
    pi.wait_ssh(PATIENCE)?;
    say("root is logged in");
    ensure!(pi.sh("uname -r")? == parts.kernel.version, "another kernel runs");
    ensure!(pi.sh("cat /etc/cygnet-smoke")? == "from the seed", "the seed is missing");
    ensure!(pi.sh("cat /boot/firmware/SMOKE.TXT")? == "from the laptop", "the FAT partition is missing");
    pi.sh("modprobe zfs")?;
    let zfs = pi.sh("zpool version")?;
    say(&format!("ZFS runs: {}", zfs.replace('\n', ", ")));
    pi.sh("test -b /dev/disk/by-id/virtio-CYGSSD0 && test -b /dev/disk/by-id/virtio-CYGCARD")?;
    pi.sh("sgdisk --new=1:0:0 --change-name=1:smoke /dev/disk/by-id/virtio-CYGSSD0 && \
         udevadm settle && test -b /dev/disk/by-partlabel/smoke")?;
    say("udev names disks and partitions");
    pi.sh("zpool create -f -m none smoke /dev/disk/by-partlabel/smoke && zpool export smoke")?;
    say("a pool was made");
    let failed = pi.sh("systemctl --failed --no-legend --plain")?;
    ensure!(failed.is_empty(), "units failed on the Pi:\n{failed}");
    pi.sh("systemctl poweroff")?;
    pi.wait_off(PATIENCE)?;
    say("it is off");

    let image = pi.ssd("CYGSSD0")?.image.clone();
    make_bootable(&image, parts)?;
    // Its firmware looks at the card first, whatever is on the SSD.
    pi.pull_card()?;
    pi.power_on()?;
    pi.wait_serial("Retrieving file: /extlinux/../nixos/kernel", PATIENCE)?;
    say("U-Boot found the kernel on the SSD");
    pi.wait_serial("no card with the serial number", PATIENCE)?;
    say("the SSD's own kernel runs, and finds no card");
    pi.wait_off(PATIENCE)?;
    Ok(())
}

/// Gives an SSD what a bootable one has: a GPT, and a FAT partition with the attribute that U-Boot looks for.
fn make_bootable(ssd: &Path, parts: &Parts) -> Result<()> {
    const START: u64 = 1024 * 1024;
    const KIB: u64 = 256 * 1024;
    run(tool("sgdisk")
        .args(["--zap-all", "--new=1:2048:+256M", "--typecode=1:0700", "--attributes=1:set:2"])
        .arg(ssd))?;
    run(tool("mkfs.vfat")
        .args(["-F", "32", "-s", "1", "-n", "FIRMWARE", "--offset", &(START / 512).to_string()])
        .arg(ssd)
        .arg(KIB.to_string()))?;
    let entry = "DEFAULT smoke\nTIMEOUT 1\nLABEL smoke\n  LINUX ../nixos/kernel\n  INITRD ../nixos/initrd\n  \
                 APPEND console=ttyAMA0 rw cygnet.smoke\n";
    let mut config = tempfile::NamedTempFile::new().context("creating a temporary file")?;
    config.write_all(entry.as_bytes()).context("writing a temporary file")?;
    let fat = format!("{}@@{START}", ssd.display());
    run(tool("mmd").args(["-i", &fat, "::extlinux", "::nixos"]))?;
    for (from, to) in [
        (config.path(), "::extlinux/extlinux.conf"),
        (&parts.kernel.image, "::nixos/kernel"),
        (&parts.initrd, "::nixos/initrd"),
    ] {
        run(tool("mcopy").args(["-i", &fat]).arg(from).arg(to))?;
    }
    Ok(())
}
