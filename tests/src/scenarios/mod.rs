//! What is expected of the real programs in the virtual Pi.
//!
//! A [`Scenario`] says in which [`State`] its Pi begins; that is restored from what was saved, so each begins with a pristine Pi, can run alone
//! and in any order, and beside others. [`World`] is what it has. [`refusals`] never write, [`failures`], [`steps`], [`modes`], [`stale`],
//! [`interruptions`] and [`secrets`] install tiny systems, [`keep`] one beside another. [`layouts`] compares what is made of disko's
//! layouts with what disko makes, on a Pi with many disks. [`push`] is about how a closure gets there, [`mod@card`] about settings on the FAT
//! partition, [`nix_copy`] about who else may bring it, and who is trusted. [`whole`] installs the real system and boots it, [`mod@trial`] is about what U-Boot starts then,
//! [`wifi`] has a Pi with a radio and no cable, [`pi3`] is a Raspberry Pi 3 Model B.

mod card;
mod failures;
mod interruptions;
mod keep;
mod layouts;
mod modes;
mod nix_copy;
mod pi3;
mod push;
mod refusals;
mod scenario;
mod secrets;
mod stale;
mod states;
mod steps;
mod trial;
mod whole;
mod wifi;
mod world;

pub use scenario::{Scenario, Weight};
pub use states::{State, is_made, make};
pub use world::{Outcome, World};

use crate::patience::BOOT;
use serde_json::Value;

/// The disk that things are installed on.
pub const SSD: &str = "CYGSSD0";
/// A disk too small for anything.
pub const SMALL: &str = "CYGSMALL";

/// All scenarios.
pub fn all() -> Vec<Scenario> {
    [
        refusals::SCENARIOS,
        failures::SCENARIOS,
        stale::SCENARIOS,
        steps::SCENARIOS,
        modes::SCENARIOS,
        interruptions::SCENARIOS,
        secrets::SCENARIOS,
        keep::SCENARIOS,
        card::SCENARIOS,
        push::SCENARIOS,
        nix_copy::SCENARIOS,
        layouts::SCENARIOS,
        whole::SCENARIOS,
        trial::SCENARIOS,
        pi3::SCENARIOS,
    ]
    .into_iter()
    .chain(wifi::GROUPS.iter().copied())
    .flatten()
    .copied()
    .collect()
}

/// The words of an installation from the beginning that ends without a reboot.
fn installing<'a>(host: &'a str, toplevel: &'a str, disko: &'a str, digest: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let words = ["install", host, "--closure", toplevel, "--disko", disko, "--yes", digest, "--fresh", "--no-reboot"];
    [&words[..], more].concat()
}

/// Points every device of the layout's one disk at another disk.
fn retarget(layout: &mut Value, device: &str) {
    layout["disk"]["ssd"]["device"] = device.into();
    layout["disk"]["ssd"]["content"]["device"] = device.into();
}
