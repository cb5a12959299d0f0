//! Which way to build for aarch64 from here, and why. Pure.

use super::machines::Machine;
use crate::error::fault;
use anyhow::Result;
use cygnet_protocol::fault::FaultCode;
use serde::Serialize;

/// What the image is built for.
pub const SYSTEM: &str = "aarch64-linux";

/// The ways, the best first: what runs on an aarch64 before what is emulated, and what is there before what has to be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// This machine is an aarch64 Linux
    Native,
    /// Another machine, which Nix's `builders` names
    Builder,
    /// The virtual Linux of nixpkgs on macOS, which `builders` names
    LinuxBuilder,
    /// This machine, with QEMU behind the kernel's binfmt_misc
    Binfmt,
    /// A container of Docker's
    Docker,
    /// A container of Podman's
    Podman,
}

impl Way {
    /// All, in their order.
    pub const ALL: [Way; 6] = [Way::Native, Way::Builder, Way::LinuxBuilder, Way::Binfmt, Way::Docker, Way::Podman];

    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Way::Native => "native",
            Way::Builder => "builder",
            Way::LinuxBuilder => "linux-builder",
            Way::Binfmt => "binfmt",
            Way::Docker => "docker",
            Way::Podman => "podman",
        }
    }

    /// Whether Nix runs in a container rather than here.
    pub const fn is_container(self) -> bool {
        matches!(self, Way::Docker | Way::Podman)
    }
}

/// What this machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// As Rust calls it: `linux`, `macos`.
    pub os: String,
    /// As Rust calls it: `x86_64`, `aarch64`.
    pub arch: String,
    /// Nix, if it is there.
    pub nix: Option<NixFacts>,
    /// The kernel's registration for aarch64 programs.
    pub binfmt: Binfmt,
    /// Docker and Podman.
    pub docker: Engine,
    /// See above.
    pub podman: Engine,
}

/// What Nix says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NixFacts {
    /// `extra-platforms`.
    pub extra_platforms: Vec<String>,
    /// `builders`, with what is in the files that it names.
    pub builders: Vec<Machine>,
    /// Whether builds are shut off from the rest of the file system.
    pub sandbox: bool,
    /// What they see of it all the same.
    pub sandbox_paths: Vec<String>,
}

/// The kernel's binfmt_misc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binfmt {
    /// Nothing runs aarch64 programs.
    None,
    /// An interpreter is registered, but switched off.
    Disabled,
    /// An interpreter runs them; `held` if the kernel keeps it open (flag F), so that it works where its file is not seen.
    Enabled {
        /// See above.
        held: bool,
    },
}

/// Docker or Podman.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// Not on the PATH.
    Missing,
    /// There, but it does not answer; what it said.
    Silent(String),
    /// It answers; the architecture that its containers have without emulation, as it calls it.
    Answers(String),
}

/// A way that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Looked {
    /// The way.
    pub way: Way,
    /// Whether it can be gone.
    pub usable: bool,
    /// Why, or why not; a clause without a full stop.
    pub why: String,
    /// For `builder` and `linux-builder`, the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
}

/// The way that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Choice {
    /// The way.
    pub way: Way,
    /// Why.
    pub why: String,
}

/// Looks at every way.
pub fn look(facts: &Facts) -> Vec<Looked> {
    Way::ALL
        .into_iter()
        .map(|way| {
            let mut machine = None;
            let verdict = match way {
                Way::Native => native(facts),
                Way::Builder => {
                    builder(facts, false).inspect(|(_, uri)| machine = Some(uri.clone())).map(|(why, _)| why)
                }
                Way::LinuxBuilder => {
                    builder(facts, true).inspect(|(_, uri)| machine = Some(uri.clone())).map(|(why, _)| why)
                }
                Way::Binfmt => binfmt(facts),
                Way::Docker => container(facts, &facts.docker, "docker"),
                Way::Podman => container(facts, &facts.podman, "podman"),
            };
            let usable = verdict.is_ok();
            Looked { way, usable, why: verdict.unwrap_or_else(|why| why), machine }
        })
        .collect()
}

/// Takes the first that can be gone, or the wanted one.
///
/// # Errors
/// If there is none: the cause names every way and what it lacks.
pub fn choose(looked: &[Looked], wanted: Option<Way>) -> Result<Choice> {
    let allowed = |look: &&Looked| wanted.is_none_or(|way| look.way == way);
    if let Some(look) = looked.iter().filter(allowed).find(|look| look.usable) {
        return Ok(Choice { way: look.way, why: look.why.clone() });
    }
    let lacks: Vec<String> =
        looked.iter().filter(allowed).map(|look| format!("{}: {}.", look.way.name(), look.why)).collect();
    let (what, remedy) = match wanted {
        Some(way) => (
            format!("The image can't be built by way of {}.", way.name()),
            "Leave `--with` out to let cygnet choose; `cygnet image build --dry-run` names every way.",
        ),
        None => (
            format!("Nothing here can build for {SYSTEM}, which the Pi's image is."),
            "Mend one of these; the shortest is mostly Docker or Podman. Or take an image that was built elsewhere: \
             `cygnet card flash IMAGE`.",
        ),
    };
    Err(fault(FaultCode::NixFailed, what, lacks.join("\n"), remedy))
}

