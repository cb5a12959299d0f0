//! One store path, from a NAR to its place: unpacked into a sibling, hashed on the way, compared, made canonical,
//! renamed. Until the rename nothing of it has its final name; after it, all of it is right.

use crate::store::unpack::{Counted, Unpack, unpack};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::store::PathInfo;
use cygnet_protocol::stretch::{Replay, is_bad_base};
use nix_archive::nar;
use rustix::fs::renameat;
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How the siblings begin that store paths are unpacked into.
pub const SIBLING: &str = ".cygnet-";
/// How much of an archive is hashed at once, bytes.
const BUFFER: usize = 64 * 1024;

/// A path whose archive is being taken.
pub struct Import<'a> {
    /// What it must be.
    pub info: &'a PathInfo,
    /// The directory it goes to.
    pub store: &'a Path,
    /// The same, open.
    pub directory: &'a File,
    /// Where in the archive to go on: so much of it is in the sibling already.
    pub from: u64,
    /// Told the bytes of this archive so far; when it says no, the import stops with its fault.
    pub watch: Watch<'a>,
    /// Told positions that can be gone on from once the files are on the disk.
    pub written: &'a mut dyn FnMut(u64),
}

/// Told the bytes of the present archive so far.
pub type Watch<'a> = &'a mut dyn FnMut(u64) -> Result<(), Fault>;

/// Unpacks the NAR that `reader` gives (exactly `info.nar_size` bytes of it) into `store` and returns the path.
///
/// A failure leaves nothing behind. The data is not yet synced to the disk; that is the caller's, once for many.
/// `watch` hears how many bytes have come; when it says no, the import stops with its fault.
pub fn import(info: &PathInfo, reader: &mut dyn Read, store: &Path, watch: Watch<'_>) -> Result<PathBuf, Fault> {
    let directory = File::open(store).map_err(|error| disk_fault(&info.path.to_basename(), &error))?;
    let result = (Import { info, store, directory: &directory, from: 0, watch, written: &mut |_| {} }).run(reader);
    if result.is_err() {
        forget(info, store);
    }
    result
}

/// Where a path is unpacked.
pub fn sibling(info: &PathInfo, store: &Path) -> PathBuf {
    store.join(format!("{SIBLING}{}", info.path.to_basename()))
}

/// Removes what was unpacked of a path.
pub fn forget(info: &PathInfo, store: &Path) {
    let _ = remove(&sibling(info, store));
}

/// Removes whatever was begun and never finished.
///
/// # Errors
/// If the store cannot be listed, or something cannot be removed.
pub fn sweep(store: &Path) -> io::Result<()> {
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(SIBLING.as_bytes()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

impl Import<'_> {
    /// Takes what `reader` gives from [`Import::from`] on. After a failure what was unpacked is still there.
    ///
    /// # Errors
    /// If the archive is not what it must be, the stream ends, the disk fails, or the watcher says no.
    pub fn run(self, reader: &mut dyn Read) -> Result<PathBuf, Fault> {
        let name = self.info.path.to_basename();
        let (destination, hidden) = (self.store.join(&name), format!("{SIBLING}{name}"));
        let failed = |error: io::Error| disk_fault(&name, &error);
        let directory = self.directory;
        if self.from == 0 {
            self.unpack(reader, &name, OsStr::new(&hidden))?;
        } else {
            let replay = Replay::start(self.store.join(&hidden), self.from).map_err(failed)?;
            self.unpack(&mut replay.chain(reader), &name, OsStr::new(&hidden))?;
        }
        let rename = || renameat(directory, hidden.as_str(), directory, name.as_str()).map_err(io::Error::from);
        // What is in the way was left by a run that the power cut before its journal knew of it. A file gives way by itself.
        rename().or_else(|_| remove(&destination).and_then(|()| rename())).map_err(failed)?;
        Ok(destination)
    }

    fn unpack(self, reader: &mut dyn Read, name: &str, sibling: &OsStr) -> Result<(), Fault> {
        let Import { info, directory, from, watch, written, .. } = self;
        let mut hashing = Hashing {
            inner: reader.take(info.nar_size),
            size: info.nar_size,
            hash: Sha256::new(),
            failed: None,
            ended: false,
            watch,
            stopped: None,
        };
        let position = Cell::new(0);
        // No larger than the archive: most are small, and the memory would be fresh for each.
        let capacity = usize::try_from(info.nar_size).unwrap_or(BUFFER).min(BUFFER);
        let mut counted = Counted { inner: BufReader::with_capacity(capacity, &mut hashing), count: &position };
        let how =
            Unpack { parent: directory, name: sibling, size: info.nar_size, there: from, position: &position, written };
        let unpacked = unpack(how, &mut counted);
        if let Some(fault) = hashing.stopped.take() {
            return Err(fault);
        }
        if let Some(error) = hashing.failed.take() {
            return Err(cut_off(&error));
        }
        match unpacked {
            Ok(()) => {}
            Err(_) if hashing.ended => return Err(cut_off(&io::ErrorKind::UnexpectedEof.into())),
            // Nothing but the archive gives these two, one that goes on behind its size among others.
            Err(nar::Error::Io(error))
                if !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                return Err(disk_fault(name, &error));
            }
            Err(error) => {
                return Err(Fault::new(
                    FaultCode::Garbage,
                    format!("The archive of {name} is malformed: {error}."),
                    "It was damaged on the way, or the sender is defective.",
                    "Run the same command again; nothing of this path was kept.",
                ));
            }
        }
        if hashing.inner.limit() > 0 {
            return Err(mismatch(name, format!("it is {} bytes shorter than it should be", hashing.inner.limit())));
        }
        if hashing.hash.finalize().as_slice() != info.nar_hash.digest_as_bytes() {
            return Err(mismatch(name, format!("its SHA-256 is not {}", info.nar_hash.to_sri_string())));
        }
        Ok(())
    }
}

