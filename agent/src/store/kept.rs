//! A target store that was there before: which of the closure's paths need not be sent again.
//!
//! A path counts if the target's own database has it, all it refers to counts, and its files have exactly the NAR hash
//! and size that are registered. Each is hashed once: what counts is noted in the journal like what was received.

use crate::agent::Agent;
use crate::events::lock;
use crate::install::Installation;
use crate::rules::not_now;
use crate::run::aborted;
use crate::store::database;
use cygnet_protocol::event::{EventKind, Phase, State};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::store::{PathInfo, StorePath};
use nix_archive::nar::{CaseHack, encode_path};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How much hashing may be lost to a power cut, NAR bytes: so often the journal is written.
const NOTE_BYTES: u64 = 256 * 1024 * 1024;
/// … and so often, whatever was hashed.
const NOTE_TIME: Duration = Duration::from_secs(10);
/// How often clients are told of progress.
const EVERY: Duration = Duration::from_millis(200);
/// How many damaged paths are named.
const NAMED: usize = 3;

/// Where Nix keeps its things, parents first.
const NIX: [&str; 5] = ["nix", "nix/store", "nix/var", "nix/var/nix", "nix/var/nix/db"];

/// Sees, before anything is sent, that what is there can be used at all, and says what there is.
pub fn prepare(installation: &Installation<'_>) -> Result<(), Fault> {
    let agent = installation.agent;
    let target = &agent.places.target;
    for directory in NIX {
        no_link(&target.join(directory))?;
    }
    if !database::is_there(target) {
        installation.task("There is no Nix database on the target; all of the closure is needed");
        return Ok(());
    }
    let mut count = 0_u64;
    database::registered(target, &agent.cancel, &mut |_| count += 1)?;
    installation.task(format!("{count} store path(s) are registered on the target; those that are whole are kept"));
    Ok(())
}

/// A link would lead, seen from here, into the card's own file system.
fn no_link(directory: &Path) -> Result<(), Fault> {
    match fs::symlink_metadata(directory) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(Fault::new(
            FaultCode::StepFailed,
            format!("{} is there, but is no directory.", directory.display()),
            "The kept file systems hold something other than a NixOS system, or it has its store elsewhere.",
            "Move it away, or make the file systems anew, which destroys what is on them, with the mode \
             destroy,format,mount.",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fault::new(
            FaultCode::StepFailed,
            format!("{} cannot be looked at: {error}.", directory.display()),
            "The disk, its cable or its file system is damaged.",
            "Check the file system, and look for I/O errors with `dmesg` on the Pi.",
        )),
    }
}

/// Notes those of `paths` as valid that the kept store has whole. Takes as long as reading them.
pub fn adopt(agent: &Agent, paths: &[StorePath]) -> Result<(), Fault> {
    // One at a time; whoever ends the phase waits for it, too.
    let _looking = lock(&agent.looking);
    still_receiving(agent)?;
    let target = &agent.places.target;
    let wanted: HashSet<&StorePath> = paths.iter().filter(|path| !agent.is_valid(path)).collect();
    if wanted.is_empty() || !database::is_there(target) {
        return Ok(());
    }
    let mut found: HashMap<StorePath, PathInfo> = HashMap::new();
    database::registered(target, &agent.cancel, &mut |info| {
        if wanted.contains(&info.path) {
            found.insert(info.path.clone(), info);
        }
    })?;
    if found.is_empty() {
        return Ok(());
    }
    let total = found.values().map(|info| info.nar_size).sum();
    let text = format!("Checking {} store path(s) that are on the target already", found.len());
    agent.log.emit(Some(Phase::Receive), EventKind::Task { text });
    let mut look = Look {
        agent,
        pending: Vec::new(),
        pending_bytes: 0,
        noted: Instant::now(),
        told: Instant::now(),
        done: 0,
        total,
        kept: 0,
        damaged: Vec::new(),
    };
    // What was hashed before a failure is as good as after none.
    let result = look.all(paths, found);
    let result = result.and(look.note());
    look.account();
    result
}

