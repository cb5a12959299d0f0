//! Whose home it is: the person's, too, if it is sudo who runs us, because a disk wants root.

use super::medium::is_root;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The most bytes of an account's name.
const MAX_NAME: usize = 256;
/// Where macOS keeps an account's home (DirectoryService(8)).
const ATTRIBUTE: &str = "NFSHomeDirectory";

/// Somebody who has let sudo run us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The account's name.
    pub name: String,
    /// Its number.
    pub user: u32,
    /// The number of its group.
    pub group: u32,
}

/// The person behind sudo, as sudo(8) tells in the environment; `None` if there is none, or it is root.
pub fn behind_sudo() -> Option<Person> {
    let said = |name: &str| std::env::var(name).ok();
    person(is_root(), said("SUDO_USER")?, &said("SUDO_UID")?, &said("SUDO_GID")?)
}

fn person(root: bool, name: String, user: &str, group: &str) -> Option<Person> {
    let person = Person { name, user: user.parse().ok()?, group: group.parse().ok()? };
    (root && person.user != 0 && is_name(&person.name)).then_some(person)
}

/// The person's home directory.
pub fn home() -> Option<PathBuf> {
    let own = || std::env::var_os("HOME").map(PathBuf::from);
    match behind_sudo() {
        Some(person) => look_up(&person.name).filter(|home| home.is_dir()).or_else(own),
        None => own(),
    }
}

/// Whether it may be an account's name, also one of a domain (`me@example.org`, `EXAMPLE\me`): nothing that a tool would
/// take for an option or for the path of something else.
fn is_name(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "._-@+\\".contains(c);
    (1..=MAX_NAME).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(known)
}

/// What this system has of the account, wherever it keeps its accounts.
fn look_up(user: &str) -> Option<PathBuf> {
    if cfg!(target_os = "macos") {
        in_record(&said("dscl", &[".", "-read", &format!("/Users/{user}"), ATTRIBUTE])?)
    } else {
        in_passwd(&said("getent", &["passwd", user])?, user)
    }
}

/// What a tool says that succeeds.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Of a line as in passwd(5), as getent(1) has it.
fn in_passwd(text: &str, user: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| match line.split(':').collect::<Vec<_>>().as_slice() {
        // A name of digits is a number for getent, and the account that of somebody else.
        [name, _, _, _, _, home, _] if *name == user => absolute(home),
        _ => None,
    })
}

/// Of what dscl(1) says: values one behind the other, or, if one of them has spaces, each on a line of its own.
fn in_record(text: &str) -> Option<PathBuf> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(ATTRIBUTE));
    let values = lines.next()?.strip_prefix(ATTRIBUTE)?.strip_prefix(':')?;
    match values.split_whitespace().next() {
        Some(home) => absolute(home),
        None => absolute(lines.next()?.strip_prefix(' ')?),
    }
}

fn absolute(path: &str) -> Option<PathBuf> {
    Some(PathBuf::from(path)).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_getent_says() {
        let text = "me:x:1000:1000:Me, Myself,,:/home/me:/bin/bash\n";
        assert_eq!(in_passwd(text, "me"), Some("/home/me".into()));
        let domain = "EXAMPLE\\me:*:70001:70001::/home/EXAMPLE/my self:/bin/sh\n";
        assert_eq!(in_passwd(domain, "EXAMPLE\\me"), Some("/home/EXAMPLE/my self".into()));
        for (text, user) in
            [(text, "1000"), (text, "m"), ("", "me"), ("me:x:1:1::relative:/bin/sh\n", "me"), ("me:/home/me\n", "me")]
        {
            assert_eq!(in_passwd(text, user), None, "{text}{user}");
        }
    }

    #[test]
    fn what_dscl_says() {
        for (text, home) in [
            ("NFSHomeDirectory: /Users/me\n", Some("/Users/me")),
            ("NFSHomeDirectory: /var/root /private/var/root\n", Some("/var/root")),
            ("NFSHomeDirectory:\n /Volumes/My Disk/me\n", Some("/Volumes/My Disk/me")),
            ("No such key: NFSHomeDirectory\n", None),
            ("NFSHomeDirectory:\n", None),
            ("NFSHomeDirectory:\nRecordName: me\n", None),
            ("NFSHomeDirectory: 99\n", None),
            ("", None),
        ] {
            assert_eq!(in_record(text), home.map(PathBuf::from), "{text}");
        }
    }

    #[test]
    fn names_are_no_options_and_no_paths() {
        for good in ["me", "_www", "me.too-2", "me@example.org", "EXAMPLE\\me", "1000"] {
            assert!(is_name(good), "{good}");
        }
        let long = "a".repeat(MAX_NAME + 1);
        for bad in ["", "-s", "--help", "..", "../root", "a/b", "a:b", "a b", "a\n", "$(id)", "me;id", "é", &long] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_person_is_no_root() {
        let who = |root, name: &str, user: &str, group: &str| person(root, name.to_owned(), user, group);
        assert_eq!(who(true, "me", "1000", "100"), Some(Person { name: "me".into(), user: 1000, group: 100 }));
        for (root, name, user) in
            [(false, "me", "1000"), (true, "root", "0"), (true, "me", "x"), (true, "../me", "1000")]
        {
            assert_eq!(who(root, name, user, "100"), None);
        }
    }

    #[test]
    fn nobody_is_asked_who_is_not_there() {
        assert_eq!(look_up("no-such-account-of-cygnet"), None);
    }
}
