//! The card's own store as a source: what it has of the closure is copied to the target, and never sent.
//!
//! A path is packed, hashed and unpacked again, so that it arrives only if it is what the card's Nix has registered. A reflink
//! or copy_file_range(2) would not save anything: the bytes have to be read for the hash, and card and target are never one
//! file system.

use crate::agent::Agent;
use crate::events::lock;
use crate::run::aborted;
use crate::store::kin::Search;
use crate::store::sync::Syncer;
use crate::store::{database, import::import};
use cygnet_protocol::event::{Arrival, EventKind, Phase, Source};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::store::{Kin, PathInfo, StorePath};
use cygnet_protocol::stretch::Replay;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often clients are told of progress.
const EVERY: Duration = Duration::from_millis(200);

/// Copies those of `paths` to the target that the card has, and notes them as valid. Takes as long as reading and writing them.
///
/// What the card has, but not as it should be, is left to the client, with a warning; so is everything if the card's database
/// cannot be read.
///
/// Returns what on the card the others could be made of.
///
/// # Errors
/// If the target cannot be written, or the installation is aborted.
pub fn copy(agent: &Agent, paths: &[StorePath]) -> Result<Vec<Kin>, Fault> {
    // One at a time; whoever ends the phase waits for it, too.
    let _looking = lock(&agent.looking);
    let _copying = lock(&agent.copying);
    if agent.has_channel() {
        // Both would write the same paths.
        return Ok(Vec::new());
    }
    let card = &agent.places.card;
    let wanted: HashSet<&StorePath> = paths.iter().filter(|path| !agent.is_valid(path)).collect();
    if wanted.is_empty() || !database::is_there(card) {
        return Ok(Vec::new());
    }
    let mut found: HashMap<StorePath, PathInfo> = HashMap::new();
    let mut search = Search::new(wanted.iter().copied());
    let read = database::registered(card, &agent.cancel, &mut |info| {
        if !agent.is_bad_base(&info.path) {
            search.show(&info);
        }
        if wanted.contains(&info.path) {
            found.insert(info.path.clone(), info);
        }
    });
    match read {
        Ok(()) => {}
        Err(fault) if fault.code == FaultCode::Aborted => return Err(fault),
        Err(fault) => {
            warn(agent, format!("Nothing is copied from the card's own store: {}", fault.what));
            return Ok(Vec::new());
        }
    }
    let mut kin = search.done();
    if found.is_empty() {
        return Ok(kin);
    }
    let store = agent.places.target.join("nix/store");
    let count = std::thread::scope(|scope| {
        let (syncer, work) = Syncer::new(agent, &store);
        let syncing = scope.spawn(move || work.run());
        let copied = all(agent, paths, found, &store, &syncer);
        drop(syncer);
        let synced = syncing.join().unwrap_or_else(|_| Err(Fault::internal("Syncing the store ended.", "a panic")));
        copied.and_then(|copied| synced.map(|()| copied))
    })?;
    agent.tell_came(agent.receive_progress(0), Arrival { source: Source::Card, paths: count.0, bytes: count.1 });
    agent.note_from_card(count);
    kin.retain(|kin| !agent.is_valid(&kin.path));
    Ok(kin)
}

/// Copies in the order in which was asked: a client asks for references first. Returns paths and NAR bytes.
fn all(
    agent: &Agent,
    paths: &[StorePath],
    mut found: HashMap<StorePath, PathInfo>,
    store: &Path,
    syncer: &Syncer,
) -> Result<(u64, u64), Fault> {
    let text = format!("Copying {} store path(s) from the card", found.len());
    agent.log.emit(Some(Phase::Receive), EventKind::Task { text });
    let (begin, total) = agent.receive_progress(0);
    let mut told = Instant::now();
    let (mut count, mut bytes) = (0, 0);
    for path in paths {
        if agent.has_channel() {
            // It waits for us; the rest is sent.
            break;
        }
        let Some(info) = found.remove(path) else { continue };
        let known = |path: &StorePath| *path == info.path || syncer.has(path) || agent.is_valid(path);
        if !info.references.iter().all(known) {
            continue;
        }
        syncer.check()?;
        let source = agent.places.card.join("nix/store").join(info.path.to_basename());
        let replay = Replay::start(source, info.nar_size)
            .map_err(|error| Fault::internal("A store path of the card could not be read.", error))?;
        let copied = import(&info, &mut { replay }, store, &mut |so_far| {
            if told.elapsed() >= EVERY {
                told = Instant::now();
                let came = Arrival { source: Source::Card, paths: count, bytes: bytes + so_far };
                agent.tell_came((begin + came.bytes, total), came);
            }
            if agent.cancel.asked() { Err(aborted()) } else { Ok(()) }
        });
        match copied {
            Ok(_) => {
                count += 1;
                bytes += info.nar_size;
                syncer.whole(info)?;
            }
            Err(fault)
                if matches!(fault.code, FaultCode::HashMismatch | FaultCode::Garbage | FaultCode::ConnectionLost) =>
            {
                let name = info.path.to_basename();
                warn(
                    agent,
                    format!(
                        "{name} on the card is not what its database says; it is sent instead. The card may be failing."
                    ),
                );
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok((count, bytes))
}

fn warn(agent: &Agent, text: String) {
    agent.log.emit(Some(Phase::Receive), EventKind::Warning { text });
}
