//! Keeping what is on a disk: `--mode format,mount` makes what is missing and nothing else, `--mode mount` makes nothing.

use super::failures::is_free;
use super::steps::{KEY, Killing, fixture, killed_after_each};
use super::{SSD, Scenario, State, World};
use crate::closure::Variant;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "mode-pool",
        "a pool is kept with its data; what it lacks is made, the agent killed after each",
        State::Waiting,
        pool,
    )
    .thorough(),
    Scenario::new(
        "mode-mount",
        "a layout that is there is only mounted; where it is not, nothing is made",
        State::Waiting,
        mount,
    ),
    Scenario::new("mode-luks-lvm", "volumes in LUKS are kept, and the missing one is made", State::Waiting, luks_lvm)
        .thorough(),
    Scenario::new(
        "mode-btrfs",
        "subvolumes are kept; a partition in free space and a subvolume are added",
        State::Waiting,
        btrfs,
    )
    .thorough(),
    Scenario::new(
        "mode-differs",
        "something else than the layout asks for is never overwritten",
        State::Waiting,
        differs,
    ),
];

const KEEP: &str = "format,mount";

/// Installs the tiny system in this mode.
fn install(world: &mut World, disko: &str, mode: &str, more: &[&str]) -> Result<()> {
    let tiny = world.closure(Variant::Tiny)?.toplevel.display().to_string();
    let host = world.host()?;
    let digest = world.digest_of(disko, mode)?;
    let install = ["install", &host, "--closure", &tiny, "--disko", disko, "--mode", mode, "--yes", &digest];
    world.expect(&[&install[..], &["--no-reboot"], more].concat(), 0, &[])?;
    is_free(world)
}

fn of_the_demo() -> Result<Value> {
    let layout = std::fs::read_to_string(crate::closure::layout()).context("reading the layout")?;
    serde_json::from_str(&layout).context("parsing the layout")
}

/// What tells a pool that was kept from one that was made anew.
const IN_THE_POOL: &str = "zpool import -N -R /mnt rpool && zpool get -H -o value guid rpool; \
    zfs get -H -o value guid rpool/safe/home rpool/local/root@blank; \
    mkdir -p /run/look && mount -t zfs -o zfsutil rpool/safe/home /run/look && cat /run/look/kept; \
    umount /run/look; zpool export rpool";

fn pool(world: &mut World) -> Result<()> {
    let layout = of_the_demo()?;
    let disko = world.file("modes.json", &layout.to_string())?;
    // On a blank disk, everything is missing.
    install(world, &disko, KEEP, &["--keep-data"])?;
    let pi = world.pi()?;
    pi.sh(
        "mkdir -p /run/look && zpool import -N -R /mnt rpool && mount -t zfs -o zfsutil rpool/safe/home /run/look && \
         echo precious > /run/look/kept && umount /run/look && zfs destroy rpool/swap && zpool export rpool && \
         wipefs -a /dev/disk/by-partlabel/disk-ssd-boot && udevadm settle",
    )?;
    let before = pi.sh(IN_THE_POOL)?;
    let host = world.host()?;
    let shown = world.expect(&["plan", &host, "--disko", &disko, "--mode", KEEP], 0, &[])?;
    for text in ["IS KEPT", "rpool", "unless it is there"] {
        ensure!(shown.contains(text), "the plan does not say {text:?}:\n{shown}");
    }
    for text in ["WILL BE LOST", "Destroy\n", "Partition\n"] {
        ensure!(!shown.contains(text), "the plan says {text:?}:\n{shown}");
    }
    killed_after_each(
        world,
        &layout,
        &Killing { mode: KEEP, tools: &["mkfs.vfat", "zfs", "zpool"], least: 4 },
        &[
            "zpool import -N -o readonly=on -R /mnt rpool && zfs list rpool/swap && zpool export rpool",
            "test \"$(blkid -p -s TYPE -o value /dev/disk/by-partlabel/disk-ssd-boot)\" = vfat",
        ],
    )?;
    let after = world.pi()?.sh(IN_THE_POOL)?;
    ensure!(before == after && after.contains("precious"), "the pool is not what it was:\n{before}\n{after}");
    Ok(())
}

