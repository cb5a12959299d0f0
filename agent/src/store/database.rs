//! What the Nix database of a target that was there before has, read out by `nix-store --dump-db` (nix-store(1)).
//!
//! Nix knows its schema; a store path at a time is held here, however many there are.

use crate::run::tool::{self, Complaints, Output, Tool};
use crate::run::{Cancel, TO_LET_GO, aborted, command, printable};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::store::{NixHash, PathInfo, StorePath, parse_store_path};
use sha2::{Digest, Sha256};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// The longest line that a dump may have, bytes. A store path has 255 at most.
const MAX_LINE: u64 = 4096;
/// The most references that a path may have.
const MAX_REFERENCES: usize = 65_536;
/// How much of what nix-store complains of is read, bytes.
const MAX_COMPLAINT: usize = 64 * 1024;
/// How long it may be silent: it reads all of the database before it says anything.
const SILENCE: Duration = Duration::from_secs(600);

/// Where the target's database is.
pub fn directory(target: &Path) -> PathBuf {
    target.join("nix/var/nix/db")
}

/// Whether the target has a database. Without this file the others in its directory are of no use, not even to Nix.
pub fn is_there(target: &Path) -> bool {
    directory(target).join("db.sqlite").symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() > 0)
}

/// The store of the target, as Nix's programs are told it.
pub fn store(target: &Path) -> String {
    format!("local?root={}", target.display())
}

/// Calls `visit` with every path that is registered in the target's database.
pub fn registered(target: &Path, cancel: &Cancel, visit: &mut dyn FnMut(PathInfo)) -> Result<(), Fault> {
    let failed = |said: &str| unreadable(target, said);
    cancel.check().map_err(|_| aborted())?;
    let mut dump = command("nix-store");
    dump.args(["--dump-db", "--store", &store(target)]).stdout(Stdio::piped()).stderr(Stdio::piped());
    if tool::hangs(&dump) {
        return Err(failed("an earlier nix-store still hangs in the kernel"));
    }
    let started_not = |error: &dyn std::fmt::Display| failed(&format!("nix-store could not be started: {error}"));
    let mut tool = Tool::start(&mut dump).map_err(|error| started_not(&error))?;
    let (stdout, stderr) = tool.child().map(|child| (child.stdout.take(), child.stderr.take())).unwrap_or((None, None));
    let said = Complaints::of(stderr, MAX_COMPLAINT);
    let read = match stdout.map(|stdout| Output::new(stdout, SILENCE, cancel)) {
        Some(output) => output.and_then(|output| parse(&mut BufReader::new(output), visit)),
        None => Err(io::Error::other("it has no output")),
    };
    if read.is_err() {
        // It would go on writing to nobody.
        tool.kill();
    }
    let status = tool.wait(TO_LET_GO);
    cancel.check().map_err(|_| aborted())?;
    match (status, read) {
        (Ok(Some(status)), Ok(())) if status.success() => Ok(()),
        (Ok(_), Err(error)) => Err(failed(&error.to_string())),
        (Ok(status), Ok(())) => {
            let said = gist(&said.text());
            let how = status
                .map_or_else(|| "nix-store does not end".into(), |status| format!("nix-store ended with {status}"));
            Err(failed(if said.is_empty() { &how } else { &said }))
        }
        (Err(error), _) => Err(failed(&error.to_string())),
    }
}

/// What a program of Nix complains of: the lines from its first error on, without its warnings.
fn gist(said: &[u8]) -> String {
    let lines = said.split(|byte| *byte == b'\n').map(printable).filter(|line| !line.trim().is_empty());
    let lines: Vec<String> = lines.filter(|line| !line.starts_with("warning:")).take(8).collect();
    lines.join(" | ").trim_start_matches("error: ").to_owned()
}

/// The fault of a database that Nix cannot read; `said` is its complaint.
pub fn unreadable(target: &Path, said: &str) -> Fault {
    let directory = directory(target);
    let directory = directory.display();
    // libstore/local-store.cc: “current Nix store schema is version 11, but I only support 10”.
    let newer = said.contains("store schema is version") && said.contains("only support");
    let (cause, remedy) = if newer {
        (
            "The Nix of the kept system is newer than the one on the card.".to_owned(),
            "Flash the card with a bootstrap image that has a Nix as new as that; or make the file systems anew, which \
             destroys what is on them, with the mode destroy,format,mount."
                .to_owned(),
        )
    } else {
        (
            "It is damaged, or no Nix database.".to_owned(),
            format!(
                "Mend it with the kept system's own Nix (`nix-store --verify`). Or remove {directory} on the mounted \
                 target: it is made anew then, but older generations are not registered any more. Or make the file \
                 systems anew, which destroys what is on them, with the mode destroy,format,mount."
            ),
        )
    };
    let said = said.trim_end_matches('.');
    Fault::new(
        FaultCode::StepFailed,
        format!("The Nix database that is on the disks, {directory}, cannot be used: {said}."),
        cause,
        remedy,
    )
}

