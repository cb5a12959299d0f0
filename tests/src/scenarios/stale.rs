//! Disks that held something else before: the plan says in words what is lost, whoever uses it is named, and after the
//! installation no tool sees anything of it.

use super::failures::is_free;
use super::{SMALL, SSD, Scenario, State, World};
use crate::closure::Variant;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "stale-raid",
        "members of arrays, with superblocks at the start and at the end",
        State::Waiting,
        raid,
    )
    .thorough(),
    Scenario::new(
        "stale-pool",
        "a pool on the bare disk, hidden by an MBR that somebody wrote over it",
        State::Installed,
        pool,
    ),
    Scenario::new(
        "stale-luks",
        "LVM in LUKS, left open: who holds the disk is named, until it is closed",
        State::Waiting,
        luks,
    )
    .thorough(),
    Scenario::new("stale-btrfs", "a btrfs that another disk has a part of", State::Waiting, btrfs),
    Scenario::new(
        "stale-gpt",
        "a GPT whose other copy is where the disk once ended, and one without its head",
        State::Waiting,
        gpt,
    )
    .thorough(),
    Scenario::new("stale-pool-name", "a pool on another disk that is called as the new one", State::Waiting, pool_name),
    Scenario::new("stale-in-use", "a disk in use in each way there is: the holder is named", State::Waiting, in_use),
];

fn disk(serial: &str) -> String {
    format!("/dev/disk/by-id/virtio-{serial}")
}