/// The target may be unmounted as soon as this is not so.
fn still_receiving(agent: &Agent) -> Result<(), Fault> {
    if agent.cancel.asked() {
        return Err(aborted());
    }
    match agent.state() {
        State::Receiving => Ok(()),
        State::Waiting
        | State::Installing { .. }
        | State::Failed { .. }
        | State::Interrupted { .. }
        | State::Installed
        | State::Rebooting => Err(not_now(
            "the installation receives no store paths any more.",
            "Look with `cygnet status HOST`, and go on with it: `cygnet install HOST …`.",
        )),
    }
}

struct Look<'a> {
    agent: &'a Agent,
    pending: Vec<PathInfo>,
    pending_bytes: u64,
    noted: Instant,
    told: Instant,
    done: u64,
    total: u64,
    kept: usize,
    damaged: Vec<StorePath>,
}

impl Look<'_> {
    /// In the order in which they were asked for: a client asks for references first, and what comes before what it
    /// refers to does not count.
    fn all(&mut self, paths: &[StorePath], mut found: HashMap<StorePath, PathInfo>) -> Result<(), Fault> {
        for path in paths {
            let Some(info) = found.remove(path) else { continue };
            still_receiving(self.agent)?;
            let size = info.nar_size;
            let known = |path: &StorePath| {
                *path == info.path || self.pending.iter().any(|p| p.path == *path) || self.agent.is_valid(path)
            };
            if info.references.iter().all(known) {
                self.one(info)?;
            }
            self.done += size;
            if self.pending_bytes >= NOTE_BYTES || self.noted.elapsed() >= NOTE_TIME {
                self.note()?;
            }
        }
        Ok(())
    }

    fn one(&mut self, info: PathInfo) -> Result<(), Fault> {
        let file = self.agent.places.target.join("nix/store").join(info.path.to_basename());
        let (agent, told, done, total) = (self.agent, &mut self.told, self.done, self.total);
        let whole = is_whole(&info, &file, &mut |bytes| {
            if agent.cancel.asked() {
                return Err(aborted());
            }
            if told.elapsed() >= EVERY {
                *told = Instant::now();
                still_receiving(agent)?;
                let done = (done + bytes).min(total);
                agent
                    .log
                    .emit(Some(Phase::Receive), EventKind::Progress { done, total, unit: "bytes".into(), came: None });
            }
            Ok(())
        })?;
        if whole {
            self.kept += 1;
            self.pending_bytes += info.nar_size;
            self.pending.push(info);
        } else {
            self.damaged.push(info.path);
        }
        Ok(())
    }

    fn note(&mut self) -> Result<(), Fault> {
        self.noted = Instant::now();
        self.pending_bytes = 0;
        match std::mem::take(&mut self.pending) {
            none if none.is_empty() => Ok(()),
            some => self.agent.note_valid(some),
        }
    }

    fn account(&self) {
        let text = format!("{} store path(s) on the target are whole and are not sent again", self.kept);
        self.agent.log.emit(Some(Phase::Receive), EventKind::Task { text });
        if !self.damaged.is_empty() {
            self.agent.log.emit(Some(Phase::Receive), EventKind::Warning { text: complaint(&self.damaged) });
        }
    }
}

fn complaint(damaged: &[StorePath]) -> String {
    let names: Vec<String> = damaged.iter().take(NAMED).map(StorePath::to_basename).collect();
    let more = match damaged.len() - names.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "The store on the disks has {} path(s) that are not what its database says: {}{more}. They are sent again. \
         The disk may be failing; `nix-store --verify --check-contents` looks at all others.",
        damaged.len(),
        names.join(", ")
    )
}

/// Whether the files have exactly the registered NAR hash and size. What cannot be read or packed has not.
///
/// `watch` hears how many bytes were read; when it says no, that is the fault.
fn is_whole(info: &PathInfo, file: &Path, watch: &mut dyn FnMut(u64) -> Result<(), Fault>) -> Result<bool, Fault> {
    let mut hashing = Hashing { hash: Sha256::new(), size: 0, limit: info.nar_size, watch, stopped: None };
    let packed = encode_path(&mut hashing, file, CaseHack::Disabled);
    let Hashing { hash, size, stopped, .. } = hashing;
    match (stopped, packed) {
        (Some(fault), _) => Err(fault),
        (None, Err(_)) => Ok(false),
        (None, Ok(())) => Ok(size == info.nar_size && hash.finalize().as_slice() == info.nar_hash.digest_as_bytes()),
    }
}

