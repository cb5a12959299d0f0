//! What `cygnet` and `cygnetd` must agree on. No runtime, no process, no clock in here, and one thread, that of [`stretch`].
//!
//! Read in this order: [`message`] is what they say to each other, [`frame`] how a message is a line, [`event`] what
//! the agent tells while it works, [`fault`] what can go wrong. [`disko`] is the layout the user wrote, [`plan`] what we
//! make of it, [`secret`] what opens it, [`extra`] what is laid over it, [`disks`] what there is before. [`online`] is how a Pi gets online and what is
//! wrong when it does not. [`store`] is what a store path is, [`stream`] how store paths travel, [`stretch`] what a patch looks back on, [`trust`] which of them
//! are let in, [`nix_conf`] what Nix's own configuration says of that,
//! [`boot`] is how a Pi starts what was installed while its card stays in,
//! [`card`] is what is written on the card before the first boot, [`substituter`] what a binary cache's answer is worth, [`handover`] how a connection reaches the daemon,
//! and [`text`] what makes text from outside safe to show.

pub mod boot;
pub mod card;
pub mod disko;
pub mod disks;
pub mod event;
pub mod extra;
pub mod fault;
pub mod frame;
pub mod handover;
pub mod message;
pub mod nix_conf;
pub mod online;
pub mod plan;
pub mod secret;
pub mod store;
pub mod stream;
pub mod stretch;
pub mod substituter;
pub mod text;
pub mod trust;

pub use cygnet_code as code;