/// Reads what `--dump-db` prints (libstore/store-api.cc, `makeValidityRegistration`): path, NAR hash in base 16, NAR
/// size, deriver or nothing, number of references, references.
pub fn parse(reader: &mut impl BufRead, visit: &mut dyn FnMut(PathInfo)) -> io::Result<()> {
    while let Some(path) = line(reader)? {
        let hash = format!("sha256:{}", must(reader)?);
        let nar_hash = NixHash::parse(&hash).map_err(|error| bad(&path, error))?;
        let nar_size = must(reader)?.parse().map_err(|error| bad(&path, error))?;
        let deriver = must(reader)?;
        let count: usize = must(reader)?.parse().map_err(|error| bad(&path, error))?;
        if count > MAX_REFERENCES {
            return Err(bad(&path, format!("{count} references")));
        }
        let mut references: Result<Vec<StorePath>, String> = Ok(Vec::new());
        for _ in 0..count {
            match (parse_store_path(&must(reader)?), &mut references) {
                (Ok(path), Ok(list)) => list.push(path),
                (Err(error), _) => references = Err(error),
                (Ok(_), Err(_)) => {}
            }
        }
        // A name that is none to us is at most one that we don't ask for.
        if let (Ok(path), Ok(references)) = (parse_store_path(&path), references) {
            let deriver = parse_store_path(&deriver).ok();
            visit(PathInfo { path, nar_hash, nar_size, references, deriver, signatures: Vec::new(), ca: None });
        }
    }
    Ok(())
}

fn bad(path: &str, what: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("what nix-store tells of {path} cannot be understood: {what}"))
}

fn must(reader: &mut impl BufRead) -> io::Result<String> {
    line(reader)?.ok_or_else(|| io::Error::other("what nix-store tells ends in the middle"))
}

fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut text = Vec::new();
    reader.take(MAX_LINE).read_until(b'\n', &mut text)?;
    match text.pop() {
        None => Ok(None),
        Some(b'\n') => String::from_utf8(text).map(Some).map_err(io::Error::other),
        Some(_) => Err(io::Error::other("what nix-store tells is cut off, or has an endless line")),
    }
}

/// Stands for what a database has of a path: two with the same one need not be registered again.
///
/// That matters, because `--load-db` takes away signatures and content addresses of what is registered already.
pub fn key(info: &PathInfo) -> [u8; 32] {
    let mut references: Vec<String> = info.references.iter().map(StorePath::to_absolute_path).collect();
    references.sort();
    references.dedup();
    let mut hash = Sha256::new();
    hash.update(info.path.to_absolute_path());
    hash.update([0]);
    hash.update(info.nar_hash.digest_as_bytes());
    hash.update(info.nar_size.to_le_bytes());
    for reference in references {
        hash.update(reference);
        hash.update([0]);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-a";
    const B: &str = "/nix/store/1c5b8vw40dy178xlpddw65q9gf1h2186-b";
    const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn parsed(text: &str) -> io::Result<Vec<PathInfo>> {
        let mut infos = Vec::new();
        parse(&mut text.as_bytes(), &mut |info| infos.push(info)).map(|()| infos)
    }

    #[test]
    fn a_dump_is_read_as_a_registration_is_written() {
        let text = format!("{A}\n{HASH}\n120\n\n0\n{B}\n{HASH}\n7\n{A}.drv\n2\n{A}\n{B}\n");
        let infos = parsed(&text).unwrap();
        assert_eq!(infos.iter().map(PathInfo::registration).collect::<String>(), text);
        assert!(parsed("").unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_a_dump_is_an_error() {
        for bad in [
            format!("{A}\n"),
            format!("{A}\n{HASH}\n120\n\n1\n"),
            format!("{A}\n{HASH}\n120\n\n0"),
            format!("{A}\nba78\n120\n\n0\n"),
            format!("{A}\n{HASH}\nmany\n\n0\n"),
            format!("{A}\n{HASH}\n120\n\n65537\n"),
            format!("{A}{}\n{HASH}\n120\n\n0\n", "x".repeat(5000)),
        ] {
            assert!(parsed(&bad).is_err(), "{bad}");
        }
        let strange = format!("/elsewhere/a\n{HASH}\n1\n\n0\n{B}\n{HASH}\n7\n\n1\n/elsewhere/a\n{A}\n{HASH}\n1\n\n0\n");
        let infos = parsed(&strange).unwrap();
        assert_eq!(infos.iter().map(|info| info.path.to_absolute_path()).collect::<Vec<_>>(), [A]);
    }

    #[test]
    fn a_key_is_that_of_the_same_record() {
        let one = parsed(&format!("{B}\n{HASH}\n7\n{A}.drv\n2\n{A}\n{B}\n")).unwrap().remove(0);
        let turned = PathInfo {
            references: one.references.iter().rev().chain(&one.references).cloned().collect(),
            deriver: None,
            ..one.clone()
        };
        assert_eq!(key(&one), key(&turned));
        assert_ne!(key(&one), key(&PathInfo { nar_size: 8, ..one.clone() }));
        assert_ne!(key(&one), key(&PathInfo { references: one.references[..1].to_vec(), ..one.clone() }));
    }

    #[test]
    fn a_newer_nix_is_told_from_a_damaged_database() {
        let said = gist(
            b"warning: the group 'nixbld' does not exist\n\
              error: current Nix store schema is version 11, but I only support 10\n",
        );
        let fault = unreadable(Path::new("/mnt"), &said);
        assert!(fault.what.ends_with("cannot be used: current Nix store schema is version 11, but I only support 10."));
        assert!(fault.cause.contains("newer") && fault.remedy.contains("Flash"), "{fault}");
        let damaged = unreadable(Path::new("/mnt"), "file is not a database");
        assert!(damaged.cause.contains("damaged") && damaged.remedy.contains("/mnt/nix/var/nix/db"), "{damaged}");
    }
}
