//! cygnet: the command on the laptop that installs a headless Raspberry Pi.
//!
//! Read [`cli`] for what a person can say, [`commands`] for what each of it does, [`card`] for how a card is made, [`discover`] for how Pis are found, then
//! the way of an installation: [`nix`] finds the closure and the layout, [`ssh`] reaches the Pi, [`control`] talks with its agent, [`install`]
//! decides, follows and verifies, [`push`] sends the store paths. [`image`] builds what is put on the card, [`report`] gathers what a person can send. [`ui`] is all that a person or a script sees, and
//! [`error`] is how it ends when it doesn't end well, and [`usage`] when it doesn't even begin.

// stdout and stderr are reached through `ui`, which does not panic when they are gone.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod card;
mod cli;
mod commands;
mod control;
mod discover;
mod error;
mod fit;
mod image;
mod install;
mod interrupt;
mod nix;
mod push;
mod report;
mod ssh;
mod ui;
mod usage;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error, std::env::args_os().any(|word| word == "--json")),
    };
    let ui = ui::Ui::new(cli.global.json, cli.global.quiet);
    interrupt::watch();
    match commands::run(&ui, &cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            interrupt::give_way();
            error::report(&ui, &error)
        }
    }
}
