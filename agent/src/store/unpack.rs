//! A NAR's events as files, at once in the form in which every store object is, and from the middle on where a part is
//! there already.
//!
//! A large file has its final length from the start. So a tree that was written up to some place inside its content packs
//! again to the same bytes up to that place, and what the air cut off is gone on with there:
//! [`Replay`](cygnet_protocol::stretch::Replay) packs it once more, for the hash and for the parser, and [`unpack`] writes only
//! what comes after. Whatever was written behind that place before is in no hash, so it is removed first: it may have come from
//! somebody else than the rest does.

use nix_archive::nar::{self, Event, FileContents, decode_events_reader};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, fchmod, futimens, mkdirat, openat, statat, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::Errno;
use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Files of this size have their final length from the start, bytes: only inside of them can be gone on.
const LONG: u64 = 1024 * 1024;
/// How much of a file is written at once, bytes.
const STRIDE: usize = 64 * 1024;

/// After so many files, directories and links all is brought to the disk: until then the kernel has to keep each in memory, and
/// in the middle of a file system's own work it cannot make room for another.
const MANY: u32 = 2048;

/// Counts what is taken from `inner`, exactly.
pub struct Counted<'a, R> {
    /// Where it comes from.
    pub inner: R,
    /// Bytes so far.
    pub count: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

/// What may be where something is made.
#[derive(Clone, Copy, PartialEq)]
enum There {
    /// Nothing.
    Nothing,
    /// What a power cut left of another try; it gives way.
    Rests,
    /// A part of it, which is gone on with.
    Part,
}

/// Where and how an archive is unpacked.
pub struct Unpack<'a> {
    /// The directory that the object appears in.
    pub parent: &'a File,
    /// What it is called there.
    pub name: &'a OsStr,
    /// How long the whole archive is, bytes; a file that claims to be longer is malformed.
    pub size: u64,
    /// So many of its first bytes are in files already.
    pub there: u64,
    /// How many bytes of it were read; the reader counts.
    pub position: &'a Cell<u64>,
    /// Told a position inside a long file up to which everything is in files.
    pub written: &'a mut dyn FnMut(u64),
}

/// Unpacks the archive that `reader` gives.
///
/// # Errors
/// If the archive is malformed or cut off, or a file cannot be made or written. What was made stays.
pub fn unpack<R: Read>(mut how: Unpack<'_>, reader: &mut Counted<'_, R>) -> Result<(), nar::Error> {
    let mut open: Vec<Opened> = Vec::new();
    // Whether all that is there is in what was read.
    let mut sure = how.there == 0;
    let mut made = 0_u32;
    // For all its files, and no larger than it: fresh memory costs the kernel more than a small file does.
    let mut buffer = vec![0; usize::try_from(how.size).unwrap_or(STRIDE).min(STRIDE)];
    decode_events_reader(reader, |event| {
        made += 1;
        if made.is_multiple_of(MANY) {
            rustix::fs::syncfs(how.parent).map_err(io::Error::from)?;
        }
        if !sure && !how.may_be_there() && !matches!(event, Event::Regular { .. }) {
            return Err(nowhere().into());
        }
        let parent = open.last().map_or(how.parent, |opened| &opened.directory);
        match event {
            Event::DirectoryStart { name } => {
                let there = how.what_is_there(name);
                let name = how.called(name);
                let directory = directory(parent, name, there)?;
                open.push(Opened { directory, name: name.to_owned() });
            }
            Event::DirectoryEnd { .. } => {
                if let Some(opened) = open.pop() {
                    finish(&opened.directory, true)?;
                }
            }
            Event::Regular { name, executable, contents } => {
                how.regular(&open, name, executable, contents, (&mut buffer, &mut sure))?
            }
            Event::Symlink { name, target } => symlink(parent, how.called(name), target, how.what_is_there(name))?,
        }
        Ok(())
    })?;
    if sure { Ok(()) } else { Err(nowhere().into()) }
}

/// Elsewhere than inside a file nobody would know what was left there.
fn nowhere() -> io::Error {
    malformed("it is gone on with where no file is")
}

