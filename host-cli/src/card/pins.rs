//! cygnet's own file of known hosts: the keys that were put on cards, under the names that the Pis will have.
//!
//! The connections read it beside the person's own files, so the first of them is verified without a question.

use super::account::{self, Person};
use crate::error::fault;
use anyhow::{Context, Result};
use cygnet_protocol::fault::{Fault, FaultCode};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long another program may hold the directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);

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

/// A key to write down under some names; what was known under them is known no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Note {
    /// The file of known hosts.
    pub file: PathBuf,
    /// Names and addresses, as [`names`] makes them.
    pub names: Vec<String>,
    /// `ssh-ed25519 AAAA…`.
    pub public: String,
}

/// Whether to write, or only to see that it is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    /// All but the last step, and nothing stays.
    Try,
    /// All of it.
    Write,
}

/// Writes the key down. Behind sudo this is done by a process of the person's own rights: root would follow links that anybody
/// who can write to that directory has laid there.
pub fn pin(note: &Note, doing: Doing) -> Result<()> {
    match account::behind_sudo() {
        Some(person) => by(&person, note, doing),
        None => pin_myself(note, doing),
    }
}

/// The same, with the rights that this process has.
pub fn pin_myself(note: &Note, doing: Doing) -> Result<()> {
    let given = note.file.as_path();
    // Where the file is kept elsewhere, and a link leads there.
    let file = given.canonicalize().unwrap_or_else(|_| given.to_owned());
    let writing = || format!("writing {}", given.display());
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("making {}", dir.display()))?;
    let _locked = lock(dir)?;
    let before = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("reading {}", given.display())),
    };
    // Made anew under a name by chance, and for us alone: O_EXCL, 0600.
    let mut new = tempfile::Builder::new().prefix(".known_hosts.").tempfile_in(dir).with_context(writing)?;
    let text = changed(&before, &note.names, &note.public);
    new.write_all(text.as_bytes()).and_then(|()| new.as_file().sync_all()).with_context(writing)?;
    if doing == Doing::Write {
        new.persist(&file).map_err(|error| error.error).with_context(writing)?;
    }
    Ok(())
}

/// Keeps others who note keys in this directory waiting, until it is dropped.
fn lock(dir: &Path) -> Result<fs::File> {
    let locking = || format!("locking {}", dir.display());
    let opened = fs::File::open(dir).with_context(locking)?;
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match opened.try_lock() {
            Ok(()) => return Ok(opened),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(fs::TryLockError::WouldBlock) => {
                return Err(fault(
                    FaultCode::Internal,
                    format!("The key could not be noted in {}.", dir.display()),
                    format!("Another program has held that directory for {} s.", LOCK_PATIENCE.as_secs()),
                    "See whether another `cygnet card configure` hangs, and try again.",
                ));
            }
            Err(fs::TryLockError::Error(error)) => return Err(error).with_context(locking),
        }
    }
}

/// This program once more, with that person's rights.
fn by(person: &Person, note: &Note, doing: Doing) -> Result<()> {
    // A path leads past directories that the person may not enter; on Linux this does not.
    let program = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
    let starting = || format!("starting {} as the user with the number {}", program.display(), person.user);
    let mut command = Command::new(&program);
    command.args(["key", "note", "--json"]).uid(person.user).gid(person.group).current_dir("/");
    for name in ["SUDO_USER", "SUDO_UID", "SUDO_GID", "SUDO_COMMAND"] {
        command.env_remove(name);
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().with_context(starting)?;
    let file = std::path::absolute(&note.file).unwrap_or_else(|_| note.file.clone());
    let request = serde_json::to_vec(&(doing, Note { file, ..note.clone() })).context("writing what to note")?;
    // If it is not read, the answer says why.
    child.stdin.take().map(|mut stdin| stdin.write_all(&request));
    let output = child.wait_with_output().with_context(starting)?;
    if output.status.success() {
        return Ok(());
    }
    let said = serde_json::from_slice::<Fault>(&output.stdout);
    Err(said.map(anyhow::Error::from).unwrap_or_else(|_| anyhow::anyhow!("it ended with {}", output.status)))
        .with_context(|| format!("noting the key in {}", note.file.display()))
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
        let pin = |name: &str, public: &str, doing| {
            let note = Note { file: file.clone(), names: names(name), public: public.to_owned() };
            pin_myself(&note, doing).unwrap();
        };
        pin("pi", "ssh-ed25519 OLD", Doing::Write);
        pin("other", "ssh-ed25519 OTHER", Doing::Write);
        pin("pi", "ssh-ed25519 NEW", Doing::Write);
        pin("pi", "ssh-ed25519 TRIED", Doing::Try);
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, "other,other.local ssh-ed25519 OTHER\npi,pi.local,192.0.2.7 ssh-ed25519 NEW\n");
        assert_eq!(find(&text, "root@PI.local").as_deref(), Some("ssh-ed25519 NEW"));
        assert_eq!(find(&text, "nobody"), None);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn many_at_once_lose_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        std::thread::scope(|scope| {
            for number in 0..24 {
                let note = Note {
                    file: file.clone(),
                    names: vec![format!("pi{number}")],
                    public: format!("ssh-ed25519 K{number}"),
                };
                scope.spawn(move || pin_myself(&note, Doing::Write).unwrap());
            }
        });
        let text = fs::read_to_string(&file).unwrap();
        assert!((0..24).all(|number| find(&text, &format!("pi{number}")).is_some()), "{text}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_link_to_the_file_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, "other ssh-ed25519 O\n").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let note = Note { file: link.clone(), names: vec!["pi".into()], public: "ssh-ed25519 K".into() };
        pin_myself(&note, Doing::Write).unwrap();
        assert!(link.is_symlink() && fs::read_to_string(&real).unwrap().lines().count() == 2);
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
