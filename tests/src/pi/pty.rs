//! A tty at the other end of the Pi's serial line, for programs that expect a USB serial adapter there.
//!
//! It stays while the Pi is switched off and on, as an adapter does.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::serial::Serial;

/// How long the thread may take to see that the tty is gone.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// The tty. Dropping it hangs up.
#[derive(Debug)]
pub struct Pty {
    path: PathBuf,
    ours: File,
    // Held open: without it, reading ends whenever no program has the tty.
    _theirs: File,
    keyboard: Arc<Mutex<Keyboard>>,
}

/// Where typed bytes go.
#[derive(Debug)]
enum Keyboard {
    /// The Pi is off.
    Nowhere,
    /// To the Pi that is on.
    To(File),
    /// The tty is gone, and the thread should go too.
    Closed,
}

impl Pty {
    /// Opens a tty that nothing is connected to yet.
    ///
    /// # Errors
    /// If the kernel gives none.
    pub fn open() -> Result<Pty> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).context("opening a pty")?;
        grantpt(&ours).context("granting the pty")?;
        unlockpt(&ours).context("unlocking the pty")?;
        let name = ptsname(&ours, Vec::new()).context("asking for the pty's name")?;
        let path = PathBuf::from(name.to_string_lossy().into_owned());
        let theirs = open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("opening {}", path.display()))?;
        let mut raw = tcgetattr(&theirs).context("reading the tty's settings")?;
        raw.make_raw();
        tcsetattr(&theirs, OptionalActions::Now, &raw).context("making the tty raw")?;
        // Nobody may be reading, and the Pi must not wait for them.
        fcntl_setfl(&ours, OFlags::NONBLOCK).context("making the pty non-blocking")?;

        let keyboard = Arc::new(Mutex::new(Keyboard::Nowhere));
        let ours = File::from(ours);
        let typed = ours.try_clone().context("duplicating the pty")?;
        let shared = Arc::clone(&keyboard);
        std::thread::Builder::new()
            .name("keyboard".into())
            .spawn(move || forward(typed, &shared))
            .context("starting the thread that types")?;
        Ok(Pty { path, ours, _theirs: File::from(theirs), keyboard })
    }

    /// The tty's path, `/dev/pts/N`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Connects it to a console that just began.
    ///
    /// # Errors
    /// If the process has no more file descriptors.
    pub fn attach(&self, serial: &Serial, keyboard: File) -> Result<()> {
        serial.copy_to(self.ours.try_clone().context("duplicating the pty")?);
        *self.keyboard.lock().unwrap_or_else(PoisonError::into_inner) = Keyboard::To(keyboard);
        Ok(())
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        *self.keyboard.lock().unwrap_or_else(PoisonError::into_inner) = Keyboard::Closed;
    }
}

/// Carries what is typed to the Pi until the tty is gone. What is typed while the Pi is off is lost.
fn forward(mut typed: File, keyboard: &Mutex<Keyboard>) {
    let mut buffer = [0; 256];
    loop {
        let _ = poll(&mut [PollFd::new(&typed, PollFlags::IN)], Some(&LOOK));
        let length = typed.read(&mut buffer).unwrap_or(0);
        match &mut *keyboard.lock().unwrap_or_else(PoisonError::into_inner) {
            Keyboard::Closed => return,
            Keyboard::Nowhere => {}
            Keyboard::To(line) => {
                if line.write_all(&buffer[..length]).is_err() {
                    // Off again; the next boot attaches anew.
                }
            }
        }
    }
}

/// Somebody at a terminal, who runs a program of this host and answers its questions.
#[derive(Debug)]
pub struct Typist {
    ours: File,
    child: std::process::Child,
    shown: Arc<Mutex<String>>,
    seen: usize,
}

impl Typist {
    /// Runs `command` with a terminal of its own.
    ///
    /// # Errors
    /// If the kernel gives none, or the program cannot be started.
    pub fn start(mut command: std::process::Command) -> Result<Typist> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).context("opening a pty")?;
        grantpt(&ours).context("granting the pty")?;
        unlockpt(&ours).context("unlocking the pty")?;
        let name = ptsname(&ours, Vec::new()).context("asking for the pty's name")?;
        let theirs = File::from(
            open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
                .context("opening the terminal")?,
        );
        let copy = || theirs.try_clone().context("duplicating the terminal");
        let child = command.stdin(copy()?).stdout(copy()?).stderr(copy()?).spawn().context("starting the program")?;
        // The command holds the terminal open as long as it lives.
        drop((command, theirs));
        let ours = File::from(ours);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut screen, sink) = (ours.try_clone().context("duplicating the pty")?, Arc::clone(&shown));
        std::thread::Builder::new()
            .name("screen".into())
            .spawn(move || {
                let mut buffer = [0; 4096];
                // Ends with EIO when the last program has closed the terminal.
                while let Ok(count @ 1..) = screen.read(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..count]);
                    sink.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
                }
            })
            .context("starting the thread that reads the screen")?;
        Ok(Typist { ours, child, shown, seen: 0 })
    }

    /// Waits for a question that ends with `end`, and types a line.
    ///
    /// # Errors
    /// If it is not asked in time.
    pub fn answer(&mut self, end: &str, line: &str, patience: std::time::Duration) -> Result<()> {
        let deadline = std::time::Instant::now() + patience;
        loop {
            let shown = self.shown();
            if shown.len() > self.seen && shown.ends_with(end) {
                self.seen = shown.len();
                return self.ours.write_all(format!("{line}\n").as_bytes()).context("typing");
            }
            let over = self.child.try_wait().context("waiting for the program")?;
            anyhow::ensure!(
                over.is_none() && std::time::Instant::now() < deadline,
                "nothing was asked ({over:?}):\n{shown}"
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Waits for the program's end; its exit status, and all that was shown.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn end(mut self, patience: std::time::Duration) -> Result<(std::process::ExitStatus, String)> {
        let deadline = std::time::Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().context("waiting for the program")? {
                return Ok((status, self.shown()));
            }
            anyhow::ensure!(std::time::Instant::now() < deadline, "it did not end:\n{}", self.shown());
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    fn shown(&self) -> String {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        // Ended already, unless something went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
