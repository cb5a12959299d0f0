//! Machines that people have, and the way that is chosen there.

use super::*;
use crate::error::fault_of;

fn machine(uri: &str, systems: &[&str]) -> Machine {
    Machine { uri: uri.into(), systems: systems.iter().map(ToString::to_string).collect() }
}

/// A PC with Linux, with Nix and nothing else.
fn pc() -> Facts {
    Facts {
        os: "linux".into(),
        arch: "x86_64".into(),
        nix: Some(NixFacts { sandbox: true, ..NixFacts::default() }),
        binfmt: Binfmt::None,
        docker: Engine::Missing,
        podman: Engine::Missing,
    }
}

fn mac() -> Facts {
    Facts { os: "macos".into(), arch: "aarch64".into(), ..pc() }
}

fn with_nix(mut facts: Facts, change: impl Fn(&mut NixFacts)) -> Facts {
    let mut nix = facts.nix.take().unwrap_or_default();
    change(&mut nix);
    facts.nix = Some(nix);
    facts
}

fn emulating(nix: &mut NixFacts) {
    nix.extra_platforms.push(SYSTEM.into());
}

#[test]
fn each_machine_gets_its_way() {
    let answers = |arch: &str| Engine::Answers(arch.into());
    let held = Binfmt::Enabled { held: true };
    let loose = Binfmt::Enabled { held: false };
    let builder = |nix: &mut NixFacts| nix.builders.push(machine("ssh-ng://nas", &[SYSTEM]));
    let linux_builder = |nix: &mut NixFacts| nix.builders.push(machine("ssh-ng://builder@linux-builder", &[SYSTEM]));
    let table = [
        ("a Pi or a server", Facts { arch: "aarch64".into(), ..pc() }, Some(Way::Native)),
        ("a PC with nothing", pc(), None),
        ("a PC with a builder", with_nix(pc(), builder), Some(Way::Builder)),
        ("a PC with binfmt", with_nix(Facts { binfmt: held, ..pc() }, emulating), Some(Way::Binfmt)),
        (
            "a PC with a builder and binfmt",
            with_nix(with_nix(Facts { binfmt: held, ..pc() }, emulating), builder),
            Some(Way::Builder),
        ),
        ("a PC with binfmt that Nix does not know of", Facts { binfmt: held, ..pc() }, None),
        ("a PC with binfmt outside the sandbox", with_nix(Facts { binfmt: loose, ..pc() }, emulating), None),
        (
            "a NixOS with emulatedSystems",
            with_nix(with_nix(Facts { binfmt: loose, ..pc() }, emulating), |nix| {
                nix.sandbox_paths.push("/run/binfmt".into())
            }),
            Some(Way::Binfmt),
        ),
        ("a PC with binfmt switched off", with_nix(Facts { binfmt: Binfmt::Disabled, ..pc() }, emulating), None),
        (
            "a PC with docker only",
            Facts { nix: None, docker: answers("x86_64"), binfmt: held, ..pc() },
            Some(Way::Docker),
        ),
        ("a PC with docker and no binfmt", Facts { nix: None, docker: answers("x86_64"), ..pc() }, None),
        (
            "a PC with docker that Nix's binfmt is not for",
            Facts { docker: answers("x86_64"), binfmt: loose, ..pc() },
            None,
        ),
        ("a server with podman only", Facts { nix: None, podman: answers("arm64"), ..pc() }, Some(Way::Podman)),
        ("a Mac with nothing", mac(), None),
        ("a Mac with the linux-builder", with_nix(mac(), linux_builder), Some(Way::LinuxBuilder)),
        ("a Mac with both", with_nix(with_nix(mac(), linux_builder), builder), Some(Way::Builder)),
        ("a Mac with docker", Facts { nix: None, docker: answers("aarch64"), ..mac() }, Some(Way::Docker)),
        (
            "an old Mac with docker",
            Facts { arch: "x86_64".into(), docker: answers("x86_64"), ..mac() },
            Some(Way::Docker),
        ),
        (
            "a Mac whose docker sleeps",
            Facts { docker: Engine::Silent("Cannot connect".into()), podman: answers("arm64"), ..mac() },
            Some(Way::Podman),
        ),
    ];
    for (name, facts, way) in table {
        let chosen = choose(&look(&facts), None);
        assert_eq!(chosen.as_ref().ok().map(|choice| choice.way), way, "{name}: {chosen:?}");
    }
}

#[test]
fn where_there_is_no_way_each_is_named_with_what_it_lacks() {
    let facts = with_nix(Facts { docker: Engine::Silent("Cannot connect to the daemon".into()), ..pc() }, |nix| {
        nix.builders.push(machine("ssh-ng://nas", &["x86_64-linux"]));
    });
    let fault = fault_of(&choose(&look(&facts), None).unwrap_err());
    assert_eq!(fault.code, FaultCode::NixFailed);
    for said in [
        "native: this machine is x86_64 linux.",
        "builder: Nix's builders have ssh-ng://nas, but not for aarch64-linux",
        "linux-builder: it is for macOS.",
        "binfmt: the kernel runs no aarch64 programs",
        "docker: docker does not answer: Cannot connect to the daemon.",
        "podman: there is no podman on the PATH.",
    ] {
        assert!(fault.cause.contains(said), "{said}\n{}", fault.cause);
    }
    assert_eq!(fault.cause.lines().count(), Way::ALL.len());
}

#[test]
fn a_wanted_way_is_the_only_one() {
    let facts = Facts { nix: None, podman: Engine::Answers("arm64".into()), ..pc() };
    let looked = look(&facts);
    assert_eq!(choose(&looked, Some(Way::Podman)).unwrap().way, Way::Podman);
    let fault = fault_of(&choose(&looked, Some(Way::Binfmt)).unwrap_err());
    assert!(fault.cause.contains("there is no Nix") && !fault.cause.contains("podman"), "{fault}");
}

#[test]
fn names_are_those_of_the_command_line() {
    use clap::ValueEnum;
    for way in Way::ALL {
        assert_eq!(way.to_possible_value().unwrap().get_name(), way.name());
        assert_eq!(serde_json::to_value(way).unwrap(), way.name());
    }
}
