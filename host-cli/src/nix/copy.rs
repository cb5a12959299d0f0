//! The line with which Nix's own `nix copy` reaches the agent, with the host key that is right.
//!
//! Nix 2.8 to 2.26 take the key as `base64-ssh-public-host-key` in the store's address, and write it into a file of known
//! hosts under the host's name as it stands there (libstore/ssh.cc). What ssh looks up may be another name, or have a
//! port with it; then ssh is told to look up that one.

use crate::error::fault;
use anyhow::Result;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use cygnet_protocol::fault::FaultCode;
use serde::Serialize;
use std::path::Path;

/// What the line depends on.
#[derive(Debug)]
pub struct Reach<'a> {
    /// `user@host`.
    pub host: &'a str,
    /// What to run there; `nix-daemon` is put behind it.
    pub agent_command: &'a str,
    /// Options of ssh_config(5), `Key=Value`.
    pub options: &'a [String],
    /// The private key to log in with.
    pub identity: Option<&'a Path>,
    /// The host key, as a line of a public key file has it.
    pub host_key: Option<&'a str>,
    /// The name under which ssh looks for a host key.
    pub known_as: &'a str,
}

/// `nix copy`, ready to be run.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "nix-copy", rename_all = "kebab-case")]
pub struct NixCopy {
    /// The store's address.
    pub store: String,
    /// The value of `NIX_SSHOPTS`, if it is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_options: Option<String>,
    /// What to copy, if that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toplevel: Option<String>,
    /// What to run, word by word.
    pub command: Vec<String>,
    /// The same for a shell.
    pub line: String,
}

impl NixCopy {
    /// Puts it together.
    pub fn new(reach: &Reach<'_>, toplevel: Option<&str>) -> Result<Self> {
        let name = reach.host.rsplit('@').next().unwrap_or(reach.host);
        if name.contains(':') || reach.host.contains('%') {
            return Err(fault(
                FaultCode::BadRequest,
                format!("Nix cannot be told to reach {}.", reach.host),
                "It is an IPv6 address, which not every Nix takes in the address of a store.",
                "Use the Pi's name, or give the address a name in ~/.ssh/config.",
            ));
        }
        let mut parameters = Vec::new();
        if let Some(key) = reach.host_key {
            parameters.push(("base64-ssh-public-host-key", BASE64_STANDARD.encode(key)));
        }
        // That is ssh's own compression: over WiFi the copy takes a third of the time.
        parameters.push(("compress", "true".to_owned()));
        parameters.push(("remote-program", format!("{} nix-daemon", reach.agent_command)));
        if let Some(identity) = reach.identity {
            let identity = std::path::absolute(identity).unwrap_or_else(|_| identity.to_owned());
            parameters.push(("ssh-key", identity.display().to_string()));
        }
        let query: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let store = format!("ssh-ng://{}?{}", reach.host, query.join("&"));

        let mut options: Vec<String> = reach.options.iter().map(|option| format!("-o{option}")).collect();
        if reach.host_key.is_some() && reach.known_as != name {
            options.push(format!("-oHostKeyAlias={name}"));
        }
        if let Some(odd) =
            options.iter().find(|option| option.contains(|c: char| c.is_whitespace() || "'\"\\".contains(c)))
        {
            return Err(fault(
                FaultCode::BadRequest,
                format!("Nix cannot be told of the option {odd}."),
                "It gives ssh its options in NIX_SSHOPTS, whose words are separated by spaces.",
                "Put the option into ~/.ssh/config and leave it out here.",
            ));
        }
        let ssh_options = (!options.is_empty()).then(|| options.join(" "));

        let words = ["nix", "--extra-experimental-features", "nix-command", "copy", "--to", &store];
        let command: Vec<String> = words.into_iter().chain(toplevel).map(str::to_owned).collect();
        let mut line: Vec<String> = command.iter().map(|word| quoted(word)).collect();
        if let Some(options) = &ssh_options {
            line.insert(0, format!("NIX_SSHOPTS={}", quoted(options)));
        }
        Ok(Self { ssh_options, toplevel: toplevel.map(str::to_owned), command, line: line.join(" "), store })
    }
}

/// The value of a parameter in an address (RFC 3986): all but unreserved characters in hexadecimal.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// One word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/=:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach() -> Reach<'static> {
        Reach {
            host: "root@pi.local",
            agent_command: "cygnetd bridge",
            options: &[],
            identity: None,
            host_key: Some("ssh-ed25519 AAAA"),
            known_as: "pi.local",
        }
    }

    #[test]
    fn the_line_is_ready_to_be_run() {
        let copy = NixCopy::new(&reach(), Some("/nix/store/x-system")).unwrap();
        assert_eq!(
            copy.line,
            "nix --extra-experimental-features nix-command copy --to \
             'ssh-ng://root@pi.local?base64-ssh-public-host-key=c3NoLWVkMjU1MTkgQUFBQQ%3D%3D&compress=true\
             &remote-program=cygnetd%20bridge%20nix-daemon' /nix/store/x-system"
        );
        assert_eq!(copy.ssh_options, None);
    }

    #[test]
    fn another_port_or_name_is_looked_up_all_the_same() {
        let options = ["Port=2222".to_owned()];
        let identity = Path::new("/home/me/a key");
        let copy = NixCopy::new(
            &Reach { options: &options, known_as: "[pi.local]:2222", identity: Some(identity), ..reach() },
            None,
        );
        let copy = copy.unwrap();
        assert!(copy.line.starts_with("NIX_SSHOPTS='-oPort=2222 -oHostKeyAlias=pi.local' nix "), "{}", copy.line);
        assert!(copy.store.ends_with("&ssh-key=/home/me/a%20key"), "{}", copy.store);
    }

    #[test]
    fn what_nix_cannot_be_told_is_refused() {
        let options = ["ProxyCommand=nc %h 22".to_owned()];
        assert!(NixCopy::new(&Reach { options: &options, ..reach() }, None).is_err());
        assert!(NixCopy::new(&Reach { host: "root@fe80::1%wlan0", ..reach() }, None).is_err());
    }

    #[test]
    fn a_shell_takes_a_word_for_one() {
        for (word, text) in [("it's", "'it'\\''s'"), ("", "''"), ("a&b", "'a&b'"), ("/nix/store/x-y", "/nix/store/x-y")]
        {
            assert_eq!(quoted(word), text);
        }
    }
}
