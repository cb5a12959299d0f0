//! What went wrong, in the three parts a person needs: what happened, the likely cause, what to do.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An error as it crosses the wire and as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fault {
    /// Stable machine-readable kind; scripts match on this and on the exit code it maps to.
    pub code: FaultCode,
    /// What happened, one sentence.
    pub what: String,
    /// The likely cause, one sentence.
    pub cause: String,
    /// What the person can do about it.
    pub remedy: String,
}

impl Fault {
    /// Builds a fault from its three parts.
    pub fn new(code: FaultCode, what: impl Into<String>, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, what: what.into(), cause: cause.into(), remedy: remedy.into() }
    }

    /// A defect of cygnet itself or of the machine, where no better code fits.
    pub fn internal(what: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self::new(
            FaultCode::Internal,
            what,
            cause.to_string(),
            "Look at the agent's log with `cygnet logs HOST`; if it makes no sense there either, report it.",
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  cause:  {}\n  remedy: {}", self.what, self.cause, self.remedy)
    }
}

impl std::error::Error for Fault {}

/// As faults are written: a capital, unless a path comes first, and a full stop.
#[must_use]
pub fn sentence(text: &str) -> String {
    let first = text.split(' ').next().unwrap_or_default();
    let word = first.chars().all(|c| c.is_ascii_alphabetic() || c == ',');
    let mut rest = text.chars();
    let start: String = match rest.next() {
        Some(first) if word => first.to_uppercase().collect(),
        first => first.into_iter().collect(),
    };
    format!("{start}{}.", rest.as_str().trim_end_matches('.'))
}

macro_rules! fault_codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $exit:literal;)+) => {
        /// Every kind of failure, each with its own process exit code.
        ///
        /// The kebab-case names and the numbers are an interface: they never change meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum FaultCode {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
            /// A code this program does not know: the other end is newer.
            #[serde(other, rename = "unknown")] Unknown,
        }

        impl FaultCode {
            /// All codes, in the order of their exit codes, for the documentation and the tests.
            pub const ALL: &'static [FaultCode] = &[$(FaultCode::$variant),+];

            /// The stable name, as in JSON.
            pub const fn name(self) -> &'static str {
                match self { $(FaultCode::$variant => $name,)+ FaultCode::Unknown => "unknown" }
            }

            /// The exit code of `cygnet` for this failure.
            pub const fn exit_code(self) -> u8 {
                match self { $(FaultCode::$variant => $exit,)+ FaultCode::Unknown => 1 }
            }

            /// One sentence for the manual.
            pub const fn summary(self) -> &'static str {
                match self { $(FaultCode::$variant => concat!($($doc),+),)+ FaultCode::Unknown => "" }
            }
        }
    };
}