fn mount(world: &mut World) -> Result<()> {
    let disko = world.file("modes.json", &of_the_demo()?.to_string())?;
    let host = world.host()?;
    world.expect(&["plan", &host, "--disko", &disko, "--mode", "mount"], 13, &["a GPT", "--mode format,mount"])?;
    world.expect_blank(SSD)?;
    install(world, &disko, "destroy,format,mount", &[])?;
    world.pi()?.sh(
        "mkdir -p /run/look && zpool import -N -R /mnt rpool && mount -t zfs -o zfsutil rpool/safe/home /run/look && \
         echo precious > /run/look/kept && umount /run/look && zpool export rpool",
    )?;
    let before = world.pi()?.sh(IN_THE_POOL)?;
    let out = world.expect(&["plan", &host, "--disko", &disko, "--mode", "mount", "--argv"], 0, &[])?;
    for tool in ["sgdisk", "mkfs.vfat", "wipefs", "\"create\""] {
        ensure!(!out.contains(tool), "mounting needs {tool}:\n{out}");
    }
    install(world, &disko, "mount", &["--keep-data"])?;
    let after = world.pi()?.sh(IN_THE_POOL)?;
    ensure!(before == after, "the pool is not what it was:\n{before}\n{after}");
    super::failures::verify_store(world)
}

