//! The kernel's log, from its beginning and as it grows: `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg).

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// Records are at most this long (kernel/printk: PRINTKRB_RECORD_MAX and CONSOLE_EXT_LOG_MAX are below it); a smaller
/// buffer would be answered with EINVAL.
const RECORD: usize = 8192;
/// How many lines wait to be read.
const QUEUE: usize = 256;
/// What a line must contain to be of any interest. What it means is decided in the protocol crate.
const MATTERS: &[&str] = &["brcm", "mmc", "cfg80211", "regulatory", "ieee80211", "oltage", "sdio"];

/// Follows the kernel's log: first what is in it, then what comes. Ends when the receiver is dropped. Where there is no
/// `/dev/kmsg`, no line ever comes. Needs tokio's reactor.
pub fn follow() -> mpsc::Receiver<String> {
    let (lines, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        if let Err(error) = relay("/dev/kmsg", &lines).await {
            tracing::warn!("the kernel's log can't be read, so its view of the WiFi chip is missing: {error}");
        }
        // A closed channel would look like something that happens all the time.
        lines.closed().await;
    });
    receiver
}

/// Opens a character device that can be waited for with epoll.
#[expect(
    deprecated,
    reason = "its successor is unsafe; what may be wrong here, a changing descriptor, a File does not have"
)]
pub(super) fn open_device(path: &str) -> io::Result<AsyncFd<File>> {
    let file = File::from(open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?);
    AsyncFd::with_interest(file, Interest::READABLE)
}

async fn relay(path: &str, lines: &mpsc::Sender<String>) -> io::Result<()> {
    let file = open_device(path)?;
    let mut record = vec![0; RECORD];
    loop {
        let read = tokio::select! {
            read = file.async_io(Interest::READABLE, |mut file| file.read(&mut record)) => read,
            () = lines.closed() => return Ok(()),
        };
        let length = match read {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            // EPIPE: what we would have read was overwritten; the next read gives the oldest that is left.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::PIPE | Errno::INTR)) => continue,
            Err(error) => return Err(error),
        };
        if let Some(message) = record.get(..length).and_then(message)
            && lines.send(message).await.is_err()
        {
            return Ok(());
        }
    }
}

/// The message of a record, if it is the kernel's own and may matter.
///
/// `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];MESSAGE`, then lines with properties, which begin with a space. What is not
/// printable in the message is escaped by the kernel as `\xHH`. Flag `c` is a continuation.
fn message(record: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(record).ok()?;
    let (prefix, rest) = text.split_once(';')?;
    let mut fields = prefix.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    // The facility is above the three bits of severity. Whoever else writes here, systemd first of all, is no kernel.
    if priority >> 3 != 0 || fields.nth(2) == Some("c") {
        return None;
    }
    let message = rest.lines().next()?;
    MATTERS.iter().any(|word| message.contains(word)).then(|| message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn records_are_read() {
        let line = "brcmfmac: brcmf_fw_alloc_request: using brcm/brcmfmac43455-sdio for chip BCM4345/6";
        let record = format!("6,812,6543210,-;{line}\n SUBSYSTEM=sdio\n DEVICE=+sdio:mmc1:0001:1\n");
        assert_eq!(message(record.as_bytes()).as_deref(), Some(line));
        assert_eq!(message(b"3,9,1,-,caller=T1;mmc1: error -110\n").as_deref(), Some("mmc1: error -110"));
        for (record, why) in [
            (&b"6,812,6543210,c;brcmfmac: continued\n"[..], "a continuation"),
            (b"30,812,6543210,-;systemd[1]: brcmfmac is well\n", "a daemon"),
            (b"6,812,6543210,-;EXT4-fs (sda2): mounted\n", "of no interest"),
            (b" SUBSYSTEM=mmc\n", "a property"),
            (b"x,1,1,-;mmc\n", "no priority"),
            (b"6,1,1,-;mmc \xff\n", "no text"),
            (b"", "nothing"),
        ] {
            assert_eq!(message(record), None, "{why}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_log_of_this_machine_is_read_from_its_beginning() {
        let file = match File::options().write(true).open("/dev/kmsg") {
            Ok(file) => file,
            Err(error) => return eprintln!("not tested: /dev/kmsg can't be written: {error}"),
        };
        // Nobody but the kernel has facility 0, so its own lines are all there is to wait for; ours must not come.
        let mut lines = follow();
        io::Write::write_all(&mut &file, b"<6>mmc9: cygnet pretends to be the kernel\n").unwrap();
        let mut seen = Vec::new();
        while let Ok(Some(line)) = tokio::time::timeout(Duration::from_secs(1), lines.recv()).await {
            seen.push(line);
        }
        eprintln!("{} lines of interest: {seen:?}", seen.len());
        assert!(seen.iter().all(|line| MATTERS.iter().any(|word| line.contains(word)) && !line.contains("pretends")));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn no_log_is_no_line() {
        let (lines, _receiver) = mpsc::channel(1);
        assert!(relay("/nonexistent", &lines).await.is_err());
    }
}
