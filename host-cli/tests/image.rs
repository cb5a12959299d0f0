//! `cygnet image build` with FAKE tools: the `nix`, `docker` and `podman` on the PATH here are scripts that write down what they
//! were asked and answer as the real ones would. No image is built.

use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

struct Fakes {
    place: tempfile::TempDir,
}

impl Fakes {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("bin")).unwrap();
        std::fs::write(place.path().join("flake.nix"), "{ }").unwrap();
        Self { place }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// A fake tool; `$here` is our directory.
    fn tool(&self, name: &str, script: &str) {
        let file = self.path(&format!("bin/{name}"));
        let here = self.place.path().display();
        let text = format!("#!/bin/sh\n# FAKE\nhere='{here}'\necho \"{name} $*\" >> \"$here/asked\"\n{script}\n");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A Nix with these `builders`, which "builds" an image into its store.
    fn nix(&self, builders: &str) {
        let settings = format!(r#"{{"builders":{{"value":"{builders}"}},"sandbox":{{"value":true}}}}"#);
        std::fs::write(self.path("settings"), settings).unwrap();
        self.tool(
            "nix",
            "case \"$1\" in
               config) cat \"$here/settings\" ;;
               build)
                 mkdir -p \"$here/store/sd-image\"
                 echo image > \"$here/store/sd-image/card.img.zst\"
                 while [ $# -gt 1 ]; do [ \"$1\" = --out-link ] && ln -sfn \"$here/store\" \"$2\"; shift; done ;;
             esac",
        );
    }

    fn asked(&self) -> String {
        std::fs::read_to_string(self.path("asked")).unwrap_or_default()
    }

    fn build(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_cygnet"))
            .args(["image", "build"])
            .args(arguments)
            .current_dir(self.place.path())
            // The fakes, and what they are made of.
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn is_image(path: &Value) -> bool {
    path.as_str().is_some_and(|path| std::fs::read(Path::new(path)).is_ok_and(|bytes| bytes == b"image\n"))
}

#[test]
fn a_builder_builds_it() {
    let fakes = Fakes::new();
    fakes.nix("ssh-ng://nas aarch64-linux");
    let out = fakes.path("out");
    let output = fakes.build(&[".#card", "--with", "builder", "--json", "--out", &out.to_string_lossy()]);
    let said = json(&output);
    assert!(is_image(&said["image"]) && said["way"] == "builder", "{said}");
    assert!(said["why"].as_str().unwrap().contains("ssh-ng://nas"));
    assert_eq!(said["looked"].as_array().unwrap().len(), 6);
    let asked = fakes.asked();
    assert!(asked.contains("--builders-use-substitutes .#packages.aarch64-linux.card"), "{asked}");
    // Again: the link of the last time is no obstacle, but a file of somebody's is.
    assert!(fakes.build(&[".#card", "--with", "builder", "--out", &out.to_string_lossy()]).status.success());
    let mine = fakes.path("mine");
    std::fs::write(&mine, "precious").unwrap();
    let output = fakes.build(&[".#card", "--with", "builder", "--out", &mine.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), "precious");
}

#[test]
fn a_container_builds_it_where_nix_is_missing() {
    let fakes = Fakes::new();
    fakes.tool("nix", "exit 1");
    fakes.tool("podman", "[ \"$1\" = info ] && echo arm64 && exit\necho image > \"$here/out/card.img\"");
    let output = fakes.build(&[".", "--with", "podman", "--json", "--out", "out"]);
    let said = json(&output);
    assert!(is_image(&serde_json::json!(fakes.path(said["image"].as_str().unwrap()))), "{said}");
    let asked = fakes.asked();
    let run = asked.lines().find(|line| line.starts_with("podman run")).unwrap();
    let flake = fakes.place.path().canonicalize().unwrap();
    assert!(run.contains("--platform linux/arm64 --volume cygnet-nix:/nix"), "{run}");
    assert!(run.contains(&format!("--volume {}:/flake:ro", flake.display())), "{run}");
    assert!(run.ends_with("path:/flake#packages.aarch64-linux.image"), "{run}");
}

#[test]
fn a_dry_run_prints_the_commands_and_builds_nothing() {
    let fakes = Fakes::new();
    fakes.nix("ssh-ng://nas aarch64-linux");
    let output = fakes.build(&[".#card", "--dry-run", "--with", "builder"]);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    assert!(stdout.starts_with("nix build ") && stdout.lines().count() == 1, "{stdout}");
    assert!(stderr.contains("builder        can: ") && stderr.contains("linux-builder  can't: "), "{stderr}");
    assert!(!fakes.asked().contains("nix build") && !fakes.path("cygnet-image").exists());
}

#[test]
fn without_the_wanted_way_three_parts_say_so() {
    let fakes = Fakes::new();
    fakes.nix("");
    fakes.tool("docker", "echo 'Cannot connect to the Docker daemon.' >&2; exit 1");
    let output = fakes.build(&[".#card", "--with", "docker"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(39), "{stderr}");
    for part in ["error: ", "cause:  docker: docker does not answer: Cannot connect to the Docker daemon.", "remedy: "]
    {
        assert!(stderr.contains(part), "{stderr}");
    }
}

#[test]
fn what_nix_complains_about_is_passed_on() {
    let fakes = Fakes::new();
    fakes.nix("ssh-ng://nas aarch64-linux");
    let file = fakes.path("bin/nix");
    let script = std::fs::read_to_string(&file)
        .unwrap()
        .replace("build)", "build) echo 'error: no attribute card' >&2; exit 1;;\nx)");
    std::fs::write(&file, script).unwrap();
    let output = fakes.build(&[".#card", "--with", "builder"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(39) && stderr.contains("no attribute card"), "{stderr}");
}

#[test]
fn a_ready_image_is_passed_on() {
    let fakes = Fakes::new();
    std::fs::write(fakes.path("card.img.xz"), "image\n").unwrap();
    let output = fakes.build(&["card.img.xz"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "card.img.xz\n");
    assert_eq!(json(&fakes.build(&["card.img.xz", "--json"])), serde_json::json!({ "image": "card.img.xz" }));
    assert_eq!(fakes.asked(), "");
    assert_eq!(fakes.build(&["no-such.img"]).status.code(), Some(3));
}
