//! One operation after the other: what each is asked with, what is done, what is answered (libstore/daemon.cc,
//! `performOp`).
//!
//! A request is read to its end before any of it is judged. What is refused is answered by an error, and the next request
//! is read; only what makes no sense as protocol ends the conversation.

use super::framed::Framed;
use super::handshake::{Version, greet};
use super::info::{self, Described};
use super::intake::{Intake, take_in};
use super::known::Known;
use super::operation::{Operation, Part, Refused};
use super::wire::{Input, MAX_LIST, Output, paths};
use super::{Result, Trouble, bad_request, garbage};
use crate::agent::Agent;
use crate::rules;
use cygnet_protocol::event::{EventKind, Phase};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::message::{Reply, Request};
use cygnet_protocol::store::{PathInfo, StorePath};
use nix_archive::nar::{CaseHack, encode_path};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// How much is read or written at a time, bytes.
const BUFFER: usize = 64 * 1024;
/// The most settings that a client may tell; none of them matters here.
const MAX_SETTINGS: u64 = 10_000;

/// Serves one client until it goes. `bridge` is what brought it: shutting that down ends the connection.
pub fn serve(agent: &Arc<Agent>, bridge: &UnixStream, input: impl Read, output: impl Write) {
    let mut input = Input::new(BufReader::with_capacity(BUFFER, input));
    let mut output = Output::new(BufWriter::with_capacity(BUFFER, output));
    let ended = match greet(&mut input, &mut output) {
        Ok(version) => {
            let known = Known::new(agent.journal_file());
            let mut conversation = Conversation { agent, bridge, version, input, output, known };
            let ended = conversation.run();
            if let Err(Trouble::Lost(fault)) = &ended {
                // It may be listening still; who is gone does not want it.
                let _ = conversation.output.error(fault).and_then(|()| conversation.output.flush());
            }
            ended
        }
        Err(trouble) => Err(trouble),
    };
    match ended {
        Ok(()) => {}
        Err(Trouble::Gone(error)) => tracing::info!("nix-daemon: the client went: {error}"),
        Err(Trouble::Refused(fault) | Trouble::Lost(fault)) => tracing::warn!("nix-daemon: {fault}"),
    }
}

struct Conversation<'a, R, W: Write> {
    agent: &'a Arc<Agent>,
    bridge: &'a UnixStream,
    version: Version,
    input: Input<R>,
    output: Output<W>,
    known: Known,
}

