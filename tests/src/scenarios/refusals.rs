//! Bad input: each is refused with its own exit code, a cause and a remedy, and nothing is written.

use super::{SMALL, SSD, Scenario, State, World, retarget};
use crate::closure::{Variant, layout};
use anyhow::{Context, Result, ensure};
use std::fs;

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("refuse-architecture", "a closure for another architecture", State::Waiting, |w| {
        untouched(w, architecture)
    }),
    Scenario::new("refuse-missing-path", "a store path that the host's Nix does not know", State::Waiting, |w| {
        untouched(w, missing_path)
    }),
    Scenario::new("refuse-no-system", "a store path that is no NixOS system", State::Waiting, |w| {
        untouched(w, no_system)
    }),
    Scenario::new("refuse-garbled-layout", "a truncated or hand-edited devices.json", State::Waiting, |w| {
        untouched(w, garbled_layout)
    }),
    Scenario::new("refuse-small-disk", "a disk too small for the layout, and for the closure", State::Waiting, |w| {
        untouched(w, small_disk)
    }),
    Scenario::new("refuse-running-disk", "the disk that the Pi runs from", State::Waiting, |w| {
        untouched(w, running_disk)
    }),
    Scenario::new(
        "refuse-other-disk",
        "--disk: the card, a name that the layout does not have, a name twice",
        State::Waiting,
        |w| untouched(w, other_disk),
    ),
    Scenario::new(
        "refuse-mismatch",
        "a system whose fstab names what the layout does not make, or that has no host id",
        State::Waiting,
        |w| untouched(w, mismatch),
    ),
    Scenario::new("refuse-losses", "--keep-data on a disk that is not blank", State::Waiting, losses),
    Scenario::new("refuse-unknown-disk", "a by-id that no disk has", State::Waiting, |w| untouched(w, unknown_disk)),
    Scenario::new("refuse-busy-disk", "a disk that is in use", State::Waiting, busy_disk),
    Scenario::new("refuse-wrong-digest", "a digest that was never shown", State::Waiting, |w| {
        untouched(w, wrong_digest)
    }),
    Scenario::new("refuse-changed-disk", "a disk that changed after the plan was shown", State::Waiting, changed_disk),
    Scenario::new("refuse-unasked", "an installation that nobody confirmed", State::Waiting, |w| untouched(w, unasked)),
    Scenario::new("refuse-not-now", "requests that make no sense in the present state", State::Waiting, |w| {
        untouched(w, not_now)
    }),
    Scenario::new("refuse-no-ssh", "ssh refused, no such key, another host key", State::Waiting, |w| {
        untouched(w, no_ssh)
    }),
    Scenario::new("refuse-no-agent", "no agent behind ssh", State::Waiting, |w| untouched(w, no_agent)),
    Scenario::new("refuse-other-protocol", "an agent of a newer or older protocol", State::Waiting, |w| {
        untouched(w, other_protocol)
    }),
    Scenario::new("refuse-garbage", "garbage on the agent's socket and channels", State::Waiting, |w| {
        untouched(w, garbage)
    }),
    Scenario::new(
        "refused-nothing-written",
        "after refusals of each kind in a row the disks are as they were delivered",
        State::Waiting,
        nothing_written,
    ),
];

/// Nothing is written to a disk by what is refused, not even for a moment: QEMU has counted.
fn untouched(world: &mut World, check: fn(&mut World) -> Result<()>) -> Result<()> {
    check(world)?;
    world.expect_untouched(SSD)?;
    world.expect_untouched(SMALL)
}

/// `install HOST --yes DIGEST` with this closure and layout.
fn install(world: &mut World, closure: &str, disko: &str, digest: &str, code: i32, texts: &[&str]) -> Result<()> {
    let host = world.host()?;
    world.expect(&["install", &host, "--closure", closure, "--disko", disko, "--yes", digest], code, texts).map(drop)
}

