//! Nix's own configuration (nix.conf(5)), as far as it says which caches there are and which keys are trusted. Pure.

use std::collections::VecDeque;

/// The key that Nix trusts where its configuration names none (libstore/globals.hh, `trusted-public-keys`).
pub const DEFAULT_KEY: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
/// The cache that Nix uses where its configuration names none (libstore/globals.hh, `substituters`).
pub const DEFAULT_SUBSTITUTER: &str = "https://cache.nixos.org/";

/// How many files may be included, so that two that include each other come to an end.
const MAX_FILES: usize = 64;

/// What a configuration says of signatures and caches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NixConf {
    /// `trusted-public-keys`, each `name:base64`.
    pub trusted_public_keys: Vec<String>,
    /// `substituters`, each a URL.
    pub substituters: Vec<String>,
}

impl Default for NixConf {
    fn default() -> Self {
        Self { trusted_public_keys: vec![DEFAULT_KEY.to_owned()], substituters: vec![DEFAULT_SUBSTITUTER.to_owned()] }
    }
}

impl NixConf {
    /// Reads the text of a nix.conf as Nix does (libutil/config.cc, `applyConfig`): `name = value`, `#` begins a comment,
    /// `extra-name` adds to what there is, a later line replaces an earlier one, `include` reads another file.
    ///
    /// `file` gives the text of a file that is included, by the path that stands there; `None` if it can't be had.
    /// Lines that Nix would refuse say nothing.
    pub fn read(text: &str, mut file: impl FnMut(&str) -> Option<String>) -> Self {
        let mut conf = Self::default();
        let mut files = 0;
        // Included lines come in the place of the line that includes them.
        let mut lines: VecDeque<String> = text.lines().map(str::to_owned).collect();
        while let Some(line) = lines.pop_front() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("include" | "!include"), Some(path)) if files < MAX_FILES => {
                    files += 1;
                    for line in file(path).unwrap_or_default().lines().rev() {
                        lines.push_front(line.to_owned());
                    }
                }
                (Some(name), Some("=")) => conf.set(name, words),
                _ => {}
            }
        }
        conf
    }

    fn set<'a>(&mut self, name: &str, words: impl Iterator<Item = &'a str>) {
        let (extra, name) = match name.strip_prefix("extra-") {
            Some(name) => (true, name),
            None => (false, name),
        };
        let list = match name {
            // The second names are what Nix before 2.0 called them (`Setting`'s aliases).
            "trusted-public-keys" | "binary-cache-public-keys" => &mut self.trusted_public_keys,
            "substituters" | "binary-caches" => &mut self.substituters,
            _ => return,
        };
        if !extra {
            list.clear();
        }
        for word in words {
            if !list.iter().any(|known| known == word) {
                list.push(word.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> NixConf {
        NixConf::read(text, |_| None)
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        assert_eq!(read(""), NixConf::default());
        assert_eq!(read("# trusted-public-keys = a:b\nsandbox = true\nsubstituters\n=\n"), NixConf::default());
    }

    #[test]
    fn a_later_line_replaces_and_an_extra_one_adds() {
        let conf = read("trusted-public-keys = a:1 b:2\nextra-trusted-public-keys = c:3 a:1 # more\n");
        assert_eq!(conf.trusted_public_keys, ["a:1", "b:2", "c:3"]);
        assert_eq!(read("substituters = https://a https://b\nsubstituters =\n").substituters, [""; 0]);
        let conf = read("extra-substituters = http://mine\n");
        assert_eq!(conf.substituters, [DEFAULT_SUBSTITUTER, "http://mine"]);
    }

    #[test]
    fn included_files_are_read_where_they_stand_and_never_for_ever() {
        let files = |path: &str| match path {
            "keys.conf" => Some("trusted-public-keys = x:1\n".to_owned()),
            "loop.conf" => Some("extra-trusted-public-keys = l:1\ninclude loop.conf\n".to_owned()),
            _ => None,
        };
        let text =
            "trusted-public-keys = a:1\ninclude keys.conf\n!include gone.conf\nextra-trusted-public-keys = b:2\n";
        assert_eq!(NixConf::read(text, files).trusted_public_keys, ["x:1", "b:2"]);
        assert_eq!(NixConf::read("include loop.conf\n", files).trusted_public_keys, [DEFAULT_KEY, "l:1"]);
    }
}
