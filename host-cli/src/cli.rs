//! What a person can say to cygnet. The help, the manual pages and the completions all come from here.

mod card;
mod image;
mod install;
mod report;

pub use card::{Card, CardCommand, Configure, Flash, Key, KeyCommand, Show, Wifi, WifiCommand};
pub use image::{Image, ImageBuild, ImageCommand, Manifest};
pub use install::{Install, Plan, Push, Source, Trusted};
pub use report::Report;

use crate::ui::format::parse_duration;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use cygnet_protocol::fault::FaultCode;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const TOP_EXAMPLES: &str = "\
EXAMPLES
  cygnet card configure /dev/sdb …        Put your network and key on a card
  cygnet discover                         Find Pis that wait to be installed
  cygnet plan pi.local --flake .#pi       See what would be done to its disks
  cygnet install pi.local --flake .#pi    Do it

What a person or a script asked for is printed on stdout, progress and errors
on stderr. `cygnet --help` lists the exit codes.";

/// The heading of the options that every command has.
const GLOBAL: &str = "Options of every command";

/// Installs NixOS on a headless Raspberry Pi, from this machine, over ssh
#[derive(Debug, Parser)]
#[command(name = "cygnet", version, max_term_width = 100, after_help = TOP_EXAMPLES, after_long_help = exit_codes())]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Print JSON on stdout, one object a line
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Print no progress, only results, questions and errors
    #[arg(long, short, global = true, help_heading = GLOBAL)]
    pub quiet: bool,
    /// Pass an option to ssh, as in ssh_config(5): `-o Port=2222`; may be given again
    #[arg(long = "ssh-option", short = 'o', value_name = "OPT", global = true, help_heading = GLOBAL)]
    pub ssh_options: Vec<String>,
    /// Use this private key for ssh
    #[arg(short = 'i', long = "identity", value_name = "FILE", global = true, help_heading = GLOBAL)]
    pub identity: Option<PathBuf>,
    /// Check the host key against this file only; if the host is not in it, trust its first key and add it
    #[arg(long, value_name = "FILE", global = true, help_heading = GLOBAL)]
    pub known_hosts: Option<PathBuf>,
    /// Run this on the Pi to reach its agent
    #[arg(long, value_name = "CMD", default_value = "cygnetd bridge", env = "CYGNET_AGENT_COMMAND",
        hide_env_values = true, global = true, help_heading = GLOBAL)]
    pub agent_command: String,
}

/// The commands.
#[derive(Debug, Subcommand)]
// There is one of it.
#[allow(clippy::large_enum_variant)]
pub enum Command {
    /// Make a card: write an image, put settings on it, look at it
    #[command(after_help = "\
EXAMPLES
  cygnet card flash bootstrap.img.zst /dev/sdb --no-eject
  cygnet card configure /dev/sdb --hostname pi --country DE --network home
  cygnet card show /dev/sdb")]
    Card(Card),
    /// Show the keys that were put on cards
    #[command(after_help = "\
EXAMPLES
  cygnet key show pi.local")]
    Key(Key),
    /// Take over the networks that this machine knows
    #[command(after_help = "\
EXAMPLES
  sudo cygnet wifi import > networks.toml")]
    Wifi(Wifi),
    /// Make the image for the card, or describe it to Raspberry Pi Imager
    #[command(after_help = "\
EXAMPLES
  cygnet image build .#card
  cygnet image manifest bootstrap.img.zst --url https://example.org/bootstrap.img.zst")]
    Image(Image),
    /// Find Pis in the local network that wait to be installed
    #[command(after_help = "\
EXAMPLES
  cygnet discover
  cygnet discover --watch
  cygnet discover --first --json | jq -r '.addresses[0]'

KNOWN tells whether the ssh host key that the Pi says it has is among the known
hosts: yes, no, or other-key if another one is. It is a hint; ssh checks the key.")]
    Discover(Discover),
    /// Wait until a Pi is online, or installed
    #[command(after_help = "\
EXAMPLES
  cygnet wait --for online
  cygnet wait pi.local --for online && cygnet install pi.local --flake .#pi
  pi=$(cygnet wait cygnet-a1b2c3d4.local --for online --timeout 5m)
  cygnet wait 192.0.2.7 --for installed --json

The host that answered is printed on stdout, as it was given. An address that is
only announced for it is tried, too, but must have the key that is known for the
host. `online` is reached when an agent answers over ssh; `installed` when the
agent has only the reboot left to do, or when the installed system answers
instead of it.")]
    Wait(Wait),
    /// Follow a Pi over its serial line, without a network
    #[command(after_help = "\
EXAMPLES
  cygnet console                          List the serial adapters
  cygnet console /dev/ttyUSB0
  cygnet console /dev/cu.usbserial-10 --raw
  cygnet console /dev/ttyUSB0 --json | jq -r 'select(.online).addresses[0]'

Ctrl-] quits; all other keys go to the Pi: ? lists what its agent knows.")]
    Console(Console),
    /// Show what a Pi's agent is and does
    #[command(after_help = "\
