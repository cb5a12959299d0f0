//! On the installed system: the networks that it was installed by, written down for whoever has the radio there.
//!
//! [`render`] is what is written. Here it is read and put in its place: for root (or its reader) only, each file whole or not at
//! all. No secret is in an error.

mod render;

use crate::card::given::digest;
use cygnet_protocol::online::settings::Settings;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use render::Reader;

/// What `cygnet install` left: of the form of the settings file, mode 0600.
pub const CARRIED: &str = "/var/lib/cygnet/carried.json";
/// The most bytes of it.
const LIMIT: u64 = 1024 * 1024;

/// Writes them down. Where nothing was carried over, there is nothing to do, and that is no failure.
pub fn run(from: &Path, by: Reader, into: &Path, owner: Option<&str>) -> ExitCode {
    let (settings, trouble) = match read(from) {
        Ok(settings) => (settings, None),
        // The reader's own networks must not be lost because of ours: it gets a file with nothing in it.
        Err(error) => (Settings::default(), Some(error)),
    };
    let written = write(&settings, by, into, owner, &from.with_extension("written.json"));
    for error in trouble.iter().chain(written.as_ref().err()) {
        crate::say::err(&format!("cygnetd: {error}"));
    }
    match (trouble, written) {
        (None, Ok(count)) => {
            let text = format!("cygnetd: {count} networks of the installation are there for {}", by.name());
            crate::say::err(&text);
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}

fn read(from: &Path) -> Result<Settings, String> {
    let told = |error: &dyn std::fmt::Display| format!("reading the networks in {}: {error}", from.display());
    let file = match File::open(from) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Settings::default()),
        Err(error) => return Err(told(&error)),
    };
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, LIMIT), &mut bytes).map_err(|error| told(&error))?;
    Settings::parse(&bytes).map_err(|error| told(&error))
}

/// What was written before is noted in `noted`, by its hash: what a reader has changed since is its own, unless other networks
/// were carried over since.
fn write(settings: &Settings, by: Reader, into: &Path, owner: Option<&str>, noted: &Path) -> Result<usize, String> {
    let owner = owner.map(|name| user(&fs::read_to_string("/etc/passwd").unwrap_or_default(), name)).transpose()?;
    let directory = if by.is_one_file() { into.parent() } else { Some(into) };
    if let Some(directory) = directory {
        fs::create_dir_all(directory).map_err(|error| format!("creating {}: {error}", directory.display()))?;
    }
    let before = fs::read(noted).ok().and_then(|json| serde_json::from_slice(&json).ok());
    let before: BTreeMap<PathBuf, String> = before.unwrap_or_default();
    let mut now = BTreeMap::new();
    for file in render::render(settings, by) {
        let path = file.name.as_ref().map_or_else(|| into.to_owned(), |name| into.join(name));
        let hash = digest(file.text.as_bytes());
        let is_known = before.get(&path).is_none_or(|known| *known == hash);
        now.insert(path.clone(), hash);
        if by.keeps_what_is_there() && path.exists() && is_known {
            // Changed by its reader or a person since.
            continue;
        }
        put(&path, &file.text, owner).map_err(|error| format!("writing {}: {error}", path.display()))?;
    }
    if by.keeps_what_is_there() && now != before {
        let text = serde_json::to_string(&now).map_err(|error| error.to_string())?;
        put(noted, &text, None).map_err(|error| format!("writing {}: {error}", noted.display()))?;
    }
    Ok(settings.networks.len())
}

/// Replaces the file as a whole.
fn put(path: &Path, text: &str, owner: Option<(u32, u32)>) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.new"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    if let Some((user, group)) = owner {
        chown(&new, Some(user), Some(group))?;
    }
    fs::rename(&new, path)
}

/// The numbers of a user and its group in passwd(5).
fn user(passwd: &str, name: &str) -> Result<(u32, u32), String> {
    let found = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    found.ok_or_else(|| format!("there is no user called {name:?} in /etc/passwd"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const SETTINGS: &str = r#"{"country":"DE","networks":[{"ssid":"home","passphrase":"correct horse"}]}"#;

    fn succeeded(code: ExitCode) -> bool {
        format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS)
    }

    #[test]
    fn each_file_is_for_its_reader_only() {
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("carried.json");
        fs::write(&from, SETTINGS).unwrap();
        let into = place.path().join("etc/wpa_supplicant/carried.conf");
        assert!(succeeded(run(&from, Reader::WpaSupplicant, &into, None)));
        assert!(fs::read_to_string(&into).unwrap().contains("correct horse"));
        assert_eq!(fs::metadata(&into).unwrap().permissions().mode() & 0o777, 0o600);
        // Again, over itself and over the rest of a run that was cut off.
        fs::write(into.with_file_name(".carried.conf.new"), "").unwrap();
        assert!(succeeded(run(&from, Reader::WpaSupplicant, &into, None)));
        assert_eq!(fs::read_dir(into.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_iwd_has_changed_stays() {
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("carried.json");
        fs::write(&from, SETTINGS).unwrap();
        let file = place.path().join("home.psk");
        fs::write(&file, "mine").unwrap();
        assert!(succeeded(run(&from, Reader::Iwd, place.path(), None)));
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        // A passphrase that was carried over since is the one that works.
        fs::write(&from, SETTINGS.replace("correct horse", "battery staple")).unwrap();
        assert!(succeeded(run(&from, Reader::Iwd, place.path(), None)));
        assert!(fs::read_to_string(&file).unwrap().contains("battery staple"));
        // And what iwd makes of that is its own again.
        fs::write(&file, "mine").unwrap();
        assert!(succeeded(run(&from, Reader::Iwd, place.path(), None)));
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }

    #[test]
    fn without_networks_the_reader_has_a_file_all_the_same() {
        let place = tempfile::tempdir().unwrap();
        let into = place.path().join("carried.conf");
        let from = place.path().join("carried.json");
        assert!(succeeded(run(&from, Reader::WpaSupplicant, &into, None)));
        assert!(!fs::read_to_string(&into).unwrap().contains("network="));
        fs::write(&from, r#"{"networks":["hunter2hunter2"]}"#).unwrap();
        let error = read(&from).unwrap_err();
        assert!(error.contains("line 1") && !error.contains("hunter2"), "{error}");
        assert!(!succeeded(run(&from, Reader::WpaSupplicant, &into, None)));
        assert!(into.exists());
    }

    #[test]
    fn users_are_found_in_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nwpa_supplicant:x:990:985::/var/empty:/bin/false\nbad:x\n";
        assert_eq!(user(passwd, "wpa_supplicant"), Ok((990, 985)));
        assert!(user(passwd, "bad").is_err() && user(passwd, "nobody").is_err());
    }
}
