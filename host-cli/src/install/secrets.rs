//! The passphrases and keys that a layout asks for: read from files, or asked for on the terminal.

use crate::error::fault;
use crate::ui::Ui;
use anyhow::Result;
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::plan::{Wanted, secret_option};
use cygnet_protocol::secret::{GivenSecret, MAX_BYTES, MAX_SECRETS, Secret};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// How often a passphrase is asked for.
const TRIES: u32 = 3;

/// What was given with `--secret`, and what was typed.
#[derive(Debug, Default)]
pub struct Secrets {
    given: Vec<GivenSecret>,
}

impl Secrets {
    /// Reads the files that `--secret` names, before anything else is done.
    pub fn read(arguments: &[(String, PathBuf)]) -> Result<Self> {
        if arguments.len() > MAX_SECRETS {
            return Err(fault(
                FaultCode::BadSecret,
                format!("{} secrets were given.", arguments.len()),
                format!("One installation can have {MAX_SECRETS}."),
                "Leave out what the layout does not ask for; `cygnet plan` lists what it does.",
            ));
        }
        let mut secrets = Self::default();
        for (name, file) in arguments {
            if secrets.has(name) {
                return Err(fault(
                    FaultCode::BadSecret,
                    format!("The secret {name} was given twice."),
                    "The command line names it more than once.",
                    format!("Give `{}` once.", secret_option(name)),
                ));
            }
            let value = read(file).map_err(|error| {
                fault(
                    FaultCode::BadSecret,
                    format!("The secret {name} can't be read from {}: {error}.", file.display()),
                    "The file is not there, not readable for you, or no file with a key or a passphrase.",
                    format!("Give the right file: `{}`.", secret_option(name)),
                )
            })?;
            secrets.given.push(GivenSecret { name: name.clone(), value });
        }
        Ok(secrets)
    }

    /// What goes to the agent.
    pub fn given(&self) -> &[GivenSecret] {
        &self.given
    }

    fn has(&self, name: &str) -> bool {
        self.given.iter().any(|given| given.name == name)
    }

    /// Notes which of these were given.
    pub fn mark(&self, mut wanted: Vec<Wanted>) -> Vec<Wanted> {
        for wanted in &mut wanted {
            wanted.given = self.has(&wanted.name);
        }
        wanted
    }

    /// Refuses what is not asked for, or cannot be right, and what is missing and nobody can be asked for. The agent sees
    /// to it, too; here it is known before a question is asked.
    ///
    /// `all` are those of the layout, if they are known here, `wanted` those that must be had now.
    pub fn check(&self, all: Option<&[Wanted]>, wanted: &[Wanted], can_ask: bool) -> Result<()> {
        for (given, all) in self.given.iter().flat_map(|given| all.map(|all| (given, all))) {
            match all.iter().find(|wanted| wanted.name == given.name) {
                None => return Err(Wanted::unknown(&given.name, all).into()),
                Some(wanted) => wanted.kind.check(given.value.expose()).map_err(|why| unfit(wanted, why))?,
            }
        }
        for missing in self.missing(wanted) {
            if !can_ask || !missing.kind.is_text() {
                return Err(missing_fault(&missing));
            }
        }
        Ok(())
    }

    fn missing(&self, wanted: &[Wanted]) -> Vec<Wanted> {
        wanted.iter().filter(|wanted| !wanted.there && !self.has(&wanted.name)).cloned().collect()
    }

    /// Asks for what is missing. Only after [`Self::check`].
    pub fn ask(&mut self, ui: &Ui, wanted: &[Wanted]) -> Result<()> {
        for missing in self.missing(wanted) {
            let value = ask(ui, &missing)?;
            self.given.push(GivenSecret { name: missing.name, value });
        }
        Ok(())
    }
}

/// Asks until the same was typed twice, and can be right.
fn ask(ui: &Ui, wanted: &Wanted) -> Result<Secret> {
    ui.show(&format!("{wanted}."));
    for _ in 0..TRIES {
        let first = ui.ask_hidden(&format!("Passphrase for {}: ", wanted.name))?;
        if let Err(why) = wanted.kind.check(first.expose()) {
            ui.show(&format!("That {why}."));
            continue;
        }
        if ui.ask_hidden("The same once more: ")? == first {
            return Ok(first);
        }
        ui.show("These were not the same.");
    }
    Err(missing_fault(wanted))
}

