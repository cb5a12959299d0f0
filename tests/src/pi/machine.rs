//! One virtual Pi from its first boot to its last: the handle that scenarios hold.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Parts;
use super::air::Air;
use super::archive::{Archive, SEED};
use super::disk::Disk;
use super::login::{Connection, Keys, quoted};
use super::net::{Lan, Port};
use super::pty::Pty;
use super::rig::{self, Answer, Place, Rig};
use super::serial::Serial;
use super::vm::{Board, Killer, Machine, Running, Start, raspi3b, virt};
use super::{cache, card};
use crate::host::run::stdout_of;

/// The unit that is enabled; every other unit of the agent is started by it.
const AGENT_UNIT: &str = "cygnetd.service";

/// A virtual Pi. Dropping it takes its power and removes its disks; its consoles' logs stay.
#[derive(Debug)]
pub struct Pi {
    // Fields are dropped in this order: the connection before the machine, the network last.
    pub(super) connection: Option<Connection>,
    pub(super) running: Option<Running>,
    pub(super) parts: Parts,
    pub(super) machine: Machine,
    /// The card, while somebody has it in their hand.
    pub(super) pulled: Option<Disk>,
    pub(super) seed: BTreeMap<String, (u32, Vec<u8>)>,
    pub(super) links: BTreeMap<String, String>,
    /// What was last written onto the card's root for its boot.
    pub(super) on_card: Option<BootFiles>,
    pub(super) pty: Option<Pty>,
    pub(super) keys: Keys,
    pub(super) boots: u32,
    pub(super) logins: u32,
    pub(super) lan: Arc<Lan>,
    pub(super) sockets: PathBuf,
    pub(super) dir: PathBuf,
}

/// What a card's root has for its boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BootFiles {
    initrd: String,
    command_line: &'static str,
}

impl Pi {
    /// Puts a file into the card's system from the next boot from the card on.
    pub fn set_file(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) {
        self.seed.insert(path.to_owned(), (mode, bytes.into()));
    }

    /// Puts a symlink into the card's system from the next boot from the card on.
    pub fn set_link(&mut self, path: &str, target: &str) {
        self.links.insert(path.to_owned(), target.to_owned());
    }

    /// Replaces the agent from the next boot from the card on, with everything that the repository has for systemd beside
    /// it. Only the agent's own unit is enabled: a symlink in the target that wants it (systemctl(1), enable).
    ///
    /// # Errors
    /// If the binary or its units can't be read.
    pub fn set_agent(&mut self, binary: &Path) -> Result<()> {
        let bytes = fs::read(binary).with_context(|| format!("reading {}", binary.display()))?;
        self.set_file("usr/bin/cygnetd", 0o755, bytes);
        let units = self.parts.repository.join("agent/systemd");
        let listed = fs::read_dir(&units).with_context(|| format!("listing {}", units.display()))?;
        for entry in listed {
            let path = entry.with_context(|| format!("listing {}", units.display()))?.path();
            let (Some(name), Some(kind)) = (path.file_name(), path.extension()) else { continue };
            let place = match kind.to_str() {
                Some("service" | "socket" | "target" | "path" | "timer") => "etc/systemd/system",
                Some("network" | "link" | "netdev") => "etc/systemd/network",
                _ => continue,
            };
            let unit = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            self.set_file(&format!("{place}/{}", name.to_string_lossy()), 0o644, unit);
        }
        // As the images' module has it: keys that were given on the FAT partition count beside root's own.
        let keys = "AuthorizedKeysFile .ssh/authorized_keys /var/lib/cygnet/ssh/authorized_keys\n";
        self.set_file("etc/ssh/sshd_config.d/10-cygnet.conf", 0o644, keys);
        // The card's own would come before the agent's, which prefers the cable. Empty is masked (systemd.network(5)).
        self.set_file("etc/systemd/network/20-wired.network", 0o644, Vec::new());
        let enabled = format!("etc/systemd/system/multi-user.target.wants/{AGENT_UNIT}");
        self.set_link(&enabled, &format!("../{AGENT_UNIT}"));
        Ok(())
    }

