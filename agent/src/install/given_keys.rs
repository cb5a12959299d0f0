//! ssh host keys among the extra files: the new system answers with those and not with the card's, so the client, which has
//! pinned the card's, must hear which they are.

use super::Installation;
use super::register::{self, no_link, public_keys};
use crate::card::replace;
use crate::identity::fingerprint;
use cygnet_protocol::card::HostKey;
use cygnet_protocol::event::{EventKind, Phase};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zeroize::Zeroizing;

/// Where sshd has its keys, if nobody says otherwise.
const USUAL: &str = "etc/ssh";

/// The longest private key that is read, bytes; RSA with 16384 bits has less than 16 KiB.
const MAX_KEY: u64 = 64 * 1024;

/// Whether a file of this path is a host key's, private or public; in whatever directory, as not every system keeps them in
/// /etc.
pub fn is_host_key(path: &str) -> bool {
    register::is_host_key(path.rsplit_once('/').map_or(path, |(_, name)| name))
}

/// Tells the client of the host keys that were laid at these paths.
pub fn tell(installation: &Installation<'_>, laid: &[String]) -> io::Result<()> {
    if laid.is_empty() {
        return Ok(());
    }
    let Known { keys, given, unknown } = complete(&installation.agent.places.target, laid)?;
    for path in unknown {
        installation.warn(format!(
            "The public half of the ssh host key {path:?} is not among the extra files, and can't be made of it. If the new system \
             answers with that key, it will not be known again: put {path}.pub beside it."
        ));
    }
    if keys.is_empty() || keys == public_keys(Path::new("/etc/ssh")) {
        return Ok(());
    }
    let names: Vec<String> = given.iter().filter_map(|key| fingerprint(key)).collect();
    installation.warn(format!(
        "The new system has ssh host keys that are among the extra files ({}), and answers with those and not with the card's; \
         `ssh-keygen -R HOST` makes your ssh forget the card's.",
        names.join(", ")
    ));
    installation.agent.log.emit(Some(Phase::Register), EventKind::HostKeys { keys });
    Ok(())
}

/// What the new system's host keys are.
#[derive(Debug, PartialEq)]
struct Known {
    /// All public ones, in the usual directory and where some were laid.
    keys: Vec<String>,
    /// Those that were laid.
    given: Vec<String>,
    /// Private ones whose public half nobody knows.
    unknown: Vec<String>,
}

/// Sees to it that each private key has its own public half beside it, and not that of the key that was there before.
fn complete(target: &Path, laid: &[String]) -> io::Result<Known> {
    let mut unknown = Vec::new();
    for private in laid.iter().filter(|path| path.ends_with("_key")) {
        let public = format!("{private}.pub");
        if laid.contains(&public) {
            continue;
        }
        let beside = target.join(&public);
        if let Some(line) = public_half(&target.join(private))? {
            replace(&beside, format!("{line}\n").as_bytes(), 0o644)?;
            // Whatever the umask is.
            fs::set_permissions(&beside, fs::Permissions::from_mode(0o644))?;
            continue;
        }
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => unknown.push(private.clone()),
        }
    }
    let usual = no_link(&target.join(USUAL)).is_ok().then_some(USUAL);
    let directories: BTreeSet<&str> =
        laid.iter().map(|path| path.rsplit_once('/').map_or("", |(directory, _)| directory)).chain(usual).collect();
    let keys: BTreeSet<String> =
        directories.into_iter().flat_map(|directory| public_keys(&target.join(directory))).collect();
    let with_halves = laid.iter().filter(|path| path.ends_with("_key") && !unknown.contains(*path));
    let given = with_halves.filter_map(|private| line(&target.join(format!("{private}.pub")))).collect();
    Ok(Known { keys: keys.into_iter().collect(), given, unknown })
}

/// What is in a file that is no link.
fn line(public: &Path) -> Option<String> {
    let mut text = String::new();
    fs::symlink_metadata(public).ok().filter(fs::Metadata::is_file)?;
    File::open(public).ok()?.take(MAX_KEY).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

/// The public half of a private key, if it is of the kind that we can read.
fn public_half(private: &Path) -> io::Result<Option<String>> {
    let mut pem = Zeroizing::new(String::with_capacity(MAX_KEY as usize));
    match File::open(private)?.take(MAX_KEY).read_to_string(&mut pem) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
        read => read?,
    };
    Ok(HostKey::parse(&pem).ok().map(|key| key.public()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE: &str = include_str!("../../../protocol/src/card/test-host-key");

    fn own() -> String {
        HostKey::parse(PRIVATE).unwrap().public()
    }

    fn put(target: &Path, path: &str, text: &str) {
        let path = target.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn host_keys_are_known_wherever_they_are() {
        for yes in ["etc/ssh/ssh_host_ed25519_key", "persist/ssh_host_rsa_key.pub", "ssh_host_x_key"] {
            assert!(is_host_key(yes), "{yes}");
        }
        for no in ["etc/ssh/sshd_config", "ssh_host_x_key/x", "etc/ssh/my_ssh_host_rsa_key", "ssh_host_rsa_key.old"] {
            assert!(!is_host_key(no), "{no}");
        }
    }

    #[test]
    fn a_key_is_told_with_its_own_public_half_and_not_with_the_old_one() {
        let target = tempfile::tempdir().unwrap();
        let target = target.path();
        let (private, public) = ("etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key.pub");
        put(target, private, PRIVATE);
        put(target, public, "ssh-ed25519 AAAAold the-card\n");
        put(target, "etc/ssh/ssh_host_rsa_key.pub", "ssh-rsa AAAArsa the-card\n");
        let known = complete(target, &[private.to_owned()]).unwrap();
        assert_eq!(known.keys, [own(), "ssh-rsa AAAArsa".to_owned()]);
        assert_eq!((known.given, known.unknown), (vec![own()], vec![]));
        assert_eq!(fs::read_to_string(target.join(public)).unwrap(), format!("{}\n", own()));
        let mode = fs::metadata(target.join(public)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        // What was given is left as it was given.
        put(target, public, &format!("{} me@laptop\n", own()));
        let known = complete(target, &[private.to_owned(), public.to_owned()]).unwrap();
        assert_eq!(known.given, [format!("{} me@laptop", own())]);
        assert_eq!(known.keys, [own(), "ssh-rsa AAAArsa".to_owned()]);
    }

    #[test]
    fn a_key_that_nobody_can_read_is_told_and_the_old_half_is_gone() {
        let target = tempfile::tempdir().unwrap();
        let target = target.path();
        for garbage in ["no key\n", "\u{0}"] {
            put(target, "persist/ssh/ssh_host_rsa_key", garbage);
            put(target, "persist/ssh/ssh_host_rsa_key.pub", "ssh-rsa AAAAold\n");
            let laid = ["persist/ssh/ssh_host_rsa_key".to_owned()];
            let known = complete(target, &laid).unwrap();
            assert_eq!(known, Known { keys: vec![], given: vec![], unknown: laid.to_vec() });
            assert!(!target.join("persist/ssh/ssh_host_rsa_key.pub").exists());
        }
        fs::write(target.join("persist/ssh/ssh_host_rsa_key"), b"\xff\xfe").unwrap();
        assert_eq!(complete(target, &["persist/ssh/ssh_host_rsa_key".to_owned()]).unwrap().unknown.len(), 1);
    }
}
