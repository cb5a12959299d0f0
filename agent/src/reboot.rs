//! How the Pi is restarted: by systemd, and if that does not do it, back to where it was, with a word about it. With force, by
//! the kernel alone at the end: a disk that does not answer holds up everything else that has to do with disks.

use crate::agent::Agent;
use crate::run::{capture_within, tool};
use cygnet_protocol::event::{EventKind, State};
use cygnet_protocol::fault::{Fault, FaultCode};
use rustix::system::RebootCommand;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// How long clients get to read the last events before the network goes down.
const GRACE: Duration = Duration::from_secs(2);
/// How long systemd may take to say that it does it.
const TO_ASK: Duration = Duration::from_secs(30);
/// How long systemd may take to do it. It ends the agent long before.
const TO_GO: Duration = Duration::from_secs(150);
/// The same, if somebody said that it must be.
const TO_GO_BY_FORCE: Duration = Duration::from_secs(30);
/// How long what was written to the card may take to be there. Longer than that, the card hangs, too.
const TO_SYNC: Duration = Duration::from_secs(5);
/// How long the kernel may take for each of its emergency measures.
const TO_ACT: Duration = Duration::from_secs(2);
/// Documentation/admin-guide/sysrq.rst.
const SYSRQ: &str = "/proc/sysrq-trigger";

/// Restarts the Pi, after a moment; `before` is the state that it goes back to if the Pi goes on. Returns only then.
pub fn restart(agent: &Agent, before: State) {
    std::thread::sleep(GRACE);
    if let Err(why) = by_systemd(agent, TO_GO, &|| agent.is_forcing()) {
        if agent.is_forcing() {
            // Another thread sees to it.
            return;
        }
        agent.stays(before, fault(&why));
    }
}

/// Restarts the Pi, whatever it takes.
pub fn force(agent: &Agent) {
    std::thread::sleep(GRACE);
    if let Err(why) = by_systemd(agent, TO_GO_BY_FORCE, &|| false) {
        tracing::error!("{why}; now the kernel does it");
    }
    sync_card(&agent.places.state);
    if let Err(error) = by_the_kernel(Path::new(SYSRQ), TO_ACT) {
        tracing::error!("{SYSRQ}: {error}");
    }
    if let Err(error) = rustix::system::reboot(RebootCommand::Restart) {
        tracing::error!("reboot(2): {error}; only pulling the plug helps");
    }
}

/// Asks systemd, and waits for the end. What comes back is why it did not come.
fn by_systemd(agent: &Agent, patience: Duration, taken_over: &dyn Fn() -> bool) -> Result<(), String> {
    // There is somebody to hear it only on the machine's own agent.
    capture_within(TO_ASK, &["systemctl", "reboot"]).map_err(|error| error.to_string())?;
    let asked = Instant::now();
    while asked.elapsed() < patience && !taken_over() && !agent.is_ending() {
        std::thread::sleep(tool::LOOK);
    }
    if agent.is_ending() {
        return Ok(());
    }
    Err(format!("systemd said that it reboots, and {} s later it had not", patience.as_secs()))
}

fn fault(why: &str) -> Fault {
    Fault::new(
        FaultCode::StepFailed,
        format!("The Pi was not rebooted: {why}."),
        "systemd does not answer, something keeps it from rebooting, or a disk does not answer.",
        "Try again with `cygnet reboot HOST`; if that does not help, `cygnet reboot HOST --force` has the kernel do it.",
    )
}

/// Brings what was written to the card there, on a thread that is left behind if the card does not answer.
fn sync_card(state: &Path) {
    let (done, result) = channel();
    let state = state.to_owned();
    let work = move || {
        let synced = File::open(&state).and_then(|directory| Ok(rustix::fs::syncfs(directory)?));
        let _ = done.send(synced);
    };
    let started = std::thread::Builder::new().name("sync-card".into()).spawn(work);
    if started.is_err() || result.recv_timeout(TO_SYNC).is_err() {
        tracing::error!("what was written to the card last may not be there");
    }
}

/// Has the kernel write what it can, mount everything read-only, and reset. The first two it does by the way, so that a disk
/// that does not answer holds up nothing.
fn by_the_kernel(sysrq: &Path, pause: Duration) -> io::Result<()> {
    for command in ["s", "u", "b"] {
        OpenOptions::new().append(true).open(sysrq)?.write_all(command.as_bytes())?;
        std::thread::sleep(pause);
    }
    Ok(())
}

/// Tells everybody that the Pi goes on.
pub fn tell(agent: &Agent, fault: &Fault) {
    let text = format!("{} {} {}", fault.what, fault.cause, fault.remedy);
    agent.log.emit(None, EventKind::Warning { text });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_writes_remounts_and_resets_in_this_order() {
        let directory = tempfile::tempdir().unwrap();
        let trigger = directory.path().join("sysrq-trigger");
        assert!(by_the_kernel(&trigger, Duration::ZERO).is_err(), "it must never be made");
        std::fs::write(&trigger, "").unwrap();
        by_the_kernel(&trigger, Duration::ZERO).unwrap();
        assert_eq!(std::fs::read(&trigger).unwrap(), b"sub");
    }
}
