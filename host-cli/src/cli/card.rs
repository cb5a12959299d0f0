//! `cygnet card`, `key` and `wifi`: what is done before there is a Pi.

use crate::card::pins::parse_address;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `cygnet card`
#[derive(Debug, Args)]
pub struct Card {
    /// What to do.
    #[command(subcommand)]
    pub command: CardCommand,
}

/// The commands of `cygnet card`.
#[derive(Debug, Subcommand)]
// There is one of it.
#[allow(clippy::large_enum_variant)]
pub enum CardCommand {
    /// List the cards and other removable disks that are in this machine
    #[command(after_help = "\
EXAMPLES
  cygnet card list
  cygnet card list --json | jq -r '.cards[].path'")]
    List,
    /// Write an image to a card, and read it back
    #[command(after_help = "\
EXAMPLES
  cygnet card flash bootstrap.img.zst                 List the cards
  cygnet card flash bootstrap.img.zst /dev/sdb
  cygnet card flash bootstrap.img.xz /dev/disk4 --unmount --no-eject
  cygnet card flash bootstrap.img.zst pi.img          Unpack it into a file

The image may be packed with zstd, xz or gzip; what it is, its bytes tell. The
partition table is written last: a card that was not finished looks blank.")]
    Flash(Flash),
    /// Put settings for the Pi on a card or into an image: networks, keys, a name
    #[command(after_help = "\
EXAMPLES
  cygnet card configure /dev/sdb --hostname pi --country DE --network home
  cygnet card configure /dev/disk4 --unmount --from pi.toml --import-wifi
  cygnet card configure pi.img --hostname pi --no-authorized-keys
  pass show wifi | cygnet card configure pi.img --network home --passphrase-file -

The passphrase is asked for on the terminal. A fresh ssh host key is made, and
noted among cygnet's known hosts under the names that the Pi will have, so that
its first connection is verified. Nothing is mounted. The Pi takes the settings
at its next boot, and removes the secrets from the FAT partition.

With sudo, keys and known hosts are still those of your account. If you have set
XDG_STATE_HOME, sudo has to be told: sudo --preserve-env=XDG_STATE_HOME cygnet …")]
    Configure(Configure),
    /// Show the settings on a card or in an image, without the secrets
    #[command(after_help = "\
EXAMPLES
  cygnet card show /dev/sdb
  cygnet card show pi.img --json | jq -r '.\"host-key\".age'

When a Pi has booted with the card, it says what it took and what it ignored.")]
    Show(Show),
}

/// `cygnet card flash`
#[derive(Debug, Args)]
pub struct Flash {
    /// The image, packed or not
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// The card (/dev/sdb, /dev/disk4) or a file; without it the cards are listed
    #[arg(value_name = "DEVICE|FILE")]
    pub target: Option<PathBuf>,
    /// Don't ask, if the device, or the file that is not empty, is this one
    #[arg(long, value_name = "DEVICE|FILE")]
    pub yes: Option<PathBuf>,
    /// Unmount what is mounted of the card
    #[arg(long)]
    pub unmount: bool,
    /// Leave the card usable when it is written, for `card configure`
    #[arg(long)]
    pub no_eject: bool,
}

