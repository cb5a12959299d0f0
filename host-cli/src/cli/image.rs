//! `cygnet image`: what is written on cards.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `cygnet image`
#[derive(Debug, Args)]
pub struct Image {
    /// What to do
    #[command(subcommand)]
    pub command: ImageCommand,
}

/// What can be done about images.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Build it from a flake, in whatever way this machine can build for aarch64
    #[command(after_help = "\
EXAMPLES
  cygnet image build .#card
  cygnet image build .#card --dry-run
  cygnet image build .#card --with podman --out /tmp/card
  cygnet image build .#nixosConfigurations.card.config.system.build.sdImage
  cygnet card flash \"$(cygnet image build .#card)\"

A name without dots is looked for in the flake's packages.aarch64-linux. The
image's path is printed on stdout. An image that is there is passed on as it is.
Nothing is configured on this machine: what it has is used, and what it lacks is
told. In a container, Nix's store is kept in the volume cygnet-nix.")]
    Build(ImageBuild),
    /// Print the manifest with which Raspberry Pi Imager offers an image, and asks for its settings
    #[command(after_help = "\
EXAMPLES
  cygnet image manifest bootstrap.img.zst --url https://example.org/bootstrap.img.zst > os_list.json
  cygnet image manifest bootstrap.img.zst --url file:///home/me/bootstrap.img.zst > os_list.json

Give the file to Imager 2 as its content repository, or serve it. What Imager
then asks for, it writes to the card as rpi-preseed.toml, which the Pi reads.")]
    Manifest(Manifest),
}

/// `cygnet image build`
#[derive(Debug, Args)]
pub struct ImageBuild {
    /// The flake and the attribute that is the image, or the path of an image
    #[arg(value_name = "FLAKE#NAME|IMAGE", default_value = ".#image")]
    pub source: String,
    /// Take this way, or none
    #[arg(long = "with", value_name = "WAY")]
    pub with: Option<crate::image::Way>,
    /// Where to leave the image: a link to Nix's store, or a directory if it comes out of a container
    #[arg(long, value_name = "PATH", default_value = "cygnet-image")]
    pub out: PathBuf,
    /// Only print the commands, and what was looked at
    #[arg(long)]
    pub dry_run: bool,
}

/// `cygnet image manifest`
#[derive(Debug, Args)]
pub struct Manifest {
    /// The image, packed or not
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// Where Imager will find it
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// What Imager calls it
    #[arg(long, value_name = "TEXT", default_value = "cygnet bootstrap (NixOS)")]
    pub name: String,
    /// When it was made: YYYY-MM-DD; the file's date if nothing is said
    #[arg(long, value_name = "DATE")]
    pub date: Option<String>,
}
