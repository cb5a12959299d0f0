//! One connection: a thread that reads, and for a control connection a second one that tells what happens.

use crate::agent::Agent;
use crate::events::lock;
use crate::rules::not_now;
use crate::store::receive;
use crate::visitors::{Ear, Room, Visit};
use crate::worker;
use cygnet_protocol::fault::Fault;
use cygnet_protocol::frame::{self, FrameError, MAX_LINE};
use cygnet_protocol::handover::{Handover, Mode};
use cygnet_protocol::message::{Hello, Reply, Request};
use cygnet_protocol::stream::DataReply;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zeroize::Zeroizing;

/// How much of a message is read before it has to wait for its turn, bytes.
const SMALL: usize = 64 * 1024;
/// How many events are held for one client at a time.
const EVENTS: usize = 64;

/// Serves whoever a bridge brings. The bridge ends when `stream` is dropped, so that is kept to the end.
pub fn serve(agent: &Arc<Agent>, stream: UnixStream, visit: Visit) {
    let visit = Arc::new(visit);
    let taken = take_over(&stream)
        .and_then(|(handover, input, output)| Ok((handover, Ear::new(input, &stream, visit.clone())?, output)));
    let (handover, input, output) = match taken {
        Ok(taken) => taken,
        Err(error) => {
            visit.visitors().tell("nothing", &format!("a connection came to nothing: {error}"));
            return;
        }
    };
    tracing::info!("{:?} connection from {:?}", handover.mode, handover.peer);
    match handover.mode {
        Mode::Control => {
            converse(&Client { agent: agent.clone(), visit, hooks: !handover.no_hooks }, input, output);
        }
        Mode::Data => {
            // There is one at a time, and a later one ends it.
            visit.greeted();
            let mut output = output;
            let reply = match agent.open_channel(&stream) {
                Ok(()) => {
                    let reply = receive::serve(agent, input, &agent.places.target);
                    agent.close_channel();
                    reply
                }
                Err(fault) => DataReply::Error(fault),
            };
            if let DataReply::Error(fault) = &reply {
                tracing::warn!("data channel: {fault}");
            }
            // Who is gone does not want the answer.
            let _ = frame::send(&mut output, &reply);
        }
        Mode::NixDaemon => {
            if visit.speaks_nix() {
                worker::serve(agent, &stream, input, output);
            }
        }
    }
    drop(stream);
}

