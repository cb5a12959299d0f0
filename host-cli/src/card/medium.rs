//! A card or an image of one, opened: never a disk that this machine needs or has mounted.

use super::disks::{self, Disk, Objection};
use super::{in_use, pins};
use crate::error::fault;
use anyhow::{Context, Result};
use cygnet_protocol::fault::FaultCode;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What it is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To look at it.
    Read,
    /// To change files on it.
    Change,
    /// To write all of it anew.
    Overwrite,
}

/// A card or an image.
#[derive(Debug)]
pub struct Medium {
    /// As opened.
    pub path: PathBuf,
    /// Open.
    pub file: File,
    /// Bytes.
    pub size: u64,
    /// The disk, if it is none in a file.
    pub disk: Option<Disk>,
}

impl Medium {
    /// Opens it. With `unmount`, what desktops mount by themselves is unmounted first.
    pub fn open(path: &Path, purpose: Purpose, unmount: bool) -> Result<Self> {
        let shown = path.display();
        let metadata = std::fs::metadata(path).map_err(|error| missing(path, error))?;
        let kind = metadata.file_type();
        if kind.is_file() {
            if purpose != Purpose::Read && metadata.permissions().readonly() {
                return Err(protected(
                    &shown.to_string(),
                    "The file may not be written: nobody has the permission to.",
                ));
            }
            let file = options(purpose).open(path).map_err(|error| open_failed(path, error))?;
            let user = file.metadata().ok().and_then(|opened| in_use::by_this_machine(&opened, path));
            if let Some(user) = user.filter(|_| purpose != Purpose::Read) {
                return Err(fault(
                    FaultCode::DiskBusy,
                    format!("{shown} is in use; nothing was changed."),
                    format!("As a file it looks free, but {user}."),
                    "Give the device instead of the file, or free it (`umount`, `losetup --detach`, `swapoff`).",
                ));
            }
            return Ok(Self { path: path.to_owned(), file, size: metadata.len(), disk: None });
        }
        if !kind.is_block_device() && !kind.is_char_device() {
            return Err(fault(
                FaultCode::BadRequest,
                format!("{shown} is neither a disk nor a file with an image."),
                if kind.is_dir() {
                    "It is a directory: a place where a card is mounted, perhaps."
                } else {
                    "It is something else."
                },
                "`cygnet card list` shows the cards that are there.",
            ));
        }
        let device = path.canonicalize().with_context(|| format!("looking at {shown}"))?;
        let mut disk = disks::holding(&device)?;
        if purpose != Purpose::Read {
            for objection in disk.objections() {
                match objection {
                    Objection::Mounted(_) if unmount => {
                        disks::unmount(&disk)?;
                        disk = disks::holding(&device)?;
                    }
                    objection => return Err(refusal(&disk, &objection)),
                }
            }
            if let Some(still) = disk.objections().first() {
                return Err(refusal(&disk, still));
            }
        }
        let raw = disks::raw(&device);
        let file = options(purpose).open(&raw).map_err(|error| open_failed(&raw, error))?;
        let size = disks::size_of(&device, &disk, &file)?;
        Ok(Self { path: raw, file, size, disk: Some(disk) })
    }
}

fn options(purpose: Purpose) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(purpose != Purpose::Read);
    // On a block device: refuse if it, or a partition of it, is mounted or held (open(2)).
    if cfg!(target_os = "linux") && purpose != Purpose::Read {
        options.custom_flags(rustix::fs::OFlags::EXCL.bits().cast_signed());
    }
    options
}

/// Why a disk is not written to.
pub fn refusal(disk: &Disk, objection: &Objection) -> anyhow::Error {
    let shown = disk.describe();
    match objection {
        Objection::System(at) => fault(
            FaultCode::NotACard,
            format!("{shown} is not written to: this machine needs it."),
            format!("It is mounted at {}.", at.join(", ")),
            "Take the device of the card; `cygnet card list` shows those that are there.",
        ),
        Objection::Fixed => fault(
            FaultCode::NotACard,
            format!("{shown} is not written to: it is built into this machine."),
            "It is neither removable nor behind USB, so it is hardly a card.",
            "Take the device of the card; `cygnet card list` shows those that are there.",
        ),
        Objection::Mounted(at) => fault(
            FaultCode::DiskBusy,
            format!("{shown} is mounted."),
            format!("It is in use at {}; what is written beneath a mounted file system destroys it.", at.join(", ")),
            "Give `--unmount`, or unmount it yourself.",
        ),
        Objection::ReadOnly => {
            protected(&shown, "The slider on the card or its adapter is at “lock”, or the reader allows no writing.")
        }
        Objection::Held(by) => fault(
            FaultCode::DiskBusy,
            format!("{shown} is in use."),
            format!("{} is on it.", by.join(", ")),
            "Close it (`cryptsetup close`, `vgchange -an`, `zpool export`), and try again.",
        ),
    }
}

fn protected(shown: &str, cause: &str) -> anyhow::Error {
    fault(
        FaultCode::DiskBusy,
        format!("{shown} is write-protected; nothing was changed."),
        cause,
        "Move the slider away from “lock” and put the card in again, or take another reader or card; for a file, `chmod u+w`.",
    )
}

fn missing(path: &Path, error: io::Error) -> anyhow::Error {
    if error.kind() != io::ErrorKind::NotFound {
        return anyhow::Error::from(error).context(format!("looking at {}", path.display()));
    }
    fault(
        FaultCode::NotFound,
        format!("There is no {}.", path.display()),
        "The card is not in the reader, has another name now, or the path is mistyped.",
        "`cygnet card list` shows the cards that are there.",
    )
}

fn open_failed(path: &Path, error: io::Error) -> anyhow::Error {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied if !is_root() => fault(
            FaultCode::AccessDenied,
            format!("{shown} may not be opened."),
            "Only root may use disks directly, or members of the group `disk` on some Linux systems.",
            format!("Run the same command with `{}`; settings and keys stay those of your own account.", pins::sudo()),
        ),
        io::ErrorKind::PermissionDenied if cfg!(target_os = "macos") => fault(
            FaultCode::AccessDenied,
            format!("{shown} may not be opened, not even by root."),
            "macOS has not allowed this terminal to use removable volumes, or the card is write-protected.",
            "Allow it in System Settings, Privacy & Security, Files and Folders (or Full Disk Access); look at the card's slider.",
        ),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            protected(&shown.to_string(), "The system allows no writing to it.")
        }
        io::ErrorKind::ResourceBusy => fault(
            FaultCode::DiskBusy,
            format!("{shown} is in use."),
            "It is mounted, or something else holds it (a pool, a volume group, another program that writes to it).",
            "Give `--unmount`, or close what uses it.",
        ),
        _ => anyhow::Error::from(error).context(format!("opening {shown}")),
    }
}

/// What a failed write means.
pub fn write_failed(shown: &str, error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            protected(shown, "The device refuses to be written to.")
        }
        _ => fault(
            FaultCode::NotWritten,
            format!("Writing to {shown} failed."),
            format!("{error}: the card or its reader is broken, or was taken out."),
            "Put it in again and repeat the command; if it fails again, take another card or reader.",
        ),
    }
}

/// Whether it is root who runs this.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
