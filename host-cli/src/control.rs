//! The control channel: requests and replies, with the events that come in between.

use crate::error::fault;
use crate::ssh::{Channel, Session, Target};
use anyhow::{Context, Result};
use cygnet_protocol::event::Event;
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::frame::{self, FrameError};
use cygnet_protocol::message::{Hello, Reply, Request, Status};
use std::collections::VecDeque;
use std::io::BufReader;
use std::process::{ChildStdin, ChildStdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How long the agent may take for what it looks at disks for: those that sleep, or that are broken, take minutes.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long it may take to say how it is, which it knows.
const STATUS_PATIENCE: Duration = Duration::from_secs(30);

/// A conversation with an agent.
#[derive(Debug)]
pub struct Control {
    channel: Channel,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Events that came while a reply was waited for.
    early: VecDeque<Event>,
    /// What both ends speak.
    pub protocol: u32,
    agent: Hello,
}

/// Connects, and says hello.
pub fn connect(target: &Target) -> Result<(Session, Control)> {
    let (session, channel, pipes) = Session::open(target, "control")?;
    let control = Control::greet(channel, pipes)?;
    Ok((session, control))
}

impl Control {
    /// Another conversation on the same connection.
    pub fn beside(session: &Session) -> Result<Self> {
        let (channel, pipes) = session.channel("control")?;
        Self::greet(channel, pipes)
    }

    fn greet(mut channel: Channel, (mut input, output): (ChildStdin, ChildStdout)) -> Result<Self> {
        let mut output = BufReader::new(output);
        let ours = Hello::ours("cygnet");
        // If this fails, what the other end says is more telling than the broken pipe.
        frame::send(&mut input, &ours).ok();
        let line = match frame::read_line(&mut output) {
            Ok(line) => line,
            Err(FrameError::TooLong) => return Err(channel.explain("a line without an end").into()),
            Err(_) => return Err(channel.explain("").into()),
        };
        let theirs: Hello = match frame::decode(&line) {
            Ok(hello) => hello,
            Err(_) => {
                // The agent may refuse us before it says hello.
                if let Ok(Reply::Error(fault)) = frame::decode(&line) {
                    return Err(fault.into());
                }
                drop(input);
                return Err(channel.explain(&String::from_utf8_lossy(&line)).into());
            }
        };
        let protocol = ours.agree(&theirs)?;
        Ok(Self { channel, input, output, early: VecDeque::new(), protocol, agent: theirs })
    }

    /// What the other end calls itself: `cygnetd 0.1.0`.
    pub fn program(&self) -> &str {
        &self.agent.program
    }

    /// Whether the agent has an optional ability.
    pub fn has(&self, feature: &str) -> bool {
        self.agent.features.iter().any(|known| known == feature)
    }

    /// Refuses to go on with an agent that is too old for something.
    pub fn must_have(&self, feature: &str) -> Result<()> {
        if self.has(feature) {
            return Ok(());
        }
        Err(fault(
            FaultCode::AgentTooOld,
            format!("The agent ({}) knows nothing of {feature}.", self.agent.program),
            "The card was made with an older cygnet than the one on this machine.",
            "Flash the card with a current bootstrap image.",
        ))
    }

    /// Sends a request and waits for its reply; an error reply is the error.
    pub fn request(&mut self, request: &Request) -> Result<Reply> {
        self.request_within(request, PATIENCE)
    }

    /// The same, and gives up after so long.
    fn request_within(&mut self, request: &Request, patience: Duration) -> Result<Reply> {
        let deadline = Deadline::new(patience, self.killer())?;
        let reply = self.exchange(request);
        if deadline.is_over() {
            return Err(silent(patience));
        }
        reply
    }

    fn exchange(&mut self, request: &Request) -> Result<Reply> {
        if let Err(error) = frame::send(&mut self.input, request) {
            return Err(self.broken(error));
        }
        loop {
            match self.receive()? {
                Reply::Event(event) => self.early.push_back(event),
                Reply::Error(fault) => return Err(fault.into()),
                reply => return Ok(reply),
            }
        }
    }

    /// Asks for the status.
    pub fn status(&mut self) -> Result<Status> {
        match self.request_within(&Request::Status, STATUS_PATIENCE)? {
            Reply::Status(status) => Ok(*status),
            other => Err(unexpected("status", &other)),
        }
    }

    /// Sends a request that is answered with `accepted`; tells whether an earlier installation is gone on with.
    pub fn accepted(&mut self, request: &Request) -> Result<bool> {
        match self.request(request)? {
            Reply::Accepted { resumed } => Ok(resumed),
            other => Err(unexpected("accepted", &other)),
        }
    }

    /// Asks for events from `from` on: those that are kept come back at once, [`Self::next_event`] has the others.
    ///
    /// The agent sends what it has kept before it answers the next request, so a status ends them.
    pub fn follow(&mut self, from: u64) -> Result<(Vec<Event>, Status)> {
        self.accepted(&Request::Follow { from })?;
        let status = self.status()?;
        Ok((self.early.drain(..).collect(), status))
    }

    /// Waits for the next event.
    pub fn next_event(&mut self) -> Result<Event> {
        if let Some(event) = self.early.pop_front() {
            return Ok(event);
        }
        match self.receive()? {
            Reply::Event(event) => Ok(event),
            Reply::Error(fault) => Err(fault.into()),
            other => Err(unexpected("an event", &other)),
        }
    }

    /// Lets another thread end this conversation.
    pub fn killer(&self) -> impl Fn() + Send + 'static {
        self.channel.killer()
    }

    fn receive(&mut self) -> Result<Reply> {
        frame::receive(&mut self.output).map_err(|error| self.broken(error))
    }

    fn broken(&mut self, error: FrameError) -> anyhow::Error {
        match error {
            FrameError::NotJson { .. } | FrameError::TooLong => fault(
                FaultCode::Garbage,
                "The agent sent something that is not a message.",
                error.to_string(),
                "Use the cygnet that belongs to this agent; `cygnet --version` and `cygnetd --version` tell.",
            ),
            FrameError::Closed | FrameError::Truncated | FrameError::Io(_) => {
                self.channel.lost(&error.to_string()).into()
            }
        }
    }
}

