//! What the two ends say on the control channel, one JSON object a line.
//!
//! The first line each way is a [`Hello`]. Then the client sends [`Request`]s, and the agent answers each, in
//! order, with one [`Reply`]; after `follow`, `event` lines come between the answers.

use crate::disks::DiskList;
use crate::event::{Event, JobStatus, State};
use crate::extra::ExtraFiles;
use crate::fault::{Fault, FaultCode};
use crate::online::link::NetworkReport;
use crate::plan::{Mode, Plan, Wanted};
use crate::secret::{GivenSecret, Secret};
use crate::store::{Kin, Part, StorePath, absolute_list};
use crate::trust::Trust;
use serde::{Deserialize, Serialize};

/// The protocol this program speaks.
pub const PROTOCOL: u32 = 1;
/// The oldest protocol this program still understands.
pub const OLDEST_PROTOCOL: u32 = 1;

/// The feature of an agent that takes secrets with `install`.
pub const SECRETS: &str = "secrets";

/// The feature of an agent that keeps what is on the disks, if told so.
pub const MODES: &str = "modes";

/// The feature of an agent that takes zstd windows of [`crate::stream::MAX_WINDOW`].
pub const LONG_WINDOW: &str = "long-window";

/// The feature of an agent that lets in only signed store paths, if told so.
pub const SIGNATURES: &str = "signatures";

/// The feature of an agent that fetches store paths from binary caches, if told so.
pub const SUBSTITUTE: &str = "substitute";

/// The feature of an agent that makes store paths of others on its card, and names those.
pub const PATCHES: &str = "patches";

/// The feature of an agent that takes programs as [`crate::code`] makes them.
pub const CODE: &str = "code";

/// The feature of an agent that lays files over the new system's root, if it is given some.
pub const EXTRA_FILES: &str = "extra-files";

/// The feature of an agent that starts what it has installed on trial, if told so.
pub const TRIAL: &str = "trial";

/// The first message, both ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "hello", rename_all = "kebab-case")]
pub struct Hello {
    /// The newest protocol the sender speaks.
    pub protocol: u32,
    /// The oldest protocol the sender accepts.
    pub oldest: u32,
    /// Names of optional abilities, e.g. `zstd`. Unknown ones are ignored.
    #[serde(default)]
    pub features: Vec<String>,
    /// Program and version, for people: `cygnetd 0.1.0`.
    pub program: String,
}

impl Hello {
    /// The hello of this build, for `program` (`cygnet` or `cygnetd`).
    pub fn ours(program: &str) -> Self {
        Self {
            protocol: PROTOCOL,
            oldest: OLDEST_PROTOCOL,
            features: ["zstd", SECRETS, MODES, SIGNATURES, SUBSTITUTE, LONG_WINDOW, PATCHES, EXTRA_FILES, CODE, TRIAL]
                .map(str::to_owned)
                .into(),
            program: format!("{program} {}", env!("CARGO_PKG_VERSION")),
        }
    }

    /// The protocol to speak with the other end, or why there is none.
    ///
    /// Called by the client, so `agent` is the hello of the agent and the fault speaks of it.
    pub fn agree(&self, agent: &Hello) -> Result<u32, Fault> {
        if agent.oldest > self.protocol {
            return Err(Fault::new(
                FaultCode::AgentTooNew,
                format!(
                    "The agent ({}) speaks protocol {} to {}, this {} only up to {}.",
                    agent.program, agent.oldest, agent.protocol, self.program, self.protocol
                ),
                "The card was made with a newer cygnet than the one on this machine.",
                "Update cygnet on this machine to the version that made the card.",
            ));
        }
        if agent.protocol < self.oldest {
            return Err(Fault::new(
                FaultCode::AgentTooOld,
                format!(
                    "The agent ({}) speaks protocol {} at most, this {} needs {} or newer.",
                    agent.program, agent.protocol, self.program, self.oldest
                ),
                "The card was made with an older cygnet than the one on this machine.",
                "Flash the card with a current bootstrap image, or use the cygnet that belongs to it.",
            ));
        }
        Ok(self.protocol.min(agent.protocol))
    }
}

