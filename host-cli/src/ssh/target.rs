//! Whom to reach, and with which options of ssh(1).

use super::classify::Keys;
use super::option;
use super::pin::HostKey;
use crate::card::pins;
use crate::cli::Global;
use crate::error::fault;
use anyhow::Result;
use cygnet_protocol::fault::FaultCode;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How long a TCP connection may take to come about, seconds.
const CONNECT_TIMEOUT: u32 = 15;
/// After this many seconds of silence ssh asks whether the other end is alive…
const ALIVE_INTERVAL: u32 = 15;
/// …and gives up after this many questions without an answer.
const ALIVE_COUNT: u32 = 8;

/// A Pi and how ssh gets there.
#[derive(Debug, Clone)]
pub struct Target {
    /// What the person wrote.
    pub given: String,
    /// `user@host`.
    pub host: String,
    /// What to run there; `control` or `data` is put behind it.
    pub agent_command: String,
    ssh_options: Vec<String>,
    identity: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
    announced: Option<Announced>,
}

/// An address that somebody has announced for a host, which may be anybody's.
#[derive(Debug, Clone)]
struct Announced {
    address: String,
    /// Under which name its key must be known.
    known_as: String,
}

impl Target {
    /// Checks `HOST` and collects the options.
    pub fn new(given: &str, global: &Global) -> Result<Self> {
        // What ssh can't be told is said at once.
        for file in [&global.known_hosts, &global.identity].into_iter().flatten() {
            option::path(file)?;
        }
        Ok(Self {
            given: given.to_owned(),
            host: with_user(given)?,
            agent_command: global.agent_command.clone(),
            ssh_options: global.ssh_options.clone(),
            identity: global.identity.clone(),
            known_hosts: global.known_hosts.clone(),
            announced: None,
        })
    }

    /// The same host at an address that was announced for it. Its key must be the one that is known for the host: a key
    /// that nobody has verified is never accepted there without a question.
    pub fn at(&self, address: &str) -> Result<Self> {
        with_user(address)?;
        let announced = Announced { address: address.to_owned(), known_as: self.known_as() };
        Ok(Self { announced: Some(announced), ..self.clone() })
    }

    /// `ssh` with the options that every connection to the Pi has, without the host.
    pub fn command(&self) -> Command {
        self.command_with(&[])
    }

    /// The same, with options that no other may override.
    ///
    /// The person's options come before ours: ssh takes the first value it sees.
    pub fn command_with(&self, first: &[String]) -> Command {
        let mut command = Command::new("ssh");
        command.args(first);
        // The command is ours, whatever somebody runs in a session of their own.
        command.args(["-o", "RemoteCommand=none"]);
        if let Some(Announced { address, known_as }) = &self.announced {
            command.arg("-o").arg(format!("HostName={}", address.replace('%', "%%")));
            command.arg("-o").arg(format!("HostKeyAlias={}", option::word(known_as)));
            command.arg("-o").arg(format!("StrictHostKeyChecking={}", if self.is_known() { "yes" } else { "ask" }));
        }
        for option in &self.ssh_options {
            command.arg("-o").arg(option);
        }
        // Not `-i`, which expands percent signs, but looks for the file as it is given.
        if let Some(file) = self.identity.as_ref().and_then(|file| option::path(file).ok()) {
            command.arg("-o").arg(format!("IdentityFile={file}"));
        }
        if !std::io::stdin().is_terminal() {
            command.args(["-o", "BatchMode=yes"]);
        }
        command.args([
            "-o",
            &format!("ConnectTimeout={CONNECT_TIMEOUT}"),
            "-o",
            &format!("ServerAliveInterval={ALIVE_INTERVAL}"),
            "-o",
            &format!("ServerAliveCountMax={ALIVE_COUNT}"),
            // The store paths are compressed already, and a Pi has no AES instructions.
            "-o",
            "Compression=no",
            "-o",
            "Ciphers=^chacha20-poly1305@openssh.com",
            "-o",
            "ForwardAgent=no",
            "-o",
            "ForwardX11=no",
            "-o",
            "ClearAllForwardings=yes",
            "-o",
            "RequestTTY=no",
        ]);
        command
    }