/// Ends a conversation that takes too long; dropped in time, it does nothing.
struct Deadline {
    over: Arc<AtomicBool>,
    /// Its end tells the thread that there is nothing to wait for any more.
    _done: Sender<()>,
}

impl Deadline {
    fn new(patience: Duration, kill: impl Fn() + Send + 'static) -> Result<Self> {
        let (done, wait) = channel::<()>();
        let over = Arc::new(AtomicBool::new(false));
        let tell = over.clone();
        std::thread::Builder::new()
            .name("deadline".into())
            .spawn(move || {
                if wait.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                    tell.store(true, Ordering::SeqCst);
                    kill();
                }
            })
            .context("starting a thread for a deadline")?;
        Ok(Self { over, _done: done })
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// The agent was there, and says nothing any more.
fn silent(patience: Duration) -> anyhow::Error {
    fault(
        FaultCode::ConnectionLost,
        format!("The agent does not answer: nothing came within {} s.", patience.as_secs()),
        "It hangs, or the Pi is so busy or its disks so slow that it comes to nothing else.",
        "Try again in a minute; on the Pi, `systemctl status cygnetd` and `journalctl -u cygnetd` tell more.",
    )
}

/// A reply of the wrong kind.
pub fn unexpected(wanted: &str, got: &Reply) -> anyhow::Error {
    let got = serde_json::to_string(got).unwrap_or_default().chars().take(200).collect::<String>();
    fault(
        FaultCode::Garbage,
        format!("The agent answered something other than {wanted}."),
        format!("It answered {got}"),
        "Use the cygnet that belongs to this agent; `cygnet --version` and `cygnetd --version` tell.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_conversation_that_hangs_is_ended_and_another_is_not() {
        let killed = Arc::new(AtomicBool::new(false));
        let kill = || {
            let killed = killed.clone();
            move || killed.store(true, Ordering::SeqCst)
        };
        drop(Deadline::new(Duration::from_millis(50), kill()).unwrap());
        std::thread::sleep(Duration::from_millis(200));
        assert!(!killed.load(Ordering::SeqCst), "it was dropped in time");

        let deadline = Deadline::new(Duration::from_millis(50), kill()).unwrap();
        let begun = Instant::now();
        while !killed.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(deadline.is_over() && killed.load(Ordering::SeqCst));
        assert_eq!(crate::error::fault_of(&silent(Duration::from_secs(30))).code, FaultCode::ConnectionLost);
    }
}
