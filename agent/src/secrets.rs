//! Secrets for as long as an installation needs them: files in memory that root alone can read.
//!
//! They lie in a directory in memory ([`crate::ram`]), and are gone when the installation has ended, well or not, and when the
//! agent or the Pi is restarted.
//! Where the layout names a file (`/tmp/secret.key`), a symbolic link is put that leads to it. So every tool and every hook
//! finds the file where the layout says, properties such as `keylocation` are what the layout says, and what lies on the
//! card, if that path is on the card, is the link: a name, no secret.

use crate::events::lock;
use crate::ram::{Ram, remove};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::plan::{Plan, Refusal, SecretRef, TARGET, Wanted, secret_option};
use cygnet_protocol::secret::{GivenSecret, MAX_BYTES, Secret};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

/// Where nothing of ours is put: the new system's disk, what is no place for files, and what is read-only by nature.
const NO_PLACES: [&str; 5] = [TARGET, "/dev", "/proc", "/sys", "/nix/store"];

/// The secrets of the present installation.
pub struct Vault {
    ram: Ram,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Files in the vault, by the secrets' names.
    files: BTreeMap<String, PathBuf>,
    /// Links that lead to them.
    links: Vec<PathBuf>,
    /// Directories that were made for the links, outermost first.
    directories: Vec<PathBuf>,
}

/// The shortest secret that is looked for in what programs print, bytes.
const SHORTEST: usize = 8;

impl Vault {
    /// A vault in this directory, which is made when something is put into it.
    pub fn new(directory: PathBuf) -> Self {
        Self { ram: Ram::new(directory), kept: Mutex::default() }
    }

    /// Notes which of these files are on the machine already.
    pub fn look(&self, mut wanted: Vec<Wanted>) -> Vec<Wanted> {
        for wanted in &mut wanted {
            wanted.there = wanted.is_file() && self.is_there(Path::new(&wanted.name));
        }
        wanted
    }

    /// Whether a file (or a device: a key may be the first bytes of a USB stick) that is not ours is there.
    fn is_there(&self, path: &Path) -> bool {
        !self.is_ours(path) && fs::metadata(path).is_ok_and(|found| !found.is_dir())
    }

    fn is_ours(&self, link: &Path) -> bool {
        fs::read_link(link).is_ok_and(|to| to.starts_with(self.ram.path()))
    }

    /// Sees whether what was given is what is wanted, before anything is touched. `needed` are those that must be there.
    pub fn check(&self, wanted: &[Wanted], needed: &[Wanted], given: &[GivenSecret]) -> Result<(), Fault> {
        let mut names: Vec<&str> = Vec::new();
        for given in given {
            let Some(wanted) = wanted.iter().find(|wanted| wanted.name == given.name) else {
                return Err(Wanted::unknown(&given.name, wanted));
            };
            if names.contains(&given.name.as_str()) {
                return Err(bad(format!("The secret {} was given twice.", given.name), "", &given.name));
            }
            names.push(&given.name);
            wanted.kind.check(given.value.expose()).map_err(|why| unfit(wanted, why))?;
            if wanted.there && !same(Path::new(&given.name), &given.value) {
                return Err(Fault::new(
                    FaultCode::BadSecret,
                    format!("There is a file {} on the Pi already, and it is not the one you gave.", given.name),
                    "It was copied there before.",
                    format!("Delete it on the Pi, or leave out `{}`.", secret_option(&given.name)),
                ));
            }
        }
        for needed in needed.iter().filter(|needed| !names.contains(&needed.name.as_str())) {
            if !needed.there {
                return Err(missing(needed));
            }
            // What is no text may be a device, of which the layout says which bytes count.
            if needed.kind.is_text() {
                let text = read(Path::new(&needed.name)).map_err(|error| unreadable(&needed.name, &error))?;
                needed.kind.check(text.expose()).map_err(|why| unfit(needed, why))?;
            }
        }
        Ok(())
    }

