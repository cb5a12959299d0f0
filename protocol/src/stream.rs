//! The data channel: store paths, back to back, on an ssh channel of their own.
//!
//! 1. The client sends one plain JSON line, [`DataHello`].
//! 2. From there on its bytes are concatenated zstd frames (RFC 8878) with windows of [`MAX_WINDOW`] at most. Unpacked
//!    they are [`Record`]s, one JSON line each; the NAR follows its `nar` record at once, `nar-size` bytes long.
//! 3. After `end` the agent answers with one plain JSON line, [`DataReply`]; on a failure it does so at once.
//!
//! References come before the paths that refer to them, so what was received is a valid store at any time.

use crate::fault::Fault;
use crate::store::PathInfo;
use serde::{Deserialize, Serialize};

/// The largest zstd window the agent accepts, bytes. It is the largest part of its memory while receiving.
pub const MAX_WINDOW: u64 = 8 * 1024 * 1024;

/// The first line of the data channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "data", rename_all = "kebab-case")]
pub struct DataHello {
    /// The protocol agreed on the control channel.
    pub protocol: u32,
    /// `zstd`.
    pub compression: String,
}

/// What the unpacked stream consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
// One exists at a time, and nearly all are the large one.
#[expect(clippy::large_enum_variant)]
pub enum Record {
    /// A store path; its NAR follows.
    Nar(PathInfo),
    /// That was all.
    End {
        /// How many `nar` records came before, to tell a cut stream from a complete one.
        paths: u64,
    },
}

/// The agent's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum DataReply {
    /// Everything is in the target store, verified and on the disk.
    Received {
        /// Number of store paths.
        paths: u64,
        /// Sum of their NAR sizes, bytes.
        nar_bytes: u64,
    },
    /// The first failure. What came before it is in the store.
    Error(Fault),
}