const SOME_DIGEST: &str = "0123456789abcdef";

fn architecture(world: &mut World) -> Result<()> {
    let wrong = world.closure(Variant::TinyWrongArchitecture)?;
    let (toplevel, disko) = (wrong.toplevel.display().to_string(), wrong.disko.display().to_string());
    install(world, &toplevel, &disko, SOME_DIGEST, 10, &["x86_64-linux", "aarch64-linux", "hostPlatform"])
}

fn missing_path(world: &mut World) -> Result<()> {
    let disko = layout().display().to_string();
    let path = "/nix/store/00000000000000000000000000000000-nixos-system-nowhere";
    install(world, path, &disko, SOME_DIGEST, 11, &["00000000000000000000000000000000"])
}

fn no_system(world: &mut World) -> Result<()> {
    let tiny = world.closure(Variant::Tiny)?;
    let disko = tiny.disko.display().to_string();
    // Any other path of the closure will do.
    let references =
        std::process::Command::new("nix-store").args(["-q", "--references"]).arg(&tiny.toplevel).output()?;
    let references = String::from_utf8_lossy(&references.stdout).into_owned();
    let other = references.lines().find(|path| *path != tiny.toplevel.to_string_lossy()).unwrap_or_default();
    install(world, other, &disko, SOME_DIGEST, 12, &["activate"])?;
    install(world, "/etc/passwd", &disko, SOME_DIGEST, 12, &[])
}

fn garbled_layout(world: &mut World) -> Result<()> {
    let host = world.host()?;
    let whole = fs::read_to_string(layout())?;
    let truncated = world.file("truncated.json", &whole[..whole.len() / 2])?;
    world.expect(&["plan", &host, "--disko", &truncated], 13, &[])?;
    let edits: [(&str, &[&str], serde_json::Value, &str); 5] = [
        ("size", &["disk", "ssd", "content", "partitions", "boot", "size"], "10GiB".into(), "partitions.boot"),
        ("type", &["disk", "ssd", "content", "partitions", "zfs", "content", "type"], "zsf".into(), "partitions.zfs"),
        ("pool", &["disk", "ssd", "content", "partitions", "zfs", "content", "pool"], "tank".into(), "tank"),
        ("device", &["disk", "ssd", "device"], "sda".into(), "disk.ssd.device"),
        ("unknown field", &["zpool", "rpool", "moed"], "mirror".into(), "moed"),
    ];
    for (what, path, value, named) in edits {
        let edited = world.layout(|layout| {
            let mut at = layout;
            for key in path {
                at = &mut at[*key];
            }
            *at = value;
        })?;
        world.expect(&["plan", &host, "--disko", &edited], 13, &[named]).with_context(|| what.to_owned())?;
    }
    world.expect(&["plan", &host, "--disko", "/nowhere/devices.json"], 13, &["/nowhere/devices.json"])?;
    Ok(())
}

fn small_disk(world: &mut World) -> Result<()> {
    let device = format!("/dev/disk/by-id/virtio-{SMALL}");
    let large_boot = world.layout(|layout| {
        retarget(layout, &device);
        for (key, value) in [("size", "1G"), ("end", "+1G")] {
            layout["disk"]["ssd"]["content"]["partitions"]["boot"][key] = value.into();
        }
    })?;
    let host = world.host()?;
    world.expect(&["plan", &host, "--disko", &large_boot], 14, &["too small", "700 MiB"])?;
    let fits = world.layout(|layout| {
        retarget(layout, &device);
        for (key, value) in [("size", "64M"), ("end", "+64M")] {
            layout["disk"]["ssd"]["content"]["partitions"]["boot"][key] = value.into();
        }
    })?;
    let huge = world.closure(Variant::TinyHuge)?.toplevel.display().to_string();
    world.expect(&["plan", &host, "--disko", &fits], 0, &[])?;
    install(world, &huge, &fits, SOME_DIGEST, 14, &["MiB"])
}

