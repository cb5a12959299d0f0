//! The emulated machine: QEMU with a card, SSDs and a network card.
//!
//! [`virt`] and [`raspi3b`] say what the two boards are made of. Either starts as its firmware does: U-Boot looks at the card first, and
//! goes on as what it finds there says. Nobody but a scenario takes a disk out or changes their order. [`Running`] is a machine
//! that is on.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};

use super::disk::Disk;
use super::net::{Lan, Port};
use super::qmp::Qmp;
use super::rig::Rig;
use super::serial::Serial;
use crate::host::run::trace;

mod arguments;
pub mod raspi3b;
pub mod virt;

/// The card's serial number: on the virtual board it is `/dev/disk/by-id/virtio-CYGCARD`.
pub const CARD_SERIAL: &str = "CYGCARD";

/// Which board is emulated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Board {
    /// QEMU's own board for arm64, with virtio disks: half as slow as the other.
    Virt {
        /// Its U-Boot.
        u_boot: PathBuf,
        /// The flash in which that U-Boot has its environment.
        environment: PathBuf,
    },
    /// A Raspberry Pi 3 Model B: the card in its SD slot, one SSD and the network at its USB.
    Raspi3b {
        /// Its U-Boot, which its firmware would start.
        u_boot: PathBuf,
        /// Its device tree, which its firmware would hand over.
        device_tree: PathBuf,
    },
}

/// The machine's parts.
#[derive(Debug, Clone)]
pub struct Machine {
    /// How QEMU is started: a program and its first arguments.
    pub emulator: Vec<String>,
    /// Which board it is.
    pub board: Board,
    /// Memory in MiB.
    pub memory: u32,
    /// Number of cores.
    pub cores: u32,
    /// The card, unless somebody has pulled it.
    pub card: Option<Disk>,
    /// The SSDs, in the order in which firmware sees them after the card.
    pub ssds: Vec<Disk>,
    /// Where the network card is plugged in.
    pub port: Port,
    /// QEMU's monitor.
    pub monitor: PathBuf,
    /// What only some machines have.
    pub extras: Extras,
}

/// What a machine has besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// The socket of the test rig's line into the guest.
    pub rig: Option<PathBuf>,
    /// A second network card, its cable out.
    pub second_cable: Option<Port>,
    /// A keyboard, for the LED that it has.
    pub led: bool,
}

/// How the machine comes to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start<'a> {
    /// Its power is switched on.
    Power,
    /// It goes on from a state that was saved with the same parts. It is halted until [`Running::go_on`].
    Saved(&'a Path),
}

/// QEMU's name of the second network card.
const SECOND_CABLE: &str = "net1";

/// A machine that is on.
#[derive(Debug)]
pub struct Running {
    qemu: Child,
    /// What it writes to its serial console.
    pub serial: Serial,
    /// The test rig's line, if this machine has one.
    pub rig: Option<Rig>,
    keyboard: Option<ChildStdin>,
    monitor: Arc<Mutex<Qmp>>,
}

