//! How cygnet ends when it doesn't end well: one place from errors to text and exit codes.

use crate::ui::Ui;
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::text;
use serde_json::json;
use std::io;
use std::process::ExitCode;

/// The reader of our stdout has gone: `cygnet logs | head`. Nothing to complain about.
#[derive(Debug, Clone, Copy)]
pub struct StdoutClosed;

impl std::fmt::Display for StdoutClosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the reader of stdout went away")
    }
}

impl std::error::Error for StdoutClosed {}

/// The exit code of a program that SIGPIPE ended, as a shell shows it.
const SIGPIPE_EXIT: u8 = 128 + 13;

/// Tells the person, and with `--json` the script, and gives the exit code.
pub fn report(ui: &Ui, error: &anyhow::Error) -> ExitCode {
    if error.downcast_ref::<StdoutClosed>().is_some() {
        return ExitCode::from(SIGPIPE_EXIT);
    }
    let fault = fault_of(error);
    tell(ui, &fault, fault.code.exit_code())
}

/// Tells a fault, and gives the exit code that it has here.
pub fn tell(ui: &Ui, fault: &Fault, exit: u8) -> ExitCode {
    ui.failure(fault);
    if ui.json() {
        let record = json!({
            "type": "error",
            "code": fault.code.name(),
            "exit-code": exit,
            "what": fault.what,
            "cause": fault.cause,
            "remedy": fault.remedy,
        });
        // The exit code tells it, too; nobody is left to hear that stdout is gone.
        ui.record(&record).ok();
    }
    ExitCode::from(exit)
}

/// The fault in an error's chain, or one made of the chain.
pub fn fault_of(error: &anyhow::Error) -> Fault {
    if let Some(fault) = error.chain().find_map(|e| e.downcast_ref::<Fault>()) {
        return fault.clone();
    }
    let mut chain = error.chain().map(ToString::to_string);
    let what = chain.next().unwrap_or_default();
    let causes: Vec<String> = chain.collect();
    let cause = if causes.is_empty() { "It is not known.".to_owned() } else { causes.join(": ") };
    if let Some(code) = of_file(error) {
        return Fault::new(
            code,
            format!("{} failed.", capital(&what)),
            cause,
            "See whether the name is right, and whether it is there and may be read or written by you; a program that is missing has to be installed.",
        );
    }
    Fault::new(
        FaultCode::Internal,
        format!("Something went wrong while {what}."),
        cause,
        "Mend the cause if it is on this machine, and try again; otherwise report it.",
    )
}

/// Of a file that is not there, or not to be read: a wrong name, and no defect of cygnet.
fn of_file(error: &anyhow::Error) -> Option<FaultCode> {
    let kind = error.root_cause().downcast_ref::<io::Error>()?.kind();
    match kind {
        io::ErrorKind::NotFound => Some(FaultCode::NotFound),
        io::ErrorKind::PermissionDenied => Some(FaultCode::AccessDenied),
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => Some(FaultCode::BadRequest),
        _ => None,
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// A fault of this code, as an error.
pub fn fault(
    code: FaultCode,
    what: impl Into<String>,
    cause: impl Into<String>,
    remedy: impl Into<String>,
) -> anyhow::Error {
    Fault::new(code, what, cause, remedy).into()
}

/// The last lines of a tool's output, as much as fits on a screen.
pub fn tail(text: &str) -> String {
    const LINES: usize = 15;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// What a program or the other end said, as a quotation: it can't be taken for words of ours, whatever it holds.
pub fn quoted(who: &str, text: &str) -> String {
    let tail = tail(text);
    match tail.lines().collect::<Vec<_>>().as_slice() {
        [] => format!("{who} nothing."),
        [line] => format!("{who}: {}", text::line(line)),
        several => {
            let lines: String = several.iter().map(|line| format!("\n| {}", text::line(line))).collect();
            format!("{who}:{lines}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_fault_is_found_under_any_context() {
        let error = Err::<(), _>(Fault::new(FaultCode::DiskFull, "w", "c", "r"))
            .context("pushing")
            .context("installing")
            .unwrap_err();
        assert_eq!(fault_of(&error).code, FaultCode::DiskFull);
    }

    #[test]
    fn a_chain_without_a_fault_still_has_three_parts() {
        let error = anyhow::anyhow!("no such file").context("opening x").context("reading the layout");
        let fault = fault_of(&error);
        assert_eq!(fault.code, FaultCode::Internal);
        assert_eq!(fault.what, "Something went wrong while reading the layout.");
        assert_eq!(fault.cause, "opening x: no such file");
    }

    #[test]
    fn a_missing_file_is_no_defect_of_cygnet() {
        let of =
            |kind: io::ErrorKind| fault_of(&anyhow::Error::from(io::Error::from(kind)).context("reading the key x"));
        let fault = of(io::ErrorKind::NotFound);
        assert_eq!((fault.code, fault.what.as_str()), (FaultCode::NotFound, "Reading the key x failed."));
        assert!(!fault.remedy.contains("report"), "{fault}");
        assert_eq!(of(io::ErrorKind::PermissionDenied).code, FaultCode::AccessDenied);
        assert_eq!(of(io::ErrorKind::IsADirectory).code, FaultCode::BadRequest);
        assert_eq!(of(io::ErrorKind::BrokenPipe).code, FaultCode::Internal);
    }

    #[test]
    fn a_tail_is_short_and_has_the_end() {
        let text: String = (0..100).map(|n| format!("line {n}\n\n")).collect();
        let tail = tail(&text);
        assert_eq!(tail.lines().count(), 15);
        assert!(tail.ends_with("line 99"));
        assert_eq!(super::tail(""), "");
    }
}
