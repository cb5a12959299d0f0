//! Writes the data stream: the hello, then each store path's record and its NAR, packed, or as a patch.

use super::Counters;
use super::compress::{Compressor, Tuning, cores};
use super::dense::Dense;
use super::pace::{Follow, Gauge, Outlet, Pace, Queue, queue};
#[cfg(feature = "libzstd")]
use super::patch::{Link, Patches};
use cygnet_protocol::code::Packing;
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::frame::{self, FrameError};
#[cfg(feature = "libzstd")]
use cygnet_protocol::store::STORE_DIR;
use cygnet_protocol::store::{Kin, PathInfo};
use cygnet_protocol::stream::{DataHello, Record};
#[cfg(feature = "libzstd")]
use cygnet_protocol::stretch::Bases;
use nix_archive::nar::{self, CaseHack};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::Ordering;

/// Why not everything was sent.
#[derive(Debug)]
pub enum Failure {
    /// Something on this machine is wrong.
    Local(Fault),
    /// The agent has answered before the end.
    Stopped,
    /// ssh takes no more.
    Pipe(io::Error),
}

impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => error.into(),
            other => Failure::Pipe(io::Error::other(other.to_string())),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if is_stop(&error) { Failure::Stopped } else { Failure::Pipe(error) }
    }
}

/// A store path that is to be sent.
#[derive(Debug, Clone)]
pub struct Item<'a> {
    /// It.
    pub info: &'a PathInfo,
    /// So many bytes of its NAR are there already.
    pub from: u64,
    /// What it is sent as a patch against.
    pub base: Option<Kin>,
}

impl Item<'_> {
    fn record(&self) -> Record {
        let (info, from) = (self.info.clone(), self.from);
        match (&self.base, from) {
            (Some(kin), _) => Record::Patched { from, base: kin.base.clone(), info },
            (None, 0) => Record::Nar(info),
            (None, _) => Record::Rest { from, info },
        }
    }
}

