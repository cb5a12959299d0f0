//! One virtual Pi from its first boot to its last: the handle that scenarios hold.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Parts;
use super::archive::{Archive, SEED};
use super::card;
use super::login::{Connection, Keys, quoted};
use super::net::{Lan, Port};
use super::serial::Serial;
use super::vm::{CARD_SERIAL, Disk, Machine, Running, Start};

/// Where the agent's unit goes; enabling it is a symlink in the target that wants it (systemctl(1), enable).
const AGENT_UNIT: &str = "etc/systemd/system/cygnetd.service";

/// Pis made by this process; each has a directory of its own.
static MADE: AtomicU32 = AtomicU32::new(0);

/// What a Pi will be.
#[derive(Debug)]
pub struct Builder<'a> {
    parts: &'a Parts,
    memory: u32,
    cores: u32,
    ssds: Vec<(String, u64)>,
    seed: BTreeMap<String, (u32, Vec<u8>)>,
    fat: Vec<(String, Vec<u8>)>,
    agent: Option<PathBuf>,
    lan: Option<Arc<Lan>>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(parts: &'a Parts) -> Builder<'a> {
        Builder {
            parts,
            memory: 1024,
            cores: 2,
            ssds: Vec::new(),
            seed: BTreeMap::new(),
            fat: Vec::new(),
            agent: None,
            lan: None,
        }
    }

    /// Memory in MiB; 1024 if not said.
    #[must_use]
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.memory = mebibytes;
        self
    }

    /// Cores; 2 if not said.
    #[must_use]
    pub fn cores(mut self, cores: u32) -> Self {
        self.cores = cores;
        self
    }

    /// Adds an empty SSD of `size` bytes. It is `/dev/disk/by-id/virtio-SERIAL`.
    #[must_use]
    pub fn ssd(mut self, serial: &str, size: u64) -> Self {
        self.ssds.push((serial.to_owned(), size));
        self
    }

    /// Puts a file into the card's system at every boot from the card.
    #[must_use]
    pub fn file(mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        self.seed.insert(path.to_owned(), (mode, bytes.into()));
        self
    }

    /// Writes a file onto the card's FAT partition before the first boot, as a person does on a laptop.
    #[must_use]
    pub fn fat_file(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.fat.push((name.to_owned(), bytes.into()));
        self
    }

    /// The agent to test: a static aarch64 binary. It becomes `/usr/bin/cygnetd`, with its unit from the repository.
    #[must_use]
    pub fn agent(mut self, binary: &Path) -> Self {
        self.agent = Some(binary.to_owned());
        self
    }

    /// Joins a network that other Pis are on; without this the Pi has one of its own.
    #[must_use]
    pub fn lan(mut self, lan: &Arc<Lan>) -> Self {
        self.lan = Some(Arc::clone(lan));
        self
    }

    /// Makes the Pi, switched off: its card, its SSDs, its keys and its place on the network.
    ///
    /// # Errors
    /// If there is no room, no right to make network namespaces, or the agent's files are missing.
    pub fn build(mut self) -> Result<Pi> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let dir = self.parts.work.join(format!("{}-{number}", std::process::id()));
        if dir.exists() {
            // Left by a process that had our number before us.
            fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let lan = match self.lan.take() {
            Some(lan) => lan,
            None => Arc::new(Lan::new()?),
        };
        let port = lan.port()?;
        let sockets = lan.dir().join(&port.tap);
        fs::create_dir(&sockets).with_context(|| format!("creating {}", sockets.display()))?;
        let keys = Keys::generate(&dir, &port.address.to_string())?;

        let card_image = dir.join("card.img");
        card::copy(&self.parts.card, &card_image)?;
        for (name, bytes) in &self.fat {
            card::write_fat(&card_image, name, bytes)?;
        }
        let mut ssds = Vec::new();
        for (serial, size) in &self.ssds {
            let image = dir.join(format!("{serial}.img"));
            let file = File::create(&image).with_context(|| format!("creating {}", image.display()))?;
            file.set_len(*size).with_context(|| format!("sizing {}", image.display()))?;
            ssds.push(Disk { serial: serial.clone(), image });
        }

        let mut pi = Pi {
            parts: self.parts.clone(),
            machine: Machine { memory: self.memory, cores: self.cores, disks: Vec::new(), port },
            card: Disk { serial: CARD_SERIAL.into(), image: card_image },
            ssds,
            seed: self.seed,
            keys,
            boots: 0,
            connection: None,
            running: None,
            lan,
            sockets,
            dir,
        };
        let authorized = pi.keys.user_public()?.into_bytes();
        pi.set_file("root/.ssh/authorized_keys", 0o600, authorized);
        let private = pi.keys.host_private()?.into_bytes();
        pi.set_file("etc/ssh/ssh_host_ed25519_key", 0o600, private);
        let public = pi.keys.host_public()?.into_bytes();
        pi.set_file("etc/ssh/ssh_host_ed25519_key.pub", 0o644, public);
        if let Some(agent) = &self.agent {
            pi.set_agent(agent)?;
        }
        Ok(pi)
    }
}

