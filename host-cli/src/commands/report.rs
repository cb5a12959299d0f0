//! `cygnet report`: what a person can send when something is not as it should be.

use crate::cli;
use crate::error::fault;
use crate::nix;
use crate::report::Report;
use crate::report::gather::{Subject, layout_of, subject};
use crate::ssh::Target;
use crate::ui::Ui;
use anyhow::{Context, Result};
use cygnet_protocol::fault::FaultCode;
use serde_json::json;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The size of the disks that a layout is planned for, if nothing is said.
const BLANK_DISKS: u64 = 64 << 30;

/// Carries it out.
pub fn run(ui: &Ui, arguments: &cli::Report, target: impl Fn(&str) -> Result<Target>) -> Result<()> {
    let given = arguments.subject.as_str();
    let file = arguments.out.clone().unwrap_or_else(|| file_name(given));
    free(&file)?;
    let mut report = Report::default();
    report.versions();
    let subject = subject(given);
    match &subject {
        Subject::Flake(_) | Subject::Layout => {
            let layout = layout_of(ui, &subject, given);
            if layout.is_err() && subject == Subject::Layout {
                report.file(Path::new(given));
            }
            report.layout(layout, arguments.blank_disks.unwrap_or(BLANK_DISKS), arguments.board.as_deref());
        }
        Subject::Card => report.card(Path::new(given)),
        Subject::Host => {
            let layout = arguments.disko.as_deref().map(nix::layout::read).transpose()?;
            report.pi(&target(given)?, layout.as_ref());
            if let Some(layout) = layout {
                report.layout(Ok(layout), arguments.blank_disks.unwrap_or(BLANK_DISKS), None);
            }
        }
    }
    let text = report.text();
    if ui.json() {
        ui.record(&json!({"type": "report", "text": text}))?;
    } else {
        ui.data(&text)?;
    }
    let asks = !arguments.yes && ui.can_ask();
    if asks && ui.ask(&format!("Write this to {}?", file.display()), &["yes", "no"])? != "yes" {
        ui.status("Nothing was written.");
        return Ok(());
    }
    if !asks && !arguments.yes {
        ui.status("It was not written to a file: there is no terminal to ask on. `--yes` writes it.");
        return Ok(());
    }
    write(&file, &text)?;
    ui.status(&format!("Written to {}. Nothing was sent; attach it to an issue yourself.", file.display()));
    Ok(())
}

/// `cygnet-report-pi.local.txt`
fn file_name(given: &str) -> PathBuf {
    let name = given.rsplit(['/', '#', '@']).next().unwrap_or_default();
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c)).take(60).collect();
    format!("cygnet-report-{}.txt", if name.is_empty() { "it" } else { &name }).into()
}

/// Known before anything is gathered.
fn free(file: &Path) -> Result<()> {
    match file.symlink_metadata() {
        Ok(_) => Err(fault(
            FaultCode::BadRequest,
            format!("{} is there already; nothing was written.", file.display()),
            "A report does not take the place of another file.",
            "Give another name with `--out FILE`, or remove it.",
        )),
        Err(_) => Ok(()),
    }
}

/// For its owner only, until that one sends it.
fn write(file: &Path, text: &str) -> Result<()> {
    let open = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    open.and_then(|mut out| out.write_all(text.as_bytes())).with_context(|| format!("writing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_name_of_its_own() {
        for (given, name) in [
            ("root@pi.local", "cygnet-report-pi.local.txt"),
            ("/dev/sdb", "cygnet-report-sdb.txt"),
            (".#pi", "cygnet-report-pi.txt"),
            ("x/", "cygnet-report-it.txt"),
        ] {
            assert_eq!(file_name(given), PathBuf::from(name));
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        free(&file).unwrap();
        write(&file, "text").unwrap();
        assert!(free(&file).is_err() && write(&file, "other").is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
    }
}
