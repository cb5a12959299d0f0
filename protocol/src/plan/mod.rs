//! A layout and the disks it is for, made into steps that are data.
//!
//! [`compile`] takes the user's layout ([`crate::disko::Devices`]) and what the agent saw ([`DiskFacts`]) and answers with
//! a [`Plan`] or a [`Refusal`]. A plan is what a person confirms by its [`Digest`], what the agent executes
//! ([`Step::actions`]), and what it goes on from after a restart ([`Plan::remount`]). It is disko's
//! `destroy,format,mount` on disks that are blank once destroyed, so every "unless it exists already" of disko's scripts
//! is decided, and every stage is done for all disks before the next begins. In the other [`Mode`]s that is asked at each step.
//!
//! Read in this order: `facts`, `step`, `action` (what a step runs), `sentence` (what it says), then `compile` and its
//! parts: `target` (which disk is meant), `serial` (whether its name tells), `gpt` (where partitions land), `mbr` (what they may not reach), `partition`
//! (tables), `destroy` (what is there), `format` (pools), `layers` (what lies between disks and filesystems), `mounting`,
//! `order`, `capacity`, `board` (does it boot?); and `refusal`, `secret`, `wanted` (which secrets are asked for), `digest`,
//! `render`, `loss` (what is destroyed), `keep` and `presence` (what is kept, in the modes that keep), `afterwards` (unmounting and remounting), `resume` (going on in the middle).

mod action;
mod action_layers;
mod afterwards;
mod board;
mod capacity;
mod compile;
mod destroy;
mod digest;
mod facts;
mod format;
mod gpt;
mod keep;
mod layers;
mod limits;
mod loss;
mod mbr;
mod mode;
mod mounting;
mod order;
mod partition;
mod parts;
mod presence;
mod refusal;
mod render;
mod resume;
mod secret;
mod sentence;
mod serial;
mod step;
mod target;
mod wanted;

pub use action::{Action, DEVICE_PATIENCE, Input};
pub use afterwards::{MountPoint, TargetLayout};
pub use board::is_known as knows_board;
pub use capacity::{StoreSpace, space_needed};
pub use compile::compile;
pub use digest::{Digest, NotADigest, layout_hash};
pub use facts::{DiskFacts, Fingerprint, PartitionFacts, human_bytes};
pub use keep::same_filesystem;
pub use mode::Mode;
pub use parts::{BcachefsDevice, BootMark, HookTime, HybridEntry, Span, Stage, SwapFile, Vdev};
pub use presence::{Presence, Question, Seen, Signature};
pub use refusal::Refusal;
pub use resume::GoOn;
pub use secret::{Key, SecretRef};
pub use serial::shares_its_serial;
pub use step::Step;
pub use target::objections;
pub use wanted::{SecretKind, Wanted, secret_option};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the new system's filesystems are mounted; disko's `rootMountPoint`, which hooks may have written out.
pub const TARGET: &str = "/mnt";

/// Where a filesystem is mounted for the moment that its subvolumes are made in.
pub const WORKPLACE: &str = "/run/cygnet/workplace";

/// Version of the plan's form. An agent executes only the version it was built with.
pub const VERSION: u32 = 1;

/// What the person installing decides besides the layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Unpacked size in bytes of the system to install (the sum of its closure's NAR sizes), if known yet.
    pub closure_nar_size: Option<u64>,
    /// Use the new system's swap during the installation. disko before March 2026 did; now it forgets to.
    pub swap_on: bool,
    /// Refuse a layout without a root filesystem. Off for disks that only hold data.
    pub require_root: bool,
    /// Somebody can give the passphrases that the layout asks for; a layout that asks is refused otherwise.
    pub passphrases: bool,
    /// The board, as the device tree calls it: a layout from which its firmware could not boot is refused.
    pub board: Option<String>,
    /// What is done with what is there already.
    pub mode: Mode,
    /// The card stays in and starts the SSD, which then needs no firmware of its own.
    pub from_card: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            closure_nar_size: None,
            swap_on: true,
            require_root: true,
            passphrases: false,
            board: None,
            mode: Mode::Destroy,
            from_card: false,
        }
    }
}

/// Everything that will be done, to which disks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`VERSION`].
    pub version: u32,
    /// What is done with what is there already.
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
    /// The disks that will be changed, by name in the layout.
    pub disks: Vec<PlannedDisk>,
    /// What is done, in order; their stages never go back.
    pub steps: Vec<Step>,
    /// What the person should know, though it does not forbid the installation.
    pub warnings: Vec<String>,
    /// How much room the system has where `/nix/store` will be; unknown there for what is still to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreSpace>,
    /// What is lost with each disk that is destroyed, in words, by the disk's name: more than its facts tell. Sizes in use
    /// change by themselves, so no digest covers this; what identifies the contents is in the facts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub losses: BTreeMap<String, Vec<String>>,
    /// Covers version, mode, disks and steps.
    pub digest: Digest,
}

/// A disk that will be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedDisk {
    /// Name in the layout.
    pub name: String,
    /// The path the layout uses, and the tools are given.
    pub device: String,
    /// Whether what is on it is destroyed.
    pub destroy: bool,
    /// What it is and what is on it.
    pub facts: DiskFacts,
}

/// What the digest covers, in this order: the canonical form is `serde_json`'s compact output of it.
#[derive(Serialize)]
struct Covered<'a> {
    version: u32,
    #[serde(skip_serializing_if = "Mode::is_default")]
    mode: Mode,
    disks: &'a [PlannedDisk],
    steps: &'a [Step],
}

impl Plan {
    fn new(
        mode: Mode,
        disks: Vec<PlannedDisk>,
        steps: Vec<Step>,
        warnings: Vec<String>,
        store: Option<StoreSpace>,
    ) -> Self {
        let digest = Self::digest_of(VERSION, mode, &disks, &steps);
        Self { version: VERSION, mode, disks, steps, warnings, store, losses: BTreeMap::new(), digest }
    }

    fn digest_of(version: u32, mode: Mode, disks: &[PlannedDisk], steps: &[Step]) -> Digest {
        // Serialising structs with string keys into memory cannot fail; an empty text would match no plan.
        Digest::of(&serde_json::to_vec(&Covered { version, mode, disks, steps }).unwrap_or_default())
    }

    /// Whether this is a plan of our version whose digest belongs to its content. Check it on every plan that was read.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.version == VERSION && self.digest == Self::digest_of(self.version, self.mode, &self.disks, &self.steps)
    }
}
