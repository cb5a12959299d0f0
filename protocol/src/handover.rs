//! What `cygnetd bridge` tells the daemon on its unix socket, beside the two file descriptors.

use serde::{Deserialize, Serialize};

/// Where the daemon listens (root, 0600).
pub const SOCKET: &str = "/run/cygnet/agent.sock";

/// What the connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// JSON lines, [`crate::message`].
    Control,
    /// Store paths, [`crate::stream`].
    Data,
    /// Nix's worker protocol, for Nix's own tools.
    NixDaemon,
}

/// One JSON line; the descriptors of stdin and stdout come with it (SCM_RIGHTS of unix(7)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "handover", rename_all = "kebab-case")]
pub struct Handover {
    /// What the connection is for.
    pub mode: Mode,
    /// Who it is, for the log: `SSH_CONNECTION` of ssh(1), empty if there is none.
    pub peer: String,
    /// Plans with hooks are refused on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_hooks: bool,
}
