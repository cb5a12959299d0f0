//! What a virtual Pi will be, before it is made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use super::air::{self, AccessPoint};
use super::disk::{Disk, Format};
use super::login::Keys;
use super::machine::Pi;
use super::net::Lan;
use super::state::Saved;
use super::vm::{Board, CARD_SERIAL, Extras, Machine};
use super::{Parts, card};

/// Pis made by this process; each has a directory of its own.
static MADE: AtomicU32 = AtomicU32::new(0);

/// What a Pi will be.
#[derive(Debug, Clone)]
pub struct Builder<'a> {
    parts: &'a Parts,
    raspi3b: bool,
    memory: u32,
    cores: u32,
    ssds: Vec<(String, u64)>,
    seed: BTreeMap<String, (u32, Vec<u8>)>,
    fat: Vec<(String, Vec<u8>)>,
    agent: Option<PathBuf>,
    lan: Option<Arc<Lan>>,
    wifi: bool,
    second_cable: bool,
    act_led: bool,
    card: Option<PathBuf>,
    stranger: bool,
}

impl<'a> Builder<'a> {
    pub(super) fn new(parts: &'a Parts) -> Builder<'a> {
        Builder {
            parts,
            raspi3b: false,
            memory: 1024,
            cores: 1,
            ssds: Vec::new(),
            seed: BTreeMap::new(),
            fat: Vec::new(),
            agent: None,
            lan: None,
            wifi: false,
            second_cable: false,
            act_led: false,
            card: None,
            stranger: false,
        }
    }

    /// A Raspberry Pi 3 Model B instead of QEMU's own board. It has 4 cores, 1 GiB, and room for one SSD.
    #[must_use]
    pub fn raspi3b(mut self) -> Self {
        self.raspi3b = true;
        self
    }

    /// Memory in MiB; 1024 if not said.
    #[must_use]
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.memory = mebibytes;
        self
    }

    /// Cores; 1 if not said, so that two Pis at a time do not wait for each other.
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

    /// Gives the Pi a simulated radio instead of the cable: see [`air`]. So it is for the system that is installed on the SSD,
    /// if that has the rig, too; no access point is on there until one is set.
    #[must_use]
    pub fn wifi(mut self) -> Self {
        self.wifi = true;
        self
    }

    /// With a simulated radio, and an access point that is on before the Pi looks for one, as at home.
    #[must_use]
    pub fn access_point(mut self, access_point: &AccessPoint) -> Self {
        let radio = air::Radio::First;
        let path = format!("etc/cygnet-rig/{}.conf", radio.interface());
        self.seed.insert(path, (0o600, access_point.configuration(radio.interface()).into_bytes()));
        if !access_point.multicast {
            self.seed.insert(format!("etc/cygnet-rig/{}.filtered", radio.interface()), (0o644, Vec::new()));
        }
        self.wifi()
    }

    /// Adds an Ethernet card to the card's system whose cable is not plugged in: [`Pi::plug_second_cable`].
    #[must_use]
    pub fn second_cable(mut self) -> Self {
        self.second_cable = true;
        self
    }

    /// Gives the card's system `/sys/class/leds/ACT`, as a Pi has it. In truth it is a keyboard's LED, the only one that can
    /// be had without hardware: it has the kernel's triggers, and brightness 0 or 1.
    #[must_use]
    pub fn act_led(mut self) -> Self {
        self.act_led = true;
        self
    }

    /// A card that was written already, instead of the parts' own image.
    #[must_use]
    pub fn card(mut self, image: &Path) -> Self {
        self.card = Some(image.to_owned());
        self
    }

    /// The card's system has no host key and knows nobody's: what it shall have of those is written on the card.
    #[must_use]
    pub fn stranger(mut self) -> Self {
        self.stranger = true;
        self
    }

    /// What a saved state has to fit: all that is described here, but for where the agent's file is.
    #[must_use]
    pub fn shape(&self) -> String {
        let mut plain = self.clone();
        (plain.agent, plain.card, plain.lan) = (None, None, None);
        let Builder { parts, raspi3b, memory, cores, ssds, seed, fat, wifi, second_cable, act_led, stranger, .. } =
            plain;
        format!(
            "{:?} {:?}",
            (&parts.emulator, raspi3b, memory, cores, ssds, seed),
            (fat, wifi, second_cable, act_led, stranger)
        )
    }

    /// Makes the Pi, switched off: its card, its SSDs, its keys and its place on the network.
    ///
    /// # Errors
    /// If there is no room, no right to make network namespaces, or the agent's files are missing.
    pub fn build(self) -> Result<Pi> {
        self.make(None)
    }

    /// Makes the Pi as it was when its state was saved, halted, with disks that begin as they were.
    pub(super) fn build_as(self, saved: &Saved) -> Result<Pi> {
        self.make(Some(saved))
    }