/// Sends `paths`, which must be in order, and the end. `output` is closed afterwards.
pub fn send(
    output: impl Write + Send,
    hello: &DataHello,
    window: u64,
    paths: &[Item<'_>],
    counters: &Counters,
) -> Result<(), Failure> {
    let (queue, outlet) = queue();
    let broken = outlet.failed();
    std::thread::scope(|scope| {
        let link = scope.spawn(move || outlet.run(Wire { inner: output, counters }));
        let result = stream(queue, hello, window, paths, counters);
        // The queue is gone now, so this ends as soon as the link has taken all that is in it.
        let ended =
            link.join().map_err(|_| Failure::Pipe(io::Error::other("the thread that writes to ssh has panicked")));
        result?;
        ended?;
        Ok(Outlet::failure(&broken)?)
    })
}

fn stream(
    mut queue: Queue,
    hello: &DataHello,
    window: u64,
    paths: &[Item<'_>],
    counters: &Counters,
) -> Result<(), Failure> {
    frame::send(&mut queue, hello)?;
    let mut packer = Packer::new(queue, window, paths.iter().map(size).sum(), hello.code);
    for item in paths {
        let line = line(&item.record())?;
        #[cfg(feature = "libzstd")]
        if let Some(kin) = &item.base {
            let patches = packer.patches()?;
            patches.plain(line)?;
            let mut patch = patches.path(item.info, item.from, kin);
            archive(&mut patch, item, hello.code, counters)?;
            patch.pass_on()?;
            let based = patch.based_bytes();
            counters.patched_paths.fetch_add(u64::from(based > 0), Ordering::Relaxed);
            counters.patched_bytes.fetch_add(based, Ordering::Relaxed);
            counters.paths.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let plain = packer.plain()?;
        plain.write_all(&line)?;
        archive(plain, item, hello.code, counters)?;
        counters.paths.fetch_add(1, Ordering::Relaxed);
    }
    packer.plain()?.write_all(&line(&Record::End { paths: paths.len() as u64 })?)?;
    packer.finish()?.flush()?;
    Ok(())
}

/// What is written goes through one of these.
enum Output {
    /// Nothing is begun.
    Idle(Queue),
    /// One frame, until something else is wanted.
    Plain(Paced),
    /// Frames that look back on bases.
    #[cfg(feature = "libzstd")]
    Patches(Box<Patches<Queue>>),
}

/// Changes between the kinds of frames.
struct Packer {
    /// None only after a failure.
    output: Option<Output>,
    window: u64,
    #[cfg_attr(not(feature = "libzstd"), expect(dead_code))]
    code: bool,
    /// About how much comes, bytes.
    size: u64,
    gauge: Gauge,
    pace: Pace,
    #[cfg(feature = "libzstd")]
    link: Link,
}

impl Packer {
    fn new(queue: Queue, window: u64, size: u64, code: bool) -> Self {
        let gauge = queue.gauge();
        #[cfg(feature = "libzstd")]
        let link = Link::new(gauge.clone(), size);
        Self {
            output: Some(Output::Idle(queue)),
            window,
            size,
            code,
            gauge,
            pace: Pace::new(cores()),
            #[cfg(feature = "libzstd")]
            link,
        }
    }

    fn follow(&self) -> Follow {
        Follow::new(self.pace, self.gauge.clone())
    }

    /// Ends what is begun.
    fn idle(&mut self) -> io::Result<Queue> {
        match self.output.take() {
            Some(Output::Idle(queue)) => Ok(queue),
            Some(Output::Plain(paced)) => {
                self.pace = paced.follow.pace();
                paced.packed.finish()
            }
            #[cfg(feature = "libzstd")]
            Some(Output::Patches(patches)) => {
                let (queue, pace, link) = patches.finish()?;
                (self.pace, self.link) = (pace, link);
                Ok(queue)
            }
            None => Err(io::Error::other("writing went wrong before")),
        }
    }

    fn plain(&mut self) -> io::Result<&mut Paced> {
        if !matches!(self.output, Some(Output::Plain(_))) {
            let queue = self.idle()?;
            let packed =
                Compressor::new(queue, Tuning { window: self.window, level: self.pace.level(), size: self.size })?;
            let (level, follow) = (self.pace.level(), self.follow());
            self.output = Some(Output::Plain(Paced { packed, level, follow, dense: Dense::new() }));
        }
        match &mut self.output {
            Some(Output::Plain(paced)) => Ok(paced),
            _ => Err(io::Error::other("writing went wrong before")),
        }
    }

    #[cfg(feature = "libzstd")]
    fn patches(&mut self) -> io::Result<&mut Patches<Queue>> {
        if !matches!(self.output, Some(Output::Patches(_))) {
            let queue = self.idle()?;
            let (bases, follow) = (Bases::new(STORE_DIR.into(), self.code), self.follow());
            let patches = Patches::new(queue, bases, follow, self.link.clone())?;
            self.output = Some(Output::Patches(Box::new(patches)));
        }
        match &mut self.output {
            Some(Output::Patches(patches)) => Ok(patches),
            _ => Err(io::Error::other("writing went wrong before")),
        }
    }

    fn finish(mut self) -> io::Result<Queue> {
        self.idle()
    }
}

/// A compressor whose level follows the link, unless no level is of any use.
struct Paced {
    packed: Compressor<Queue>,
    level: i32,
    follow: Follow,
    dense: Dense,
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let wanted = self.follow.level();
        let level = if self.dense.is() { Pace::LOWEST } else { wanted };
        if level != self.level {
            self.packed.set_level(level)?;
            self.level = level;
        }
        let taken = self.packed.write(bytes)?;
        self.dense.pass(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.packed.flush()
    }
}

/// About how long an item is in the stream, bytes: of small paths most is the record.
fn size(item: &Item<'_>) -> u64 {
    let info = item.info;
    let names = info.references.len() + info.signatures.len() + 4;
    info.nar_size.saturating_sub(item.from) + 100 * names as u64
}

/// A record as it is written.
fn line(record: &Record) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    frame::send(&mut text, record)?;
    Ok(text)
}

/// What the agent lacks of a path's NAR; `code`: as [`cygnet_protocol::code`] makes it.
fn archive(output: &mut impl Write, item: &Item<'_>, code: bool, counters: &Counters) -> Result<(), Failure> {
    let (path, from) = (item.info.path.to_absolute_path(), item.from);
    if !code {
        return nar(output, item.info, from, Path::new(&path), counters);
    }
    let mut packing = Packing::new(output, from);
    nar(&mut packing, item.info, from, Path::new(&path), counters)?;
    Ok(packing.finish()?)
}

/// The NAR of `path` without its first `from` bytes; it must be as long as the record said.
fn nar(output: &mut impl Write, info: &PathInfo, from: u64, path: &Path, counters: &Counters) -> Result<(), Failure> {
    let mut measured = Measured { inner: output, skip: from, left: info.nar_size, failure: None, counters };
    let result = nar::encode_path(&mut measured, path, CaseHack::native());
    let Measured { left, failure, .. } = measured;
    match (failure, result) {
        (Some(Overflow::TooLong), _) => {
            Err(Failure::Local(changed(path, "its NAR is longer than Nix's database says")))
        }
        (Some(Overflow::Io(error)), _) => Err(error.into()),
        (None, Ok(())) if left == 0 => Ok(()),
        (None, Ok(())) => {
            Err(Failure::Local(changed(path, &format!("its NAR is {left} bytes shorter than Nix's database says"))))
        }
        (None, Err(nar::Error::Io(error))) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::Local(Fault::new(
                FaultCode::PathMissing,
                format!("{} has gone while it was sent.", path.display()),
                "It, or something in it, was deleted: by a garbage collection, or by hand.",
                "Build the system again and give the same command; what was sent already stays.",
            )))
        }
        (None, Err(error)) => Err(Failure::Local(changed(path, &error.to_string()))),
    }
}

fn changed(path: &Path, how: &str) -> Fault {
    Fault::new(
        FaultCode::HashMismatch,
        format!("{} is not what Nix's database says.", path.display()),
        format!("It has changed on this machine's disk: {how}."),
        "Have Nix repair it with `nix-store --verify --check-contents --repair`, then give the same command again.",
    )
}

