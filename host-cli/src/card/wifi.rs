//! The networks that this machine knows: read where iwd, NetworkManager, wpa_supplicant and macOS keep them.

use super::medium::is_root;
use super::settings;
use crate::error::fault;
use anyhow::{Context, Result};
use cygnet_protocol::card::{LIMIT, Reading, foreign};
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::online::settings::{Key, Network};
use cygnet_protocol::online::ssid::Ssid;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Directories, and what the names of the files in them end with.
const PLACES: &[(&str, &[&str])] = &[
    ("/var/lib/iwd", &[".psk", ".open", ".8021x", ".hotspot"]),
    ("/etc/NetworkManager/system-connections", &[""]),
    ("/run/NetworkManager/system-connections", &[""]),
    ("/etc/wpa_supplicant", &[".conf"]),
];

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Best first.
    pub networks: Vec<Network>,
    /// Where the radio is, if wpa_supplicant knows.
    pub country: Option<String>,
    /// What was not taken, and why; no secrets.
    pub notes: Vec<String>,
    /// Files that may not be read.
    forbidden: Vec<PathBuf>,
    /// Files that somebody named.
    named: Vec<PathBuf>,
}

impl Found {
    fn add(&mut self, from: &str, reading: Reading) {
        for fault in &reading.faults {
            self.notes.push(format!("{from}: {fault}"));
        }
        self.country = self.country.take().or(reading.config.country);
        for network in reading.config.networks {
            if !self.networks.iter().any(|other| other.ssid == network.ssid) {
                self.networks.push(network);
            }
        }
    }

    /// Only these; if none is named, all that are not open: nobody wants every café's on the card.
    fn choose(mut self, ssids: &[String]) -> Result<Self> {
        let wanted: Vec<Ssid> =
            ssids.iter().map(|text| Ssid::parse(text)).collect::<Result<_, _>>().map_err(|error| {
                fault(
                    FaultCode::BadRequest,
                    "This is no network's name.",
                    format!("{error}."),
                    "Write what is not printable as \\xHH.",
                )
            })?;
        if wanted.is_empty() {
            let (open, closed): (Vec<Network>, Vec<Network>) =
                self.networks.into_iter().partition(|network| network.key == Key::Open);
            self.notes.extend(
                open.iter().map(|network| format!("“{}” lets everybody in: taken only if it is named", network.ssid)),
            );
            self.networks = closed;
        } else {
            if let Some(missing) =
                wanted.iter().find(|ssid| !self.networks.iter().any(|network| network.ssid == **ssid))
            {
                return Err(
                    self.not_found(&format!("The network “{missing}” is not among those that this machine knows."))
                );
            }
            self.networks.retain(|network| wanted.contains(&network.ssid));
        }
        if self.networks.is_empty() {
            return Err(self.not_found("No network was found that could be taken over."));
        }
        settings::rank(&mut self.networks);
        Ok(self)
    }

    fn not_found(&self, what: &str) -> anyhow::Error {
        if let Some(file) = self.forbidden.first() {
            return fault(
                FaultCode::AccessDenied,
                what,
                format!("{} may not be read by you: only root reads other programs' passphrases.", file.display()),
                "Run it with `sudo`: `sudo cygnet wifi import > networks.toml`.",
            );
        }
        let named: Vec<String> = self.named.iter().map(|file| file.display().to_string()).collect();
        let cause = match self.notes.as_slice() {
            [] if !named.is_empty() => format!("There is no network in {}.", named.join(", ")),
            [] if cfg!(target_os = "macos") => "On a Mac only those are looked for that are named.".to_owned(),
            [] => "Neither iwd nor NetworkManager nor wpa_supplicant has any here.".to_owned(),
            notes => notes.join("\n"),
        };
        fault(
            FaultCode::NotFound,
            what,
            cause,
            "Name it as `cygnet card configure --network SSID` and type its passphrase.",
        )
    }
}

/// Reads files, what they are being told by their names.
pub fn files(files: &[PathBuf], ssids: &[String]) -> Result<Found> {
    let mut found = Found { named: files.to_vec(), ..Found::default() };
    for file in files {
        let bytes = read(file).with_context(|| format!("reading {}", file.display()))?;
        found.add(&file.display().to_string(), parse(file, &bytes));
    }
    found.choose(ssids)
}

/// Asks this machine.
pub fn system(ssids: &[String]) -> Result<Found> {
    if cfg!(target_os = "macos") { keychain(ssids)?.choose(ssids) } else { places(Path::new("/")).choose(ssids) }
}

