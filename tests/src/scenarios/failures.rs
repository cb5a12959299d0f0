//! What goes wrong in the middle: each failure has its own exit code, leaves the disks free and the Pi on its card, and
//! the next `install` goes on without formatting.

use super::{Scenario, State, World, installing};
use crate::closure::{Closure, Variant};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("fail-hash", "a NAR whose hash does not match, then a good one", State::Waiting, hash),
    Scenario::new(
        "fail-busy-export",
        "a pool that somebody holds: who is named, the Pi does not reboot",
        State::Waiting,
        busy_export,
    ),
    Scenario::new("fail-activation", "an activation that fails", State::Waiting, activation)
        .makes(State::FailedActivation),
    Scenario::new("fail-boot-loader", "a boot loader that cannot be installed", State::FailedActivation, boot_loader),
    Scenario::new("fail-then-succeed", "the corrected system, without formatting", State::FailedActivation, corrected),
    Scenario::new("fail-full-disk", "a disk that is full in the middle of the push", State::Waiting, full_disk),
    Scenario::new(
        "replace-old-pool",
        "a disk that was all of another pool: the plan names it, the installation replaces it",
        State::Waiting,
        old_pool,
    ),
];

fn arguments(closure: &Closure) -> (String, String) {
    (closure.toplevel.display().to_string(), closure.disko.display().to_string())
}

fn hash(world: &mut World) -> Result<()> {
    let tiny = world.own_closure("pi-damaged")?;
    let (toplevel, disko) = arguments(&tiny);
    let host = world.host()?;
    let digest = world.digest(&disko)?;
    let install = ["install", &host, "--closure", &toplevel, "--disko", &disko, "--yes", &digest, "--no-reboot"];
    let said = {
        let _tampered = Tampered::new(&tiny.toplevel.join("nixos-version"))?;
        world.expect(&install, 30, &["nix-store --verify-path"])
    };
    said?;
    // The agent still waits for a good one.
    world.expect_state("receiving")?;
    let disks = world.expect(&["disks", &host], 0, &[])?;
    ensure!(disks.contains("an installation is running") && disks.contains("mounted at /mnt"), "{disks}");
    world.expect(&install, 0, &[]).context("sending it again, undamaged")?;
    let status = world.expect_state("installed")?;
    ensure!(status["job"]["digest"] == digest.as_str(), "another job: {status}");
    is_free(world)?;
    verify_store(world)
}

fn busy_export(world: &mut World) -> Result<()> {
    let tiny = world.own_closure("pi-held")?;
    let (toplevel, disko) = arguments(&tiny);
    let host = world.host()?;
    let digest = world.digest(&disko)?;
    let install = ["install", &host, "--closure", &toplevel, "--disko", &disko, "--yes", &digest];
    {
        // A refused path leaves the target mounted and the agent waiting: time to sit down in it.
        let _tampered = Tampered::new(&tiny.toplevel.join("nixos-version"))?;
        world.expect(&install, 30, &[])?;
    }
    world.pi()?.sh("cd /mnt/home && (setsid sleep 3600 < /dev/null > /dev/null 2>&1 &)")?;
    world.expect(&install, 36, &["sleep ("])?;
    world.expect_state("failed")?;
    ensure!(world.pi()?.is_on(), "the Pi rebooted");
    world.pi()?.sh("pkill -x sleep")?;
    let install = [&install[..], &["--no-reboot"]].concat();
    world.expect(&install, 0, &[]).context("going on after the holder has gone")?;
    world.expect_state("installed")?;
    is_free(world)
}

pub(super) fn activation(world: &mut World) -> Result<()> {
    let broken = world.closure(Variant::TinyActivationFails)?;
    let (toplevel, disko) = arguments(&broken);
    let host = world.host()?;
    let digest = world.digest(&disko)?;
    let install = ["install", &host, "--closure", &toplevel, "--disko", &disko, "--yes", &digest];
    world.expect(&install, 33, &["snippet"])?;
    let status = world.expect_state("failed")?;
    ensure!(status["job"]["resumable"] == true, "it cannot be gone on with: {status}");
    is_free(world)
}

/// The layout is kept from the failure before.
fn boot_loader(world: &mut World) -> Result<()> {
    let broken = world.closure(Variant::TinyBootLoaderFails)?;
    let (toplevel, disko) = arguments(&broken);
    let host = world.host()?;
    let before = pool_guid(world)?;
    let digest = job(world)?;
    let install = ["install", &host, "--closure", &toplevel, "--disko", &disko, "--yes", &digest];
    world.expect(&install, 34, &["28"])?;
    world.expect_state("failed")?;
    is_free(world)?;
    ensure!(world.pi()?.is_on(), "the Pi rebooted");
    ensure!(pool_guid(world)? == before, "it was formatted anew");
    Ok(())
}

fn corrected(world: &mut World) -> Result<()> {
    let tiny = world.closure(Variant::Tiny)?;
    let (toplevel, disko) = arguments(&tiny);
    let host = world.host()?;
    let before = pool_guid(world)?;
    let digest = job(world)?;
    let install = ["install", &host, "--closure", &toplevel, "--disko", &disko, "--yes", &digest, "--no-reboot"];
    world.expect(&install, 0, &[])?;
    world.expect_state("installed")?;
    ensure!(pool_guid(world)? == before, "it was formatted anew");
    verify_store(world)
}

