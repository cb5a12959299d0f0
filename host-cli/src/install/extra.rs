//! The directory that `--extra-files` names, as the archive that goes to the agent.
//!
//! All of it is read, and refused if need be, before anything is sent, and kept as it was read: what is sent once more after a
//! lost connection is the same. No message has anything of what is in a file.

use super::decide::Decision;
use crate::control::Control;
use crate::error::fault;
use crate::ui::Ui;
use anyhow::{Context, Result};
use cygnet_protocol::extra::{Checker, Count, Entry, ExtraFiles, MAX_BYTES, MAX_ENTRIES, MAX_PIECE, Unfit};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::frame;
use cygnet_protocol::message::Request;
use cygnet_protocol::secret::Secret;
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The permissions that are taken over. Setuid, setgid and sticky bits are not: they mean something for the owner and the
/// programs here, and there the owner is root.
const PERMISSIONS: u32 = 0o777;

/// What `--extra-files` has given.
#[derive(Debug)]
pub struct Extra {
    archive: Secret,
    named: ExtraFiles,
}

impl Extra {
    /// Reads the directory.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut walk = Walk { root: directory, checker: Checker::default(), found: Vec::new() };
        walk.enter(directory, "")?;
        let count = walk.checker.count();
        if walk.found.is_empty() {
            return Err(bad(
                format!("There is nothing in {}, from which the extra files should come.", directory.display()),
                "It is another directory than was meant, or is filled later.",
                "Give the directory whose tree is to be laid over the root: DIR/etc/x becomes /etc/x.",
            ));
        }
        // All at once: a growing buffer would leave pieces of it behind.
        let lengths = walk.found.iter().map(|found| found.line.len() as u64 + found.size);
        let mut archive = Vec::with_capacity(usize::try_from(lengths.sum::<u64>()).unwrap_or_default());
        let filled = walk.found.iter().try_for_each(|found| found.append(&mut archive));
        // From here on it is overwritten when it is dropped.
        let archive = Secret::new(archive);
        filled?;
        let named = ExtraFiles { id: RandomState::new().hash_one(std::process::id()), count };
        Ok(Self { archive, named })
    }

    /// How `install` names them.
    pub fn named(&self) -> ExtraFiles {
        self.named.clone()
    }

    /// How many they are.
    pub fn count(&self) -> Count {
        self.named.count
    }

    /// Brings them to the agent, which forgets them if no `install` follows on this connection.
    pub fn send(&self, ui: &Ui, control: &mut Control) -> Result<()> {
        ui.status(&format!("Sending the extra files: {} …", self.count()));
        self.pieces().try_for_each(|piece| control.accepted(&piece).map(drop))
    }

    /// The archive in pieces, each made when it is sent.
    fn pieces(&self) -> impl Iterator<Item = Request> {
        let (id, archive) = (self.named.id, self.archive.expose());
        let total = archive.len() as u64;
        archive.chunks(MAX_PIECE).scan(0, move |next, piece| {
            let at = *next;
            *next += piece.len() as u64;
            Some(Request::ExtraFiles { id, at, total, bytes: Secret::new(piece.to_vec()) })
        })
    }
}

/// Sees whether these go with an installation that was begun before, with those that are `there`.
pub fn goes_with(decision: &Decision, there: Option<Count>, ours: Option<Count>) -> Result<()> {
    let named = |count: Option<Count>| count.map_or("none".to_owned(), |count| count.to_string());
    match decision {
        Decision::Attach { .. } if ours.is_some() && ours != there => Err(bad(
            format!(
                "The installation that runs was begun with other extra files: {} there, {} here.",
                named(there),
                named(ours)
            ),
            "Another command has begun it, or the directory has changed since.",
            "Leave `--extra-files` out to follow it; or stop it with `cygnet abort HOST`, and give the same command again.",
        )),
        Decision::GoOn { .. } if there.is_some() && ours.is_none() => Err(bad(
            format!(
                "The interrupted installation was begun with extra files ({}), and none are given now.",
                named(there)
            ),
            "The agent keeps them in memory only, and does not go on without them.",
            "Give `--extra-files DIR` again; or begin anew without them, with `--fresh`. Nothing was changed on the Pi.",
        )),
        Decision::Begin | Decision::GoOn { .. } | Decision::Attach { .. } => Ok(()),
    }
}

/// Something in the directory.
struct Found {
    line: Vec<u8>,
    size: u64,
    /// Where it is, if it is a file.
    source: Option<PathBuf>,
    path: String,
}

struct Walk<'a> {
    root: &'a Path,
    checker: Checker,
    found: Vec<Found>,
}

