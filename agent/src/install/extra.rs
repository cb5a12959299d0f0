//! Lays the extra files over the new system's root: after all that the installation itself puts there, so that they win, and
//! before activation, which sees them.
//!
//! Every directory on the way is opened by its name in the one above, and never through a link: one in the target leads, seen
//! from here, into the card's own file system. What is new gets its place by a rename, with owner and mode, so a power cut
//! leaves what was there or what is new. Nothing tells what is in a file.

use super::{Installation, given_keys};
use cygnet_protocol::extra::{self, Entry, UNFINISHED, Unfit};
use cygnet_protocol::fault::{Fault, FaultCode};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, fchmod, fchown, fstat, mkdirat, openat, renameat, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;

/// Does it, if there are some, and takes them out of memory.
pub fn lay(installation: &Installation<'_>) -> Result<(), Fault> {
    let Some(extra) = &installation.job.options.extra_files else { return Ok(()) };
    let agent = installation.agent;
    installation.task(format!("Laying {} over the new system", extra.count));
    let root = (Uid::ROOT, Gid::ROOT);
    let laid = lay_over(&agent.places.target, &mut agent.extra.archive()?, root)?;
    agent.extra.forget();
    if let Some(Loose { path, mode }) = laid.loose {
        installation.warn(format!(
            "The file system that {path:?} is on keeps no such permissions: the extra file has {mode:04o} there. Others may be \
             able to read it, and what else of the extra files is on that file system."
        ));
    }
    given_keys::tell(installation, &laid.host_keys)
        .map_err(|error| installation.io_fault("looking at the ssh host keys among the extra files", &error))
}

/// What came of it.
#[derive(Debug, Default)]
struct Laid {
    /// ssh host keys among them, by their paths.
    host_keys: Vec<String>,
    /// The first file that did not get its mode.
    loose: Option<Loose>,
}

/// A file whose file system does not keep modes, as FAT.
#[derive(Debug)]
struct Loose {
    path: String,
    mode: u32,
}

/// Why one of them could not be laid.
#[derive(Debug, thiserror::Error)]
enum NotLaid {
    /// It should not have come in.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// Something in the target is in the way.
    #[error("{path:?}: {at:?} is {what} on the target")]
    InTheWay { path: String, at: String, what: &'static str },
    /// The file system fails.
    #[error("{path:?}: {source}")]
    Io { path: String, source: io::Error },
}

impl From<NotLaid> for Fault {
    fn from(error: NotLaid) -> Self {
        match error {
            NotLaid::Unfit(unfit) => unfit.into(),
            NotLaid::InTheWay { path, at, what } => Fault::new(
                FaultCode::BadExtraFiles,
                format!("The extra file {path:?} can't be laid over the new system: {at:?} is {what} there."),
                "Links on the way are not followed, as they may lead out of the new system; and directories stay.",
                "Give it another place in the directory that `--extra-files` names, then the same command again.",
            ),
            NotLaid::Io { path, source } => Fault::new(
                match source.raw_os_error().map(Errno::from_raw_os_error) {
                    Some(Errno::NOSPC | Errno::DQUOT) => FaultCode::DiskFull,
                    _ => FaultCode::StepFailed,
                },
                format!("The extra file {path:?} could not be laid over the new system: {source}."),
                "The target's file system is full or faulty, or is none that can have such a file (FAT has no links).",
                "Make room, or give the file another place, then the same command again.",
            ),
        }
    }
}

/// Lays all of an archive over the root.
fn lay_over(root: &Path, archive: &mut impl BufRead, owner: (Uid, Gid)) -> Result<Laid, NotLaid> {
    let failed = |source: io::Error| NotLaid::Io { path: "/".to_owned(), source };
    let root = File::open(root).map_err(failed)?;
    let mut laid = Laid::default();
    extra::read(archive, |entry, bytes| {
        let path = entry.path();
        let kept = match place(&root, entry, bytes, owner) {
            Ok(kept) => kept,
            Err(Obstacle::Is(at, what)) => {
                return Err(NotLaid::InTheWay { path: path.to_owned(), at, what });
            }
            Err(Obstacle::Fails(source)) => return Err(NotLaid::Io { path: path.to_owned(), source }),
        };
        if let Some(mode) = kept {
            laid.loose.get_or_insert_with(|| Loose { path: path.to_owned(), mode });
        }
        // Nobody looks through a link for a private key.
        let may_be_key = match entry {
            Entry::File { .. } => true,
            Entry::Link { .. } => path.ends_with(".pub"),
            Entry::Directory { .. } => false,
        };
        if may_be_key && given_keys::is_host_key(path) {
            laid.host_keys.push(path.to_owned());
        }
        Ok(())
    })?;
    Ok(laid)
}

/// What keeps one from its place.
enum Obstacle {
    /// At this path is something else.
    Is(String, &'static str),
    /// The file system.
    Fails(io::Error),
}

impl From<io::Error> for Obstacle {
    fn from(error: io::Error) -> Self {
        Self::Fails(error)
    }
}

impl From<Errno> for Obstacle {
    fn from(error: Errno) -> Self {
        Self::Fails(error.into())
    }
}

/// Puts one into its place; returns the mode that it has, if that is another one than it should have.
fn place(root: &File, entry: &Entry, bytes: &mut dyn Read, owner: (Uid, Gid)) -> Result<Option<u32>, Obstacle> {
    let (parents, name) = entry.path().rsplit_once('/').unwrap_or(("", entry.path()));
    let parent = descend(root, parents)?;
    let is_directory = matches!(entry, Entry::Directory { .. });
    match (kind(&parent, name)?, is_directory) {
        (Some(FileType::Directory), true) => return Ok(None),
        (Some(FileType::Directory), false) => {
            return Err(Obstacle::Is(entry.path().to_owned(), "a directory"));
        }
        (Some(other), true) => return Err(Obstacle::Is(entry.path().to_owned(), named(other))),
        (_, _) => {}
    }
    clear(&parent)?;
    let kept = make(&parent, entry, bytes, owner)
        .and_then(|kept| renameat(&parent, UNFINISHED, &parent, name).map(|()| kept).map_err(io::Error::from));
    if kept.is_err() {
        // What is half there may be secret.
        let _ = clear(&parent);
    }
    Ok(kept?)
}

/// The directory at this path, which has come before or was there.
fn descend(root: &File, path: &str) -> Result<File, Obstacle> {
    let mut directory = root.try_clone()?;
    let mut end = 0;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        end += name.len() + usize::from(end > 0);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        directory = match openat(&directory, name, flags, Mode::empty()) {
            Ok(below) => below.into(),
            Err(error) => {
                let at = path.get(..end).unwrap_or(path).to_owned();
                return Err(match kind(&directory, name) {
                    Ok(Some(found)) if found != FileType::Directory => Obstacle::Is(at, named(found)),
                    _ => error.into(),
                });
            }
        };
    }
    Ok(directory)
}

/// What is there, if anything; of a link, that it is one.
fn kind(parent: &File, name: &str) -> io::Result<Option<FileType>> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn named(kind: FileType) -> &'static str {
    match kind {
        FileType::Symlink => "a link",
        FileType::Directory => "a directory",
        FileType::RegularFile => "a file",
        _ => "no directory",
    }
}