    fn make(mut self, saved: Option<&Saved>) -> Result<Pi> {
        let dir = self.directory()?;
        let lan = match self.lan.take() {
            Some(lan) => lan,
            None => Arc::new(Lan::new()?),
        };
        let port = lan.port()?;
        let sockets = lan.dir().join(&port.tap);
        fs::create_dir(&sockets).with_context(|| format!("creating {}", sockets.display()))?;
        let mut extras = Extras::default();
        let mut addresses = port.address.to_string();
        if self.wifi {
            extras.rig = Some(sockets.join("rig"));
        }
        extras.led = self.act_led;
        if self.second_cable {
            let second = lan.port()?;
            addresses = format!("{addresses},{}", second.address);
            extras.second_cable = Some(second);
        }
        let keys = match saved {
            Some(saved) => Keys::kept(&saved.keys(), &dir)?,
            None => Keys::generate(&dir, &addresses, &self.parts.user_key)?,
        };
        let (card, ssds) = match saved {
            Some(saved) => self.disks_as(saved, &dir)?,
            None => self.new_disks(&dir)?,
        };
        let mut pi = Pi {
            parts: self.parts.clone(),
            machine: Machine {
                emulator: self.parts.emulator.clone(),
                board: self.board(),
                memory: self.memory,
                cores: self.cores,
                card,
                ssds,
                port,
                monitor: sockets.join("qmp"),
                extras,
            },
            pulled: None,
            seed: self.seed.clone(),
            links: BTreeMap::new(),
            on_card: None,
            pty: None,
            keys,
            boots: 0,
            logins: 0,
            connection: None,
            running: None,
            lan,
            sockets,
            dir,
        };
        self.finish(&mut pi)?;
        if saved.is_some() {
            // The card has it from the boot before.
            pi.on_card = Some(pi.boot_files()?);
        }
        Ok(pi)
    }

    /// Files that the card's system has because of what the Pi is.
    fn finish(&self, pi: &mut Pi) -> Result<()> {
        if self.wifi {
            air::install(pi);
        }
        if self.act_led {
            air::install_led(pi);
        }
        if !self.stranger {
            let authorized = pi.keys.user_public()?.into_bytes();
            pi.set_file("root/.ssh/authorized_keys", 0o600, authorized);
            let private = pi.keys.host_private()?.into_bytes();
            pi.set_file("etc/ssh/ssh_host_ed25519_key", 0o600, private);
            let public = pi.keys.host_public()?.into_bytes();
            pi.set_file("etc/ssh/ssh_host_ed25519_key.pub", 0o644, public);
        }
        self.agent.as_deref().map_or(Ok(()), |agent| pi.set_agent(agent))
    }

    fn directory(&self) -> Result<PathBuf> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let dir = self.parts.work.join(format!("{}-{number}", std::process::id()));
        if dir.exists() {
            // Left by a process that had our number before us.
            fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(dir)
    }

    fn board(&self) -> Board {
        let firmware = &self.parts.firmware;
        if self.raspi3b {
            Board::Raspi3b { u_boot: firmware.u_boot_pi3.clone(), device_tree: firmware.tree_pi3.clone() }
        } else {
            Board::Virt { u_boot: firmware.u_boot_virt.clone(), environment: firmware.environment_virt.clone() }
        }
    }

    fn new_disks(&self, dir: &Path) -> Result<(Option<Disk>, Vec<Disk>)> {
        let image = dir.join(format!("{CARD_SERIAL}.img"));
        card::copy(self.card.as_deref().unwrap_or(&self.parts.card), &image)?;
        for (name, bytes) in &self.fat {
            card::write_fat(&image, name, bytes)?;
        }
        if self.raspi3b {
            let environment = &self.parts.firmware.environment_pi3;
            let bytes = fs::read(environment).with_context(|| format!("reading {}", environment.display()))?;
            card::write_fat(&image, "uboot.env", &bytes)?;
        }
        let ssds = self.ssds.iter().map(|(serial, size)| Disk::blank(serial, dir.join(format!("{serial}.img")), *size));
        let ssds = ssds.collect::<Result<_>>()?;
        Ok((Some(Disk { serial: CARD_SERIAL.into(), image, format: Format::Raw }), ssds))
    }

    fn disks_as(&self, saved: &Saved, dir: &Path) -> Result<(Option<Disk>, Vec<Disk>)> {
        let over = |serial: &str| Disk::over(serial, &saved.image(serial), dir.join(format!("{serial}.qcow2")));
        let ssds = self.ssds.iter().map(|(serial, _)| over(serial)).collect::<Result<_>>()?;
        // Somebody may have pulled it.
        let card = saved.image(CARD_SERIAL).exists().then(|| over(CARD_SERIAL)).transpose()?;
        Ok((card, ssds))
    }
}
