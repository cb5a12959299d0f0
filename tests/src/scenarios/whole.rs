//! The whole main job: a card written and told what its Pi must know, its first boot through the air, the real system pushed,
//! installed, booted through U-Boot, and found to be what was sent.

use super::{BOOT, SSD, Scenario, State, World};
use crate::closure::Variant;
use crate::host::run::{run, tool};
use crate::patience;
use crate::pi::air::AccessPoint;
use crate::pi::builder::Builder;
use crate::pi::card;
use crate::pi::vm::CARD_SERIAL;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("whole-flash", "a packed image on a card, byte for byte", State::None, |w| flash(w).map(drop)),
    Scenario::new("whole-configure", "network, keys, host key and names are put on the card", State::None, |w| {
        configure(w)
    }),
    Scenario::new(
        "whole-first-boot",
        "online through the air with those, and the first connection verified; no secret stays behind",
        State::None,
        first_boot,
    )
    .makes(State::FirstBoot),
    Scenario::new(
        "whole-discover",
        "the Pi announces itself, with its state and its host key's fingerprint",
        State::FirstBoot,
        discover,
    ),
    Scenario::new(
        "whole-flake",
        "a flake gives the same plan as its layout, and its system is found",
        State::FirstBoot,
        flake,
    ),
    Scenario::new(
        "whole-install",
        "from the card to the installed system, by a trial that cygnet confirms; the card stays in",
        State::FirstBoot,
        install,
    )
    .makes(State::RunsInstalled),
    Scenario::new(
        "whole-installed",
        "what runs is what was sent, on the layout that was asked for",
        State::RunsInstalled,
        installed,
    ),
    Scenario::new(
        "whole-store",
        "the real Nix finds every byte of the installed store in order",
        State::RunsInstalled,
        store,
    ),
];

/// What the agent may use at most while it receives, bytes. It is under 24 MiB on a quiet Pi.
const PEAK: u64 = 48 << 20;

/// What is written on the card.
const HOST_NAME: &str = "pi-cupboard";
const NETWORK: &str = "Käfer \u{1f9a2}";
const PASSPHRASE: &str = "whole horse battery";

pub(super) fn home() -> AccessPoint {
    AccessPoint::wpa2(NETWORK, PASSPHRASE)
}

/// What is in the extra file.
const EXTRA: &str = "laid-over-an-ssd-1123";

