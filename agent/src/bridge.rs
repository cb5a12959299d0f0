//! `cygnetd bridge`: what sshd runs for a client. It hands its stdin and stdout to the daemon and waits.
//!
//! No byte is pumped: the daemon gets the descriptors themselves (SCM_RIGHTS, unix(7)). The bridge has to stay until
//! the daemon is done, because sshd closes the channel when the program it started ends.

use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::frame;
use cygnet_protocol::handover::{Handover, Mode};
use cygnet_protocol::message::Reply;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

/// What the client asked for: an argument, or, under a forced command, the words of `SSH_ORIGINAL_COMMAND`.
pub fn mode(argument: Option<&str>, original_command: Option<&str>) -> Result<Mode, String> {
    let word = argument.or_else(|| original_command.and_then(|command| command.split_whitespace().last()));
    match word {
        Some("control") => Ok(Mode::Control),
        Some("data") => Ok(Mode::Data),
        Some(other) => Err(format!("cygnetd bridge: no channel called {other:?}; there are control and data")),
        None => Err("cygnetd bridge: say control or data; normally `cygnet` does".into()),
    }
}

/// Hands over and waits for the daemon's end of the connection to close.
pub fn run(socket: &Path, mode: Mode) -> ExitCode {
    match hand_over(socket, mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let fault = Fault::new(
                FaultCode::NoAgent,
                format!("The agent cannot be reached on {}: {error}.", socket.display()),
                "The cygnetd service does not run, or this user may not talk to it (it listens for root only).",
                "Log in as root and look at `systemctl status cygnetd` and `journalctl -u cygnetd`.",
            );
            eprintln!("cygnetd bridge: {fault}");
            // The client reads JSON lines; give it one it can explain.
            let _ = frame::send(&mut io::stdout().lock(), &Reply::Error(fault));
            ExitCode::from(69) // EX_UNAVAILABLE of sysexits.h
        }
    }
}

fn hand_over(socket: &Path, mode: Mode) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    let message = Handover { mode, peer: std::env::var("SSH_CONNECTION").unwrap_or_default() };
    let mut line = serde_json::to_vec(&message)?;
    line.push(b'\n');
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let descriptors = [stdin.as_fd(), stdout.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for two descriptors"));
    }
    // A line this short always fits a fresh socket's buffer whole.
    sendmsg(&stream, &[IoSlice::new(&line)], &mut ancillary, SendFlags::NOSIGNAL)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forced_command_still_knows_the_channel() {
        assert_eq!(mode(Some("data"), Some("cygnetd bridge control")), Ok(Mode::Data));
        assert_eq!(mode(None, Some("cygnetd bridge control")), Ok(Mode::Control));
        assert!(mode(None, Some("rm -rf /")).is_err());
        assert!(mode(None, None).is_err());
    }
}
