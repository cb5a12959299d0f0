//! `cygnetd`: the agent on the card. It takes a closure and a layout from `cygnet` and installs NixOS on the SSD.
//!
//! Read [`daemon`] for how it lives, [`control`] for how it is spoken to, [`agent`] for what it answers, [`rules`] for
//! what it allows when, and [`install`] for what it does: the phases in their order.

mod agent;
mod announce;
mod bridge;
mod console;
mod control;
mod daemon;
mod enter;
mod events;
mod identity;
mod inspect;
mod install;
mod journal;
mod led;
mod online;
mod report;
mod rules;
mod run;
mod secrets;
mod store;

use lexopt::Arg;
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
cygnetd: installs NixOS on the SSD of this machine, on behalf of `cygnet` on another one

Usage:
  cygnetd daemon [--socket PATH] [--state DIR] [--target DIR]   the agent; systemd starts it
  cygnetd bridge [--socket PATH] [control|data]                 what sshd runs for `cygnet`
  cygnetd --version
  cygnetd --help

`bridge` without a channel takes it from SSH_ORIGINAL_COMMAND, so that it can be a forced command
in authorized_keys(5):
  restrict,command=\"cygnetd bridge\" ssh-ed25519 AAAA… you@laptop

Files:
  /run/cygnet/agent.sock          where the daemon listens, for root only
  /var/lib/cygnet/journal.jsonl   what of the present installation is done
";

fn main() -> ExitCode {
    match parse(lexopt::Parser::from_env()) {
        Ok(Call::Help) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Call::Version) => {
            println!("cygnetd {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(Call::Daemon { socket, state, target }) => {
            let secrets = socket.with_file_name("secrets");
            daemon::run(&socket, agent::Places { state, target, secrets })
        }
        Ok(Call::Bridge { socket, channel }) => {
            let original = std::env::var("SSH_ORIGINAL_COMMAND").ok();
            match bridge::mode(channel.as_deref(), original.as_deref()) {
                Ok(mode) => bridge::run(&socket, mode),
                Err(text) => usage(&text),
            }
        }
        Ok(Call::Enter { root }) => enter::run(&root),
        Err(error) => usage(&error.to_string()),
    }
}

fn usage(text: &str) -> ExitCode {
    eprintln!("cygnetd: {text}\nTry `cygnetd --help`.");
    ExitCode::from(2)
}

#[derive(Debug, PartialEq)]
enum Call {
    Help,
    Version,
    Daemon {
        socket: PathBuf,
        state: PathBuf,
        target: PathBuf,
    },
    Bridge {
        socket: PathBuf,
        channel: Option<String>,
    },
    /// Internal: the inside of the target's namespaces.
    Enter {
        root: PathBuf,
    },
}

fn parse(mut parser: lexopt::Parser) -> Result<Call, lexopt::Error> {
    let mut command = None;
    let mut words = Vec::new();
    let mut socket = PathBuf::from(cygnet_protocol::handover::SOCKET);
    let mut state = PathBuf::from("/var/lib/cygnet");
    let mut target = PathBuf::from("/mnt");
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(Call::Help),
            Arg::Long("version") | Arg::Short('V') => return Ok(Call::Version),
            Arg::Long("socket") => socket = parser.value()?.into(),
            Arg::Long("state") => state = parser.value()?.into(),
            Arg::Long("target") => target = parser.value()?.into(),
            Arg::Value(word) if command.is_none() => command = Some(word.to_string_lossy().into_owned()),
            Arg::Value(word) if words.is_empty() => words.push(word),
            other => return Err(other.unexpected()),
        }
    }
    let word = words.pop();
    match command.as_deref() {
        Some("daemon") if word.is_none() => Ok(Call::Daemon { socket, state, target }),
        Some("bridge") => Ok(Call::Bridge { socket, channel: word.map(|w| w.to_string_lossy().into_owned()) }),
        Some("enter") => {
            word.map(|root| Call::Enter { root: root.into() }).ok_or_else(|| "enter needs a directory".into())
        }
        Some(other) => Err(format!("no command called {other:?}, or too many arguments for it").into()),
        None => Err("what shall it be? There are daemon and bridge".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(words: &[&str]) -> Result<Call, String> {
        parse(lexopt::Parser::from_args(words)).map_err(|e| e.to_string())
    }

    #[test]
    fn the_command_line_is_strict() {
        assert_eq!(call(&["--version"]), Ok(Call::Version));
        assert!(matches!(call(&["bridge", "data"]), Ok(Call::Bridge { channel: Some(c), .. }) if c == "data"));
        for bad in [&["fly"][..], &[], &["daemon", "now"], &["daemon", "--frob"], &["bridge", "a", "b"], &["enter"]] {
            assert!(call(bad).is_err(), "{bad:?}");
        }
    }
}