EXAMPLES
  cygnet status pi.local
  cygnet status 192.0.2.7 --json | jq -r .state.state")]
    Status(Status),
    /// Show the Pi's disks and what is on them; touches nothing
    #[command(after_help = "\
EXAMPLES
  cygnet disks pi.local
  cygnet disks pi.local --json | jq -r '.disks[] | select(.objections == []).\"by-id\"[0]'

Nothing is mounted, imported or unlocked for it: what a disk does not tell
without that is not shown. While an installation runs, disks are not asked for
their health.")]
    Disks(Disks),
    /// Show what an installation would do to the Pi's disks; touches nothing
    #[command(
        override_usage = "cygnet plan [OPTIONS] <HOST> --flake <FLAKE#HOST>
       cygnet plan [OPTIONS] <HOST> --disko <FILE> [--closure <PATH>]
       cygnet plan [OPTIONS] --blank-disks <SIZE> --disko <FILE> [--closure <PATH>]",
        after_help = "\
EXAMPLES
  cygnet plan pi.local --flake .#pi
  cygnet plan pi.local --disko devices.json --json | jq -r .digest
  cygnet plan --disko devices.json --blank-disks 32G
  cygnet plan --disko devices.json --blank-disks 32G --argv | jq -r '.[0]'
  cygnet plan --disko devices.json --blank-disks 32G --board 'Raspberry Pi 3'
  cygnet plan pi.local --flake .#pi --disk main=/dev/disk/by-id/usb-T7 --keep-data
  cygnet plan pi.local --flake .#pi --mode format,mount

