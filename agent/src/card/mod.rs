//! Settings that a person put on the card's FAT partition with a laptop, applied once, at boot, before sshd and the network.
//!
//! [`sources`] reads the files, `cygnet.toml` first; [`choose`] says what of them is new (pure); [`apply`] brings that to the
//! card's own storage, and only then takes the secrets off the FAT partition; [`stamp`] is what the person reads there
//! afterwards. [`state`] is what was taken before, [`told`] how the agent hears of all this, [`given`] counts what was given.
//!
//! A power cut leaves what was there before or what is new: every file is replaced as a whole, what was taken is noted last,
//! and a file that is not noted is taken again. Nothing of this may hold up the boot: a failure is told, and all goes on.

mod apply;
mod choose;
pub mod given;
mod sources;
mod stamp;
mod state;
#[cfg(test)]
mod tests;
pub mod told;

pub use state::{CARD, State, replace};

use crate::firmware::Firmware;
use crate::inspect;
use cygnet_protocol::text;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use told::Line;

/// Where things are; the tests put them elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Places {
    /// The agent's state directory.
    pub state: PathBuf,
    /// The root of the system that the Pi runs from.
    pub root: PathBuf,
    /// The directory that stands for the FAT partition, if it is not looked for.
    pub firmware: Option<PathBuf>,
}

/// A step that may fail, so that the tests can let each of them fail.
pub type Gate<'a> = &'a mut dyn FnMut(&'static str) -> io::Result<()>;

/// `cygnetd card`. The boot goes on whatever comes of it.
pub fn run(places: &Places) -> ExitCode {
    let mut lines = settle(places, &mut |_| Ok(()));
    if let Err(error) = host_name(places) {
        lines.push(Line::warning(format!("The host name could not be set: {error}.")));
    }
    for line in &lines {
        let kind = if line.warning { "warning" } else { "card" };
        crate::say::out(&format!("{kind}: {}", text::line(&line.text)));
    }
    if let Err(error) = told::write(&places.root.join(told::TOLD), &lines) {
        crate::say::err(&format!("{} was not written: {error}", told::TOLD));
    }
    ExitCode::SUCCESS
}

/// Finds the files and does with them what there is to do.
fn settle(places: &Places, gate: Gate) -> Vec<Line> {
    let mut place: Box<dyn Place> = match &places.firmware {
        Some(directory) => Box::new(Directory(directory.clone())),
        None => match Firmware::open(inspect::running_disk().as_deref()) {
            Ok(firmware) => Box::new(firmware),
            Err(error) => return vec![Line::warning(format!("No settings are read from the card: {error}."))],
        },
    };
    apply::settle(places, place.as_mut(), gate)
}

/// The FAT partition, as far as it matters here.
trait Place {
    /// Its root directory.
    fn path(&self) -> &Path;
    /// Sees that it can be written, or says why not.
    fn make_writable(&mut self) -> Result<(), String>;
}

impl Place for Firmware {
    fn path(&self) -> &Path {
        Firmware::path(self)
    }

    fn make_writable(&mut self) -> Result<(), String> {
        Firmware::make_writable(self).map_err(|error| error.to_string())
    }
}

struct Directory(PathBuf);

impl Place for Directory {
    fn path(&self) -> &Path {
        &self.0
    }

    fn make_writable(&mut self) -> Result<(), String> {
        match fs::metadata(&self.0) {
            Ok(meta) if meta.permissions().readonly() => Err("it is write-protected".into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Gives the machine the name that the card says, at each boot: on NixOS `/etc/hostname` is part of the system.
fn host_name(places: &Places) -> io::Result<()> {
    let (state, _) = State::load(&places.state);
    let Some(name) = state.hostname else { return Ok(()) };
    if places.root == Path::new("/") && rustix::system::uname().nodename().to_bytes() != name.as_bytes() {
        rustix::system::sethostname(name.as_bytes())?;
    }
    let file = places.root.join("etc/hostname");
    let plain = fs::symlink_metadata(&file).is_ok_and(|meta| meta.is_file());
    if plain && fs::read_to_string(&file).is_ok_and(|old| old.trim() != name) {
        state::replace(&file, format!("{name}\n").as_bytes(), 0o644)?;
    }
    Ok(())
}
