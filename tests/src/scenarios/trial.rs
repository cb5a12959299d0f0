//! What comes after the first trial: the card's switch over many starts, and trials that fail, each for another reason.
//!
//! All begin with the card's agent running although a confirmed system is on the SSD: somebody has called the card back. A fault
//! is made in the SSD's `/boot`, as it would be there after an update, and each must end on the card, with its cause told.

use super::whole::home;
use super::{BOOT, SSD, Scenario, State, World};
use crate::patience;
use crate::site::KICK;
use crate::storm;
use anyhow::{Context, Result, bail, ensure};
use cygnet_protocol::boot::environment::says;
use std::time::{Duration, Instant};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "trial-story",
        "trial, confirmed, three starts that are counted and cleared, back to the card, and to the SSD again",
        State::BackOnCard,
        story,
    ),
    Scenario::new(
        "trial-damaged-kernel",
        "a kernel whose beginning is gone: U-Boot goes on to the card in the same power-up",
        State::BackOnCard,
        damaged_kernel,
    )
    .thorough(),
    Scenario::new(
        "trial-no-ssd",
        "the SSD is unplugged before the trial, and before a later start",
        State::BackOnCard,
        no_ssd,
    ),
    Scenario::new("trial-panic", "the initial RAM disk gives up, and the kernel panics", State::BackOnCard, panic),
    Scenario::new("trial-emergency", "the system ends in emergency mode", State::BackOnCard, emergency),
    Scenario::new("trial-device", "the system waits for a disk that is not there", State::BackOnCard, device)
        .thorough(),
    Scenario::new(
        "trial-no-network",
        "the system has no network, and its deadline passes",
        State::BackOnCard,
        no_network,
    )
    .thorough(),
    Scenario::new("trial-reset", "somebody cuts the power in the middle of the trial", State::BackOnCard, reset)
        .thorough(),
    Scenario::new(
        "trial-rescue",
        "an older generation is chosen from the card, and from the SSD rescue leads back to the card",
        State::BackOnCard,
        rescue,
    ),
    Scenario::new(
        "trial-cuts",
        "twenty power cuts from the arming of a trial to the confirmed system, at random moments",
        State::BackOnCard,
        cuts,
    )
    .thorough(),
    Scenario::new(
        "trial-refused",
        "a card that is full or write-protected is not armed, and one whose switch is damaged starts itself",
        State::BackOnCard,
        refused,
    ),
];

/// Brings the card's agent back, with the system that was installed still on the SSD.
pub(super) fn back_on_card(world: &mut World) -> Result<()> {
    world.pi()?.wait_ssh(BOOT).context("logging in on the installed system")?;
    world.pi()?.let_it_reboot()?;
    world.switch("--card")?;
    world.on_card()?;
    let shown = world.shown()?;
    ensure!(shown.contains("card"), "the card does not say that it runs: {shown}");
    world.wait_for_agent()?;
    world.expect_state("waiting").map(drop)
}

impl World {
    /// Sets the switch, and has the Pi reboot.
    fn switch(&mut self, to: &str) -> Result<()> {
        let host = self.host()?;
        self.expect(&["boot", &host, to, "--yes"], 0, &[]).map(drop)
    }

    /// What `cygnet boot` shows.
    fn shown(&mut self) -> Result<String> {
        let host = self.host()?;
        self.expect(&["boot", &host, "--json"], 0, &[])
    }

    /// U-Boot says this, and what it starts comes online.
    fn comes_up(&mut self, said: &str) -> Result<()> {
        let pi = self.pi()?;
        pi.wait_serial(said, BOOT).with_context(|| format!("waiting for U-Boot to say {said:?}"))?;
        self.log_in()
    }

    /// Logs in through the air. The access point is part of the Pi, and starts with it.
    fn log_in(&mut self) -> Result<()> {
        let pi = self.pi()?;
        for _ in 0..3 {
            pi.air().set(&home())?;
            if pi.wait_ssh(KICK).is_ok() {
                return Ok(());
            }
        }
        pi.wait_ssh(KICK).context("logging in")
    }

    fn on_card(&mut self) -> Result<()> {
        self.comes_up(says::CARD)
    }

