//! All that the agent sees of the chain, as data. Nothing in here decides anything, and no secret is in it.

use super::kernel::KernelSign;
use super::ssid::Ssid;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What is to be seen now. `Default` is a machine on which nothing was looked at yet.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Observations {
    /// Milliseconds since the agent started; all other times are on the same clock.
    pub now: u64,
    /// True if this board has a WiFi chip by its device tree, or networks were given: then a missing link is a fault.
    pub wants_wifi: bool,
    /// The chip, its driver and its firmware.
    pub hardware: Hardware,
    /// The wireless interface, if there is one.
    pub radio: Option<Radio>,
    /// The radio switches, all of type wlan together.
    pub rfkill: Rfkill,
    /// The country in the settings.
    pub country: Option<String>,
    /// The kernel's regulatory domain, `00` for the world's.
    pub regdomain: Option<String>,
    /// The networks in the settings, best first.
    pub networks: Vec<KnownNetwork>,
    /// wpa_supplicant.
    pub supplicant: Supplicant,
    /// The present attempt to join a network.
    pub attempt: Attempt,
    /// What is in the air: the last scan.
    pub scan: Scan,
    /// Network interfaces by cable, with those that are down.
    pub wired: Vec<Wired>,
    /// Addresses on all interfaces but loopback.
    pub addresses: Vec<Address>,
    /// The wireless interface's DHCP client.
    pub dhcp: Dhcp,
    /// The way out.
    pub gateway: Option<Gateway>,
    /// Resolvers that are configured.
    pub resolvers: Vec<IpAddr>,
    /// The wall clock.
    pub clock: Clock,
    /// The announcement, and whether the network carries it.
    pub announce: Announce,
}

/// The chip, its driver and its firmware.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Hardware {
    /// What the device tree calls the board: `raspberrypi,4-model-b`.
    pub compatible: String,
    /// True on boards whose WiFi chip is on SDIO: all Raspberry Pis that have one.
    pub expects_sdio: bool,
    /// Devices on the SDIO bus, as `VENDOR:DEVICE` in hex: `0x02d0:0xa9a6`.
    pub sdio: Vec<String>,
    /// `brcmfmac` or whatever the radio's driver is.
    pub driver: ModuleState,
    /// `brcmfmac-wcc`, `-cyw` or `-bca`: asked for by the driver, and in nobody's list of dependencies.
    pub vendor_module: ModuleState,
    /// What the kernel said of it, oldest first, since the driver was last loaded.
    pub kernel: Vec<KernelSign>,
    /// True while the supply voltage is too low (hwmon's `in0_lcrit_alarm` of `rpi_volt`).
    pub under_voltage: bool,
}

/// Whether a kernel module is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleState {
    /// Nobody looked, or nobody knows which.
    #[default]
    Unknown,
    /// In the kernel.
    Loaded,
    /// In the image, but not loaded.
    Available,
    /// Not in the image.
    Missing,
}

/// A wireless interface, found by its phy and never by its name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Radio {
    /// `wlan0`, or what it was renamed to.
    pub interface: String,
    /// `phy0`.
    pub phy: String,
    /// `brcmfmac`, `mac80211_hwsim`.
    pub driver: String,
    /// Its bands.
    pub bands: Vec<Band>,
    /// True if wpa_supplicant may do SAE with it (Interface.Capabilities.KeyMgmt).
    pub sae: bool,
    /// Power save, where it could be read.
    pub power_save: Option<bool>,
}

/// A band.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Band {
    /// 2.4 GHz.
    #[serde(rename = "2.4")]
    Two,
    /// 5 GHz.
    #[serde(rename = "5")]
    Five,
    /// 6 GHz.
    #[serde(rename = "6")]
    Six,
}

impl Band {
    /// Of a channel's centre frequency, MHz.
    pub const fn of_frequency(mhz: u32) -> Option<Self> {
        match mhz {
            2400..=2500 => Some(Band::Two),
            4900..=5924 => Some(Band::Five),
            5925..=7125 => Some(Band::Six),
            _ => None,
        }
    }
}

/// Radio switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Rfkill {
    /// Switched off by software.
    pub soft: bool,
    /// Switched off by a switch or a pin.
    pub hard: bool,
}

/// A network in the settings, without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct KnownNetwork {
    /// Its name.
    pub ssid: Ssid,
    /// What we have to get in.
    pub key: KeyKind,
    /// Whether it is asked for by name.
    #[serde(default)]
    pub hidden: bool,
}

/// What we have to get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    /// Nothing.
    Open,
    /// The passphrase: WPA2 and WPA3.
    Passphrase,
    /// The pre-shared key: WPA2 only.
    Pmk,
}

