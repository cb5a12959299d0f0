//! Which terminals get a screen.

use super::glyph::Glyphs;
use cygnet_protocol::online::settings;
use std::fs;
use std::path::{Path, PathBuf};

/// A terminal that is to have a screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `/dev/ttyAMA0`.
    pub path: PathBuf,
    /// What is at its other end.
    pub kind: Kind,
}

/// What is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A line to somewhere, slow and perhaps recorded: nothing is drawn twice, and a program may read along.
    Serial,
    /// One of the kernel's own terminals: a person, who sees one screen.
    Video,
}

impl Device {
    fn new(path: PathBuf) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let number = name.strip_prefix("tty").unwrap_or_default();
        let video = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        Self { path, kind: if video { Kind::Video } else { Kind::Serial } }
    }

    /// `ttyAMA0`.
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// What it can show.
    pub fn glyphs(&self) -> Glyphs {
        match self.kind {
            Kind::Serial => Glyphs::Unicode,
            Kind::Video => Glyphs::Cp437,
        }
    }
}

/// Those of the settings, or else those that the kernel uses, and tty1.
pub fn choose(settings: &settings::Console) -> Vec<Device> {
    let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    of(&settings.devices, &active, Path::new("/dev/tty1").exists())
}

fn of(wanted: &[String], active: &str, has_tty1: bool) -> Vec<Device> {
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut add = |name: &str| {
        let path = Path::new("/dev").join(name);
        if !paths.contains(&path) {
            paths.push(path);
        }
    };
    if wanted.is_empty() {
        // tty0 is whichever terminal is in front, and no place to draw on.
        active.split_whitespace().filter(|name| *name != "tty0").for_each(&mut add);
        if has_tty1 {
            add("tty1");
        }
    } else {
        wanted.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).for_each(add);
    }
    paths.into_iter().map(Device::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wanted: &[&str], active: &str, has_tty1: bool) -> Vec<(String, Kind)> {
        let wanted: Vec<String> = wanted.iter().map(|w| (*w).to_owned()).collect();
        of(&wanted, active, has_tty1).iter().map(|d| (d.path.display().to_string(), d.kind)).collect()
    }

    #[test]
    fn the_kernels_consoles_are_used_unless_others_are_wanted() {
        let (serial, video) = (("/dev/ttyAMA0".to_owned(), Kind::Serial), ("/dev/tty1".to_owned(), Kind::Video));
        assert_eq!(names(&[], "tty0 ttyAMA0\n", true), [serial.clone(), video.clone()]);
        assert_eq!(names(&[], "ttyAMA0 tty1\n", true), [serial.clone(), video]);
        assert_eq!(names(&[], "", false), []);
        assert_eq!(names(&["ttyAMA0", "/dev/ttyAMA0", ""], "tty0", true), [serial]);
        assert_eq!(names(&["ttyS0"], "", false)[0].1, Kind::Serial);
    }
}