fn running_disk(world: &mut World) -> Result<()> {
    let card = world.layout(|layout| retarget(layout, "/dev/disk/by-id/virtio-CYGCARD"))?;
    let tiny = world.closure(Variant::Tiny)?.toplevel.display().to_string();
    install(world, &tiny, &card, SOME_DIGEST, 15, &["/dev/vda"])?;
    // By any other name, too.
    let card = world.layout(|layout| retarget(layout, "/dev/vda"))?;
    install(world, &tiny, &card, SOME_DIGEST, 15, &["/dev/vda"])
}

fn other_disk(world: &mut World) -> Result<()> {
    let host = world.host()?;
    let disko = layout().display().to_string();
    let tiny = world.closure(Variant::Tiny)?.toplevel.display().to_string();
    let ssd = format!("/dev/disk/by-id/virtio-{SSD}");
    let card = "ssd=/dev/disk/by-id/virtio-CYGCARD";
    world.expect(&["plan", &host, "--disko", &disko, "--disk", card], 15, &["/dev/vda"])?;
    let request = ["install", &host, "--closure", &tiny, "--disko", &disko, "--yes", SOME_DIGEST];
    world.expect(&[&request[..], &["--disk", "ssd=/dev/vda"]].concat(), 15, &["/dev/vda"])?;
    world.expect(&["plan", &host, "--disko", &disko, "--disk", "main=/dev/sda"], 13, &["main", "ssd"])?;
    let twice = format!("ssd={ssd}");
    world.expect(&["plan", &host, "--disko", &disko, "--disk", card, "--disk", &twice], 3, &["twice"])?;
    // And the other way: a layout that was written for another disk.
    let elsewhere = world.layout(|layout| retarget(layout, "/dev/disk/by-id/usb-Nobody_Has_This-0:0"))?;
    let plan = world.expect(&["plan", &host, "--disko", &elsewhere, "--disk", &twice, "--json"], 0, &[])?;
    let (plan, usual): (serde_json::Value, _) = (serde_json::from_str(&plan)?, world.digest(&disko)?);
    ensure!(plan["digest"] == usual, "the layout on {ssd} is not the plan for {ssd}");
    Ok(())
}

fn mismatch(world: &mut World) -> Result<()> {
    let other = world.closure(Variant::TinyOtherDisks)?;
    let (toplevel, disko) = (other.toplevel.display().to_string(), other.disko.display().to_string());
    let said = ["disk-ssd-data", "/data", "nofail"];
    install(world, &toplevel, &disko, SOME_DIGEST, 47, &said)?;
    let host = world.host()?;
    let plan = ["plan", &host, "--closure", &toplevel, "--disko", &disko];
    world.expect(&plan, 47, &said)?;
    let shown = world.expect(&[&plan[..], &["--allow-mismatch"]].concat(), 0, &["warning:", "disk-ssd-data"])?;
    ensure!(shown.contains("free after it"), "the plan tells no free space:\n{shown}");
    let nobody = world.closure(Variant::TinyNoHostId)?.toplevel.display().to_string();
    install(world, &nobody, &disko, SOME_DIGEST, 47, &["host id", "networking.hostId = \""])
}

fn losses(world: &mut World) -> Result<()> {
    let tiny = world.closure(Variant::Tiny)?;
    let (toplevel, disko) = (tiny.toplevel.display().to_string(), tiny.disko.display().to_string());
    let host = world.host()?;
    let plan = ["plan", &host, "--disko", &disko, "--keep-data"];
    world.expect(&plan, 0, &[])?;
    let device = format!("/dev/disk/by-id/virtio-{SSD}");
    world.pi()?.sh(&format!("mkswap -q -L precious {device} && udevadm settle"))?;
    world.expect(&plan, 46, &["precious", "ssd", "--keep-data"])?;
    let digest = world.digest(&disko)?;
    let request = ["install", &host, "--closure", &toplevel, "--disko", &disko, "--yes", &digest, "--keep-data"];
    world.expect(&request, 46, &["precious"]).map(drop)
}