/// Removes what a power cut left.
fn clear(parent: &File) -> io::Result<()> {
    let flags = match kind(parent, UNFINISHED)? {
        None => return Ok(()),
        Some(FileType::Directory) => AtFlags::REMOVEDIR,
        Some(_) => AtFlags::empty(),
    };
    Ok(unlinkat(parent, UNFINISHED, flags)?)
}

/// Makes it beside its place: readable for nobody else until it has its mode.
fn make(parent: &File, entry: &Entry, bytes: &mut dyn Read, owner: (Uid, Gid)) -> io::Result<Option<u32>> {
    let base = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match entry {
        Entry::Directory { mode, .. } => {
            mkdirat(parent, UNFINISHED, Mode::RWXU)?;
            let directory = openat(parent, UNFINISHED, base | OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
            finish(&directory.into(), *mode, owner)
        }
        Entry::File { mode, size, .. } => {
            let flags = base | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let mut file = File::from(openat(parent, UNFINISHED, flags, Mode::RUSR | Mode::WUSR)?);
            if io::copy(bytes, &mut file)? != *size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let kept = finish(&file, *mode, owner)?;
            file.sync_all()?;
            Ok(kept)
        }
        Entry::Link { to, .. } => {
            symlinkat(to.as_str(), parent, UNFINISHED)?;
            let found = statat(parent, UNFINISHED, AtFlags::SYMLINK_NOFOLLOW)?;
            if (found.st_uid, found.st_gid) != (owner.0.as_raw(), owner.1.as_raw()) {
                chownat(parent, UNFINISHED, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Ok(None)
        }
    }
}

/// Gives it its owner and its mode; returns the mode that it has, if that is another one.
fn finish(file: &File, mode: u32, owner: (Uid, Gid)) -> io::Result<Option<u32>> {
    let found = fstat(file)?;
    // In a directory that gives its group to what is made in it, it has that one; FAT takes no owner, not even the one it has.
    if (found.st_uid, found.st_gid) != (owner.0.as_raw(), owner.1.as_raw()) {
        fchown(file, Some(owner.0), Some(owner.1))?;
    }
    fchmod(file, Mode::from_raw_mode(mode & 0o777))?;
    let now = fstat(file)?.st_mode & 0o7777;
    Ok((now != mode).then_some(now))
}

#[cfg(test)]
mod tests;