type Verdict = Result<String, String>;

const NO_NIX: &str = "there is no Nix on this machine (https://nixos.org/download)";

fn native(facts: &Facts) -> Verdict {
    match (facts.os.as_str(), facts.arch.as_str()) {
        ("linux", "aarch64") if facts.nix.is_none() => Err(NO_NIX.into()),
        ("linux", "aarch64") => Ok("this machine is an aarch64 Linux".into()),
        (os, arch) => Err(format!("this machine is {arch} {}", if os == "macos" { "macOS" } else { os })),
    }
}

fn builder(facts: &Facts, linux_builder: bool) -> Result<(String, String), String> {
    let Some(nix) = &facts.nix else { return Err(NO_NIX.into()) };
    if linux_builder && facts.os != "macos" {
        return Err("it is for macOS".into());
    }
    let ours: Vec<&Machine> = nix.builders.iter().filter(|m| m.is_linux_builder() == linux_builder).collect();
    if let Some(machine) = ours.iter().find(|machine| machine.systems.iter().any(|system| system == SYSTEM)) {
        let uri = machine.uri.clone();
        return Ok((format!("Nix's builders have {uri} for {SYSTEM}"), uri));
    }
    if let Some(machine) = ours.first() {
        return Err(format!(
            "Nix's builders have {}, but not for {SYSTEM}; add that to its systems in /etc/nix/machines",
            machine.uri
        ));
    }
    Err(if linux_builder {
        "Nix's builders do not name it; set nix.linux-builder.enable in nix-darwin, or run \
         `nix run nixpkgs#darwin.linux-builder` and add it to /etc/nix/machines"
            .into()
    } else {
        format!("Nix's builders name no other machine for {SYSTEM}; add one to /etc/nix/machines")
    })
}

fn binfmt(facts: &Facts) -> Verdict {
    if facts.os != "linux" {
        return Err("it is for Linux".into());
    }
    let Some(nix) = &facts.nix else { return Err(NO_NIX.into()) };
    let held = match facts.binfmt {
        Binfmt::None => {
            return Err(
                "the kernel runs no aarch64 programs; install qemu-user-static with binfmt-support, or on NixOS \
                        set boot.binfmt.emulatedSystems = [ \"aarch64-linux\" ]"
                    .into(),
            );
        }
        Binfmt::Disabled => return Err("binfmt_misc has aarch64, but switched off; write 1 to its file".into()),
        Binfmt::Enabled { held } => held,
    };
    if !nix.extra_platforms.iter().any(|platform| platform == SYSTEM) {
        return Err(format!(
            "the kernel runs aarch64 programs, but Nix does not know; add `extra-platforms = {SYSTEM}` to /etc/nix/nix.conf \
             and restart nix-daemon"
        ));
    }
    let seen = nix.sandbox_paths.iter().any(|path| path.contains("binfmt") || path.contains("qemu"));
    if nix.sandbox && !held && !seen {
        return Err(
            "the interpreter of aarch64 programs is not to be seen in Nix's sandbox; register it with the flag F \
                    (the package qemu-user-static does), or add it to extra-sandbox-paths"
                .into(),
        );
    }
    Ok("QEMU runs aarch64 programs here, slowly, by binfmt_misc".into())
}

fn container(facts: &Facts, engine: &Engine, name: &str) -> Verdict {
    let arch = match engine {
        Engine::Missing => return Err(format!("there is no {name} on the PATH")),
        Engine::Silent(said) => return Err(format!("{name} does not answer: {said}")),
        Engine::Answers(arch) => arch.as_str(),
    };
    if matches!(arch, "aarch64" | "arm64") {
        return Ok(format!("{name}'s containers are aarch64"));
    }
    // On Linux a container has this kernel; elsewhere it has that of a virtual machine, which brings QEMU along.
    match facts.binfmt {
        Binfmt::Enabled { held: true } => {}
        _ if facts.os != "linux" => {}
        Binfmt::Enabled { held: false } => {
            return Err(format!(
                "{name}'s containers are {arch}, and would not see the interpreter of aarch64 programs; register it with the \
                 flag F: `{name} run --privileged --rm tonistiigi/binfmt --install arm64`"
            ));
        }
        Binfmt::None | Binfmt::Disabled => {
            return Err(format!(
                "{name}'s containers are {arch}, and the kernel runs no aarch64 programs; \
                 `{name} run --privileged --rm tonistiigi/binfmt --install arm64` lets it"
            ));
        }
    }
    Ok(format!("{name}'s containers are {arch}, and QEMU runs aarch64 programs in them, slowly"))
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
