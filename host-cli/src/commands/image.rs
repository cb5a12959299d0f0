//! `cygnet image`: the card's image, built in whatever way this machine has, or described to others.

use crate::card::image::Image;
use crate::card::manifest::{self, About};
use crate::cli;
use crate::image::{self, Recipe, Source};
use crate::ui::Ui;
use crate::ui::bar::{Bar, Unit};
use anyhow::Result;
use cygnet_protocol::text;
use serde_json::json;
use std::path::Path;

/// Carries it out.
pub fn run(ui: &Ui, arguments: &cli::Image) -> Result<()> {
    match &arguments.command {
        cli::ImageCommand::Build(arguments) => build(ui, arguments),
        cli::ImageCommand::Manifest(arguments) => describe(ui, arguments),
    }
}

fn build(ui: &Ui, arguments: &cli::ImageBuild) -> Result<()> {
    let flake = match Source::parse(&arguments.source)? {
        Source::Ready(image) => return ready(ui, &image),
        Source::Flake(flake) => flake,
    };
    let recipe = image::plan(&flake, arguments.with, &arguments.out)?;
    ui.status(&format!(
        "Building {} by way of {}: {}.",
        flake.installable(),
        recipe.choice.way.name(),
        recipe.choice.why
    ));
    if arguments.dry_run {
        return dry(ui, &recipe);
    }
    let image = image::build(ui, &recipe, &arguments.out)?;
    if ui.json() {
        return ui.record(&json!({
            "image": image.display().to_string(), "way": recipe.choice.way, "why": recipe.choice.why, "looked": recipe.looked,
        }));
    }
    ui.data(&image.display().to_string())?;
    ui.status("Next: `cygnet card flash` writes it onto a card.");
    Ok(())
}

fn ready(ui: &Ui, image: &Path) -> Result<()> {
    ui.status("It is an image already; there is nothing to build.");
    if ui.json() {
        ui.record(&json!({ "image": image.display().to_string() }))
    } else {
        ui.data(&image.display().to_string())
    }
}

fn dry(ui: &Ui, recipe: &Recipe) -> Result<()> {
    if ui.json() {
        return ui.record(&json!({
            "image": null, "way": recipe.choice.way, "why": recipe.choice.why, "looked": recipe.looked,
            "commands": recipe.commands,
        }));
    }
    for looked in &recipe.looked {
        let mark = if looked.usable { "can" } else { "can't" };
        ui.status(&format!("  {:<14} {mark}: {}", looked.way.name(), looked.why));
    }
    recipe.commands.iter().try_for_each(|command| ui.data(&image::shown(command)))
}

fn describe(ui: &Ui, arguments: &cli::Manifest) -> Result<()> {
    manifest::url(&arguments.url)?;
    let image = Image::open(&arguments.image)?;
    let about = About { url: &arguments.url, name: &arguments.name, date: arguments.date.as_deref() };
    let mut bar = Bar::new(ui, "Unpacking", Unit::Bytes, 0);
    let list = manifest::of(&image, &about, |done, total| bar.set(done, total))?;
    drop(bar);
    // It is a file for another program: the same with and without --json, but for the lines.
    if ui.json() { ui.record(&list) } else { ui.data(&text::json(&serde_json::to_string_pretty(&list)?)) }
}