    /// Keeps what was given, and nothing that was kept before. Only after [`Self::check`].
    pub fn keep(&self, wanted: &[Wanted], given: Vec<GivenSecret>) -> Result<(), Fault> {
        self.forget();
        if given.is_empty() {
            return Ok(());
        }
        self.ram
            .open()
            .map_err(|error| Fault::internal("There is no place in memory for the secrets of the layout.", error))?;
        for (number, GivenSecret { name, value }) in given.into_iter().enumerate() {
            let Some(wanted) = wanted.iter().find(|wanted| wanted.name == name) else { continue };
            if wanted.there {
                continue;
            }
            let value = if !wanted.is_file() && wanted.kind.is_text() { value.into_text() } else { value };
            if let Err(error) = self.put(number, &name, &value, wanted.is_file()) {
                self.forget();
                return Err(Fault::new(
                    FaultCode::BadSecret,
                    format!("The secret {name} cannot be put where the layout wants it: {error}."),
                    "Something else is there, or the directory is read-only.",
                    "Give another path in the layout, such as one in /tmp. Nothing was touched.",
                ));
            }
        }
        Ok(())
    }

    fn put(&self, number: usize, name: &str, value: &Secret, is_file: bool) -> io::Result<()> {
        let path = self.ram.path().join(number.to_string());
        let mut kept = lock(&self.kept);
        kept.files.insert(name.to_owned(), path.clone());
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(value.expose())?;
        if !is_file {
            return Ok(());
        }
        let link = Path::new(name);
        if self.is_ours(link) {
            fs::remove_file(link)?;
        }
        if let Some(parent) = link.parent() {
            let absent: Vec<&Path> = parent.ancestors().take_while(|directory| !directory.exists()).collect();
            for directory in absent.into_iter().rev() {
                DirBuilder::new().mode(0o700).create(directory)?;
                kept.directories.push(directory.to_owned());
            }
        }
        symlink(&path, link)?;
        kept.links.push(link.to_owned());
        Ok(())
    }

    /// Gets a secret; it goes nowhere but into the standard input of the tool that asks for it.
    pub fn reveal(&self, secret: &SecretRef) -> Result<Secret, Fault> {
        match secret {
            SecretRef::PasswordFile { path } => {
                let text = read(Path::new(path)).map_err(|error| unreadable(path, &error))?;
                // As a shell's $(cat …) does, which is how disko reads it.
                Ok(text.into_text())
            }
            SecretRef::Person { name } => {
                let path = lock(&self.kept).files.get(name).cloned();
                let path = path.ok_or_else(|| gone(name))?;
                read(&path).map_err(|_| gone(name))
            }
        }
    }

    /// Strikes the secrets that are kept here out of a text. They are read anew each time: this process's memory could be
    /// swapped out, and the directory's cannot.
    pub fn strike_out(&self, mut text: String) -> String {
        let files: Vec<PathBuf> = lock(&self.kept).files.values().cloned().collect();
        for secret in files.iter().filter_map(|file| read(file).ok()) {
            let secret = std::str::from_utf8(secret.expose()).unwrap_or_default().trim();
            // What is shorter would strike out too much.
            if secret.len() >= SHORTEST && text.contains(secret) {
                text = text.replace(secret, "(secret)");
            }
        }
        text
    }

    /// Removes everything: nobody needs it any more.
    pub fn forget(&self) {
        let Kept { links, directories, .. } = std::mem::take(&mut *lock(&self.kept));
        for link in links {
            if self.is_ours(&link) {
                remove(fs::remove_file(&link), &link);
            }
        }
        for directory in directories.into_iter().rev() {
            // A hook may have put something there.
            let _ = fs::remove_dir(&directory);
        }
        self.ram.clear();
    }

    /// Removes what an agent left that had no time to: the secrets, if the Pi was not restarted, and links to them.
    pub fn forget_after_crash(&self, plan: Option<&Plan>) {
        let links = plan.map(Plan::key_files).unwrap_or_default();
        lock(&self.kept).links = links.into_iter().map(PathBuf::from).collect();
        self.forget();
    }
}

/// Refuses a layout with a file that is not there and cannot be put there.
pub fn can_be_put(file: &str) -> Result<(), Refusal> {
    let path = Path::new(file);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let existing = path.ancestors().skip(1).find_map(|directory| fs::canonicalize(directory).ok());
    let places: Vec<PathBuf> = existing.into_iter().chain([path.to_owned()]).collect();
    let bad = NO_PLACES.iter().any(|place| places.iter().any(|at| at.starts_with(place)));
    if !plain || bad || path.is_dir() {
        return Err(Refusal::NoKeyFile { file: file.to_owned() });
    }
    Ok(())
}

