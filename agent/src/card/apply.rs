//! Carries it out, in an order in which a power cut does no harm: the Pi's own storage first, what was taken noted last, and
//! then the FAT partition.

use super::choose::{Change, Chapter, Known, choose};
use super::sources::{self, Source, digest};
use super::state::{self, AUTHORIZED_KEYS, CARD, State};
use super::told::Line;
use super::{Gate, Place, Places, stamp};
use crate::firmware;
use cygnet_protocol::card::{CardConfig, redact};
use cygnet_protocol::online::settings::Settings;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// What a file is called until it has its place, and the old one until it is overwritten.
const NEW: &str = "CYGNET.NEW";

/// A file without its secrets.
struct Redacted<'a> {
    source: &'a Source,
    bytes: Vec<u8>,
}

/// All of it; returns what is to be said.
pub fn settle(places: &Places, place: &mut dyn Place, gate: Gate) -> Vec<Line> {
    let mut lines = Vec::new();
    if place.path().join(NEW).exists() && place.make_writable().is_ok() {
        // A power cut came between; it may have secrets.
        let _ = erase(place.path());
    }
    let (sources, failures) = sources::find(place.path());
    lines.extend(failures.iter().map(|(name, why)| Line::warning(format!("{name} can't be read: {why}"))));
    let (state, bad) = State::load(&places.state);
    let (settings, worse) = state::settings(&places.state);
    lines.extend(bad.into_iter().chain(worse).map(Line::warning));
    let mut change = choose(&sources, &Known { settings: settings.clone(), state });

    // What is secret of them is what was taken now or before.
    let host_key = change.host_key.clone().or_else(|| host_key(places));
    let taken = CardConfig {
        networks: change.settings.as_ref().unwrap_or(&settings).networks.clone(),
        host_key,
        ..CardConfig::default()
    };
    let is_taken = |source: &&Source| change.state.taken.contains_key(&source.name.to_ascii_lowercase());
    let redacted: Vec<Redacted> = sources
        .iter()
        .filter(is_taken)
        .filter_map(|source| Some((source, redact::redact(&source.bytes, &secrets(source, &taken), source.reader)?)))
        .map(|(source, bytes)| Redacted { source, bytes })
        .collect();
    for Redacted { source, bytes } in &redacted {
        change.state.taken.entry(source.name.to_ascii_lowercase()).or_default().push(digest(bytes));
    }

    let is_new = !change.chapters.is_empty();
    if is_new && let Err(error) = store(places, &change, gate) {
        lines.extend(said(&change.chapters));
        lines.push(Line::warning(format!(
            "The settings on the card could not be saved, so they stay on the FAT partition and are taken at the next boot: {error}. \
             See whether the card is full or write-protected."
        )));
        return lines;
    }
    lines.extend(said(&change.chapters));
    if !is_new && redacted.is_empty() {
        if !sources.is_empty() {
            let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
            lines.push(Line::done(format!("The settings on the card were taken before: {}", names.join(", "))));
        }
        return lines;
    }
    let notes = tidy(place, &redacted, gate);
    if is_new
        && place.make_writable().is_ok()
        && let Err(error) = gate("stamp").and_then(|()| {
            let texts: Vec<String> = notes.iter().map(|note| note.text.clone()).collect();
            let text = stamp::text(&change.chapters, &texts);
            firmware::replace(place.path(), stamp::NAME, stamp::NEW, text.as_bytes())
        })
    {
        lines.push(Line::warning(format!("{} could not be written to the card: {error}", stamp::NAME)));
    }
    lines.extend(notes);
    lines
}

/// Each sentence with its file's name.
fn said(chapters: &[Chapter]) -> Vec<Line> {
    let of = |chapter: &Chapter| {
        let named = |line: &Line| Line { text: format!("{}: {}", chapter.name, line.text), ..*line };
        chapter.lines.iter().map(named).collect::<Vec<_>>()
    };
    chapters.iter().flat_map(of).collect()
}