    /// The options that say which host keys are right; [`super::pin`] has others for a pinned key.
    pub fn key_options(&self) -> Result<Vec<String>> {
        let Some(file) = &self.known_hosts else { return self.pinned_options() };
        let strict = if self.is_known() { "yes" } else { "accept-new" };
        Ok(vec![
            "-o".into(),
            format!("UserKnownHostsFile={}", option::path(file)?),
            "-o".into(),
            "GlobalKnownHostsFile=/dev/null".into(),
            "-o".into(),
            format!("StrictHostKeyChecking={strict}"),
        ])
    }

    /// For a host whose key was put on its card: that key is known, beside those that the person knows, and there is no
    /// question.
    fn pinned_options(&self) -> Result<Vec<String>> {
        let Some(file) = pins::file().filter(|file| file.is_file()) else { return Ok(vec![]) };
        let config = self.config();
        if !has(&file, &known_as(&config, &self.host)) {
            return Ok(vec![]);
        }
        let own = files(&config, "userknownhostsfile");
        let own: Result<String> = own.iter().map(|file| option::path(file).map(|file| format!(" {file}"))).collect();
        Ok(vec![
            "-o".into(),
            format!("UserKnownHostsFile={}{}", option::path(&file)?, own?),
            "-o".into(),
            "StrictHostKeyChecking=yes".into(),
            "-o".into(),
            "UpdateHostKeys=no".into(),
        ])
    }

    /// What this machine knows of the host's key; `presented` is the one that the other end has shown.
    pub fn keys(&self, presented: Option<HostKey>) -> Keys {
        let config = self.config();
        let name = known_as(&config, &self.host);
        let files = self.known_files(&config).into_iter().filter(|file| has(file, &name)).collect::<Vec<_>>();
        let agrees = presented.as_ref().is_some_and(|key| files.iter().any(|file| knows(file, &name, key)));
        Keys { name, files, presented, agrees }
    }

    /// Is there a key of the host in a file of known hosts that ssh looks into?
    pub fn is_known(&self) -> bool {
        // Not by `config`, which asks this in turn.
        let name = self.announced.as_ref().map_or_else(|| self.known_as(), |announced| announced.known_as.clone());
        let plain = Self { announced: None, ..self.clone() };
        plain.known_files(&plain.config()).iter().any(|file| has(file, &name))
    }

    /// The files of known hosts that ssh looks into.
    fn known_files(&self, config: &[(String, String)]) -> Vec<PathBuf> {
        match &self.known_hosts {
            Some(file) => vec![file.clone()],
            None => pins::file()
                .into_iter()
                .chain(files(config, "userknownhostsfile"))
                .chain(files(config, "globalknownhostsfile"))
                .filter(|file| file.is_file())
                .collect(),
        }
    }

    /// The name under which ssh looks for the host's key.
    pub fn known_as(&self) -> String {
        known_as(&self.config(), &self.host)
    }

    /// The options of ssh_config(5) that were given on the command line.
    pub fn options(&self) -> &[String] {
        &self.ssh_options
    }

    /// The private key that was given on the command line.
    pub fn identity(&self) -> Option<&Path> {
        self.identity.as_deref()
    }

