//! The card's users and groups, from what its packages declare.
//!
//! Maintainer scripts would make them; we don't run any, because on this host they would be emulated.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// The highest number given to a declared user or group that doesn't ask for one.
const HIGHEST_FREE: u32 = 997;

/// Writes `/etc/passwd`, `group`, `shadow` and `gshadow` under `root`.
///
/// # Errors
/// If `base-passwd` isn't unpacked there or the files can't be written.
pub fn write(root: &Path) -> Result<()> {
    let master = |name: &str| {
        let path = root.join("usr/share/base-passwd").join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let mut tables = Tables::new(&master("passwd.master")?, &master("group.master")?);
    for text in declarations(root)? {
        tables.declare(&text);
    }
    let etc = root.join("etc");
    put(&etc.join("passwd"), &tables.passwd(), 0o644)?;
    put(&etc.join("group"), &tables.group(), 0o644)?;
    // "*" is no password that could be typed; keys are still welcome.
    put(&etc.join("shadow"), &tables.shadow(), 0o640)?;
    put(&etc.join("gshadow"), "", 0o640)
}

/// The texts of all sysusers.d(5) files, in their order.
fn declarations(root: &Path) -> Result<Vec<String>> {
    let dir = root.join("usr/lib/sysusers.d");
    let mut files = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))? {
        files.push(entry.context("reading a directory entry")?.path());
    }
    files.sort();
    files.iter().map(|file| fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))).collect()
}

fn put(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", path.display()))
}

/// passwd(5) and group(5) lines by name.
struct Tables {
    users: BTreeMap<String, String>,
    groups: BTreeMap<String, u32>,
    next: u32,
}

impl Tables {
    fn new(passwd: &str, group: &str) -> Tables {
        let users =
            passwd.lines().filter_map(|line| Some((line.split(':').next()?.to_owned(), line.to_owned()))).collect();
        let groups = group
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(':');
                Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
            })
            .collect();
        Tables { users, groups, next: HIGHEST_FREE }
    }

    /// Takes over the `u` and `g` lines of one sysusers.d(5) file.
    fn declare(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(kind), Some(name)) = (words.next(), words.next()) else {
                continue;
            };
            let asked = words.next().unwrap_or("-");
            match kind.trim_end_matches('!') {
                "g" => {
                    self.group_id(name, asked);
                }
                "u" if !self.users.contains_key(name) => self.add_user(name, asked),
                _ => {}
            }
        }
    }

    fn add_user(&mut self, name: &str, asked: &str) {
        let (uid, group) = asked.split_once(':').unwrap_or((asked, name));
        let gid = match group.parse() {
            Ok(number) => number,
            Err(_) => self.group_id(group, uid),
        };
        let uid = uid.parse().unwrap_or_else(|_| match self.groups.get(name) {
            Some(&same) => same,
            None => self.free(),
        });
        self.users.insert(name.to_owned(), format!("{name}:x:{uid}:{gid}:{name}:/nonexistent:/usr/sbin/nologin"));
    }

    fn group_id(&mut self, name: &str, asked: &str) -> u32 {
        if let Some(&known) = self.groups.get(name) {
            return known;
        }
        let number = asked.parse().unwrap_or_else(|_| self.free());
        self.groups.insert(name.to_owned(), number);
        number
    }

    fn free(&mut self) -> u32 {
        let number = self.next;
        self.next -= 1;
        number
    }

    fn passwd(&self) -> String {
        self.users.values().fold(String::new(), |text, line| {
            let line = line.replacen(":*:", ":x:", 1);
            text + &line + "\n"
        })
    }

    fn group(&self) -> String {
        self.groups.iter().fold(String::new(), |text, (name, id)| text + &format!("{name}:x:{id}:\n"))
    }

    fn shadow(&self) -> String {
        self.users.keys().fold(String::new(), |text, name| text + &format!("{name}:*:20000:0:99999:7:::\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_users_get_free_numbers_and_known_ones_stay() {
        let mut tables = Tables::new("root:*:0:0:root:/root:/bin/bash\n", "root:*:0:\nnogroup:*:65534:\n");
        tables.declare(
            "# comment\nu! systemd-network - \"Network\"\nu sshd -:nogroup \"sshd\" /run/sshd\ng kvm -\nu root 0\n",
        );
        let passwd = tables.passwd();
        assert!(passwd.contains("root:x:0:0:root:/root:/bin/bash\n"), "{passwd}");
        assert!(passwd.contains("systemd-network:x:997:997:"), "{passwd}");
        assert!(passwd.contains("sshd:x:996:65534:"), "{passwd}");
        assert!(tables.group().contains("kvm:x:995:\n"));
        assert_eq!(tables.shadow().lines().count(), 3);
    }
}
