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