With --blank-disks there is no Pi: the layout's disks are taken to be blank and
of that size. With --argv a hook is `bash -c TEXT`; passphrases are never in
the commands, which read them from their standard input."
    )]
    Plan(Plan),
    /// Install a NixOS system on the Pi's disks
    #[command(
        override_usage = "cygnet install [OPTIONS] <HOST> --flake <FLAKE#HOST>
       cygnet install [OPTIONS] <HOST> --closure <PATH> --disko <FILE>",
        after_help = "\
EXAMPLES
  cygnet install pi.local --flake .#pi
  cygnet install pi.local --closure ./result --disko devices.json
  cygnet install pi.local --flake .#pi --disk main=/dev/disk/by-id/usb-T7 --keep-data
  cygnet install pi.local --flake .#pi --mode mount
  digest=$(cygnet plan pi.local --flake .#pi --json | jq -r .digest)
  cygnet install pi.local --flake .#pi --yes $digest
  cygnet install pi.local --flake .#pi --secret crypted=<(pass show pi)
  cygnet install pi.local --flake .#pi --secret /tmp/secret.key=./secret.key
  cygnet install pi.local --flake .#pi --extra-files ./pi-files
  cygnet install pi.local --flake .#pi --trust signatures \
    --trusted-public-key builder-1:wG9VDRQ4d8PjuUxvpAz97sRVPpZkgr9zydzn8dID60s=
  cygnet install pi.local --flake .#pi --substitute

`cygnet plan` lists the passphrases and keys that the layout asks for. What is
not given with --secret is asked for on the terminal. They are in the Pi's
memory until the installation ends, and have to be given again to go on with an
interrupted one.

The files of --extra-files are kept in the same way, and are in no store, log or
command line either. Permissions are taken over, but no setuid, setgid or sticky
bits; links stay links; directories that are there stay as they are. Nothing may
be laid in /nix/store. What the system's configuration manages, its activation
replaces.

The agent on the Pi owns the installation: if this command is interrupted, give
it again to see it through, or stop the installation with `cygnet abort`."
    )]
    Install(Install),
    /// Send a closure into the target store of a Pi that waits for it
    #[command(
        override_usage = "cygnet push [OPTIONS] <HOST> --flake <FLAKE#HOST>
       cygnet push [OPTIONS] <HOST> --closure <PATH>
       cygnet push [OPTIONS] <HOST> --print-nix-copy [--closure <PATH>]",
        after_help = "\
EXAMPLES
  cygnet push pi.local --closure ./result
  cygnet push pi.local --closure ./result --trust signatures
  cygnet push pi.local --closure ./result --substituter http://nas.local:5000
  cygnet push pi.local --print-nix-copy --closure ./result
  eval \"$(cygnet push pi.local --print-nix-copy --closure ./result)\"

What the installation asks for holds in any case; a push can only ask for more."
    )]
    Push(Push),
    /// Show what happened on the Pi
    #[command(after_help = "\
EXAMPLES
  cygnet logs pi.local
  cygnet logs pi.local --follow
  cygnet logs pi.local --from 120 --json | jq -r 'select(.event == \"warning\").text'")]
    Logs(Logs),
    /// Put together what is known of a Pi, a card or a layout, to send when something is not as it should be
    #[command(after_help = "\
EXAMPLES
  cygnet report pi.local
  cygnet report pi.local --disko devices.json --out report.txt
  cygnet report /dev/sdb
  cygnet report devices.json --board 'Raspberry Pi 3 Model B'
  cygnet report .#pi --yes

It has versions, settings without their secrets, layout and plan, the Pi's
status, disks and log, and whatever of these failed, with the cause. Passphrases,
private keys, user names, hardware addresses and names of networks are struck out
as far as they are known. It is shown before it is written; nothing is sent.")]
    Report(Report),
    /// Show or set what the Pi starts: its card, or the SSD
    #[command(after_help = "\
EXAMPLES
  cygnet boot pi.local                    What runs, and what starts next
  cygnet boot pi.local --card             Back to the card, for rescue
  cygnet boot pi.local --trial            The SSD once; then the card, unless it is confirmed
  cygnet boot pi.local --ssd --no-reboot  The SSD from the next start on; confirms a trial

It works on the card's agent and on an installed system with nixosModules.installed.
A Pi whose card was pulled, or cannot start the SSD, has no switch.")]
    Boot(Boot),
    /// Go back to the card, and start an older system
    #[command(after_help = "\
EXAMPLES
  cygnet rescue pi.local                  Back to the card; why, and what can be started
  cygnet rescue pi.local --generation 41  That one, once, on trial
  cygnet rescue pi.local --json | jq -r '.menus[].entries[].label'

Nothing is written but the line DEFAULT of the menu of U-Boot on the SSD, and the
switch on the card. No pool is imported. The system that is started is on trial: the
Pi is back on its card by itself unless it is confirmed.")]
    Rescue(Rescue),
    /// Reboot the Pi
    #[command(after_help = "\
EXAMPLES
  cygnet reboot pi.local --yes
  cygnet reboot pi.local --force          Whatever it is doing: a disk does not answer, or it does not go down