fn unknown_disk(world: &mut World) -> Result<()> {
    let nowhere = world.layout(|layout| retarget(layout, "/dev/disk/by-id/usb-Nobody_Has_This-0:0"))?;
    let tiny = world.closure(Variant::Tiny)?.toplevel.display().to_string();
    // What could have been meant is offered.
    install(world, &tiny, &nowhere, SOME_DIGEST, 16, &["usb-Nobody_Has_This", &format!("virtio-{SSD}")])
}

fn busy_disk(world: &mut World) -> Result<()> {
    let host = world.host()?;
    let device = format!("/dev/disk/by-id/virtio-{SMALL}");
    let there = world.layout(|layout| {
        retarget(layout, &device);
        for (key, value) in [("size", "64M"), ("end", "+64M")] {
            layout["disk"]["ssd"]["content"]["partitions"]["boot"][key] = value.into();
        }
    })?;
    world.pi()?.sh(&format!("mkfs.ext4 -q {device} && mkdir -p /media/used && mount {device} /media/used"))?;
    world.expect(&["plan", &host, "--disko", &there], 17, &["/media/used"]).map(drop)
}

fn wrong_digest(world: &mut World) -> Result<()> {
    let tiny = world.closure(Variant::Tiny)?;
    let (toplevel, disko) = (tiny.toplevel.display().to_string(), tiny.disko.display().to_string());
    install(world, &toplevel, &disko, SOME_DIGEST, 18, &[SOME_DIGEST])
}

fn changed_disk(world: &mut World) -> Result<()> {
    let tiny = world.closure(Variant::Tiny)?;
    let (toplevel, disko) = (tiny.toplevel.display().to_string(), tiny.disko.display().to_string());
    let digest = world.digest(&disko)?;
    let device = format!("/dev/disk/by-id/virtio-{SSD}");
    world.pi()?.sh(&format!("mkswap -q -L precious {device} && udevadm settle"))?;
    install(world, &toplevel, &disko, &digest, 19, &["precious"])
}

fn unasked(world: &mut World) -> Result<()> {
    let tiny = world.closure(Variant::Tiny)?;
    let (toplevel, disko) = (tiny.toplevel.display().to_string(), tiny.disko.display().to_string());
    let host = world.host()?;
    world.expect(&["install", &host, "--closure", &toplevel, "--disko", &disko], 29, &["--yes"])?;
    // Too short to be sure, no hex at all.
    for digest in ["0123", "yes"] {
        let output = world.cygnet(&["install", &host, "--closure", &toplevel, "--disko", &disko, "--yes", digest])?;
        ensure!(!output.status.success(), "--yes {digest} was accepted");
    }
    Ok(())
}

fn not_now(world: &mut World) -> Result<()> {
    let host = world.host()?;
    world.expect(&["abort", &host, "--yes"], 28, &[])?;
    let tiny = world.closure(Variant::Tiny)?.toplevel.display().to_string();
    world.expect(&["push", &host, "--closure", &tiny], 28, &[])?;
    world.expect_state("waiting").map(drop)
}

