//! Every file of Nix parses, and is formatted as nixfmt does.

use crate::tools::{nix, output, root, say};
use std::path::{Path, PathBuf};
use std::process::Command;

fn files() -> Vec<PathBuf> {
    let mut found = vec![root().join("flake.nix")];
    let mut waiting = vec![root().join("nix-module"), root().join("tests"), root().join("host-cli/src")];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "nix") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() > 30, "{found:?}");
    found
}

#[test]
fn every_file_parses() {
    let files = files();
    let output = output(nix("nix-instantiate").arg("--parse").args(&files));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    say(&format!("run: {} files parse", files.len()));
}

#[test]
fn every_file_is_formatted() {
    let ours: Vec<PathBuf> = files();
    for path in &ours {
        plain(path);
    }
    let Ok(version) = Command::new("nixfmt").arg("--version").output() else {
        say("NOT RUN: the format of the Nix files, but for line ends and tabs. There is no nixfmt in PATH");
        return;
    };
    let output = Command::new("nixfmt").arg("--check").args(&ours).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    say(&format!("run: the format, by nixfmt {}", String::from_utf8_lossy(&version.stdout).trim()));
}

/// What can be seen without nixfmt.
fn plain(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "the end of {}", path.display());
    for (number, line) in text.lines().enumerate() {
        assert!(!line.contains('\t') && line.trim_end() == line, "{}:{}", path.display(), number + 1);
    }
}
