//! Sending a closure: ask what is missing, send that on a data channel of its own, hear what the agent says.
//!
//! [`trust`] is what the agent shall let in, [`caches`] where it gets some of that itself, [`order`] puts references first,
//! [`kin`] finds what paths can be sent as patches against, [`patch`] makes those, [`compress`] makes zstd frames of all
//! others, [`pace`] fits their level to the link, whose [`speed`] it knows, [`dense`] says where no level is of use, [`course`] where no
//! patch is, [`sender`] writes the stream. [`progress`] is how far all that is, as the agent has it, and [`stall`] whether it
//! moves.

pub mod caches;
pub mod compress;
#[cfg(feature = "libzstd")]
pub mod course;
pub mod dense;
#[cfg(feature = "libzstd")]
pub mod kin;
pub mod order;
pub mod pace;
#[cfg(feature = "libzstd")]
pub mod patch;
pub mod progress;
pub mod sender;
pub mod speed;
pub mod stall;
pub mod trust;

use crate::control::{Control, unexpected};
use crate::nix::Closure;
#[cfg(feature = "libzstd")]
use crate::nix::closure;
use crate::ssh::{Channel, Session};
use crate::ui::summary::Sent;
use anyhow::{Context, Result};
use caches::Caches;
use cygnet_protocol::event::{Event, EventKind, Source};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::frame::{self, FrameError, PATHS_PER_QUERY};
use cygnet_protocol::message::{CODE, LONG_WINDOW, Reply, Request};
use cygnet_protocol::store::{Kin, Part, PathInfo, StorePath};
use cygnet_protocol::stream::{DataHello, DataReply, MAX_WINDOW, SHORT_WINDOW};
use cygnet_protocol::trust::Trust;
use progress::{Amount, Look, Progress};
use sender::Item;
use std::collections::{HashMap, HashSet};
use std::io::BufReader;
use std::process::ChildStdout;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How far a push is; read by whoever draws it.
#[derive(Debug, Default)]
pub struct Counters {
    /// How far the closure is, as the agent has it.
    pub progress: Mutex<Progress>,
    /// NAR bytes taken from the store.
    pub nar: AtomicU64,
    /// Bytes given to ssh.
    pub wire: AtomicU64,
    /// Store paths completed.
    pub paths: AtomicU64,
    /// Store paths that were there already.
    pub skipped: AtomicU64,
    /// Store paths that were copied from the card's own store.
    pub card_paths: AtomicU64,
    /// Their NAR sizes, bytes.
    pub card_bytes: AtomicU64,
    /// Store paths that were sent as patches against others.
    pub patched_paths: AtomicU64,
    /// Sum of their NAR sizes, bytes; they count in `nar`, too.
    pub patched_bytes: AtomicU64,
    /// Store paths that the Pi fetched from caches.
    pub fetched: AtomicU64,
    /// Sum of their NAR sizes, bytes.
    pub fetched_nar: AtomicU64,
    /// What it fetched for them, bytes.
    pub fetched_wire: AtomicU64,
    /// The agent has answered; sending more is of no use.
    pub stop: AtomicBool,
    /// The sender is at work.
    pub sending: AtomicBool,
}

impl Counters {
    /// How far the closure is, to read it or to tell it something.
    pub fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on what the agent says has come.
    pub fn hear(&self, event: &Event) {
        if let EventKind::Progress { came: Some(came), .. } = &event.kind {
            self.progress().hear(*came);
        }
    }

    /// How far it is now.
    pub fn look(&self) -> Look {
        self.progress().look(self.wire.load(Ordering::Relaxed))
    }