/// A virtual Pi. Dropping it takes its power and removes its disks; its consoles' logs stay.
#[derive(Debug)]
pub struct Pi {
    // Fields are dropped in this order: the connection before the machine, the network last.
    connection: Option<Connection>,
    running: Option<Running>,
    parts: Parts,
    machine: Machine,
    card: Disk,
    ssds: Vec<Disk>,
    seed: BTreeMap<String, (u32, Vec<u8>)>,
    keys: Keys,
    boots: u32,
    lan: Arc<Lan>,
    sockets: PathBuf,
    dir: PathBuf,
}

impl Pi {
    /// Puts a file into the card's system from the next boot from the card on.
    pub fn set_file(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) {
        self.seed.insert(path.to_owned(), (mode, bytes.into()));
    }

    /// Replaces the agent from the next boot from the card on.
    ///
    /// # Errors
    /// If the binary or its unit can't be read.
    pub fn set_agent(&mut self, binary: &Path) -> Result<()> {
        let bytes = fs::read(binary).with_context(|| format!("reading {}", binary.display()))?;
        let unit = self.parts.repository.join("agent/systemd/cygnetd.service");
        let unit = fs::read(&unit).with_context(|| format!("reading {}", unit.display()))?;
        self.set_file("usr/bin/cygnetd", 0o755, bytes);
        self.set_file(AGENT_UNIT, 0o644, unit);
        Ok(())
    }

    /// Switches the Pi on with its card as the boot medium. Returns at once; wait for what should appear.
    ///
    /// # Errors
    /// If it is on already or QEMU can't be started.
    pub fn boot_from_card(&mut self) -> Result<()> {
        let initrd = self.dir.join("initrd.img");
        let mut bytes =
            fs::read(&self.parts.initrd).with_context(|| format!("reading {}", self.parts.initrd.display()))?;
        bytes.extend(self.seed_archive()?);
        fs::write(&initrd, bytes).with_context(|| format!("writing {}", initrd.display()))?;
        let disks = std::iter::once(&self.card).chain(&self.ssds).cloned().collect();
        let image = self.parts.kernel.image.clone();
        self.start(disks, &Start::Kernel { image, initrd })
    }

    /// Switches the Pi on with its firmware looking at the SSDs first. With `card_inserted` the card is there as the last
    /// disk.
    ///
    /// # Errors
    /// If it is on already or QEMU can't be started.
    pub fn boot_from_ssd(&mut self, card_inserted: bool) -> Result<()> {
        let mut disks = self.ssds.clone();
        if card_inserted {
            disks.push(self.card.clone());
        }
        self.start(disks, &Start::UBoot(self.parts.u_boot.clone()))
    }

    fn start(&mut self, disks: Vec<Disk>, how: &Start) -> Result<()> {
        if self.is_on() {
            bail!("this Pi is on already; switch it off before it is started again");
        }
        self.connection = None;
        self.boots += 1;
        self.machine.disks = disks;
        let log = self.dir.join(format!("console-{}.log", self.boots));
        self.running = Some(self.machine.start(&self.lan, how, &log)?);
        Ok(())
    }

    fn seed_archive(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        for (path, (mode, bytes)) in &self.seed {
            archive.file(&format!("{SEED}/{path}"), *mode, bytes)?;
        }
        if self.seed.contains_key(AGENT_UNIT) {
            let wanted = format!("{SEED}/etc/systemd/system/multi-user.target.wants/cygnetd.service");
            archive.symlink(&wanted, "../cygnetd.service")?;
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

    /// Waits until root can log in, and keeps that connection for [`Pi::ssh`].
    ///
    /// # Errors
    /// If nobody can in time, the login is refused, or the Pi goes off; the error shows the console's end.
    pub fn wait_ssh(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let socket = self.sockets.join(format!("ssh-{}", self.boots));
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

    /// The card's image; look at it only while the Pi is off.
    pub fn card(&self) -> &Path {
        &self.card.image
    }

    /// The image of the SSD with that serial number; look at it only while the Pi is off.
    ///
    /// # Errors
    /// If there is no such SSD.
    pub fn ssd(&self, serial: &str) -> Result<&Path> {
        match self.ssds.iter().find(|disk| disk.serial == serial) {
            Some(disk) => Ok(&disk.image),
            None => bail!("this Pi has no SSD with the serial number {serial}"),
        }
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
        for disk in self.ssds.iter().chain([&self.card]) {
            let _ = fs::remove_file(&disk.image);
        }
        let _ = fs::remove_file(self.dir.join("initrd.img"));
        super::give_to_user(&self.dir);
    }
}
