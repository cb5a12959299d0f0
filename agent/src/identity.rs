//! Who this Pi is and how it is doing, read from the kernel and from sshd's key files.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Host name.
    pub host_name: String,
    /// What the device tree calls the board (/proc/device-tree/model).
    pub board: String,
    /// The board's serial (/proc/device-tree/serial-number), or the machine id's beginning.
    pub serial: String,
    /// Nix's name of the platform.
    pub system: String,
}

impl Identity {
    /// Reads it.
    pub fn read() -> Self {
        let device_tree = |name: &str| {
            fs::read_to_string(Path::new("/proc/device-tree").join(name))
                .ok()
                .map(|text| text.trim_matches(['\0', '\n', ' ']).to_owned())
                .filter(|text| !text.is_empty())
        };
        let machine_id = || fs::read_to_string("/etc/machine-id").ok().map(|id| id.chars().take(12).collect());
        Self {
            host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            board: device_tree("model")
                .or_else(|| device_tree("compatible").map(|c| c.replace('\0', ",")))
                .unwrap_or_else(|| "unknown board".into()),
            serial: device_tree("serial-number").or_else(machine_id).unwrap_or_else(|| "unknown".into()),
            system: format!("{}-linux", std::env::consts::ARCH),
        }
    }

    /// Whether the device tree says that this is a Raspberry Pi.
    pub fn is_raspberry_pi(&self) -> bool {
        self.board.starts_with("Raspberry Pi")
    }
}

/// A value in kB out of /proc/meminfo or /proc/self/status, in bytes.
fn kilobytes(file: &str, key: &str) -> u64 {
    parse_kilobytes(&fs::read_to_string(file).unwrap_or_default(), key)
}

fn parse_kilobytes(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// Memory of the machine, bytes.
pub fn memory_total() -> u64 {
    kilobytes("/proc/meminfo", "MemTotal")
}

/// Memory that programs can still have, bytes.
pub fn memory_available() -> u64 {
    kilobytes("/proc/meminfo", "MemAvailable")
}

/// The most resident memory this process has had, bytes.
pub fn peak_memory() -> u64 {
    kilobytes("/proc/self/status", "VmHWM")
}

/// Time since boot, seconds.
pub fn uptime_seconds() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(['.', ' ']).next().and_then(|s| s.parse().ok()).unwrap_or(0)
}

/// The fingerprints of sshd's host keys in `directory`, ed25519 first, as `ssh-keygen -l` prints them.
pub fn host_keys(directory: &Path) -> Vec<String> {
    let mut keys: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("ssh_host_") && name.ends_with("_key.pub")
        })
        .filter_map(|entry| fingerprint(&fs::read_to_string(entry.path()).ok()?))
        .collect();
    keys.sort_by_key(|key| !key.starts_with("ssh-ed25519"));
    keys
}

/// `ssh-ed25519 SHA256:…` of a line like `ssh-ed25519 AAAA… comment`.
pub fn fingerprint(public_key: &str) -> Option<String> {
    let mut words = public_key.split_whitespace();
    let (kind, blob) = (words.next()?, STANDARD.decode(words.next()?).ok()?);
    Some(format!("{kind} SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob))))
}

/// Whether there is an address with which the Pi can be reached from elsewhere: one that is more than link-local.
pub fn has_address() -> bool {
    addresses().iter().any(|address| !address.contains('%') && !address.starts_with("169.254."))
}

/// The addresses under which the Pi can be reached, loopback left out.
pub fn addresses() -> Vec<String> {
    if_addrs::get_if_addrs()
        .unwrap_or_default()
        .into_iter()
        .filter(|interface| !interface.is_loopback())
        .map(|interface| match interface.ip() {
            ip @ std::net::IpAddr::V6(v6) if (v6.segments()[0] & 0xffc0) == 0xfe80 => {
                format!("{ip}%{}", interface.name)
            }
            ip => ip.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_those_of_ssh_keygen() {
        // Made with `ssh-keygen -t ed25519`, fingerprint as printed by `ssh-keygen -l`.
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("ssh_host_ed25519_key");
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "pi", "-f"])
            .arg(&key)
            .status()
            .expect("ssh-keygen is needed: install openssh-client");
        assert!(made.success());
        let listed = std::process::Command::new("ssh-keygen").arg("-lf").arg(&key).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let ours = host_keys(directory.path());
        assert_eq!(ours.len(), 1);
        assert!(listed.contains(ours[0].strip_prefix("ssh-ed25519 ").unwrap()), "{listed} {ours:?}");
        assert_eq!(fingerprint("garbage"), None);
        assert_eq!(fingerprint("ssh-ed25519 !!!"), None);
    }

    #[test]
    fn memory_figures_are_read() {
        assert_eq!(parse_kilobytes("MemTotal:  1024 kB\nMemFree: 2 kB", "MemFree"), 2048);
        assert_eq!(parse_kilobytes("nonsense", "MemFree"), 0);
        assert!(memory_total() > memory_available() && peak_memory() > 0);
    }
}
