//! `cygnet plan`, `install` and `push`: what is installed, and whom the Pi trusts with it.

use super::Host;
use crate::ui::format::{parse_disk, parse_duration, parse_size};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use cygnet_protocol::message::BootFrom;
use cygnet_protocol::plan::Mode;
use cygnet_protocol::trust::Policy;
use std::path::PathBuf;
use std::time::Duration;

/// `--mode`, with its values in the help and the completions.
fn modes() -> impl TypedValueParser<Value = Mode> {
    PossibleValuesParser::new(Mode::ALL.map(Mode::name)).try_map(|name| name.parse::<Mode>())
}

/// `--boot-from`, with its values in the help and the completions.
fn boot_from() -> impl TypedValueParser<Value = BootFrom> {
    PossibleValuesParser::new(["auto", "card", "ssd"]).map(|name| match name.as_str() {
        "card" => BootFrom::Card,
        "ssd" => BootFrom::Ssd,
        _ => BootFrom::Auto,
    })
}

/// Where the system and the layout come from.
#[derive(Debug, Args)]
pub struct Source {
    /// The flake and the name of its nixosConfiguration: `.#pi`
    #[arg(long, value_name = "FLAKE#HOST", conflicts_with_all = ["closure", "disko"])]
    pub flake: Option<String>,
    /// The system to install: a store path in this machine's Nix store, or a link to one
    #[arg(long, value_name = "PATH")]
    pub closure: Option<PathBuf>,
    /// The layout: `config.disko.devices` as JSON
    #[arg(long, value_name = "FILE")]
    pub disko: Option<PathBuf>,
    /// Put the layout's disk of this name onto another device: `main=/dev/disk/by-id/usb-…`; may be given again
    #[arg(long = "disk", value_name = "NAME=DEVICE", value_parser = parse_disk)]
    pub disks: Vec<(String, String)>,
    /// What to do with what is on the disks: destroy it, keep what is there and make what is missing, or only mount it
    #[arg(long, value_name = "MODE", default_value = "destroy,format,mount", value_parser = modes())]
    pub mode: Mode,
    /// Refuse a plan that would destroy anything: the disks must be blank
    #[arg(long)]
    pub keep_data: bool,
    /// Go on, with a warning, if the system's file systems, host id or initrd do not fit the layout
    #[arg(long)]
    pub allow_mismatch: bool,
    /// How the new system is started: from the card, which stays in and takes the Pi back if it does not come up; or from the SSD
    /// alone, for which the card has to be pulled. Without this, from the card where it can
    #[arg(long, value_name = "WHAT", default_value = "auto", value_parser = boot_from())]
    pub boot_from: BootFrom,
    /// Lay the tree in this directory over the new system's root before its activation: DIR/etc/x becomes /etc/x, owned by
    /// root. Files that are there are replaced: the card's ssh host keys, too, where DIR has such. 64 MiB and 10 000 entries
    /// at most
    #[arg(long, value_name = "DIR")]
    pub extra_files: Option<PathBuf>,
}

/// `--trust`, with its values in the help and the completions.
fn policies() -> impl TypedValueParser<Value = Policy> {
    PossibleValuesParser::new(Policy::ALL.map(Policy::name)).try_map(|name| name.parse::<Policy>())
}

/// Which store paths the Pi lets in.
#[derive(Debug, Clone, Args)]
pub struct Trusted {
    /// Whose word is enough for a store path: that of the operator, who runs this command and can log in as root; or that
    /// of trusted keys, whose signature each path needs that is not addressed by its content
    #[arg(long, value_name = "WHOM", default_value = "operator", value_parser = policies())]
    pub trust: Policy,
    /// Trust signatures of this key, too, beside those that the Pi's own nix.conf trusts: NAME:BASE64; may be given again
    // Checked later: what clap complains of it repeats, and a secret key is as easily pasted.
    #[arg(long = "trusted-public-key", value_name = "KEY")]
    pub trusted_public_keys: Vec<String>,
    /// Have the Pi fetch what it can from binary caches, and send only the rest: from those that the system's own nix.conf
    /// names. What comes so is signed by a trusted key in any case
    #[arg(long)]
    pub substitute: bool,
    /// The same, from this cache instead: http://… or https://…; may be given again, the first that has a path is taken
    #[arg(long = "substituter", value_name = "URL")]
    pub substituters: Vec<String>,
}