/// Removes a tree whose directories may be read-only; that nothing is there is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(meta) if !meta.is_dir() => fs::remove_file(path),
        // Only without root's privileges do the read-only directories have to be opened up first.
        Ok(_) => fs::remove_dir_all(path).or_else(|_| {
            open_up(path)?;
            fs::remove_dir_all(path)
        }),
    }
}

fn open_up(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// Hashes what passes, and remembers a failure or an early end of the source, which the unpacker would take for a
/// failure of the disk or a malformed archive.
struct Hashing<'a, R> {
    inner: R,
    size: u64,
    hash: Sha256,
    failed: Option<io::Error>,
    ended: bool,
    watch: Watch<'a>,
    stopped: Option<Fault>,
}

impl<R: Read> Read for Hashing<'_, io::Take<R>> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Err(fault) = (self.watch)(self.size - self.inner.limit()) {
            self.stopped = Some(fault);
            return Err(io::Error::other("stopped"));
        }
        match self.inner.read(buffer) {
            Ok(count) => {
                self.ended |= count == 0 && !buffer.is_empty() && self.inner.limit() > 0;
                self.hash.update(&buffer[..count]);
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                self.failed = Some(error);
                Err(copy)
            }
        }
    }
}

fn mismatch(name: &str, how: String) -> Fault {
    Fault::new(
        FaultCode::HashMismatch,
        format!("The archive of {name} is not what the closure says: {how}."),
        "The store path was changed on the host after Nix registered it, or the bytes were damaged on the way.",
        format!(
            "Check the host's store with `nix-store --verify-path /nix/store/{name}`; then run the same command again."
        ),
    )
}

/// The stream of store paths broke.
pub fn cut_off(error: &io::Error) -> Fault {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        Fault::new(
            FaultCode::ConnectionLost,
            "The stream of store paths ended in the middle.",
            "The connection to the host was cut, or the command on the host was stopped.",
            "Run the same command again; it goes on with the first path that is missing.",
        )
    } else if is_bad_base(error) {
        Fault::new(
            FaultCode::BadBase,
            format!("{error}."),
            "The card's store is not what its database says; the card may be failing.",
            "Run the same command again: the path is sent whole then. Have another card ready.",
        )
    } else {
        Fault::new(
            FaultCode::Garbage,
            format!("The stream of store paths cannot be read: {error}."),
            "The bytes were damaged on the way, or the sender is defective.",
            "Run the same command again; it goes on with the first path that is missing.",
        )
    }
}