fn no_ssh(world: &mut World) -> Result<()> {
    let host = world.host()?;
    world.expect(&["status", &host, "-o", "Port=1"], 20, &[])?;
    world.expect(&["status", "root@10.77.0.250", "-o", "ConnectTimeout=3"], 20, &[])?;
    world.expect(&["status", "root@no-such-host.invalid"], 20, &[])?;
    // A key that nobody has heard of.
    let stranger = world.file("stranger", "")?;
    fs::remove_file(&stranger)?;
    let made =
        std::process::Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &stranger]).status()?;
    ensure!(made.success(), "ssh-keygen ended with {made}");
    let known = world.pi()?.keys().known_hosts().display().to_string();
    let denied = world.bare(&["status", &host, "-i", &stranger, "--known-hosts", &known])?;
    ensure!(denied.status.code() == Some(22), "a stranger's key: {denied:?}");
    // Somebody else at the same address.
    let other = fs::read_to_string(format!("{stranger}.pub"))?;
    let address = world.pi()?.address();
    let forged = world.file("known_hosts", &format!("{address} {other}"))?;
    let identity = world.pi()?.keys().identity().display().to_string();
    let changed = world.bare(&["status", &host, "-i", &identity, "--known-hosts", &forged])?;
    ensure!(changed.status.code() == Some(21), "another host key: {changed:?}");
    ensure!(String::from_utf8_lossy(&changed.stderr).contains("ssh-keygen -R"), "{changed:?}");
    Ok(())
}

fn no_agent(world: &mut World) -> Result<()> {
    let host = world.host()?;
    world.expect(&["status", &host, "--agent-command", "no-such-program"], 23, &[])?;
    world.expect(&["status", &host, "--agent-command", "echo Welcome to this machine,"], 23, &[])?;
    world.expect(&["status", &host, "--agent-command", "true"], 23, &[])?;
    world.pi()?.sh("systemctl stop cygnetd")?;
    let said = world.expect(&["status", &host], 23, &["systemctl status cygnetd"]);
    world.pi()?.sh("systemctl start cygnetd")?;
    said.map(drop)
}

fn other_protocol(world: &mut World) -> Result<()> {
    let host = world.host()?;
    for (name, oldest, protocol, code) in [("newer", 99, 99, 24), ("older", 0, 0, 25)] {
        let mock = format!("/run/mock-{name}-agent");
        let hello =
            format!(r#"{{"type":"hello","protocol":{protocol},"oldest":{oldest},"program":"mock-{name}-agent"}}"#);
        let script = format!("cat > {mock} <<'END'\n#!/bin/sh\necho '{hello}'\ncat > /dev/null\nEND\nchmod +x {mock}");
        world.pi()?.sh(&script)?;
        world.expect(&["status", &host, "--agent-command", &mock], code, &[&format!("mock-{name}-agent")])?;
    }
    Ok(())
}

fn garbage(world: &mut World) -> Result<()> {
    let pi = world.pi()?;
    // Into both channels and past them; the agent answers with an error, or hangs up, and lives.
    for line in [
        "head -c 100000 /dev/urandom | timeout 20 cygnetd bridge control",
        "head -c 100000 /dev/urandom | timeout 20 cygnetd bridge data",
        "yes x | tr -d '\\n' | head -c 9000000 | timeout 60 cygnetd bridge control",
        "echo '{\"type\":\"hello\",\"protocol\":1,\"oldest\":1,\"program\":\"x\"}{' | timeout 20 cygnetd bridge control",
        "(echo '{\"type\":\"hello\",\"protocol\":1,\"oldest\":1,\"program\":\"x\"}'; echo '{\"type\":\"levitate\"}') | timeout 20 cygnetd bridge control | grep levitate",
        "cygnetd bridge sideways; test $? = 2",
    ] {
        let output = pi.ssh(&["sh", "-c", line])?;
        ensure!(output.status.code() != Some(124), "the agent did not hang up after: {line}");
        if line.contains("levitate") || line.contains("sideways") {
            ensure!(output.status.success(), "unexpected answer to: {line}: {output:?}");
        }
    }
    pi.sh("systemctl is-active cygnetd && test \"$(systemctl show -p NRestarts --value cygnetd)\" = 0")?;
    world.expect_state("waiting").map(drop)
}

fn nothing_written(world: &mut World) -> Result<()> {
    for refused in [architecture, small_disk, running_disk, mismatch, unknown_disk, wrong_digest, unasked, garbage] {
        refused(world)?;
    }
    world.expect_state("waiting")?;
    world.expect_blank(SSD)?;
    world.expect_blank(SMALL)
}
