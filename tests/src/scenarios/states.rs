//! How the Pi is when a scenario begins: each state is made once, saved by its content, and restored for everyone.
//!
//! A state is made from the one before it ([`State::before`]) by [`State::make`], or by the scenario that says so
//! ([`super::Scenario::makes`]). What it is made of names it: programs, card, kernel, QEMU, the machine's parts, and the sources
//! that make it.

use super::trial;
use super::whole;
use super::wifi;
use super::world::World;
use super::{SMALL, SSD, failures, interruptions, layouts};
use crate::patience::BOOT;
use crate::pi::builder::Builder;
use crate::pi::state::Saved;
use crate::pi::{Parts, Pi, cache};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// How the Pi is when a scenario begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// There is none: the scenario makes its own.
    None,
    /// Booted from its card with a blank SSD and a small disk; the agent waits.
    Waiting,
    /// The same with the many disks of the layouts.
    ManyDisks,
    /// The same with a radio and no cable, online through its access point.
    InTheAir,
    /// A Raspberry Pi 3 Model B with a blank SSD at its USB, booted from its card. It is not saved.
    Pi3,
    /// In the middle of the push of a large closure, whose sender was killed.
    MiddleOfPush,
    /// The same after a power cut: booted again, and to be gone on with.
    AfterPowerCut,
    /// An installation whose activation has failed.
    FailedActivation,
    /// A tiny system was installed; nobody has rebooted.
    Installed,
    /// Booted from a card that was flashed and configured, online through the air, known by its host key alone.
    FirstBoot,
    /// The real system was installed, and runs.
    RunsInstalled,
    /// The real system was installed, and somebody has called the card back, whose agent waits.
    BackOnCard,
}

/// The sources in `tests/src/pi` that a saved Pi is made by.
const MAKERS: &[&str] = &[
    "air",
    "archive.rs",
    "builder.rs",
    "card.rs",
    "dhcp.rs",
    "disk.rs",
    "firmware.rs",
    "initrd.rs",
    "kernel.rs",
    "net.rs",
    "packages.rs",
    "rig.rs",
    "rootfs.rs",
    "users.rs",
    "vm/arguments.rs",
    "vm/virt.rs",
    "zfs.rs",
];

impl State {
    /// All that are saved.
    pub const ALL: [State; 10] = [
        State::Waiting,
        State::ManyDisks,
        State::InTheAir,
        State::MiddleOfPush,
        State::AfterPowerCut,
        State::FailedActivation,
        State::Installed,
        State::FirstBoot,
        State::RunsInstalled,
        State::BackOnCard,
    ];

    /// Its name in the cache and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            State::None => "none",
            State::Waiting => "waiting",
            State::ManyDisks => "many-disks",
            State::InTheAir => "air",
            State::Pi3 => "pi3",
            State::MiddleOfPush => "middle-of-push",
            State::AfterPowerCut => "after-power-cut",
            State::FailedActivation => "failed-activation",
            State::Installed => "installed",
            State::FirstBoot => "first-boot",
            State::RunsInstalled => "runs-installed",
            State::BackOnCard => "back-on-card",
        }
    }

    /// Whether it is saved, or booted each time. QEMU can't save a Raspberry Pi 3: it forgets the timer interrupts that wait
    /// (`hw/intc/bcm2836_control.c` has them in no vmstate), and cores that slept never wake up again.
    pub fn is_saved(self) -> bool {
        !matches!(self, State::None | State::Pi3)
    }

    /// The state that it is made from.
    pub fn before(self) -> State {
        match self {
            State::None | State::Waiting | State::ManyDisks | State::InTheAir | State::Pi3 | State::FirstBoot => {
                State::None
            }
            State::MiddleOfPush | State::FailedActivation | State::Installed => State::Waiting,
            State::AfterPowerCut => State::MiddleOfPush,
            State::RunsInstalled => State::FirstBoot,
            State::BackOnCard => State::RunsInstalled,
        }
    }

    /// The Pi that it is a state of.
    pub(super) fn pi<'a>(self, parts: &'a Parts, agent: &Path) -> Builder<'a> {
        let pi = parts.pi().agent(agent);
        match self {
            State::None
            | State::Waiting
            | State::MiddleOfPush
            | State::AfterPowerCut
            | State::FailedActivation
            | State::Installed => pi.ssd(SSD, 4 << 30).ssd(SMALL, 700 << 20),
            State::ManyDisks => layouts::pi(pi),
            State::InTheAir => wifi::pi(pi),
            State::Pi3 => pi.raspi3b().ssd(SSD, 4 << 30),
            State::FirstBoot | State::RunsInstalled | State::BackOnCard => whole::pi(pi),
        }
    }

    /// Brings the world into this state, from the one before.
    pub(super) fn make(self, world: &mut World) -> Result<()> {
        match self {
            State::None | State::Pi3 => bail!("the state {} is not saved", self.name()),
            State::Waiting | State::InTheAir => boot(self, world),
            State::ManyDisks => {
                boot(self, world)?;
                layouts::prepare(world)
            }
            State::MiddleOfPush => interruptions::middle_of_push(world),
            State::AfterPowerCut => interruptions::power_cut(world),
            State::FailedActivation => failures::activation(world),
            State::Installed => failures::install_tiny(world),
            State::FirstBoot => whole::first_boot(world),
            State::RunsInstalled => whole::install(world),
            State::BackOnCard => trial::back_on_card(world),
        }
    }

    /// What it is made of, besides what the Pi's parts are.
    fn sources(self) -> &'static [&'static str] {
        match self {
            State::None | State::Pi3 => &[],
            State::Waiting => &["states.rs"],
            State::ManyDisks => &["states.rs", "layouts/mod.rs"],
            State::InTheAir => &["states.rs", "wifi/mod.rs"],
            State::MiddleOfPush | State::AfterPowerCut => &["states.rs", "interruptions.rs"],
            State::FailedActivation | State::Installed => &["states.rs", "failures.rs"],
            State::FirstBoot | State::RunsInstalled => &["states.rs", "whole.rs"],
            State::BackOnCard => &["states.rs", "trial.rs"],
        }
    }

    /// Names it by its content.
    pub(super) fn key(self, world: &World) -> Result<String> {
        if let Some(known) = world.keys.lock().unwrap_or_else(PoisonError::into_inner).get(&self) {
            return Ok(known.clone());
        }
        let key = self.content(world)?;
        world.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(self, key.clone());
        Ok(key)
    }

    fn content(self, world: &World) -> Result<String> {
        let here = world.settings.repository.join("tests");
        let mut parts = vec![self.name().as_bytes().to_vec()];
        parts.push(read(&world.programs.agent)?);
        parts.push(format!("{:?}", [&world.parts.card, &world.parts.initrd, &world.parts.kernel.root]).into_bytes());
        parts.push(self.pi(&world.parts, &world.programs.agent).shape().into_bytes());
        for source in self.sources() {
            parts.push(read(&here.join("src/scenarios").join(source))?);
        }
        tree(&world.settings.repository.join("agent/systemd"), &mut parts)?;
        // What the Pi is made of; not how it is talked to.
        for source in MAKERS {
            let source = here.join("src/pi").join(source);
            if source.is_dir() { tree(&source, &mut parts)? } else { parts.push(read(&source)?) }
        }
        if self.before() != State::None || self == State::FirstBoot {
            // Programs of this machine have had a part in it, and the closure's expressions.
            parts.push(read(&world.programs.cygnet)?);
            tree(&here.join("nix"), &mut parts)?;
            parts.push(self.before().key(world).unwrap_or_default().into_bytes());
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        Ok(cache::key(&parts))
    }
}

