//! A flake's nixosConfiguration: its system is built, its disko layout evaluated.

use super::run::{Output, failed, run};
use crate::error::{fault, tail};
use crate::ui::Ui;
use anyhow::Result;
use cygnet_protocol::fault::FaultCode;

/// Drops what is disko's own from `config.disko.devices`.
const CLEAN_DEVICES: &str = include_str!("clean-devices.nix");
/// The `nix` command is still experimental in every release.
const EXPERIMENTAL: [&str; 2] = ["--extra-experimental-features", "nix-command flakes"];

/// `FLAKE#HOST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlakeHost {
    /// The flake reference.
    flake: String,
    /// The name of the nixosConfiguration.
    host: String,
}

impl FlakeHost {
    /// Splits at the last `#`; a flake reference has none itself.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |cause: &str| {
            fault(
                FaultCode::BadRequest,
                format!("{text:?} names no system of a flake."),
                cause,
                "Write `FLAKE#HOST` with the name of a nixosConfiguration, as in `--flake .#pi`.",
            )
        };
        let Some((flake, host)) = text.rsplit_once('#') else { return Err(bad("There is no `#` in it.")) };
        if host.is_empty() {
            return Err(bad("Nothing stands behind the `#`."));
        }
        if flake.starts_with('-') {
            return Err(bad("It begins with a hyphen, so that nix would take it for an option."));
        }
        if host.chars().any(|c| c.is_control() || "\"\\$".contains(c)) {
            return Err(bad("The name of the system has a quote, a backslash, a dollar sign or a control character."));
        }
        let flake = if flake.is_empty() { "." } else { flake };
        Ok(Self { flake: flake.to_owned(), host: host.to_owned() })
    }

    fn attribute(&self, rest: &str) -> String {
        format!("{}#nixosConfigurations.\"{}\".config.{rest}", self.flake, self.host)
    }

    /// Builds the system and gives its store path.
    pub fn build(&self, ui: &Ui) -> Result<String> {
        ui.status(&format!("Building {}#{} …", self.flake, self.host));
        let attribute = self.attribute("system.build.toplevel");
        // `--print-out-paths` only came with Nix 2.9.
        let mut arguments = vec!["build", "--no-link", "--json"];
        arguments.extend(EXPERIMENTAL);
        arguments.push(&attribute);
        let output = run(Some(ui), "nix", &arguments)?;
        let stdout = self.checked(output, "Building the system")?;
        built(&stdout)
            .ok_or_else(|| failed("Building the system", &format!("It printed no store path but {stdout:?}.")))
    }

    /// Evaluates `config.disko.devices`.
    pub fn layout(&self, ui: &Ui) -> Result<serde_json::Value> {
        ui.status(&format!("Evaluating the layout of {}#{} …", self.flake, self.host));
        let attribute = self.attribute("disko.devices");
        let mut arguments = vec!["eval", "--json", "--apply", CLEAN_DEVICES];
        arguments.extend(EXPERIMENTAL);
        arguments.push(&attribute);
        let output = run(None, "nix", &arguments)?;
        let no_disko = !output.success
            && (output.stderr.contains("attribute 'disko' missing") || output.stderr.contains("config.disko"));
        if no_disko && self.names().is_some_and(|names| names.contains(&self.host)) {
            return Err(fault(
                FaultCode::BadLayout,
                format!("{}#{} has no disko layout.", self.flake, self.host),
                format!("Nix says:\n{}", tail(&output.stderr)),
                "Import disko's NixOS module and set `disko.devices`, or give the layout with `--disko devices.json`.",
            ));
        }
        let stdout = self.checked(output, "Evaluating the layout")?;
        super::layout::parse(stdout.as_bytes(), &attribute)
    }

    /// stdout, or a fault that lists the names there are if this one isn't.
    fn checked(&self, output: Output, what: &str) -> Result<String> {
        if !output.success
            && let Some(names) = self.names()
            && !names.contains(&self.host)
        {
            let list = if names.is_empty() { "none at all".to_owned() } else { names.join(", ") };
            return Err(fault(
                FaultCode::NixFailed,
                format!("The flake {} has no nixosConfiguration {:?}.", self.flake, self.host),
                format!("It has: {list}."),
                format!("Give one of them, as in `--flake {}#{}`.", self.flake, names.first().map_or("HOST", |n| n)),
            ));
        }
        output.or_fault(what)
    }

    /// The names of the flake's nixosConfigurations, if it can be evaluated as far as that.
    fn names(&self) -> Option<Vec<String>> {
        let attribute = format!("{}#nixosConfigurations", self.flake);
        let mut arguments = vec!["eval", "--json", "--apply", "builtins.attrNames"];
        arguments.extend(EXPERIMENTAL);
        arguments.push(&attribute);
        let output = run(None, "nix", &arguments).ok()?;
        serde_json::from_str(&output.or_fault("").ok()?).ok()
    }
}

/// The store path in the JSON of `nix build --json`: `[{"drvPath": …, "outputs": {"out": …}}]`.
fn built(json: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    match value.as_array()?.as_slice() {
        [built] => Some(built.get("outputs")?.get("out")?.as_str()?.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_has_one_result() {
        let one = r#"{"drvPath":"/nix/store/d.drv","outputs":{"out":"/nix/store/o"}}"#;
        assert_eq!(built(&format!("[{one}]\n")).as_deref(), Some("/nix/store/o"));
        for bad in ["", "[]", "{}", "[{}]", &format!("[{one},{one}]")] {
            assert_eq!(built(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_reference_is_a_flake_and_a_name() {
        let parse = |text: &str| FlakeHost::parse(text).map(|f| (f.flake, f.host)).ok();
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(parse(".#pi"), pair(".", "pi"));
        assert_eq!(parse("#pi"), pair(".", "pi"));
        assert_eq!(parse("github:me/fleet?dir=x#pi.home"), pair("github:me/fleet?dir=x", "pi.home"));
        for bad in [".", "", ".#", "--impure#pi", ".#a\"b", ".#a${b}"] {
            assert_eq!(parse(bad), None, "{bad} was accepted");
        }
        let host = FlakeHost::parse("/x#pi.home").unwrap();
        assert_eq!(host.attribute("disko.devices"), "/x#nixosConfigurations.\"pi.home\".config.disko.devices");
    }
}