impl<R: Read, W: Write> Conversation<'_, R, W> {
    fn run(&mut self) -> Result<()> {
        while let Some(number) = self.input.number_or_end()? {
            let Some(operation) = Operation::of(number) else {
                return Err(garbage(format_args!("there is no operation {number} here")));
            };
            tracing::debug!("nix-daemon: {operation:?}");
            match self.perform(operation) {
                Err(Trouble::Refused(fault)) => {
                    tracing::info!("nix-daemon: {operation:?}: {fault}");
                    self.output.error(&fault)?;
                }
                other => other?,
            }
            self.output.flush()?;
        }
        Ok(())
    }

    fn perform(&mut self, operation: Operation) -> Result<()> {
        match operation {
            Operation::SetOptions => self.set_options(),
            Operation::IsValidPath => {
                let path = self.asked_path()?;
                self.answer(u64::from(self.agent.is_valid(&path)))
            }
            Operation::QueryValidPaths => self.query_valid_paths(),
            Operation::QueryAllValidPaths => {
                self.permitted()?;
                let paths = self.agent.valid_paths();
                self.output.last()?;
                Ok(self.output.paths(&paths)?)
            }
            Operation::QueryPathInfo => self.query_path_info(),
            Operation::QueryReferences => {
                let references = self.asked_info()?.references;
                self.output.last()?;
                Ok(self.output.paths(&references)?)
            }
            Operation::QueryReferrers => self.query_referrers(),
            Operation::QueryDeriver => {
                let deriver = self.asked_info()?.deriver;
                self.output.last()?;
                Ok(self.output.text(&deriver.map(|path| path.to_absolute_path()).unwrap_or_default())?)
            }
            Operation::QueryPathFromHashPart => self.query_path_from_hash_part(),
            Operation::EnsurePath => {
                self.asked_info()?;
                self.answer(1)
            }
            Operation::BuildPaths => {
                self.build_paths()?;
                self.answer(1)
            }
            Operation::BuildPathsWithResults => {
                let paths = self.build_paths()?;
                self.answer(paths.len() as u64)?;
                paths.iter().try_for_each(|path| self.result(path)).map_err(Trouble::from)
            }
            Operation::AddTempRoot => {
                self.input.text()?.path()?;
                self.answer(1)
            }
            Operation::SyncWithGc => self.answer(1),
            Operation::QueryMissing => self.query_missing(),
            Operation::QueryRealisation | Operation::QuerySubstitutablePathInfo => {
                self.input.skip_text()?;
                self.answer(0)
            }
            Operation::QuerySubstitutablePaths => {
                self.skip(Part::Texts)?;
                self.answer(0)
            }
            Operation::QuerySubstitutablePathInfos => {
                // Paths and their content addresses.
                for _ in 0..self.input.count(MAX_LIST)? {
                    self.input.skip_text()?;
                    self.input.skip_text()?;
                }
                self.answer(0)
            }
            Operation::NarFromPath => self.nar_from_path(),
            Operation::AddToStoreNar => {
                let described = Described::read(&mut self.input)?;
                // Repair, and leave the signatures alone: wishes.
                let (_repair, _dont_check) = (self.input.number()?, self.input.number()?);
                self.receive(|intake, stream| intake.one(described.path_info()?, stream))
            }
            Operation::AddMultipleToStore => {
                let (_repair, _dont_check) = (self.input.number()?, self.input.number()?);
                self.receive(|intake, stream| intake.many(stream))
            }
            Operation::Refused(refused) => self.refuse(refused),
        }
    }

    /// Done, and this is the answer.
    fn answer(&mut self, number: u64) -> Result<()> {
        self.output.last()?;
        Ok(self.output.number(number)?)
    }

    /// There is a target store, and it may be looked at.
    fn permitted(&self) -> Result<()> {
        Ok(rules::permit(&self.agent.state(), &Request::QueryValid { paths: Vec::new() })?)
    }

    /// The path that comes, if questions about paths are allowed now.
    fn asked_path(&mut self) -> Result<StorePath> {
        let text = self.input.text()?;
        self.permitted()?;
        Ok(text.path()?)
    }

    /// What is known of the path that comes, which has to be there.
    fn asked_info(&mut self) -> Result<PathInfo> {
        let path = self.asked_path()?;
        Ok(self.info(&path)?.ok_or_else(|| not_there(&path))?)
    }

    fn info(&mut self, path: &StorePath) -> std::result::Result<Option<PathInfo>, Fault> {
        if !self.agent.is_valid(path) {
            return Ok(None);
        }
        self.known.info(path).map_err(journal_fault)
    }

    fn set_options(&mut self) -> Result<()> {
        for _ in 0..12 {
            self.input.number()?;
        }
        for _ in 0..self.input.count(MAX_SETTINGS)? {
            self.input.skip_text()?;
            self.input.skip_text()?;
        }
        Ok(self.output.last()?)
    }

    fn query_valid_paths(&mut self) -> Result<()> {
        let texts = self.input.texts(MAX_LIST)?;
        if self.version.minor >= 27 {
            // Whether to fetch the others from a cache.
            self.input.number()?;
        }
        match self.agent.answer(Request::QueryValid { paths: paths(&texts)? }, true) {
            Reply::Valid { paths, .. } => {
                self.output.last()?;
                Ok(self.output.paths(&paths)?)
            }
            Reply::Error(fault) => Err(fault.into()),
            other => Err(Fault::internal("The agent gave no answer about its store.", format!("{other:?}")).into()),
        }
    }

    fn query_path_info(&mut self) -> Result<()> {
        let path = self.asked_path()?;
        let Some(info) = self.info(&path)? else { return self.answer(0) };
        self.answer(1)?;
        Ok(info::write(&mut self.output, &info)?)
    }

    fn query_referrers(&mut self) -> Result<()> {
        let path = self.asked_info()?.path;
        let mut referrers = Vec::new();
        let each = |info: PathInfo| {
            if info.references.contains(&path) && self.agent.is_valid(&info.path) {
                referrers.push(info.path);
            }
        };
        self.known.each(each).map_err(journal_fault)?;
        referrers.sort_unstable();
        referrers.dedup();
        self.output.last()?;
        Ok(self.output.paths(&referrers)?)
    }

    fn query_path_from_hash_part(&mut self) -> Result<()> {
        let text = self.input.text()?;
        self.permitted()?;
        let whole = format!("{}-x", text.string()?);
        let path = StorePath::from_basename(whole.as_bytes()).map_err(bad_request)?;
        let found = self.known.by_digest(path.digest()).map_err(journal_fault)?;
        let found = found.filter(|info| self.agent.is_valid(&info.path));
        self.output.last()?;
        Ok(self.output.text(&found.map(|info| info.path.to_absolute_path()).unwrap_or_default())?)
    }

    /// What is to be there, and is.
    fn build_paths(&mut self) -> Result<Vec<StorePath>> {
        let texts = self.input.texts(MAX_LIST)?;
        let _how = self.input.number()?;
        self.permitted()?;
        // A derivation's outputs are named behind it.
        if texts.iter().any(|text| text.string().is_ok_and(|text| text.contains('!'))) {
            return Err(not_done("building").into());
        }
        let paths = paths(&texts)?;
        match paths.iter().find(|path| !self.agent.is_valid(path)) {
            Some(missing) => Err(not_there(missing).into()),
            None => Ok(paths),
        }
    }

    /// `BuildResult` of libstore/worker-protocol.cc: the path, that it is there already, no error, no build, its times, its
    /// use of processors where that is told, no outputs.
    fn result(&mut self, path: &StorePath) -> io::Result<()> {
        const ALREADY_VALID: u64 = 2;
        self.output.text(&path.to_absolute_path())?;
        self.output.number(ALREADY_VALID)?;
        self.output.text("")?;
        let rest = if self.version.minor >= 37 { 7 } else { 5 };
        (0..rest).try_for_each(|_| self.output.number(0))
    }

    /// Nothing is built or fetched here: what is not there is unknown.
    fn query_missing(&mut self) -> Result<()> {
        let texts = self.input.texts(MAX_LIST)?;
        self.permitted()?;
        let mut unknown = Vec::new();
        for text in &texts {
            let text = text.string()?;
            // A derivation's outputs are named behind it.
            let path = text.split_once('!').map_or(text.as_str(), |(path, _)| path);
            let path = cygnet_protocol::store::parse_store_path(path).map_err(bad_request)?;
            if !self.agent.is_valid(&path) {
                unknown.push(path);
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        self.output.last()?;
        self.output.paths(&[])?;
        self.output.paths(&[])?;
        self.output.paths(&unknown)?;
        self.output.number(0)?;
        Ok(self.output.number(0)?)
    }

    fn nar_from_path(&mut self) -> Result<()> {
        let path = self.asked_info()?.path;
        // Until it is read, the target must stay mounted.
        let _reading = self.agent.read_target(self.bridge)?;
        let file = self.agent.places.target.join("nix/store").join(path.to_basename());
        self.output.last()?;
        match encode_path(self.output.raw(), &file, CaseHack::Disabled) {
            Ok(()) => Ok(self.output.flush()?),
            // In the middle of the archive nothing can be said; the client sees that it is cut short.
            Err(error) => {
                Err(Trouble::Gone(io::Error::other(format!("{} was not sent whole: {error}", file.display()))))
            }
        }
    }

    /// Takes in what comes in frames. A failure is told at once, so that the client stops sending; what it has sent is
    /// read to its end all the same.
    fn receive(
        &mut self,
        bring: impl FnOnce(&mut Intake<'_>, &mut dyn Read) -> std::result::Result<(), Fault>,
    ) -> Result<()> {
        let mut stream = Framed::new(&mut self.input);
        let text = "Receiving store paths from Nix".into();
        let result = take_in(self.agent, self.bridge, |intake| {
            self.agent.log.emit(Some(Phase::Receive), EventKind::Task { text });
            bring(intake, &mut stream)
        });
        if let Err(fault) = &result {
            tracing::warn!("nix-daemon: {fault}");
            self.output.error(fault)?;
            self.output.flush()?;
        }
        stream.drain()?;
        if result.is_ok() {
            self.output.last()?;
        }
        Ok(())
    }

    fn refuse(&mut self, refused: Refused) -> Result<()> {
        refused.rest.iter().try_for_each(|part| self.skip(*part))?;
        Err(not_done(refused.what).into())
    }

    fn skip(&mut self, part: Part) -> Result<()> {
        match part {
            Part::Number => self.input.number().map(drop)?,
            Part::Text => self.input.skip_text()?,
            Part::Texts => {
                for _ in 0..self.input.count(MAX_LIST)? {
                    self.input.skip_text()?;
                }
            }
            Part::Frames => Framed::new(&mut self.input).drain()?,
        }
        Ok(())
    }
}

fn not_done(what: &str) -> Fault {
    Fault::new(
        FaultCode::BadRequest,
        format!("The Nix client asks for {what}, which is not done here."),
        "cygnetd only takes in finished store paths, tells of them and gives them back.",
        "Do it on the host and copy what comes of it, with `nix copy` or `cygnet push`.",
    )
}

fn not_there(path: &StorePath) -> Fault {
    Fault::new(
        FaultCode::PathMissing,
        format!("{} is not in the target store.", path.to_absolute_path()),
        "It was not sent yet, or its transfer was interrupted.",
        "Send it with `nix copy --to` or `cygnet push`.",
    )
}

fn journal_fault(error: io::Error) -> Fault {
    Fault::internal("The journal of the store paths cannot be read.", error)
}