/// What the agent must know of a closure before it touches a disk for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClosureSummary {
    /// The system to install, `/nix/store/…-nixos-system-…`.
    pub toplevel: String,
    /// Its platform in Nix's words, from the toplevel's `system` file: `aarch64-linux`.
    pub system: String,
    /// Number of store paths.
    pub paths: u64,
    /// Sum of their NAR sizes, bytes.
    pub nar_size: u64,
}

/// How to install; every field has a default, so that an older client's request stays valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct InstallOptions {
    /// Reboot into the new system at the end.
    pub reboot: bool,
    /// Give the new system the card's ssh host key, so that the pinned key stays right.
    pub keep_host_key: bool,
    /// Give the new system the networks and the country that the agent has.
    #[serde(skip_serializing_if = "is_true")]
    pub carry_networks: bool,
    /// Which store paths are let in; none but the default without the feature [`SIGNATURES`].
    #[serde(skip_serializing_if = "Trust::is_default")]
    pub trust: Trust,
    /// The files that are laid over the new system's root, all of which have come before with [`Request::ExtraFiles`]. None
    /// without the feature [`EXTRA_FILES`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_files: Option<ExtraFiles>,
    /// How the new system is started. A client that does not say confirms nothing, so that the card's switch is left alone for it.
    /// None without the feature [`TRIAL`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_from: Option<BootFrom>,
}

impl Default for InstallOptions {
    fn default() -> Self {
        Self {
            reboot: true,
            keep_host_key: true,
            carry_networks: true,
            trust: Trust::default(),
            extra_files: None,
            boot_from: None,
        }
    }
}

/// What starts the new system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootFrom {
    /// The card if it can, the SSD alone else.
    #[default]
    Auto,
    /// The card, which stays in; a card that can't is refused.
    Card,
    /// The SSD alone: the card will be pulled.
    Ssd,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_true(is: &bool) -> bool {
    *is
}

/// How many [`Kin`] an answer has at most, so that it stays far below [`crate::frame::MAX_LINE`].
pub const MAX_KIN: usize = 4096;

