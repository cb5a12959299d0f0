//! What ssh said and how it ended, as a cause and a remedy. Pure.
//!
//! The texts are those of OpenSSH: sshconnect.c, clientloop.c, readconf.c, and getaddrinfo(3).

use crate::error::tail;
use cygnet_protocol::fault::{Fault, FaultCode};

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
}

/// Why there is no agent at the other end.
pub fn explain(ending: Ending<'_>) -> Fault {
    let Ending { host, stderr, .. } = ending;
    let has = |texts: &[&str]| texts.iter().any(|text| stderr.contains(text));

    if has(&["REMOTE HOST IDENTIFICATION HAS CHANGED"]) {
        return changed_key(host, stderr);
    }
    if has(&["Host key verification failed", "host key is known for", "No matching host key fingerprint"]) {
        return unknown_key(host, stderr);
    }
    if ending.exit == Some(255) || ending.exit.is_none() {
        if has(&["Permission denied", "Too many authentication failures", "No more authentication methods"]) {
            return denied(host, stderr);
        }
        if let Some(fault) = unreachable(host, stderr) {
            return fault;
        }
    }
    no_agent(ending)
}

fn changed_key(host: &str, stderr: &str) -> Fault {
    let keys: Vec<&str> = stderr
        .lines()
        .map(str::trim)
        .filter(|line| line.contains("SHA256:") || line.contains("MD5:") || line.starts_with("Offending "))
        .collect();
    let shown = if keys.is_empty() { String::new() } else { format!("\nssh says: {}", keys.join(" ")) };
    Fault::new(
        FaultCode::HostKeyChanged,
        format!("The ssh host key of {host} is not the one that is known for it."),
        format!(
            "Another system runs there than before (a card that was flashed anew has a new key), another machine has \
             taken the address, or somebody sits between you and the Pi.{shown}"
        ),
        format!(
            "Compare the fingerprint with the one that the Pi shows on its console or that `cygnet discover` shows; if it \
             is right, forget the old key with `ssh-keygen -R {}{}`.",
            bare(host),
            offending(stderr).map(|file| format!(" -f {file}")).unwrap_or_default()
        ),
    )
}

fn unknown_key(host: &str, stderr: &str) -> Fault {
    let shown: Vec<&str> = stderr.lines().filter(|line| line.contains("SHA256:")).map(str::trim).collect();
    let shown = if shown.is_empty() { String::new() } else { format!("\nssh says: {}", shown.join(" ")) };
    Fault::new(
        FaultCode::HostKeyChanged,
        format!("The ssh host key of {host} could not be verified."),
        format!(
            "It is not in the file of known hosts, and there was nobody to ask (stdin is no terminal), or the answer was \
             no.{shown}"
        ),
        format!(
            "Run `ssh {host}` once in a terminal and compare the fingerprint, or give `--known-hosts FILE` with the key of \
             the card in it."
        ),
    )
}

fn denied(host: &str, stderr: &str) -> Fault {
    Fault::new(
        FaultCode::AccessDenied,
        format!("{host} accepts none of our ssh keys."),
        format!("ssh says: {}", tail(stderr)),
        "Put your public key into the settings on the card, give the right private key with `-i FILE`, or load it with \
         `ssh-add`.",
    )
}

fn unreachable(host: &str, stderr: &str) -> Option<Fault> {
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
            &["Bad configuration option", "keyword", "command-line:", "Unsupported option", "usage: ssh"],
            "ssh doesn't understand an option, from `-o` or from its configuration file.",
            "Mend the option that ssh names.",
        ),
    ];
    let (_, cause, remedy) = CAUSES.iter().find(|(texts, ..)| texts.iter().any(|text| stderr.contains(text)))?;
    Some(Fault::new(
        FaultCode::Unreachable,
        format!("ssh could not reach {host}."),
        format!("{cause}\nssh says: {}", tail(stderr)),
        *remedy,
    ))
}

fn no_agent(ending: Ending<'_>) -> Fault {
    let Ending { host, command, exit, stderr, stdout } = ending;
    let missing = exit == Some(127) || stderr.contains("command not found") || stderr.contains(": not found");
    let cause = if missing {
        format!(
            "There is no `{command}` on it; it runs another system than cygnet's bootstrap image, or is installed already."
        )
    } else if !stdout.trim().is_empty() {
        let shown: String = stdout.chars().take(300).collect();
        format!("Instead of an agent's greeting came: {}", shown.trim_end())
    } else if stderr.trim().is_empty() {
        let exit = exit.map_or("was ended by a signal".to_owned(), |code| format!("ended with exit code {code}"));
        format!("`{command}` {exit} and said nothing.")
    } else {
        format!("It says: {}", tail(stderr))
    };
    Fault::new(
        FaultCode::NoAgent,
        format!("ssh reaches {host}, but no cygnet agent answers there."),
        cause,
        "Boot the Pi from a card with cygnet's bootstrap image; on the Pi, `systemctl status cygnetd` tells more.",
    )
}

/// The file with the old key, if it is not ssh's own: `Offending ED25519 key in FILE:LINE`.
fn offending(stderr: &str) -> Option<&str> {
    let line = stderr.lines().find(|line| line.starts_with("Offending "))?;
    let (file, _) = line.split_once(" key in ")?.1.rsplit_once(':')?;
    (!file.ends_with("/.ssh/known_hosts")).then_some(file)
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
        explain(Ending { host: "root@pi", command: "cygnetd bridge control", exit: Some(exit), stderr, stdout })
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
        let fault = all(255, text, "");
        assert_eq!(fault.code, FaultCode::HostKeyChanged);
        assert!(fault.cause.contains("SHA256:9/6tNC") && fault.cause.contains("known_hosts:3"), "{fault}");
        assert!(fault.cause.contains("somebody sits between"), "{fault}");
        assert!(fault.remedy.contains("ssh-keygen -R pi`"), "{fault}");
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
        assert_eq!(code(255, "something new\n"), FaultCode::NoAgent);
    }
}