/// Reads a secret, [`MAX_BYTES`] at most.
fn read(path: &Path) -> io::Result<Secret> {
    // All at once: a growing buffer would leave pieces of it behind.
    let mut bytes = Vec::with_capacity(MAX_BYTES + 1);
    let read = fs::File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
    let secret = Secret::new(bytes);
    read?;
    if secret.expose().len() > MAX_BYTES { Err(io::Error::other("it is too large")) } else { Ok(secret) }
}

fn same(path: &Path, given: &Secret) -> bool {
    read(path).is_ok_and(|found| found == *given)
}

fn bad(what: String, cause: &str, name: &str) -> Fault {
    let cause = if cause.is_empty() { "The command line names it more than once." } else { cause };
    Fault::new(FaultCode::BadSecret, what, cause, format!("Give `{}` once, with the right FILE.", secret_option(name)))
}

fn missing(wanted: &Wanted) -> Fault {
    Fault::new(
        FaultCode::BadSecret,
        format!("The secret {} is missing. {wanted}.", wanted.name),
        match wanted.is_file() {
            true => "The layout names it, there is no such file on the Pi, and none was given.",
            false => "The layout asks for it, and none was given; the agent keeps none across a restart.",
        },
        format!("Give `{}` to `cygnet install`. Nothing was touched.", wanted.option()),
    )
}

fn unfit(wanted: &Wanted, why: &str) -> Fault {
    bad(
        format!("The secret {} {why}.", wanted.name),
        &format!("The file does not have what is wanted. {wanted}."),
        &wanted.name,
    )
}

fn unreadable(path: &str, error: &io::Error) -> Fault {
    Fault::new(
        FaultCode::BadSecret,
        format!("The passphrase in {path} can't be read: {error}."),
        "The file is gone, perhaps with a restart.",
        format!("Give `{}`, or copy it to the Pi again, and run `cygnet install` again.", secret_option(path)),
    )
}

