//! Sending a closure: ask what is missing, send that on a data channel of its own, hear what the agent says.
//!
//! [`order`] puts references first, [`compress`] makes zstd frames, [`sender`] writes the stream.

pub mod compress;
pub mod order;
pub mod sender;

use crate::control::{Control, unexpected};
use crate::nix::Closure;
use crate::ssh::{Channel, Session};
use crate::ui::summary::Sent;
use anyhow::{Context, Result};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::frame::{self, FrameError, PATHS_PER_QUERY};
use cygnet_protocol::message::{Reply, Request};
use cygnet_protocol::store::{PathInfo, StorePath};
use cygnet_protocol::stream::DataReply;
use std::collections::HashSet;
use std::io::BufReader;
use std::process::ChildStdout;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How far a push is; read by whoever draws it.
#[derive(Debug, Default)]
pub struct Counters {
    /// NAR bytes that have to be sent.
    pub total: AtomicU64,
    /// NAR bytes taken from the store.
    pub nar: AtomicU64,
    /// Bytes given to ssh.
    pub wire: AtomicU64,
    /// Store paths completed.
    pub paths: AtomicU64,
    /// Store paths that were there already.
    pub skipped: AtomicU64,
    /// The agent has answered; sending more is of no use.
    pub stop: AtomicBool,
    /// The sender is at work.
    pub sending: AtomicBool,
}

impl Counters {
    /// What was done so far, in `took`.
    pub fn sent(&self, took: Duration) -> Sent {
        Sent {
            paths_sent: self.paths.load(Ordering::Relaxed),
            paths_skipped: self.skipped.load(Ordering::Relaxed),
            nar_bytes: self.nar.load(Ordering::Relaxed),
            wire_bytes: self.wire.load(Ordering::Relaxed),
            took: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// What the target store lacks of the closure, in its order.
pub fn missing<'a>(control: &mut Control, closure: &'a Closure) -> Result<Vec<&'a PathInfo>> {
    let mut valid: HashSet<StorePath> = HashSet::new();
    for batch in closure.paths.chunks(PATHS_PER_QUERY) {
        let paths = batch.iter().map(|info| info.path.clone()).collect();
        match control.request(&Request::QueryValid { paths })? {
            Reply::Valid { paths } => valid.extend(paths),
            other => return Err(unexpected("valid", &other)),
        }
    }
    Ok(closure.paths.iter().filter(|info| !valid.contains(&info.path)).collect())
}

/// Sends what is missing and waits until the agent has it on its disk.
pub fn push(session: &Session, control: &mut Control, closure: &Closure, counters: &Arc<Counters>) -> Result<()> {
    let missing = missing(control, closure)?;
    counters.skipped.store((closure.paths.len() - missing.len()) as u64, Ordering::Relaxed);
    counters.total.store(missing.iter().map(|info| info.nar_size).sum(), Ordering::Relaxed);
    let (mut ssh, (input, output)) = session.channel("data")?;
    let replies = listen(&ssh, output, counters)?;
    counters.sending.store(true, Ordering::Release);
    let result = sender::send(input, control.protocol, &missing, counters);
    counters.sending.store(false, Ordering::Release);
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
        (Ok(()), Some(Ok(DataReply::Received { .. }))) => Ok(()),
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