/// `cygnet card configure`
#[derive(Debug, Args)]
pub struct Configure {
    /// The card (/dev/sdb, /dev/disk4), or an image that is not packed
    #[arg(value_name = "DEVICE|IMAGE")]
    pub medium: PathBuf,
    /// Begin with this file: a cygnet.toml
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// What the Pi is called until it is installed, and reached as: NAME.local
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Where the Pi is, for its radio: two letters like DE
    #[arg(long, value_name = "CODE")]
    pub country: Option<String>,
    /// A network to join; what is not printable ASCII may be written \xHH
    #[arg(long, value_name = "SSID")]
    pub network: Option<String>,
    /// Read the network's passphrase from this file, or with - from stdin, instead of asking
    #[arg(long, value_name = "FILE", requires = "network", conflicts_with = "open")]
    pub passphrase_file: Option<PathBuf>,
    /// What is given is not the passphrase but the key made of it, 64 hex digits; no use for WPA3
    #[arg(long, requires = "network", conflicts_with = "open")]
    pub pmk: bool,
    /// The network lets everybody in
    #[arg(long, requires = "network")]
    pub open: bool,
    /// The network does not tell its name
    #[arg(long, requires = "network")]
    pub hidden: bool,
    /// Of several networks that are there the one with the highest is joined
    #[arg(long, value_name = "N", default_value_t = 0, requires = "network", allow_negative_numbers = true)]
    pub priority: i32,
    /// Take over networks that this machine knows, all or these; see `cygnet wifi import`
    #[arg(long, value_name = "SSID", num_args = 0..)]
    pub import_wifi: Option<Vec<String>>,
    /// Who may log in: the file of a public key, or its line; may be given again. Without it those in ~/.ssh
    #[arg(long = "authorized-key", value_name = "FILE|LINE")]
    pub authorized_keys: Vec<String>,
    /// Put no key on the card, because the image has one
    #[arg(long, conflicts_with = "authorized_keys")]
    pub no_authorized_keys: bool,
    /// Whose card it is, shown where the Pi announces itself
    #[arg(long, value_name = "TEXT")]
    pub claim: Option<String>,
    /// The host to install: the name of a nixosConfiguration
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// Use this private ed25519 key as the Pi's ssh host key instead of a fresh one
    #[arg(long, value_name = "FILE")]
    pub host_key: Option<PathBuf>,
    /// Keep the host key that is on the card, or that the Pi has taken from it
    #[arg(long, conflicts_with = "host_key")]
    pub keep_host_key: bool,
    /// The Pi will be reached as this, too: note its key under this name or address; may be given again
    #[arg(long = "address", value_name = "NAME", value_parser = parse_address)]
    pub addresses: Vec<String>,
    /// Write over settings that are on the card
    #[arg(long)]
    pub force: bool,
    /// Unmount what is mounted of the card
    #[arg(long)]
    pub unmount: bool,
}

/// `cygnet card show`
#[derive(Debug, Args)]
pub struct Show {
    /// The card (/dev/sdb, /dev/disk4), or an image that is not packed
    #[arg(value_name = "DEVICE|IMAGE")]
    pub medium: PathBuf,
}

/// `cygnet key`
#[derive(Debug, Args)]
pub struct Key {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// The commands of `cygnet key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Show a Pi's ssh host key, its fingerprint and its age recipient, before the first boot
    #[command(after_help = "\
EXAMPLES
  cygnet key show pi.local
  cygnet key show /dev/sdb
  cygnet key show pi.local --json | jq -r .age >> .sops.yaml

For a host it is the key that `card configure` has noted; nothing is asked over
the network. What age or sops encrypts to the recipient, agenix and sops-nix on
the host decrypt with its ssh host key.")]
    Show(KeyShow),
    /// Note a key as this account; `sudo cygnet card configure` runs it
    #[command(hide = true)]
    Note,
}

/// `cygnet key show`
#[derive(Debug, Args)]
pub struct KeyShow {
    /// A name that the Pi will have, a card (/dev/sdb), or an image
    #[arg(value_name = "HOST|DEVICE|IMAGE")]
    pub what: String,
}

/// `cygnet wifi`
#[derive(Debug, Args)]
pub struct Wifi {
    /// What to do.
    #[command(subcommand)]
    pub command: WifiCommand,
}

/// The commands of `cygnet wifi`.
#[derive(Debug, Subcommand)]
pub enum WifiCommand {
    /// Print the networks that this machine knows, with their passphrases, as a cygnet.toml
    #[command(after_help = "\
EXAMPLES
  sudo cygnet wifi import > networks.toml
  cygnet wifi import home shed > networks.toml        On a Mac: which ones
  cygnet wifi import --file wpa_supplicant.conf
  cygnet card configure /dev/sdb --from networks.toml

They are read from iwd, NetworkManager and wpa_supplicant, which lets only root;
on a Mac from the keychain, which asks, and only those that are named. What is
printed holds passphrases.")]
    Import(Import),
}

/// `cygnet wifi import`
#[derive(Debug, Args)]
pub struct Import {
    /// Only these networks
    #[arg(value_name = "SSID")]
    pub ssids: Vec<String>,
    /// Read this file instead: NAME.psk of iwd, NAME.nmconnection, or wpa_supplicant.conf; may be given again
    #[arg(long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
}
