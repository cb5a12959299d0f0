//! Ctrl-C: says what goes on without us, leaves no ssh behind, exits 130.

use crate::ssh::option;
use crate::ui::sink;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A person has asked us to end: what fails from here on does so because of that.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// What is true if we end now.
static FAREWELL: Mutex<String> = Mutex::new(String::new());
/// What must be set right before we end, and is not ssh's: a terminal, say.
static LAST_WISH: Mutex<Option<LastWish>> = Mutex::new(None);
/// The ssh masters that are up.
static MASTERS: Mutex<Vec<Master>> = Mutex::new(Vec::new());

/// How long it may take to say farewell and to end ssh.
const LEAVING: Duration = Duration::from_secs(5);

/// Done once, by the thread that ends us.
type LastWish = Box<dyn FnOnce() + Send>;

/// What is needed to end an ssh master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// Its control socket.
    pub socket: PathBuf,
    /// The host as given to ssh.
    pub host: String,
}

/// A mutex is poisoned only if a thread of ours panicked; what it holds is still good enough to end by.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread that waits for signals.
pub fn watch() {
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
    // Without the thread a signal just ends us, which is right enough.
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut signals = signals.forever();
            let Some(signal) = signals.next() else { return };
            INTERRUPTED.store(true, Ordering::SeqCst);
            // What there is to say and to set right may hang: on a terminal that takes nothing, on an ssh that does not answer.
            // So it is done beside, has a deadline, and the next signal ends us at once.
            let leaving = std::thread::Builder::new().name("farewell".into()).spawn(move || take_leave(signal));
            let patient = std::thread::Builder::new().name("deadline".into()).spawn(move || {
                std::thread::sleep(LEAVING);
                exit(signal);
            });
            if leaving.is_err() || patient.is_err() {
                exit(signal);
            }
            exit(signals.next().unwrap_or(signal));
        })
        .ok();
}

/// Says what is true if we end now, sets right what is to be, ends us.
fn take_leave(signal: i32) {
    if let Some(wish) = lock(&LAST_WISH).take() {
        wish();
    }
    let farewell = lock(&FAREWELL).clone();
    sink::tell(format!("\nInterrupted. {farewell}").trim_end());
    for master in lock(&MASTERS).drain(..) {
        end(&master);
    }
    exit(signal);
}

/// Ends with 128 + the signal's number, as a shell shows it.
fn exit(signal: i32) -> ! {
    std::process::exit(128 + signal)
}

/// Waits for our end if a signal has come: what failed did so because of it, and is nothing to talk about.
pub fn give_way() {
    if INTERRUPTED.load(Ordering::SeqCst) {
        std::thread::sleep(LEAVING * 2);
        exit(SIGTERM);
    }
}

/// What to tell if a signal comes from here on.
pub fn set_farewell(text: impl Into<String>) {
    *lock(&FAREWELL) = text.into();
}

/// What to do first if a signal comes from here on.
pub fn set_last_wish(wish: LastWish) {
    *lock(&LAST_WISH) = Some(wish);
}

/// Remembers a master that a signal must end.
pub fn remember(master: Master) {
    lock(&MASTERS).push(master);
}

/// Ends a master and forgets it.
pub fn release(master: &Master) {
    lock(&MASTERS).retain(|other| other != master);
    end(master);
}

fn end(master: &Master) {
    // It may be gone already; then so is the socket, and ssh's complaint is of no interest.
    let Ok(socket) = option::path(&master.socket) else { return };
    Command::new("ssh")
        .arg("-o")
        .arg(format!("ControlPath={socket}"))
        .args(["-O", "exit", "--", &master.host])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok();
    if let Some(dir) = master.socket.parent() {
        std::fs::remove_dir_all(dir).ok();
    }
}
