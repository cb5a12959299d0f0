//! A terminal: opened without becoming ours, set so that keys come one by one, and left as it was.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A terminal that is open.
pub struct Tty {
    fd: OwnedFd,
    before: Option<Termios>,
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// All of it is on its way.
    Whole,
    /// The line took no more; the rest was left out.
    Stuck,
}

impl Tty {
    /// Opens `path`. With `keys`, what is typed comes byte by byte and without an echo, until this is dropped; without, the
    /// terminal's settings are left alone, because somebody else reads from it.
    pub fn open(path: &Path, keys: bool) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = open(path, flags, Mode::empty())?;
        let mut tty = Self { fd, before: None };
        let settings = tcgetattr(&tty.fd)?;
        if keys {
            tty.before = Some(settings);
            tty.grab()?;
        }
        Ok(tty)
    }

    /// Takes the keys again, after a shell had them.
    pub fn grab(&self) -> io::Result<()> {
        let Some(before) = &self.before else { return Ok(()) };
        let mut raw = before.clone();
        // Bytes with a framing error, and breaks, are the noise of a line that nobody drives.
        raw.input_modes = InputModes::IGNBRK | InputModes::IGNPAR;
        raw.local_modes &=
            !(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        // The kernel, systemd and we all end lines with a newline alone; the line discipline adds the return.
        raw.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
        // A laptop that hangs up is not the end of the line.
        raw.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        Ok(tcsetattr(&self.fd, OptionalActions::Now, &raw)?)
    }

    /// Sets it as it was found, for a shell.
    pub fn release(&self) -> io::Result<()> {
        match &self.before {
            Some(before) => Ok(tcsetattr(&self.fd, OptionalActions::Now, before)?),
            None => Ok(()),
        }
    }

    /// Another descriptor, for a child that must wait for its keys: ours would not, and what one sets all copies have.
    pub fn for_child(path: &Path) -> io::Result<OwnedFd> {
        // Not to wait is only for the opening, which might wait for a carrier.
        let fd = open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        rustix::fs::fcntl_setfl(&fd, OFlags::empty())?;
        Ok(fd)
    }

    /// Writes as much as the line takes until `patience` is over. A line with nobody at its end never makes us wait longer.
    pub fn write(&self, bytes: &[u8], patience: Duration) -> io::Result<Written> {
        let deadline = Instant::now() + patience;
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(&self.fd, rest) {
                Ok(length) => rest = rest.get(length..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
                    if left.is_zero() || matches!(poll(&mut fds, Some(&timespec(left))), Ok(0)) {
                        return Ok(Written::Stuck);
                    }
                    if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
                        return Err(io::ErrorKind::BrokenPipe.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Written::Whole)
    }

    /// Waits for keys or for `wake`, `patience` at most; gives what was typed. An error means that the terminal is gone.
    pub fn read(&self, wake: &OwnedFd, patience: Duration) -> io::Result<Vec<u8>> {
        let keys = if self.before.is_some() { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = [PollFd::from_borrowed_fd(self.fd.as_fd(), keys), PollFd::new(wake, PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(patience))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        drain(wake);
        let happened = fds[0].revents();
        if happened.contains(PollFlags::IN) {
            let mut buffer = [0; 256];
            return match rustix::io::read(&self.fd, &mut buffer) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => Ok(buffer.get(..length).unwrap_or_default().to_vec()),
                Err(Errno::AGAIN | Errno::INTR) => Ok(Vec::new()),
                Err(error) => Err(error.into()),
            };
        }
        if happened.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Vec::new())
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        // A terminal that is gone needs no settings.
        let _ = self.release();
    }
}

/// Empties an eventfd.
pub fn drain(wake: &OwnedFd) {
    // Nothing in it is as good as emptied.
    let _ = rustix::io::read(wake, &mut [0; 8]);
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() }
}

/// Whether some session has this terminal: a getty, or who logged in with it. Its keys are theirs.
///
/// proc_pid_stat(5): field 7 is the controlling terminal's number, with the minor in bits 31 to 20 and 7 to 0.
pub fn has_session(path: &Path) -> bool {
    let Ok(number) = fs::metadata(path).map(|metadata| metadata.rdev()) else { return false };
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| fs::read_to_string(process.path().join("stat")).ok())
        .any(|stat| terminal_of(&stat) == Some((major, minor)))
}

fn terminal_of(stat: &str) -> Option<(u32, u32)> {
    // The name in parentheses may have anything in it.
    let fields = stat.rsplit_once(')')?.1;
    let number = fields.split_whitespace().nth(4)?.parse::<i32>().ok()?.cast_unsigned();
    (number != 0).then_some(((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xfff00)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_known_by_its_terminal() {
        assert_eq!(terminal_of("12 (a) b) S 1 12 12 34816 12 4194304"), Some((136, 0)));
        assert_eq!(terminal_of("12 (agetty) S 1 12 12 1088 12 0"), Some((4, 64)));
        assert_eq!(terminal_of("12 (cygnetd) S 1 12 12 0 -1 0"), None);
        assert_eq!(terminal_of("garbage"), None);
        assert!(!has_session(Path::new("/dev/null")));
    }

    #[test]
    fn a_device_that_is_no_terminal_is_refused() {
        assert!(Tty::open(Path::new("/dev/null"), true).is_err());
        assert!(Tty::open(Path::new("/nonexistent"), true).is_err());
    }
}