    /// The trial ends on the card, whose agent names this cause.
    fn fails_with(&mut self, cause: &str) -> Result<()> {
        self.on_card()?;
        self.wait_for_agent()?;
        let deadline = Instant::now() + patience::SOON;
        loop {
            let status = self.status()?.to_string();
            if status.contains(cause) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the agent does not name {cause}: {status}");
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Changes the SSD's `/boot` by a line of shell that runs there.
    fn in_boot(&mut self, line: &str) -> Result<()> {
        let line = format!(
            "set -e; d=$(mktemp -d); mount /dev/disk/by-id/virtio-{SSD}-part1 $d; (cd $d; {line}); umount $d; rmdir $d"
        );
        self.pi()?.sh(&line).context("changing the SSD's /boot").map(drop)
    }

    /// Has the SSD's kernel started with these words, too.
    fn append(&mut self, words: &str) -> Result<()> {
        let file = "extlinux/extlinux.conf";
        self.in_boot(&format!("grep -qi '^ *append ' {file}; sed -i 's|^\\( *append .*\\)$|\\1 {words}|I' {file}"))
    }

    /// Has the Pi reboot into a trial.
    fn try_ssd(&mut self) -> Result<()> {
        self.pi()?.let_it_reboot()?;
        self.switch("--trial")?;
        self.pi()?.wait_serial(says::TRIAL, BOOT).context("waiting for the trial to begin").map(drop)
    }
}

fn story(world: &mut World) -> Result<()> {
    world.try_ssd()?;
    world.log_in().context("logging in on the system on trial")?;
    let shown = world.shown()?;
    ensure!(shown.contains("ssd") && shown.contains("trial"), "it does not say that it is on trial: {shown}");
    world.pi()?.sh("cygnetd confirm").context("confirming the trial")?;
    for start in 1..=3 {
        world.pi()?.sh("systemctl reboot").with_context(|| format!("rebooting for the start {start}"))?;
        world.comes_up(says::SSD)?;
        // What U-Boot has counted is cleared once the system is up.
        let deadline = Instant::now() + patience::NAMED;
        while !world.pi()?.sh("cygnetd switch")?.contains("is confirmed and starts") {
            let shown = world.shown()?;
            ensure!(Instant::now() < deadline, "the start {start} is not counted as a good one: {shown}");
            std::thread::sleep(Duration::from_secs(2));
        }
    }
    world.switch("--card")?;
    world.on_card()?;
    world.wait_for_agent()?;
    world.expect_state("waiting")?;
    world.switch("--ssd")?;
    world.comes_up(says::SSD)?;
    let shown = world.shown()?;
    ensure!(shown.contains("ssd"), "it does not say that the SSD runs: {shown}");
    Ok(())
}

fn damaged_kernel(world: &mut World) -> Result<()> {
    // Its first bytes, by which U-Boot knows a kernel.
    world.in_boot(
        "for f in $(find . -iname '*image*' -type f); do dd if=/dev/zero of=$f bs=64 count=1 conv=notrunc; done 2>/dev/null; \
         find . -iname '*image*' -type f | grep -q .",
    )?;
    world.try_ssd()?;
    world.pi()?.wait_serial(says::NOTHING, BOOT)?;
    world.fails_with("B01-NOTHING-TO-START")
}

fn no_ssd(world: &mut World) -> Result<()> {
    let host = world.host()?;
    world.expect(&["boot", &host, "--trial", "--no-reboot"], 0, &[])?;
    let pi = world.pi()?;
    pi.sh("sync")?;
    pi.power_cut();
    let kept = pi.unplug_ssd(SSD)?;
    pi.power_on()?;
    pi.let_it_reboot()?;
    world.fails_with("B01-NOTHING-TO-START")?;
    // A confirmed system that is gone: the card, in the same power-up, and nothing is counted.
    world.expect(&["boot", &host, "--ssd", "--no-reboot"], 0, &[])?;
    world.pi()?.sh("systemctl reboot")?;
    world.fails_with("B13-SSD-NOT-FOUND")?;
    world.pi()?.power_cut();
    world.pi()?.plug_ssd(kept)
}

fn panic(world: &mut World) -> Result<()> {
    world.append("init=/nix/store/nothing")?;
    world.try_ssd()?;
    world.pi()?.wait_serial("Kernel panic - not syncing", BOOT)?;
    world.fails_with("B03-NO-SIGN")
}

fn emergency(world: &mut World) -> Result<()> {
    world.append("systemd.unit=emergency.target")?;
    world.try_ssd()?;
    world.fails_with("B07-EMERGENCY")?;
    // The log of the trial was kept, and its end is told.
    let host = world.host()?;
    let logs = world.expect(&["logs", &host], 0, &[])?;
    ensure!(logs.contains("trial: "), "nobody tells what the failed trial said:\n{logs}");
    Ok(())
}

fn device(world: &mut World) -> Result<()> {
    world.append("systemd.mount-extra=/dev/nowhere:/srv:ext4:x-systemd.device-timeout=5s")?;
    world.try_ssd()?;
    world.fails_with("B06-DEVICE-TIMEOUT")
}

fn no_network(world: &mut World) -> Result<()> {
    world.append("systemd.mask=wpa_supplicant-wlan0.service systemd.setenv=CYGNET_TRIAL=90s")?;
    world.try_ssd()?;
    world.fails_with("B08-NO-NETWORK")
}

fn reset(world: &mut World) -> Result<()> {
    world.try_ssd()?;
    world.log_in().context("logging in on the system on trial")?;
    // Its log is written down each 15 s.
    let deadline = Instant::now() + patience::SOON;
    let log = "ls /boot/cygnet/trial.log /boot/firmware/cygnet/trial.log 2>/dev/null | grep .";
    while world.pi()?.sh(log).is_err() {
        if Instant::now() > deadline {
            bail!("no log of the trial is kept");
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let pi = world.pi()?;
    pi.power_cut();
    pi.power_on()?;
    world.fails_with("B11-RESET")
}

fn rescue(world: &mut World) -> Result<()> {
    let host = world.host()?;
    let shown = world.expect(&["rescue", &host, "--json"], 0, &[])?;
    ensure!(shown.contains("nixos-default") && shown.contains("nixos-1"), "not all systems are shown: {shown}");
    world.expect(&["rescue", &host, "--generation", "77", "--yes"], 3, &["no such system"])?;
    world.pi()?.let_it_reboot()?;
    world.expect(&["rescue", &host, "--generation", "1", "--yes"], 0, &[])?;
    world.comes_up(says::TRIAL)?;
    world.pi()?.sh("grep -x 'DEFAULT nixos-1' /boot/extlinux/extlinux.conf").context("looking at the menu")?;
    world.pi()?.sh("cygnetd confirm").context("confirming the trial")?;
    let mut rescue = world.command(&["rescue", &host, "--yes", "--json"])?;
    let child = rescue.stdout(std::process::Stdio::piped()).spawn().context("starting cygnet")?;
    world.on_card()?;
    let output = child.wait_with_output().context("waiting for cygnet")?;
    let shown = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && shown.contains("nixos-1"), "rescue ended with {}: {shown}", output.status);
    Ok(())
}

fn cuts(world: &mut World) -> Result<()> {
    let report = storm::cuts(world, storm::Request { cuts: 20, seed: 1 })?;
    ensure!(report.faults() == 0, "{report}");
    Ok(())
}

fn refused(world: &mut World) -> Result<()> {
    let host = world.host()?;
    let on_fat = |line: &str| format!("set -e; mount -o remount,rw /boot/firmware; cd /boot/firmware; {line}; sync");
    // No room for a new environment.
    let fill =
        "rm uboot.env; dd if=/dev/zero of=full bs=64k 2>/dev/null || dd if=/dev/zero bs=512 2>/dev/null >> full || :";
    world.pi()?.sh(&on_fat(fill))?;
    world.expect(&["boot", &host, "--trial", "--yes"], 50, &["uboot.env"])?;
    let shown = world.shown()?;
    ensure!(!shown.contains("trial"), "it was armed all the same: {shown}");
    world.pi()?.sh(&on_fat("rm full"))?;
    let protect = |how: &str| {
        format!("mount -o remount,{how} /boot/firmware; blockdev --set{how} /dev/disk/by-id/virtio-CYGCARD-part1")
    };
    world.pi()?.sh(&protect("ro"))?;
    world.expect(&["boot", &host, "--trial", "--yes"], 50, &["write-protected"])?;
    world.pi()?.sh("blockdev --setrw /dev/disk/by-id/virtio-CYGCARD-part1 && mount -o remount,rw /boot/firmware")?;
    world.expect(&["boot", &host, "--trial", "--no-reboot"], 0, &[])?;
    // A sector that says nothing is the card.
    world.pi()?.sh(&on_fat("printf torn > cygnet/boot"))?;
    world.pi()?.let_it_reboot()?;
    world.pi()?.sh("systemctl reboot")?;
    world.fails_with("B14-")
}