    /// Switches the Pi on. Its firmware looks at the card first, as on a Pi. Returns at once; wait for what should appear.
    ///
    /// # Errors
    /// If it is on already or QEMU can't be started.
    pub fn power_on(&mut self) -> Result<()> {
        if self.is_on() {
            bail!("this Pi is on already; switch it off before it is started again");
        }
        let now = self.boot_files()?;
        if self.on_card.as_ref() != Some(&now)
            && let Some(disk) = &mut self.machine.card
        {
            disk.flatten()?;
            let mut initrd =
                fs::read(&self.parts.initrd).with_context(|| format!("reading {}", self.parts.initrd.display()))?;
            initrd.extend(self.seed_archive()?);
            let disk = self.machine.card.as_ref().context("there is no card")?;
            card::write_boot(&disk.image, &initrd, now.command_line).context("writing the card's own boot files")?;
            self.on_card = Some(now);
        }
        self.start(Start::Power)
    }

    pub(super) fn start(&mut self, how: Start<'_>) -> Result<()> {
        self.connection = None;
        self.boots += 1;
        let log = self.dir.join(format!("console-{}.log", self.boots));
        let running = self.machine.start(&self.lan, how, &log)?;
        if let Some(pty) = &self.pty {
            pty.attach(&running.serial, running.keyboard()?)?;
        }
        self.running = Some(running);
        Ok(())
    }

    /// What the card's root should have for its next boot.
    pub(super) fn boot_files(&self) -> Result<BootFiles> {
        let initrd = cache::key(&[self.parts.initrd.to_string_lossy().as_bytes(), &self.seed_archive()?]);
        let command_line = match self.machine.board {
            Board::Virt { .. } => virt::COMMAND_LINE,
            Board::Raspi3b { .. } => raspi3b::COMMAND_LINE,
        };
        Ok(BootFiles { initrd, command_line })
    }

    /// Somebody pulls the card out of the Pi, which is off.
    ///
    /// # Errors
    /// If it is on, or there is no card in it.
    pub fn pull_card(&mut self) -> Result<()> {
        if self.is_on() {
            bail!("this Pi is on; nobody pulls its card now");
        }
        self.pulled = Some(self.machine.card.take().context("there is no card in this Pi")?);
        Ok(())
    }

    /// Somebody puts the card back.
    ///
    /// # Errors
    /// If it is on, or the card is in it.
    pub fn put_card_back(&mut self) -> Result<()> {
        if self.is_on() {
            bail!("this Pi is on; nobody puts a card into it now");
        }
        self.machine.card = Some(self.pulled.take().context("nobody has pulled the card of this Pi")?);
        Ok(())
    }

    /// Somebody unplugs the SSD with this serial number from the Pi, which is off.
    ///
    /// # Errors
    /// If the Pi is on, or there is no such SSD.
    pub fn unplug_ssd(&mut self, serial: &str) -> Result<Disk> {
        if self.is_on() {
            bail!("this Pi is on; nobody unplugs {serial} now");
        }
        let ssds = &mut self.machine.ssds;
        let place = ssds.iter().position(|disk| disk.serial == serial);
        Ok(ssds.remove(place.with_context(|| format!("this Pi has no SSD with the serial number {serial}"))?))
    }

    /// Somebody plugs an SSD into the Pi, which is off.
    ///
    /// # Errors
    /// If the Pi is on.
    pub fn plug_ssd(&mut self, disk: Disk) -> Result<()> {
        if self.is_on() {
            bail!("this Pi is on; nobody plugs {} in now", disk.serial);
        }
        self.machine.ssds.push(disk);
        Ok(())
    }

    /// A reboot is the machine's own from now on: it starts again by itself. Until then it stays off, and the harness sees that it
    /// wanted to.
    ///
    /// # Errors
    /// If it is off.
    pub fn let_it_reboot(&self) -> Result<()> {
        self.running()?.monitor().set_reboots(true)
    }

    fn seed_archive(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        for (path, (mode, bytes)) in &self.seed {
            archive.file(&format!("{SEED}/{path}"), *mode, bytes)?;
        }
        for (path, target) in &self.links {
            archive.symlink(&format!("{SEED}/{path}"), target)?;
        }
        archive.finish()
    }

    /// Whether the Pi has power and hasn't switched itself off.
    pub fn is_on(&mut self) -> bool {
        self.running.as_mut().is_some_and(Running::is_on)
    }

    /// Takes the power away. What the Pi had not handed to its disks is lost.
    pub fn power_cut(&mut self) {
        self.connection = None;
        if let Some(running) = &mut self.running {
            running.power_cut();
        }
    }