    /// Whether this ssh knows an option.
    pub fn understands(&self, option: &str) -> bool {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-G", "-o", option, "--", "cygnet.invalid"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// What ssh_config(5) comes to for this host, as `ssh -G` tells; empty if ssh can't tell.
    pub fn config(&self) -> Vec<(String, String)> {
        let output = self.command().args(["-G", "--", &self.host]).stdin(Stdio::null()).output();
        output.map(|output| parse_config(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default()
    }
}

/// The name that ssh looks for, by what its configuration comes to.
fn known_as(config: &[(String, String)], host: &str) -> String {
    let value = |key: &str| config.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    match (value("hostkeyalias"), value("hostname"), value("port")) {
        (Some(alias), ..) if alias != "none" => alias.to_owned(),
        (_, Some(host), Some("22") | None) => host.to_owned(),
        (_, Some(host), Some(port)) => format!("[{host}]:{port}"),
        (_, None, _) => host.rsplit('@').next().unwrap_or(host).to_owned(),
    }
}

/// Does a file of known hosts have a key of this name?
fn has(file: &Path, name: &str) -> bool {
    !lines_of(file, name).is_empty()
}

/// Does a file of known hosts have this very key under this name?
fn knows(file: &Path, name: &str, key: &HostKey) -> bool {
    let key = key.line();
    lines_of(file, name).lines().any(|line| line.split_once(' ').is_some_and(|(_, rest)| rest.starts_with(&key)))
}

/// The lines for this name, as ssh-keygen(1) finds them, hashed names as well.
fn lines_of(file: &Path, name: &str) -> String {
    let mut command = Command::new("ssh-keygen");
    command.args(["-F", name, "-f"]).arg(file).stdin(Stdio::null()).stderr(Stdio::null());
    command.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// The files of a keyword, as ssh's configuration has them.
fn files(config: &[(String, String)], keyword: &str) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let listed = config.iter().filter(|(key, _)| key == keyword).flat_map(|(_, files)| option::files(files));
    listed
        .filter(|file| file.as_os_str() != "none")
        .map(|file| file.strip_prefix("~/").map_or_else(|_| file.clone(), |rest| home.join(rest)))
        .collect()
}

/// `keyword value` lines.
fn parse_config(text: &str) -> Vec<(String, String)> {
    text.lines().filter_map(|line| line.split_once(' ')).map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect()
}

/// `user@host`, root if there is no user; what ssh would take for an option or a shell for something else is refused.
fn with_user(given: &str) -> Result<String> {
    let bad = |cause: &str| {
        Err(fault(
            FaultCode::BadRequest,
            format!("{given:?} is no host."),
            cause,
            "Write a host name or an address, as in `cygnet status pi.local` or `cygnet status root@192.0.2.7`.",
        ))
    };
    let (user, host) = given.rsplit_once('@').unwrap_or(("root", given));
    if host.is_empty() || user.is_empty() {
        return bad("The name of the user or of the host is empty.");
    }
    if given.starts_with('-') || host.starts_with('-') {
        return bad("It begins with a hyphen, so that ssh would take it for an option.");
    }
    let odd = |c: char| c.is_whitespace() || c.is_control() || "\"'`$\\;&|<>(){}*?!#/,".contains(c);
    if given.chars().any(odd) {
        return bad("It has a character that no host name has.");
    }
    Ok(format!("{user}@{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_the_user_unless_one_is_given() {
        for (given, host) in [
            ("pi.local", "root@pi.local"),
            ("admin@pi", "admin@pi"),
            ("192.0.2.7", "root@192.0.2.7"),
            ("fe80::1%wlan0", "root@fe80::1%wlan0"),
            ("DOM@user@pi", "DOM@user@pi"),
        ] {
            assert_eq!(with_user(given).unwrap(), host);
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in ["", "-oProxyCommand=x", "root@-x", "@pi", "root@", "a b", "pi;reboot", "$(x)", "ssh://pi", "pi\n"] {
            assert!(with_user(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn the_config_is_read_by_key() {
        let config = parse_config("hostname 10.0.0.1\nport 22\nUserKnownHostsFile /a /b\n\njunk\n");
        assert_eq!(config[0], ("hostname".into(), "10.0.0.1".into()));
        assert_eq!(config[2], ("userknownhostsfile".into(), "/a /b".into()));
        assert_eq!(config.len(), 3);
    }
}
