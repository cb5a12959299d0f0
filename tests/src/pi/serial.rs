//! The Pi's serial console: kept in a file, and waited on by what appears in it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::host::run::tail;

/// How many lines a failed wait shows.
const SHOWN_LINES: usize = 40;

/// A console that a thread reads to its end.
#[derive(Debug, Clone)]
pub struct Serial {
    shared: Arc<(Mutex<Seen>, Condvar)>,
    /// Up to here earlier waits have found what they waited for, in bytes.
    found: Arc<AtomicUsize>,
    log: PathBuf,
}

#[derive(Debug, Default)]
struct Seen {
    text: String,
    ended: bool,
    /// Others that get what appears from now on. They must not block.
    copies: Vec<File>,
}

impl Serial {
    /// Follows `source` until it ends, with a copy in the file `log`.
    ///
    /// # Errors
    /// If the file can't be created or no thread can be started.
    pub fn follow(mut source: impl Read + Send + 'static, log: &Path) -> Result<Serial> {
        let mut file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let shared = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("serial".into())
            .spawn(move || {
                let mut buffer = [0; 4096];
                loop {
                    let length = source.read(&mut buffer).unwrap_or(0);
                    // A full disk loses the copy, not the waiting.
                    let _ = file.write_all(&buffer[..length]);
                    let mut seen = lock(&theirs.0);
                    seen.text.push_str(&String::from_utf8_lossy(&buffer[..length]));
                    // As on a real line, what nobody takes in time is lost.
                    seen.copies.iter_mut().for_each(|copy| drop(copy.write(&buffer[..length])));
                    seen.ended = length == 0;
                    theirs.1.notify_all();
                    if seen.ended {
                        return;
                    }
                }
            })
            .context("starting the thread that reads the serial console")?;
        Ok(Serial { shared, found: Arc::default(), log: log.to_owned() })
    }

    /// The same console for somebody else, whose waits begin with what appears from now on.
    #[must_use]
    pub fn from_now_on(&self) -> Serial {
        let now = lock(&self.shared.0).text.len();
        Serial { shared: Arc::clone(&self.shared), found: Arc::new(AtomicUsize::new(now)), log: self.log.clone() }
    }

    /// Waits until `text` appears after what the last wait found, and returns the line that it is on so far.
    ///
    /// # Errors
    /// If it doesn't appear in time or the Pi goes off first; the error shows the console's last lines.
    pub fn wait(&self, text: &str, patience: Duration) -> Result<String> {
        let deadline = Instant::now() + patience;
        let mut seen = lock(&self.shared.0);
        loop {
            let found = self.found.load(Ordering::Relaxed);
            if let Some(at) = seen.text[found..].find(text) {
                let start = found + at;
                let end = start + text.len();
                self.found.store(end, Ordering::Relaxed);
                let line_start = seen.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
                let line_end = seen.text[end..].find('\n').map_or(seen.text.len(), |length| end + length);
                return Ok(seen.text[line_start..line_end].trim_end().to_owned());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if seen.ended || left.is_zero() {
                let why =
                    if seen.ended { "the Pi went off".to_owned() } else { format!("{} s passed", patience.as_secs()) };
                bail!("{why} before {text:?} appeared on the serial console:\n{}", self.shown(&seen));
            }
            seen = self
                .shared
                .1
                .wait_timeout(seen, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(seen, _)| seen);
        }
    }

    /// Waits until nothing writes to the console any more: the Pi is off.
    ///
    /// # Errors
    /// If it is still on after `patience`.
    pub fn wait_end(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut seen = lock(&self.shared.0);
        while !seen.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("the Pi is still on after {} s:\n{}", patience.as_secs(), self.shown(&seen));
            }
            seen = self
                .shared
                .1
                .wait_timeout(seen, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(seen, _)| seen);
        }
        Ok(())
    }

    /// Gives a copy of what appears from now on to `sink`, which must be set to not block: what it can't take is lost.
    pub fn copy_to(&self, sink: File) {
        lock(&self.shared.0).copies.push(sink);
    }

    /// Whether nothing will appear any more.
    pub fn has_ended(&self) -> bool {
        lock(&self.shared.0).ended
    }

    /// Everything that appeared so far.
    pub fn text(&self) -> String {
        lock(&self.shared.0).text.clone()
    }

    /// The last lines and where all of them are, for an error message.
    pub fn last_lines(&self) -> String {
        self.shown(&lock(&self.shared.0))
    }

    fn shown(&self, seen: &Seen) -> String {
        format!("{}\nthe whole log is in {}", tail(&seen.text, SHOWN_LINES), self.log.display())
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_go_forward_and_end_with_the_console() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let serial = Serial::follow(&b"one up\ntwo up\n"[..], &log).unwrap();
        let long = Duration::from_secs(10);
        assert_eq!(serial.wait("up", long).unwrap(), "one up");
        assert_eq!(serial.wait("up", long).unwrap(), "two up");
        let error = serial.wait("up", long).unwrap_err().to_string();
        assert!(error.starts_with("the Pi went off before"), "{error}");
        serial.wait_end(long).unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "one up\ntwo up\n");
    }
}
