//! What this machine has: asked of Nix, the kernel, Docker and Podman.

use super::choose::{Binfmt, Engine, Facts, NixFacts};
use super::machines;
use crate::error::tail;
use crate::nix::run::run;
use serde_json::Value;
use std::path::Path;

/// Where the kernel lists its interpreters.
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

/// Looks. Nothing is changed, and what does not answer is as good as missing.
pub fn look() -> Facts {
    Facts {
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        nix: nix(),
        binfmt: binfmt(Path::new(BINFMT)),
        docker: engine("docker", "{{.Architecture}}"),
        podman: engine("podman", "{{.Host.Arch}}"),
    }
}

fn nix() -> Option<NixFacts> {
    let features = ["--extra-experimental-features", "nix-command"];
    // The first since 2.19, the second until then and, with a warning, after.
    for words in [&["config", "show"][..], &["show-config"]] {
        let arguments: Vec<&str> = words.iter().copied().chain(["--json"]).chain(features).collect();
        let output = run(None, "nix", &arguments).ok()?;
        if output.success
            && let Ok(settings) = serde_json::from_str(&output.stdout)
        {
            return Some(of_settings(&settings, |file| std::fs::read_to_string(file).unwrap_or_default()));
        }
    }
    Some(NixFacts::default())
}

fn of_settings(settings: &Value, read: impl Fn(&str) -> String) -> NixFacts {
    let value = |name: &str| &settings[name]["value"];
    let words = |name: &str| match value(name) {
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect(),
        Value::String(text) => text.split_whitespace().map(ToOwned::to_owned).collect(),
        _ => Vec::new(),
    };
    let listed = value("builders").as_str().unwrap_or_default();
    let mut builders = machines::parse(listed);
    builders.extend(machines::files(listed).into_iter().flat_map(|file| machines::parse(&read(file))));
    NixFacts {
        extra_platforms: words("extra-platforms"),
        builders,
        // `relaxed` shuts off all that does not ask not to be.
        sandbox: !matches!(value("sandbox"), Value::Bool(false)) && value("sandbox").as_str() != Some("false"),
        sandbox_paths: words("sandbox-paths"),
    }
}

/// An interpreter for the ELF machine 183 (aarch64), by whatever name.
fn binfmt(directory: &Path) -> Binfmt {
    let Ok(entries) = std::fs::read_dir(directory) else { return Binfmt::None };
    let mut found = Binfmt::None;
    for entry in entries.flatten() {
        // `register` can't be read.
        let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
        match of_entry(&text) {
            Binfmt::None => {}
            Binfmt::Enabled { held: true } => return Binfmt::Enabled { held: true },
            other => found = other,
        }
    }
    found
}

/// Of one entry, as Documentation/admin-guide/binfmt-misc.rst has it.
fn of_entry(text: &str) -> Binfmt {
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start)).map(str::trim);
    // e_machine is at offset 18, two bytes, and 36 hex digits come before it.
    let is_aarch64 =
        line("magic ").is_some_and(|magic| magic.starts_with("7f454c46") && magic.get(36..40) == Some("b700"));
    if !is_aarch64 {
        return Binfmt::None;
    }
    match text.lines().next().map(str::trim) {
        Some("enabled") => Binfmt::Enabled { held: line("flags:").is_some_and(|flags| flags.contains('F')) },
        _ => Binfmt::Disabled,
    }
}

fn engine(program: &str, format: &str) -> Engine {
    let Ok(output) = run(None, program, &["info", "--format", format]) else { return Engine::Missing };
    let said = output.stdout.trim();
    if output.success && !said.is_empty() && !said.contains(char::is_whitespace) {
        return Engine::Answers(said.to_owned());
    }
    let said = tail(&output.stderr);
    let last = said.lines().last().unwrap_or("it printed nothing that makes sense").trim_end_matches(['.', '?']);
    Engine::Silent(last.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As /proc/sys/fs/binfmt_misc/qemu-aarch64 of Debian's qemu-user-static.
    const ENTRY: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn the_kernels_interpreters_are_read() {
        assert_eq!(of_entry(ENTRY), Binfmt::Enabled { held: true });
        assert_eq!(of_entry(&ENTRY.replace("POCF", "PO")), Binfmt::Enabled { held: false });
        assert_eq!(of_entry(&ENTRY.replace("enabled", "disabled")), Binfmt::Disabled);
        // RISC-V; and `status`.
        assert_eq!(of_entry(&ENTRY.replace("b700", "f300")), Binfmt::None);
        assert_eq!(of_entry("enabled\n"), Binfmt::None);
        let place = tempfile::tempdir().unwrap();
        assert_eq!(binfmt(&place.path().join("nowhere")), Binfmt::None);
        std::fs::write(place.path().join("status"), "enabled\n").unwrap();
        std::fs::write(place.path().join("a"), ENTRY.replace("POCF", "")).unwrap();
        assert_eq!(binfmt(place.path()), Binfmt::Enabled { held: false });
        std::fs::write(place.path().join("b"), ENTRY).unwrap();
        assert_eq!(binfmt(place.path()), Binfmt::Enabled { held: true });
    }

    #[test]
    fn nix_says_what_it_can() {
        let settings = json!({
            "builders": { "value": "@/etc/nix/machines" },
            "extra-platforms": { "value": ["i686-linux", "aarch64-linux"] },
            "sandbox": { "value": "relaxed" },
            "sandbox-paths": { "value": ["/run/binfmt"] },
        });
        let facts = of_settings(&settings, |file| format!("ssh://{} aarch64-linux", file.len()));
        assert_eq!(facts.builders, machines::parse("ssh://17 aarch64-linux"));
        assert!(facts.sandbox && facts.sandbox_paths == ["/run/binfmt"]);
        assert!(facts.extra_platforms.contains(&"aarch64-linux".to_owned()));
        assert!(!of_settings(&json!({ "sandbox": { "value": false } }), |_| String::new()).sandbox);
    }
}
