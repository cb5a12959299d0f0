//! A command line that cannot be understood, told in the three parts that every other error has.
//!
//! clap finds out what is wrong; its text is taken apart here. The exit code stays the usual 2.

use crate::error;
use crate::ui::Ui;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use cygnet_protocol::fault::{Fault, FaultCode, sentence};
use std::process::ExitCode;

/// What shells and scripts expect of a wrong command line.
const EXIT: u8 = 2;

/// Tells it, or the help or version that was asked for, and gives the exit code. `json`: a script wants to know, too.
pub fn report(error: &clap::Error, json: bool) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Nobody is left to hear that the output is gone.
        error.print().ok();
        return if error.use_stderr() { ExitCode::from(EXIT) } else { ExitCode::SUCCESS };
    }
    let fault = explain(error);
    error::tell(&Ui::new(json, false), &fault, EXIT)
}

/// The three parts of what clap says.
fn explain(error: &clap::Error) -> Fault {
    let said = error.render().to_string();
    let mut paragraphs = said.split("\n\n").map(str::trim);
    let first = paragraphs.next().unwrap_or_default().trim_start_matches("error: ");
    let wrong: Vec<&str> = first.lines().map(str::trim).filter(|line| !line.starts_with("[possible values")).collect();
    let values: Vec<String> = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => values.iter().map(|value| format!("`{value}`")).collect(),
        _ => Vec::new(),
    };
    let cause = match error.kind() {
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if values.is_empty() => {
            "It is not in the form that this takes."
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => "It takes only some values.",
        ErrorKind::UnknownArgument => "There is no such option here, or one argument too many.",
        ErrorKind::InvalidSubcommand => "There is no such command.",
        ErrorKind::MissingRequiredArgument => "The command cannot do without.",
        ErrorKind::ArgumentConflict => "One excludes the other.",
        _ => "It is not in the form that the command takes.",
    };
    let mut remedy = Vec::new();
    if !values.is_empty() {
        remedy.push(format!("Give one of these: {}.", values.join(", ")));
    }
    for paragraph in paragraphs {
        if let Some(tip) = paragraph.strip_prefix("tip: ") {
            remedy.push(sentence(tip));
        } else if let Some(usage) = paragraph.strip_prefix("Usage:") {
            remedy.push("It is used so:".into());
            remedy.extend(usage.lines().map(|form| form.trim().to_owned()));
        }
    }
    remedy.push("See `--help`, which has examples.".into());
    Fault::new(FaultCode::BadRequest, sentence(&wrong.join(" ")), cause, remedy.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn explained(line: &str) -> Fault {
        let error = crate::cli::Cli::try_parse_from(line.split(' ')).unwrap_err();
        explain(&error)
    }

    #[test]
    fn each_wrong_line_has_what_cause_and_remedy() {
        for (line, what, remedy) in [
            ("cygnet instal pi", "'instal'", "'install'"),
            ("cygnet plan pi --disko x --mode format", "'format'", "`destroy,format,mount`, `format,mount`"),
            ("cygnet plan --disko x --blank-disks 32X", "no unit of size", "--help"),
            ("cygnet push pi", "--flake", "--closure"),
            ("cygnet push pi --closure x --flake .#a", "cannot be used with", "cygnet push"),
            ("cygnet status pi --frob", "'--frob'", "cygnet status"),
            ("cygnet status", "<HOST>", "cygnet status"),
        ] {
            let fault = explained(line);
            assert!(fault.what.contains(what) && fault.remedy.contains(remedy), "{line}: {fault}");
            assert!(!fault.cause.is_empty() && fault.what.ends_with('.'), "{line}: {fault}");
            assert!(!fault.to_string().contains("error:"), "{line}: {fault}");
        }
    }
}