impl Machine {
    /// Switches the machine on. `log` gets the serial console.
    ///
    /// # Errors
    /// If QEMU can't be started. A QEMU that ends at once is seen by the first wait.
    pub fn start(&self, lan: &Lan, how: Start<'_>, log: &Path) -> Result<Running> {
        let (program, first) = self.emulator.split_first().context("this machine has no emulator")?;
        let mut qemu = lan.command(program);
        qemu.args(first)
            .args(self.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for the harness; the network's guardian ends QEMU after it.
            .process_group(0);
        if let Start::Saved(state) = how {
            qemu.arg("-incoming").arg(format!("file:{}", state.display()));
        }
        trace(&qemu);
        let mut qemu = qemu.spawn().context("starting QEMU")?;
        let console = qemu.stdout.take().context("taking QEMU's serial console")?;
        let serial = Serial::follow(console, log)?;
        if let Some(complaints) = qemu.stderr.take() {
            // Nearly always empty; kept beside the console's log and never allowed to fill a pipe.
            Serial::follow(complaints, &log.with_extension("qemu.log"))?;
        }
        let keyboard = qemu.stdin.take();
        if let Some(keyboard) = &keyboard {
            // What the guest doesn't take is lost, as on a real line; nobody waits for a console that nothing reads.
            fcntl_setfl(keyboard, OFlags::NONBLOCK).context("making QEMU's input non-blocking")?;
        }
        let monitor = Arc::new(Mutex::new(Qmp::connect(&self.monitor, &serial)?));
        let mut running = Running { qemu, serial, rig: None, keyboard, monitor };
        if matches!(how, Start::Saved(_)) {
            running.monitor().wait_restored().context("restoring a saved state")?;
        }
        if self.extras.second_cable.is_some() {
            // Long before the guest's kernel looks at its cards.
            running.set_second_cable(false)?;
        }
        if let Some(socket) = &self.extras.rig {
            running.rig = Some(Rig::connect(socket, &running.serial)?);
        }
        match self.board {
            Board::Raspi3b { .. } => {
                raspi3b::replug_at_each_kernel(&running.serial, &running.monitor, self)?;
            }
            Board::Virt { .. } => {}
        }
        Ok(running)
    }

    fn arguments(&self) -> Vec<String> {
        match &self.board {
            Board::Virt { u_boot, environment } => virt::arguments(self, u_boot, environment),
            Board::Raspi3b { u_boot, device_tree } => raspi3b::arguments(self, u_boot, device_tree),
        }
    }

    /// Saves the state of this machine, which runs, but for its disks. It is halted then.
    ///
    /// # Errors
    /// If this board or a device can't be saved, or there is no room.
    pub fn save(&self, running: &Running, to: &Path) -> Result<()> {
        match self.board {
            Board::Raspi3b { .. } => bail!("QEMU does not save all of a Raspberry Pi 3"),
            Board::Virt { .. } => {}
        }
        let mut monitor = running.monitor();
        monitor.stop().context("halting the Pi")?;
        monitor.save(to).context("saving the Pi's state")
    }
}

impl Running {
    /// Takes the power away. What the guest had not handed to its disks is lost.
    pub fn power_cut(&mut self) {
        // An error means that it is off already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }

    /// Takes the power away later, from another thread.
    pub fn killer(&self) -> Option<Killer> {
        i32::try_from(self.qemu.id()).ok().and_then(Pid::from_raw).map(Killer)
    }

    /// A way to type on the serial console; every caller's bytes go to the same line.
    ///
    /// # Errors
    /// If the process has no more file descriptors.
    pub fn keyboard(&self) -> Result<File> {
        let keyboard = self.keyboard.as_ref().context("QEMU has no input")?;
        Ok(File::from(keyboard.as_fd().try_clone_to_owned().context("duplicating QEMU's input")?))
    }

    /// QEMU's monitor. Nobody keeps it.
    pub fn monitor(&self) -> MutexGuard<'_, Qmp> {
        self.monitor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plugs the second network card's cable in, or pulls it out, as the guest's driver sees it.
    ///
    /// # Errors
    /// If this machine has no such card, or QEMU refuses.
    pub fn set_second_cable(&self, plugged: bool) -> Result<()> {
        self.monitor().set_link(SECOND_CABLE, plugged)
    }

    /// Lets a machine run that was halted.
    ///
    /// # Errors
    /// If QEMU is gone.
    pub fn go_on(&self) -> Result<()> {
        self.monitor().cont()
    }

    /// Waits until the guest has switched itself off or rebooted; this machine stays off after either.
    ///
    /// # Errors
    /// If it is still on after `patience`.
    pub fn wait_off(&mut self, patience: Duration) -> Result<()> {
        self.serial.wait_end(patience)?;
        self.qemu.wait().context("waiting for QEMU")?;
        Ok(())
    }

    /// Whether QEMU still runs.
    pub fn is_on(&mut self) -> bool {
        matches!(self.qemu.try_wait(), Ok(None))
    }
}

/// Takes the power of a machine away, which must still be held: its process keeps its number until then.
#[derive(Debug, Clone, Copy)]
pub struct Killer(Pid);

impl Killer {
    /// Does it.
    pub fn kill(self) {
        // An error means that it is off already.
        let _ = kill_process(self.0, Signal::KILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.power_cut();
    }
}
