//! What a way runs. Pure, but for asking where the flake's directory is.

use super::choose::{Choice, Way};
use super::source::Flake;
use anyhow::{Context, Result};
use std::path::Path;

/// The `nix` command is still experimental in every release.
const EXPERIMENTAL: [&str; 2] = ["--extra-experimental-features", "nix-command flakes"];
/// Where there is a Nix for aarch64.
const CONTAINER: &str = "docker.io/nixos/nix";
/// The container's store, kept from one build to the next.
const VOLUME: &str = "cygnet-nix:/nix";
/// In the container: builds $1 and copies the image out. A repository belongs to another user there, which git does not like.
const SCRIPT: &str = "git config --global --add safe.directory /flake && \
    built=$(nix --extra-experimental-features 'nix-command flakes' build --no-link --print-out-paths \"$1\") && \
    cp -L \"$built\"/sd-image/* /out/";

/// The commands of a choice, each an argv.
///
/// # Errors
/// If the flake is a directory that is not there.
pub fn commands(choice: &Choice, flake: &Flake, out: &Path) -> Result<Vec<Vec<String>>> {
    let engine = match choice.way {
        Way::Native | Way::Builder | Way::LinuxBuilder | Way::Binfmt => {
            return Ok(vec![by_nix(choice.way, flake, out)]);
        }
        Way::Docker => "docker",
        Way::Podman => "podman",
    };
    let absolute = |path: &Path| std::path::absolute(path).with_context(|| format!("finding {}", path.display()));
    let directory = match flake.directory() {
        Some(directory) => Some(directory.canonicalize().with_context(|| format!("opening {}", directory.display()))?),
        None => None,
    };
    Ok(vec![by_container(engine, flake, directory.as_deref(), &absolute(out)?)])
}

fn by_nix(way: Way, flake: &Flake, out: &Path) -> Vec<String> {
    let mut argv = vec!["nix".to_owned(), "build".to_owned()];
    argv.extend(EXPERIMENTAL.map(str::to_owned));
    argv.extend(["--out-link".to_owned(), out.to_string_lossy().into_owned()]);
    if matches!(way, Way::Builder | Way::LinuxBuilder) {
        // Otherwise everything that the image is made of goes over the network twice.
        argv.extend(["--builders-use-substitutes".to_owned()]);
    }
    argv.push(flake.installable());
    argv
}

fn by_container(engine: &str, flake: &Flake, directory: Option<&Path>, out: &Path) -> Vec<String> {
    let mut argv: Vec<String> = [engine, "run", "--rm", "--platform", "linux/arm64"].map(str::to_owned).to_vec();
    argv.extend(["--volume".to_owned(), VOLUME.to_owned()]);
    argv.extend(["--volume".to_owned(), format!("{}:/out", out.display())]);
    let mut reference = flake.reference.clone();
    if let Some(directory) = directory {
        argv.extend(["--volume".to_owned(), format!("{}:/flake:ro", directory.display())]);
        let query = flake.reference.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
        // As Nix takes a directory outside: of a repository only what git knows of.
        let scheme = if directory.join(".git").exists() { "git+file://" } else { "path:" };
        reference = format!("{scheme}/flake{query}");
    }
    let installable = format!("{reference}#{}", flake.path());
    argv.extend([CONTAINER, "sh", "-c", SCRIPT, "sh", &installable].map(str::to_owned));
    argv
}

/// A command as a person would type it.
pub fn shown(argv: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+:,./@%#?&".contains(c);
    let word = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) && !word.contains(['?', '&']) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    argv.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(way: Way, reference: &str) -> Vec<String> {
        let flake = Flake { reference: reference.into(), attribute: "card".into() };
        let choice = Choice { way, why: String::new() };
        commands(&choice, &flake, Path::new("/tmp/x/cygnet-image")).unwrap().iter().map(|argv| shown(argv)).collect()
    }

    #[test]
    fn nix_builds_here_or_has_it_built() {
        let plain = "nix build --extra-experimental-features 'nix-command flakes' --out-link /tmp/x/cygnet-image";
        for way in [Way::Native, Way::Binfmt] {
            assert_eq!(lines(way, "."), [format!("{plain} .#packages.aarch64-linux.card")]);
        }
        for way in [Way::Builder, Way::LinuxBuilder] {
            let line = format!("{plain} --builders-use-substitutes github:me/fleet#packages.aarch64-linux.card");
            assert_eq!(lines(way, "github:me/fleet"), [line]);
        }
    }

    #[test]
    fn a_container_sees_the_flake_and_the_place_for_the_image_only() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        let [line] = lines(Way::Podman, &root.to_string_lossy()).try_into().unwrap();
        let start = format!(
            "podman run --rm --platform linux/arm64 --volume cygnet-nix:/nix --volume /tmp/x/cygnet-image:/out \
             --volume {}:/flake:ro docker.io/nixos/nix sh -c '",
            root.display()
        );
        assert!(line.starts_with(&start), "{line}");
        assert!(line.ends_with("' sh path:/flake#packages.aarch64-linux.card"), "{line}");
        std::fs::create_dir(root.join(".git")).unwrap();
        let [line] = lines(Way::Docker, &format!("{}?dir=pi", root.display())).try_into().unwrap();
        assert!(line.ends_with("' sh 'git+file:///flake?dir=pi#packages.aarch64-linux.card'"), "{line}");
        let [line] = lines(Way::Docker, "github:me/fleet").try_into().unwrap();
        assert!(
            !line.contains(":/flake:ro") && line.ends_with("sh github:me/fleet#packages.aarch64-linux.card"),
            "{line}"
        );
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let flake = Flake { reference: "/no/such".into(), attribute: "card".into() };
        let choice = Choice { way: Way::Docker, why: String::new() };
        let error = commands(&choice, &flake, Path::new("x")).unwrap_err();
        assert!(format!("{error:#}").starts_with("opening /no/such: "), "{error:#}");
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        let argv = ["a", "it's", "", "x?y"].map(str::to_owned);
        assert_eq!(shown(&argv), r"a 'it'\''s' '' 'x?y'");
    }
}
