//! Reaching the Pi with the system's `ssh`, so that keys, agents, ProxyJump and ssh_config(5) work as always.
//!
//! [`target`] is whom to reach and with which options, [`session`] one ssh connection with the channels on it,
//! [`option`] is the syntax of ssh's options, [`classify`] turns what ssh says into causes and remedies, [`pin`] holds on to the host key that was used.
//! [`remote`] runs one command without the agent.

pub mod classify;
pub mod option;
pub mod pin;
pub mod remote;
pub mod session;
pub mod target;

pub use session::{Channel, Session};
pub use target::Target;
