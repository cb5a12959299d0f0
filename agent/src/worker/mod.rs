//! Nix's worker protocol: what `nix copy`, `nix path-info` and `nix store ping` speak to an `ssh-ng://` store, so that
//! Nix's own tools reach the target store through the same verified import as `cygnet push`.
//!
//! The story in order:
//! - [`wire`]: numbers and strings, each length checked before anything is allocated for it;
//! - [`handshake`]: magic numbers, the protocol version, who we are;
//! - [`operation`]: the numbers of the operations, and for each that is refused how its arguments are skipped;
//! - [`framed`]: a stream of store paths inside the conversation;
//! - [`info`]: what Nix says of a store path, both ways;
//! - [`intake`]: paths that come; [`known`]: paths that are there, as the journal tells;
//! - [`conversation`]: one operation after the other until the client goes.
//!
//! The protocol is that of Nix 2.8 to 2.26 (libstore/worker-protocol.hh, daemon.cc, remote-store.cc), versions 1.26 to
//! 1.37; later clients go down to that. A refusal is an answer ([`wire::Output::error`]): the conversation goes on with
//! the next operation wherever the rest of the refused one can be skipped.

mod conversation;
mod framed;
mod handshake;
mod info;
mod intake;
mod known;
mod operation;
mod wire;

pub use conversation::serve;

use cygnet_protocol::fault::{Fault, FaultCode};
use std::io;

/// Why an operation was not carried out.
#[derive(Debug)]
enum Trouble {
    /// The client is told; its request was read to its end, so that the next one can be read.
    Refused(Box<Fault>),
    /// The client is told if it still listens; nothing more can be understood of what it says.
    Lost(Box<Fault>),
    /// The other end is gone.
    Gone(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Refused(Box::new(fault))
    }
}

type Result<T> = std::result::Result<T, Trouble>;

/// The bytes are not the worker protocol, or more than is allowed: where the next request begins is not known.
fn garbage(what: impl std::fmt::Display) -> Trouble {
    Trouble::Lost(Box::new(Fault::new(
        FaultCode::Garbage,
        format!("The Nix client cannot be understood: {what}."),
        "It is not Nix, or a version with another protocol, or the bytes were damaged on the way.",
        "Use Nix 2.4 or newer, or `cygnet push HOST …`.",
    )))
}

/// A request that is understood and makes no sense.
fn bad_request(what: impl std::fmt::Display) -> Fault {
    Fault::new(
        FaultCode::BadRequest,
        format!("The Nix client asks for something that cannot be: {what}."),
        "The store path was mistyped, or the client's store is not /nix/store.",
        "Give whole paths such as `nix path-info` prints.",
    )
}

#[cfg(test)]
mod tests;
