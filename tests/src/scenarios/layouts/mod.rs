//! What is made of disko's layouts is what disko makes of them: on real block devices, by what the tools themselves say.
//!
//! For each of [`cases`], `cygnet install` makes the layout on one set of disks. Everything is opened, looked at
//! ([`look`]) and closed; then those disks are made blank again, because names collide. On the other set the commands
//! run that disko's own scripts ran for the same layout ([`recorded`]), and the same is looked at; what is seen is kept in
//! the cache for as long as packages, kernel and commands stay the same. What is put aside
//! (identifiers, times, how full it is) and what is different is decided by [`facts`], without a Pi. A difference is
//! allowed only by the title of its paragraph in `docs/disko-differences.md`.
//!
//! Of two layouts with layers the installation is cut in the middle, and gone on with.

mod cases;
mod facts;
mod look;
mod recorded;

use super::failures::{Tampered, is_free};
use super::{SMALL, SSD, Scenario, State, World};
use crate::pi::builder::Builder;
use crate::pi::cache;
use crate::workshop::repository;
use anyhow::{Context, Result, ensure};
use cases::Case;
use facts::Facts;
use recorded::{Layer, PASSPHRASE, Recorded};
use std::collections::BTreeSet;
use std::fs;

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "layout-mirror",
        "a root on a mirror of ZFS, /boot on one of mdadm's, as disko makes them",
        State::ManyDisks,
        |w| same(w, &cases::MIRROR),
    ),
    Scenario::new("layout-raidz1", "a raidz1", State::ManyDisks, |w| same(w, &cases::RAIDZ1)).thorough(),
    Scenario::new("layout-encrypted-zfs", "a root that ZFS encrypts, and swap on a volume", State::ManyDisks, |w| {
        same(w, &cases::ENCRYPTED)
    })
    .thorough(),
    Scenario::new("layout-luks-lvm", "LVM on LUKS; the agent is killed in the middle", State::ManyDisks, |w| {
        same(w, &cases::LUKS_LVM)
    })
    .thorough(),
    Scenario::new(
        "layout-mdadm",
        "a GPT on a mirror of mdadm's; the agent is killed in the middle",
        State::ManyDisks,
        |w| same(w, &cases::MDADM),
    )
    .thorough(),
    Scenario::new("layout-btrfs", "btrfs with subvolumes and swap files", State::ManyDisks, |w| same(w, &cases::BTRFS)),
    Scenario::new("layout-luks-btrfs", "btrfs with subvolumes on LUKS with two keys", State::ManyDisks, |w| {
        same(w, &cases::LUKS_BTRFS)
    })
    .thorough(),
    Scenario::new("layout-hybrid-mbr", "a GPT with a hybrid MBR", State::ManyDisks, |w| same(w, &cases::HYBRID_MBR))
        .thorough(),
    Scenario::new("layout-msdos", "parted's MBR", State::ManyDisks, |w| same(w, &cases::MSDOS)),
    Scenario::new("layout-legacy-gpt", "parted's GPT", State::ManyDisks, |w| same(w, &cases::LEGACY_GPT)),
    Scenario::new("layout-zvols", "swap and LUKS on volumes of a pool", State::ManyDisks, |w| same(w, &cases::ZVOLS)),
    Scenario::new("layout-lvm-thin", "a thin pool", State::ManyDisks, |w| same(w, &cases::LVM_THIN)).thorough(),
    Scenario::new("layout-lvm-raid", "LVM's own raid0 and mirror", State::ManyDisks, |w| same(w, &cases::LVM_RAID))
        .thorough(),
    Scenario::new("layout-luks-mdadm", "LUKS on a mirror of mdadm's", State::ManyDisks, |w| {
        same(w, &cases::LUKS_MDADM)
    })
    .thorough(),
    Scenario::new("layout-topology", "a pool with every class of vdevs", State::ManyDisks, |w| {
        same(w, &cases::TOPOLOGY)
    })
    .thorough(),
];

/// The file that keeps what was seen.
const SEEN: &str = "seen.txt";
/// Of the disks that layouts are made on. The largest layout has 14.
const DISKS: usize = 14;
const SIZE: u64 = 2 << 30;

fn serial(number: usize) -> String {
    format!("CYGLAY{number}")
}

fn paths(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("/dev/disk/by-id/virtio-{}", serial(number))).collect()
}

