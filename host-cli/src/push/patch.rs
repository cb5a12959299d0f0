//! A store path as a patch against one that the card has: frames that look back on the base's archive (zstd(1),
//! `--patch-from`), made on all cores and written in order.
//!
//! Each frame has some MB of the archive and looks back on the stretch of the base where the like of it should be, so neither
//! end ever holds a whole archive, however long it is. On a [fast link](super::course) they look back on nothing.

use super::course::{Choice, Course};
use super::pace::{Follow, Gauge, Pace};
use cygnet_protocol::store::{Kin, PathInfo};
use cygnet_protocol::stream::{BASE_MAGIC, Base, MAX_BASE, MAX_PATCHED};
use cygnet_protocol::stretch::Bases;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use zstd::zstd_safe::{CCtx, CParameter, compress_bound, get_error_name};

/// How far before and behind its own place the base is looked at, bytes.
const MARGIN: u64 = (MAX_BASE - MAX_PATCHED) / 2;
/// Records are compressed by themselves, at this level.
const RECORD_LEVEL: i32 = 9;
/// A frame looks at three times what it holds: on two cores higher levels are slower than a link of 40 Mbit/s, for nothing.
const HIGHEST: i32 = 9;
/// Where the matches of the whole stretch are found (zstd.h, `ZSTD_c_windowLog`): more than base and content together.
const WINDOW_LOG: u32 = 25;

/// The stretch of a base, `whole` bytes long, for `length` bytes at `at` of an archive of `size` bytes: what is as far into it.
fn stretch(at: u64, length: u64, size: u64, whole: u64) -> (u64, u64) {
    if whole <= MAX_BASE {
        return (0, whole);
    }
    let place = |at: u64| {
        let scaled = u128::from(at) * u128::from(whole) / u128::from(size.max(1));
        u64::try_from(scaled).unwrap_or(whole).min(whole)
    };
    let middle = place(at + length / 2);
    let half = length / 2 + MARGIN;
    let from = middle.saturating_sub(half).min(whole.saturating_sub(2 * half));
    (from, (2 * half).min(whole - from))
}

/// What one core makes a frame of.
struct Job {
    /// What comes before the frame.
    head: Vec<u8>,
    /// The base's stretch, and the content behind it.
    bytes: Vec<u8>,
    base: usize,
    level: i32,
    done: SyncSender<io::Result<Vec<u8>>>,
}

/// Frames of patches, in order, on `inner`.
pub struct Patches<W: Write> {
    inner: W,
    jobs: SyncSender<Job>,
    cores: usize,
    waiting: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    bases: Bases,
    pace: Follow,
    link: Link,
}

/// The link that all goes to, and what was found out about it.
#[derive(Clone)]
pub struct Link {
    gauge: Gauge,
    begun: Instant,
    course: Course,
}

impl Link {
    /// Behind this gauge; the stream, of about so many NAR bytes, begins now.
    pub fn new(gauge: Gauge, size: u64) -> Self {
        Self { gauge, begun: Instant::now(), course: Course::new(size) }
    }

    /// How the next frame is made.
    fn choose(&mut self) -> Choice {
        let rate = self.gauge.speed().rate();
        self.course.choose(self.begun.elapsed(), self.gauge.given(), rate, self.gauge.is_crowded())
    }

    /// Waits until it has taken all that was written, but not for long.
    fn wait(&mut self) {
        while !self.gauge.is_empty() && !self.course.patience(self.begun.elapsed()).is_zero() {
            std::thread::sleep(LOOK);
        }
        self.course.waited(self.begun.elapsed(), self.gauge.given(), self.gauge.is_empty());
    }
}

/// How often is looked whether the link has taken all.
const LOOK: Duration = Duration::from_millis(2);

