//! Running Nix's commands.

use crate::error::{fault, tail};
use crate::ui::Ui;
use anyhow::{Context, Result};
use cygnet_protocol::fault::FaultCode;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

/// What a command of Nix printed.
#[derive(Debug)]
pub struct Output {
    /// Did it exit with 0?
    pub success: bool,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
}

impl Output {
    /// stdout if it went well, otherwise a fault with what Nix said.
    pub fn or_fault(self, what: &str) -> Result<String> {
        if self.success {
            return Ok(self.stdout);
        }
        Err(failed(what, &self.stderr))
    }
}

/// The fault of a command that went wrong.
pub fn failed(what: &str, stderr: &str) -> anyhow::Error {
    let remedy = match is_unknown_to_git(stderr) {
        true => {
            "Nix sees only those files of a flake that git knows: `git add FILE` tells git (no commit is needed), then try again."
        }
        false => "Mend what Nix complains about; nothing was sent to the Pi.",
    };
    fault(FaultCode::NixFailed, format!("{what} failed."), format!("Nix says:\n{}", tail(stderr)), remedy)
}

/// Whether Nix complains of a file that is not in the copy that it makes of a git repository: by name since 2.29
/// (libfetchers/git.cc), before that as missing below the copy, `/nix/store/…-source`, or a flake.nix that is none.
fn is_unknown_to_git(stderr: &str) -> bool {
    let copied =
        |line: &str| line.contains("-source/") && (line.contains("does not exist") || line.contains("No such file"));
    stderr.lines().any(|line| {
        line.contains("is not tracked by Git")
            || copied(line)
            || line.contains("source tree referenced by 'git+file:") && line.contains("does not contain a")
    })
}

/// Runs a command to its end. With a `ui`, what it says on stderr is shown while it comes.
pub fn run<S: AsRef<OsStr>>(ui: Option<&Ui>, program: &str, arguments: &[S]) -> Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            fault(
                FaultCode::NixFailed,
                format!("The program {program} could not be started."),
                error.to_string(),
                "Install Nix on this machine: it knows the store paths that are to be sent.",
            )
        })?;
    let mut stdout = child.stdout.take().context("taking the command's stdout")?;
    let stderr = child.stderr.take().context("taking the command's stderr")?;
    std::thread::scope(|scope| {
        let said = scope.spawn(move || {
            let mut text = String::new();
            let mut reader = BufReader::new(stderr);
            let mut line = Vec::new();
            while let Ok(1..) = reader.read_until(b'\n', &mut line) {
                let shown = String::from_utf8_lossy(&line);
                if let Some(ui) = ui {
                    ui.status(&format!("  nix: {}", shown.trim_end()));
                }
                text.push_str(&shown);
                line.clear();
            }
            text
        });
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).with_context(|| format!("reading what {program} prints"))?;
        let status = child.wait().with_context(|| format!("waiting for {program}"))?;
        let stderr = said.join().unwrap_or_default();
        let stdout = String::from_utf8(bytes).with_context(|| format!("reading what {program} prints as UTF-8"))?;
        Ok(Output { success: status.success(), stdout, stderr })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_a_fault_with_a_remedy() {
        let error = run::<&str>(None, "cygnet-test-no-such-program", &[]).unwrap_err();
        let fault = crate::error::fault_of(&error);
        assert_eq!(fault.code, FaultCode::NixFailed);
        assert!(fault.remedy.contains("Install Nix"), "{fault}");
    }

    #[test]
    fn a_file_that_git_does_not_know_is_told_as_such() {
        let remedy = |stderr: &str| crate::error::fault_of(&failed("Building the system", stderr)).remedy;
        for stderr in [
            "error: Path 'hosts/pi.nix' in the repository \"/home/me/fleet\" is not tracked by Git.\n\nTo make it visible …",
            "error: getting status of '/nix/store/0123-source/hosts/pi.nix': No such file or directory",
            "error: path '/nix/store/0123-source/hosts/pi.nix' does not exist",
            "error: source tree referenced by 'git+file:///home/me?dir=x' does not contain a '/flake.nix' file",
        ] {
            assert!(remedy(stderr).contains("`git add FILE`"), "{stderr}");
        }
        for stderr in ["error: attribute 'x' missing", "error: opening /nix/store/0123-x: No such file or directory"] {
            assert!(!remedy(stderr).contains("git"), "{stderr}");
        }
    }

    #[test]
    fn both_outputs_are_kept_apart() {
        let output = run(None, "sh", &["-c", "echo out; echo err >&2; exit 3"]).unwrap();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
        assert!(output.or_fault("Doing it").unwrap_err().to_string().contains("err"));
    }
}