/// Client to agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Request {
    /// Tell who you are and what you are doing. Legal always.
    Status,
    /// Compile this layout against the disks as they are now. Touches nothing. Legal unless installing.
    Plan {
        /// `config.disko.devices`, cleaned.
        disko: serde_json::Value,
        /// The closure that is to fit, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        closure: Option<ClosureSummary>,
        /// What is done with what is on the disks; none but the default without the feature [`MODES`].
        #[serde(default, skip_serializing_if = "Mode::is_default")]
        mode: Mode,
        /// How the new system is to be started; none without the feature [`TRIAL`].
        #[serde(default, rename = "boot-from", skip_serializing_if = "Option::is_none")]
        boot_from: Option<BootFrom>,
    },
    /// Carry out the plan with this digest, or go on with the interrupted installation that has it.
    Install {
        /// The layout the digest was computed from.
        disko: serde_json::Value,
        /// The digest that the user saw; 12 hex digits at least.
        digest: String,
        /// What is to be installed.
        closure: ClosureSummary,
        /// What is done with what is on the disks.
        #[serde(default, skip_serializing_if = "Mode::is_default")]
        mode: Mode,
        /// How.
        #[serde(default)]
        options: InstallOptions,
        /// The secrets that the layout asks for; all of them again to go on with an interrupted installation.
        #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "crate::secret::list")]
        secrets: Vec<GivenSecret>,
    },
    /// Which of these does the target store have already? Legal while the target is mounted.
    QueryValid {
        /// At most [`crate::frame::PATHS_PER_QUERY`].
        #[serde(with = "absolute_list")]
        paths: Vec<StorePath>,
    },
    /// Fetch what binary caches have of these; the rest is sent. Legal while the target is mounted, and answered when all
    /// caches have been asked. Not without the feature [`SUBSTITUTE`].
    Substitute {
        /// References first, [`crate::frame::PATHS_PER_QUERY`] at most.
        #[serde(with = "absolute_list")]
        paths: Vec<StorePath>,
        /// URLs of caches, the first that has a path is taken.
        substituters: Vec<String>,
        /// Keys whose signatures count, each `name:base64`, beside those of the card's nix.conf.
        #[serde(default, rename = "public-keys", skip_serializing_if = "Vec::is_empty")]
        public_keys: Vec<String>,
    },
    /// Send me the events from this number on, and all that follow. Legal always.
    Follow {
        /// The first event number wanted; 0 for all that are still kept.
        #[serde(default)]
        from: u64,
    },
    /// Stop the installation, unmount and export. Legal while installing.
    Abort,
    /// Reboot the Pi. Legal unless installing, or with force.
    Reboot {
        /// Whatever goes on, and by the kernel alone if nothing else does it. An agent that does not know this reboots as
        /// without.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
    },
    /// Which disks are there, and what is on them? Legal always.
    Disks,
    /// A piece of the archive of extra files for the `install` that follows on this connection. The first piece of another
    /// archive, or the end of the connection before that, makes the agent forget the earlier one. Legal unless installing;
    /// not without the feature [`EXTRA_FILES`].
    ExtraFiles {
        /// Of which archive, as in [`ExtraFiles::id`].
        id: u64,
        /// Where the piece begins, bytes; each comes right behind the one before.
        at: u64,
        /// How long the archive is, bytes; [`crate::extra::MAX_BYTES`] at most.
        total: u64,
        /// The piece, [`crate::extra::MAX_PIECE`] at most, and not empty.
        #[serde(deserialize_with = "crate::extra::piece")]
        bytes: Secret,
    },
}

impl Request {
    /// The `type` of every request this build knows, to tell an unknown one from a malformed one.
    pub const TYPES: &'static [&'static str] = &[
        "status",
        "plan",
        "install",
        "query-valid",
        "substitute",
        "follow",
        "abort",
        "reboot",
        "disks",
        "extra-files",
    ];

    /// Parses one line, telling an unknown request from a malformed one.
    pub fn parse(line: &[u8]) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct Typed {
            r#type: String,
        }
        let malformed = |e: serde_json::Error| {
            Fault::new(
                FaultCode::BadRequest,
                format!("The request is malformed: {e}."),
                "The client is not cygnet, or of another version.",
                "Use the cygnet that belongs to this agent; `cygnet --version` and `cygnetd --version` tell.",
            )
        };
        let Typed { r#type } = crate::frame::parse(line).map_err(malformed)?;
        if !Self::TYPES.contains(&r#type.as_str()) {
            return Err(Fault::new(
                FaultCode::BadRequest,
                format!("This agent knows no request {type:?}."),
                "The client is newer than the agent.",
                "Flash the card with a current bootstrap image, or use an older cygnet.",
            ));
        }
        crate::frame::parse(line).map_err(malformed)
    }
}

