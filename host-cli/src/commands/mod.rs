//! One file for each command.

mod abort;
mod boot;
mod card;
mod console;
mod discover;
mod disks;
mod flash;
mod image;
mod key;
mod logs;
mod manual;
mod plan;
mod push;
mod reboot;
mod report;
mod rescue;
mod status;
mod wait;
mod wifi;

use crate::cli::{Cli, Command};
use crate::install;
use crate::ssh::Target;
use crate::ui::Ui;
use anyhow::Result;

/// Does what the command line says.
pub fn run(ui: &Ui, cli: &Cli) -> Result<()> {
    let target = |host: &crate::cli::Host| Target::new(&host.host, &cli.global);
    match &cli.command {
        Command::Card(arguments) => card::run(ui, &cli.global, &arguments.command),
        Command::Key(arguments) => key::run(ui, &cli.global, &arguments.command),
        Command::Wifi(arguments) => wifi::run(ui, &arguments.command),
        Command::Image(arguments) => image::run(ui, arguments),
        Command::Discover(arguments) => discover::run(ui, &cli.global, arguments),
        Command::Wait(arguments) => wait::run(ui, &cli.global, arguments),
        Command::Console(arguments) => console::run(ui, arguments),
        Command::Status(arguments) => status::run(ui, &target(&arguments.host)?),
        Command::Disks(arguments) => disks::run(ui, &target(&arguments.host)?),
        Command::Plan(arguments) => plan::run(ui, arguments, |host| Target::new(host, &cli.global)),
        Command::Install(arguments) => install::run(ui, &target(&arguments.host)?, arguments),
        Command::Push(arguments) => push::run(ui, &target(&arguments.host)?, arguments),
        Command::Logs(arguments) => logs::run(ui, &target(&arguments.host)?, arguments),
        Command::Report(arguments) => report::run(ui, arguments, |host| Target::new(host, &cli.global)),
        Command::Boot(arguments) => boot::run(ui, &target(&arguments.host)?, arguments),
        Command::Rescue(arguments) => rescue::run(ui, &target(&arguments.host)?, arguments),
        Command::Reboot(arguments) => reboot::run(ui, &target(&arguments.host)?, arguments),
        Command::Abort(arguments) => abort::run(ui, &target(&arguments.host)?, arguments),
        Command::Completions(arguments) => manual::completions(ui, arguments.shell),
        Command::Man(arguments) => manual::man(ui, &arguments.dir),
    }
}
