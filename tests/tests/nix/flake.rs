//! The flake is read by Nix's own reader of flakes, with a nixpkgs of our stubs in the place of the real one: `flake.nix` is held
//! to the rules for flakes, and every output has its name.

use crate::tools::{evaluated, nix, nixpkgs, output, root, say};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
}

/// A flake that passes for nixpkgs.
const NIXPKGS: &str = r#"{
  outputs = _: {
    lib = import ./lib;
    legacyPackages = builtins.listToAttrs (
      map (system: {
        name = system;
        value = import ./stubs/packages.nix {
          lib = import ./lib;
          inherit system;
        };
      }) [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ]
    );
  };
}
"#;

#[test]
fn the_flake_is_read_by_nix_itself() {
    let Some(lib) = nixpkgs() else {
        say("NOT RUN: reading the flake. There is no nixpkgs and no nixpkgs.lib in CYGNET_NIXPKGS or NIX_PATH");
        return;
    };
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        say("NOT RUN: reading the flake. Nix copies flakes into its store, for which this has to be root");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (ours, theirs) = (place.path().join("cygnet"), place.path().join("nixpkgs"));
    for directory in [&ours, &theirs] {
        std::fs::create_dir(directory).unwrap();
    }
    for part in ["flake.nix", "nix-module"] {
        copy(&root().join(part), &ours);
    }
    copy(&lib.join("lib"), &theirs);
    copy(&root().join("tests/tests/nix/stubs"), &theirs);
    std::fs::write(theirs.join("flake.nix"), NIXPKGS).unwrap();
    let names = |part: &str| {
        let mut command = nix("nix");
        command.env("XDG_CACHE_HOME", place.path()).env("HOME", place.path());
        command.args(["eval", "--json", "--no-write-lock-file", "--apply", "builtins.attrNames"]);
        command.args(["--override-input", "nixpkgs", &format!("path:{}", theirs.display())]);
        let output = output(command.arg(format!("path:{}#{part}", ours.display())));
        assert!(output.status.success(), "{part}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Vec<String>>(&output.stdout).unwrap()
    };
    assert_eq!(names("nixosModules"), ["agent", "bootstrap", "bootstrapCommon", "installed"]);
    assert_eq!(names("lib"), ["bootstrapImage", "bootstrapSystem", "newestKernel"]);
    assert_eq!(names("packages.aarch64-darwin"), ["cygnet", "cygnetd", "default", "image"]);
    assert_eq!(names("templates.default"), ["description", "path", "welcomeText"]);
    say("run: the flake, by Nix's own reader, with stubs in the place of nixpkgs' packages");
}

#[test]
fn the_flake_has_what_it_should() {
    let Some(found) = evaluated() else { return };
    let outputs = &found["outputs"];
    let modules = serde_json::json!({ "agent": true, "bootstrap": true, "bootstrapCommon": true, "installed": true });
    assert_eq!(outputs["modules"], modules);
    for system in ["x86_64-linux", "aarch64-linux", "x86_64-darwin", "aarch64-darwin"] {
        let packages = serde_json::json!(["cygnet", "cygnetd", "default", "image"]);
        assert_eq!(outputs["packages"][system], packages, "{system}");
        assert_eq!(outputs["shells"][system], serde_json::json!(["default"]), "{system}");
        assert!(outputs["checks"][system].as_array().is_some_and(|checks| checks.len() >= 3), "{system}");
    }
    assert_eq!(outputs["given"], serde_json::json!(["key"]));
    assert_eq!(outputs["platform"]["hostPlatform"], "aarch64-linux");
    let template = &outputs["template"];
    assert_eq!(template["inputs"], serde_json::json!(["cygnet", "disko", "nixos-hardware", "nixpkgs"]));
    assert_eq!(template["files"], serde_json::json!(["configuration.nix", "disks.nix", "flake.nix"]));
}

#[test]
fn flake_nix_only_re_exports() {
    let text = std::fs::read_to_string(root().join("flake.nix")).unwrap();
    assert!(text.lines().count() < 12 && text.contains("import ./nix-module/outputs.nix"), "{text}");
}

#[test]
fn the_packages_are_what_they_should_be() {
    let Some(found) = evaluated() else { return };
    let packages = &found["packages"];
    assert_eq!(packages["cygnetd"]["type"], "agent", "the profile of Cargo.toml that makes it small");
    assert_eq!(packages["cygnetd"]["broken"], false);
    assert_eq!(packages["dynamic"], true, "an agent that is not static is no agent for other cards");
    assert_eq!(packages["cygnet"]["main"], "cygnet");
    let version = env!("CARGO_PKG_VERSION");
    assert!(packages["cygnet"]["version"] == version && packages["cygnetd"]["version"] == version, "{packages}");
    if packages["cygnet"]["src"].is_null() {
        say("NOT RUN: the set of the packages' sources. This Nix is older than 2.14, which lib.fileset needs");
    }
}