fn disk_fault(name: &str, error: &io::Error) -> Fault {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        Fault::new(
            FaultCode::DiskFull,
            format!("The target file system is full; {name} did not fit."),
            "The disk, or a quota or reservation of the layout, is smaller than the closure needs.",
            "Use a larger disk, make other partitions smaller, or take something out of the closure. Paths that fitted are kept.",
        )
    } else {
        Fault::new(
            FaultCode::StepFailed,
            format!("Writing {name} to the target store failed: {error}."),
            "The target disk, its cable or its power supply may be faulty.",
            "Look for I/O errors in the kernel's log with `cygnet logs HOST` and `dmesg`.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::store::{HashAlgorithm, NixHash, parse_store_path};
    use nix_archive::nar::{CaseHack, encode_path};
    use std::os::unix::fs::{MetadataExt, symlink};

    const PATH: &str = "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-sample";

    fn sample() -> (tempfile::TempDir, Vec<u8>, PathInfo) {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("bin/empty")).unwrap();
        fs::write(tree.join("bin/run"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(tree.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(tree.join("zero"), "").unwrap();
        symlink("/nowhere", tree.join("dangling")).unwrap();
        let mut nar = Vec::new();
        encode_path(&mut nar, &tree, CaseHack::Disabled).unwrap();
        let info = PathInfo {
            path: parse_store_path(PATH).unwrap(),
            nar_hash: NixHash::from_algorithm_and_digest(HashAlgorithm::Sha256, &Sha256::digest(&nar)).unwrap(),
            nar_size: nar.len() as u64,
            references: vec![],
            deriver: None,
            signatures: vec![],
            ca: None,
        };
        fs::create_dir(directory.path().join("store")).unwrap();
        (directory, nar, info)
    }

    fn left_over(directory: &tempfile::TempDir) -> usize {
        fs::read_dir(directory.path().join("store")).unwrap().count()
    }

    #[test]
    fn what_was_packed_is_unpacked_and_canonical() {
        let (directory, nar, info) = sample();
        let store = directory.path().join("store");
        // A left-over of an earlier run with the final name is replaced.
        fs::create_dir(store.join(info.path.to_basename())).unwrap();
        let mut stream = [nar.clone(), b"next".to_vec()].concat();
        let mut reader = &stream[..];
        let path = import(&info, &mut reader, &store, &mut |_| Ok(())).unwrap();
        assert_eq!(reader, b"next", "exactly the NAR is consumed");
        let mut again = Vec::new();
        encode_path(&mut again, &path, CaseHack::Disabled).unwrap();
        assert!(again == nar);
        for (name, mode) in [("", 0o555), ("bin/run", 0o555), ("zero", 0o444), ("bin/empty", 0o555)] {
            let meta = fs::metadata(path.join(name)).unwrap();
            assert_eq!((meta.mode() & 0o7777, meta.mtime()), (mode, 1), "{name}");
        }
        stream.clear();
        remove(&path).unwrap();
        assert_eq!(left_over(&directory), 0);
    }

    #[test]
    fn whatever_a_power_cut_left_gives_way() {
        let (directory, tree, info) = sample();
        let (store, name) = (directory.path().join("store"), info.path.to_basename());
        let mut file = Vec::new();
        encode_path(&mut file, &directory.path().join("tree/bin/run"), CaseHack::Disabled).unwrap();
        let mut link = Vec::new();
        encode_path(&mut link, &directory.path().join("tree/dangling"), CaseHack::Disabled).unwrap();
        let lay: [fn(&Path); 4] = [
            |at| fs::write(at, "rest").unwrap(),
            |at| symlink("/etc", at).unwrap(),
            |at| fs::create_dir(at).unwrap(),
            |at| {
                fs::create_dir_all(at.join("deep")).unwrap();
                fs::write(at.join("deep/rest"), "rest").unwrap();
                fs::set_permissions(at.join("deep"), fs::Permissions::from_mode(0o555)).unwrap();
            },
        ];
        for nar in [tree, file, link] {
            let hash = NixHash::from_algorithm_and_digest(HashAlgorithm::Sha256, &Sha256::digest(&nar)).unwrap();
            let info = PathInfo { nar_hash: hash, nar_size: nar.len() as u64, ..info.clone() };
            for (n, lay) in lay.iter().enumerate() {
                lay(&store.join(&name));
                lay(&sibling(&info, &store));
                let path = import(&info, &mut &nar[..], &store, &mut |_| Ok(())).unwrap();
                let mut again = Vec::new();
                encode_path(&mut again, &path, CaseHack::Disabled).unwrap();
                assert!(again == nar && left_over(&directory) == 1, "{n}");
                remove(&path).unwrap();
            }
        }
    }

    #[test]
    fn every_damage_is_noticed_and_leaves_nothing() {
        let (directory, nar, info) = sample();
        let store = directory.path().join("store");
        for position in 0..nar.len() {
            let mut damaged = nar.clone();
            damaged[position] ^= 0x10;
            assert!(import(&info, &mut &damaged[..], &store, &mut |_| Ok(())).is_err(), "byte {position}");
            assert_eq!(left_over(&directory), 0, "byte {position}");
        }
        for length in 0..nar.len() {
            let fault = import(&info, &mut &nar[..length], &store, &mut |_| Ok(())).unwrap_err();
            assert_eq!(fault.code, FaultCode::ConnectionLost, "length {length}: {fault}");
        }
        let mut lying = info.clone();
        lying.nar_size += 8;
        let longer = [nar.clone(), vec![0; 8]].concat();
        assert!(import(&lying, &mut &longer[..], &store, &mut |_| Ok(())).is_err());
        assert_eq!(left_over(&directory), 0);
    }

    #[test]
    fn who_watches_may_stop_it() {
        let (directory, nar, info) = sample();
        let stop = || Fault::new(FaultCode::Aborted, "w", "c", "r");
        let mut seen = 0;
        let fault = import(&info, &mut &nar[..], &directory.path().join("store"), &mut |bytes| {
            seen = bytes;
            if bytes > 0 { Err(stop()) } else { Ok(()) }
        });
        assert_eq!(fault.unwrap_err(), stop());
        assert!(seen > 0 && left_over(&directory) == 0);
    }
}
