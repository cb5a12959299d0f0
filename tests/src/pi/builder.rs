//! What a virtual Pi will be, before it is made.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use super::air::{self, AccessPoint};
use super::login::Keys;
use super::machine::Pi;
use super::net::Lan;
use super::vm::{CARD_SERIAL, Disk, Extras, Machine};
use super::{Parts, card};

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
        let mut extras = Extras::default();
        let mut addresses = port.address.to_string();
        if self.wifi {
            extras.rig = Some(sockets.join("rig"));
        }
        extras.led = self.act_led;
        if self.second_cable {
            let second = lan.port()?;
            addresses = format!("{addresses},{}", second.address);
            extras.second_cable = Some((second, sockets.join("qmp")));
        }
        let keys = Keys::generate(&dir, &addresses)?;

        let card_image = dir.join("card.img");
        card::copy(self.card.as_deref().unwrap_or(&self.parts.card), &card_image)?;
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
            machine: Machine {
                emulator: self.parts.emulator.clone(),
                memory: self.memory,
                cores: self.cores,
                disks: Vec::new(),
                port,
                extras,
            },
            card: Disk { serial: CARD_SERIAL.into(), image: card_image },
            ssds,
            seed: self.seed,
            links: BTreeMap::new(),
            pty: None,
            keys,
            boots: 0,
            connection: None,
            running: None,
            lan,
            sockets,
            dir,
        };
        if self.wifi {
            air::install(&mut pi);
        }
        if self.act_led {
            air::install_led(&mut pi);
        }
        if !self.stranger {
            let authorized = pi.keys.user_public()?.into_bytes();
            pi.set_file("root/.ssh/authorized_keys", 0o600, authorized);
            let private = pi.keys.host_private()?.into_bytes();
            pi.set_file("etc/ssh/ssh_host_ed25519_key", 0o600, private);
            let public = pi.keys.host_public()?.into_bytes();
            pi.set_file("etc/ssh/ssh_host_ed25519_key.pub", 0o644, public);
        }
        if let Some(agent) = &self.agent {
            pi.set_agent(agent)?;
        }
        Ok(pi)
    }
}
