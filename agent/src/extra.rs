//! Extra files from when they come until they are laid over the new system: one archive in memory, for root only.
//!
//! It comes in pieces, on a control connection, before the `install` that names it. It belongs to that connection until an
//! installation has claimed it, so nothing stays of what nobody installs; and it is gone when the files have their places, when
//! the installation has failed, and when the agent or the Pi is restarted. Then the same command brings it again.

use crate::events::lock;
use crate::identity;
use crate::ram::Ram;
use crate::rules::not_now;
use cygnet_protocol::extra::{self, Count, ExtraFiles, Unfit};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::plan::human_bytes;
use cygnet_protocol::secret::Secret;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Mutex;

/// What must be left of the Pi's memory for the installation itself, bytes. The agent takes up to 48 MiB to receive a closure.
const RESERVE: u64 = 96 * 1024 * 1024;

/// The extra files of the present installation, or of the next.
pub struct Stash {
    ram: Ram,
    held: Mutex<Held>,
}

/// How far it is.
enum Held {
    /// There are none.
    Nothing,
    /// Some pieces are there.
    Coming(Coming),
    /// All pieces are there and found to be an archive of what may be laid.
    Whole(ExtraFiles),
    /// An installation has it.
    Claimed,
}

struct Coming {
    id: u64,
    file: File,
    /// Bytes that are there.
    have: u64,
    /// Bytes in all.
    total: u64,
}

impl Stash {
    /// A stash in this directory, which is made when something comes.
    pub fn new(directory: PathBuf) -> Self {
        Self { ram: Ram::new(directory), held: Mutex::new(Held::Nothing) }
    }

    /// Takes a piece. With the last one, all of the archive is looked at.
    pub fn take(&self, id: u64, at: u64, total: u64, bytes: &Secret) -> Result<(), Fault> {
        let mut held = lock(&self.held);
        if matches!(*held, Held::Claimed) {
            return Err(not_now(
                "an installation uses the extra files that it was given.",
                "Follow it with `cygnet logs HOST --follow`, or stop it with `cygnet abort HOST`.",
            ));
        }
        if at == 0 {
            extra::check_size(total)?;
            has_room(total, identity::memory_available())?;
            self.wipe(&mut held);
            *held = Held::Coming(self.begin(id, total).inspect_err(|_| self.ram.clear()).map_err(no_place)?);
        }
        let bytes = bytes.expose();
        let more = bytes.len() as u64;
        let coming = match &mut *held {
            Held::Coming(coming) if (coming.id, coming.have, coming.total) == (id, at, total) => coming,
            _ => return Err(out_of_order()),
        };
        if more == 0 || more > total - at {
            return Err(out_of_order());
        }
        if let Err(error) = coming.file.write_all(bytes) {
            self.wipe(&mut held);
            return Err(no_place(error));
        }
        coming.have += more;
        if coming.have < total {
            return Ok(());
        }
        match self.look() {
            Ok(count) => {
                *held = Held::Whole(ExtraFiles { id, count });
                Ok(())
            }
            Err(fault) => {
                self.wipe(&mut held);
                Err(fault)
            }
        }
    }

