//! Finds what a report tells.

use crate::agent::Agent;
use crate::events::lock;
use crate::online::settings;
use cygnet_protocol::event::Event;
use cygnet_protocol::message::Status;
use cygnet_protocol::online::observation::{Bss, Clock, KnownNetwork};
use cygnet_protocol::online::settings::Key;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How many events are told.
const EVENTS: usize = 60;
/// How many lines of the kernel's log are told.
const KERNEL: usize = 120;
/// Of these words one must be in a line of the kernel's log, in lower case.
const MATTERS: &[&str] = &[
    "brcm",
    "mmc",
    "sdio",
    "sdhci",
    "cfg80211",
    "ieee80211",
    "regulatory",
    "wlan",
    "voltage",
    "firmware",
    "error",
    "fail",
    "out of memory",
    "i/o",
    "usb ",
    "nvme",
    "zfs",
    "spl:",
    "linux version",
    "machine model",
];
/// Where firmware for the WiFi chip is looked for, as the kernel does.
const FIRMWARE: &[&str] = &["/lib/firmware", "/run/current-system/firmware", "/run/booted-system/firmware"];
/// How many firmware files are told.
const FILES: usize = 80;

/// All that a report tells. What must not be told is in `secrets`, and nowhere else.
#[derive(Debug, Clone)]
pub struct ReportInput {
    /// What `status` tells.
    pub status: Status,
    /// Milliseconds since the agent started.
    pub now: u64,
    /// The wall clock.
    pub clock: Clock,
    /// The country in the settings.
    pub country: Option<String>,
    /// The networks in the settings, best first, without their keys.
    pub known: Vec<KnownNetwork>,
    /// What was wrong with the settings.
    pub problems: Vec<String>,
    /// What is in the air.
    pub air: Vec<Bss>,
    /// `rfkill0 wlan soft=0 hard=0`.
    pub rfkill: Vec<String>,
    /// Lines of the kernel's log that may matter, oldest first.
    pub kernel: Vec<String>,
    /// The WiFi chips' firmware files.
    pub firmware: Vec<String>,
    /// The last events.
    pub events: Vec<Event>,
    /// Passphrases and keys, to be struck out wherever they appear.
    pub secrets: Secrets,
}

/// What must not be told to anybody.
#[derive(Clone, Default)]
pub struct Secrets(pub Vec<String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

/// Looks at everything.
pub fn gather(agent: &Agent) -> ReportInput {
    let given = settings::read(Path::new(settings::SETTINGS), &agent.places.state);
    let events = agent.log.since(0, Duration::ZERO);
    let secrets = given.settings.networks.iter().filter_map(|network| match &network.key {
        Key::Open => None,
        Key::Passphrase(text) => Some(text.clone()),
        Key::Pmk(octets) => Some(octets.iter().map(|octet| format!("{octet:02x}")).collect()),
    });
    ReportInput {
        status: agent.status(),
        now: agent.log.now(),
        clock: crate::online::hardware::clock(),
        country: given.settings.country.clone(),
        known: settings::known(&given.settings.networks),
        problems: given.problems.iter().map(ToString::to_string).collect(),
        air: lock(&agent.air).clone(),
        rfkill: rfkill(Path::new("/sys/class/rfkill")),
        kernel: kernel(),
        firmware: firmware(FIRMWARE),
        secrets: Secrets(secrets.collect()),
        events: events.into_iter().rev().take(EVENTS).rev().collect(),
    }
}

fn rfkill(directory: &Path) -> Vec<String> {
    let mut rows: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|switch| {
            let read = |name: &str| fs::read_to_string(switch.path().join(name)).unwrap_or_default().trim().to_owned();
            let name = switch.file_name().to_string_lossy().into_owned();
            format!("{name} {} {} soft={} hard={}", read("type"), read("name"), read("soft"), read("hard"))
        })
        .collect();
    // Those that another network namespace has tell nothing.
    rows.retain(|row| !row.ends_with("soft= hard="));
    rows.sort();
    rows
}

/// The kernel's log as it is now (Documentation/ABI/testing/dev-kmsg): `[   12.345678] text`.
fn kernel() -> Vec<String> {
    let mut lines = VecDeque::new();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(log) = open("/dev/kmsg", flags, Mode::empty()) else { return Vec::new() };
    let mut record = vec![0; 8192];
    loop {
        match rustix::io::read(&log, &mut record) {
            Ok(length) if length > 0 => {
                let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                if let Some(line) = kernel_line(&text) {
                    if lines.len() == KERNEL {
                        lines.pop_front();
                    }
                    lines.push_back(line);
                }
            }
            // What was overwritten while we read is gone; the next is there.
            Err(Errno::PIPE | Errno::INTR) => {}
            _ => return lines.into(),
        }
    }
}

fn kernel_line(record: &str) -> Option<String> {
    let (prefix, rest) = record.split_once(';')?;
    let mut fields = prefix.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let micros: u64 = fields.nth(1)?.parse().ok()?;
    let message = rest.lines().next()?;
    let lower = message.to_lowercase();
    let matters = priority >> 3 == 0 && MATTERS.iter().any(|word| lower.contains(word));
    matters.then(|| format!("[{:5}.{:06}] {message}", micros / 1_000_000, micros % 1_000_000))
}

fn firmware(roots: &[&str]) -> Vec<String> {
    let mut files: Vec<String> = Vec::new();
    for root in roots {
        for below in ["brcm", "cypress", "updates/brcm"] {
            let directory = Path::new(root).join(below);
            let found = fs::read_dir(&directory).into_iter().flatten().flatten();
            files.extend(found.map(|file| directory.join(file.file_name()).to_string_lossy().into_owned()));
        }
        files.extend(
            fs::read_dir(root)
                .into_iter()
                .flatten()
                .flatten()
                .filter(|file| file.file_name().to_string_lossy().starts_with("regulatory.db"))
                .map(|file| file.path().to_string_lossy().into_owned()),
        );
    }
    files.retain(|file| !file.contains("pcie"));
    files.sort();
    if files.len() > FILES {
        let more = files.len() - FILES;
        files.truncate(FILES);
        files.push(format!("... and {more} more"));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_that_matter_are_kept() {
        let line = kernel_line("6,812,6543210,-;brcmfmac: brcmf_attach failed\n SUBSYSTEM=sdio\n");
        assert_eq!(line.as_deref(), Some("[    6.543210] brcmfmac: brcmf_attach failed"));
        for other in ["30,1,1,-;systemd failed", "6,1,1,-;Bridge firewalling registered", "x", "6,1;mmc"] {
            assert_eq!(kernel_line(other), None, "{other}");
        }
    }

    #[test]
    fn switches_and_files_are_found() {
        let tree = tempfile::tempdir().unwrap();
        let switch = tree.path().join("rfkill0");
        fs::create_dir_all(&switch).unwrap();
        for (name, text) in [("type", "wlan\n"), ("name", "phy0\n"), ("soft", "1\n"), ("hard", "0\n")] {
            fs::write(switch.join(name), text).unwrap();
        }
        assert_eq!(rfkill(tree.path()), ["rfkill0 wlan phy0 soft=1 hard=0"]);
        fs::create_dir_all(tree.path().join("brcm")).unwrap();
        fs::write(tree.path().join("brcm/brcmfmac43455-sdio.bin"), "x").unwrap();
        fs::write(tree.path().join("brcm/brcmfmac4356-pcie.bin"), "x").unwrap();
        let found = firmware(&[&tree.path().to_string_lossy()]);
        assert!(found.len() == 1 && found[0].ends_with("brcm/brcmfmac43455-sdio.bin"), "{found:?}");
    }
}
