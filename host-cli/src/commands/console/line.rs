//! The serial device: found, opened, set, and waited on together with the keyboard.

use crate::error::fault;
use anyhow::{Context, Error, Result};
use cygnet_protocol::fault::FaultCode;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::termios::{
    ControlModes, OptionalActions, Termios, ioctl_tiocexcl, ioctl_tiocnxcl, isatty, tcgetattr, tcsetattr,
};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How often is looked where waiting is not possible.
const CRUDE: Duration = Duration::from_millis(20);
/// A line that takes nothing for so long is stuck.
const STUCK: Duration = Duration::from_secs(5);

/// A serial device, raw, 8 bits, no parity, one stop bit, no flow control; set back when dropped.
#[derive(Debug)]
pub struct Line {
    fd: OwnedFd,
    before: Termios,
    device: String,
    baud: u32,
}

impl Line {
    /// Opens it for us alone.
    ///
    /// # Errors
    /// `not-found` if it is not there, `access-denied` if it is not ours to use, `not-now` if another program has it,
    /// `bad-request` if it is no terminal or cannot be as fast.
    pub fn open(device: &str, baud: u32) -> Result<Self> {
        // Not to wait for a carrier, which most adapters never have.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = open(device, flags, Mode::empty()).map_err(|error| explain(device, error))?;
        if !isatty(&fd) {
            return Err(fault(
                FaultCode::BadRequest,
                format!("{device} is no serial device."),
                "It is another kind of file.",
                "`cygnet console` without a device lists those that there are.",
            ));
        }
        // Whoever opens it after us is refused; whoever had it before us is still there, and takes half of the bytes.
        ioctl_tiocexcl(&fd).map_err(|error| explain(device, error))?;
        let before = tcgetattr(&fd).with_context(|| format!("reading the settings of {device}"))?;
        let mut raw = before.clone();
        raw.make_raw();
        raw.control_modes &= !(ControlModes::CSTOPB | ControlModes::CRTSCTS | ControlModes::HUPCL);
        raw.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
        let too_fast = |error: Errno| {
            fault(
                FaultCode::BadRequest,
                format!("{device} cannot be set to {baud} baud: {error}."),
                "The adapter or its driver does not know that speed.",
                "Use the speed of the Pi's console, which is 115200 unless cmdline.txt says otherwise.",
            )
        };
        raw.set_speed(baud).map_err(too_fast)?;
        tcsetattr(&fd, OptionalActions::Now, &raw).map_err(too_fast)?;
        Ok(Self { fd, before, device: device.to_owned(), baud })
    }

    /// Waits for bytes from the Pi, and with `keyboard` for those of stdin, `patience` at most.
    ///
    /// # Errors
    /// `connection-lost` if the device vanishes.
    pub fn wait(&self, keyboard: bool, patience: Duration) -> Result<(Vec<u8>, Vec<u8>)> {
        let stdin = io::stdin();
        let keys = if keyboard { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN), PollFd::new(&stdin, keys)];
        match poll(&mut fds, Some(&timespec(patience))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).with_context(|| format!("waiting for {}", self.device)),
        }
        let (mut line, mut stdin_says) = (fds[0].revents(), fds[1].revents());
        if (line | stdin_says).contains(PollFlags::NVAL) {
            // macOS cannot poll terminals: look at short intervals, which none of these reads makes longer.
            std::thread::sleep(CRUDE);
            (line, stdin_says) = (PollFlags::IN, keys);
        }
        let mut bytes = Vec::new();
        if line.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            bytes = read(&self.fd).map_err(|_| self.lost())?.ok_or_else(|| self.lost())?;
        }
        let mut typed = Vec::new();
        if keyboard && stdin_says.intersects(PollFlags::IN | PollFlags::HUP) {
            typed = read(&stdin).context("reading the keyboard")?.unwrap_or_default();
            if typed.is_empty() && stdin_says.contains(PollFlags::HUP) {
                // The end of the keyboard is the wish to go.
                typed.push(super::QUIT);
            }
        }
        Ok((bytes, typed))
    }

    /// Sends bytes to the Pi.
    ///
    /// # Errors
    /// `connection-lost` if the device vanishes.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let deadline = Instant::now() + STUCK;
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(&self.fd, rest) {
                Ok(length) => rest = rest.get(length..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if Instant::now() < deadline => {
                    let _ = poll(&mut [PollFd::new(&self.fd, PollFlags::OUT)], Some(&timespec(STUCK)));
                }
                // Nobody takes it at the other end: as on any line, it is lost.
                Err(Errno::AGAIN) => return Ok(()),
                Err(_) => return Err(self.lost()),
            }
        }
        Ok(())
    }

    fn lost(&self) -> Error {
        fault(
            FaultCode::ConnectionLost,
            format!("{} is gone.", self.device),
            "The adapter was unplugged, or the Pi whose USB port it is went off.",
            "Plug it in again, and give the command again.",
        )
    }

    /// Nothing comes.
    pub fn silent(&self) -> Error {
        fault(
            FaultCode::Unreachable,
            format!("Nothing comes from {} for 30 s.", self.device),
            "The Pi has no power; or the wires are on the wrong pins (the Pi's TXD, pin 8, goes to the adapter's RXD, and \
             GND to GND); or the Pi's console is not on its serial port.",
            "Check the power and the wires; cmdline.txt on the card must have console=serial0,115200, and config.txt \
             enable_uart=1.",
        )
    }

    /// Something comes, but no report.
    pub fn no_agent(&self) -> Error {
        fault(
            FaultCode::NoAgent,
            format!("Bytes come from {}, but no report of an agent for 2 min.", self.device),
            format!(
                "The Pi still boots, or its system is not cygnet's; if what comes is unreadable, its speed is not {}.",
                self.baud
            ),
            "Read what it says with --raw; for another speed use --baud.",
        )
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Of a device that is gone there is nothing to set back.
        let _ = tcsetattr(&self.fd, OptionalActions::Now, &self.before);
        let _ = ioctl_tiocnxcl(&self.fd);
    }
}

