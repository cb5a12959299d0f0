//! Whom `cygnet wait` tries: a host as it was given, and where somebody announces it to be, which may be anybody.

use crate::cli;
use crate::discover::Pi;
use crate::ssh::Target;
use anyhow::Result;

/// How many addresses are tried in one go.
const MAX_TRIES: usize = 4;

/// Whom to try, and where.
#[derive(Debug)]
pub struct Candidate {
    /// How ssh gets there.
    pub target: Target,
    /// What to give to the next command.
    pub host: String,
    /// Where somebody announces it to be.
    pub address: Option<String>,
    /// Whether there is a better place to wait for: the host as it was given.
    pub is_hearsay: bool,
}

impl Candidate {
    /// As it is told.
    pub fn place(&self) -> String {
        match &self.address {
            Some(address) if *address != self.host => format!("{} at {address}", self.host),
            Some(_) | None => self.host.clone(),
        }
    }
}

/// A host that was given: first as it was given, as ssh_config(5) may say more about it, then where it is announced to be. Its
/// name is what its key is known by, and what the next command gets.
pub fn named(given: &str, called: &[&Pi], global: &cli::Global) -> Result<Vec<Candidate>> {
    let target = Target::new(given, global)?;
    let bare = given.rsplit('@').next().unwrap_or(given);
    let mut candidates = vec![Candidate { target, host: given.to_owned(), address: None, is_hearsay: false }];
    // One of each first: whoever announces many must not hide the others.
    let longest = called.iter().map(|pi| pi.addresses.len()).max().unwrap_or_default();
    let addresses = (0..longest).flat_map(|nth| called.iter().filter_map(move |pi| pi.addresses.get(nth)));
    for address in addresses.filter(|address| *address != bare).take(MAX_TRIES - 1) {
        let target = candidates[0].target.at(address)?;
        candidates.push(Candidate { target, host: given.to_owned(), address: Some(address.clone()), is_hearsay: true });
    }
    Ok(candidates)
}

/// The only Pi there is, by the name under which its key is known, or by its address.
pub fn found(pi: &Pi, global: &cli::Global) -> Result<Vec<Candidate>> {
    let names = pi.says("host").map(|host| format!("{host}.local")).into_iter().chain([pi.host_name.clone()]);
    let known = names.filter_map(|name| Target::new(&name, global).ok()).find(Target::is_known);
    let candidate = |address: &String| {
        let target = match &known {
            Some(target) => target.at(address)?,
            None => Target::new(address, global)?.at(address)?,
        };
        let host = target.given.clone();
        Ok(Candidate { target, host, address: Some(address.clone()), is_hearsay: false })
    };
    pi.addresses.iter().take(MAX_TRIES).map(candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::pi::tests::pi;

    /// A file of known hosts beside which nothing is known.
    fn global(dir: &std::path::Path) -> cli::Global {
        use clap::Parser;
        let file = dir.join("known hosts").display().to_string();
        cli::Cli::parse_from(["cygnet", "discover", "--known-hosts", &file, "-o", "IdentityFile=none"]).global
    }

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIIPCFTCmQyABWhrTOOcHKmGfl0ihSoU5j+yXhCvKAd0Z";

    fn words(candidate: &Candidate) -> Vec<String> {
        let mut command = candidate.target.command();
        command.args(candidate.target.key_options().unwrap());
        command.get_args().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    /// The first value counts, ssh_config(5).
    fn strict(words: &[String]) -> &str {
        words.iter().find_map(|word| word.strip_prefix("StrictHostKeyChecking=")).unwrap()
    }

    #[test]
    fn what_is_announced_for_a_host_must_have_the_hosts_key() {
        let dir = tempfile::tempdir().unwrap();
        let global = global(dir.path());
        let pi = pi("cygnet-1", &["10.0.0.2", "fe80::1%wlan0"], &[("host", "pi")]);
        for known in [false, true] {
            if known {
                std::fs::write(dir.path().join("known hosts"), format!("pi.local ssh-ed25519 {KEY}\n")).unwrap();
            }
            let candidates = named("me@pi.local", &[&pi], &global).unwrap();
            assert_eq!(candidates.len(), 3);
            assert!(candidates.iter().all(|candidate| candidate.host == "me@pi.local"));
            // As it was given, its first key may be trusted, if `--known-hosts` says so.
            assert_eq!(strict(&words(&candidates[0])), if known { "yes" } else { "accept-new" });
            for (candidate, address) in candidates[1..].iter().zip(["10.0.0.2", "fe80::1%%wlan0"]) {
                let words = words(candidate);
                assert_eq!(strict(&words), if known { "yes" } else { "ask" }, "{words:?}");
                assert!(words.contains(&format!("HostName={address}")), "{words:?}");
                assert!(words.contains(&"HostKeyAlias=\"pi.local\"".to_owned()), "{words:?}");
                assert_eq!(candidate.target.host, "me@pi.local");
                assert!(candidate.is_hearsay);
            }
        }
    }

    #[test]
    fn many_announcements_do_not_hide_one() {
        let dir = tempfile::tempdir().unwrap();
        let spoofed = pi("pi", &["10.0.0.2", "10.0.0.3", "10.0.0.4"], &[]);
        let real = pi("cygnet-1", &["10.0.0.9"], &[("host", "pi")]);
        let candidates = named("pi.local", &[&spoofed, &real], &global(dir.path())).unwrap();
        let addresses: Vec<_> = candidates.iter().filter_map(|candidate| candidate.address.as_deref()).collect();
        assert_eq!(addresses, ["10.0.0.2", "10.0.0.9", "10.0.0.3"]);
    }

    #[test]
    fn the_only_pi_goes_by_the_name_that_its_key_is_known_by() {
        let dir = tempfile::tempdir().unwrap();
        let global = global(dir.path());
        let pi = pi("cygnet-1", &["10.0.0.2"], &[("host", "pi")]);
        let unknown = &found(&pi, &global).unwrap()[0];
        assert_eq!((unknown.host.as_str(), strict(&words(unknown))), ("10.0.0.2", "ask"));
        std::fs::write(dir.path().join("known hosts"), format!("pi.local ssh-ed25519 {KEY}\n")).unwrap();
        let known = &found(&pi, &global).unwrap()[0];
        assert_eq!((known.host.as_str(), strict(&words(known))), ("pi.local", "yes"));
    }
}
