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

/// What the client asked for: an argument, or, under a forced command, the last word of `SSH_ORIGINAL_COMMAND` that is no
/// option. Nix says `--stdio` behind whatever it is told to run, `nix-daemon` if it is told nothing.
pub fn mode(argument: Option<&str>, original_command: Option<&str>) -> Result<Mode, String> {
    let last = |command: &'_ str| command.split_whitespace().rfind(|word| !word.starts_with('-')).map(str::to_owned);
    let word = argument.map(str::to_owned).or_else(|| original_command.and_then(last));
    let name = word.as_deref().map(|word| word.rsplit('/').next().unwrap_or(word));
    match name {
        Some("control") => Ok(Mode::Control),
        Some("data") => Ok(Mode::Data),
        Some("nix-daemon") => Ok(Mode::NixDaemon),
        Some("nix-store") => {
            Err("cygnetd bridge: this is no ssh:// store, but an ssh-ng:// one; write ssh-ng:// and the same host"
                .into())
        }
        Some(_) => Err(format!(
            "cygnetd bridge: no channel called {:?}; there are control, data and nix-daemon",
            word.unwrap_or_default()
        )),
        None => Err("cygnetd bridge: say control, data or nix-daemon; normally `cygnet` does".into()),
    }
}

/// Hands over and waits for the daemon's end of the connection to close.
pub fn run(socket: &Path, mode: Mode, no_hooks: bool) -> ExitCode {
    match hand_over(socket, mode, no_hooks) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let fault = Fault::new(
                FaultCode::NoAgent,
                format!("The agent cannot be reached on {}: {error}.", socket.display()),
                "The cygnetd service does not run, or this user may not talk to it (it listens for root only).",
                "Log in as root and look at `systemctl status cygnetd` and `journalctl -u cygnetd`.",
            );
            crate::say::err(&format!("cygnetd bridge: {fault}"));
            match mode {
                // The client reads JSON lines; give it one it can explain.
                Mode::Control | Mode::Data => drop(frame::send(&mut io::stdout().lock(), &Reply::Error(fault))),
                // Nix reads numbers, and shows what comes on stderr.
                Mode::NixDaemon => {}
            }
            ExitCode::from(69) // EX_UNAVAILABLE of sysexits.h
        }
    }
}

fn hand_over(socket: &Path, mode: Mode, no_hooks: bool) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    let message = Handover { mode, peer: std::env::var("SSH_CONNECTION").unwrap_or_default(), no_hooks };
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

    #[test]
    fn nix_is_known_by_what_it_runs() {
        assert_eq!(mode(Some("nix-daemon"), None), Ok(Mode::NixDaemon));
        for command in ["nix-daemon --stdio", "/usr/bin/nix-daemon --stdio", "cygnetd bridge nix-daemon --stdio"] {
            assert_eq!(mode(None, Some(command)), Ok(Mode::NixDaemon), "{command}");
        }
        assert!(mode(None, Some("nix-store --serve --write")).unwrap_err().contains("ssh-ng"));
        for bad in ["nix-daemon --stdio --store local?root=/mnt", "--stdio", "nix-daemon x"] {
            assert!(mode(None, Some(bad)).is_err(), "{bad}");
        }
    }
}