    fn begin(&self, id: u64, total: u64) -> io::Result<Coming> {
        self.ram.open()?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.file())?;
        Ok(Coming { id, file, have: 0, total })
    }

    fn file(&self) -> PathBuf {
        self.ram.path().join("archive")
    }

    /// Checks all of the archive, as the client did.
    fn look(&self) -> Result<Count, Fault> {
        let file = File::open(self.file()).map_err(no_place)?;
        extra::read(&mut BufReader::new(file), |_, _| Ok::<_, Unfit>(())).map_err(Fault::from)
    }

    /// An installation begins, with these or without any, before anything is touched for it; `before` are those that it had when
    /// it was interrupted. In one go, or another client could send others between the look and the claim.
    pub fn claim(&self, named: Option<&ExtraFiles>, before: Option<&ExtraFiles>) -> Result<(), Fault> {
        let mut held = lock(&self.held);
        match (named, before, &*held) {
            (None, None, _) => self.wipe(&mut held),
            (None, Some(before), _) => return Err(missing(before.count)),
            (Some(named), _, Held::Whole(there)) if there == named => *held = Held::Claimed,
            (Some(named), _, _) => {
                return Err(Fault::new(
                    FaultCode::BadExtraFiles,
                    format!("The extra files that are to be laid over the system ({}) have not come.", named.count),
                    "Another client has sent others meanwhile, or the connection was lost.",
                    "Give the same `cygnet install` again. Nothing was touched.",
                ));
            }
        }
        Ok(())
    }

    /// The archive, for the installation that has claimed it.
    pub fn archive(&self) -> Result<BufReader<File>, Fault> {
        let _held = lock(&self.held);
        File::open(self.file()).map(BufReader::new).map_err(|error| {
            Fault::new(
                FaultCode::BadExtraFiles,
                format!("The extra files are not there any more: {error}."),
                "They are kept in memory only, and somebody has removed them.",
                "Give the same `cygnet install` again.",
            )
        })
    }

    /// The connection that brought pieces has ended. What an installation has claimed stays.
    pub fn abandon(&self) {
        let mut held = lock(&self.held);
        if !matches!(*held, Held::Claimed) {
            self.wipe(&mut held);
        }
    }

    /// Removes everything: nobody needs it any more; or what an agent left that had no time to.
    pub fn forget(&self) {
        self.wipe(&mut lock(&self.held));
    }

    fn wipe(&self, held: &mut Held) {
        *held = Held::Nothing;
        self.ram.clear();
    }
}

/// Better refused now than killed for lack of memory later. If nobody knows how much there is, it is tried.
fn has_room(total: u64, available: u64) -> Result<(), Fault> {
    if available == 0 || available >= total + RESERVE {
        return Ok(());
    }
    Err(Fault::new(
        FaultCode::BadExtraFiles,
        format!("The Pi has no room for the extra files: they have {} with their names.", human_bytes(total)),
        format!(
            "They are kept in memory, of which {} are available; the installation needs the rest.",
            human_bytes(available)
        ),
        "Leave out what is large: build it into the system, or copy it when the system runs.",
    ))
}

fn missing(before: Count) -> Fault {
    Fault::new(
        FaultCode::BadExtraFiles,
        format!("The interrupted installation was begun with extra files ({before}), and none are given now."),
        "The agent keeps them in memory only, and does not go on without them.",
        "Give `--extra-files DIR` again; or begin anew without them, with `--fresh`. Nothing was touched.",
    )
}

fn out_of_order() -> Fault {
    Fault::new(
        FaultCode::BadExtraFiles,
        "A piece of the extra files does not belong to those that came before.",
        "Two clients send extra files at the same time, or one is defective.",
        "Give the same command again when the other one has ended.",
    )
}

