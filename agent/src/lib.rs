//! `cygnetd`: the agent on the card. It takes a closure and a layout from `cygnet` and installs NixOS on the SSD.
//!
//! Read [`daemon`] for how it lives, [`control`] for how it is spoken to, [`agent`] for what it answers, [`rules`] for
//! what it allows when, and [`install`] for what it does: the phases in their order.
//!
//! This is a library only so that the fuzz targets can call what reads bytes from outside (`fuzzing`, which
//! is only there for them and for tests); the program is [`main`].

// stdout and stderr are reached through `say`, which does not panic when they are gone.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod agent;
mod announce;
mod boot;
mod bridge;
mod card;
mod carried;
mod console;
mod control;
mod daemon;
mod enter;
mod events;
mod extra;
mod firmware;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod inspect;
mod install;
mod journal;
mod led;
mod online;
mod ram;
mod reboot;
mod report;
mod rules;
mod run;
mod say;
mod secrets;
mod store;
mod substitute;
mod visitors;
mod worker;

use daemon::Purpose;
use lexopt::Arg;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const HELP: &str = "\
cygnetd: installs NixOS on the SSD of this machine, on behalf of `cygnet` on another one

Usage:
  cygnetd daemon [--socket PATH] [--state DIR] [--target DIR]   the agent; systemd starts it
  cygnetd daemon --receive-only …                               only takes store paths into DIR/nix/store
                 --card DIR …                                   takes those from DIR/nix/store that are there (/)
  cygnetd card [--state DIR] [--card DIR] [--firmware DIR]      takes the settings on the FAT partition, once;
                                                                systemd runs it before sshd and the network
  cygnetd bridge [--socket PATH] [--no-hooks] [control|data]    what sshd runs for `cygnet`
  cygnetd bridge [--socket PATH] nix-daemon [--stdio]           … and for Nix: nix copy --to
                            'ssh-ng://root@HOST?remote-program=cygnetd%20bridge%20nix-daemon'
  cygnetd announce --installed [--for 10m] [--toplevel LINK]    says for so long that this system is installed
  cygnetd carried --as WHO --into PATH [--from FILE] [--owner USER]
                                                                writes down the networks it was installed by
  cygnetd switch [card|ssd|trial] [--reboot]                    shows or sets what the card starts next
  cygnetd menu [LABEL DIGEST]                                   shows the menu of the SSD's U-Boot, or has another entry start
  cygnetd confirm                                               ends the trial of this system well: it starts from now on
  cygnetd trial [--deadline 10m] [--confirm-after 5m] [--boot DIR] [--emergency]
                                                                reboots this system if nobody confirms it in time
  cygnetd --version
  cygnetd --help

WHO is wpa_supplicant (PATH is a file), iwd or networkmanager (PATH is their directory of networks).
`bridge` without a channel takes it from SSH_ORIGINAL_COMMAND, so that it can be a forced command
in authorized_keys(5):
  restrict,command=\"cygnetd bridge\" ssh-ed25519 AAAA… you@laptop
Whoever has such a key is root: layouts may have hooks, which run here as root, and an installed system does, too.
With --no-hooks plans with hooks are refused; the disks and the new system are in that key's hands all the same.

Files:
  /run/cygnet/agent.sock          where the daemon listens, for root only
  /var/lib/cygnet/journal.jsonl   what of the present installation is done
  /var/lib/cygnet/received.jsonl  what came with --receive-only
  /var/lib/cygnet/card.json       networks that were given on the FAT partition
  /var/lib/cygnet/ssh/authorized_keys  who may log in by what was given there
  /var/lib/cygnet/trial.log       what the system whose trial failed has left on the SSD's FAT partition
  cygnet/boot, uboot.env          on the card's FAT partition: what starts next, and the U-Boot environment that obeys it
  /var/lib/cygnet/carried.json    on the installed system: networks and country that `cygnet install` left
";