/// Agent to client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Reply {
    /// Answer to `status`.
    Status(Box<Status>),
    /// Answer to `plan`.
    Plan {
        /// The plan, its digest included.
        plan: Box<Plan>,
        /// The secrets that the layout asks for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        secrets: Vec<Wanted>,
        /// How the new system will be started, and what that asks for, for a person.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        boot: Option<String>,
    },
    /// Answer to `install`, `extra-files`, `follow`, `abort` and `reboot`.
    Accepted {
        /// True if `install` goes on with an installation that was there already.
        #[serde(default)]
        resumed: bool,
    },
    /// Answer to `disks`.
    Disks(DiskList),
    /// Answer to `query-valid`.
    Valid {
        /// Those that need not be sent.
        #[serde(with = "absolute_list")]
        paths: Vec<StorePath>,
        /// Those of which a part is there.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        parts: Vec<Part>,
        /// There is no store path at all yet: nothing else need be asked.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        empty: bool,
        /// Store paths that were copied from the card so far.
        #[serde(default, skip_serializing_if = "is_zero")]
        card_paths: u64,
        /// Their NAR sizes, bytes.
        #[serde(default, skip_serializing_if = "is_zero")]
        card_bytes: u64,
        /// Paths on the card that others may be made of, the most alike first; [`MAX_KIN`] at most.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kin: Vec<Kin>,
    },
    /// Answer to `substitute`.
    Substituted {
        /// Those of the paths that are there now, and need not be sent.
        #[serde(with = "absolute_list")]
        paths: Vec<StorePath>,
        /// How many of them came from a cache.
        fetched: u64,
        /// Sum of their NAR sizes, bytes.
        #[serde(rename = "nar-bytes")]
        nar_bytes: u64,
        /// What was fetched for that, bytes, without the records of the caches.
        #[serde(rename = "wire-bytes")]
        wire_bytes: u64,
    },
    /// Something happened; comes only after `follow`.
    Event(Event),
    /// The request was refused, or failed.
    Error(Fault),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Who the agent is and what it is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// Version of cygnetd.
    pub version: String,
    /// Host name of the Pi.
    pub host_name: String,
    /// What the device tree calls the board: `Raspberry Pi 4 Model B Rev 1.5`.
    pub board: String,
    /// The board's serial number, or the machine id where it has none.
    pub serial: String,
    /// What Nix calls this platform: `aarch64-linux`.
    pub system: String,
    /// What the agent is doing.
    pub state: State,
    /// The installation it works on or last worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobStatus>,
    /// The disk the Pi runs from: `/dev/mmcblk0`.
    pub running_disk: Option<String>,
    /// Time since boot, seconds.
    pub uptime_seconds: u64,
    /// Memory of the machine, bytes.
    pub memory_total: u64,
    /// Memory that is still available, bytes.
    pub memory_available: u64,
    /// The most memory the agent has used so far (VmHWM of proc_pid_status(5)), bytes.
    pub agent_peak_memory: u64,
    /// Fingerprints of the ssh host keys, as `ssh-keygen -l` prints them.
    #[serde(default)]
    pub host_keys: Vec<String>,
    /// Addresses, without loopback.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The way online, link by link; none before the agent has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkReport>,
    /// Whose card it is, as its settings say; no permission follows from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// The host that the card's settings say is to be installed: the name of a configuration in a flake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(oldest: u32, protocol: u32) -> Hello {
        Hello { protocol, oldest, features: vec![], program: "x 1".into() }
    }

    #[test]
    fn both_ends_agree_on_the_newest_common_protocol() {
        assert_eq!(hello(1, 3).agree(&hello(2, 5)), Ok(3));
        assert_eq!(hello(1, 3).agree(&hello(1, 1)), Ok(1));
        assert_eq!(hello(1, 3).agree(&hello(4, 5)).unwrap_err().code, FaultCode::AgentTooNew);
        assert_eq!(hello(3, 4).agree(&hello(1, 2)).unwrap_err().code, FaultCode::AgentTooOld);
    }

    #[test]
    fn an_unknown_request_is_not_called_malformed() {
        let unknown = Request::parse(br#"{"type":"levitate"}"#).unwrap_err();
        assert!(unknown.what.contains("levitate"), "{unknown}");
        let malformed = Request::parse(br#"{"type":"plan"}"#).unwrap_err();
        assert!(malformed.what.contains("disko"), "{malformed}");
        assert!(Request::parse(b"[]").is_err());
        assert!(Request::parse(b"").is_err());
    }
}
