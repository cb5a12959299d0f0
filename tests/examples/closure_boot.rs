//! Installs the full closure on a virtual Pi's SSD by hand, with Debian's own tools, and boots it through U-Boot: shows that
//! the closure is sound whatever the agent does.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cygnet_tests::closure::nix::Nix;
use cygnet_tests::closure::{self, Settings, Variant};
use cygnet_tests::host;
use cygnet_tests::host::run::{run, stdout_of, tool};
use cygnet_tests::pi;

const PATIENCE: Duration = Duration::from_secs(400);

const INSTALL: &str = r#"
set -eu
disk=/dev/disk/by-id/virtio-CYGSSD0
mkdir -p /card /mnt
mount -o ro /dev/disk/by-id/virtio-CYGCOPY /card
sgdisk --clear $disk
sgdisk --align-end --new=1:0:+512M --partition-guid=1:R --change-name=1:disk-ssd-boot --typecode=1:EF00 \
  --attributes=1:=:0 --attributes=1:set:2 $disk
sgdisk --align-end --new=2:0:-0 --partition-guid=2:R --change-name=2:disk-ssd-zfs --typecode=2:8300 $disk
udevadm settle
mkfs.vfat -F 32 -n BOOT /dev/disk/by-partlabel/disk-ssd-boot
modprobe zfs
zpool create -f -o ashift=12 -O compression=lz4 -O acltype=posixacl -O xattr=sa -O mountpoint=none -R /mnt rpool \
  /dev/disk/by-partlabel/disk-ssd-zfs
for dataset in local safe; do zfs create -o mountpoint=none rpool/$dataset; done
zfs create -o mountpoint=legacy rpool/local/root
zfs snapshot rpool/local/root@blank
zfs create -o mountpoint=legacy -o atime=off rpool/local/nix
zfs create -V 256M rpool/swap
udevadm settle
mkswap /dev/zvol/rpool/swap
mount -t zfs rpool/local/root /mnt
mkdir -p /mnt/nix /mnt/boot /mnt/home
mount -t zfs rpool/local/nix /mnt/nix
zfs create -o mountpoint=/home rpool/safe/home
mount -o umask=0077 /dev/disk/by-partlabel/disk-ssd-boot /mnt/boot
mkdir -p /mnt/nix/store /mnt/nix/var/nix/profiles /mnt/etc/ssh
cp -a /card/nix/store/. /mnt/nix/store/
ln -s $TOPLEVEL /mnt/nix/var/nix/profiles/system-1-link
ln -s system-1-link /mnt/nix/var/nix/profiles/system
touch /mnt/etc/NIXOS
cp /etc/ssh/ssh_host_ed25519_key /mnt/etc/ssh/
"#;

const ACTIVATE: &str = r#"
set -eu
mkdir -p /mnt/dev /mnt/sys /mnt/proc
mount --rbind /dev /mnt/dev
mount --rbind /sys /mnt/sys
IN_NIXOS_ENTER=1 chroot /mnt $TOPLEVEL/activate
IN_NIXOS_ENTER=1 chroot /mnt $TOPLEVEL/activate
chroot /mnt $TOPLEVEL/sw/bin/systemd-tmpfiles --create --remove -E
chroot /mnt $TOPLEVEL/sw/bin/bash -c 'nix-store --load-db' < /card/registration
NIXOS_INSTALL_BOOTLOADER=1 chroot /mnt $TOPLEVEL/sw/bin/bash -c '/run/current-system/bin/switch-to-configuration boot'
cat /mnt/boot/extlinux/extlinux.conf
chroot /mnt $TOPLEVEL/sw/bin/bash -c 'nix-store --verify --check-contents'
"#;

const EXPORT: &str = r#"
set -eu
umount /mnt/boot
zfs umount rpool/safe/home
umount /mnt/nix
umount /mnt
zpool export rpool
systemctl poweroff
"#;

const LOOK: &str = "uptime; findmnt -t zfs,vfat; swapon --show; systemctl --failed --no-legend --plain; systemd-analyze; \
     systemd-analyze blame | head -12; journalctl -b -p warning --no-pager | tail -25; ip -br a; zpool status rpool; \
     nix --version; cat /etc/hostname";

fn main() -> Result<()> {
    host::ensure_host_packages()?;
    host::ensure_package_lists()?;
    let here = pi::Settings::default_here()?;
    let parts = pi::prepare(&here)?;
    let mut pi = parts.pi().ssd("CYGSSD0", 4 << 30).ssd("CYGCOPY", 1 << 30).build()?;

    let mut started = Instant::now();
    let mut say = |what: &str| {
        eprintln!("{:5.1} s: {what}", started.elapsed().as_secs_f64());
        started = Instant::now();
    };
    let settings = Settings::new(pi.keys().user_public()?, Variant::Full);
    let closure = closure::build(&here.cache, &settings)?;
    say(&format!("built {} paths, {} bytes", closure.paths, closure.nar_size));
    disk_of(&Nix::new(&here.cache)?, &closure.toplevel, &pi.ssd("CYGCOPY")?.image)?;
    say("made a disk of them");

    let toplevel = format!("TOPLEVEL={}", closure.toplevel.display());
    pi.power_on()?;
    pi.wait_ssh(PATIENCE)?;
    say("the card's system is up");
    pi.sh(&format!("{toplevel}; {INSTALL}"))?;
    say("the disk is laid out, and the closure copied");
    let private = |script: &str| {
        let script = format!("export {toplevel}\n{script}").replace('\'', "'\\''");
        format!("unshare --mount --pid --fork sh -c '{script}'")
    };
    println!("{}", pi.sh(&private(ACTIVATE))?);
    say("activated, boot loader installed, store verified");
    pi.sh(EXPORT)?;
    pi.wait_off(PATIENCE)?;
    say("exported, and off");

    pi.pull_card()?;
    pi.power_on()?;
    pi.wait_serial("Starting kernel", PATIENCE)?;
    say("U-Boot started the kernel");
    pi.wait_serial("Stage 2", PATIENCE)?;
    say("the pool is imported, the second stage runs");
    pi.wait_ssh(PATIENCE)?;
    say("ssh from the SSD");
    let current = pi.sh("readlink /run/current-system")?;
    ensure!(Path::new(&current) == closure.toplevel, "{current} runs instead of {}", closure.toplevel.display());
    println!("{}", pi.sh(LOOK)?);
    pi.sh("systemctl poweroff")?;
    pi.wait_off(PATIENCE)?;
    say("off");
    Ok(())
}

/// Fills `image` with an ext4 file system that has the closure, and what Nix' database says about it.
fn disk_of(nix: &Nix, toplevel: &Path, image: &Path) -> Result<()> {
    let room = tempfile::tempdir().context("creating a directory for the closure's disk")?;
    let store = room.path().join("nix/store");
    fs::create_dir_all(&store).context("creating a store")?;
    let paths = nix.closure(toplevel)?;
    run(tool("cp").arg("-a").args(&paths).arg(&store))?;
    let registration = stdout_of(nix.command("nix-store").arg("--dump-db").args(&paths))?;
    fs::write(room.path().join("registration"), registration).context("writing the registration")?;
    run(tool("mke2fs").args(["-q", "-F", "-t", "ext4", "-d"]).arg(room.path()).arg(image))
}