    /// Takes the power away at a moment of its own, from another thread; [`Pi::power_cut`] must follow.
    ///
    /// # Errors
    /// If the Pi is off.
    pub fn killer(&self) -> Result<Killer> {
        self.running()?.killer().context("QEMU has no process number")
    }

    /// Waits until the Pi has switched itself off or wants to reboot: both leave it off.
    ///
    /// # Errors
    /// If it is still on after `patience` or was never on.
    pub fn wait_off(&mut self, patience: Duration) -> Result<()> {
        let running = self.running.as_mut().context("this Pi was never switched on")?;
        running.wait_off(patience)?;
        self.connection = None;
        Ok(())
    }

    /// Waits until `text` appears on the serial console, after what the last wait found; returns its line so far.
    ///
    /// # Errors
    /// If it doesn't appear in time or the Pi goes off; the error shows the console's end.
    pub fn wait_serial(&self, text: &str, patience: Duration) -> Result<String> {
        self.serial()?.wait(text, patience)
    }

    /// The serial console of the last boot.
    ///
    /// # Errors
    /// If the Pi was never on.
    pub fn serial(&self) -> Result<&Serial> {
        match &self.running {
            Some(running) => Ok(&running.serial),
            None => bail!("this Pi was never switched on, so it has no console"),
        }
    }

    /// Types on the serial console. A newline in `text` is the return key.
    ///
    /// # Errors
    /// If the Pi is off, or nothing in it has taken what was typed before.
    pub fn type_on_console(&self, text: &str) -> Result<()> {
        let running = self.running.as_ref().context("this Pi was never switched on, so it has no console")?;
        running.keyboard()?.write_all(text.as_bytes()).context("typing on the serial console")
    }

    /// A way to type on the serial console for somebody else.
    ///
    /// # Errors
    /// If the Pi was never on.
    pub fn keyboard(&self) -> Result<File> {
        self.running()?.keyboard()
    }

    /// A tty at the other end of the serial line, as a USB serial adapter is: raw, and there while the Pi is off and on
    /// again. What appears from now on appears on it too, and is lost if nobody reads.
    ///
    /// # Errors
    /// If the kernel gives no pty.
    pub fn console_pty(&mut self) -> Result<PathBuf> {
        if self.pty.is_none() {
            let pty = Pty::open()?;
            if let Some(running) = &self.running {
                pty.attach(&running.serial, running.keyboard()?)?;
            }
            self.pty = Some(pty);
        }
        self.pty.as_ref().map(|pty| pty.path().to_owned()).context("there is no pty")
    }

    /// Runs a line of shell in the Pi over the test rig's own line, which needs no network, and returns its stdout without
    /// the last newline. The first call waits for the Pi to boot as far as that.
    ///
    /// # Errors
    /// If this Pi has no rig ([`super::Builder::wifi`]), it goes off, the line exits with anything but 0 or takes over two
    /// minutes.
    pub fn rig(&self, line: &str) -> Result<String> {
        self.rig_line()?.sh(Place::Pi, line, b"", rig::COMMAND)
    }

    /// As [`Pi::rig`], but where the access points are.
    ///
    /// # Errors
    /// As [`Pi::rig`].
    pub fn rig_ap(&self, line: &str) -> Result<String> {
        self.rig_line()?.sh(Place::AccessPoints, line, b"", rig::COMMAND)
    }

    /// As [`Pi::rig`], with something to read on stdin, a time limit, and an answer whatever the exit code is.
    ///
    /// # Errors
    /// If there is no rig or the Pi doesn't answer.
    pub fn rig_answer(&self, place: Place, line: &str, input: &[u8], time: Duration) -> Result<Answer> {
        self.rig_line()?.run(place, line, input, time)
    }

    /// Writes a file in the Pi over the test rig's line; its content is in no process's arguments.
    ///
    /// # Errors
    /// As [`Pi::rig`], and if the directory isn't there.
    pub fn rig_write(&self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        let path = quoted(&[path]);
        let line = format!("umask 077; cat >{path} && chmod {mode:o} {path}");
        self.rig_line()?.sh(Place::Pi, &line, bytes, rig::COMMAND).map(drop)
    }

