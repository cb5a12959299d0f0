//! What a person named: an image that is there, or an attribute of a flake.

use super::find;
use crate::error::fault;
use anyhow::Result;
use cygnet_protocol::fault::FaultCode;
use std::path::{Path, PathBuf};

/// What the image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// It is there.
    Ready(PathBuf),
    /// It has to be built.
    Flake(Flake),
}

/// `FLAKE#ATTRIBUTE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flake {
    /// The reference, `.` or `github:me/fleet`.
    pub reference: String,
    /// The attribute, without what depends on this machine's system.
    pub attribute: String,
}

impl Source {
    /// With a `#` it is of a flake; otherwise a path: of an image, of a directory with one, or of a flake's directory.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |what: String, cause: &str| {
            fault(
                FaultCode::BadRequest,
                what,
                cause,
                "Write `FLAKE#ATTRIBUTE`, as in `cygnet image build .#card`, or the path of an image.",
            )
        };
        if text.starts_with('-') {
            return Err(bad(
                format!("{text:?} names no image."),
                "It begins with a hyphen: nix would take it for an option.",
            ));
        }
        if let Some((reference, attribute)) = text.rsplit_once('#') {
            let odd = |c: char| c.is_control() || c.is_whitespace() || "\"\\$'".contains(c);
            if attribute.is_empty() || attribute.chars().any(odd) {
                return Err(bad(
                    format!("{text:?} names nothing in a flake."),
                    "What stands behind the `#` is empty, or has blanks, quotes or the like.",
                ));
            }
            let reference = if reference.is_empty() { "." } else { reference };
            return Ok(Self::Flake(Flake { reference: reference.to_owned(), attribute: attribute.to_owned() }));
        }
        let path = Path::new(text);
        if path.is_dir() && path.join("flake.nix").is_file() {
            return Ok(Self::Flake(Flake { reference: text.to_owned(), attribute: "image".to_owned() }));
        }
        if path.exists() {
            return find::image_in(path).map(Self::Ready);
        }
        // `github:me/fleet`, as nix means it: the whole flake.
        if text.contains(':') {
            return Ok(Self::Flake(Flake { reference: text.to_owned(), attribute: "image".to_owned() }));
        }
        Err(bad(
            format!("{text:?} names no image."),
            "There is no such file, and no `#` in it by which it would be a flake's.",
        ))
    }
}

impl Flake {
    /// The attribute for aarch64-linux: the image is the same wherever it is asked for, so it is not looked for under this
    /// machine's own system, which the flake may not have.
    pub fn path(&self) -> String {
        if self.attribute.contains('.') {
            self.attribute.clone()
        } else {
            format!("packages.aarch64-linux.{}", self.attribute)
        }
    }

    /// What `nix build` is given.
    pub fn installable(&self) -> String {
        format!("{}#{}", self.reference, self.path())
    }

    /// The directory, if the flake is one of this machine: it has to be brought into a container.
    pub fn directory(&self) -> Option<PathBuf> {
        let path = self.reference.strip_prefix("path:").unwrap_or(&self.reference);
        let path = path.strip_prefix("git+file://").unwrap_or(path);
        let path = path.split('?').next().unwrap_or(path);
        (path.starts_with('/') || path.starts_with('.')).then(|| PathBuf::from(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flake(text: &str) -> Flake {
        match Source::parse(text).unwrap() {
            Source::Flake(flake) => flake,
            Source::Ready(path) => panic!("{text} is the image {}", path.display()),
        }
    }

    #[test]
    fn a_flakes_attribute_is_that_of_the_pis_system() {
        assert_eq!(flake(".#card").installable(), ".#packages.aarch64-linux.card");
        assert_eq!(flake("#card").installable(), ".#packages.aarch64-linux.card");
        assert_eq!(flake("github:me/fleet").installable(), "github:me/fleet#packages.aarch64-linux.image");
        let whole = "/f#nixosConfigurations.card.config.system.build.sdImage";
        assert_eq!(flake(whole).installable(), whole);
    }

    #[test]
    fn a_flake_of_this_machine_has_a_directory() {
        let directory = |text: &str| flake(text).directory();
        assert_eq!(directory(".#x"), Some(".".into()));
        assert_eq!(directory("/home/me/fleet?dir=x#x"), Some("/home/me/fleet".into()));
        assert_eq!(directory("path:../fleet#x"), Some("../fleet".into()));
        assert_eq!(directory("git+file:///fleet#x"), Some("/fleet".into()));
        assert_eq!(directory("github:me/fleet#x"), None);
    }

    #[test]
    fn an_image_that_is_there_is_taken() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("card.img.zst");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(Source::parse(&file.to_string_lossy()).unwrap(), Source::Ready(file.clone()));
        assert_eq!(Source::parse(&place.path().to_string_lossy()).unwrap(), Source::Ready(file));
        std::fs::write(place.path().join("flake.nix"), "{ }").unwrap();
        assert_eq!(flake(&place.path().to_string_lossy()).attribute, "image");
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for bad in ["", "--impure#x", ".#", ".#a b", ".#$(id)", "/no/such/card.img"] {
            let error = Source::parse(bad).unwrap_err();
            assert_eq!(crate::error::fault_of(&error).code, FaultCode::BadRequest, "{bad}");
        }
    }
}
