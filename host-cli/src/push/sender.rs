//! Writes the data stream: the hello, then each store path's record and its NAR, packed.

use super::Counters;
use super::compress::Compressor;
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::frame::{self, FrameError};
use cygnet_protocol::store::PathInfo;
use cygnet_protocol::stream::{DataHello, Record};
use nix_archive::nar::{self, CaseHack};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::Ordering;

/// How much is collected before ssh gets it, bytes.
const BUFFER: usize = 256 * 1024;

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

/// Sends `paths`, which must be in order, and the end. `output` is closed afterwards.
pub fn send(output: impl Write, protocol: u32, paths: &[&PathInfo], counters: &Counters) -> Result<(), Failure> {
    let mut output = BufWriter::with_capacity(BUFFER, Wire { inner: output, counters });
    frame::send(&mut output, &DataHello { protocol, compression: "zstd".into() })?;
    let mut packed = Compressor::new(output)?;
    for info in paths {
        line(&mut packed, &Record::Nar((*info).clone()))?;
        nar(&mut packed, info, Path::new(&info.path.to_absolute_path()), counters)?;
        counters.paths.fetch_add(1, Ordering::Relaxed);
    }
    line(&mut packed, &Record::End { paths: paths.len() as u64 })?;
    packed.finish()?.flush()?;
    Ok(())
}

/// One record, without the flush that would end a block of the compressor.
fn line(output: &mut impl Write, record: &Record) -> Result<(), Failure> {
    let mut text = Vec::new();
    frame::send(&mut text, record)?;
    Ok(output.write_all(&text)?)
}

/// The NAR of `path`, which must be as long as the record said.
fn nar(output: &mut impl Write, info: &PathInfo, path: &Path, counters: &Counters) -> Result<(), Failure> {
    let mut measured = Measured { inner: output, left: info.nar_size, failure: None, counters };
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
        // Whole, so that an error is seen here and not inside the encoder.
        if let Err(error) = self.inner.write_all(bytes) {
            self.failure = Some(Overflow::Io(error));
            return Err(io::Error::other("not sent"));
        }
        self.left -= length;
        self.counters.nar.fetch_add(length, Ordering::Relaxed);
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
        nar(&mut out, &info(size), dir.path(), &counters).unwrap();
        assert_eq!(out.len() as u64, size);
        assert_eq!(counters.nar.load(Ordering::Relaxed), size);
        for wrong in [0, size - 8, size + 8] {
            match nar(&mut vec![], &info(wrong), dir.path(), &counters) {
                Err(Failure::Local(fault)) => assert_eq!(fault.code, FaultCode::HashMismatch),
                other => panic!("{wrong}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_path_that_is_gone_is_named() {
        match nar(&mut vec![], &info(100_000), Path::new("/nix/store/no-such"), &Counters::default()) {
            Err(Failure::Local(fault)) => {
                assert_eq!(fault.code, FaultCode::PathMissing);
                assert!(fault.what.contains("no-such"), "{fault}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_early_answer_stops_the_sender() {
        let counters = Counters::default();
        counters.stop.store(true, Ordering::Release);
        assert!(matches!(send(vec![], 1, &[], &counters), Err(Failure::Stopped)));
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
        match send(Closed, 1, &[], &Counters::default()) {
            Err(Failure::Pipe(error)) => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_empty_closure_is_a_hello_and_an_end() {
        let counters = Counters::default();
        let mut out = vec![];
        send(&mut out, 1, &[], &counters).unwrap();
        let hello = frame::read_line(&mut out.as_slice()).unwrap();
        assert_eq!(hello, br#"{"type":"data","protocol":1,"compression":"zstd"}"#);
        assert_eq!(counters.wire.load(Ordering::Relaxed), out.len() as u64);
        let mut rest = &out[hello.len() + 1..];
        let mut unpacked = vec![];
        io::Read::read_to_end(&mut ruzstd::decoding::StreamingDecoder::new(&mut rest).unwrap(), &mut unpacked).unwrap();
        assert_eq!(unpacked, b"{\"type\":\"end\",\"paths\":0}\n");
    }
}
