//! cygnet's own file of known hosts: the keys that were put on cards, under the names that the Pis will have.
//!
//! The connections read it beside the person's own files, so the first of them is verified without a question.

use super::account;
use anyhow::{Context, Result};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Whose names are behind `.local`, RFC 6762.
const LOCAL: &str = "local";

/// The file, below the directory for such things.
const FILE: &str = "cygnet/known_hosts";

/// The file: `$XDG_STATE_HOME/cygnet/known_hosts`, or `~/.local/state/cygnet/known_hosts`.
pub fn file() -> Option<PathBuf> {
    given_state().map(|state| state.join(FILE)).or_else(usual)
}

/// Where it is if nothing else is said.
fn usual() -> Option<PathBuf> {
    Some(account::home()?.join(".local/state").join(FILE))
}

fn given_state() -> Option<PathBuf> {
    std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute())
}

/// How a command that needs root is begun, so that it notes keys in the same file: sudo keeps no variable that it is not told
/// to keep, and nobody behind it can see that there was one.
pub fn sudo() -> &'static str {
    if given_state().is_some() { "sudo --preserve-env=XDG_STATE_HOME" } else { "sudo" }
}

/// The usual file, if that is not the one that is used and has a key of this name: a command behind sudo has noted it there.
pub fn left_behind(name: &str) -> Option<PathBuf> {
    given_state()?;
    let usual = usual().filter(|usual| file().as_ref() != Some(usual))?;
    find(&fs::read_to_string(&usual).ok()?, name).map(|_| usual)
}

/// The names under which a Pi will be reached.
pub fn names(hostname: Option<&str>, addresses: &[String]) -> Vec<String> {
    let own = hostname.into_iter().flat_map(|name| [name.to_owned(), format!("{name}.{LOCAL}")]);
    let mut names: Vec<String> = Vec::new();
    for name in own.chain(addresses.iter().cloned()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A name or an address as known_hosts has it: `[HOST]:PORT` for other ports than 22, no patterns.
pub fn parse_address(text: &str) -> Result<String, String> {
    let good = !text.is_empty()
        && !text.starts_with('-')
        && text.len() <= 255
        && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:%[]".contains(c));
    if good { Ok(text.to_lowercase()) } else { Err("it is no host name, no address, and no [HOST]:PORT".to_owned()) }
}

/// Writes the key down under these names; what was known under them is known no more.
pub fn pin(file: &Path, names: &[String], public: &str) -> Result<()> {
    let before = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
    };
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made: Vec<PathBuf> = dir.ancestors().take_while(|dir| !dir.exists()).map(Path::to_owned).collect();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("making {}", dir.display()))?;
    let new = dir.join(format!(".known_hosts.{}", std::process::id()));
    let writing = || format!("writing {}", file.display());
    let mut options = fs::OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&new).with_context(writing)?;
    out.write_all(changed(&before, names, public).as_bytes()).and_then(|()| out.sync_all()).with_context(writing)?;
    fs::rename(&new, file).with_context(writing)?;
    for path in made.iter().map(PathBuf::as_path).chain([file]) {
        give_back(path);
    }
    Ok(())
}

/// What root has made in somebody's home, or where they keep such things, belongs to them.
fn give_back(path: &Path) {
    let id = |name: &str| std::env::var(name).ok().and_then(|id| id.parse::<u32>().ok());
    let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) else { return };
    let theirs = || [account::home(), given_state()].into_iter().flatten().any(|place| path.starts_with(place));
    if super::medium::is_root() && theirs() {
        std::os::unix::fs::chown(path, Some(user), Some(group)).ok();
    }
}

/// The file with the key in it. Of other lines only these names are taken away.
fn changed(before: &str, names: &[String], public: &str) -> String {
    let mut after = String::new();
    for line in before.lines() {
        let Some((hosts, rest)) = line.split_once(' ').filter(|_| !line.starts_with(['#', '@', '|'])) else {
            after.push_str(line);
            after.push('\n');
            continue;
        };
        let left: Vec<&str> = hosts.split(',').filter(|host| !names.iter().any(|name| name == host)).collect();
        if !left.is_empty() {
            after.push_str(&format!("{} {rest}\n", left.join(",")));
        }
    }
    after.push_str(&format!("{} {public}\n", names.join(",")));
    after
}

/// The ed25519 key that was put on a card under this name, as `ssh-ed25519 AAAA…`.
pub fn find(text: &str, name: &str) -> Option<String> {
    let name = name.rsplit('@').next().unwrap_or(name).to_lowercase();
    let line = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(hosts, rest)| rest.starts_with("ssh-ed25519 ") && hosts.split(',').any(|host| host == name));
    line.map(|(_, key)| key.split(' ').take(2).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_is_made_anew_has_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a/b/known_hosts");
        let names = |name: &str| names(Some(name), &["192.0.2.7".into()]);
        pin(&file, &names("pi"), "ssh-ed25519 OLD").unwrap();
        pin(&file, &names("other"), "ssh-ed25519 OTHER").unwrap();
        pin(&file, &names("pi"), "ssh-ed25519 NEW").unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, "other,other.local ssh-ed25519 OTHER\npi,pi.local,192.0.2.7 ssh-ed25519 NEW\n");
        assert_eq!(find(&text, "root@PI.local").as_deref(), Some("ssh-ed25519 NEW"));
        assert_eq!(find(&text, "nobody"), None);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_others_wrote_stays() {
        let before = "# mine\n|1|abc= ssh-rsa X\n@cert-authority * ssh-rsa Y\npi ssh-rsa Z me\n";
        let after = changed(before, &["pi".into()], "ssh-ed25519 N");
        assert_eq!(after, "# mine\n|1|abc= ssh-rsa X\n@cert-authority * ssh-rsa Y\npi ssh-ed25519 N\n");
    }

    #[test]
    fn addresses_are_no_patterns() {
        for good in ["192.0.2.7", "fe80::1%en0", "[pi]:2222", "Pi.example"] {
            assert!(parse_address(good).is_ok(), "{good}");
        }
        for bad in ["", "*", "a,b", "!a", "a b", "-x", "a\n"] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }
}