/// The Pi's own storage. Each file is on the disk before the next; what was taken is noted last.
fn store(places: &Places, change: &Change, gate: Gate) -> io::Result<()> {
    if let Some(settings) = &change.settings {
        gate("networks")?;
        let settings =
            Settings { country: settings.country.clone(), networks: settings.networks.clone(), ..Settings::default() };
        state::replace(&places.state.join(CARD), &serde_json::to_vec_pretty(&settings)?, 0o600)?;
    }
    if let Some(keys) = &change.keys {
        gate("authorized keys")?;
        let mut text = String::from("# From the settings on the card's FAT partition; replaced when those change.\n");
        for key in keys {
            text.push_str(key);
            text.push('\n');
        }
        state::replace(&places.state.join(AUTHORIZED_KEYS), text.as_bytes(), 0o600)?;
    }
    if let Some(key) = &change.host_key {
        let ssh = places.root.join("etc/ssh");
        gate("host key")?;
        state::replace(&ssh.join("ssh_host_ed25519_key"), key.private().as_bytes(), 0o600)?;
        gate("public host key")?;
        state::replace(&ssh.join("ssh_host_ed25519_key.pub"), format!("{}\n", key.public()).as_bytes(), 0o644)?;
    }
    gate("state")?;
    change.state.save(&places.state)
}

/// The secrets that may not stay in a file: what was taken, and all that another installer's file gives, used or not. In
/// `cygnet.toml` what is not taken is to be corrected.
fn secrets(source: &Source, taken: &CardConfig) -> CardConfig {
    let CardConfig { networks, host_key, .. } = taken.clone();
    let given = if source.is_ours() { CardConfig::default() } else { (source.reader)(&source.bytes).config };
    CardConfig {
        networks: [given.networks, networks].concat(),
        host_key: given.host_key.or(host_key),
        ..CardConfig::default()
    }
}

/// The host key that is in place, which may be one that was taken before.
fn host_key(places: &Places) -> Option<cygnet_protocol::card::HostKey> {
    let pem = fs::read_to_string(places.root.join("etc/ssh/ssh_host_ed25519_key")).ok()?;
    cygnet_protocol::card::HostKey::parse(&pem).ok()
}

/// Takes the secrets off the FAT partition, or says why they stay there.
fn tidy(place: &mut dyn Place, redacted: &[Redacted], gate: Gate) -> Vec<Line> {
    if redacted.is_empty() {
        return Vec::new();
    }
    let names: Vec<&str> = redacted.iter().map(|one| one.source.name.as_str()).collect();
    let names = names.join(", ");
    let stay = |why: String| {
        vec![Line::warning(format!(
            "The secrets in {names} stay on the FAT partition, where whoever has the card can read them: {why}. Take them out \
             with a laptop, or remove the card's write protection and start the Pi again."
        ))]
    };
    if let Err(why) = place.make_writable() {
        return stay(why);
    }
    for Redacted { source, bytes } in redacted {
        if let Err(error) = exchange(place.path(), &source.name, bytes, gate) {
            return stay(error.to_string());
        }
    }
    vec![Line::done(format!(
        "The secrets in {names} are no longer on the FAT partition; those that are used are in the Pi's own storage"
    ))]
}

/// Puts `bytes` in the place of `name`, and overwrites what was there.
fn exchange(directory: &Path, name: &str, bytes: &[u8], gate: Gate) -> io::Result<()> {
    let (new, file) = (directory.join(NEW), directory.join(name));
    gate("new file")?;
    let mut out = File::create(&new)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    drop(out);
    gate("exchange")?;
    if renameat_with(CWD, &new, CWD, &file, RenameFlags::EXCHANGE).is_ok() {
        firmware::sync_entry(&file)?;
        firmware::sync_entry(&new)?;
        firmware::sync_directory(directory)?;
        gate("erase")?;
        return erase(directory);
    }
    // A kernel before 6.0 can't do that on FAT. Its clusters are free only when the file is closed.
    let mut old = OpenOptions::new().write(true).open(&file)?;
    fs::rename(&new, &file)?;
    firmware::sync_entry(&file)?;
    firmware::sync_directory(directory)?;
    gate("erase")?;
    overwrite(&mut old)
}

/// Overwrites and removes what was exchanged.
fn erase(directory: &Path) -> io::Result<()> {
    let path = directory.join(NEW);
    overwrite(&mut OpenOptions::new().write(true).open(&path)?)?;
    fs::remove_file(&path)?;
    firmware::sync_directory(directory)
}

/// As far as it can be done from here: what a card keeps elsewhere of what was overwritten is up to the card.
fn overwrite(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    io::copy(&mut io::Read::take(io::repeat(0), length), file)?;
    file.sync_all()
}