impl<W: Write> Patches<W> {
    /// Starts a thread for each core; they end when this is dropped. `pace` says how hard they compress, `link` is what they go to.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn new(inner: W, bases: Bases, pace: Follow, link: Link) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        let (jobs, work) = sync_channel::<Job>(1);
        let work = Arc::new(Mutex::new(work));
        for _ in 0..cores {
            let work = work.clone();
            std::thread::Builder::new().name("patch".into()).spawn(move || {
                loop {
                    let job = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { return };
                    let Job { head, bytes, base, level, done } = job;
                    // Nobody waits for it after a failure.
                    let _ = done.send(frame(head, &bytes, base, level));
                }
            })?;
        }
        Ok(Self { inner, jobs, cores, waiting: VecDeque::new(), bases, pace, link })
    }

    /// Sends bytes that look back on nothing.
    ///
    /// # Errors
    /// Those of `inner`.
    pub fn plain(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.submit(Vec::new(), bytes, 0, RECORD_LEVEL)
    }

    /// A writer for what of the archive of `info` comes after its first `from` bytes.
    pub fn path<'a>(&'a mut self, info: &'a PathInfo, from: u64, kin: &'a Kin) -> Patch<'a, W> {
        Patch { patches: self, info, kin, at: from, content: Vec::new(), based: 0 }
    }

    /// Waits for all frames and gives `inner` back.
    ///
    /// # Errors
    /// Those of `inner`.
    pub fn finish(mut self) -> io::Result<(W, Pace, Link)> {
        self.write_down_to(0)?;
        Ok((self.inner, self.pace.pace(), self.link))
    }

    fn submit(&mut self, head: Vec<u8>, bytes: Vec<u8>, base: usize, level: i32) -> io::Result<()> {
        self.write_down_to(self.cores)?;
        let (done, result) = sync_channel(1);
        self.jobs.send(Job { head, bytes, base, level, done }).map_err(|_| io::Error::other("no thread is left"))?;
        self.waiting.push_back(result);
        Ok(())
    }

    /// Writes the frames that were begun first until so many are left.
    fn write_down_to(&mut self, left: usize) -> io::Result<()> {
        while self.waiting.len() > left {
            if let Some(first) = self.waiting.pop_front() {
                let frame = first.recv().map_err(|_| io::Error::other("a thread has ended"))??;
                self.inner.write_all(&frame)?;
            }
        }
        Ok(())
    }
}

/// Takes one archive.
pub struct Patch<'a, W: Write> {
    patches: &'a mut Patches<W>,
    info: &'a PathInfo,
    kin: &'a Kin,
    /// Where in the archive `content` begins.
    at: u64,
    content: Vec<u8>,
    based: u64,
}

impl<W: Write> Patch<'_, W> {
    /// Passes on what is held. To be called at the end.
    ///
    /// # Errors
    /// Those of the base and of `inner`.
    pub fn pass_on(&mut self) -> io::Result<()> {
        if self.content.is_empty() {
            return Ok(());
        }
        let choice = self.patches.link.choose();
        let content = std::mem::take(&mut self.content);
        let length = content.len() as u64;
        let (head, bytes, base) = if choice == Choice::Based { self.based(content)? } else { (Vec::new(), content, 0) };
        self.at += length;
        let level = self.patches.pace.level().min(HIGHEST);
        match choice {
            Choice::Based => {
                self.based += length;
                self.patches.submit(head, bytes, base, level)
            }
            Choice::Alone => self.patches.submit(head, bytes, base, level),
            Choice::Trial => {
                self.patches.submit(head, bytes, base, Pace::LOWEST)?;
                self.patches.write_down_to(0)?;
                self.patches.link.wait();
                Ok(())
            }
        }
    }

    /// How many bytes of the archive looked back on the base.
    pub fn based_bytes(&self) -> u64 {
        self.based
    }

    /// What tells the agent of the base, and `content` behind the stretch of it where the like should be.
    fn based(&mut self, mut content: Vec<u8>) -> io::Result<(Vec<u8>, Vec<u8>, usize)> {
        let length = content.len() as u64;
        let (from, length_of_base) = stretch(self.at, length, self.info.nar_size, self.kin.nar_size);
        let base = Base { base: self.kin.base.clone(), from, length: length_of_base };
        let line = serde_json::to_vec(&base)?;
        let mut head = BASE_MAGIC.to_le_bytes().to_vec();
        head.extend(u32::try_from(line.len()).map_err(io::Error::other)?.to_le_bytes());
        head.extend(line);
        let looked_at = self.patches.bases.stretch(&base)?;
        let mut bytes = Vec::with_capacity(looked_at.len() + content.len());
        bytes.extend_from_slice(looked_at);
        let base = bytes.len();
        bytes.append(&mut content);
        Ok((head, bytes, base))
    }
}

