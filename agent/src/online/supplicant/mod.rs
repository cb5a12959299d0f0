//! wpa_supplicant: the interface is handed to it, the networks are told, and what it says is passed on.
//!
//! There are two ways to speak to it. [`dbus`] is the first; [`socket`] is the second, for a machine without a bus or
//! with a wpa_supplicant that isn't on it, through the sockets that [`places`] lists. Both are told a network as a
//! [`block`], and both read what is in the air with [`elements`]. [`mismatch`] knows a
//! wrong passphrase where an old wpa_supplicant does not say so. The second way can't hand an interface to
//! wpa_supplicant; it must have it already.

mod block;
mod dbus;
mod elements;
mod mismatch;
mod places;
mod said;
mod socket;
#[cfg(test)]
mod tests;

pub use block::Offer;

use cygnet_protocol::online::observation::Bss;
use cygnet_protocol::online::settings::Network;
use cygnet_protocol::online::ssid::Ssid;
use tokio::sync::mpsc;

/// The unit that runs our own wpa_supplicant.
pub const UNIT: &str = "cygnet-supplicant.service";

/// What was signalled. Properties keep their last value for ever, so only a signal tells that something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// The interface's new state in wpa_supplicant's words: `scanning`, `4way_handshake`, `completed`.
    State(String),
    /// An authentication was answered: IEEE 802.11, table 9-78. 126 (use hash to element) and 0 are no refusals.
    AuthStatus(u16),
    /// An association was refused (the same table).
    AssocStatus(u16),
    /// The connection ended: reason code of table 9-90, negative if we ended it.
    Disconnected(i32),
    /// In the 4-way handshake it showed that the passphrase must be wrong.
    PskMismatch,
    /// The same for SAE.
    SaeMismatch,
    /// A scan ended; true if it succeeded.
    ScanDone(bool),
    /// An access point was first heard, or forgotten.
    BssChanged,
    /// wpa_supplicant has let go of the interface: open it again.
    InterfaceGone,
    /// wpa_supplicant, or the way to it, has gone: open it again. Nothing comes after this.
    Gone,
}

/// How the interface is, now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Now {
    /// In wpa_supplicant's words: `scanning`, `completed`, `interface_disabled`.
    pub state: String,
    /// The network that is being tried or joined.
    pub ssid: Option<Ssid>,
    /// Its access point.
    pub bssid: Option<String>,
    /// All access points heard of late.
    pub bss: Vec<Bss>,
    /// What driver and wpa_supplicant can do, lower case: `wpa-psk`, `sae`. Empty if it does not say.
    pub key_mgmt_capabilities: Vec<String>,
}

impl Now {
    /// Whether SAE can be done.
    pub fn can_sae(&self) -> bool {
        self.key_mgmt_capabilities.iter().any(|word| word == "sae")
    }
}

/// Why wpa_supplicant can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SupplicantError {
    /// It does not run, or can't be reached.
    #[error("{why}")]
    Absent {
        /// Which ways were tried, and what happened.
        why: String,
    },
    /// Somebody else has the interface.
    #[error("the interface belongs to {by}")]
    Taken {
        /// `NetworkManager`, or the unit of another wpa_supplicant.
        by: String,
    },
    /// It said no.
    #[error("{doing}: wpa_supplicant refused: {why}")]
    Refused {
        /// `adding a network`.
        doing: &'static str,
        /// In its words.
        why: String,
    },
    /// It went away while it was spoken to.
    #[error("{doing}: wpa_supplicant went away or does not answer ({why})")]
    Gone {
        /// `scanning`.
        doing: &'static str,
        /// What was seen of that.
        why: String,
    },
}

/// What became of the networks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Joining {
    /// How many are being tried.
    pub offered: usize,
    /// Those that wpa_supplicant did not take; it does not say why.
    pub refused: Vec<Ssid>,
}

/// An interface in wpa_supplicant's hands. It stays there when this is dropped; only its signals end.
#[derive(Debug)]
pub struct Supplicant {
    way: Way,
}

#[derive(Debug)]
enum Way {
    Bus(dbus::Interface),
    Socket(socket::Interface),
}

/// How many signals wait for the supervisor; what exceeds that is lost, and [`Supplicant::state`] tells the truth.
const QUEUE: usize = 256;

