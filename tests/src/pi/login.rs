//! Logging in on the Pi: keys made for one Pi, and one connection that all commands share.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::net::Lan;
use crate::host::run::{run, tool, trace, try_output};

/// All that belongs to [`Keys`].
const FILES: &[&str] = &["host_key", "host_key.pub", "user_key", "user_key.pub", "known_hosts"];

/// The keys of one Pi and of the person who uses it.
#[derive(Debug, Clone)]
pub struct Keys {
    dir: PathBuf,
}

impl Keys {
    /// Makes a key pair for the Pi at `host`, in `dir`. Its user is the one whose keys are in `user`.
    ///
    /// # Errors
    /// If ssh-keygen isn't there or `dir` can't be written.
    pub fn generate(dir: &Path, host: &str, user: &Path) -> Result<Keys> {
        make_pair(&dir.join("host_key"), "pi")?;
        copy_files(user, dir)?;
        let keys = Keys { dir: dir.to_owned() };
        let known = format!("{host} {}", keys.host_public()?);
        fs::write(keys.known_hosts(), known).context("writing known_hosts")?;
        Ok(keys)
    }

    /// Makes the key pair of somebody who uses Pis, in `dir`. The same one for every Pi: it is in the closures that are installed.
    ///
    /// # Errors
    /// If ssh-keygen isn't there or `dir` can't be written.
    pub fn generate_user(dir: &Path) -> Result<()> {
        make_pair(&dir.join("user_key"), "cygnet-tests")
    }

    /// The keys of a Pi whose state was saved with [`Keys::keep`].
    ///
    /// # Errors
    /// If they can't be copied.
    pub fn kept(from: &Path, dir: &Path) -> Result<Keys> {
        copy_files(from, dir)?;
        Ok(Keys { dir: dir.to_owned() })
    }

    /// Keeps the keys in a directory, beside a saved state.
    ///
    /// # Errors
    /// If they can't be copied.
    pub fn keep(&self, to: &Path) -> Result<()> {
        fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
        for name in FILES {
            let from = self.dir.join(name);
            if from.exists() {
                copy(&from, &to.join(name))?;
            }
        }
        Ok(())
    }

    /// The user's private key file, for `ssh -i`.
    pub fn identity(&self) -> PathBuf {
        self.dir.join("user_key")
    }

    /// The user's public key, one line for `authorized_keys`.
    ///
    /// # Errors
    /// If the file is gone.
    pub fn user_public(&self) -> Result<String> {
        self.read("user_key.pub")
    }

    /// The Pi's private key, for `/etc/ssh/ssh_host_ed25519_key`.
    ///
    /// # Errors
    /// If the file is gone.
    pub fn host_private(&self) -> Result<String> {
        self.read("host_key")
    }

    /// The Pi's public key.
    ///
    /// # Errors
    /// If the file is gone.
    pub fn host_public(&self) -> Result<String> {
        self.read("host_key.pub")
    }

    /// From now on the Pi has this key: somebody else has made one for it.
    ///
    /// # Errors
    /// If the files can't be written.
    pub fn know(&self, host: &str, public: &str) -> Result<()> {
        fs::write(self.dir.join("host_key.pub"), format!("{public}\n")).context("writing host_key.pub")?;
        fs::remove_file(self.dir.join("host_key")).context("removing the key that is not used")?;
        fs::write(self.known_hosts(), format!("{host} {public}\n")).context("writing known_hosts")
    }

    /// The file in which ssh finds which key the Pi must have.
    pub fn known_hosts(&self) -> PathBuf {
        self.dir.join("known_hosts")
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.dir.join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// ssh's options for this Pi, without a destination; for `cygnet` and `nix` under test too.
    pub fn options(&self) -> Vec<String> {
        let mut options =
            vec!["-F".to_owned(), "/dev/null".to_owned(), "-i".to_owned(), self.identity().display().to_string()];
        for option in [
            "BatchMode=yes".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            format!("UserKnownHostsFile={}", self.known_hosts().display()),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            // An emulated Pi under load answers late.
            "ConnectTimeout=20".to_owned(),
            "ServerAliveInterval=15".to_owned(),
            "ServerAliveCountMax=8".to_owned(),
            "LogLevel=ERROR".to_owned(),
        ] {
            options.extend(["-o".to_owned(), option]);
        }
        options
    }
}

fn make_pair(file: &Path, comment: &str) -> Result<()> {
    run(tool("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(file))
        .with_context(|| format!("making the key {}", file.display()))
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    let mut present = FILES.iter().filter(|name| from.join(name).exists());
    present.try_for_each(|name| copy(&from.join(name), &to.join(name)))
}

/// With its mode: ssh refuses a private key that others may read.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display())).map(drop)
}

/// A connection that stays open: an emulated handshake takes seconds, a command over an open one a fraction.
#[derive(Debug)]
pub struct Connection {
    master: Child,
    socket: PathBuf,
    options: Vec<String>,
    address: String,
}

impl Connection {
    /// Logs in as root. Says [`None`] if the Pi doesn't answer yet.
    ///
    /// # Errors
    /// If ssh can't be started, or it was answered and refused: waiting wouldn't help then.
    pub fn open(lan: &Lan, keys: &Keys, address: &str, socket: &Path) -> Result<Option<Connection>> {
        let options = keys.options();
        let log = socket.with_extension("log");
        let complaints = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let mut master = lan.command("ssh");
        master
            .args(["-M", "-N", "-S"])
            .arg(socket)
            .args(&options)
            .arg(format!("root@{address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(complaints);
        trace(&master);
        let mut connection = Connection {
            master: master.spawn().context("starting ssh")?,
            socket: socket.to_owned(),
            options,
            address: address.to_owned(),
        };
        // It makes its socket once it is logged in, and says so to nobody.
        loop {
            if socket.exists() {
                return Ok(Some(connection));
            }
            if connection.master.try_wait().context("waiting for ssh")?.is_some() {
                let said = fs::read_to_string(&log).unwrap_or_default();
                if said.contains("Permission denied") || said.contains("verification failed") {
                    bail!("the Pi refused the login: {}", said.trim());
                }
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A command that runs `command`, one line for the Pi's shell, on the Pi. Before the master is up, and after it ended,
    /// ssh makes a connection of its own.
    pub fn command(&self, lan: &Lan, command: &str) -> Command {
        let mut ssh = lan.command("ssh");
        ssh.arg("-S")
            .arg(&self.socket)
            .args(&self.options)
            .arg(format!("root@{}", self.address))
            .arg("--")
            .arg(command);
        ssh
    }

    /// Runs a command on the Pi to its end.
    ///
    /// # Errors
    /// If ssh can't be started; what the command exits with is in the answer (255 if the connection broke).
    pub fn run(&self, lan: &Lan, command: &str) -> Result<Output> {
        try_output(&mut self.command(lan, command))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.master.kill();
        let _ = self.master.wait();
        let _ = fs::remove_file(&self.socket);
    }
}

/// Quotes words so that the Pi's shell gives them to the program as they are.
pub fn quoted(words: &[&str]) -> String {
    let plain = |word: &str| {
        !word.is_empty() && word.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter))
    };
    words
        .iter()
        .map(|word| if plain(word) { (*word).to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_program_unchanged() {
        assert_eq!(quoted(&["ls", "-l", "a b", "it's", ""]), r"ls -l 'a b' 'it'\''s' ''");
    }
}
