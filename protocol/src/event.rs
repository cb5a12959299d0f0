//! What happens during an installation, as one stream that every rendering is made from.

use crate::extra::Count;
use crate::fault::Fault;
use crate::online::diagnosis::Diagnosis;
use crate::online::link::LinkReport;
use crate::plan::Wanted;
use serde::{Deserialize, Serialize};

/// The phases of an installation, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Look at the disks.
    Inspect,
    /// Compile the layout.
    Plan,
    /// Compare with the digest that the user saw.
    Confirmed,
    /// Take the target disks out of use and wipe what is on them.
    Destroy,
    /// Write the partition tables.
    Partition,
    /// Make file systems, swap areas, pools, datasets and volumes.
    Format,
    /// Mount them below `/mnt`.
    Mount,
    /// Receive the closure into the target store.
    Receive,
    /// Enter the paths into the target's Nix database.
    Register,
    /// Run the new system's activation script inside the target.
    Activate,
    /// Run its boot-loader installer inside the target.
    Bootloader,
    /// See that the board's firmware will find what it needs.
    Firmware,
    /// See that every file the boot loader refers to is there in full.
    Verify,
    /// Unmount, export the pools, and import them once more read-only as proof.
    Export,
    /// Reboot into the new system.
    Handover,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: &'static [Phase] = &[
        Phase::Inspect,
        Phase::Plan,
        Phase::Confirmed,
        Phase::Destroy,
        Phase::Partition,
        Phase::Format,
        Phase::Mount,
        Phase::Receive,
        Phase::Register,
        Phase::Activate,
        Phase::Bootloader,
        Phase::Firmware,
        Phase::Verify,
        Phase::Export,
        Phase::Handover,
    ];

    /// The name as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Inspect => "inspect",
            Phase::Plan => "plan",
            Phase::Confirmed => "confirmed",
            Phase::Destroy => "destroy",
            Phase::Partition => "partition",
            Phase::Format => "format",
            Phase::Mount => "mount",
            Phase::Receive => "receive",
            Phase::Register => "register",
            Phase::Activate => "activate",
            Phase::Bootloader => "bootloader",
            Phase::Firmware => "firmware",
            Phase::Verify => "verify",
            Phase::Export => "export",
            Phase::Handover => "handover",
        }
    }

    /// What it does, for a person watching.
    pub const fn title(self) -> &'static str {
        match self {
            Phase::Inspect => "Looking at the disks",
            Phase::Plan => "Compiling the layout",
            Phase::Confirmed => "Comparing with the plan you saw",
            Phase::Destroy => "Wiping the target disks",
            Phase::Partition => "Writing partition tables",
            Phase::Format => "Making file systems and pools",
            Phase::Mount => "Mounting the target",
            Phase::Receive => "Receiving the closure",
            Phase::Register => "Registering the store paths",
            Phase::Activate => "Activating the new system",
            Phase::Bootloader => "Installing the boot loader",
            Phase::Firmware => "Checking the firmware files",
            Phase::Verify => "Checking that it will boot",
            Phase::Export => "Unmounting and exporting",
            Phase::Handover => "Rebooting into the new system",
        }
    }
}

/// What the agent is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// Nothing; ready for a plan.
    Waiting,
    /// An installation runs.
    Installing {
        /// The phase it is in.
        phase: Phase,
    },
    /// An installation runs and waits for store paths from a client.
    Receiving,
    /// The last installation failed.
    Failed {
        /// In this phase.
        phase: Phase,
        /// For this reason.
        fault: Fault,
    },
    /// The agent was restarted in the middle of an installation, which `install` can go on with.
    Interrupted {
        /// The phase it was in.
        phase: Phase,
    },
    /// The new system is installed; only the reboot is missing.
    Installed,
    /// The machine goes down.
    Rebooting,
}

impl State {
    /// The name as in JSON and in the mDNS announcement.
    pub const fn name(&self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Installing { .. } => "installing",
            State::Receiving => "receiving",
            State::Failed { .. } => "failed",
            State::Interrupted { .. } => "interrupted",
            State::Installed => "installed",
            State::Rebooting => "rebooting",
        }
    }
}

/// The installation that the agent works on or last worked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobStatus {
    /// The plan's digest.
    pub digest: String,
    /// SHA-256 of the layout in canonical JSON, lower-case hex: the same layout can be gone on with.
    pub layout: String,
    /// The system being installed.
    pub toplevel: String,
    /// The phase it is in, or stopped in.
    pub phase: Phase,
    /// True if `install` with the same digest goes on where it was.
    pub resumable: bool,
    /// Store paths in the target store so far.
    pub paths_done: u64,
    /// Their NAR sizes, bytes.
    pub bytes_done: u64,
    /// The secrets that going on with it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Wanted>,
    /// The extra files that it was begun with, and that going on with it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_files: Option<Count>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Event {
    /// Counts up from 1 since the agent started.
    pub seq: u64,
    /// Milliseconds since the agent started. Not wall time: a Pi has no clock of its own.
    pub millis: u64,
    /// The phase it happened in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Where store paths come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// From the card's own store.
    Card,
    /// From binary caches.
    Cache,
    /// On the data channel.
    Client,
    /// From somewhere that only a newer agent knows.
    #[serde(other)]
    Unknown,
}

/// What has come since the data channel was opened, or the request was made: it begins with 0 each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Arrival {
    /// From here.
    pub source: Source,
    /// Store paths that are whole.
    pub paths: u64,
    /// NAR bytes, those of the present path included; without what was there of it before.
    pub bytes: u64,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// A phase began.
    PhaseStarted,
    /// A phase ended well.
    PhaseFinished {
        /// How long it took, milliseconds.
        took: u64,
    },
    /// A phase, or a task of it, had nothing to do.
    Skipped {
        /// Why.
        why: String,
    },
    /// A task of a phase began.
    Task {
        /// What it does, one sentence.
        text: String,
    },
    /// A line that a tool printed.
    Output {
        /// The line, without its newline; cut at 1000 characters.
        line: String,
    },
    /// How far a phase is. At most five a second.
    Progress {
        /// Done so far.
        done: u64,
        /// In all, where it is known.
        total: u64,
        /// `bytes`, `paths` or `steps`.
        unit: String,
        /// Where store paths come from, and how many have come from there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        came: Option<Arrival>,
    },
    /// Something that does not stop the installation but that a person should know.
    Warning {
        /// One sentence.
        text: String,
    },
    /// The phase failed, and the installation with it.
    Failed {
        /// Why.
        fault: Fault,
    },
    /// The agent's state changed.
    StateChanged {
        /// To this.
        to: State,
    },
    /// A link of the way online changed.
    Link {
        /// How it is now.
        report: LinkReport,
    },
    /// What keeps the Pi from getting online, or what is not well although it is.
    Diagnosed {
        /// That.
        diagnosis: Diagnosis,
    },
    /// The Pi can be reached, or no longer.
    Online {
        /// Whether.
        online: bool,
        /// Through what: `wlan0 (“home”)`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        via: Option<String>,
    },
    /// The installed system answers with ssh host keys of its own, which it had before or which are among the extra files, and
    /// not with the card's.
    HostKeys {
        /// The public ones: type and key in base64, without a comment.
        keys: Vec<String>,
    },
    /// An event of a kind this program does not know: the agent is newer.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_in_json() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.name());
        }
        assert!(Phase::ALL.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn an_event_from_the_future_is_not_an_error() {
        let event: Event = serde_json::from_str(r#"{"seq":1,"millis":2,"event":"sang-a-song","verse":3}"#).unwrap();
        assert_eq!(event.kind, EventKind::Unknown);
    }
}