impl Walk<'_> {
    /// Notes what is in this directory, in the archive's order; `path` is its own, from the root on.
    fn enter(&mut self, directory: &Path, path: &str) -> Result<()> {
        let unreadable = |error: io::Error| {
            bad(
                format!("The directory {} with extra files can't be read: {error}.", directory.display()),
                "It is not there, is none, or is not readable for you.",
                "Give a directory that you can read all of.",
            )
        };
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if entries.len() as u64 > MAX_ENTRIES {
                // Enough to know; the names of a directory without an end are not collected.
                return Err(Fault::from(Unfit::TooMany { path: entry.path().display().to_string() }).into());
            }
            entries.push((entry.file_name(), entry));
        }
        // By bytes, as in the archive.
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (name, entry) in entries {
            let source = entry.path();
            let Some(name) = name.to_str() else {
                return Err(bad(
                    format!("The extra file {} has a name that is not UTF-8.", source.display()),
                    "It is in an older encoding, or no text.",
                    "Rename it, or leave it out of the directory.",
                ));
            };
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            // Of a link, what it is itself.
            let meta = entry.metadata().map_err(|error| cannot(&source, &error))?;
            self.note(path, source, &meta)?;
        }
        Ok(())
    }

    fn note(&mut self, path: String, source: PathBuf, meta: &Metadata) -> Result<()> {
        let mode = meta.permissions().mode() & PERMISSIONS;
        let kind = meta.file_type();
        let entry = if kind.is_dir() {
            Entry::Directory { path: path.clone(), mode }
        } else if kind.is_symlink() {
            let to = fs::read_link(&source).map_err(|error| cannot(&source, &error))?;
            // What is no text has no place in a line of JSON.
            let to = to.to_str().ok_or_else(|| Fault::from(Unfit::Link { path: path.clone() }))?.to_owned();
            Entry::Link { path: path.clone(), to }
        } else if kind.is_file() {
            Entry::File { path: path.clone(), mode, size: meta.len() }
        } else {
            return Err(bad(
                format!("The extra file {} is {}.", source.display(), special(kind)),
                "Only files, directories and symbolic links can be laid over a system.",
                format!("Leave it out of {}.", self.root.display()),
            ));
        };
        let mut line = Vec::new();
        frame::send(&mut line, &entry).context("writing down an extra file")?;
        self.checker.admit(&entry, line.len()).map_err(Fault::from)?;
        let size = entry.size();
        let is_file = kind.is_file();
        self.found.push(Found { line, size, source: is_file.then(|| source.clone()), path: path.clone() });
        if kind.is_dir() { self.enter(&source, &path) } else { Ok(()) }
    }
}

impl Found {
    /// Adds its line and its bytes, of which there must be as many as before.
    fn append(&self, archive: &mut Vec<u8>) -> Result<()> {
        archive.extend(&self.line);
        let Some(source) = &self.source else { return Ok(()) };
        let mut file = open(source).map_err(|error| cannot(source, &error))?;
        let at = archive.len();
        // Checked: all of it is MAX_BYTES at most.
        archive.resize(at + usize::try_from(self.size.min(MAX_BYTES)).unwrap_or_default(), 0);
        let place = archive.get_mut(at..).unwrap_or_default();
        let as_before = match file.read_exact(place) {
            Ok(()) => file.read(&mut [0]).map_err(|error| cannot(source, &error))? == 0,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(cannot(source, &error)),
        };
        if as_before {
            return Ok(());
        }
        Err(bad(
            format!("The extra file {:?} has changed while it was read.", self.path),
            "Something writes to it.",
            "Give the same command again when that has ended.",
        ))
    }
}

/// Never through a link, and without waiting: it may have become something else than was seen.
fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no file any more")),
    }
}

fn special(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_block_device() || kind.is_char_device() => "a device",
        _ => "neither file nor directory nor link",
    }
}

fn cannot(source: &Path, error: &io::Error) -> anyhow::Error {
    bad(
        format!("The extra file {} can't be read: {error}.", source.display()),
        "It is not readable for you, or has just been removed.",
        "Make it readable, or leave it out of the directory.",
    )
}