/// Receives the hand-over line and the two descriptors.
fn take_over(stream: &UnixStream) -> io::Result<(Handover, File, File)> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut line = [0; 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(stream, &mut [IoSliceMut::new(&mut line)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    let line = line.get(..message.bytes).unwrap_or_default();
    let handover = serde_json::from_slice(line.trim_ascii_end())?;
    match <[OwnedFd; 2]>::try_from(descriptors) {
        Ok([input, output]) => Ok((handover, File::from(input), File::from(output))),
        Err(others) => Err(io::Error::other(format!("{} descriptors came instead of 2", others.len()))),
    }
}

/// Where replies and events go, whole lines at a time; and whether the other end is gone.
struct Line {
    output: Mutex<File>,
    closed: AtomicBool,
}

impl Line {
    fn say(&self, reply: &Reply) -> Result<(), FrameError> {
        frame::send(&mut *lock(&self.output), reply)
    }
}

/// Who talks on a control connection.
struct Client {
    agent: Arc<Agent>,
    visit: Arc<Visit>,
    /// Whether plans may have hooks.
    hooks: bool,
}

impl Client {
    fn answer(&self, request: Request) -> Reply {
        self.visit.served(true);
        let reply = self.agent.answer(request, self.hooks);
        self.visit.served(false);
        reply
    }

    /// One line, of which a long one waits for its turn; until [`Room`] is dropped, it may be answered.
    fn read_line(&self, input: &mut BufReader<Ear>) -> Result<(Vec<u8>, Option<Room<'_>>), FrameError> {
        let mut line = Vec::new();
        let count = input.by_ref().take(SMALL as u64).read_until(b'\n', &mut line)?;
        if count < SMALL || line.last() == Some(&b'\n') {
            return whole(line).map(|line| (line, None));
        }
        // While it waits it is not silent.
        self.visit.served(true);
        let room = self.visit.visitors().room();
        self.visit.served(false);
        let room = room.ok_or_else(|| {
            FrameError::Io(io::Error::new(
                io::ErrorKind::TimedOut,
                "the agent reads other large messages; try again later",
            ))
        })?;
        input.get_mut().hurry(true);
        let read = input.by_ref().take((MAX_LINE - SMALL) as u64).read_until(b'\n', &mut line);
        input.get_mut().hurry(false);
        read?;
        whole(line).map(|line| (line, Some(room)))
    }
}

fn whole(mut line: Vec<u8>) -> Result<Vec<u8>, FrameError> {
    match line.pop() {
        None => Err(FrameError::Closed),
        Some(b'\n') => Ok(line),
        Some(_) if line.len() + 1 == MAX_LINE => Err(FrameError::TooLong),
        Some(_) => Err(FrameError::Truncated),
    }
}

fn converse(client: &Client, input: Ear, mut output: File) {
    let agent = &client.agent;
    let mut input = BufReader::new(input);
    let ours = Hello::ours("cygnetd");
    if frame::send(&mut output, &ours).is_err() {
        return;
    }
    let line = Arc::new(Line { output: Mutex::new(output), closed: AtomicBool::new(false) });
    let greeting = hello(&mut input).map_err(|error| bad_hello(&error)).and_then(|hello: Hello| hello.agree(&ours));
    if let Err(fault) = greeting {
        let _ = line.say(&Reply::Error(fault));
        return;
    }
    client.visit.greeted();
    let mut following = false;
    let mut brought = false;
    loop {
        let (mut request, _room) = match client.read_line(&mut input) {
            // There may be secrets in it.
            Ok((text, room)) => (Request::parse(&Zeroizing::new(text)), room),
            Err(FrameError::Closed) => break,
            Err(error) => {
                tracing::info!("control connection: {error}");
                let _ = line.say(&Reply::Error(bad_hello(&error)));
                break;
            }
        };
        if following && matches!(request, Ok(Request::Follow { .. })) {
            request = Err(not_now("this connection follows already.", "Open another connection for another view."));
        }
        let follow = match &request {
            Ok(Request::Follow { from }) => Some(*from),
            _ => None,
        };
        brought |= matches!(request, Ok(Request::ExtraFiles { .. }));
        let reply = request.map_or_else(Reply::Error, |request| client.answer(request));
        let accepted = matches!(reply, Reply::Accepted { .. });
        if line.say(&reply).is_err() {
            break;
        }
        if let Some(from) = follow.filter(|_| accepted) {
            following = true;
            // What is kept goes out before the next request is answered, so that its answer marks the end of it.
            let Ok(next) = replay(agent, &line, from) else { break };
            let (agent, line) = (agent.clone(), line.clone());
            let told = std::thread::Builder::new().name("follow".into()).spawn(move || tell(&agent, &line, next));
            if told.is_err() {
                break;
            }
        }
    }
    line.closed.store(true, Ordering::Release);
    if brought {
        agent.extra.abandon();
    }
    agent.log.wake();
}

/// A greeting is never large.
fn hello(input: &mut BufReader<Ear>) -> Result<Hello, FrameError> {
    let mut line = Vec::new();
    input.by_ref().take(SMALL as u64).read_until(b'\n', &mut line)?;
    frame::decode(&whole(line)?)
}

fn replay(agent: &Agent, line: &Line, from: u64) -> Result<u64, FrameError> {
    let end = agent.log.next();
    let mut next = from;
    while next < end {
        let events = agent.log.some_since(&line.closed, next, Duration::ZERO, EVENTS);
        let Some(last) = events.last().map(|event| event.seq) else { break };
        next = last + 1;
        let mut text = Vec::new();
        for event in events {
            frame::send(&mut text, &Reply::Event(event))?;
        }
        lock(&line.output).write_all(&text)?;
    }
    Ok(next)
}

fn tell(agent: &Agent, line: &Line, mut next: u64) {
    while !line.closed.load(Ordering::Acquire) {
        for event in agent.log.some_since(&line.closed, next, Duration::from_secs(30), EVENTS) {
            next = event.seq + 1;
            if line.say(&Reply::Event(event)).is_err() {
                return;
            }
        }
    }
}

fn bad_hello(error: &FrameError) -> Fault {
    Fault::new(
        cygnet_protocol::fault::FaultCode::Garbage,
        format!("The client cannot be understood: {error}."),
        "It is not cygnet, or something on the way writes into the connection.",
        "Use `cygnet` to talk to the agent.",
    )
}
