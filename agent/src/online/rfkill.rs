//! The radio switches: `/dev/rfkill` (Documentation/driver-api/rfkill.rst, include/uapi/linux/rfkill.h).

use super::kmsg::open_device;
use rustix::io::Errno;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use tokio::io::Interest;
use tokio::sync::mpsc;
use tokio::time::sleep;

const DEVICE: &str = "/dev/rfkill";
/// `struct rfkill_event`: u32 index, u8 type, op, soft, hard. Newer kernels have a longer one, and give us this much of it.
const EVENT: usize = 8;
/// RFKILL_TYPE_WLAN.
const WLAN: u8 = 1;
/// RFKILL_OP_CHANGE_ALL.
const CHANGE_ALL: u8 = 3;
/// The device comes with the first radio, or with its driver; this often we look whether it has.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Longer than any driver needs.
const DEADLINE: Duration = Duration::from_secs(10);

/// Says when a radio switch came, went, or was thrown; several that follow each other are one. Where there are none, nothing
/// ever comes. Ends when the receiver is dropped. Needs tokio's reactor.
pub fn watch() -> mpsc::Receiver<()> {
    let (tick, ticks) = mpsc::channel(1);
    tokio::spawn(async move {
        while !tick.is_closed() {
            if let Err(error) = relay(&tick).await
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::debug!("radio switches can't be watched: {error}");
            }
            tokio::select! {
                () = sleep(LOOK_AGAIN) => {}
                () = tick.closed() => {}
            }
        }
    });
    ticks
}

async fn relay(tick: &mpsc::Sender<()>) -> io::Result<()> {
    let file = open_device(DEVICE)?;
    let mut event = [0; EVENT];
    loop {
        let read = tokio::select! {
            read = file.async_io(Interest::READABLE, |mut file| file.read(&mut event)) => read,
            () = tick.closed() => return Ok(()),
        };
        match read {
            Ok(0) => return Ok(()),
            Ok(_) => {
                // One that waits already says the same.
                let _ = tick.try_send(());
            }
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Switches all WiFi radios on, as far as software can. Blocks for 10 s at most.
///
/// # Errors
/// `NotFound` where there are no radio switches, `TimedOut` if the driver does not come back.
pub fn unblock_wlan() -> io::Result<()> {
    let (done, result) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("rfkill".into()).spawn(move || {
        let _ = done.send(unblock());
    })?;
    match result.recv_timeout(DEADLINE) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, "switching the radio on has not come back from the kernel"))
        }
    }
}

fn unblock() -> io::Result<()> {
    // One write is one event.
    let written = OpenOptions::new().write(true).open(DEVICE)?.write(&[0, 0, 0, 0, WLAN, CHANGE_ALL, 0, 0])?;
    if written == EVENT { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tokio::time::timeout;

    #[tokio::test(flavor = "current_thread")]
    async fn without_radio_switches_nothing_comes() {
        if fs::exists(DEVICE).unwrap() {
            return eprintln!("not tested: this machine has radio switches");
        }
        assert!(timeout(Duration::from_millis(200), watch().recv()).await.is_err());
        assert_eq!(unblock_wlan().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    fn soft() -> Vec<String> {
        let switches = fs::read_dir("/sys/class/rfkill").unwrap();
        switches
            .map(|entry| fs::read_to_string(entry.unwrap().path().join("soft")).unwrap().trim().to_owned())
            .collect()
    }

    /// Blocks as `rfkill block wlan` does.
    fn block() {
        let mut device = OpenOptions::new().write(true).open(DEVICE).unwrap();
        assert_eq!(device.write(&[0, 0, 0, 0, WLAN, CHANGE_ALL, 1, 0]).unwrap(), EVENT);
    }

    #[tokio::test(flavor = "current_thread")]
    #[ignore = "needs mac80211_hwsim: run in the virtual Pi"]
    async fn radios_are_switched_on_and_the_change_is_told() {
        let mut ticks = watch();
        let patience = Duration::from_secs(60);
        timeout(patience, ticks.recv()).await.unwrap().unwrap();
        // The events of all switches that there are have been read by now, or are read at once.
        while timeout(Duration::from_secs(1), ticks.recv()).await.is_ok() {}
        block();
        timeout(patience, ticks.recv()).await.unwrap().unwrap();
        assert!(soft().iter().all(|soft| soft == "1"), "{:?}", soft());
        while timeout(Duration::from_secs(1), ticks.recv()).await.is_ok() {}
        unblock_wlan().unwrap();
        timeout(patience, ticks.recv()).await.unwrap().unwrap();
        assert!(soft().iter().all(|soft| soft == "0"), "{:?}", soft());
    }
}