Without --force a Pi is not rebooted while it installs, and systemd does it. With --force systemd has 30 s; then the card is
synced, and the kernel resets the Pi at once. An installation that was running is gone on with by the same `cygnet install`.")]
    Reboot(Reboot),
    /// Stop the installation that runs on the Pi
    #[command(after_help = "\
EXAMPLES
  cygnet abort pi.local")]
    Abort(Abort),
    /// Print a completion script for a shell
    #[command(after_help = "\
EXAMPLES
  cygnet completions bash > ~/.local/share/bash-completion/completions/cygnet
  cygnet completions fish > ~/.config/fish/completions/cygnet.fish")]
    Completions(Completions),
    /// Write the manual pages into a directory
    #[command(
        hide = true,
        after_help = "\
EXAMPLES
  cygnet man target/man"
    )]
    Man(Man),
}

/// `cygnet discover`
#[derive(Debug, Args)]
pub struct Discover {
    /// How long to listen for answers
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Stop at the first Pi that answers
    #[arg(long)]
    pub first: bool,
    /// Go on until interrupted, and print what changes
    #[arg(long, conflicts_with_all = ["first", "timeout"])]
    pub watch: bool,
}

/// `cygnet console`
#[derive(Debug, Args)]
pub struct Console {
    /// The serial device that the Pi is connected to; without it, those that there are are listed
    #[arg(value_name = "DEVICE")]
    pub device: Option<String>,
    /// Bits per second
    #[arg(long, value_name = "RATE", default_value_t = 115_200, value_parser = clap::value_parser!(u32).range(50..))]
    pub baud: u32,
    /// Pass everything through as it comes
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
}

/// `cygnet wait`
#[derive(Debug, Args)]
pub struct Wait {
    /// The Pi: a host name, an address, a Host of ssh_config(5), or the name or the serial number's end (4 characters at
    /// least) that `cygnet discover` shows; without it the only Pi that announces itself
    #[arg(value_name = "HOST")]
    pub host: Option<String>,
    /// What to wait for
    #[arg(long = "for", value_name = "GOAL")]
    pub goal: Goal,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// What `cygnet wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Goal {
    /// An agent answers over ssh
    Online,
    /// The system is installed: only the reboot is missing, or it answers already
    Installed,
}

impl Goal {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Goal::Online => "online",
            Goal::Installed => "installed",
        }
    }
}

/// The Pi.
#[derive(Debug, Args)]
pub struct Host {
    /// The Pi: a host name, an address or a Host of ssh_config(5), with `user@` in front if it isn't root
    #[arg(value_name = "HOST")]
    pub host: String,
}

/// `cygnet status`
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub host: Host,
}

/// `cygnet disks`
#[derive(Debug, Args)]
pub struct Disks {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub host: Host,
}

/// `cygnet logs`
#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub host: Host,
    /// Go on printing what happens, until interrupted
    #[arg(long, short)]
    pub follow: bool,
    /// Begin with this event number
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub from: u64,
    /// What the boot before has said, as -1: on the card the system whose trial failed, else the journal of the one before
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-20..=-1),
          conflicts_with_all = ["follow", "from"])]
    pub boot: Option<i32>,
}

/// `cygnet boot`
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").args(["card", "ssd", "trial"])))]
pub struct Boot {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub host: Host,
    /// The card, from now on
    #[arg(long)]
    pub card: bool,
    /// The SSD, from now on; on a system that is on trial, this confirms it
    #[arg(long)]
    pub ssd: bool,
    /// The SSD, once: what does not prove itself comes back to the card
    #[arg(long)]
    pub trial: bool,
    /// Don't reboot now
    #[arg(long, requires = "what")]
    pub no_reboot: bool,
    /// Don't ask
    #[arg(long)]
    pub yes: bool,
}