/// A directory whose entries are coming.
struct Opened {
    directory: File,
    /// What it is called in the one around it.
    name: OsString,
}

impl<'a> Unpack<'a> {
    fn called<'n>(&self, name: Option<&'n [u8]>) -> &'n OsStr
    where
        'a: 'n,
    {
        name.map_or(self.name, OsStr::from_bytes)
    }

    /// Only what is before the place where it is gone on.
    fn may_be_there(&self) -> bool {
        self.position.get() < self.there
    }

    /// What may be where this entry comes; the object itself has no name.
    fn what_is_there(&self, name: Option<&[u8]>) -> There {
        match name {
            _ if self.may_be_there() => There::Part,
            None if self.there == 0 => There::Rests,
            _ => There::Nothing,
        }
    }

    fn regular<R: Read>(
        &mut self,
        open: &[Opened],
        name: Option<&[u8]>,
        executable: bool,
        mut contents: FileContents<'_, Counted<'_, R>>,
        (buffer, sure): (&mut [u8], &mut bool),
    ) -> io::Result<()> {
        let (begin, length) = (self.position.get(), contents.size());
        let end = begin.checked_add(length).filter(|end| *end <= self.size);
        let end = end.ok_or_else(|| malformed("a file longer than its archive"))?;
        if end < self.there {
            // The decoder reads what is left over.
            return Ok(());
        }
        let there = self.what_is_there(name);
        let name = self.called(name);
        let parent = open.last().map_or(self.parent, |opened| &opened.directory);
        if self.may_be_there() {
            // It is gone on in here.
            let inside = open.iter().skip(1).map(|opened| opened.name.as_os_str()).chain([name]);
            open.iter().zip(inside).try_for_each(|(opened, current)| prune(&opened.directory, current))?;
            *sure = true;
        } else if !*sure {
            return Err(nowhere());
        }
        let mut file = create(parent, name, executable, there)?;
        if length >= LONG || self.may_be_there() {
            match rustix::fs::ftruncate(&file, length) {
                Err(Errno::FBIG | Errno::INVAL) => return Err(malformed("a file longer than any can be here")),
                other => other?,
            }
        }
        loop {
            let before = self.position.get();
            let count = match contents.read(buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let known = usize::try_from(self.there.saturating_sub(before)).unwrap_or(usize::MAX).min(count);
            if known < count {
                if known > 0 || before == self.there {
                    file.seek(SeekFrom::Start(before + known as u64 - begin))?;
                }
                file.write_all(&buffer[known..count])?;
                if length >= LONG {
                    (self.written)(before + count as u64);
                }
            }
        }
        // Cut off in the middle, it stays what it is: not finished. The decoder finds out, too.
        if self.position.get() == end { finish(&file, executable) } else { Ok(()) }
    }
}

fn create(parent: &File, name: &OsStr, executable: bool, there: There) -> io::Result<File> {
    let base = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let flags = base | if there == There::Part { OFlags::empty() } else { OFlags::EXCL };
    let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
    Ok(make(parent, name, there, || openat(parent, name, flags, mode))?.into())
}

fn directory(parent: &File, name: &OsStr, there: There) -> io::Result<File> {
    make(parent, name, there, || match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) if there == There::Part => Ok(()),
        other => other,
    })?;
    open_directory(parent, name)
}

fn open_directory(parent: &File, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?.into())
}

