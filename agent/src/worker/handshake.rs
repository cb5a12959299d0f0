//! The beginning: both ends say magic numbers and the protocol they speak, and we say who we are.
//!
//! libstore/worker-protocol-connection.cc, `BasicServerConnection::handshake` and `postHandshake`.

use super::wire::{Input, Output};
use super::{Result, Trouble, garbage};
use cygnet_protocol::fault::{Fault, FaultCode};
use std::io::{Read, Write};

const CLIENT_MAGIC: u64 = 0x6e69_7863;
const SERVER_MAGIC: u64 = 0x6478_696f;

/// The newest protocol we speak: from 1.38 on, features would have to be agreed upon.
const NEWEST: Version = Version { major: 1, minor: 37 };
/// The oldest: before it, store paths come without frames, and errors have another form. Nix 2.4 has 1.32.
const OLDEST: Version = Version { major: 1, minor: 26 };

/// What is agreed upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Always 1.
    pub major: u64,
    /// What has been added.
    pub minor: u64,
}

impl Version {
    const fn number(self) -> u64 {
        self.major << 8 | self.minor
    }

    const fn of(number: u64) -> Self {
        Self { major: number >> 8, minor: number & 0xff }
    }
}

/// Whether the client is trusted, as far as Nix asks: that is decided for each path, not for the client.
const TRUST_IS_NOT_TOLD: u64 = 0;

/// Greets; afterwards operations come.
pub fn greet(input: &mut Input<impl Read>, output: &mut Output<impl Write>) -> Result<Version> {
    if input.number()? != CLIENT_MAGIC {
        return Err(garbage("it does not begin as Nix does"));
    }
    output.number(SERVER_MAGIC)?;
    output.number(NEWEST.number())?;
    output.flush()?;
    let theirs = Version::of(input.number()?);
    let version = theirs.min(NEWEST);
    if theirs.major != NEWEST.major || version < OLDEST {
        let fault = Fault::new(
            FaultCode::AgentTooNew,
            format!(
                "The Nix client speaks version {}.{} of its protocol, which is not spoken here.",
                theirs.major, theirs.minor
            ),
            "It is Nix 2.3 or older, or one that is not known yet.",
            "Use Nix 2.4 or newer, or `cygnet push HOST …`.",
        );
        // Clients that old go on reading here, and know errors in their old form only.
        output.old_error(&fault)?;
        output.flush()?;
        return Err(Trouble::Lost(Box::new(fault)));
    }
    // Which processor the daemon should keep to, and how much space it should reserve: long obsolete.
    if input.truth()? {
        input.number()?;
    }
    input.number()?;
    if version.minor >= 33 {
        output.text(concat!("cygnetd ", env!("CARGO_PKG_VERSION")))?;
    }
    if version.minor >= 35 {
        output.number(TRUST_IS_NOT_TOLD)?;
    }
    output.last()?;
    output.flush()?;
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeted(numbers: &[u64]) -> (Result<Version>, Vec<u64>) {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let mut said = Vec::new();
        let version = greet(&mut Input::new(&bytes[..]), &mut Output::new(&mut said));
        (version, said.chunks(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap())).collect())
    }

    #[test]
    fn the_older_of_two_versions_is_spoken() {
        let (version, said) = greeted(&[CLIENT_MAGIC, 0x126, 0, 0]);
        assert_eq!(version.unwrap(), NEWEST);
        // Magic, version, 13 bytes of name in 3 words, trust, the end.
        assert_eq!((said[0], said[1], said[2], said[5], said[6]), (SERVER_MAGIC, 0x125, 13, 0, 0x616c_7473));
        let (version, said) = greeted(&[CLIENT_MAGIC, 0x122, 1, 7, 0]);
        assert_eq!((version.unwrap().minor, said.len()), (34, 6));
    }

    #[test]
    fn others_are_told_or_left() {
        assert!(matches!(greeted(&[0x6e69_7864]).0, Err(Trouble::Lost(_))));
        assert!(matches!(greeted(&[CLIENT_MAGIC]).0, Err(Trouble::Gone(_))));
        for odd in [0x115, 0x119, 0x225, 0, u64::MAX, 1 << 63] {
            let (version, said) = greeted(&[CLIENT_MAGIC, odd, 0, 0]);
            assert!(matches!(version, Err(Trouble::Lost(_))), "{odd:#x}");
            assert_eq!(said[2], 0x6378_7470, "{odd:#x}");
        }
    }
}
