//! How a Pi gets online, and what is wrong when it does not.
//!
//! [`link`] names the links of the chain, from the SDIO bus to the announcement. [`observation`] is all that the agent
//! sees of them, as data; [`kernel`] reads the kernel's log for it. From that alone, [`chain`] says how each link is,
//! [`diagnose`] what is wrong in the words of [`diagnosis`], and [`ladder`] what to try next. [`settings`] is what the
//! user gave us to get online with, [`country`] where the radio is, [`ssid`] the name of a network, and [`mod@line`] the same for a serial console's reader.

pub mod chain;
pub mod country;
pub mod diagnose;
pub mod diagnosis;
pub mod kernel;
pub mod ladder;
pub mod line;
pub mod link;
pub mod observation;
pub mod settings;
pub mod ssid;
