//! `cygnet report`.

use crate::ui::format::parse_size;
use clap::Args;
use std::path::PathBuf;

/// `cygnet report`
#[derive(Debug, Args)]
pub struct Report {
    /// What is not as it should be: a Pi's host name or address, a card or an image of one, the JSON of a layout, or FLAKE#HOST
    #[arg(value_name = "HOST|IMAGE|LAYOUT")]
    pub subject: String,
    /// The layout for this Pi, which is planned for its disks
    #[arg(long, value_name = "FILE")]
    pub disko: Option<PathBuf>,
    /// Plan a layout for blank disks of this size instead of 64G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub blank_disks: Option<u64>,
    /// Plan a layout for this board, by its name in the device tree
    #[arg(long, value_name = "MODEL")]
    pub board: Option<String>,
    /// The file to write; without it, cygnet-report-….txt in this directory
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write it without asking; it is shown in any case
    #[arg(long)]
    pub yes: bool,
}
