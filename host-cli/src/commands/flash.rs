//! `cygnet card flash`: an image onto a card, or into a file that stands for one.

use super::card::{cards_table, list};
use crate::card::flash::{self, Stage};
use crate::card::image::Image;
use crate::card::medium::{Medium, Purpose};
use crate::card::{disks, in_use};
use crate::cli;
use crate::error::fault;
use crate::interrupt;
use crate::ui::Ui;
use crate::ui::bar::{Bar, Unit};
use crate::ui::format::bytes;
use anyhow::{Context, Result};
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::text::shell_word;
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// Carries it out.
pub fn run(ui: &Ui, arguments: &cli::Flash) -> Result<()> {
    let image = Image::open(&arguments.image)?;
    let Some(path) = &arguments.target else {
        list(ui)?;
        return Err(fault(
            FaultCode::BadRequest,
            "Nothing was written, because no card was named.",
            "The cards that are there are listed above.",
            format!("Name one: `cygnet card flash {} DEVICE`.", arguments.image.display()),
        ));
    };
    let made = make_file(path)?;
    let medium = Medium::open(path, Purpose::Overwrite, arguments.unmount)?;
    // A file that has a size stands for a card of that size; an empty one grows.
    let room = (medium.disk.is_some() || medium.size > 0).then_some(medium.size);
    flash::fits(&image, room)?;
    not_onto_itself(&image, &medium)?;
    match &medium.disk {
        Some(disk) => confirm(ui, &disk.path, &image, arguments, &cards_table(std::slice::from_ref(disk)))?,
        // What we have just made, or what was made for it, holds nothing.
        None if medium.size == 0 => {}
        None => {
            let what = format!("{} is a file of {}.", path.display(), bytes(medium.size));
            confirm(ui, path, &image, arguments, &what)?;
        }
    }
    interrupt::set_farewell(format!(
        "{} is not finished: it has no partition table and does not boot. Give the same command again.",
        path.display()
    ));
    let begun = Instant::now();
    let mut bar: Option<(Stage, Bar<'_>)> = None;
    let written = flash::write(&image, &medium, room, |stage, done, total| {
        if bar.as_ref().is_none_or(|(of, _)| *of != stage) {
            // The old one is taken from the screen before there is a new one.
            bar = None;
            let title = match stage {
                Stage::Write => "Writing",
                Stage::Verify => "Reading back",
            };
            bar = Some((stage, Bar::new(ui, title, Unit::Bytes, total)));
        }
        if let Some((_, bar)) = &mut bar {
            bar.set(done, total);
        }
    });
    drop(bar);
    if written.is_err() && made {
        std::fs::remove_file(path).ok();
    }
    let written = written?;
    interrupt::set_farewell("");
    let mut ejected = false;
    if let Medium { disk: Some(disk), file, .. } = medium {
        drop(file);
        if !arguments.no_eject {
            match disks::eject(&disk) {
                Ok(()) => ejected = true,
                Err(error) => ui.warning(&format!("The card is complete, but could not be ejected: {error:#}")),
            }
        }
    }
    if ui.json() {
        return ui.record(&json!({
            "type": "card-flashed",
            "device": path.display().to_string(),
            "bytes": written.bytes,
            "sha256": written.sha256,
            "ejected": ejected,
        }));
    }
    let time = crate::ui::format::duration(begun.elapsed());
    ui.data(&format!(
        "{}: {} written and read back in {time}, SHA-256 {}",
        path.display(),
        bytes(written.bytes),
        written.sha256
    ))
}

/// Makes the file if it is none yet; never something in /dev, which is a card that isn't there.
fn make_file(path: &Path) -> Result<bool> {
    if path.exists() || path.starts_with("/dev") {
        return Ok(false);
    }
    std::fs::File::create_new(path).with_context(|| format!("making {}", path.display()))?;
    Ok(true)
}

/// An image that is written onto itself is lost, whatever it is called and whatever lies in between.
fn not_onto_itself(image: &Image, medium: &Medium) -> Result<()> {
    let source = std::fs::metadata(&image.path).with_context(|| format!("looking at {}", image.path.display()))?;
    let target = match &medium.disk {
        Some(disk) => in_use::behind_loop(&disk.path).and_then(|file| std::fs::metadata(file).ok()),
        None => None,
    };
    let opened = medium.file.metadata().context("looking at what was opened")?;
    if !in_use::is_same(&source, &opened) && !target.is_some_and(|target| in_use::is_same(&source, &target)) {
        return Ok(());
    }
    Err(fault(
        FaultCode::BadRequest,
        format!("{} is the image itself; nothing was changed.", medium.path.display()),
        "Both names lead to the same file or device.",
        "Give the card's device, or another file.",
    ))
}

/// `target` is the disk's own name, or the file as it was given; `what` shows what is there.
fn confirm(ui: &Ui, target: &Path, image: &Image, arguments: &cli::Flash, what: &str) -> Result<()> {
    if arguments.yes.as_deref().is_some_and(|yes| yes == target || Some(yes) == arguments.target.as_deref()) {
        return Ok(());
    }
    let declined = || {
        fault(
            FaultCode::Declined,
            "Nothing was written, because nobody said yes.",
            "The answer was no, there is no terminal to ask on, or `--yes` names another device.",
            format!("To say yes without a terminal, give `--yes {}`.", shell_word(&target.display().to_string())),
        )
    };
    if arguments.yes.is_some() || !ui.can_ask() {
        return Err(declined());
    }
    ui.show(what);
    let question = format!("Write {} to it? All that is on it is lost.", image.path.display());
    if ui.ask(&question, &["yes", "no"])? == "yes" { Ok(()) } else { Err(declined()) }
}
