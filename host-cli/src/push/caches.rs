//! `--substitute` and `--substituter`: the Pi fetches from binary caches what they have, and only the rest is sent.

use super::Counters;
use super::sender::Item;
use crate::cli;
use crate::control::{Control, unexpected};
use crate::nix::Closure;
use crate::ui::Ui;
use anyhow::Result;
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::frame::PATHS_PER_QUERY;
use cygnet_protocol::message::{Reply, Request, SUBSTITUTE};
use cygnet_protocol::nix_conf::NixConf;
use cygnet_protocol::store::StorePath;
use cygnet_protocol::substituter::Substituter;
use cygnet_protocol::trust::Keys;
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::Ordering;

/// The caches that the Pi is to ask, and the keys whose signatures count there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caches {
    urls: Vec<String>,
    keys: Vec<String>,
}

impl Caches {
    /// Those that are given; without any, and with `--substitute`, those that the system itself is going to use.
    pub fn find(ui: &Ui, arguments: &cli::Trusted, closure: &Closure) -> Result<Option<Self>> {
        if !arguments.substitute && arguments.substituters.is_empty() {
            return Ok(None);
        }
        let conf = configuration(&closure.directory());
        let (caches, left_out) = choose(arguments, &conf)?;
        for why in left_out {
            ui.status(&format!("A substituter of the system's nix.conf is left out: {why}."));
        }
        if caches.urls.is_empty() {
            ui.status("The system's nix.conf names no cache that the Pi could ask; all is sent.");
            return Ok(None);
        }
        ui.status(&format!("Caches: {}", caches.urls.join(", ")));
        Ok(Some(caches))
    }

    /// Has the Pi fetch what it can of `missing`, and takes that out. True if nothing is left to do, because the system itself
    /// came so: then the installation has gone on already.
    pub fn ask(
        &self,
        control: &mut Control,
        closure: &Closure,
        missing: &mut Vec<Item<'_>>,
        counters: &Counters,
    ) -> Result<bool> {
        if missing.is_empty() {
            return Ok(false);
        }
        control.must_have(SUBSTITUTE)?;
        let mut there: HashSet<StorePath> = HashSet::new();
        for batch in missing.chunks(PATHS_PER_QUERY) {
            let request = Request::Substitute {
                paths: batch.iter().map(|item| item.info.path.clone()).collect(),
                substituters: self.urls.clone(),
                public_keys: self.keys.clone(),
            };
            match control.request(&request)? {
                Reply::Substituted { paths, fetched, nar_bytes, wire_bytes } => {
                    there.extend(paths);
                    counters.fetched.fetch_add(fetched, Ordering::Relaxed);
                    counters.fetched_nar.fetch_add(nar_bytes, Ordering::Relaxed);
                    counters.fetched_wire.fetch_add(wire_bytes, Ordering::Relaxed);
                }
                other => return Err(unexpected("substituted", &other)),
            }
        }
        missing.retain(|item| !there.contains(&item.info.path));
        Ok(there.contains(&closure.toplevel))
    }
}

/// The nix.conf of the system that is installed; without one, Nix has defaults.
fn configuration(toplevel: &Path) -> NixConf {
    let directory = toplevel.join("etc/nix");
    let text = std::fs::read_to_string(directory.join("nix.conf")).unwrap_or_default();
    NixConf::read(&text, |path| std::fs::read_to_string(directory.join(path)).ok())
}

/// The caches, and why others of the configuration are none of them.
fn choose(arguments: &cli::Trusted, conf: &NixConf) -> Result<(Caches, Vec<String>), Fault> {
    let mut caches = Caches { urls: Vec::new(), keys: arguments.trusted_public_keys.clone() };
    let mut left_out = Vec::new();
    for url in &arguments.substituters {
        let cache = Substituter::parse(url).map_err(|why| {
            Fault::new(
                FaultCode::BadRequest,
                format!("--substituter names no cache that the Pi can ask: {why}."),
                "The Pi fetches with curl; of Nix's kinds of stores only http:// and https:// are possible.",
                "Give the URL of an HTTP binary cache, such as https://cache.nixos.org.",
            )
        })?;
        caches.urls.push(cache.to_string());
    }
    if arguments.substituters.is_empty() {
        for url in &conf.substituters {
            match Substituter::parse(url) {
                Ok(cache) => caches.urls.push(cache.to_string()),
                Err(why) => left_out.push(why),
            }
        }
    }
    // The system trusts them as soon as it runs.
    let usable = conf.trusted_public_keys.iter().filter(|key| Keys::parse([key.as_str()]).is_ok());
    caches.keys.extend(usable.cloned());
    caches.keys.dedup();
    Ok((caches, left_out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::nix_conf::{DEFAULT_KEY, DEFAULT_SUBSTITUTER};
    use cygnet_protocol::trust::Policy;

    const KEY: &str = "mine-1:wG9VDRQ4d8PjuUxvpAz97sRVPpZkgr9zydzn8dID60s=";

    fn given(substituters: &[&str], keys: &[&str]) -> cli::Trusted {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        cli::Trusted {
            trust: Policy::Operator,
            trusted_public_keys: owned(keys),
            substitute: true,
            substituters: owned(substituters),
        }
    }

    #[test]
    fn the_system_s_own_caches_unless_others_are_given() {
        let conf = NixConf::read(
            &format!("extra-substituters = s3://bucket http://nas:5000/\nextra-trusted-public-keys = {KEY} bad:AA\n"),
            |_| None,
        );
        let (caches, left_out) = choose(&given(&[], &[]), &conf).unwrap();
        assert_eq!(caches.urls, [DEFAULT_SUBSTITUTER.trim_end_matches('/'), "http://nas:5000"]);
        assert_eq!((caches.keys.as_slice(), left_out.len()), (&[DEFAULT_KEY.to_owned(), KEY.to_owned()][..], 1));
        let (caches, _) = choose(&given(&["http://[::1]:80/x/"], &[KEY]), &NixConf::default()).unwrap();
        assert_eq!(
            caches,
            Caches { urls: vec!["http://[::1]:80/x".into()], keys: vec![KEY.into(), DEFAULT_KEY.into()] }
        );
        assert_eq!(choose(&given(&["ssh://host"], &[]), &conf).unwrap_err().code, FaultCode::BadRequest);
    }

    #[test]
    fn the_configuration_is_the_new_system_s() {
        let system = tempfile::tempdir().unwrap();
        assert_eq!(configuration(system.path()), NixConf::default());
        std::fs::create_dir_all(system.path().join("etc/nix")).unwrap();
        std::fs::write(system.path().join("etc/nix/nix.conf"), "substituters = https://a\n!include b.conf\n").unwrap();
        std::fs::write(system.path().join("etc/nix/b.conf"), "extra-substituters = https://b\n").unwrap();
        assert_eq!(configuration(system.path()).substituters, ["https://a", "https://b"]);
    }
}