fn gone(name: &str) -> Fault {
    Fault::new(
        FaultCode::BadSecret,
        format!("The passphrase for {name} is not there any more."),
        "Secrets are kept in memory only, and are gone with a restart of the agent.",
        format!("Run `cygnet install` again, with `{}` or on a terminal.", secret_option(name)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::plan::SecretKind;
    use std::os::unix::fs::PermissionsExt;

    fn wanted(name: &str, kind: SecretKind) -> Wanted {
        Wanted { name: name.into(), kind, purpose: "opens it".into(), there: false, given: false }
    }

    fn given(name: &str, text: &str) -> GivenSecret {
        GivenSecret { name: name.into(), value: Secret::new(text.into()) }
    }

    fn vault(directory: &Path) -> Vault {
        let vault = Vault::new(directory.join("vault"));
        vault.ram.open().unwrap();
        vault
    }

    #[test]
    fn what_a_hook_prints_of_a_secret_is_struck_out() {
        use crate::events::EventLog;
        use crate::run::{Cancel, Runner};
        let directory = tempfile::tempdir().unwrap();
        let vault = std::sync::Arc::new(vault(directory.path()));
        vault.keep(&[wanted("pool", SecretKind::Passphrase)], vec![given("pool", "hunter2hunter2\n")]).unwrap();
        let (log, cancel, ours) = (EventLog::new(), Cancel::default(), vault.clone());
        log.strike_out(Box::new(move |line| ours.strike_out(line)));
        let runner = Runner { log: &log, phase: None, cancel: &cancel };
        let script = ["sh", "-c", "echo opening with hunter2hunter2; exit 1"].map(String::from);
        let error = runner.run(&script).unwrap_err().to_string();
        let told = format!("{error} {:?}", log.since(0, std::time::Duration::ZERO));
        assert!(told.contains("opening with (secret)"), "{told}");
        // The command is the layout's, and shown with the plan.
        assert!(!error.contains("hunter2"), "{error}");
        vault.forget();
        assert_eq!(vault.strike_out("hunter2hunter2".into()), "hunter2hunter2");
    }

    #[test]
    fn a_file_appears_where_the_layout_says_and_goes() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(directory.path());
        let link = directory.path().join("a/b/secret.key");
        let name = link.to_str().unwrap();
        vault.put(0, name, &Secret::new(b"key\n".into()), true).unwrap();
        assert_eq!(fs::read(&link).unwrap(), b"key\n");
        assert_eq!(fs::metadata(&link).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!vault.look(vec![wanted(name, SecretKind::Key)])[0].there, "ours counts as there");
        let text = SecretRef::PasswordFile { path: name.into() };
        assert_eq!(vault.reveal(&text).unwrap().expose(), b"key");
        vault.forget();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "something is left");
        assert!(vault.reveal(&text).is_err());
    }

    #[test]
    fn a_passphrase_is_revealed_until_it_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(directory.path());
        vault.put(0, "crypted", &Secret::new(b"hunter2".into()), false).unwrap();
        let person = SecretRef::Person { name: "crypted".into() };
        assert_eq!(vault.reveal(&person).unwrap().expose(), b"hunter2");
        vault.forget();
        assert_eq!(vault.reveal(&person).unwrap_err().code, FaultCode::BadSecret);
    }

    #[test]
    fn what_a_crash_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("secret.key");
        let other = directory.path().join("other.key");
        let first = vault(directory.path());
        first.put(0, link.to_str().unwrap(), &Secret::new(b"key".into()), true).unwrap();
        symlink("/elsewhere", &other).unwrap();
        let mut plan = crate::journal::tests::job().plan;
        for path in [&link, &other] {
            plan.steps.push(cygnet_protocol::plan::Step::AddLuksKey {
                device: "/dev/x".into(),
                path: path.to_str().unwrap().into(),
                key: cygnet_protocol::plan::Key::File { path: "/a".into(), size: None, offset: None },
            });
        }
        Vault::new(first.ram.path().to_owned()).forget_after_crash(Some(&plan));
        assert!(fs::symlink_metadata(&link).is_err() && !first.ram.path().exists());
        assert!(fs::symlink_metadata(&other).is_ok(), "a link that is not ours was removed");
    }

    #[test]
    fn what_is_given_must_be_what_is_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(directory.path());
        let file = directory.path().join("there.key");
        fs::write(&file, "key").unwrap();
        let path = file.to_str().unwrap();
        let all = vault.look(vec![wanted("crypted", SecretKind::Passphrase), wanted(path, SecretKind::Passphrase)]);
        assert!(!all[0].there && all[1].there);
        let check = |given: &[GivenSecret]| vault.check(&all, &all, given).map_err(|fault| fault.to_string());
        assert_eq!(check(&[given("crypted", "x")]), Ok(()));
        assert_eq!(check(&[given("crypted", "x"), given(path, "key")]), Ok(()));
        for (wrong, why) in [
            (vec![], "--secret crypted=FILE"),
            (vec![given("crypted", "\n")], "is empty"),
            (vec![given("crypted", "x"), given("crypted", "x")], "twice"),
            (vec![given("crypt", "x")], "asks for crypted, "),
            (vec![given("crypted", "x"), given(path, "another")], "not the one you gave"),
        ] {
            let error = check(&wrong).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        fs::write(&file, "\n").unwrap();
        assert!(check(&[given("crypted", "x")]).unwrap_err().contains("is empty"));
        assert_eq!(vault.check(&all, &[], &[]), Ok(()), "what is not needed may be missing");
    }

    #[test]
    fn no_secret_is_put_on_the_target_or_among_devices() {
        for good in ["/tmp/secret.key", "/nowhere/a/key", "/run/key"] {
            assert_eq!(can_be_put(good), Ok(()), "{good}");
        }
        for bad in ["/mnt/key", "/mnt/etc/key", "/dev/disk/by-id/stick", "/tmp/../mnt/key", "/proc/key", "/tmp"] {
            assert_eq!(can_be_put(bad), Err(Refusal::NoKeyFile { file: bad.to_owned() }), "{bad}");
        }
    }
}