/// Reads a file, or what is like one: `<(pass show pi)` of a shell. Never more than a secret may have.
fn read(path: &Path) -> io::Result<Secret> {
    // All at once: a growing buffer would leave pieces of it behind.
    let mut bytes = Vec::with_capacity(MAX_BYTES + 1);
    let read = File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
    let secret = Secret::new(bytes);
    read?;
    match secret.expose().len() {
        0 => Err(io::Error::other("it is empty")),
        size if size > MAX_BYTES => Err(io::Error::other(format!("it has more than {MAX_BYTES} bytes"))),
        _ => Ok(secret),
    }
}

fn unfit(wanted: &Wanted, why: &str) -> anyhow::Error {
    fault(
        FaultCode::BadSecret,
        format!("The secret {} {why}.", wanted.name),
        format!("{wanted}, and the file you gave has something else."),
        format!("Give `{}` with the right FILE.", wanted.option()),
    )
}

fn missing_fault(wanted: &Wanted) -> anyhow::Error {
    fault(
        FaultCode::BadSecret,
        format!("The secret {} is missing.", wanted.name),
        match wanted.kind.is_text() {
            true => format!("{wanted}. It was not given, nor typed on a terminal."),
            false => format!("{wanted}. It was not given, and it can't be typed."),
        },
        format!("Give it with `{}`. Nothing was changed on the Pi.", wanted.option()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::fault_of;
    use cygnet_protocol::plan::SecretKind;

    fn wanted(name: &str, kind: SecretKind, there: bool) -> Wanted {
        Wanted { name: name.into(), kind, purpose: "opens it".into(), there, given: false }
    }

    fn file(directory: &Path, text: &str) -> PathBuf {
        let path = directory.join("secret");
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn what_was_given_is_compared_with_what_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let given = |name: &str, text: &str| Secrets::read(&[(name.to_owned(), file(directory.path(), text))]).unwrap();
        let all = [wanted("rpool", SecretKind::ZfsPassphrase, false), wanted("/tmp/secret.key", SecretKind::Key, true)];
        let check = |secrets: &Secrets, can_ask| {
            secrets.check(Some(&all), &all, can_ask).map_err(|error| fault_of(&error).to_string())
        };
        assert_eq!(check(&given("rpool", "correct horse\n"), false), Ok(()));
        assert_eq!(check(&Secrets::default(), true), Ok(()), "it can be asked for");
        assert!(check(&Secrets::default(), false).unwrap_err().contains("--secret rpool=FILE"));
        assert!(check(&given("rpol", "x"), true).unwrap_err().contains("asks for rpool, /tmp/secret.key"));
        assert!(check(&given("rpool", "short\n"), true).unwrap_err().contains("too short"));
        let key = [wanted("/tmp/other.key", SecretKind::Key, false)];
        let error = Secrets::default().check(Some(&key), &key, true).unwrap_err();
        assert!(fault_of(&error).cause.contains("can't be typed"), "{error}");
        let odd = [wanted("/tmp/my key=1", SecretKind::Key, false)];
        let error = fault_of(&Secrets::default().check(Some(&odd), &odd, false).unwrap_err());
        assert!(error.remedy.contains("`--secret '/tmp/my key=1=FILE'`"), "{error}");
        let marked = given("rpool", "x").mark(all.to_vec());
        assert!(marked[0].given && !marked[1].given);
    }

    #[test]
    fn a_file_that_cannot_be_a_secret_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let read = |path: PathBuf| {
            let error = Secrets::read(&[("crypted".into(), path)]).unwrap_err();
            let fault = fault_of(&error);
            assert_eq!(fault.code, FaultCode::BadSecret);
            fault.to_string()
        };
        assert!(read(directory.path().join("nowhere")).contains("No such file"));
        assert!(read(directory.path().to_owned()).contains("directory"));
        assert!(read(file(directory.path(), "")).contains("empty"));
        assert!(read(file(directory.path(), &"x".repeat(MAX_BYTES + 1))).contains("65536 bytes"));
        assert!(read("/dev/zero".into()).contains("65536 bytes"), "an endless file");
        let twice = ("a".to_owned(), file(directory.path(), "x"));
        assert!(Secrets::read(&[twice.clone(), twice]).is_err());
    }
}
