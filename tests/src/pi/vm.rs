//! The emulated machine: QEMU with a card, SSDs and a network card, started from the card or through U-Boot.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{OFlags, fcntl_setfl};

use super::net::{Lan, Port};
use super::qmp::Qmp;
use super::rig::{self, Rig};
use super::serial::Serial;
use crate::host::run::trace;

/// The card's serial number: it is `/dev/disk/by-id/virtio-CYGCARD`.
pub const CARD_SERIAL: &str = "CYGCARD";

/// What the card's kernel is told. The root is found by the initial RAM disk.
///
/// Without page table isolation (which a kernel at a random address switches on) and address randomisation an emulator
/// translates and looks up much less: together they are worth a quarter of its time.
const CARD_COMMAND_LINE: &str = "console=ttyAMA0 rw panic=-1 systemd.log_color=0 systemd.show_status=1 \
     mitigations=off nokaslr kpti=off norandmaps init_on_alloc=0";

/// A block device of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its serial number, up to 20 characters: the guest has it as `/dev/disk/by-id/virtio-SERIAL`.
    pub serial: String,
    /// The raw image.
    pub image: PathBuf,
}

/// How the machine starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The card's kernel and initial RAM disk, handed over by QEMU, as the Pi's firmware does.
    Kernel {
        /// The kernel image.
        image: PathBuf,
        /// The initial RAM disk with the Pi's seed.
        initrd: PathBuf,
    },
    /// U-Boot, which looks for `extlinux/extlinux.conf` on the disks in their order.
    UBoot(PathBuf),
}

/// The machine's parts.
#[derive(Debug, Clone)]
pub struct Machine {
    /// How QEMU is started: a program and its first arguments.
    pub emulator: Vec<String>,
    /// Memory in MiB.
    pub memory: u32,
    /// Number of cores.
    pub cores: u32,
    /// Disks in the order in which firmware sees them.
    pub disks: Vec<Disk>,
    /// Where the network card is plugged in.
    pub port: Port,
    /// What only some machines have.
    pub extras: Extras,
}

/// What a machine has besides; but for the rig, only while it runs its card's system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// The socket of the test rig's line into the guest.
    pub rig: Option<PathBuf>,
    /// A second network card, its cable out, and the socket through which the cable is plugged in.
    pub second_cable: Option<(Port, PathBuf)>,
    /// A keyboard, for the LED that it has.
    pub led: bool,
}

/// QEMU's name of the second network card.
const SECOND_CABLE: &str = "net1";

/// A machine that is on.
#[derive(Debug)]
pub struct Running {
    qemu: Child,
    /// What it writes to its serial console.
    pub serial: Serial,
    /// The test rig's line, if this machine has one now.
    pub rig: Option<Rig>,
    keyboard: Option<ChildStdin>,
    monitor: Option<Qmp>,
}

impl Machine {
    /// Switches the machine on. `log` gets the serial console.
    ///
    /// # Errors
    /// If QEMU can't be started. A QEMU that ends at once is seen by the first wait.
    pub fn start(&self, lan: &Lan, how: &Start, log: &Path) -> Result<Running> {
        let (program, first) = self.emulator.split_first().context("this machine has no emulator")?;
        let mut qemu = lan.command(program);
        qemu.args(first)
            .args(self.arguments(how))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for the harness; the network's guardian ends QEMU after it.
            .process_group(0);
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
        let mut running = Running { qemu, serial, rig: None, keyboard, monitor: None };
        if let (Start::Kernel { .. }, Some((_, socket))) = (how, &self.extras.second_cable) {
            running.monitor = Some(Qmp::connect(socket, &running.serial)?);
            // Long before the guest's kernel looks at its cards.
            running.set_second_cable(false)?;
        }
        if let Some(socket) = &self.extras.rig {
            running.rig = Some(Rig::connect(socket, &running.serial)?);
        }
        Ok(running)
    }