fn full_disk(world: &mut World) -> Result<()> {
    let huge = world.closure(Variant::TinyHuge)?;
    // A quota is not seen by the check before; the bytes have to come to know.
    let disko = world.layout(|layout| {
        layout["zpool"]["rpool"]["datasets"]["local/nix"]["options"]["quota"] = "48M".into();
    })?;
    let toplevel = huge.toplevel.display().to_string();
    let host = world.host()?;
    let digest = world.digest(&disko)?;
    let install = ["install", &host, "--closure", &toplevel, "--disko", &disko, "--yes", &digest];
    world.expect(&install, 31, &["full", "quota"])?;
    world.pi()?.sh("systemctl is-active cygnetd")?;
    let abort = world.cygnet(&["abort", &host, "--yes"])?;
    ensure!(matches!(abort.status.code(), Some(0 | 28)), "{abort:?}");
    Ok(())
}

fn old_pool(world: &mut World) -> Result<()> {
    let disk = format!("/dev/disk/by-id/virtio-{}", super::SSD);
    world.pi()?.sh(&format!(
        "for part in {disk}-part*; do zpool labelclear -f $part || true; wipefs -q --all --force $part; done; \
         sgdisk --zap-all {disk} && udevadm settle && zpool create -f tank {disk} && zfs create tank/precious && \
         zpool export tank && udevadm settle"
    ))?;
    let tiny = world.closure(Variant::Tiny)?;
    let (toplevel, disko) = arguments(&tiny);
    let host = world.host()?;
    let plan = world.expect(&["plan", &host, "--disko", &disko], 0, &[])?;
    ensure!(plan.contains("ZFS pool tank"), "the plan does not say what is lost:\n{plan}");
    let digest = world.digest(&disko)?;
    let install = installing(&host, &toplevel, &disko, &digest, &[]);
    world.expect(&install, 0, &[])?;
    world.expect_state("installed")?;
    let pools = world.pi()?.sh("zpool import -d /dev/disk/by-id 2>/dev/null | sed -n 's/^ *pool: //p'")?;
    ensure!(pools == "rpool", "these pools are left: {pools}");
    is_free(world)
}

/// Installs the tiny system, and does not reboot.
pub(super) fn install_tiny(world: &mut World) -> Result<()> {
    let tiny = world.closure(Variant::Tiny)?;
    let (toplevel, disko) = arguments(&tiny);
    let host = world.host()?;
    let digest = world.digest(&disko)?;
    world.expect(&installing(&host, &toplevel, &disko, &digest, &[]), 0, &[])?;
    world.expect_state("installed")?;
    is_free(world)
}

/// The digest of the installation that the agent remembers.
fn job(world: &mut World) -> Result<String> {
    world.status()?["job"]["digest"].as_str().map(str::to_owned).context("finding the job's digest")
}

/// Nothing of the target is mounted or imported.
pub fn is_free(world: &mut World) -> Result<()> {
    world
        .pi()?
        .sh("! findmnt -R /mnt && test -z \"$(zpool list -H)\" && test -z \"$(swapon --show --noheadings)\"")
        .map(drop)
}

fn pool_guid(world: &mut World) -> Result<String> {
    world.pi()?.sh("zpool import -d /dev/disk/by-id 2>/dev/null | sed -n 's/^ *id: //p'")
}

/// Mounts the installed store and lets the real Nix look at every byte of it.
pub fn verify_store(world: &mut World) -> Result<()> {
    let pi = world.pi()?;
    pi.sh(
        "zpool import -N -R /mnt rpool && mount -t zfs rpool/local/root /mnt && mount -t zfs rpool/local/nix /mnt/nix",
    )?;
    let verified = pi.sh("nix-store --store 'local?root=/mnt' --verify --check-contents 2>&1");
    let left = pi.sh("ls -A /mnt/nix/store | grep -c '^\\.cygnet' || true");
    let links = pi.sh("readlink /mnt/nix/var/nix/profiles/system /mnt/nix/var/nix/profiles/$(readlink /mnt/nix/var/nix/profiles/system); test -e /mnt/etc/NIXOS");
    pi.sh("umount -R /mnt && zpool export rpool")?;
    let verified = verified.context("nix-store --verify --check-contents")?;
    for bad in ["error", "modified", "missing", "disappeared"] {
        ensure!(!verified.contains(bad), "nix-store --verify found something:\n{verified}");
    }
    ensure!(left?.trim() == "0", "left-overs of the import are in the store");
    links.map(drop)
}

/// A file of the host's store with one bit flipped, for as long as this lives.
pub struct Tampered {
    file: std::path::PathBuf,
    whole: Vec<u8>,
}

impl Tampered {
    /// Damages it.
    pub fn new(file: &Path) -> Result<Self> {
        let whole = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        let mut damaged = whole.clone();
        *damaged.first_mut().context("an empty file cannot be damaged")? ^= 1;
        write(file, &damaged)?;
        Ok(Self { file: file.to_owned(), whole })
    }
}

impl Drop for Tampered {
    fn drop(&mut self) {
        if let Err(error) = write(&self.file, &self.whole) {
            eprintln!("restoring {}: {error:#}; delete that store path", self.file.display());
        }
    }
}

fn write(file: &Path, content: &[u8]) -> Result<()> {
    fs::set_permissions(file, fs::Permissions::from_mode(0o644))?;
    fs::write(file, content).with_context(|| format!("writing {}", file.display()))?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o444))?;
    Ok(())
}