/// `cygnet rescue`
#[derive(Debug, Args)]
pub struct Rescue {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub host: Host,
    /// Start this generation of the system
    #[arg(long, value_name = "N", conflicts_with = "entry")]
    pub generation: Option<u32>,
    /// Start the entry of the menu with this label
    #[arg(long, value_name = "LABEL")]
    pub entry: Option<String>,
    /// Don't reboot into it now
    #[arg(long)]
    pub no_reboot: bool,
    /// How long to wait for the card's system
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10m")]
    pub timeout: Duration,
    /// Don't ask
    #[arg(long)]
    pub yes: bool,
}

/// `cygnet reboot`
#[derive(Debug, Args)]
pub struct Reboot {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub host: Host,
    /// Whatever the Pi is doing, and by the kernel alone if systemd does not do it
    #[arg(long)]
    pub force: bool,
    /// Don't ask
    #[arg(long)]
    pub yes: bool,
}

/// `cygnet abort`
#[derive(Debug, Args)]
pub struct Abort {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub host: Host,
    /// Don't ask
    #[arg(long)]
    pub yes: bool,
}

/// `cygnet completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// `cygnet man`
#[derive(Debug, Args)]
pub struct Man {
    /// The directory; made if it isn't there
    pub dir: PathBuf,
}

/// The examples and all exit codes: every failure has its own, so that a script can tell them apart.
fn exit_codes() -> String {
    let failures = FaultCode::ALL.iter().map(|code| (code.exit_code(), code.summary().trim()));
    let others = [
        (0, "Done."),
        (2, "The command line makes no sense."),
        (130, "Interrupted by Ctrl-C."),
        (141, "The reader of stdout went away."),
    ];
    let all: BTreeMap<u8, &str> = failures.chain(others).collect();
    let lines: Vec<String> = all.iter().map(|(code, text)| format!("  {code:>3}  {text}")).collect();
    format!("{TOP_EXAMPLES}\n\nEXIT STATUS\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        fn check(command: &clap::Command) {
            for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("EXAMPLES"), "{} has none", command.get_name());
                check(command);
            }
        }
        check(&Cli::command());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for bad in [
            "install pi",
            "install pi --flake .#a --closure /x",
            "install pi --closure /nix/store/x",
            "install pi --disko x.json",
            "install pi --flake .#a --no-wait --wait 3s",
            "plan pi",
            "plan pi --flake .#a --disko x",
            "plan pi --closure x",
            "plan --disko x",
            "plan pi --disko x --blank-disks 32G",
            "plan pi --disko x --board Pi",
            "plan pi --disko x --disk main",
            "plan pi --disko x --disk =/dev/sda",
            "plan pi --disko x --disk main=",
            "plan --disko x --blank-disks 0",
            "plan --disko x --blank-disks 32X",
            "install pi --flake .#a --secret crypted",
            "install pi --flake .#a --secret =x",
            "install pi --flake .#a --extra-files a --extra-files b",
            "install pi --flake .#a --trust nobody",
            "push pi",
            "push pi --flake .#a --closure x",
            "push pi --print-nix-copy --flake .#a --closure x",
            "discover --timeout soon",
            "discover --watch --first",
            "wait pi",
            "wait pi --for breakfast",
            "image",
            "image build .#card --with wishes",
            "card",
            "card configure",
            "card configure x --open",
            "card configure x --network n --open --pmk",
            "card configure x --network n --open --passphrase-file f",
            "card configure x --host-key f --keep-host-key",
            "card configure x --address *",
            "card configure x --network n --passphrase hunter2hunter2",
            "image manifest x",
        ] {
            let arguments = std::iter::once("cygnet").chain(bad.split(' '));
            assert!(Cli::try_parse_from(arguments).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn global_options_may_come_last() {
        let cli = Cli::try_parse_from(["cygnet", "status", "pi", "--json", "-o", "Port=1", "-o", "User=x"]).unwrap();
        assert!(cli.global.json);
        assert_eq!(cli.global.ssh_options, ["Port=1", "User=x"]);
    }
}