    /// What was done so far, in `took`.
    pub fn sent(&self, took: Duration) -> Sent {
        Sent {
            paths_sent: self.paths.load(Ordering::Relaxed),
            paths_skipped: self.skipped.load(Ordering::Relaxed),
            paths_from_card: self.card_paths.load(Ordering::Relaxed),
            bytes_from_card: self.card_bytes.load(Ordering::Relaxed),
            patched_paths: self.patched_paths.load(Ordering::Relaxed),
            patched_bytes: self.patched_bytes.load(Ordering::Relaxed),
            nar_bytes: self.nar.load(Ordering::Relaxed),
            wire_bytes: self.wire.load(Ordering::Relaxed),
            paths_fetched: self.fetched.load(Ordering::Relaxed),
            fetched_nar_bytes: self.fetched_nar.load(Ordering::Relaxed),
            fetched_wire_bytes: self.fetched_wire.load(Ordering::Relaxed),
            took: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// These together.
fn amount<'a>(paths: impl Iterator<Item = &'a PathInfo>) -> Amount {
    paths.fold(Amount::default(), |sum, info| Amount { paths: sum.paths + 1, bytes: sum.bytes + info.nar_size })
}

/// What the target store has of the closure when this is missing; a part that is gone on with is there.
fn in_the_store(closure: &Closure, missing: &[Item<'_>]) -> Amount {
    let (whole, rest) = (amount(closure.paths.iter()), amount(missing.iter().map(|item| item.info)));
    let parts: u64 = missing.iter().map(|item| item.from).sum();
    Amount { paths: whole.paths - rest.paths, bytes: whole.bytes - rest.bytes + parts }
}

/// What the target store lacks of the closure, in its order, and what on the card is like that.
pub fn missing<'a>(
    control: &mut Control,
    closure: &'a Closure,
    counters: &Counters,
) -> Result<(Vec<Item<'a>>, Vec<Kin>)> {
    let mut known = Known::default();
    // A path is accepted after all it refers to: who has the system has all of it, and one question is enough.
    known.ask(control, vec![closure.toplevel.clone()])?;
    if known.valid.contains(&closure.toplevel) {
        return Ok((Vec::new(), Vec::new()));
    }
    if !known.empty {
        for batch in closure.paths.chunks(PATHS_PER_QUERY) {
            known.ask(control, batch.iter().map(|info| info.path.clone()).collect())?;
        }
    }
    counters.card_paths.store(known.card.0, Ordering::Relaxed);
    counters.card_bytes.store(known.card.1, Ordering::Relaxed);
    let item = |info: &'a PathInfo| {
        let part = known.parts.get(&info.path).filter(|part| part.nar_hash == info.nar_hash);
        Item { info, from: part.map_or(0, |part| part.bytes.min(info.nar_size)), base: None }
    };
    let missing = closure.paths.iter().filter(|info| !known.valid.contains(&info.path)).map(item).collect();
    Ok((missing, known.kin))
}

/// What the agent has said.
#[derive(Default)]
struct Known {
    valid: HashSet<StorePath>,
    parts: HashMap<StorePath, Part>,
    empty: bool,
    card: (u64, u64),
    kin: Vec<Kin>,
}

impl Known {
    fn ask(&mut self, control: &mut Control, paths: Vec<StorePath>) -> Result<()> {
        match control.request(&Request::QueryValid { paths })? {
            Reply::Valid { paths, parts, empty, card_paths, card_bytes, kin } => {
                self.kin.extend(kin);
                self.card = (card_paths, card_bytes);
                self.valid.extend(paths);
                self.parts.extend(parts.into_iter().map(|part| (part.path.clone(), part)));
                self.empty = empty;
                Ok(())
            }
            other => Err(unexpected("valid", &other)),
        }
    }
}

/// How often is tried anew when the card is not what its database says.
const TRIES: u32 = 8;

/// Sends what is missing and waits until the agent has it on its disk.
///
/// `trust` is what the paths of this push must satisfy beside what the installation asks for, `caches` are asked first.
pub fn push(
    session: &Session,
    control: &mut Control,
    closure: &Closure,
    trust: &Trust,
    caches: Option<&Caches>,
    counters: &Arc<Counters>,
) -> Result<()> {
    let mut tries = 0;
    loop {
        let result = attempt(session, control, closure, trust, caches, counters);
        let bad_base =
            |error: &anyhow::Error| error.downcast_ref::<Fault>().is_some_and(|fault| fault.code == FaultCode::BadBase);
        tries += 1;
        match result {
            // The agent offers that base no more.
            Err(error) if bad_base(&error) && tries < TRIES => counters.stop.store(false, Ordering::Release),
            result => return result,
        }
    }
}

fn attempt(
    session: &Session,
    control: &mut Control,
    closure: &Closure,
    trust: &Trust,
    caches: Option<&Caches>,
    counters: &Arc<Counters>,
) -> Result<()> {
    counters.progress().set_total(amount(closure.paths.iter()));
    // What the card has is copied while it is asked.
    counters.progress().begin(Source::Card, Amount::default());
    let (mut missing, kin) = missing(control, closure, counters)?;
    let there = (closure.paths.len() - missing.len()) as u64;
    counters.skipped.store(there.saturating_sub(counters.card_paths.load(Ordering::Relaxed)), Ordering::Relaxed);
    if let Some(caches) = caches {
        counters.progress().begin(Source::Cache, in_the_store(closure, &missing));
        if caches.ask(control, closure, &mut missing, counters)? {
            counters.progress().complete();
            return Ok(());
        }
    }
    if missing.is_empty() {
        counters.progress().complete();
        return Ok(());
    }
    counters.progress().begin(Source::Client, in_the_store(closure, &missing));
    let missing = with_bases(missing, kin)?;
    let window = if control.has(LONG_WINDOW) { MAX_WINDOW } else { SHORT_WINDOW };
    let (mut ssh, (input, output)) = session.channel("data")?;
    let replies = listen(&ssh, output, counters)?;
    counters.sending.store(true, Ordering::Release);
    let (protocol, code) = (control.protocol, control.has(CODE));
    let hello = DataHello { protocol, compression: "zstd".into(), trust: trust.clone(), code };
    let result = sender::send(input, &hello, window, &missing, counters);
    counters.sending.store(false, Ordering::Release);
    counters.progress().all_is_given();
    let reply = match &result {
        // The agent can only tell that the stream was cut.
        Err(sender::Failure::Local(_)) => None,
        // Its fsync may take long on a slow disk; ssh notices if the Pi is gone.
        Ok(()) => replies.recv().ok(),
        // A reply that explains the broken pipe may still be under way.
        Err(sender::Failure::Stopped | sender::Failure::Pipe(_)) => replies.recv_timeout(Duration::from_secs(5)).ok(),
    };
    match (result, reply) {
        (_, Some(Ok(DataReply::Error(fault)))) => Err(fault.into()),
        (Err(sender::Failure::Local(fault)), _) => Err(fault.into()),
        (Ok(()), Some(Ok(DataReply::Received { .. }))) => {
            counters.progress().complete();
            Ok(())
        }
        (Err(sender::Failure::Stopped), Some(Ok(DataReply::Received { .. }))) => Err(Fault::new(
            FaultCode::Garbage,
            "The agent says that it has everything before everything was sent.",
            "It is of another version, or defective.",
            "Use the cygnet that belongs to this agent.",
        )
        .into()),
        (_, Some(Err(FrameError::NotJson { source, preview }))) => Err(Fault::new(
            FaultCode::NoAgent,
            "The data channel leads to something that is not the agent.",
            format!("It says {preview:?} ({source})."),
            "See that nothing on the Pi prints text when somebody logs in.",
        )
        .into()),
        (Err(sender::Failure::Pipe(error)), _) => Err(ssh.lost(&error.to_string()).into()),
        (Err(sender::Failure::Stopped) | Ok(()), reply) => {
            let why = match reply {
                Some(Err(error)) => error.to_string(),
                Some(Ok(_)) | None => "the data channel was closed without an answer".into(),
            };
            Err(ssh.lost(&why).into())
        }
    }
}

/// Finds out which paths are sent as patches. Whoever has no libzstd can make none.
#[cfg(feature = "libzstd")]
fn with_bases(missing: Vec<Item<'_>>, kin: Vec<Kin>) -> Result<Vec<Item<'_>>> {
    kin::choose(missing, kin, closure::known)
}

#[cfg(not(feature = "libzstd"))]
fn with_bases(missing: Vec<Item<'_>>, _: Vec<Kin>) -> Result<Vec<Item<'_>>> {
    Ok(missing)
}

/// Waits for the agent's answer in a thread; if it comes early, sending is stopped.
fn listen(
    ssh: &Channel,
    output: ChildStdout,
    counters: &Arc<Counters>,
) -> Result<Receiver<Result<DataReply, FrameError>>> {
    let (tell, replies) = channel();
    let counters = counters.clone();
    let kill = ssh.killer();
    std::thread::Builder::new()
        .name("data-reply".into())
        .spawn(move || {
            let reply = frame::receive(&mut BufReader::new(output));
            counters.stop.store(true, Ordering::Release);
            // The receiver is gone only if nobody wants to know any more.
            tell.send(reply).ok();
            // The sender may hang in a write that nobody reads; it notices within this time if it doesn't.
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(2) && counters.sending.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(50));
            }
            if counters.sending.load(Ordering::Acquire) {
                kill();
            }
        })
        .context("starting a thread for the agent's answer")?;
    Ok(replies)
}
