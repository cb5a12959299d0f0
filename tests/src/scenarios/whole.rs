//! The whole main job: the real system, pushed, installed, booted through U-Boot, and found to be what was sent.

use super::{BOOT, Entry, SSD, World};
use crate::closure::Variant;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

pub const SCENARIOS: &[Entry] = &[
    ("whole-discover", "the Pi announces itself, with its state and its host key's fingerprint", discover),
    ("whole-flake", "a flake gives the same plan as its layout, and its system is found", flake),
    ("whole-install", "from the card to the installed system, verified by cygnet itself", install),
    ("whole-installed", "what runs is what was sent, on the layout that was asked for", installed),
    ("whole-store", "the real Nix finds every byte of the installed store in order", store),
];

/// What the agent may use at most while it receives, bytes. It is under 24 MiB on a quiet Pi.
const PEAK: u64 = 48 << 20;

fn discover(world: &mut World) -> Result<()> {
    let address = world.pi()?.address();
    let out = world.expect(&["discover", "--first", "--timeout", "60s", "--json"], 0, &[])?;
    let found: Value =
        serde_json::from_str(out.lines().next().unwrap_or_default()).context("parsing what was found")?;
    let text = found.to_string();
    ensure!(text.contains(&address), "the Pi's address {address} is not announced: {text}");
    let identity = world.pi()?.keys().identity();
    let key =
        std::process::Command::new("ssh-keygen").arg("-lf").arg(identity.with_file_name("host_key.pub")).output()?;
    let key = String::from_utf8_lossy(&key.stdout).split_whitespace().nth(1).unwrap_or("no fingerprint").to_owned();
    ensure!(text.contains(&key), "the host key's fingerprint {key} is not announced: {text}");
    // Which one depends on the scenarios before.
    let state = world.status()?["state"]["state"].clone();
    ensure!(found["state"] == state, "its state {state} is not announced: {text}");
    Ok(())
}

fn flake(world: &mut World) -> Result<()> {
    let host = world.host()?;
    let flake = world.flake(Variant::Tiny)?;
    let expected = world.digest(&crate::closure::layout().display().to_string())?;
    let out = world.expect(&["plan", &host, "--flake", &flake, "--json"], 0, &[])?;
    let plan: Value = serde_json::from_str(&out).context("parsing the plan")?;
    ensure!(plan["digest"] == expected.as_str(), "another plan: {plan}");
    // Built, found to be for the Pi, and refused only because nobody said yes.
    world.expect(&["install", &host, "--flake", &flake], 29, &["--yes"])?;
    let nobody = flake.replace("#pi", "#nobody");
    world.expect(&["plan", &host, "--flake", &nobody], 39, &["nobody", "pi"])?;
    world.expect(&["plan", &host, "--flake", "path:/nowhere#pi"], 39, &["/nowhere"]).map(drop)
}

fn install(world: &mut World) -> Result<()> {
    let full = world.closure(Variant::Full)?;
    ensure!(full.paths >= 150 && full.nar_size >= 300_000_000, "the closure is too small to prove anything: {full:?}");
    let (toplevel, disko) = (full.toplevel.display().to_string(), full.disko.display().to_string());
    let host = world.host()?;
    let digest = world.digest(&disko)?;
    let arguments =
        ["install", &host, "--closure", &toplevel, "--disko", &disko, "--yes", &digest, "--fresh", "--json"];
    let command = world.command(&arguments)?;
    let site = world.site.clone();
    let summary = site.install_through_reboot(command, world.pi()?, || ())?;
    ensure!(summary["verified"] == true, "cygnet did not see the new system: {summary}");
    let peak = summary["agent-peak-memory"].as_u64().unwrap_or(u64::MAX);
    ensure!(peak <= PEAK, "the agent used {peak} bytes of memory");
    ensure!(summary["sent"]["paths-sent"].as_u64() == Some(full.paths as u64), "not all paths were sent: {summary}");
    Ok(())
}

fn installed(world: &mut World) -> Result<()> {
    let full = world.closure(Variant::Full)?;
    let pi = world.pi()?;
    // With the card's host key pinned: another one would be refused here.
    pi.wait_ssh(BOOT).context("logging in on the installed system")?;
    let running = pi.sh("readlink -f /run/current-system")?;
    ensure!(running == full.toplevel.to_string_lossy(), "it runs {running}");
    let host = world.host()?;
    let out = world.expect(&["wait", &host, "--for", "installed", "--timeout", "60s", "--json"], 0, &[])?;
    ensure!(out.contains(&running), "cygnet wait does not name the system that runs: {out}");
    let pi = world.pi()?;
    for (what, check) in [
        ("the root is the pool's", "test \"$(findmnt -no SOURCE /)\" = rpool/local/root".to_owned()),
        ("the store is a dataset", "test \"$(findmnt -no SOURCE /nix)\" = rpool/local/nix".into()),
        ("a native mountpoint is mounted", "test \"$(zfs get -H -o value mounted rpool/safe/home)\" = yes".into()),
        ("the pool compresses", "test \"$(zfs get -H -o value compression rpool)\" = lz4".into()),
        ("the hook's snapshot is there", "zfs list -H -t snapshot rpool/local/root@blank".into()),
        ("the volume is swap", "swapon --show --noheadings | grep -q zd".into()),
        ("the pool is in order", "zpool status -x | grep -q healthy".into()),
        ("the pool was imported by its host id", "! dmesg | grep -i 'could not be imported'".into()),
        ("the disk is the one", format!("test -e /dev/disk/by-id/virtio-{SSD}-part2")),
        (
            "the profile is the first generation",
            "test \"$(readlink /nix/var/nix/profiles/system)\" = system-1-link".into(),
        ),
        ("it is NixOS by its marker", "test -e /etc/NIXOS".into()),
        (
            "nothing failed at boot",
            "test \"$(systemctl is-system-running --wait)\" = running || ! systemctl --failed --no-legend | grep ."
                .into(),
        ),
    ] {
        pi.sh(&check).with_context(|| what.to_owned())?;
    }
    Ok(())
}

fn store(world: &mut World) -> Result<()> {
    let pi = world.pi()?;
    let output = pi.sh("nix-store --verify --check-contents 2>&1")?;
    for bad in ["error", "modified", "missing", "disappeared"] {
        ensure!(!output.contains(bad), "nix-store --verify found something:\n{output}");
    }
    world.forget_pi();
    Ok(())
}
