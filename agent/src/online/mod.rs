//! Getting online: from the chip on the SDIO bus to an announcement that somebody hears.
//!
//! [`settings`] reads what the user gave us. What there is to be seen comes from the kernel ([`hardware`], [`kmsg`],
//! [`rfkill`], [`links`], [`radio`]) and from the services on the system bus ([`supplicant`], [`services`]); [`eyes`]
//! puts it together as `Observations`. [`supervisor`] lives with it: it looks, publishes what the protocol crate makes
//! of that, and takes the next step ([`steps`]), or a [`remedy`] when a step does not help. It runs on a thread of its own,
//! so that a driver that hangs takes neither the watchdog nor an installation with it.

mod attempt;
mod eyes;
pub mod hardware;
pub mod kmsg;
pub mod links;
pub mod radio;
pub mod remedy;
pub mod rfkill;
pub mod services;
pub mod settings;
mod steps;
mod supervisor;
pub mod supplicant;

pub use supervisor::spawn;

use cygnet_protocol::online::settings::Network;

/// What a person at the console wants of the supervisor.
#[derive(Debug)]
pub enum Order {
    /// Begin the outage's remedies anew, now.
    Retry,
    /// Look what is in the air.
    Scan,
    /// Join this network too, and remember it; the country if one was given.
    Join {
        /// The network.
        network: Network,
        /// ISO 3166-1 alpha-2.
        country: Option<String>,
    },
}