/// The program: does what its command line says.
#[must_use]
pub fn main() -> ExitCode {
    match parse(lexopt::Parser::from_env()) {
        Ok(Call::Help) => {
            say::out(HELP);
            ExitCode::SUCCESS
        }
        Ok(Call::Version) => {
            say::out(concat!("cygnetd ", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        Ok(Call::Daemon { socket, state, target, card, purpose }) => {
            let secrets = socket.with_file_name("secrets");
            daemon::run(&socket, agent::Places { state, target, card, secrets }, purpose)
        }
        Ok(Call::Bridge { socket, channel, no_hooks }) => {
            let original = std::env::var("SSH_ORIGINAL_COMMAND").ok();
            match bridge::mode(channel.as_deref(), original.as_deref()) {
                Ok(mode) => bridge::run(&socket, mode, no_hooks),
                Err(text) => usage(&text),
            }
        }
        Ok(Call::Card(places)) => card::run(&places),
        Ok(Call::Enter { root }) => enter::run(&root),
        Ok(Call::Announce { toplevel, patience }) => announce::installed::run(&toplevel, patience),
        Ok(Call::Switch { wish, reboot }) => boot::command::run(wish, reboot),
        Ok(Call::Confirm) => boot::confirm::run(),
        Ok(Call::Menu(wish)) => boot::menu::run(&wish),
        Ok(Call::Trial(options)) => boot::trial::run(&options),
        Ok(Call::Carried { from, by, into, owner }) => carried::run(&from, by, &into, owner.as_deref()),
        Err(error) => usage(&error.to_string()),
    }
}

fn usage(text: &str) -> ExitCode {
    say::err(&format!("cygnetd: {text}\nTry `cygnetd --help`."));
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
        card: PathBuf,
        purpose: Purpose,
    },
    Bridge {
        socket: PathBuf,
        channel: Option<String>,
        no_hooks: bool,
    },
    /// The settings on the FAT partition.
    Card(card::Places),
    /// Internal: the inside of the target's namespaces.
    Enter {
        root: PathBuf,
    },
    Announce {
        toplevel: PathBuf,
        patience: Duration,
    },
    Carried {
        from: PathBuf,
        by: carried::Reader,
        into: PathBuf,
        owner: Option<String>,
    },
    /// What the card starts next.
    Switch {
        wish: boot::command::Wish,
        reboot: bool,
    },
    Confirm,
    Trial(boot::trial::Options),
    Menu(boot::menu::Wish),
}

fn parse(mut parser: lexopt::Parser) -> Result<Call, lexopt::Error> {
    let mut command = None;
    let mut words = Vec::new();
    let mut socket = PathBuf::from(cygnet_protocol::handover::SOCKET);
    let mut state = PathBuf::from("/var/lib/cygnet");
    let mut target = PathBuf::from("/mnt");
    let mut card = PathBuf::from("/");
    let mut purpose = Purpose::Install;
    let mut firmware = None;
    let mut no_hooks = false;
    let mut installed = Installed::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(Call::Help),
            Arg::Long("version") | Arg::Short('V') => return Ok(Call::Version),
            Arg::Long("socket") => socket = parser.value()?.into(),
            Arg::Long("state") => state = parser.value()?.into(),
            Arg::Long("target") => target = parser.value()?.into(),
            Arg::Long("card") => card = parser.value()?.into(),
            Arg::Long("firmware") if command.as_deref() == Some("card") => firmware = Some(parser.value()?.into()),
            Arg::Long("receive-only") => purpose = Purpose::ReceiveOnly,
            Arg::Long(option) if installed.takes(command.as_deref(), option) => {
                let option = option.to_owned();
                installed.read(&option, &mut parser)?;
            }
            // Nix says so behind whatever it runs; it is what the bridge does anyway.
            Arg::Long("stdio") if command.as_deref() == Some("bridge") => {}
            Arg::Long("no-hooks") if command.as_deref() == Some("bridge") => no_hooks = true,
            Arg::Value(word) if command.is_none() => command = Some(word.to_string_lossy().into_owned()),
            Arg::Value(word) if words.is_empty() => words.push(word),
            Arg::Value(word) if command.as_deref() == Some("menu") && words.len() < 2 => words.push(word),
            other => return Err(other.unexpected()),
        }
    }
    if command.as_deref() == Some("menu") {
        return menu(&words);
    }
    let word = words.pop();
    match command.as_deref() {
        Some("announce") if word.is_none() => installed.announce(),
        Some("carried") if word.is_none() => installed.carried(),
        Some("confirm") if word.is_none() => Ok(Call::Confirm),
        Some("trial") if word.is_none() => Ok(Call::Trial(installed.trial())),
        Some("switch") => {
            let wish = word.map(|word| word.to_string_lossy().parse()).transpose()?;
            Ok(Call::Switch { wish: wish.unwrap_or(boot::command::Wish::Show), reboot: installed.reboot })
        }
        Some("daemon") if word.is_none() => Ok(Call::Daemon { socket, state, target, card, purpose }),
        Some("card") if word.is_none() => Ok(Call::Card(card::Places { state, root: card, firmware })),
        Some("bridge") => {
            Ok(Call::Bridge { socket, channel: word.map(|w| w.to_string_lossy().into_owned()), no_hooks })
        }
        Some("enter") => {
            word.map(|root| Call::Enter { root: root.into() }).ok_or_else(|| "enter needs a directory".into())
        }
        Some(other) => Err(format!("no command called {other:?}, or too many arguments for it").into()),
        None => Err("what shall it be? There are daemon, card and bridge".into()),
    }
}

