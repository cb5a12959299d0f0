//! The syntax of ssh's options, `-o KEYWORD=VALUE` (ssh_config(5)), in one place.
//!
//! A value is split into words at white space and `#` unless it is quoted, its tokens (`%h`) are expanded, and in some options
//! environment variables, too (`${HOME}`). So a path that is given as it is means another one as soon as it has a space, a
//! quote or a percent sign.

use crate::error::fault;
use anyhow::Result;
use cygnet_protocol::fault::FaultCode;
use std::path::{Path, PathBuf};

/// Makes the value of an option that means this path and nothing else: absolute, quoted, with its percent signs doubled.
///
/// # Errors
/// The path can't be said to ssh: it has a line end, `${`, for which ssh has no escape, or bytes that are no UTF-8.
pub fn path(path: &Path) -> Result<String> {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let unsayable = |why: &str| {
        fault(
            FaultCode::BadRequest,
            format!("ssh can't be told the path {}.", path.display()),
            why,
            "Use a path without it; TMPDIR, HOME and XDG_STATE_HOME are parts of some.",
        )
    };
    let text = whole.to_str().ok_or_else(|| unsayable("It has bytes that are no UTF-8."))?;
    if text.contains("${") {
        return Err(unsayable("It has `${`, behind which ssh looks for a variable's name, whatever stands before it."));
    }
    if text.contains(['\n', '\r', '\0']) {
        return Err(unsayable("It has a line end, where an option ends."));
    }
    Ok(word(&text.replace('%', "%%")))
}

/// Quotes a value, so that it is one word.
pub fn word(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Splits a list of files as `ssh -G` prints it, without quotes: a file begins at what is absolute, or where one has ended that
/// is there.
pub fn files(text: &str) -> Vec<PathBuf> {
    let mut files: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match files.last_mut() {
            Some(last) if !word.starts_with(['/', '~']) && !Path::new(last.as_str()).is_file() => {
                last.push(' ');
                last.push_str(word);
            }
            _ => files.push(word.to_owned()),
        }
    }
    files.into_iter().filter(|file| !file.is_empty()).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// What ssh makes of the option, if there is an ssh.
    fn understood(value: &str) -> Option<String> {
        let option = format!("UserKnownHostsFile={value}");
        let output = Command::new("ssh").args(["-G", "-o", &option, "--", "x"]).stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        text.lines().find_map(|line| line.strip_prefix("userknownhostsfile ")).map(str::to_owned)
    }

    #[test]
    fn ssh_understands_each_path_as_it_is() {
        for odd in [
            "/a b/c",
            "/50%/x",
            "/%h/x",
            "/it's/x",
            "/say \"x\"/y",
            "/back\\slash/x",
            "/#no comment/x",
            "/a=b,c/~",
            "/$HOME/x",
        ] {
            let value = path(Path::new(odd)).unwrap();
            match understood(&value) {
                Some(text) => assert_eq!(text, odd, "{value}"),
                None => {
                    assert!(std::env::var_os("CYGNET_TEST_ALL").is_none(), "ssh is missing: install openssh-client");
                    eprintln!("not run: there is no ssh");
                }
            }
        }
        for bad in ["/a/${HOME}/x", "/a\nb"] {
            assert!(path(Path::new(bad)).is_err(), "{bad:?}");
        }
        assert!(path(Path::new("~x")).unwrap().ends_with("/~x\""), "a relative path is no other account's home");
    }

    #[test]
    fn lists_of_files_are_split_where_files_begin() {
        let files = |text: &str| files(text).iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            files("/home/a b/.ssh/known_hosts /home/a b/.ssh/known_hosts2"),
            ["/home/a b/.ssh/known_hosts", "/home/a b/.ssh/known_hosts2"]
        );
        assert_eq!(files("~/x /dev/null"), ["~/x", "/dev/null"]);
        assert_eq!(files("/dev/null"), ["/dev/null"]);
        assert_eq!(files(""), [""; 0]);
    }
}