    fn rig_line(&self) -> Result<&Rig> {
        if self.machine.extras.rig.is_none() {
            bail!("this Pi has no test rig inside; build it with `.wifi()`");
        }
        let running = self.running.as_ref().context("this Pi was never switched on")?;
        running.rig.as_ref().context("this Pi's line to its test rig is not there")
    }

    /// The simulated air around this Pi.
    pub fn air(&self) -> Air<'_> {
        Air::new(self)
    }

    /// Plugs the second network card's cable in, or pulls it out.
    ///
    /// # Errors
    /// If there is no such card ([`super::Builder::second_cable`]) or the Pi is off.
    pub fn plug_second_cable(&self, plugged: bool) -> Result<()> {
        self.running()?.set_second_cable(plugged)
    }

    /// The address that the Pi gets on its second cable.
    ///
    /// # Errors
    /// If it has none.
    pub fn second_address(&self) -> Result<String> {
        let port = self.machine.extras.second_cable.as_ref().context("this Pi has no second network card")?;
        Ok(port.address.to_string())
    }

    /// Waits until root can log in, and keeps that connection for [`Pi::ssh`].
    ///
    /// # Errors
    /// If nobody can in time, the login is refused, or the Pi goes off; the error shows the console's end.
    pub fn wait_ssh(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        // The connection of before may be to a system that is gone, and nobody there has said so.
        self.connection = None;
        self.logins += 1;
        let socket = self.sockets.join(format!("ssh-{}", self.logins));
        let address = self.address();
        loop {
            if let Some(open) = Connection::open(&self.lan, &self.keys, &address, &socket)? {
                self.connection = Some(open);
                return Ok(());
            }
            if !self.is_on() || Instant::now() > deadline {
                bail!("nobody can log in on the Pi at {address}:\n{}", self.serial()?.last_lines());
            }
            // sshd's readiness can't be seen from outside but by trying.
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Runs a program on the Pi to its end and returns what it said, whatever it exited with.
    ///
    /// # Errors
    /// If nobody has logged in yet ([`Pi::wait_ssh`]) or ssh can't be started.
    pub fn ssh(&self, argv: &[&str]) -> Result<Output> {
        self.connection()?.run(&self.lan, &quoted(argv))
    }

    /// Runs a line of shell on the Pi and returns its stdout, without the last newline.
    ///
    /// # Errors
    /// If it exits with anything but 0; the error has its stderr.
    pub fn sh(&self, line: &str) -> Result<String> {
        let output = self.connection()?.run(&self.lan, line)?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("`{line}` failed on the Pi ({}):\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(said.trim_end().to_owned())
    }

    fn connection(&self) -> Result<&Connection> {
        self.connection.as_ref().context("nobody is logged in on the Pi; wait for ssh first")
    }

    /// A command that runs `program` of this host on the Pi's network.
    pub fn command(&self, program: &str) -> Command {
        self.lan.command(program)
    }

    /// The address the Pi gets, from its card and from its SSD.
    pub fn address(&self) -> String {
        self.machine.port.address.to_string()
    }

    /// The network the Pi is on.
    pub fn lan(&self) -> &Arc<Lan> {
        &self.lan
    }

    /// The Pi's place on its network.
    pub fn port(&self) -> &Port {
        &self.machine.port
    }

    /// The keys of the Pi and of its user.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The card's image, raw, as a laptop's reader sees it. The Pi must be off.
    ///
    /// # Errors
    /// If the Pi is on, or there is no room.
    pub fn card(&mut self) -> Result<PathBuf> {
        if self.is_on() {
            bail!("the card can't be in a reader while the Pi is on");
        }
        let disk = self.machine.card.as_mut().or(self.pulled.as_mut()).context("there is no card")?;
        disk.flatten()?;
        Ok(disk.image.clone())
    }

    /// The SSD with that serial number, to be replaced. The Pi must be off.
    ///
    /// # Errors
    /// If the Pi is on, or there is no such SSD.
    pub fn ssd(&mut self, serial: &str) -> Result<&mut Disk> {
        if self.is_on() {
            bail!("{serial} can't be taken out while the Pi is on");
        }
        let found = self.machine.ssds.iter_mut().find(|disk| disk.serial == serial);
        found.with_context(|| format!("this Pi has no SSD with the serial number {serial}"))
    }

    /// Writes what is on the card and on every SSD now to raw images in `to`, each called as its serial number, and halts the Pi
    /// meanwhile. What its kernel still holds is not there.
    ///
    /// # Errors
    /// If there is no room.
    pub fn copy_disks(&mut self, to: &Path) -> Result<()> {
        let is_on = self.is_on();
        if is_on {
            self.running()?.monitor().stop()?;
        }
        for disk in self.machine.card.iter().chain(&self.machine.ssds) {
            disk.copy_raw(&to.join(&disk.serial))?;
        }
        if is_on { self.running()?.go_on() } else { Ok(()) }
    }

    /// How many times the Pi has written to the disk with that serial number since it was switched on or restored.
    ///
    /// # Errors
    /// If there is no such disk, or the Pi is off.
    pub fn writes(&self, serial: &str) -> Result<u64> {
        self.running()?.monitor().writes(serial)
    }

    /// How the Pi is now, for whoever reads why something failed: its failed units, what its agent says last, and the last
    /// screen of its console. Takes a minute at most.
    pub fn condition(&mut self) -> String {
        const ASKED: &str = "echo \"system: $(systemctl is-system-running)\"; systemctl --failed --no-legend --plain | \
                             sed 's/^/failed unit: /'; journalctl -b -u cygnetd -n 6 --no-pager -o cat 2>/dev/null | \
                             sed 's/^/agent: /'; systemctl list-jobs --no-legend --plain | head -n 8 | sed 's/^/job: /'";
        let console = match self.serial() {
            Ok(serial) => serial.last_lines(),
            Err(why) => format!("{why:#}"),
        };
        let said = if !self.is_on() {
            "the Pi is off".to_owned()
        } else {
            // A login of its own: the one that is open may be what hangs.
            let by_ssh = || {
                let mut ssh = self.lan.command("timeout");
                ssh.args(["60", "ssh"]).args(self.keys.options()).args(["-o", "ServerAliveCountMax=2"]);
                stdout_of(ssh.arg(format!("root@{}", self.address())).arg(ASKED))
            };
            let by_rig = || self.rig_answer(Place::Pi, ASKED, b"", Duration::from_secs(30));
            match self.machine.extras.rig {
                Some(_) => by_rig().map(|answer| String::from_utf8_lossy(&answer.stdout).into_owned()),
                None => by_ssh(),
            }
            .unwrap_or_else(|why| format!("the Pi does not say how it is: {why:#}"))
        };
        format!("{}\nthe last of its console:\n{console}", said.trim_end())
    }

    /// Keeps the consoles' logs, and what the Pi's own journal has, in a directory.
    ///
    /// # Errors
    /// If they can't be copied.
    pub fn keep_logs(&mut self, to: &Path) -> Result<()> {
        let _ = fs::remove_dir_all(to);
        fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
        if self.is_on() && self.machine.extras.rig.is_some() {
            // The way to it is there even if the Pi is not online.
            let journal = "journalctl -b --no-pager -o short-monotonic -u cygnetd -u cygnet-supplicant -u systemd-networkd \
                           | tail -n 1500; ip address; iw dev wlan0 scan dump; cat /run/cygnet-rig/*.log; \
                           for task in /proc/$(pidof cygnetd)/task/*; do cat $task/comm $task/wchan $task/syscall; echo; done";
            if let Ok(answer) = self.rig_answer(Place::Pi, journal, b"", rig::COMMAND) {
                fs::write(to.join("journal.txt"), answer.stdout).context("writing the journal")?;
            }
        }
        for boot in 1..=self.boots {
            for end in ["log", "qemu.log"] {
                let name = format!("console-{boot}.{end}");
                if self.dir.join(&name).exists() {
                    fs::copy(self.dir.join(&name), to.join(&name)).with_context(|| format!("keeping {name}"))?;
                }
            }
        }
        super::give_to_user(to);
        Ok(())
    }

    pub(super) fn running(&self) -> Result<&Running> {
        self.running.as_ref().context("this Pi was never switched on")
    }

    /// The directory with the consoles' logs and the disks.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Pi {
    fn drop(&mut self) {
        self.power_cut();
        if std::env::var_os("CYGNET_TEST_KEEP").is_some() {
            return;
        }
        for disk in self.machine.ssds.iter().chain(&self.machine.card).chain(&self.pulled) {
            let _ = fs::remove_file(&disk.image);
        }
        super::give_to_user(&self.dir);
    }
}