impl Supplicant {
    /// Hands `interface` to wpa_supplicant, or finds it there. `driver` is wpa_supplicant's: `nl80211`.
    ///
    /// # Errors
    /// `Absent` if neither way leads to one, `Taken` if somebody else has the interface.
    pub async fn open(
        bus: Option<&zbus::Connection>,
        interface: &str,
        driver: &str,
    ) -> Result<(Self, mpsc::Receiver<Signal>), SupplicantError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let on_the_bus = match bus {
            None => "there is no system bus".to_owned(),
            Some(bus) => match dbus::Interface::open(bus, interface, driver, &sender).await {
                Ok(opened) => return Ok((Self { way: Way::Bus(opened) }, receiver)),
                Err(SupplicantError::Absent { why }) => why,
                Err(other) => return Err(other),
            },
        };
        match socket::Interface::open(&places::places(interface), sender).await {
            Ok(opened) => Ok((Self { way: Way::Socket(opened) }, receiver)),
            Err(why) => Err(SupplicantError::Absent { why: format!("{on_the_bus}, and {why}") }),
        }
    }

    /// How it is spoken to, for people.
    pub fn through(&self) -> &'static str {
        match &self.way {
            Way::Bus(_) => "D-Bus",
            Way::Socket(_) => "control socket",
        }
    }

    /// Sets the country (ISO 3166-1), the way of SAE (0 hunting and pecking, 1 hash to element, 2 both) and whether
    /// management frames are protected where a network does not say (0 no, 1 if the access point can, 2 always).
    ///
    /// # Errors
    /// If one can't be set; the others are.
    pub async fn configure(&self, country: Option<&str>, sae_pwe: u8, pmf: u8) -> Result<(), SupplicantError> {
        match &self.way {
            Way::Bus(interface) => interface.configure(country, sae_pwe, pmf).await,
            Way::Socket(interface) => interface.configure(country, sae_pwe, pmf).await,
        }
    }

    /// Forgets all networks and tries these. A connection that there is ends.
    ///
    /// # Errors
    /// If wpa_supplicant is gone. Networks that it does not take are in the answer.
    pub async fn join(&self, networks: &[Network], offer: Offer) -> Result<Joining, SupplicantError> {
        match &self.way {
            Way::Bus(interface) => interface.join(networks, offer).await,
            Way::Socket(interface) => interface.join(networks, offer).await,
        }
    }

    /// Begins a scan; [`Signal::ScanDone`] tells its end.
    ///
    /// # Errors
    /// If it is busy with one already, the radio is switched off, or wpa_supplicant is gone.
    pub async fn scan(&self) -> Result<(), SupplicantError> {
        match &self.way {
            Way::Bus(interface) => interface.scan().await,
            Way::Socket(interface) => interface.say("scanning", "SCAN").await,
        }
    }

    /// Forgets all access points that were heard, so that only what is there now is tried: one that was given another name
    /// refuses whoever calls it by the old one, with status 1.
    ///
    /// # Errors
    /// If wpa_supplicant is gone.
    pub async fn forget_heard(&self) -> Result<(), SupplicantError> {
        match &self.way {
            Way::Bus(interface) => interface.forget_heard().await,
            Way::Socket(interface) => interface.say("forgetting what was heard", "BSS_FLUSH 0").await,
        }
    }

    /// Joins anew.
    ///
    /// # Errors
    /// If wpa_supplicant is gone or the interface is down.
    pub async fn reassociate(&self) -> Result<(), SupplicantError> {
        match &self.way {
            Way::Bus(interface) => interface.reassociate().await,
            Way::Socket(interface) => interface.say("joining anew", "REASSOCIATE").await,
        }
    }

    /// Takes the interface out of wpa_supplicant's hands; where it isn't ours to take, it gets its own networks back.
    ///
    /// # Errors
    /// If wpa_supplicant is gone; then so is its hold on the interface.
    pub async fn release(self) -> Result<(), SupplicantError> {
        match self.way {
            Way::Bus(interface) => interface.release().await,
            Way::Socket(interface) => interface.say("releasing the interface", "RECONFIGURE").await,
        }
    }

    /// How it is, now.
    ///
    /// # Errors
    /// If wpa_supplicant is gone, or has let go of the interface.
    pub async fn state(&self) -> Result<Now, SupplicantError> {
        match &self.way {
            Way::Bus(interface) => interface.state().await,
            Way::Socket(interface) => interface.state().await,
        }
    }
}