/// `cygnet plan`
#[derive(Debug, Args)]
#[command(
    group(clap::ArgGroup::new("layout").required(true).args(["flake", "disko"])),
    group(clap::ArgGroup::new("machine").required(true).args(["host", "blank_disks"])),
)]
pub struct Plan {
    /// The Pi: a host name, an address or a Host of ssh_config(5), with `user@` in front if it isn't root
    #[arg(value_name = "HOST")]
    pub host: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub source: Source,
    /// Plan without a Pi, for blank disks of this size: 32G, 500M, 1T; with --closure, see whether the two fit
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub blank_disks: Option<u64>,
    /// Plan without a Pi for this board, by its name in the device tree: 'Raspberry Pi 4 Model B'
    #[arg(long, value_name = "MODEL", conflicts_with = "host")]
    pub board: Option<String>,
    /// Print every command that would be run, in order, each as a JSON array on a line of its own
    #[arg(long)]
    pub argv: bool,
}

/// `cygnet install`
#[derive(Debug, Args)]
#[command(
    group(clap::ArgGroup::new("layout").required(true).args(["flake", "disko"])),
    group(clap::ArgGroup::new("system").required(true).args(["flake", "closure"])),
)]
pub struct Install {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub host: Host,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub source: Source,
    /// Give the passphrase or key that the layout asks for by this name, from a file; may be given again. The name is
    /// that of a LUKS device or a dataset, or the path of the file in the layout; one with blanks in quotes: 'NAME=FILE'
    #[arg(long = "secret", value_name = "NAME=FILE", value_parser = parse_secret)]
    pub secrets: Vec<(String, PathBuf)>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub trusted: Trusted,
    /// Don't ask: go on if the plan (or the interrupted installation) has this digest; 12 hex digits at least
    #[arg(long, value_name = "DIGEST")]
    pub yes: Option<String>,
    /// Leave the Pi running on its card when the installation is complete
    #[arg(long)]
    pub no_reboot: bool,
    /// Let the new system make its own ssh host key instead of keeping the card's
    #[arg(long)]
    pub new_host_key: bool,
    /// Don't give the new system the networks and the country that the Pi has
    #[arg(long)]
    pub no_carry_networks: bool,
    /// Format even if an interrupted installation could be gone on with
    #[arg(long)]
    pub fresh: bool,
    /// Don't wait for the installed system to answer after the reboot
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait for the installed system to answer after the reboot
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = parse_duration, conflicts_with = "no_wait")]
    pub wait: Duration,
}

/// `cygnet push`
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("system").args(["flake", "closure"])))]
pub struct Push {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub host: Host,
    /// The flake and the name of its nixosConfiguration: `.#pi`
    #[arg(long, value_name = "FLAKE#HOST", required_unless_present_any = ["closure", "print_nix_copy"])]
    pub flake: Option<String>,
    /// The closure to send: a store path in this machine's Nix store, or a link to one
    #[arg(long, value_name = "PATH")]
    pub closure: Option<PathBuf>,
    /// Only print the `nix copy` line that sends it by Nix itself, with the Pi's host key
    #[arg(long)]
    pub print_nix_copy: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub trusted: Trusted,
}

/// `NAME=FILE`. Both may have a `=`: the first one behind which the name of a file stands that is there; if none is, the first.
fn parse_secret(text: &str) -> Result<(String, PathBuf), String> {
    let halves = text.match_indices('=').map(|(at, _)| (&text[..at], &text[at + 1..]));
    let halves: Vec<(&str, &str)> = halves.filter(|(name, file)| !name.is_empty() && !file.is_empty()).collect();
    let there = halves.iter().find(|(_, file)| std::path::Path::new(file).exists());
    match there.or(halves.first()) {
        Some((name, file)) => Ok(((*name).to_owned(), file.into())),
        None => Err("it is not NAME=FILE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secrets_name_and_file_may_have_an_equals_sign() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a=b c");
        std::fs::write(&file, "x").unwrap();
        let of = |text: String| parse_secret(&text).unwrap();
        for name in ["crypted", "/tmp/my key=1", "a=b=c"] {
            assert_eq!(of(format!("{name}={}", file.display())), (name.to_owned(), file.clone()));
        }
        assert_eq!(of("a=b=/nowhere".into()), ("a".to_owned(), "b=/nowhere".into()));
        assert!(parse_secret("a").is_err() && parse_secret("=x").is_err() && parse_secret("x=").is_err());
    }
}
