//! What was taken from the card before, for root only.

use cygnet_protocol::online::settings::Settings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The networks and the country, in the form of the settings file.
pub const CARD: &str = "card.json";
/// The rest.
const STATE: &str = "card-state.json";
/// Who may log in: sshd reads it beside root's own file.
pub const AUTHORIZED_KEYS: &str = "ssh/authorized_keys";
/// The most bytes of such a file.
const LIMIT: u64 = 1024 * 1024;

/// What was taken, without networks and keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct State {
    /// For each file the digests that it may have without being anything new: as it was, and without its secrets.
    pub taken: BTreeMap<String, Vec<String>>,
    /// What the Pi is called.
    pub hostname: Option<String>,
    /// Whose card it is.
    pub claim: Option<String>,
    /// The host that is to be installed.
    pub target: Option<String>,
}

impl State {
    /// What is in the state directory, and what is wrong with it. One that can't be read is as good as none: then the
    /// card's files are taken again.
    pub fn load(directory: &Path) -> (Self, Option<String>) {
        load(&directory.join(STATE), |json| serde_json::from_slice(json).map_err(|error| error.to_string()))
    }

    /// Replaces it.
    pub fn save(&self, directory: &Path) -> io::Result<()> {
        replace(&directory.join(STATE), &serde_json::to_vec_pretty(self)?, 0o600)
    }
}

/// The card's networks and country.
pub fn settings(directory: &Path) -> (Settings, Option<String>) {
    load(&directory.join(CARD), |json| Settings::parse(json).map_err(|error| error.to_string()))
}

fn load<T: Default>(path: &Path, parse: impl Fn(&[u8]) -> Result<T, String>) -> (T, Option<String>) {
    let mut json = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LIMIT).read_to_end(&mut json));
    let parsed = match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (T::default(), None),
        Err(error) => Err(error.to_string()),
        Ok(_) => parse(&json),
    };
    match parsed {
        Ok(value) => (value, None),
        Err(why) => (T::default(), Some(format!("{} can't be read and is made anew: {why}", path.display()))),
    }
}

/// Replaces a file as a whole; it is on the disk when this returns, and never readable for others than its mode says.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    if !directory.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // One that a power cut left may be anybody's to read; only a new file has the mode that is asked for.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The name is on the disk only when its directory is.
    File::open(directory)?.sync_all()
}
