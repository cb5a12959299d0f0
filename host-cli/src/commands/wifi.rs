//! `cygnet wifi`.

use crate::card::{configure, wifi};
use crate::cli::WifiCommand;
use crate::ui::Ui;
use anyhow::Result;
use cygnet_protocol::card::{self, CardConfig};
use serde_json::json;

/// Carries it out.
pub fn run(ui: &Ui, command: &WifiCommand) -> Result<()> {
    let WifiCommand::Import(arguments) = command;
    let found = match arguments.files.as_slice() {
        [] => wifi::system(&arguments.ssids)?,
        files => wifi::files(files, &arguments.ssids)?,
    };
    for note in &found.notes {
        ui.warning(note);
    }
    found.networks.iter().filter_map(configure::remark).for_each(|remark| ui.warning(&remark));
    if ui.json() {
        return ui.record(&json!({
            "type": "networks",
            "country": found.country,
            "networks": found.networks,
            "notes": found.notes,
        }));
    }
    let config = CardConfig { country: found.country, networks: found.networks, ..CardConfig::default() };
    ui.data(&card::write(&config))
}