fn bad(what: impl Into<String>, cause: impl Into<String>, remedy: impl Into<String>) -> anyhow::Error {
    fault(FaultCode::BadExtraFiles, what, cause, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::fault_of;
    use cygnet_protocol::extra;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    fn put(directory: &Path, path: &str, text: &str, mode: u32) {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refused(directory: &Path) -> String {
        let fault = fault_of(&Extra::read(directory).unwrap_err());
        assert_eq!(fault.code, FaultCode::BadExtraFiles, "{fault}");
        fault.to_string()
    }

    #[test]
    fn a_directory_is_read_as_the_agent_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        put(root, "etc/keys/age", "hunter2", 0o4640);
        put(root, "etc-more", "", 0o666);
        put(root, "etc/a.b", "x", 0o600);
        symlink("age", root.join("etc/keys/other")).unwrap();
        symlink("/nowhere", root.join("link")).unwrap();
        fs::set_permissions(root.join("etc/keys"), fs::Permissions::from_mode(0o1710)).unwrap();
        let given = Extra::read(root).unwrap();
        let mut seen = Vec::new();
        let count = extra::read(&mut given.archive.expose(), |entry, bytes| {
            let mut text = String::new();
            bytes.read_to_string(&mut text).map_err(|_| Unfit::Damaged)?;
            let mode = match entry {
                Entry::Directory { mode, .. } | Entry::File { mode, .. } => *mode,
                Entry::Link { to, .. } => {
                    text.clone_from(to);
                    0
                }
            };
            seen.push((entry.path().to_owned(), mode, text));
            Ok::<_, Unfit>(())
        });
        assert_eq!(count.unwrap(), given.count());
        assert_eq!(given.count().to_string(), "3 files, 2 links, 2 directories (8 bytes)");
        let modes: Vec<(&str, u32, &str)> =
            seen.iter().map(|(path, mode, text)| (path.as_str(), *mode, text.as_str())).collect();
        assert_eq!(
            modes[1..],
            [
                ("etc/a.b", 0o600, "x"),
                ("etc/keys", 0o710, ""),
                ("etc/keys/age", 0o640, "hunter2"),
                ("etc/keys/other", 0, "age"),
                ("etc-more", 0o666, ""),
                ("link", 0, "/nowhere"),
            ]
        );
        assert!(!format!("{given:?}").contains("hunter2"));
        // By a link, too; and another archive has another name.
        let link = directory.path().with_extension("link");
        symlink(root, &link).unwrap();
        let again = Extra::read(&link);
        fs::remove_file(&link).unwrap();
        assert_eq!(again.as_ref().unwrap().count(), given.count());
        assert_ne!(again.unwrap().named().id, given.named().id);
    }

    #[test]
    fn pieces_are_all_of_it_in_order() {
        let directory = tempfile::tempdir().unwrap();
        put(directory.path(), "large", &"x".repeat(2 * MAX_PIECE), 0o600);
        let given = Extra::read(directory.path()).unwrap();
        let mut all: Vec<u8> = Vec::new();
        for piece in given.pieces() {
            let line = serde_json::to_vec(&piece).unwrap();
            let Ok(Request::ExtraFiles { id, at, total, bytes }) = Request::parse(&line) else { panic!("{piece:?}") };
            assert_eq!((id, at, total), (given.named().id, all.len() as u64, given.archive.expose().len() as u64));
            all.extend(bytes.expose());
        }
        assert!(all == given.archive.expose() && all.len() > 2 * MAX_PIECE);
    }

    #[test]
    fn what_is_no_tree_of_files_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        assert!(refused(root).contains("nothing in"));
        assert!(refused(&root.join("missing")).contains("No such file"));
        put(root, "a/file", "x", 0o600);
        assert!(refused(&root.join("a/file")).contains("Not a directory"));

        let _socket = UnixListener::bind(root.join("a/socket")).unwrap();
        let error = refused(root);
        assert!(error.contains("a/socket is a socket"), "{error}");
        fs::remove_file(root.join("a/socket")).unwrap();

        for (name, why) in
            [(&b"new\nline"[..], "control"), (b".cygnet-unfinished", "unfinished"), (b"l\xe4tin", "UTF-8")]
        {
            let path = root.join("a").join(std::ffi::OsStr::from_bytes(name));
            // Some file systems have no such names.
            if fs::write(&path, "x").is_ok() {
                let error = refused(root);
                assert!(error.contains(why), "{error}");
                fs::remove_file(path).unwrap();
            }
        }
        put(root, "nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-x", "x", 0o600);
        let error = refused(root);
        assert!(error.contains("Nix store") && error.contains("nix/store"), "{error}");
    }

    #[test]
    fn what_is_too_much_is_refused_before_it_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        put(root, "small", "x", 0o600);
        // A hole: it takes no room here, but would there.
        File::create(root.join("vast")).unwrap().set_len(1 << 40).unwrap();
        let error = refused(root);
        assert!(error.contains("\"vast\"") && error.contains("64 MiB"), "{error}");
        fs::remove_file(root.join("vast")).unwrap();
        fs::create_dir(root.join("many")).unwrap();
        // With their directory, as many as may be.
        for number in 1..MAX_ENTRIES {
            symlink("x", root.join(format!("many/{number}"))).unwrap();
        }
        let error = refused(root);
        assert!(error.contains("10000") && error.contains("\"small\""), "{error}");
    }

    #[test]
    fn an_installation_that_was_begun_has_the_same_or_is_not_joined() {
        let one = Some(Count { files: 1, ..Count::default() });
        let two = Some(Count { files: 2, ..Count::default() });
        let attach = Decision::Attach { digest: String::new(), sure: true };
        let go_on = Decision::GoOn { digest: String::new(), sure: true };
        for (decision, there, ours, fits) in [
            (&Decision::Begin, one, None, true),
            (&Decision::Begin, None, one, true),
            (&attach, one, one, true),
            (&attach, one, None, true),
            (&attach, one, two, false),
            (&attach, None, two, false),
            (&go_on, one, None, false),
            (&go_on, one, two, true),
            (&go_on, None, one, true),
            (&go_on, None, None, true),
        ] {
            assert_eq!(goes_with(decision, there, ours).is_ok(), fits, "{decision:?}, {there:?}, {ours:?}");
        }
    }
}