impl<W: Write> Write for Patch<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = usize::try_from(MAX_PATCHED).map_err(io::Error::other)?;
        let count = bytes.len().min(most - self.content.len());
        self.content.extend_from_slice(&bytes[..count]);
        if self.content.len() == most {
            self.pass_on()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One frame of what comes after the first `base` of `bytes`.
fn frame(head: Vec<u8>, bytes: &[u8], base: usize, level: i32) -> io::Result<Vec<u8>> {
    let wrong = |code| io::Error::other(get_error_name(code));
    let (base, content) = bytes.split_at(base);
    let mut context = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
    let parameters = [
        CParameter::CompressionLevel(level),
        CParameter::WindowLog(WINDOW_LOG),
        CParameter::EnableLongDistanceMatching(!base.is_empty()),
        // With a size in it, the header would let the decoder forget the base too early.
        CParameter::ContentSizeFlag(false),
    ];
    for parameter in parameters {
        context.set_parameter(parameter).map_err(wrong)?;
    }
    if !base.is_empty() {
        context.ref_prefix(base).map_err(wrong)?;
    }
    let begin = head.len();
    let mut out = head;
    out.resize(begin + compress_bound(content.len()), 0);
    let length = context.compress2(&mut out[begin..], content).map_err(wrong)?;
    out.truncate(begin + length);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::pace::queue;
    use cygnet_protocol::store::{NixHash, parse_store_path};

    #[test]
    fn a_stretch_lies_where_the_like_of_it_should_be_and_within_the_base() {
        assert_eq!(stretch(0, 100, 100, 5000), (0, 5000));
        for (size, whole) in [(100 << 20, 100 << 20), (100 << 20, 30 << 20), (40 << 20, 200 << 20), (7, u64::MAX)] {
            for at in (0..size).step_by(MAX_PATCHED as usize) {
                let length = MAX_PATCHED.min(size - at);
                let (from, looked_at) = stretch(at, length, size, whole);
                assert!(looked_at <= MAX_BASE && from + looked_at <= whole, "{at} of {size} in {whole}");
                let middle = (u128::from(at + length / 2) * u128::from(whole) / u128::from(size)) as u64;
                assert!(from <= middle && middle <= from + looked_at, "{at} of {size} in {whole}");
            }
        }
        let (from, looked_at) = stretch(60 << 20, 6 << 20, 100 << 20, 100 << 20);
        assert_eq!((from, looked_at), (57 << 20, 12 << 20));
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..length).map(|_| random()).collect()
    }

    /// How long what the card has already gets, bytes, over a link that takes each block in `block`; `size`: of the whole push.
    fn sent(block: Duration, size: u64) -> usize {
        struct Link(Duration, usize);
        impl Write for &mut Link {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                std::thread::sleep(self.0);
                self.1 += bytes.len();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let parse =
            |name: &str| parse_store_path(&format!("/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-{name}")).unwrap();
        let store = tempfile::tempdir().unwrap();
        let base = store.path().join(parse("old").to_basename());
        std::fs::write(&base, noise(20_000_000)).unwrap();
        let mut archive = Vec::new();
        nix_archive::nar::encode_path(&mut archive, &base, nix_archive::nar::CaseHack::native()).unwrap();
        let (nar_hash, nar_size) = (NixHash::Sha256([0; 32]), archive.len() as u64);
        let kin = Kin { path: parse("new"), base: parse("old"), nar_hash: nar_hash.clone(), nar_size };
        let (references, signatures) = (vec![], vec![]);
        let info = PathInfo { path: parse("new"), nar_hash, nar_size, references, deriver: None, signatures, ca: None };
        let (queue, outlet) = queue();
        let gauge = queue.gauge();
        let mut link = Link(block, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| outlet.run(&mut link));
            let bases = Bases::new(store.path().to_owned(), false);
            let follow = Follow::new(Pace::new(2), gauge.clone());
            let mut patches = Patches::new(queue, bases, follow, super::Link::new(gauge, size)).unwrap();
            let mut patch = patches.path(&info, 0, &kin);
            patch.write_all(&archive).unwrap();
            patch.pass_on().unwrap();
            assert!(patch.based_bytes() == 0 || patch.based_bytes() >= 12 << 20, "{}", patch.based_bytes());
            patches.finish().unwrap().0.flush().unwrap();
        });
        link.1
    }

    #[test]
    fn a_fast_link_gets_all_a_slow_one_what_differs_behind_what_tried_it() {
        let whole = sent(Duration::ZERO, 1 << 30);
        assert!(whole > 19_900_000, "{whole}");
        let slow = sent(Duration::from_millis(16), 1 << 30);
        assert!((6 << 20..7 << 20).contains(&slow), "{slow}");
        let short = sent(Duration::ZERO, 20_000_000);
        assert!(short < 100_000, "{short}");
    }

    #[test]
    fn content_that_its_base_has_is_short() {
        let mut bytes = noise(3_000_000);
        let content: Vec<u8> = bytes[500_000..2_500_000].to_vec();
        let alone = frame(vec![], &content, 0, 3).unwrap();
        let base = bytes.len();
        bytes.extend(&content);
        let patch = frame(b"head".to_vec(), &bytes, base, 3).unwrap();
        assert!(alone.len() > 1_900_000 && patch.len() < 4000, "{} {}", alone.len(), patch.len());
        assert!(patch.starts_with(b"head"));
    }
}
