//! Which paths on the card a path of the closure may be made of: those whose name is like its own. Pure.

use cygnet_protocol::message::MAX_KIN;
use cygnet_protocol::store::{Kin, PathInfo, StorePath};
use cygnet_protocol::stream::WORTH_A_PATCH;
use std::collections::{BTreeMap, HashMap};

/// So many are named for each path: the client may not have the best of them.
const EACH: usize = 2;

/// How alike two names are, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    /// Another output of some version: `openssl-3.0.13-bin` and `openssl-3.0.15`.
    Family,
    /// Another version: `openssl-3.0.13-bin` and `openssl-3.0.15-bin`.
    Version,
    /// Nothing but the hash differs.
    Name,
}

/// Looks for the kin of some paths among all that it is shown.
pub struct Search<'a> {
    families: HashMap<&'a str, Vec<&'a StorePath>>,
    found: BTreeMap<&'a StorePath, Vec<(Likeness, PathInfo)>>,
}

impl<'a> Search<'a> {
    /// For these.
    pub fn new(paths: impl Iterator<Item = &'a StorePath>) -> Self {
        let mut families: HashMap<&str, Vec<&StorePath>> = HashMap::new();
        for path in paths {
            families.entry(family(path.name())).or_default().push(path);
        }
        Self { families, found: BTreeMap::new() }
    }

    /// Shows a path that is on the card.
    pub fn show(&mut self, info: &PathInfo) {
        let family = self.families.get(family(info.path.name())).filter(|_| info.nar_size >= WORTH_A_PATCH);
        for path in family.into_iter().flatten().filter(|path| ***path != info.path) {
            let best = self.found.entry(path).or_default();
            best.push((likeness(path.name(), info.path.name()), info.clone()));
            best.sort_by_key(|(likeness, info)| std::cmp::Reverse((*likeness, info.nar_size)));
            best.truncate(EACH);
        }
    }

    /// The kin, the most alike of each path first.
    pub fn done(self) -> Vec<Kin> {
        let kin = |path: &StorePath, base: PathInfo| Kin {
            path: path.clone(),
            base: base.path,
            nar_hash: base.nar_hash,
            nar_size: base.nar_size,
        };
        let all = self.found.into_iter();
        let mut all: Vec<Kin> = all.flat_map(|(path, best)| best.into_iter().map(move |(_, b)| kin(path, b))).collect();
        if all.len() > MAX_KIN {
            // The long ones are worth the most.
            all.sort_by_key(|kin| std::cmp::Reverse(kin.nar_size));
            all.truncate(MAX_KIN);
        }
        all
    }
}

/// The name without its version, as Nix divides it: at the first dash that no letter follows (nix-env(1), “Selectors”).
fn family(name: &str) -> &str {
    let versions = name.match_indices('-').map(|(at, _)| at);
    let mut versions = versions.filter(|at| !name[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic()));
    versions.next().map_or(name, |at| &name[..at])
}

/// The output that a name ends with: `-bin`, `-dev`, `-modules`; empty for the first.
fn output(name: &str) -> &str {
    let version = &name[family(name).len()..];
    let last = version.rsplit_once('-').map_or("", |(_, last)| last);
    if last.starts_with(|c: char| c.is_ascii_alphabetic()) { last } else { "" }
}

fn likeness(a: &str, b: &str) -> Likeness {
    match (a == b, output(a) == output(b)) {
        (true, _) => Likeness::Name,
        (false, true) => Likeness::Version,
        (false, false) => Likeness::Family,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::store::{NixHash, parse_store_path};

    fn path(hash: char, name: &str) -> StorePath {
        parse_store_path(&format!("/nix/store/{hash}c5b8vw40dy178xlpddw65q9gf1h2186-{name}")).unwrap()
    }

    fn info(hash: char, name: &str, nar_size: u64) -> PathInfo {
        PathInfo {
            path: path(hash, name),
            nar_hash: NixHash::Sha256([0; 32]),
            nar_size,
            references: vec![],
            deriver: None,
            signatures: vec![],
            ca: None,
        }
    }

    #[test]
    fn names_are_divided_as_nix_divides_them() {
        for (name, family_, output_) in [
            ("openssl-3.0.13-bin", "openssl", "bin"),
            ("linux-6.6.30-modules", "linux", "modules"),
            ("linux-6.6.30", "linux", ""),
            ("nixos-system-pi-26.05pre", "nixos-system-pi", ""),
            ("etc", "etc", ""),
            ("unit-sshd.service", "unit-sshd.service", ""),
            ("x-", "x", ""),
        ] {
            assert_eq!((family(name), output(name)), (family_, output_), "{name}");
        }
    }

    #[test]
    fn the_most_alike_come_first_and_small_ones_and_strangers_not_at_all() {
        let wanted = [path('0', "glibc-2.40-bin"), path('0', "zlib-1.3"), path('0', "etc")];
        let mut search = Search::new(wanted.iter());
        for info in [
            info('1', "glibc-2.39", 40_000_000),
            info('1', "glibc-2.39-bin", 2_000_000),
            info('1', "glibc-2.40-bin", 1_000_000),
            info('0', "zlib-1.3", 100_000),
            info('1', "zlib-1.2", 9_000),
            info('1', "bash-5", 900_000),
        ] {
            search.show(&info);
        }
        let kin = search.done();
        let text: Vec<_> = kin.iter().map(|kin| (kin.path.name(), kin.base.name())).collect();
        assert_eq!(text, [("glibc-2.40-bin", "glibc-2.40-bin"), ("glibc-2.40-bin", "glibc-2.39-bin")]);
    }
}