fn places(root: &Path) -> Found {
    let mut found = Found::default();
    let mut all = vec![root.join("etc/wpa_supplicant.conf")];
    for (dir, ends) in PLACES {
        let dir = root.join(dir.trim_start_matches('/'));
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) => {
                if error.kind() == io::ErrorKind::PermissionDenied && !is_root() {
                    found.forbidden.push(dir);
                }
                continue;
            }
        };
        let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
        files.retain(|file| ends.iter().any(|end| file.to_string_lossy().ends_with(end)));
        files.sort();
        all.extend(files);
    }
    for file in all {
        match read(&file) {
            Ok(bytes) => {
                let reading = parse(&file, &bytes);
                // Cables and VPNs are no news.
                if !reading.faults.iter().any(|fault| fault.why.contains("no connection over WiFi")) {
                    found.add(&file.display().to_string(), reading);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => found.forbidden.push(file),
            Err(_) => {}
        }
    }
    found
}

/// Never more than such a file may have; a byte more tells that it has.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(file: &Path, bytes: &[u8]) -> Reading {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_keyfile = || bytes.split(|byte| *byte == b'\n').any(|line| line.trim_ascii() == b"[connection]");
    if name.ends_with(".psk") || name.ends_with(".open") || name.ends_with(".8021x") || name.ends_with(".hotspot") {
        foreign::iwd::read(&name, bytes)
    } else if name.ends_with(".nmconnection")
        || file.parent().is_some_and(|dir| dir.ends_with("system-connections"))
        || is_keyfile()
    {
        foreign::networkmanager::read(bytes)
    } else {
        foreign::wpa_supplicant::read(bytes)
    }
}

/// macOS asks the person whether we may know.
fn keychain(ssids: &[String]) -> Result<Found> {
    let mut found = Found::default();
    for ssid in ssids {
        let output = Command::new("security")
            .args(["find-generic-password", "-D", "AirPort network password", "-w", "-a", ssid])
            .stdin(Stdio::null())
            .output()
            .context("running security")?;
        let secret =
            zeroize::Zeroizing::new(String::from_utf8_lossy(&output.stdout).trim_end_matches(['\r', '\n']).to_owned());
        if !output.status.success() {
            found
                .notes
                .push(format!("“{ssid}”: the keychain has no password for it, or you did not allow it to be read"));
            continue;
        }
        match (Ssid::parse(ssid), Key::of(Some(secret.to_string()), None, false)) {
            (Ok(ssid), Ok(key)) => found.networks.push(Network { ssid, key, hidden: false, priority: 0 }),
            (Err(error), _) => found.notes.push(format!("“{ssid}”: {error}")),
            (_, Err(why)) => found.notes.push(format!("“{ssid}”: {why}")),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("var/lib/iwd/home.psk", "[Security]\nPassphrase=correct horse\n"),
            ("var/lib/iwd/=636166e9.psk", "[Security]\nPassphrase=battery staple\n"),
            ("var/lib/iwd/cafe.open", ""),
            ("var/lib/iwd/work.8021x", "[Security]\nEAP-Password=hunter2\n"),
            ("etc/NetworkManager/system-connections/Cable.nmconnection", "[connection]\ntype=ethernet\n"),
            (
                "etc/NetworkManager/system-connections/shed",
                "[connection]\ntype=wifi\n[wifi]\nssid=shed\n[wifi-security]\nkey-mgmt=wpa-psk\npsk=hunter2\n",
            ),
            (
                "etc/wpa_supplicant/wpa_supplicant.conf",
                "country=GB\nnetwork={\nssid=\"home\"\npsk=\"another one\"\npriority=3\n}\n",
            ),
        ] {
            let file = root.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        root
    }

    #[test]
    fn all_that_a_machine_knows() {
        let root = machine();
        let found = places(root.path()).choose(&[]).unwrap();
        let names: Vec<String> = found.networks.iter().map(|network| network.ssid.to_string()).collect();
        assert_eq!(names, ["caf\\xe9", "home"]);
        assert_eq!(found.country.as_deref(), Some("GB"));
        let notes = found.notes.join("\n");
        assert!(notes.contains("shed") && notes.contains("8 to 63") && notes.contains("cafe"), "{notes}");
        assert!(!notes.contains("hunter2") && !notes.contains("Cable"), "{notes}");
    }

    #[test]
    fn a_file_that_was_named_is_what_is_spoken_of() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("wpa_supplicant.conf");
        let cause = |text: &str| {
            std::fs::write(&file, text).unwrap();
            crate::error::fault_of(&files(std::slice::from_ref(&file), &[]).unwrap_err()).cause
        };
        let told = cause("network={ ssid=\"home\" psk=\"correct horse\" }\n");
        assert!(told.contains("line 1: network: nothing of it is read") && !told.contains("horse"), "{told}");
        let told = cause("country=GB\n");
        assert!(told.contains("no network in") && told.contains("wpa_supplicant.conf"), "{told}");
    }

    #[test]
    fn those_that_are_named() {
        let root = machine();
        let named = |names: &[&str]| {
            places(root.path()).choose(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(named(&["cafe", "caf\\xe9"]).unwrap().networks.len(), 2);
        let error = named(&["home", "garden"]).unwrap_err().to_string();
        assert!(error.contains("“garden” is not among"), "{error}");
        assert!(places(&root.path().join("none")).choose(&[]).is_err());
    }
}