struct Hashing<'a> {
    hash: Sha256,
    size: u64,
    limit: u64,
    watch: &'a mut dyn FnMut(u64) -> Result<(), Fault>,
    stopped: Option<Fault>,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.size += bytes.len() as u64;
        if self.size > self.limit {
            return Err(io::Error::other("longer than registered"));
        }
        if let Err(fault) = (self.watch)(self.size) {
            self.stopped = Some(fault);
            return Err(io::Error::other("stopped"));
        }
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::store::{HashAlgorithm, NixHash, parse_store_path};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn sample() -> (tempfile::TempDir, PathInfo) {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("file"), vec![7; 300_000]).unwrap();
        symlink("nowhere", tree.join("link")).unwrap();
        let mut nar = Vec::new();
        encode_path(&mut nar, &tree, CaseHack::Disabled).unwrap();
        let info = PathInfo {
            path: parse_store_path("/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-sample").unwrap(),
            nar_hash: NixHash::from_algorithm_and_digest(HashAlgorithm::Sha256, &Sha256::digest(&nar)).unwrap(),
            nar_size: nar.len() as u64,
            references: vec![],
            deriver: None,
            signatures: vec![],
            ca: None,
        };
        (directory, info)
    }

    fn whole(info: &PathInfo, file: &Path) -> bool {
        is_whole(info, file, &mut |_| Ok(())).unwrap()
    }

    #[test]
    fn only_what_is_exactly_as_registered_is_whole() {
        let (directory, info) = sample();
        let tree = directory.path().join("tree");
        assert!(whole(&info, &tree));
        assert!(!whole(&PathInfo { nar_size: info.nar_size + 8, ..info.clone() }, &tree));
        assert!(!whole(&PathInfo { nar_size: info.nar_size - 8, ..info.clone() }, &tree));
        assert!(!whole(&info, &directory.path().join("gone")));
        let file = tree.join("file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(!whole(&info, &tree), "an executable bit more");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
        assert!(whole(&info, &tree));
        let mut content = fs::read(&file).unwrap();
        content[200_000] ^= 1;
        fs::remove_file(&file).unwrap();
        fs::write(&file, &content).unwrap();
        assert!(!whole(&info, &tree), "a bit");
        fs::remove_file(&file).unwrap();
        assert!(!whole(&info, &tree), "a file less");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &file,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
        assert!(!whole(&info, &tree), "a pipe is not waited for");
    }

    #[test]
    fn who_watches_may_stop_it() {
        let (directory, info) = sample();
        let stop = || Fault::new(FaultCode::Aborted, "w", "c", "r");
        let stopped = is_whole(&info, &directory.path().join("tree"), &mut |bytes| match bytes {
            100_000.. => Err(stop()),
            _ => Ok(()),
        });
        assert_eq!(stopped, Err(stop()));
    }

    #[test]
    fn a_store_elsewhere_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        assert!(no_link(&directory.path().join("nix")).is_ok() && no_link(directory.path()).is_ok());
        symlink("/nix", directory.path().join("nix")).unwrap();
        let fault = no_link(&directory.path().join("nix")).unwrap_err();
        assert!(fault.what.contains("no directory"), "{fault}");
    }

    #[test]
    fn a_few_damaged_paths_are_named() {
        let path = |n: u32| parse_store_path(&format!("/nix/store/{n}c5b8vw40dy178xlpddw65q9gf1h2186-p{n}")).unwrap();
        assert!(complaint(&[path(0)]).contains("1 path(s)") && complaint(&[path(0)]).contains("-p0. They"));
        let many: Vec<StorePath> = (0..5).map(path).collect();
        assert!(complaint(&many).contains("-p2 and 2 more. They"), "{}", complaint(&many));
    }
}