/// A Pi with nothing but what its card tells it.
pub(super) fn pi(pi: Builder<'_>) -> Builder<'_> {
    pi.cores(2).ssd(SSD, 4 << 30).stranger().access_point(&home())
}

/// Flashes a card, and gives where its image is.
fn flash(world: &mut World) -> Result<PathBuf> {
    let image = world.parts.card.display().to_string();
    let packed = world.file("card.img.zst", "")?;
    run(tool("zstd").args(["-q", "-f", "-1", "-T0", &image, "-o", &packed])).context("packing the card's image")?;
    let card = world.file("flashed.img", "")?;
    std::fs::remove_file(&card).context("making room for the card")?;
    let mut command = world.laptop(&["card", "flash", &packed, &card, "--yes", &card, "--json"])?;
    succeed(&mut command)?;
    run(tool("cmp").args([&image, &card])).context("comparing the card with its image")?;
    Ok(PathBuf::from(card))
}

/// Flashes and configures a card, and puts it into a Pi.
fn configure(world: &mut World) -> Result<()> {
    let card = flash(world)?;
    let made = pi(world.parts.pi().agent(&world.programs.agent)).card(&card).build()?;
    fs::remove_file(&card).context("removing the card's copy")?;
    world.take(made);
    let pi = world.present()?;
    let (card, address) = (pi.card()?.display().to_string(), pi.address());
    let identity = pi.keys().identity().with_extension("pub").display().to_string();
    let passphrase = world.file("passphrase", &format!("{PASSPHRASE}\n"))?;
    let words = [
        "card",
        "configure",
        &card,
        "--hostname",
        HOST_NAME,
        "--country",
        "DE",
        "--network",
        NETWORK,
        "--passphrase-file",
        &passphrase,
        "--authorized-key",
        &identity,
        "--claim",
        "the tests",
        "--target",
        "pi-installed",
        "--address",
        &address,
        "--json",
    ];
    let said = succeed(&mut world.laptop(&words)?)?;
    ensure!(!said.contains(PASSPHRASE), "the passphrase is told: {said}");
    let shown = succeed(&mut world.laptop(&["card", "show", &card, "--json"])?)?;
    ensure!(shown.contains(HOST_NAME) && !shown.contains(PASSPHRASE), "another card is shown: {shown}");
    // Before the first boot: what secrets are encrypted to.
    let key = succeed(&mut world.laptop(&["key", "show", &format!("{HOST_NAME}.local"), "--json"])?)?;
    let key: Value = serde_json::from_str(&key).context("parsing the key")?;
    let age = key["age"].as_str().unwrap_or_default();
    ensure!(age.starts_with("age1") && age.len() == 62, "no age recipient: {key}");
    let public = key["public"].as_str().context("finding the public key")?;
    world.present()?.keys().know(&address, public)
}

pub(super) fn first_boot(world: &mut World) -> Result<()> {
    configure(world)?;
    let pi = world.present()?;
    pi.power_on()?;
    let (host, identity) = (format!("root@{}", pi.address()), pi.keys().identity().display().to_string());
    let patience = patience::option(BOOT);
    // With cygnet's own known hosts, and a refusal to trust any other key.
    let words =
        ["wait", &host, "--for", "online", "--timeout", &patience, "-i", &identity, "-o", "StrictHostKeyChecking=yes"];
    succeed(&mut world.laptop(&words)?)?;
    let pi = world.pi()?;
    pi.wait_ssh(BOOT)?;
    pi.wait_serial("cygnet.toml: taken: hostname", BOOT)?;
    // As a laptop sees it: what no file has any more is there, too.
    let copies = tempfile::tempdir().context("making a directory for what is on the disks")?;
    pi.copy_disks(copies.path())?;
    let image = copies.path().join(CARD_SERIAL);
    let (fat, stamp) = (card::fat(&image)?, card::read_fat(&image, "cygnet.txt")?);
    for secret in [PASSPHRASE, "OPENSSH PRIVATE KEY"] {
        let there = fat.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
        ensure!(!there, "{secret:?} is still on the FAT partition");
    }
    let stamp = String::from_utf8(stamp).context("reading cygnet.txt")?;
    ensure!(stamp.contains(NETWORK), "nobody says which network was taken:\n{stamp}");
    let name = pi.sh("hostname")?;
    ensure!(name == HOST_NAME, "it is called {name}");
    pi.sh("test -z \"$(find /var/lib/cygnet -type f -perm /077)\"").context("others may read the agent's state")?;
    let status = world.expect_state("waiting")?;
    ensure!(status["claim"] == "the tests" && status["target"] == "pi-installed", "other settings: {status}");
    Ok(())
}

/// Runs it to its end and returns what it printed.
fn succeed(command: &mut Command) -> Result<String> {
    let output = command.output().context("starting cygnet")?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "cygnet ended with {}:\n{out}{err}", output.status);
    Ok(out.into_owned())
}

impl World {
    /// `cygnet` with state of its own and nobody's keys. On the Pi's network, if there is one.
    fn laptop(&mut self, arguments: &[&str]) -> Result<Command> {
        let marker = self.file("laptop", "")?;
        let state = Path::new(&marker).with_file_name("state");
        let mut command = match self.present() {
            Ok(pi) => {
                let lan = pi.lan().clone();
                self.site.on(&lan, arguments)
            }
            Err(_) => {
                let mut command = tool(&self.programs.cygnet);
                command.args(arguments);
                command
            }
        };
        command.env("XDG_STATE_HOME", state).stdin(Stdio::null());
        Ok(command)
    }
}

/// What the Pi announces: its address and its host key's fingerprint at least. A radio that saves power, as the installed
/// system's does, misses questions; what it says without being asked comes each 50 s.
fn announced(world: &mut World) -> Result<Value> {
    let address = world.pi()?.address();
    let out =
        world.expect(&["discover", "--first", "--timeout", &patience::option(patience::NAMED), "--json"], 0, &[])?;
    let found: Value =
        serde_json::from_str(out.lines().next().unwrap_or_default()).context("parsing what was found")?;
    let text = found.to_string();
    ensure!(text.contains(&address), "the Pi's address {address} is not announced: {text}");
    let identity = world.pi()?.keys().identity();
    let key =
        std::process::Command::new("ssh-keygen").arg("-lf").arg(identity.with_file_name("host_key.pub")).output()?;
    let key = String::from_utf8_lossy(&key.stdout).split_whitespace().nth(1).unwrap_or("no fingerprint").to_owned();
    ensure!(text.contains(&key), "the host key's fingerprint {key} is not announced: {text}");
    Ok(found)
}