/// Switches a Pi of this state on and waits until its agent does.
fn boot(state: State, world: &mut World) -> Result<()> {
    let pi = state.pi(&world.parts, &world.programs.agent).build()?;
    world.take(pi);
    let pi = world.present()?;
    pi.power_on()?;
    pi.wait_ssh(BOOT).context("waiting for the Pi to boot")?;
    world.wait_for_agent()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// The names and contents of all files below a directory, in order.
fn tree(directory: &Path, parts: &mut Vec<Vec<u8>>) -> Result<()> {
    let listing = || format!("listing {}", directory.display());
    let entries = fs::read_dir(directory).with_context(listing)?;
    let mut paths =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().with_context(listing)?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            tree(&path, parts)?;
        } else {
            parts.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned().into_bytes());
            parts.push(read(&path)?);
        }
    }
    Ok(())
}

/// Makes a state, unless it is made.
///
/// # Errors
/// If it can't be made; the error says how the Pi was then.
pub fn make(state: State, world: &World) -> Result<()> {
    made(state, world).map(drop)
}

/// A Pi of this state, restored, or booted if the state is not saved.
pub(super) fn restore(state: State, world: &World) -> Result<Pi> {
    if !state.is_saved() {
        let mut pi = state.pi(&world.parts, &world.programs.agent).build()?;
        pi.power_on()?;
        pi.wait_ssh(BOOT).context("waiting for the Pi to boot")?;
        return Ok(pi);
    }
    state.pi(&world.parts, &world.programs.agent).restore(&Saved::at(made(state, world)?))
}

fn made(state: State, world: &World) -> Result<PathBuf> {
    let key = state.key(world)?;
    let shelf = format!("{}/{}", cache::STATES, state.name());
    cache::entry(&world.parts.cache, &shelf, &key, "making this state of a Pi", |out| {
        let mut maker = world.another(state.before());
        match state.make(&mut maker) {
            Ok(()) => maker.give()?.save(out).map(drop),
            Err(error) => Err(maker.explain(error, state.name()).context(format!("making the state {}", state.name()))),
        }
    })
}

/// Keeps the state that a scenario has left its Pi in, unless it is kept already.
pub(super) fn keep(state: State, world: &mut World) -> Result<()> {
    let key = state.key(world)?;
    let shelf = format!("{}/{}", cache::STATES, state.name());
    let root = world.parts.cache.clone();
    cache::entry(&root, &shelf, &key, "keeping this state of a Pi", |out| world.give()?.save(out).map(drop)).map(drop)
}

/// Whether somebody has made this state.
pub fn is_made(state: State, world: &World) -> Result<bool> {
    if !state.is_saved() {
        return Ok(true);
    }
    let place = world.parts.cache.join(cache::STATES).join(state.name()).join(state.key(world)?);
    Ok(place.is_dir())
}