fn luks_lvm(world: &mut World) -> Result<()> {
    let text = include_str!("../../../protocol/tests/fixtures/disko/luks-lvm.json");
    let mut layout = fixture(&text.replace("/tmp/secret.key", KEY), "/dev/vdb")?;
    let luks = &mut layout["disk"]["main"]["content"]["partitions"]["luks"]["content"];
    luks["extraFormatArgs"] = json!(["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]);
    luks["additionalKeyFiles"] = json!([]);
    world.pi()?.sh(&format!("umask 077; printf 'cygnet and key' > {KEY}"))?;
    let disko = world.file("modes.json", &layout.to_string())?;
    install(world, &disko, "destroy,format,mount", &[])?;
    let open = format!(
        "cryptsetup open /dev/disk/by-partlabel/disk-main-luks look --key-file {KEY} && vgchange -a y pool > /dev/null 2>&1 && udevadm settle"
    );
    let close = "vgchange -a n pool > /dev/null 2>&1 && cryptsetup close look";
    let ids = format!(
        "{open} && vgs --noheadings -o vg_uuid pool && lvs --noheadings -o lv_uuid pool/home && \
         mkdir -p /run/look && mount /dev/pool/home /run/look && cat /run/look/kept; umount /run/look; {close}"
    );
    world.pi()?.sh(&format!(
        "{open} && lvremove -fy pool/raw && mkdir -p /run/look && mount /dev/pool/home /run/look && \
         echo precious > /run/look/kept && umount /run/look && {close}"
    ))?;
    let before = world.pi()?.sh(&ids)?;
    install(world, &disko, KEEP, &[])?;
    let after = world.pi()?.sh(&ids)?;
    ensure!(before == after && after.contains("precious"), "the volumes are not what they were:\n{before}\n{after}");
    world.pi()?.sh(&format!("{open} && lvs pool/raw && {close}")).map(drop).context("looking for the missing volume")
}

fn btrfs(world: &mut World) -> Result<()> {
    let text = include_str!("../../../protocol/tests/fixtures/disko/btrfs-subvolumes.json");
    let mut layout = fixture(text, "/dev/disk/by-diskseq/1")?;
    let partitions = &mut layout["disk"]["main"]["content"]["partitions"];
    partitions["root"]["end"] = "+1G".into();
    partitions["root"]["size"] = "1G".into();
    let disko = world.file("modes.json", &layout.to_string())?;
    install(world, &disko, "destroy,format,mount", &[])?;
    let partition = "/dev/disk/by-partlabel/disk-main-root";
    let mounted = format!("mkdir -p /run/look && mount -o subvol=/ {partition} /run/look");
    world.pi()?.sh(&format!("{mounted} && echo precious > /run/look/home/kept && umount /run/look"))?;
    let ids = format!(
        "sgdisk -i 2 /dev/disk/by-id/virtio-{SSD} | grep GUID; blkid -p -s UUID {partition}; \
         {mounted} && cat /run/look/home/kept; umount /run/look"
    );
    let before = world.pi()?.sh(&ids)?;

    let partitions = &mut layout["disk"]["main"]["content"]["partitions"];
    let mut more = partitions["ESP"].clone();
    let device = "/dev/disk/by-partlabel/disk-main-more";
    for (key, value) in [("name", "more"), ("label", "disk-main-more"), ("device", device), ("type", "8300")] {
        more[key] = value.into();
    }
    for (key, value) in [("start", "0"), ("end", "+200M"), ("size", "200M")] {
        more[key] = value.into();
    }
    (more["_index"], more["priority"]) = (3.into(), 9002.into());
    let content = &mut more["content"];
    (content["format"], content["mountpoint"]) = ("ext4".into(), "/more".into());
    (content["device"], content["mountOptions"]) = (device.into(), json!(["defaults"]));
    partitions["more"] = more;
    let subvolumes = &mut partitions["root"]["content"]["subvolumes"];
    subvolumes["/added"] = subvolumes["/test"].clone();
    subvolumes["/added"]["name"] = "/added".into();
    let disko = world.file("modes.json", &layout.to_string())?;
    let host = world.host()?;
    let planned = world.expect(&["plan", &host, "--disko", &disko, "--mode", KEEP, "--json"], 0, &[])?;
    install(world, &disko, KEEP, &["--keep-data"])?;
    let after = world.pi()?.sh(&ids)?;
    ensure!(before == after && after.contains("precious"), "the disk is not what it was:\n{before}\n{after}");
    let added = world.pi()?.sh(&format!(
        "blkid -p -s TYPE -o value {device}; {mounted} && test -d /run/look/added && umount /run/look; \
         sgdisk -i 3 /dev/disk/by-id/virtio-{SSD} | sed -n 's/^First sector: \\([0-9]*\\).*/\\1/p'"
    ))?;
    // Where it was planned.
    let planned: Value = serde_json::from_str(&planned).context("parsing the plan")?;
    let first = planned["steps"].as_array().into_iter().flatten().find_map(|step| step["step"]["first_lba"].as_u64());
    let first = first.context("finding the partition in the plan")?;
    ensure!(added == format!("ext4\n{first}"), "something else was added than sector {first}: {added}");
    Ok(())
}

fn differs(world: &mut World) -> Result<()> {
    let disk = format!("/dev/disk/by-id/virtio-{SSD}");
    let disko = world.file("modes.json", &of_the_demo()?.to_string())?;
    let host = world.host()?;
    let plan = ["plan", &host, "--disko", &disko, "--mode", KEEP];
    // Another filesystem on the whole disk, another partition, another filesystem in the partition.
    world.pi()?.sh(&format!("mkfs.ext4 -q -L photos {disk} && udevadm settle"))?;
    world.expect(&plan, 13, &["ext4", "a GPT", "--mode destroy,format,mount"])?;
    world.pi()?.sh(&format!(
        "wipefs -a {disk} && sgdisk -n 1:1M:+300M -c 1:photos {disk} && partprobe {disk} && udevadm settle"
    ))?;
    world.expect(&plan, 13, &["“photos”"])?;
    world.pi()?.sh(&format!(
        "sgdisk -c 1:disk-ssd-boot {disk} && partprobe {disk} && udevadm settle && \
         mkfs.ext4 -q -L photos {disk}-part1 && udevadm settle"
    ))?;
    world.expect(&plan, 13, &["ext4 “photos”"])?;
    let label = world.pi()?.sh(&format!("blkid -p -s LABEL -o value {disk}-part1"))?;
    ensure!(label == "photos", "the filesystem is gone: {label}");
    // Changed after the plan was shown.
    world.pi()?.sh(&format!("wipefs -a {disk}-part1 && udevadm settle"))?;
    let digest = world.digest_of(&disko, KEEP)?;
    world.pi()?.sh(&format!("mkfs.ext4 -q -L photos {disk}-part1 && udevadm settle"))?;
    let tiny = world.closure(Variant::Tiny)?.toplevel.display().to_string();
    let install = ["install", &host, "--closure", &tiny, "--disko", &disko, "--mode", KEEP, "--yes", &digest];
    world.expect(&install, 13, &["ext4 “photos”"])?;
    let label = world.pi()?.sh(&format!("blkid -p -s LABEL -o value {disk}-part1"))?;
    ensure!(label == "photos", "the filesystem is gone: {label}");
    Ok(())
}