fn symlink(parent: &File, name: &OsStr, target: &[u8], there: There) -> io::Result<()> {
    make(parent, name, there, || match symlinkat(OsStr::from_bytes(target), parent, name) {
        Err(Errno::EXIST) if there == There::Part => Ok(()),
        other => other,
    })?;
    Ok(utimensat(parent, name, &times(), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Makes something. Rests are cleared away only where they are in the way: looking for them before would cost every path a
/// call, and hardly any has some.
fn make<T>(parent: &File, name: &OsStr, there: There, how: impl Fn() -> rustix::io::Result<T>) -> io::Result<T> {
    match how() {
        Err(Errno::EXIST) if there == There::Rests => {
            clear(parent, name)?;
            made(how())
        }
        result => made(result),
    }
}

/// Tells what the archive is to blame for from what the disk is. Names come in order and once each, so one that is there
/// already is another one to us.
fn made<T>(result: rustix::io::Result<T>) -> io::Result<T> {
    match result {
        Err(error @ (Errno::NAMETOOLONG | Errno::INVAL | Errno::NOENT | Errno::ILSEQ)) => {
            Err(malformed(&format!("a name or a link that cannot be on this file system ({error})")))
        }
        Err(Errno::EXIST) => Err(malformed("two names that are one to this file system (case, or normalization)")),
        other => Ok(other?),
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Removes what comes behind `current` in the order of an archive.
fn prune(directory: &File, current: &OsStr) -> io::Result<()> {
    // It may be finished already, and others than root cannot write to it then.
    fchmod(directory, Mode::from_raw_mode(0o755))?;
    for name in names(directory)?.iter().filter(|name| name.as_bytes() > current.as_bytes()) {
        clear(directory, name)?;
    }
    Ok(())
}

/// Removes something that was unpacked; the decoder has seen to it that it is not deep.
fn clear(parent: &File, name: &OsStr) -> io::Result<()> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(unlinkat(parent, name, AtFlags::empty())?);
    }
    let directory = open_directory(parent, name)?;
    fchmod(&directory, Mode::from_raw_mode(0o755))?;
    names(&directory)?.iter().try_for_each(|name| clear(&directory, name))?;
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

fn names(directory: &File) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// The form in which every store object is (libstore/posix-fs-canonicalise.cc): root's, 0444 or 0555, time 1.
fn finish(file: &File, executable: bool) -> io::Result<()> {
    fchmod(file, Mode::from_raw_mode(if executable { 0o555 } else { 0o444 }))?;
    Ok(futimens(file, &times())?)
}

fn times() -> Timestamps {
    let one = Timespec { tv_sec: 1, tv_nsec: 0 };
    Timestamps { last_access: one, last_modification: one }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::stretch::Replay;
    use nix_archive::nar::{CaseHack, encode_path};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    fn pack(path: &Path) -> Vec<u8> {
        let mut nar = Vec::new();
        encode_path(&mut nar, path, CaseHack::Disabled).unwrap();
        nar
    }

    fn sample() -> (tempfile::TempDir, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("bin/empty")).unwrap();
        fs::write(tree.join("bin/run"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(tree.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
        let long: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7 % 251) as u8).collect();
        fs::write(tree.join("long"), &long).unwrap();
        fs::set_permissions(tree.join("long"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(tree.join("zero"), "").unwrap();
        symlink("/nowhere", tree.join("dangling")).unwrap();
        let nar = pack(&tree);
        (directory, nar)
    }

    /// Unpacks and returns the positions that were told.
    fn run(
        directory: &Path,
        name: &str,
        reader: impl Read,
        size: u64,
        there: u64,
    ) -> (Result<(), nar::Error>, Vec<u64>) {
        let parent = File::open(directory).unwrap();
        let position = Cell::new(0);
        let mut told = Vec::new();
        let how = Unpack {
            parent: &parent,
            name: OsStr::new(name),
            size,
            there,
            position: &position,
            written: &mut |at| told.push(at),
        };
        let result = unpack(how, &mut Counted { inner: reader, count: &position });
        (result, told)
    }

    #[test]
    fn it_is_canonical_at_once() {
        let (directory, nar) = sample();
        run(directory.path(), "out", &nar[..], nar.len() as u64, 0).0.unwrap();
        let out = directory.path().join("out");
        assert!(pack(&out) == nar);
        for (name, mode) in [("", 0o555), ("bin/run", 0o555), ("zero", 0o444), ("bin/empty", 0o555), ("long", 0o555)] {
            let meta = fs::metadata(out.join(name)).unwrap();
            assert_eq!((meta.mode() & 0o7777, meta.mtime()), (mode, 1), "{name}");
        }
        assert_eq!(fs::symlink_metadata(out.join("dangling")).unwrap().mtime(), 1);
        super::super::import::remove(&out).unwrap();
    }

    #[test]
    fn what_was_cut_off_is_gone_on_with_where_it_was_written_to() {
        let (directory, nar) = sample();
        let size = nar.len() as u64;
        for cut in [1_500_000, 1_000_000, 2_999_000, 700_001] {
            let (result, told) = run(directory.path(), "out", &nar[..cut], size, 0);
            assert!(result.is_err());
            let there = *told.last().unwrap();
            assert!(there <= cut as u64 && there + 70_000 > cut as u64, "{there} of {cut}");
            // What came after the last position that was noted may be anything.
            let out = directory.path().join("out");
            fs::write(out.join("zero"), "rubbish").unwrap();
            let replay = Replay::start(out.clone(), there).unwrap();
            let (result, _) = run(directory.path(), "out", replay.chain(&nar[there as usize..]), size, there);
            result.unwrap();
            assert!(pack(&out) == nar, "{cut}");
            super::super::import::remove(&out).unwrap();
        }
    }

    #[test]
    fn what_somebody_else_left_behind_that_place_is_gone() {
        let (directory, nar) = sample();
        let size = nar.len() as u64;
        let (_, told) = run(directory.path(), "out", &nar[..1_500_000], size, 0);
        let there = *told.last().unwrap();
        // As another archive with the same beginning would have made it.
        let out = directory.path().join("out");
        fs::create_dir_all(out.join("zz/deeper")).unwrap();
        fs::write(out.join("zz/deeper/extra"), "evil").unwrap();
        fs::set_permissions(out.join("zz/deeper"), fs::Permissions::from_mode(0o555)).unwrap();
        symlink(directory.path().join("tree"), out.join("m")).unwrap();
        symlink(directory.path().join("tree/bin/run"), out.join("zero")).unwrap();
        let replay = Replay::start(out.clone(), there).unwrap();
        run(directory.path(), "out", replay.chain(&nar[there as usize..]), size, there).0.unwrap();
        assert!(pack(&out) == nar && pack(&directory.path().join("tree")) == nar);

        // Who goes on before that place, between two files, would keep them.
        fs::write(out.join("zz"), "evil").unwrap();
        for there in [100, 200, 400, there - 1_000_000] {
            let replay = Replay::start(out.clone(), there).unwrap();
            let (result, _) = run(directory.path(), "out", replay.chain(&nar[there as usize..]), size, there);
            assert!(result.is_err() || pack(&out) == nar, "{there}");
        }
    }

    #[test]
    fn a_part_that_ends_with_its_file_is_finished() {
        let (directory, nar) = sample();
        let size = nar.len() as u64;
        let (_, told) = run(directory.path(), "out", &nar[..], size, 0);
        let there = *told.last().unwrap();
        let out = directory.path().join("out");
        fs::set_permissions(out.join("long"), fs::Permissions::from_mode(0o755)).unwrap();
        let replay = Replay::start(out.clone(), there).unwrap();
        run(directory.path(), "out", replay.chain(&nar[there as usize..]), size, there).0.unwrap();
        let meta = fs::metadata(out.join("long")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.len()), (0o555, 1, 3_000_000));
        assert!(pack(&out) == nar);
    }

    #[test]
    fn a_part_that_changed_is_noticed() {
        let (directory, nar) = sample();
        let (_, told) = run(directory.path(), "out", &nar[..1_500_000], nar.len() as u64, 0);
        let there = *told.last().unwrap();
        let out = directory.path().join("out");
        fs::remove_file(out.join("long")).unwrap();
        let mut replay = Replay::start(out, there).unwrap();
        assert!(replay.read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn a_size_that_lies_allocates_nothing() {
        let (directory, nar) = sample();
        let mut lying = nar.clone();
        let at = lying.windows(8).position(|window| window == 3_000_000_u64.to_le_bytes()).unwrap();
        lying[at..at + 8].copy_from_slice(&(1_u64 << 62).to_le_bytes());
        assert!(run(directory.path(), "out", &lying[..], nar.len() as u64, 0).0.is_err());
        assert!(!directory.path().join("out/long").exists());
    }
}
