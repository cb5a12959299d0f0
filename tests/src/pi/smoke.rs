//! A first look: boots one Pi and checks that what scenarios build on is there.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Parts, Settings, prepare};
use crate::host;

/// Emulation is slow, and slower on a busy host; a wait this long means that something is broken.
const PATIENCE: Duration = Duration::from_secs(300);

/// Prepares everything, boots a Pi from its card, looks around, and switches it off.
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
    pi.boot_from_card()?;
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
    Ok(())
}