/// wpa_supplicant as we find it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Supplicant {
    /// Not asked yet.
    #[default]
    Unasked,
    /// It can't be had.
    Absent {
        /// Why: what systemd or the bus said.
        why: String,
    },
    /// Another program has the interface: `NetworkManager`, `iwd`, another wpa_supplicant.
    Taken {
        /// Who.
        by: String,
    },
    /// It runs and has the interface.
    Ready {
        /// The interface's state in its words: `scanning`, `4way_handshake`, `completed`.
        state: String,
        /// How it is spoken to: `D-Bus` or `control socket`.
        through: String,
        /// Which way of SAE it offers: 0 hunting and pecking, 1 hash to element, 2 both.
        sae_pwe: u8,
    },
}

/// One attempt to join: since the networks were last (re-)enabled, or since the connection was lost.
///
/// Codes count only if they were signalled during the attempt: wpa_supplicant's properties keep the last one for ever.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Attempt {
    /// When it began.
    pub began: u64,
    /// The network being tried, or joined.
    pub ssid: Option<Ssid>,
    /// Its access point.
    pub bssid: Option<String>,
    /// Status code of the last authentication that was refused (IEEE 802.11, table 9-78). 126 and 0 are none.
    pub auth_status: Option<u16>,
    /// Status code of the last association that was refused.
    pub assoc_status: Option<u16>,
    /// Reason code of the last disconnection (table 9-90), negative ones made by ourselves left out.
    pub disconnect_reason: Option<u16>,
    /// How often wpa_supplicant said that the passphrase must be wrong (signal PskMismatch).
    pub psk_mismatches: u32,
    /// The same for SAE (signal SaePasswordMismatch).
    pub sae_mismatches: u32,
    /// How often an authentication or association was not answered at all.
    pub timeouts: u32,
    /// How often it came as far as the 4-way handshake.
    pub handshakes: u32,
    /// True if this attempt began because a connection was lost.
    pub was_connected: bool,
    /// When the connection was complete, if it is.
    pub connected: Option<u64>,
}

/// The last scan.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Scan {
    /// Scans finished during this attempt.
    pub done: u32,
    /// Scans that failed during this attempt.
    pub failed: u32,
    /// What was seen.
    pub seen: Vec<Bss>,
}

/// An access point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bss {
    /// Its name; none if it hides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssid: Option<Ssid>,
    /// Its MAC address.
    pub bssid: String,
    /// Channel, MHz.
    pub frequency: u32,
    /// Signal, dBm.
    pub signal: i16,
    /// What it takes, in wpa_supplicant's words: `wpa-psk`, `sae`, `wpa-eap`, `owe`; empty if open.
    #[serde(default)]
    pub key_mgmt: Vec<String>,
    /// True if it wants SAE by hash to element and no other (BSS membership selector 123, IEEE 802.11-2020 9.4.2.3).
    #[serde(default)]
    pub h2e_only: bool,
    /// True if it demands protected management frames.
    #[serde(default)]
    pub pmf_required: bool,
    /// Bands on which it says that it has siblings with the same name (reduced neighbour report).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub siblings: Vec<Band>,
}

/// An interface by cable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Wired {
    /// `end0`.
    pub interface: String,
    /// Whether somebody is at the other end.
    pub carrier: bool,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Address {
    /// On this interface.
    pub interface: String,
    /// The address.
    pub ip: IpAddr,
}

impl Address {
    /// Whether it is good only on its own link: 169.254/16 and fe80::/10.
    pub const fn is_link_local(&self) -> bool {
        match self.ip {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
        }
    }
}

/// The wireless interface's DHCP client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Dhcp {
    /// It does not run: no carrier yet, or nobody configured it.
    #[default]
    Idle,
    /// It asks.
    Asking {
        /// Since when.
        since: u64,
    },
    /// It has a lease.
    Bound,
}

/// The way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gateway {
    /// Its address.
    pub ip: IpAddr,
    /// Whether its neighbour entry is known to be good (NUD_REACHABLE and its like), or known to have failed.
    pub answers: Option<bool>,
}

/// The wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Clock {
    /// Now, seconds since 1970.
    pub unix: u64,
    /// When this agent was built, seconds since 1970; 0 if not known.
    pub built: u64,
    /// Whether systemd-timesyncd or another has set it (adjtimex(2), STA_UNSYNC).
    pub synchronized: bool,
}

/// The announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Announce {
    /// When it was first sent with the present addresses.
    pub since: Option<u64>,
    /// When multicast of somebody else was last heard.
    pub heard: Option<u64>,
    /// When multicast was last sent to ask whether anybody is there.
    pub asked: Option<u64>,
}