fn no_place(error: io::Error) -> Fault {
    Fault::internal("There is no place in memory for the extra files.", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::extra::{Entry, MAX_BYTES};
    use cygnet_protocol::frame;
    use std::os::unix::fs::PermissionsExt;

    fn archive() -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::send(&mut bytes, &Entry::File { path: "key".into(), mode: 0o600, size: 7 }).unwrap();
        bytes.extend(b"hunter2");
        bytes
    }

    fn named(id: u64) -> ExtraFiles {
        ExtraFiles { id, count: Count { files: 1, bytes: 7, ..Count::default() } }
    }

    fn piece(stash: &Stash, id: u64, bytes: &[u8], at: usize, length: usize) -> Result<(), FaultCode> {
        let part = Secret::new(bytes[at..at + length].to_vec());
        stash.take(id, at as u64, bytes.len() as u64, &part).map_err(|fault| {
            assert!(!fault.to_string().contains("hunter2"), "{fault}");
            fault.code
        })
    }

    fn all(stash: &Stash, id: u64, bytes: &[u8]) -> Result<(), FaultCode> {
        (0..bytes.len()).step_by(10).try_for_each(|at| piece(stash, id, bytes, at, 10.min(bytes.len() - at)))
    }

    #[test]
    fn an_archive_is_there_until_its_installation_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("extra");
        let stash = Stash::new(place.clone());
        let is_refused =
            |named: &ExtraFiles| stash.claim(Some(named), None).unwrap_err().code == FaultCode::BadExtraFiles;
        assert!(stash.claim(None, None).is_ok() && is_refused(&named(1)) && stash.archive().is_err());
        all(&stash, 1, &archive()).unwrap();
        assert_eq!(std::fs::metadata(place.join("archive")).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(is_refused(&named(2)));
        assert!(is_refused(&ExtraFiles { count: Count::default(), ..named(1) }));
        // Another one takes its place.
        all(&stash, 2, &archive()).unwrap();
        assert!(is_refused(&named(1)));
        stash.claim(Some(&named(2)), None).unwrap();
        assert!(is_refused(&named(2)), "claimed twice");
        stash.abandon();
        assert_eq!(piece(&stash, 3, &archive(), 0, 10), Err(FaultCode::NotNow));
        let mut read = Vec::new();
        io::Read::read_to_end(&mut stash.archive().unwrap(), &mut read).unwrap();
        assert_eq!(read, archive());
        stash.forget();
        assert!(!place.exists() && stash.archive().is_err());
        assert!(is_refused(&named(2)), "what is gone has to come again");
    }

    #[test]
    fn what_nobody_installs_does_not_stay() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("extra");
        let stash = Stash::new(place.clone());
        piece(&stash, 1, &archive(), 0, 9).unwrap();
        assert!(place.exists());
        stash.abandon();
        assert!(!place.exists());
        all(&stash, 1, &archive()).unwrap();
        stash.claim(None, None).unwrap();
        assert!(!place.exists(), "an installation without extra files keeps some");
        all(&stash, 1, &archive()).unwrap();
        // As after a crash.
        Stash::new(place.clone()).forget();
        assert!(!place.exists());
    }

    #[test]
    fn pieces_that_do_not_fit_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let stash = Stash::new(directory.path().join("extra"));
        let bytes = archive();
        let refused = Err(FaultCode::BadExtraFiles);
        assert_eq!(piece(&stash, 1, &bytes, 10, 5), refused, "no beginning");
        assert_eq!(piece(&stash, 1, &bytes, 0, 0), refused, "empty");
        piece(&stash, 1, &bytes, 0, 10).unwrap();
        assert_eq!(piece(&stash, 1, &bytes, 11, 5), refused, "a gap");
        assert_eq!(piece(&stash, 2, &bytes, 10, 5), refused, "of another archive");
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(piece(&stash, 1, &longer, 10, 5), refused, "of another length");
        let over = stash.take(1, 10, bytes.len() as u64, &Secret::new(vec![7; bytes.len()]));
        assert_eq!(over.unwrap_err().code, FaultCode::BadExtraFiles);
        for total in [0, MAX_BYTES + 1, u64::MAX] {
            let fault = stash.take(9, 0, total, &Secret::new(vec![7])).unwrap_err();
            assert_eq!(fault.code, FaultCode::BadExtraFiles, "{total}");
        }
        // What is no archive is not kept.
        for bad in [&b"hunter2\n"[..], &bytes[..bytes.len() - 1], &longer, &[&bytes[..], &bytes].concat()] {
            assert_eq!(all(&stash, 1, bad), refused);
            assert!(!directory.path().join("extra").exists());
        }
    }

    #[test]
    fn an_interrupted_installation_does_not_go_on_without() {
        let directory = tempfile::tempdir().unwrap();
        let stash = Stash::new(directory.path().join("extra"));
        let fault = stash.claim(None, Some(&named(1))).unwrap_err();
        assert!(fault.remedy.contains("--extra-files") && fault.what.contains("1 file"), "{fault}");
        all(&stash, 2, &archive()).unwrap();
        assert!(stash.claim(Some(&named(2)), Some(&named(1))).is_ok());
    }

    #[test]
    fn a_small_pi_is_not_filled() {
        assert!(
            has_room(MAX_BYTES, 0).is_ok()
                && has_room(MAX_BYTES, 512 << 20).is_ok()
                && has_room(1000, 100 << 20).is_ok()
        );
        assert!(has_room(MAX_BYTES, 128 << 20).is_err());
    }
}
