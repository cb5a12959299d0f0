//! Logging in on the Pi: keys made for one Pi, and one connection that all commands share.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use super::net::Lan;
use crate::host::run::{run, tool, trace, try_output};

/// The keys of one Pi and of the person who uses it.
#[derive(Debug, Clone)]
pub struct Keys {
    dir: PathBuf,
}

impl Keys {
    /// Makes a key pair for the Pi and one for its user.
    ///
    /// # Errors
    /// If ssh-keygen isn't there or `dir` can't be written.
    pub fn generate(dir: &Path, host: &str) -> Result<Keys> {
        for (name, comment) in [("host", "pi"), ("user", "cygnet-tests")] {
            let file = dir.join(format!("{name}_key"));
            if file.exists() {
                continue;
            }
            run(tool("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(&file))
                .with_context(|| format!("making the {name} key"))?;
        }
        let keys = Keys { dir: dir.to_owned() };
        let known = format!("{host} {}", keys.host_public()?);
        fs::write(keys.known_hosts(), known).context("writing known_hosts")?;
        Ok(keys)
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
        let mut probe = lan.command("ssh");
        probe.args(&options).arg(format!("root@{address}")).arg("true");
        let output = try_output(&mut probe)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if said.contains("Permission denied") || said.contains("verification failed") {
                bail!("the Pi refused the login: {}", said.trim());
            }
            return Ok(None);
        }
        let mut master = lan.command("ssh");
        master
            .args(["-M", "-N", "-S"])
            .arg(socket)
            .args(&options)
            .arg(format!("root@{address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        trace(&master);
        let master = master.spawn().context("starting ssh")?;
        Ok(Some(Connection { master, socket: socket.to_owned(), options, address: address.to_owned() }))
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