fn menu(words: &[std::ffi::OsString]) -> Result<Call, lexopt::Error> {
    let text = |word: &std::ffi::OsString| word.to_string_lossy().into_owned();
    match words {
        [] => Ok(Call::Menu(boot::menu::Wish::Show)),
        [label, digest] => Ok(Call::Menu(boot::menu::Wish::Default { label: text(label), digest: text(digest) })),
        _ => Err("menu takes a label and the digest of the menu that it is in, or nothing".into()),
    }
}

/// The options of what the installed system runs.
#[derive(Default)]
struct Installed {
    installed: bool,
    patience: Option<Duration>,
    toplevel: Option<PathBuf>,
    from: Option<PathBuf>,
    by: Option<carried::Reader>,
    into: Option<PathBuf>,
    owner: Option<String>,
    deadline: Option<Duration>,
    confirm_after: Option<Duration>,
    boot: Option<PathBuf>,
    emergency: bool,
    reboot: bool,
}

impl Installed {
    fn takes(&self, command: Option<&str>, option: &str) -> bool {
        match command {
            Some("announce") => matches!(option, "installed" | "for" | "toplevel"),
            Some("carried") => matches!(option, "as" | "into" | "from" | "owner"),
            Some("trial") => matches!(option, "deadline" | "confirm-after" | "boot" | "emergency"),
            Some("switch") => option == "reboot",
            _ => false,
        }
    }

    fn read(&mut self, option: &str, parser: &mut lexopt::Parser) -> Result<(), lexopt::Error> {
        match option {
            "installed" => self.installed = true,
            "emergency" => self.emergency = true,
            "reboot" => self.reboot = true,
            _ => return self.read_value(option, parser),
        }
        Ok(())
    }

    fn read_value(&mut self, option: &str, parser: &mut lexopt::Parser) -> Result<(), lexopt::Error> {
        let value = parser.value()?;
        let text = value.to_string_lossy().into_owned();
        match option {
            "for" => {
                let patience = announce::installed::patience(&text);
                self.patience = Some(patience.ok_or("--for is a number and s, m or h, up to 24h: 10m")?);
            }
            "deadline" => {
                let deadline = announce::installed::patience(&text);
                self.deadline = Some(deadline.ok_or("--deadline is a number and s, m or h, up to 24h: 10m")?);
            }
            "confirm-after" => {
                let time = announce::installed::patience(&text);
                self.confirm_after = Some(time.ok_or("--confirm-after is a number and s, m or h, up to 24h: 5m")?);
            }
            "boot" => self.boot = Some(value.into()),
            "as" => self.by = Some(text.parse()?),
            "toplevel" => self.toplevel = Some(value.into()),
            "into" => self.into = Some(value.into()),
            "from" => self.from = Some(value.into()),
            _ => self.owner = Some(text),
        }
        Ok(())
    }