/// The plan for the usual layout, as a person reads it, whitespace folded.
fn plan(world: &mut World) -> Result<String> {
    let disko = world.closure(Variant::Tiny)?.disko.display().to_string();
    let host = world.host()?;
    let text = world.expect(&["plan", &host, "--disko", &disko], 0, &[])?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Expects the plan and `cygnet disks` to say this.
fn expect_told(world: &mut World, texts: &[&str]) -> Result<()> {
    let host = world.host()?;
    let plan = plan(world)?;
    let disks = world.expect(&["disks", &host], 0, &[])?;
    eprintln!("{disks}");
    for text in texts {
        ensure!(plan.contains(text), "the plan does not say {text:?}:\n{plan}");
        ensure!(disks.contains(text), "`cygnet disks` does not say {text:?}:\n{disks}");
    }
    Ok(())
}

/// Expects a refusal that names this as who uses the disk.
fn expect_refused(world: &mut World, texts: &[&str]) -> Result<()> {
    let disko = world.closure(Variant::Tiny)?.disko.display().to_string();
    let host = world.host()?;
    world.expect(&["plan", &host, "--disko", &disko], 17, texts)?;
    let json = world.expect(&["disks", &host, "--json"], 0, &[])?;
    let list: Value = serde_json::from_str(&json).context("parsing the disks")?;
    let link = disk(SSD);
    let all = list["disks"].as_array().context("finding the disks")?;
    let ours = all.iter().find(|disk| disk["by-id"].as_array().is_some_and(|ids| ids.contains(&link.as_str().into())));
    let objections = ours.context("finding the disk")?["objections"].to_string();
    for text in texts {
        ensure!(objections.contains(text), "`cygnet disks` does not object with {text:?}: {objections}");
    }
    Ok(())
}

/// Installs, and looks for anything that is not of the new layout.
fn install(world: &mut World) -> Result<()> {
    let tiny = world.closure(Variant::Tiny)?;
    let (toplevel, disko) = (tiny.toplevel.display().to_string(), tiny.disko.display().to_string());
    let host = world.host()?;
    let digest = world.digest(&disko)?;
    let install =
        ["install", &host, "--closure", &toplevel, "--disko", &disko, "--yes", &digest, "--fresh", "--no-reboot"];
    world.expect(&install, 0, &[])?;
    world.expect_state("installed")?;
    is_free(world)
}

fn nothing_stale(world: &mut World) -> Result<()> {
    let ssd = disk(SSD);
    let pi = world.pi()?;
    let whole = pi.sh(&format!("blkid --probe --output export {ssd}"))?;
    ensure!(whole.contains("PTTYPE=gpt") && !whole.contains("\nTYPE="), "on the disk itself:\n{whole}");
    let found =
        pi.sh(&format!("for part in {ssd}-part*; do wipefs --noheadings --output TYPE,LABEL $part; done | sort -u"))?;
    let kinds: Vec<&str> = found.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let foreign: Vec<&&str> =
        kinds.iter().filter(|kind| !["vfat", "dos", "ext4", "swap", "zfs_member"].contains(kind)).collect();
    ensure!(foreign.is_empty() && kinds.contains(&"zfs_member"), "on the partitions:\n{found}");
    for part in pi.sh(&format!("ls {ssd}-part*"))?.lines() {
        pi.sh(&format!("blkid --probe {part}")).with_context(|| format!("{part} is ambivalent or blank"))?;
    }
    let pools = pi.sh("zpool import -d /dev 2>/dev/null | sed -n 's/^ *pool: //p'")?;
    ensure!(pools == "rpool", "these pools are seen: {pools}");
    let labels = pi.sh(&format!("zdb -l {ssd} | grep -c name: || true"))?;
    ensure!(labels == "0", "there are ZFS labels on the disk itself");
    let arrays = pi.sh("mdadm --examine --scan; grep ^md /proc/mdstat || true")?;
    ensure!(arrays.is_empty(), "these arrays are seen: {arrays}");
    let volumes = pi.sh("pvs --noheadings; vgs --noheadings; ls /dev/mapper | grep -v ^control || true")?;
    ensure!(volumes.is_empty(), "these volumes are seen: {volumes}");
    let btrfs = pi.sh("btrfs filesystem show 2>/dev/null || true")?;
    ensure!(!btrfs.contains("uuid"), "this btrfs is seen: {btrfs}");
    Ok(())
}

fn raid(world: &mut World) -> Result<()> {
    let (ssd, small) = (disk(SSD), disk(SMALL));
    world.pi()?.sh(&format!(
        "sgdisk --new=1:0:+500M --new=2:0:+600M {ssd} && udevadm settle && \
         mdadm --create /dev/md/start --level=1 --raid-devices=2 --metadata=1.2 --homehost=nas --run {ssd}-part1 missing && \
         mdadm --create /dev/md/end --level=1 --raid-devices=2 --metadata=1.0 --homehost=nas --run {ssd}-part2 {small} && \
         mkfs.ext4 -q /dev/md/end && udevadm settle"
    ))?;
    expect_refused(world, &["is held by /dev/md", "raid1"])?;
    world.pi()?.sh("mdadm --stop /dev/md/start && mdadm --stop /dev/md/end && udevadm settle")?;
    expect_told(
        world,
        &["member of RAID nas:start, raid1 of 2", "member of RAID nas:end, raid1 of 2 (other member: /dev/"],
    )?;
    let plan = plan(world)?;
    ensure!(plan.contains("the RAID nas:end loses a member, and has others elsewhere"), "no warning:\n{plan}");
    install(world)?;
    world.pi()?.sh(&format!("mdadm --zero-superblock {small} && wipefs -qa {small}"))?;
    nothing_stale(world)
}

/// There is the pool of an earlier installation, too.
fn pool(world: &mut World) -> Result<()> {
    let ssd = disk(SSD);
    // What a pool without partitions leaves at both ends, and on top a table as any tool writes it.
    world.pi()?.sh(&format!(
        "size=$(blockdev --getsize64 {ssd}) && rm -f /run/raw.img && truncate -s $size /run/raw.img && \
         zpool create -f bare /run/raw.img && zfs create bare/precious && zpool export bare && \
         for at in 0 $((size / 1048576 - 1)); do \
             dd if=/run/raw.img of={ssd} bs=1M count=1 skip=$at seek=$at conv=notrunc,fsync status=none; done && \
         rm /run/raw.img && dd if=/dev/zero of={ssd} bs=256K count=1 conv=fsync status=none && \
         echo '2048,+,c' | sfdisk --wipe never --force --label dos {ssd} && udevadm settle && zdb -l {ssd} | grep bare"
    ))?;
    expect_told(world, &["MBR partition table with 1 partition", "member of the ZFS pool bare, last used by host"])?;
    install(world)?;
    nothing_stale(world)
}

fn luks(world: &mut World) -> Result<()> {
    let ssd = disk(SSD);
    world.pi()?.sh(&format!(
        "sgdisk --new=1:0:0 {ssd} && udevadm settle && \
         echo -n secret | cryptsetup -q luksFormat --pbkdf pbkdf2 --pbkdf-force-iterations 1000 {ssd}-part1 - && \
         echo -n secret | cryptsetup open --key-file - {ssd}-part1 vault && pvcreate -q /dev/mapper/vault && \
         vgcreate -q vg0 /dev/mapper/vault && lvcreate -q -y -L 100M -n one vg0 && lvcreate -q -y -L 100M -n two vg0 && \
         mkfs.ext4 -q -L root /dev/vg0/one && udevadm settle"
    ))?;
    expect_refused(world, &["/dev/mapper/vault (crypt)", "/dev/mapper/vg0-one (lvm)"])?;
    let host = world.host()?;
    let disks = world.expect(&["disks", &host], 0, &[])?;
    for text in ["LUKS2 volume", "LVM volume group vg0, 2 volumes", "ext4 “root”, ", " in use of 100 MiB"] {
        ensure!(disks.contains(text), "`cygnet disks` does not say {text:?}:\n{disks}");
    }
    world.pi()?.sh("vgchange -q -an vg0 && cryptsetup close vault && udevadm settle")?;
    expect_told(world, &["LUKS2 volume"])?;
    install(world)?;
    nothing_stale(world)
}

fn btrfs(world: &mut World) -> Result<()> {
    let (ssd, small) = (disk(SSD), disk(SMALL));
    world.pi()?.sh(&format!("mkfs.btrfs -qf -L films -d single -m single {ssd} {small} && udevadm settle"))?;
    expect_told(world, &["btrfs “films”, ", "(other device: /dev/"])?;
    install(world)?;
    world.pi()?.sh(&format!("wipefs -qa {small}"))?;
    nothing_stale(world)
}

fn gpt(world: &mut World) -> Result<()> {
    let ssd = disk(SSD);
    // A table as it was on a disk of 1 GiB, copied onto a larger one that has had its own.
    world.pi()?.sh(&format!(
        "sgdisk --new=1:0:0 {ssd} && rm -f /run/old.img && truncate -s 1G /run/old.img && \
         sgdisk --new=1:0:+200M --new=2:0:+300M --change-name=2:old /run/old.img && \
         for at in 0 1023; do dd if=/run/old.img of={ssd} bs=1M count=1 skip=$at seek=$at conv=notrunc,fsync status=none; done; \
         rm /run/old.img && blockdev --rereadpt {ssd} && udevadm settle && mkfs.ext4 -q -L old {ssd}-part2 && udevadm settle"
    ))?;
    expect_told(world, &["GPT partition table with 2 partitions", "ext4 “old”, 29 MiB in use of 300 MiB"])?;
    install(world)?;
    nothing_stale(world)?;
    // Only the copy at the end is left: sgdisk's zap ends with an error, and wipefs sees nothing.
    world.pi()?.sh(&format!(
        "dd if=/dev/zero of={ssd} bs=1M count=1 conv=fsync status=none && blockdev --rereadpt {ssd} && udevadm settle"
    ))?;
    install(world).context("installing on a disk with the end of a GPT")?;
    nothing_stale(world)
}

fn pool_name(world: &mut World) -> Result<()> {
    let small = disk(SMALL);
    world.pi()?.sh(&format!("zpool create -f rpool {small} && zpool export rpool && udevadm settle"))?;
    let disko = world.closure(Variant::Tiny)?.disko.display().to_string();
    let host = world.host()?;
    world.expect(&["plan", &host, "--disko", &disko], 13, &["rpool", "another disk"]).map(drop)
}

fn in_use(world: &mut World) -> Result<()> {
    let ssd = disk(SSD);
    world
        .pi()?
        .sh(&format!("sgdisk --new=1:0:+1G {ssd} && udevadm settle && mkswap -q {ssd}-part1 && swapon {ssd}-part1"))?;
    let swap = expect_refused(world, &["is active swap"]);
    world.pi()?.sh(&format!("swapoff {ssd}-part1"))?;
    swap?;
    world.pi()?.sh(&format!("zpool create -f -m none tank {ssd}-part1 && udevadm settle"))?;
    let pool = expect_refused(world, &["a member of the imported pool tank"]);
    world.pi()?.sh("zpool destroy tank && udevadm settle")?;
    pool?;
    world.pi()?.sh(&format!(
        "mkfs.ext4 -qF {ssd}-part1 && mkdir -p /media/used && mount {ssd}-part1 /media/used && udevadm settle"
    ))?;
    let mounted = expect_refused(world, &["is mounted at /media/used"]);
    world.pi()?.sh("umount /media/used")?;
    mounted?;
    world.pi()?.sh(&format!("wipefs -qaf {ssd}-part1 && pvcreate -qqy {ssd}-part1 && vgcreate -q vg1 {ssd}-part1 && lvcreate -qy -L 100M -n data vg1"))?;
    let lvm = expect_refused(world, &["/dev/mapper/vg1-data (lvm)"]);
    world.pi()?.sh("vgremove -qfy vg1")?;
    lvm.map(drop)
}