fault_codes! {
    /// A defect of cygnet, or a failure of the machine that has no code of its own.
    Internal = "internal", 1;
    /// The request makes no sense as written.
    BadRequest = "bad-request", 3;
    /// The closure is for another architecture than the Pi's.
    WrongArchitecture = "wrong-architecture", 10;
    /// A store path of the closure is not in the host's Nix database.
    PathMissing = "path-missing", 11;
    /// The closure has no toplevel that can be installed.
    BadClosure = "bad-closure", 12;
    /// The disko layout is truncated, malformed or not supported.
    BadLayout = "bad-layout", 13;
    /// The target disk is too small for the layout or for the closure, or the card for the image.
    DiskTooSmall = "disk-too-small", 14;
    /// The target is the disk that the Pi runs from.
    RunningDisk = "running-disk", 15;
    /// No disk on the Pi has the device path that the layout names.
    UnknownDisk = "unknown-disk", 16;
    /// The target disk is mounted, swapped to, held by something, or read-only.
    DiskBusy = "disk-busy", 17;
    /// The digest belongs to no plan that the agent has shown.
    WrongDigest = "wrong-digest", 18;
    /// A disk changed between the plan and the installation.
    DiskChanged = "disk-changed", 19;
    /// ssh could not reach the host, or was refused.
    Unreachable = "unreachable", 20;
    /// The host's ssh key is not the one that is known for it.
    HostKeyChanged = "host-key-changed", 21;
    /// ssh reached the host, but it accepts none of our keys.
    AccessDenied = "access-denied", 22;
    /// ssh works, but no cygnet agent answers behind it.
    NoAgent = "no-agent", 23;
    /// The agent speaks only a newer protocol than this program.
    AgentTooNew = "agent-too-new", 24;
    /// The agent speaks only an older protocol than this program accepts.
    AgentTooOld = "agent-too-old", 25;
    /// The connection to the agent was lost; the agent goes on by itself.
    ConnectionLost = "connection-lost", 26;
    /// No Pi announced itself.
    NotFound = "not-found", 27;
    /// The request is not legal in the agent's present state.
    NotNow = "not-now", 28;
    /// The person said no.
    Declined = "declined", 29;
    /// A NAR's hash or size is not what the closure says.
    HashMismatch = "hash-mismatch", 30;
    /// The target file system is full.
    DiskFull = "disk-full", 31;
    /// A step of the plan failed.
    StepFailed = "step-failed", 32;
    /// The new system's activation failed.
    ActivationFailed = "activation-failed", 33;
    /// The new system's boot loader could not be installed.
    BootloaderFailed = "bootloader-failed", 34;
    /// The disk would not boot: the firmware would not find its partition, or a file that it needs is missing or cut short.
    NotBootable = "not-bootable", 35;
    /// A pool could not be exported, or not be imported again.
    ExportFailed = "export-failed", 36;
    /// The installation was aborted on request.
    Aborted = "aborted", 37;
    /// The installed system did not answer as expected after the reboot.
    NotVerified = "not-verified", 38;
    /// Nix on the host failed to build, evaluate or read something.
    NixFailed = "nix-failed", 39;
    /// Bytes on a channel are not what the protocol allows.
    Garbage = "garbage", 40;
    /// A passphrase or key that the layout asks for is missing or cannot be right, or one was given that it does not ask for.
    BadSecret = "bad-secret", 44;
    /// An extra file cannot be laid over the new system, or the extra files are too many, too large, or not there.
    BadExtraFiles = "bad-extra-files", 45;
    /// The plan would destroy something, and `--keep-data` forbids that.
    WouldDestroy = "would-destroy", 46;
    /// The system and the layout do not fit together: the system would not find its disks, or could not read them.
    Mismatch = "mismatch", 47;
    /// A store path has no signature of a key that is trusted, or its content address is not its own.
    Untrusted = "untrusted", 48;
    /// A store path could not be made of the one on the card that it was sent as a patch against.
    BadBase = "bad-base", 49;
    /// The card cannot pass on to the SSD by itself, or its switch cannot be read or written.
    NoSwitch = "no-switch", 50;
    /// The card runs again: the new system's trial failed, or a confirmed one did not start any more.
    TrialFailed = "trial-failed", 51;
    /// The new system is there and right, but it could not be confirmed: the Pi goes back to its card.
    NotConfirmed = "not-confirmed", 52;
    /// The plan has hooks, and the key by which one is connected may not run any.
    HooksRefused = "hooks-refused", 55;
    /// The card or image has no FAT partition that could be used.
    BadCard = "bad-card", 60;
    /// Settings for the card are not as they should be, or would be written over.
    BadSettings = "bad-settings", 61;
    /// The image is cut off, damaged, or no image of a card.
    BadImage = "bad-image", 62;
    /// The card has not what was written to it.
    NotWritten = "not-written", 63;
    /// The disk is one that this machine needs, or is none that can be taken out.
    NotACard = "not-a-card", 64;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_has_its_own_name_and_exit_code() {
        let names: BTreeSet<_> = FaultCode::ALL.iter().map(|c| c.name()).collect();
        let exits: BTreeSet<_> = FaultCode::ALL.iter().map(|c| c.exit_code()).collect();
        assert_eq!(names.len(), FaultCode::ALL.len());
        assert_eq!(exits.len(), FaultCode::ALL.len());
        // 0 is success, 2 is clap's usage error, 126 and up belong to the shell.
        assert!(exits.iter().all(|e| *e != 0 && *e != 2 && *e < 126));
    }

    #[test]
    fn a_code_from_the_future_is_read_as_unknown() {
        let code: FaultCode = serde_json::from_str("\"quantum-decoherence\"").unwrap();
        assert_eq!(code, FaultCode::Unknown);
    }
}
