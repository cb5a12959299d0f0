//! The image in what a build has made.

use crate::error::fault;
use anyhow::{Context, Result};
use cygnet_protocol::fault::FaultCode;
use std::path::{Path, PathBuf};

/// What `cygnet card flash` takes.
const ENDS: &[&str] = &[".img", ".img.zst", ".img.xz", ".img.gz"];

/// The one image that `place` is, or that lies in it or in its `sd-image`.
///
/// # Errors
/// If there is none, or if there are several.
pub fn image_in(place: &Path) -> Result<PathBuf> {
    if place.is_file() {
        return if is_image(place) {
            Ok(place.to_owned())
        } else {
            Err(no_image(place, "It is a file of another kind."))
        };
    }
    let inner = place.join("sd-image");
    let directory = if inner.is_dir() { inner } else { place.to_owned() };
    let entries = std::fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| is_image(path)).collect();
    found.sort();
    match found.as_slice() {
        [image] => Ok(image.clone()),
        [] => Err(no_image(&directory, "What was built is no card image, or it was not built to its end.")),
        several => {
            let names: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
            Err(fault(
                FaultCode::BadRequest,
                format!("There are {} images in {}.", several.len(), directory.display()),
                format!("They are: {}.", names.join(", ")),
                "Name one of them.",
            ))
        }
    }
}

fn is_image(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    ENDS.iter().any(|end| name.len() > end.len() && name.ends_with(end)) && path.is_file()
}

fn no_image(place: &Path, cause: &str) -> anyhow::Error {
    fault(
        FaultCode::BadRequest,
        format!("There is no image in {}: no file that ends in {}.", place.display(), ENDS.join(", ")),
        cause,
        "Name the attribute that is the image: `bootstrapImage` of cygnet's flake makes one, as does `system.build.sdImage`.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_image_is_found_wherever_it_lies() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        assert!(image_in(root).is_err());
        std::fs::create_dir(root.join("sd-image")).unwrap();
        let image = root.join("sd-image/card.img.zst");
        std::fs::write(&image, "").unwrap();
        std::fs::write(root.join("sd-image/nothing.txt"), "").unwrap();
        assert_eq!(image_in(root).unwrap(), image);
        assert_eq!(image_in(&image).unwrap(), image);
        assert!(image_in(&root.join("sd-image/nothing.txt")).is_err());
        std::fs::write(root.join("sd-image/b.img"), "").unwrap();
        assert!(image_in(root).unwrap_err().to_string().contains("2 images"));
    }
}