/// Why a NAR was not taken.
enum Overflow {
    TooLong,
    Io(io::Error),
}

/// Counts a NAR's bytes while they go by, and remembers why they don't.
struct Measured<'a, W> {
    inner: &'a mut W,
    /// So many more bytes are there already.
    skip: u64,
    left: u64,
    failure: Option<Overflow>,
    counters: &'a Counters,
}

impl<W: Write> Write for Measured<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len() as u64;
        if length > self.left {
            self.failure = Some(Overflow::TooLong);
            return Err(io::Error::other("too long"));
        }
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        // Whole, so that an error is seen here and not inside the encoder.
        if let Err(error) = self.inner.write_all(&bytes[skipped..]) {
            self.failure = Some(Overflow::Io(error));
            return Err(io::Error::other("not sent"));
        }
        self.skip -= skipped as u64;
        self.left -= length;
        self.counters.nar.fetch_add(length - skipped as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The pipe to ssh: counts what goes through, and stops when the agent has answered.
struct Wire<'a, W> {
    inner: W,
    counters: &'a Counters,
}

#[derive(Debug)]
struct Stop;

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the agent has answered")
    }
}

impl std::error::Error for Stop {}

fn is_stop(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Stop>())
}

impl<W: Write> Write for Wire<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.counters.stop.load(Ordering::Acquire) {
            return Err(io::Error::other(Stop));
        }
        let count = self.inner.write(bytes)?;
        self.counters.wire.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::store::{NixHash, parse_store_path};
    use cygnet_protocol::stream::SHORT_WINDOW;

    fn info(nar_size: u64) -> PathInfo {
        PathInfo {
            path: parse_store_path("/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-hello").unwrap(),
            nar_hash: NixHash::Sha256([0; 32]),
            nar_size,
            references: vec![],
            deriver: None,
            signatures: vec![],
            ca: None,
        }
    }

    fn tree() -> (tempfile::TempDir, u64) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        std::fs::write(dir.path().join("file"), vec![7; 100_000]).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        let size = nar::hash_path(dir.path(), CaseHack::native()).unwrap().size;
        (dir, size)
    }

    #[test]
    fn a_nar_is_as_long_as_said_or_a_fault() {
        let (dir, size) = tree();
        let counters = Counters::default();
        let mut out = vec![];
        nar(&mut out, &info(size), 0, dir.path(), &counters).unwrap();
        assert_eq!(out.len() as u64, size);
        assert_eq!(counters.nar.load(Ordering::Relaxed), size);
        let mut rest = vec![];
        nar(&mut rest, &info(size), 70_001, dir.path(), &counters).unwrap();
        assert!(rest == out[70_001..]);
        assert_eq!(counters.nar.load(Ordering::Relaxed), 2 * size - 70_001);
        for wrong in [0, size - 8, size + 8] {
            match nar(&mut vec![], &info(wrong), 0, dir.path(), &counters) {
                Err(Failure::Local(fault)) => assert_eq!(fault.code, FaultCode::HashMismatch),
                other => panic!("{wrong}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_path_that_is_gone_is_named() {
        match nar(&mut vec![], &info(100_000), 0, Path::new("/nix/store/no-such"), &Counters::default()) {
            Err(Failure::Local(fault)) => {
                assert_eq!(fault.code, FaultCode::PathMissing);
                assert!(fault.what.contains("no-such"), "{fault}");
            }
            other => panic!("{other:?}"),
        }
    }

    fn hello() -> DataHello {
        DataHello { protocol: 1, compression: "zstd".into(), trust: Default::default(), code: false }
    }

    #[test]
    fn an_early_answer_stops_the_sender() {
        let counters = Counters::default();
        counters.stop.store(true, Ordering::Release);
        assert!(matches!(send(vec![], &hello(), SHORT_WINDOW, &[], &counters), Err(Failure::Stopped)));
    }

    #[test]
    fn a_closed_pipe_is_not_a_local_fault() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        match send(Closed, &hello(), SHORT_WINDOW, &[], &Counters::default()) {
            Err(Failure::Pipe(error)) => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_empty_closure_is_a_hello_and_an_end() {
        let counters = Counters::default();
        let mut out = vec![];
        send(&mut out, &hello(), SHORT_WINDOW, &[], &counters).unwrap();
        let hello = frame::read_line(&mut out.as_slice()).unwrap();
        assert_eq!(hello, br#"{"type":"data","protocol":1,"compression":"zstd"}"#);
        assert_eq!(counters.wire.load(Ordering::Relaxed), out.len() as u64);
        let mut rest = &out[hello.len() + 1..];
        let mut unpacked = vec![];
        io::Read::read_to_end(&mut structured_zstd::decoding::StreamingDecoder::new(&mut rest), &mut unpacked).unwrap();
        assert_eq!(unpacked, b"{\"type\":\"end\",\"paths\":0}\n");
    }
}