/// A Pi with many disks. A key of LUKS takes a gigabyte to make if there is one.
pub(super) fn pi(pi: Builder<'_>) -> Builder<'_> {
    let pi = pi.memory(2048).ssd(SSD, 4 << 30).ssd(SMALL, 700 << 20);
    (0..DISKS).fold(pi, |pi, number| pi.ssd(&serial(number), SIZE))
}

/// The files that disko's layouts have secrets in; raw keys of ZFS have 32 bytes. An array's first copy of nothing to nothing
/// would take longer than all else here.
pub(super) fn prepare(world: &mut World) -> Result<()> {
    world
        .pi()?
        .sh(&format!(
            "printf 'a passphrase of disko\\n' > /tmp/secret.key && printf 'a passphrase of disko' > {PASSPHRASE} && \
             printf 'another one' > /tmp/additionalSecret.key && head -c 32 /dev/urandom > /tmp/k && \
             modprobe -a md_mod raid1 && echo 2000 > /proc/sys/dev/raid/speed_limit_max"
        ))
        .map(drop)
}

/// Only the disks of two sets of `count` are plugged in.
fn plug_in(world: &mut World, count: usize) -> Result<()> {
    let wanted: Vec<String> = (0..DISKS.min(2 * count)).map(serial).collect();
    world.pi()?.sh(&look::plug_in(&wanted)).map(drop)
}

fn same(world: &mut World, case: &Case) -> Result<()> {
    let recorded = Recorded::read(repository(), case)?;
    let layers = recorded.layers();
    let count = recorded.disks()?.len();
    let (first, second) = (paths(0..count), if 2 * count <= DISKS { paths(count..2 * count) } else { paths(0..count) });
    plug_in(world, count)?;

    install(world, case, &recorded.moved(&first)?)?;
    let ours = facts(&seen(world, &first, &layers).context("looking at what cygnet made")?)?;
    world.pi()?.sh(&look::blank(&first, &layers))?;

    let theirs = facts(&of_disko(world, case, &recorded.moved(&second)?, &second, &layers)?)?;

    let (different, explained) = facts::differences(&ours, &theirs, case.allowed);
    ensure!(different.is_empty(), "it is not what disko makes of {}:\n  {}", case.fixture, different.join("\n  "));
    let meant: BTreeSet<&str> = case.allowed.iter().map(|allowed| allowed.title).collect();
    ensure!(meant == explained, "these differences were meant: {meant:?}; these were seen: {explained:?}");
    Ok(())
}

/// Installs a tiny system, after which nothing is open.
fn install(world: &mut World, case: &Case, layout: &Recorded) -> Result<()> {
    // What is damaged for a moment must be nobody else's.
    let tiny = world.own_closure(if case.interrupted { case.fixture } else { "pi-of-layouts" })?;
    let toplevel = tiny.toplevel.display().to_string();
    let disko = world.file("layout.json", &layout.devices.to_string())?;
    let host = world.host()?;
    let digest = world.digest(&disko)?;
    let install = ["install", &host, "--closure", &toplevel, "--disko", &disko, "--yes", &digest, "--no-reboot"];
    let fresh = [&install[..], &["--fresh"]].concat();
    let (code, said) = if case.boots { (0, "") } else { (35, "no boot loader's configuration") };
    if case.interrupted {
        {
            // A damaged path is refused, and the agent waits for a good one with everything open.
            let _tampered = Tampered::new(&tiny.toplevel.join("nixos-version"))?;
            world.expect(&fresh, 30, &[])?;
        }
        world.pi()?.sh("systemctl kill --signal=KILL cygnetd && sleep 1 && systemctl start cygnetd")?;
        let status = world.expect_state("interrupted")?;
        ensure!(status["job"]["resumable"] == true, "it cannot be gone on with: {status}");
        world.expect(&install, code, &["the layout is kept", said]).context("going on after the agent was killed")?;
    } else {
        world.expect(&fresh, code, &[said])?;
    }
    world.expect_state(if case.boots { "installed" } else { "failed" })?;
    is_free(world)?;
    let disks = layout.disks()?.join(" ");
    let held = format!(
        "left=$(lsblk --noheadings --list --output NAME,TYPE {disks} | grep -v -e disk -e part); test -z \"$left\" || {{ echo \"$left\"; exit 1; }}"
    );
    world.pi()?.sh(&held).context("seeing that everything was closed")?;
    Ok(())
}

/// What is seen after disko's own commands. The same packages, kernel and commands make the same, so it is kept: it takes
/// half of the time that all of this takes.
fn of_disko(world: &mut World, case: &Case, disko: &Recorded, disks: &[String], layers: &[Layer]) -> Result<String> {
    let (script, look) = (disko.script(), look::look(disks, layers));
    let made_of = [world.parts.card.display().to_string(), world.parts.kernel.root.display().to_string(), script, look];
    let key = cache::key(&made_of.each_ref().map(|part| part.as_bytes()));
    let shelf = format!("disko/{}", case.fixture);
    let cache = world.parts.cache.clone();
    let entry = cache::entry(&cache, &shelf, &key, "running disko's own commands in the virtual Pi", |out| {
        let [.., script, _] = &made_of;
        world.pi()?.sh(script).context("running disko's commands")?;
        world.pi()?.sh(&look::close(layers)).context("closing what disko made")?;
        let printed = seen(world, disks, layers).context("looking at what disko made")?;
        // Nothing that can't be opened is kept.
        facts(&printed)?;
        world.pi()?.sh(&look::blank(disks, layers))?;
        fs::write(out.join(SEEN), printed).context("keeping what was seen")
    })?;
    fs::read_to_string(entry.join(SEEN)).context("reading what was seen")
}

fn seen(world: &mut World, disks: &[String], layers: &[Layer]) -> Result<String> {
    let printed = world.pi()?.sh(&look::look(disks, layers))?;
    if let Some(directory) = std::env::var_os("CYGNET_TEST_FACTS") {
        let name = format!(
            "{}-{}",
            disks.first().map_or("none", |disk| disk.rsplit('-').next().unwrap_or("none")),
            disks.len()
        );
        fs::write(std::path::Path::new(&directory).join(name), &printed)?;
    }
    Ok(printed)
}

fn facts(printed: &str) -> Result<Facts> {
    let facts = facts::facts(printed);
    // What cannot be opened is no layout; two of that kind would be the same.
    ensure!(!facts.contains_key("opening"), "it cannot be opened: {:?}", facts["opening"]);
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_allowed_by_the_document_s_titles() {
        let document = fs::read_to_string(repository().join("docs/disko-differences.md")).unwrap();
        for allowed in cases::ALL.iter().flat_map(|case| case.allowed) {
            assert!(document.lines().any(|line| line.ends_with(&format!(". {}", allowed.title))), "{}", allowed.title);
        }
    }
}