    fn announce(self) -> Result<Call, lexopt::Error> {
        if !self.installed {
            return Err("announce needs --installed: the agent announces itself".into());
        }
        let toplevel = self.toplevel.unwrap_or_else(|| PathBuf::from("/run/current-system"));
        Ok(Call::Announce { toplevel, patience: self.patience.unwrap_or(Duration::from_secs(600)) })
    }

    fn trial(self) -> boot::trial::Options {
        boot::trial::Options {
            deadline: self.deadline.unwrap_or(boot::trial::DEADLINE),
            confirm_after: self.confirm_after,
            emergency: self.emergency,
            boot: self.boot,
        }
    }

    fn carried(self) -> Result<Call, lexopt::Error> {
        let (Some(by), Some(into)) = (self.by, self.into) else {
            return Err("carried needs --as and --into".into());
        };
        let from = self.from.unwrap_or_else(|| PathBuf::from(carried::CARRIED));
        Ok(Call::Carried { from, by, into, owner: self.owner })
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
        assert!(
            matches!(call(&["bridge", "nix-daemon", "--stdio"]), Ok(Call::Bridge { channel: Some(c), .. }) if c == "nix-daemon")
        );
        assert!(matches!(call(&["card", "--firmware", "x"]), Ok(Call::Card(places)) if places.firmware.is_some()));
        assert!(call(&["card", "now"]).is_err() && call(&["daemon", "--firmware", "x"]).is_err());
        assert!(matches!(call(&["bridge", "--no-hooks"]), Ok(Call::Bridge { no_hooks: true, channel: None, .. })));
        assert!(call(&["daemon", "--no-hooks"]).is_err());
        assert!(call(&["daemon", "--stdio"]).is_err() && call(&["bridge", "nix-daemon", "--store", "x"]).is_err());
        let patience = Duration::from_secs(90);
        let call_of = |words: &[&str]| call(words).unwrap();
        assert!(
            matches!(call_of(&["announce", "--installed", "--for", "90s"]), Call::Announce { patience: p, .. } if p == patience)
        );
        assert!(matches!(call_of(&["carried", "--as", "iwd", "--into", "/x"]), Call::Carried { owner: None, .. }));
        assert_eq!(call(&["confirm"]), Ok(Call::Confirm));
        let deadline = |time: &str| match call_of(&["trial", "--deadline", time]) {
            Call::Trial(options) => options.deadline.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(deadline("5m"), 300);
        assert!(matches!(call_of(&["trial", "--emergency"]), Call::Trial(options) if options.emergency));
        let after = Some(Duration::from_secs(300));
        assert!(
            matches!(call_of(&["trial", "--confirm-after", "5m"]), Call::Trial(options) if options.confirm_after == after)
        );
        assert!(matches!(call_of(&["switch"]), Call::Switch { wish: boot::command::Wish::Show, reboot: false }));
        assert!(matches!(
            call_of(&["switch", "ssd", "--reboot"]),
            Call::Switch { wish: boot::command::Wish::Ssd, reboot: true }
        ));
        for bad in [
            &["switch", "usb"][..],
            &["switch", "card", "ssd"],
            &["trial", "now"],
            &["trial", "--deadline", "0m"],
            &["confirm", "it"],
            &["announce"],
            &["announce", "--installed", "--for", "ever"],
            &["daemon", "--installed"],
            &["carried", "--as", "connman", "--into", "/x"],
            &["carried", "--as", "iwd"],
        ] {
            assert!(call(bad).is_err(), "{bad:?}");
        }
        for bad in [&["fly"][..], &[], &["daemon", "now"], &["daemon", "--frob"], &["bridge", "a", "b"], &["enter"]] {
            assert!(call(bad).is_err(), "{bad:?}");
        }
    }
}
