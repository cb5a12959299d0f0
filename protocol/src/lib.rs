//! What `cygnet` and `cygnetd` must agree on. No runtime, no process, no clock in here.
//!
//! Read in this order: [`message`] is what they say to each other, [`frame`] how a message is a line, [`event`] what
//! the agent tells while it works, [`fault`] what can go wrong. [`disko`] is the layout the user wrote, [`plan`] what we
//! make of it, [`secret`] what opens it, [`disks`] what there is before. [`online`] is how a Pi gets online and what is
//! wrong when it does not. [`store`] is what a store path is, [`stream`] how store paths travel, [`handover`] how a connection
//! reaches the daemon.

pub mod disko;
pub mod disks;
pub mod event;
pub mod fault;
pub mod frame;
pub mod handover;
pub mod message;
pub mod online;
pub mod plan;
pub mod secret;
pub mod store;
pub mod stream;