fn discover(world: &mut World) -> Result<()> {
    let found = announced(world)?;
    let state = world.status()?["state"]["state"].clone();
    ensure!(found["state"] == state, "its state {state} is not announced: {found}");
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

pub(super) fn install(world: &mut World) -> Result<()> {
    let full = world.closure(Variant::Full)?;
    ensure!(full.paths >= 150 && full.nar_size >= 300_000_000, "the closure is too small to prove anything: {full:?}");
    let (toplevel, disko) = (full.toplevel.display().to_string(), full.disko.display().to_string());
    let host = world.host()?;
    let digest = world.digest(&disko)?;
    let extra = extra_files(world)?;
    let words = ["install", &host, "--closure", &toplevel, "--disko", &disko, "--yes", &digest, "--fresh", "--json"];
    let arguments = [&words[..], &["--extra-files", &extra]].concat();
    let command = world.command(&arguments)?;
    let site = world.site.clone();
    // All that the installed system has is a radio, too; nothing but what was carried over tells it the network.
    let summary = site.install_through_reboot(command, world.pi()?, |pi| pi.air().set(&home()))?;
    ensure!(summary["verified"] == true, "cygnet did not see the new system: {summary}");
    let peak = summary["agent-peak-memory"].as_u64().unwrap_or(u64::MAX);
    ensure!(peak <= PEAK, "the agent used {peak} bytes of memory");
    ensure!(summary["sent"]["paths-sent"].as_u64() == Some(full.paths as u64), "not all paths were sent: {summary}");
    Ok(())
}

/// A directory with a secret of its own in a new directory, and a link to it.
fn extra_files(world: &mut World) -> Result<String> {
    let root = Path::new(&world.file("laptop", "")?).with_file_name("extra");
    let given = root.join("var/lib/given");
    fs::create_dir_all(&given).context("making a directory for extra files")?;
    let secret = given.join("secret");
    fs::write(&secret, EXTRA)?;
    for (path, mode) in [(&root.join("var"), 0o700), (&root.join("var/lib"), 0o755), (&given, 0o750), (&secret, 0o600)]
    {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    let link = given.join("link");
    let _ = fs::remove_file(&link);
    symlink("secret", &link).context("making a link among the extra files")?;
    Ok(root.display().to_string())
}

fn installed(world: &mut World) -> Result<()> {
    let full = world.closure(Variant::Full)?;
    let pi = world.pi()?;
    // With the card's host key pinned: another one would be refused here.
    pi.wait_ssh(BOOT).context("logging in on the installed system")?;
    let running = pi.sh("readlink -f /run/current-system")?;
    ensure!(running == full.toplevel.to_string_lossy(), "it runs {running}");
    let host = world.host()?;
    let out = world.expect(
        &["wait", &host, "--for", "installed", "--timeout", &patience::option(patience::NAMED), "--json"],
        0,
        &[],
    )?;
    ensure!(out.contains(&running), "cygnet wait does not name the system that runs: {out}");
    let found = announced(world)?;
    let hash = running.trim_start_matches("/nix/store/").split('-').next().unwrap_or_default();
    ensure!(found["state"] == "installed" && found["toplevel"] == hash, "something else is announced: {found}");
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
            "it has the networks that the card's system had",
            format!(
                "grep -qF '{PASSPHRASE}' /var/lib/cygnet/carried.json && ! find /var/lib/cygnet -perm /077 | grep ."
            ),
        ),
        ("it is online through the air", "ip -o route get 10.77.0.1 | grep -q wlan0".into()),
        (
            "only its reader may see the networks that were written down for it",
            "test \"$(stat -c '%U %a' /etc/wpa_supplicant/cygnet-carried.conf)\" = 'wpa_supplicant 600'".into(),
        ),
        ("it has the country", "grep -qx country=DE /etc/wpa_supplicant/cygnet-carried.conf".into()),
        (
            "the extra files are where they belong, root's, with their permissions",
            format!(
                "cd /var/lib/given && test \"$(stat -c %a:%u:%g . secret | xargs)\" = '750:0:0 600:0:0' && \
                 test \"$(readlink link)\" = secret && test \"$(cat link)\" = {EXTRA}"
            ),
        ),
        ("a directory that was there is as it was", "test \"$(stat -c %a /var)\" = 755".into()),
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
    Ok(())
}
