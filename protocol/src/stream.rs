//! The data channel: store paths, back to back, on an ssh channel of their own.
//!
//! 1. The client sends one plain JSON line, [`DataHello`].
//! 2. From there on its bytes are concatenated zstd frames (RFC 8878) with windows of [`MAX_WINDOW`] at most. Unpacked
//!    they are [`Record`]s, one JSON line each; the NAR follows its `nar` record at once, `nar-size` bytes long, or, after
//!    `rest`, what of it comes after the part that the agent said it has. Where the agent has the feature
//!    [`crate::message::CODE`] and the hello says so, all archives come with their programs as [`crate::code`] makes them.
//!    Where the agent has the feature [`crate::message::PATCHES`], a `patched` record may come instead, and the frames up to
//!    the end of its NAR look back on the archive of a path on the card: before each comes a skippable frame with a [`Base`].
//! 3. After `end` the agent answers with one plain JSON line, [`DataReply`]; on a failure it does so at once.
//!
//! References come before the paths that refer to them, so what was received is a valid store at any time.

use crate::fault::Fault;
use crate::store::{PathInfo, StorePath, absolute};
use crate::trust::Trust;
use serde::{Deserialize, Serialize};

/// The largest zstd window the agent accepts, bytes. It is the largest part of its memory while receiving.
pub const MAX_WINDOW: u64 = 32 * 1024 * 1024;

/// What an agent without the feature [`crate::message::LONG_WINDOW`] accepts, bytes.
pub const SHORT_WINDOW: u64 = 8 * 1024 * 1024;

/// Of a store path whose NAR is at least so long, the agent keeps what came before a cut, bytes.
pub const RESUMABLE: u64 = 64 * 1024 * 1024;

/// The magic number of the skippable frame that a [`Base`] is in (RFC 8878, 3.1.2).
pub const BASE_MAGIC: u32 = 0x184D_2A50;

/// The longest [`Base`], bytes.
pub const MAX_BASE_LINE: u32 = 1024;

/// The most of a base that one frame looks back on, bytes.
pub const MAX_BASE: u64 = 12 * 1024 * 1024;

/// The most that one frame of a patch unpacks to, bytes. Together with [`MAX_BASE`] it is less than [`MAX_WINDOW`].
pub const MAX_PATCHED: u64 = 6 * 1024 * 1024;

/// Store paths whose NARs are shorter are not worth a patch, bytes.
pub const WORTH_A_PATCH: u64 = 16 * 1024;

/// What the next frame looks back on: the agent decodes as if these bytes came before it (zstd(1), `--patch-from`).
///
/// That the base is right is not checked; the hash of what is made of it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Base {
    /// A store path on the card.
    #[serde(with = "absolute")]
    pub base: StorePath,
    /// Where in its NAR, bytes.
    pub from: u64,
    /// How many bytes, [`MAX_BASE`] at most.
    pub length: u64,
}

/// The first line of the data channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "data", rename_all = "kebab-case")]
pub struct DataHello {
    /// The protocol agreed on the control channel.
    pub protocol: u32,
    /// `zstd`.
    pub compression: String,
    /// What the paths on this channel must satisfy beside what the installation asks for.
    #[serde(default, skip_serializing_if = "Trust::is_default")]
    pub trust: Trust,
    /// All archives are as [`crate::code`] makes them, those of bases, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub code: bool,
}

/// What the unpacked stream consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Record {
    /// A store path; its NAR follows.
    Nar(PathInfo),
    /// A store path of which the agent has the first `from` bytes of the NAR; the others follow.
    Rest {
        /// Where the NAR is gone on with, bytes; no more than the agent said.
        from: u64,
        /// The store path.
        info: PathInfo,
    },
    /// A store path, like [`Record::Rest`], but the others follow as frames that look back on another path.
    Patched {
        /// Where the NAR is gone on with, bytes; 0 for a path of which nothing is there.
        from: u64,
        /// The path on the card that they look back on.
        #[serde(with = "absolute")]
        base: StorePath,
        /// The store path.
        info: PathInfo,
    },
    /// That was all.
    End {
        /// How many `nar`, `rest` and `patched` records came before, to tell a cut stream from a complete one.
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
