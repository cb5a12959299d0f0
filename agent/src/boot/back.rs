//! What the card's agent makes of it that it runs although the SSD was to: the cause, with the log of the start that failed.

use super::confirm::was_changed;
use super::file::{self, Reading};
use super::place;
use crate::agent::Agent;
use cygnet_protocol::boot::DIRECTORY;
use cygnet_protocol::boot::trial::{Found, LOG, Log, MOST, cause, fault, is_of};
use cygnet_protocol::event::EventKind;
use cygnet_protocol::fault::Fault;
use rustix::fs::{Mode, OFlags, open};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Where kernels leave what they said at their end, and where systemd puts that.
const PSTORE: [&str; 2] = ["/sys/fs/pstore", "/var/lib/systemd/pstore"];
/// The log as it is kept on the card, below the agent's state directory.
pub const KEPT: &str = "trial.log";
/// How many of the log's last lines are told as events; all of them are in [`KEPT`].
const TOLD: usize = 40;

/// Looks, on a thread of its own: the agent is there before any disk is.
pub fn spawn(agent: Arc<Agent>) {
    let spawned = std::thread::Builder::new().name("switch".into()).spawn(move || look(&agent));
    if let Err(error) = spawned {
        tracing::warn!("the card's switch is not looked at: {error}");
    }
}

fn look(agent: &Agent) {
    if was_changed() {
        // What it says is for the next start, and the agent was only started again.
        return;
    }
    let (reading, number) = match place::open(&agent.identity.board) {
        Ok((fat, place::Runs::Card)) => (file::read(fat.path()).unwrap_or(Reading::Missing), file::number(fat.path())),
        Ok((_, place::Runs::Ssd)) | Err(_) => return,
    };
    if cause(reading.found(), Found::default()).is_none() {
        return;
    }
    let log = find_log().filter(|log| is_of(log, reading.found().flatten(), &number));
    let panic = PSTORE.iter().any(|directory| panicked(Path::new(directory)));
    if let Some((fault, lines)) = judge(reading, log.as_ref(), panic) {
        if let Some(log) = &log {
            let kept = agent.places.state.join(KEPT);
            if let Err(error) = crate::card::replace(&kept, log.render().as_bytes(), 0o600) {
                tracing::warn!("the log of the trial is not kept on the card: {error}");
            }
        }
        for line in lines {
            agent.log.emit(None, EventKind::Output { line });
        }
        agent.came_back(fault);
    }
}

/// The fault, and the lines that are told with it.
fn judge(reading: Reading, log: Option<&Log>, panic: bool) -> Option<(Fault, Vec<String>)> {
    let cause = cause(reading.found(), Found { log, panic })?;
    let lines = log.map(|log| {
        let skip = log.lines.len().saturating_sub(TOLD);
        log.lines.iter().skip(skip).map(|line| format!("trial: {line}")).collect()
    });
    Some((fault(cause, log), lines.unwrap_or_default()))
}

/// The first log on a FAT partition of another disk, mounted read-only for that.
fn find_log() -> Option<Log> {
    place::fat_of_others().find_map(|fat| read(fat.path()))
}

fn read(fat: &Path) -> Option<Log> {
    let path = fat.join(DIRECTORY).join(LOG);
    let file = File::from(open(&path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()?);
    let mut bytes = Vec::new();
    file.take(MOST as u64).read_to_end(&mut bytes).ok()?;
    Log::parse(&bytes)
}

/// Whether a kernel wrote down that it panicked.
fn panicked(pstore: &Path) -> bool {
    fs::read_dir(pstore).into_iter().flatten().flatten().take(64).any(|entry| {
        let mut bytes = Vec::new();
        let read = File::open(entry.path()).and_then(|file| file.take(256 * 1024).read_to_end(&mut bytes));
        let words = b"Kernel panic - not syncing";
        read.is_ok() && bytes.windows(words.len()).any(|window| window == words)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::boot::switch::Switch;
    use cygnet_protocol::boot::trial::End;

    #[test]
    fn the_cause_is_told_with_the_end_of_the_log() {
        let fat = tempfile::tempdir().unwrap();
        assert_eq!(read(fat.path()), None);
        let lines: Vec<String> = (0..100).map(|n| format!("line {n}")).collect();
        let log = Log { end: End::Emergency, failed: vec!["a.mount".into()], lines, ..Log::default() };
        fs::create_dir(fat.path().join("cygnet")).unwrap();
        fs::write(fat.path().join("cygnet/trial.log"), log.render()).unwrap();
        let read = read(fat.path()).unwrap();
        let gone = Reading::Says(Switch::Gone { started: true });
        let (fault, told) = judge(gone, Some(&read), false).unwrap();
        assert!(fault.what.contains("B07-EMERGENCY") && fault.cause.contains("a.mount"), "{fault}");
        assert_eq!((told.len(), told.last().unwrap().as_str()), (TOLD, "trial: line 99"));
        assert!(judge(gone, None, true).unwrap().0.what.contains("B04-PANIC"));
        assert!(judge(Reading::Damaged, None, false).unwrap().0.what.contains("B14"));
        assert_eq!(judge(Reading::Missing, None, false), None);
        assert_eq!(judge(Reading::Says(Switch::Card), None, true), None);
    }

    #[test]
    fn a_panic_is_found_where_the_kernel_left_it() {
        let pstore = tempfile::tempdir().unwrap();
        assert!(!panicked(pstore.path()) && !panicked(&pstore.path().join("none")));
        fs::write(pstore.path().join("dmesg-ramoops-0"), "Panic#1\n<0>Kernel panic - not syncing: VFS").unwrap();
        assert!(panicked(pstore.path()));
    }
}
