//! Puts together what is seen, from the kernel and from the services, as one `Observations`.

use super::attempt;
use super::hardware::{self, Sys};
use super::links::{Links, Snapshot};
use super::radio::{Abilities, Radio80211};
use super::services;
use super::supplicant::{Signal, Supplicant};
use crate::agent::Agent;
use crate::events::lock;
use cygnet_protocol::online::kernel::{self, KernelSign};
use cygnet_protocol::online::observation::{self as seen, Attempt, KnownNetwork, Observations, Scan, Wired};

/// The most signs kept of the kernel's log: a chip that floods it says the same thing over and over.
const MAX_SIGNS: usize = 64;

/// What is remembered between two looks.
pub struct Eyes {
    /// Where sysfs is.
    pub sys: Sys,
    /// rtnetlink.
    pub links: Links,
    /// nl80211, if the kernel has it by now.
    pub radio: Option<Radio80211>,
    /// The attempt to join, from signals.
    pub attempt: Attempt,
    /// How wpa_supplicant was found; `Ready` is filled in at each look.
    pub supplicant: seen::Supplicant,
    /// Which way of SAE is offered.
    pub sae_pwe: u8,
    /// From the settings.
    pub country: Option<String>,
    /// From the settings, without their keys.
    pub networks: Vec<KnownNetwork>,
    scans: (u32, u32),
    kernel: Vec<KernelSign>,
    dhcp: seen::Dhcp,
    /// Of this phy; they do not change.
    abilities: (String, Abilities),
}

impl Eyes {
    /// Eyes that have seen nothing yet.
    pub fn new(sys: Sys, links: Links) -> Self {
        Self {
            sys,
            links,
            radio: None,
            attempt: Attempt::default(),
            supplicant: seen::Supplicant::Unasked,
            sae_pwe: 0,
            country: None,
            networks: Vec::new(),
            scans: (0, 0),
            kernel: Vec::new(),
            dhcp: seen::Dhcp::Idle,
            abilities: Default::default(),
        }
    }

    /// Takes in a line of the kernel's log.
    pub fn kernel_line(&mut self, line: &str) {
        let Some(sign) = kernel::read(line) else { return };
        // Said again, it is news again: firmware that runs after it was dead.
        self.kernel.retain(|known| *known != sign);
        if self.kernel.len() == MAX_SIGNS {
            self.kernel.remove(0);
        }
        self.kernel.push(sign);
    }

    /// What the kernel said of a driver that is gone says nothing of the next one.
    pub fn forget_kernel(&mut self) {
        self.kernel.clear();
    }

    /// Takes in what wpa_supplicant signalled.
    pub fn signal(&mut self, signal: &Signal, now: u64) {
        attempt::apply(&mut self.attempt, signal, now, &mut self.scans);
    }

    /// A new attempt begins, as after an outage or at a person's wish.
    pub fn begin_attempt(&mut self, now: u64) {
        self.attempt = attempt::begin(now, false);
        self.scans = (0, 0);
    }

    /// Looks at everything. `supplicant` is the one that has the interface, `bus` the system bus, where there is one.
    pub async fn look(
        &mut self,
        agent: &Agent,
        supplicant: Option<&Supplicant>,
        bus: Option<&zbus::Connection>,
    ) -> (Observations, Snapshot) {
        let now = agent.log.now();
        let look = hardware::look(&self.sys);
        let net = self.links.snapshot().await;
        let mut radio = look.radio;
        if self.radio.is_none() && radio.is_some() {
            self.radio = Radio80211::open().await.ok();
        }
        let mut regdomain = None;
        if let Some(netlink) = &self.radio {
            regdomain = netlink.regdomain().await;
            if let Some(radio) = &mut radio {
                if self.abilities.0 != radio.phy || self.abilities.1.bands.is_empty() {
                    self.abilities = (radio.phy.clone(), netlink.abilities(&radio.phy).await);
                }
                radio.bands.clone_from(&self.abilities.1.bands);
                radio.sae = self.abilities.1.sae;
                if let Some(interface) = net.interface(&radio.interface) {
                    radio.power_save = netlink.power_save(interface.index).await;
                }
            }
        }
        let mut scan = Scan { done: self.scans.0, failed: self.scans.1, seen: Vec::new() };
        if let Some(supplicant) = supplicant
            && let Ok(status) = supplicant.state().await
        {
            if status.ssid.is_some() {
                self.attempt.ssid.clone_from(&status.ssid);
                self.attempt.bssid.clone_from(&status.bssid);
            }
            // A signal may have been missed while the connection to it was made.
            if status.state == "completed" && self.attempt.connected.is_none() {
                self.signal(&Signal::State(status.state.clone()), now);
            }
            if let Some(radio) = &mut radio {
                radio.sae |= status.can_sae();
            }
            scan.seen = status.bss;
            lock(&agent.air).clone_from(&scan.seen);
            self.supplicant = seen::Supplicant::Ready {
                state: status.state,
                through: supplicant.through().into(),
                sae_pwe: self.sae_pwe,
            };
        }
        let interface = radio.as_ref().and_then(|radio| net.interface(&radio.interface));
        self.dhcp = match (bus, interface) {
            (Some(bus), Some(interface)) => services::dhcp(bus, interface.index, self.dhcp, now).await,
            _ => seen::Dhcp::Idle,
        };
        let wired = net
            .interfaces
            .iter()
            .filter(|interface| interface.physical && !interface.wireless)
            .map(|interface| Wired { interface: interface.name.clone(), carrier: interface.carrier })
            .collect();
        let mut hardware = look.hardware;
        hardware.kernel.clone_from(&self.kernel);
        let observations = Observations {
            now,
            wants_wifi: look.wants || !self.networks.is_empty(),
            hardware,
            radio,
            rfkill: look.rfkill,
            country: self.country.clone(),
            regdomain,
            networks: self.networks.clone(),
            supplicant: self.supplicant.clone(),
            attempt: self.attempt.clone(),
            scan,
            wired,
            addresses: net.addresses.clone(),
            dhcp: self.dhcp,
            gateway: net.gateway,
            resolvers: services::resolvers(bus).await,
            clock: hardware::clock(),
            announce: *lock(&agent.announce),
        };
        (observations, net)
    }
}