    fn arguments(&self, how: &Start) -> Vec<String> {
        let mut arguments: Vec<String> = [
            "-M",
            "virt,gic-version=3",
            "-cpu",
            "cortex-a72",
            "-accel",
            "tcg,thread=multi,tb-size=512",
            "-nodefaults",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
            "-device",
            "virtio-rng-pci",
        ]
        .map(str::to_owned)
        .into();
        let mut add = |pair: [String; 2]| arguments.extend(pair);
        add(["-smp".into(), self.cores.to_string()]);
        add(["-m".into(), self.memory.to_string()]);
        for (number, disk) in self.disks.iter().enumerate() {
            add([
                "-drive".into(),
                format!(
                    "if=none,id=disk{number},format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap,file={}",
                    comma(&disk.image)
                ),
            ]);
            add(["-device".into(), format!("virtio-blk-pci,drive=disk{number},serial={}", disk.serial)]);
        }
        add(["-netdev".into(), format!("tap,id=net0,ifname={},script=no,downscript=no", self.port.tap)]);
        // Without a ROM file: network boot isn't installed with QEMU, and isn't wanted.
        add(["-device".into(), format!("virtio-net-pci,netdev=net0,romfile=,mac={}", self.port.mac)]);
        if let Some(socket) = &self.extras.rig {
            add(["-device".into(), "virtio-serial-pci".into()]);
            let socket = format!("socket,id=rig,path={},server=on,wait=off", comma(socket));
            add(["-chardev".into(), socket]);
            add(["-device".into(), format!("virtserialport,chardev=rig,name={}", rig::PORT)]);
        }
        match how {
            Start::Kernel { image, initrd } => {
                if let Some((port, monitor)) = &self.extras.second_cable {
                    let tap = &port.tap;
                    add(["-netdev".into(), format!("tap,id={SECOND_CABLE},ifname={tap},script=no,downscript=no")]);
                    let card = format!("virtio-net-pci,netdev={SECOND_CABLE},id=card1,romfile=,mac={}", port.mac);
                    add(["-device".into(), card]);
                    add(["-qmp".into(), format!("unix:{},server=on,wait=off", comma(monitor))]);
                }
                if self.extras.led {
                    add(["-device".into(), "virtio-keyboard-pci".into()]);
                }
                add(["-kernel".into(), image.display().to_string()]);
                add(["-initrd".into(), initrd.display().to_string()]);
                add(["-append".into(), CARD_COMMAND_LINE.into()]);
            }
            Start::UBoot(binary) => add(["-bios".into(), binary.display().to_string()]),
        }
        arguments
    }
}

impl Running {
    /// Takes the power away. What the guest had not handed to its disks is lost.
    pub fn power_cut(&mut self) {
        // An error means that it is off already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }

    /// A way to type on the serial console; every caller's bytes go to the same line.
    ///
    /// # Errors
    /// If the process has no more file descriptors.
    pub fn keyboard(&self) -> Result<File> {
        let keyboard = self.keyboard.as_ref().context("QEMU has no input")?;
        Ok(File::from(keyboard.as_fd().try_clone_to_owned().context("duplicating QEMU's input")?))
    }

    /// Plugs the second network card's cable in, or pulls it out, as the guest's driver sees it.
    ///
    /// # Errors
    /// If this machine has no such card now, or QEMU refuses.
    pub fn set_second_cable(&mut self, plugged: bool) -> Result<()> {
        let monitor = self.monitor.as_mut().context("this machine has no second network card now")?;
        monitor.set_link(SECOND_CABLE, plugged)
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

impl Drop for Running {
    fn drop(&mut self) {
        self.power_cut();
    }
}

/// QEMU separates options by commas, and a comma in a value is written twice.
fn comma(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_keep_their_order_and_serials() {
        let disk = |serial: &str| Disk { serial: serial.into(), image: format!("/x,y/{serial}").into() };
        let machine = Machine {
            emulator: Vec::new(),
            memory: 512,
            cores: 1,
            disks: vec![disk("SSD"), disk("CARD")],
            port: Port {
                tap: "tap0".into(),
                mac: "52:54:00:00:00:01".into(),
                station_mac: "02:63:79:00:00:01".into(),
                address: std::net::Ipv4Addr::LOCALHOST,
            },
            extras: Extras::default(),
        };
        let line = machine.arguments(&Start::UBoot("/u-boot.bin".into())).join(" ");
        let ssd = line.find("serial=SSD").unwrap();
        let card = line.find("serial=CARD").unwrap();
        assert!(ssd < card);
        assert!(line.contains("file=/x,,y/SSD"), "{line}");
        assert!(line.ends_with("-bios /u-boot.bin"), "{line}");
    }
}