fn explain(device: &str, error: Errno) -> Error {
    match error {
        Errno::NOENT | Errno::NXIO | Errno::NODEV => fault(
            FaultCode::NotFound,
            format!("There is no device {device}."),
            "The adapter is not plugged in, or has another name.",
            "`cygnet console` without a device lists those that there are.",
        ),
        Errno::ACCESS | Errno::PERM => fault(
            FaultCode::AccessDenied,
            format!("You may not use {device}."),
            "Serial devices belong to a group that you are not in: dialout on Debian and Ubuntu, uucp on Arch.",
            format!("Join it and log in again: sudo usermod -aG $(stat -c %G {device}) $USER"),
        ),
        Errno::BUSY => fault(
            FaultCode::NotNow,
            format!("Another program has {device}."),
            "A terminal program such as minicom, screen or ModemManager uses it.",
            format!("End that one; `fuser -v {device}` says which it is."),
        ),
        error => Error::from(error).context(format!("opening {device}")),
    }
}

/// None at the end.
fn read(fd: impl std::os::fd::AsFd) -> rustix::io::Result<Option<Vec<u8>>> {
    let mut buffer = [0; 4096];
    match rustix::io::read(fd, &mut buffer) {
        Ok(0) => Ok(None),
        Ok(length) => Ok(Some(buffer.get(..length).unwrap_or_default().to_vec())),
        Err(Errno::AGAIN | Errno::INTR) => Ok(Some(Vec::new())),
        Err(error) => Err(error),
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() }
}

/// Serial adapters on USB, by the names that Linux and macOS give them.
pub fn candidates() -> Vec<String> {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| is_candidate(name))
        .collect();
    found.sort();
    found.iter().map(|name| format!("/dev/{name}")).collect()
}

fn is_candidate(name: &str) -> bool {
    ["ttyUSB", "ttyACM", "cu.usb", "cu.SLAB", "cu.wchusb"].iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::fault_of;

    #[test]
    fn what_cannot_be_opened_is_explained() {
        let code = |device: &str| fault_of(&Line::open(device, 115_200).unwrap_err()).code;
        assert_eq!(code("/dev/nonexistent"), FaultCode::NotFound);
        assert_eq!(code("/dev/null"), FaultCode::BadRequest);
        assert_eq!(fault_of(&explain("x", Errno::BUSY)).code, FaultCode::NotNow);
        assert_eq!(fault_of(&explain("x", Errno::ACCESS)).code, FaultCode::AccessDenied);
        assert!(is_candidate("ttyUSB0") && is_candidate("cu.usbserial-1") && !is_candidate("ttyS0"));
    }
}
