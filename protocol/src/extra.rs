//! Extra files: what may be laid over the new system's root, and how it travels.
//!
//! All of them are one archive: for each directory, file or link a line of JSON, an [`Entry`], and behind a file's line its
//! bytes. A directory comes right before what is in it, siblings in the order of their names' bytes: so nothing comes twice,
//! and nothing is below a file or a link. It goes in pieces of [`MAX_PIECE`] before the request `install`, which names it
//! ([`ExtraFiles`]): one message can't hold it. [`Checker`] is what both ends see to, [`read`] how an archive is read.
//!
//! What is in the files may be secret. Nothing here shows it, nor a hash of it, which would tell a short one.

use crate::fault::{Fault, FaultCode};
use crate::frame;
use crate::plan::human_bytes;
use crate::secret::{Secret, at_most};
use serde::{Deserialize, Deserializer, Serialize, de};
use std::fmt;
use std::io::{self, BufRead, Read};

/// How many files, links and directories there may be.
pub const MAX_ENTRIES: u64 = 10_000;

/// The most bytes of an archive: of contents, names and links together. The Pi has them in its memory for a while.
pub const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The most bytes of one piece. In base64 it is far shorter than [`frame::MAX_LINE`].
pub const MAX_PIECE: usize = 512 * 1024;

/// The longest path, bytes.
pub const MAX_PATH: usize = 1024;

/// The longest name in a path, bytes (`NAME_MAX`).
pub const MAX_NAME: usize = 255;

/// The longest text of a link, bytes (`PATH_MAX`, without the zero behind it).
pub const MAX_LINK: usize = 4095;

/// What a file is called until it is whole and has its place; no extra file may have this name.
pub const UNFINISHED: &str = ".cygnet-unfinished";

/// The longest line of an archive, bytes: path and link, twice as long where all of it has to be escaped.
const MAX_ENTRY: u64 = 16 * 1024;

/// Something that is laid over the root. Paths are relative to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Entry {
    /// A directory; one that is there keeps its mode.
    Directory {
        /// Where.
        path: String,
        /// Its permissions, nine bits.
        mode: u32,
    },
    /// A file; its bytes follow.
    File {
        /// Where.
        path: String,
        /// Its permissions, nine bits.
        mode: u32,
        /// How many bytes it has.
        size: u64,
    },
    /// A symbolic link.
    Link {
        /// Where.
        path: String,
        /// What it says, which nobody follows.
        to: String,
    },
}

impl Entry {
    /// Where.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Directory { path, .. } | Self::File { path, .. } | Self::Link { path, .. } => path,
        }
    }

    /// How many bytes follow its line.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            Self::Directory { .. } | Self::Link { .. } => 0,
        }
    }
}

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Count {
    /// Files.
    pub files: u64,
    /// Symbolic links.
    pub links: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes in the files.
    pub bytes: u64,
}

impl Count {
    fn entries(self) -> u64 {
        self.files + self.links + self.directories
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |count, one: &str, many: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            count => Some(format!("{count} {many}")),
        };
        let parts = [
            named(self.files, "file", "files"),
            named(self.links, "link", "links"),
            named(self.directories, "directory", "directories"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        write!(f, "{} ({})", parts.join(", "), human_bytes(self.bytes))
    }
}

/// The extra files that an installation is given, as `install` names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExtraFiles {
    /// Which archive: the client chooses a number by chance, and says it with each piece. It tells nothing of the files.
    pub id: u64,
    /// How many are in it.
    pub count: Count,
}

/// Why an archive, or something in it, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.what())]
pub enum Unfit {
    /// No path that anything may be laid at.
    Path {
        /// It.
        path: String,
        /// Why, in words that follow the path.
        why: &'static str,
    },
    /// More than the nine bits of permissions.
    Mode {
        /// Whose.
        path: String,
    },
    /// A link with a text that no link can have, or that nobody could print.
    Link {
        /// Where.
        path: String,
    },
    /// More than [`MAX_ENTRIES`].
    TooMany {
        /// The first that is too many.
        path: String,
    },
    /// More than [`MAX_BYTES`].
    TooLarge {
        /// With which; none if it is known before they have come.
        path: Option<String>,
    },
    /// It came before, or not behind its directory, or that is no directory.
    Order {
        /// It.
        path: String,
    },
    /// What has come is no archive, or not all of one.
    Damaged,
}

impl Unfit {
    fn what(&self) -> String {
        match self {
            Self::Path { path, why } => format!("The extra file {path:?} {why}."),
            Self::Mode { path } => format!("The extra file {path:?} has more than permissions in its mode."),
            Self::Link { path } => {
                format!("The extra file {path:?} is a link that is empty, too long, or has control characters in it.")
            }
            Self::TooMany { path } => {
                format!("With {path:?} there are more than {MAX_ENTRIES} extra files, links and directories.")
            }
            Self::TooLarge { path: Some(path) } => {
                format!("With {path:?} the extra files have more than {}, names included.", human_bytes(MAX_BYTES))
            }
            Self::TooLarge { path: None } => {
                format!("The extra files have more than {}, names included.", human_bytes(MAX_BYTES))
            }
            Self::Order { path } => {
                format!("The extra file {path:?} comes twice, or not behind a directory that it could be in.")
            }
            Self::Damaged => "The extra files have not come as they should.".to_owned(),
        }
    }

    fn cause(&self) -> &'static str {
        match self {
            Self::Path { .. } | Self::Link { .. } => {
                "Extra files get the places in the new system that their names say, so these have to be plain."
            }
            Self::Mode { .. } => "Setuid, setgid and sticky bits are not taken over, and the client should know.",
            Self::TooMany { .. } | Self::TooLarge { .. } => {
                "They are kept in the Pi's memory until they have their places."
            }
            Self::Order { .. } | Self::Damaged => "The client is defective or none of ours, or bytes were damaged.",
        }
    }

    fn remedy(&self) -> &'static str {
        match self {
            Self::Path { .. } | Self::Link { .. } => {
                "Rename it, or take it out of the directory that `--extra-files` names."
            }
            Self::TooMany { .. } | Self::TooLarge { .. } => {
                "Is it the right directory? Build what is large or many into the system, or copy it when the system runs."
            }
            Self::Mode { .. } | Self::Order { .. } | Self::Damaged => {
                "Give the same command again, with the cygnet that belongs to this agent."
            }
        }
    }
}

impl From<Unfit> for Fault {
    fn from(unfit: Unfit) -> Self {
        Fault::new(FaultCode::BadExtraFiles, unfit.what(), unfit.cause(), unfit.remedy())
    }
}

/// Sees to it that an archive is not larger than it may be, before anything is kept of it.
///
/// # Errors
/// If it is.
pub fn check_size(bytes: u64) -> Result<(), Unfit> {
    match bytes {
        0 => Err(Unfit::Damaged),
        1..=MAX_BYTES => Ok(()),
        _ => Err(Unfit::TooLarge { path: None }),
    }
}

/// Why nothing may be laid at this path, in words that follow it. `directory` tells whether it is one.
#[must_use]
pub fn bad_path(path: &str, directory: bool) -> Option<&'static str> {
    if path.is_empty() {
        return Some("has no name");
    }
    if path.starts_with('/') {
        return Some("has an absolute path");
    }
    if path.len() > MAX_PATH {
        return Some("has a path of more than 1024 bytes");
    }
    if path.chars().any(char::is_control) {
        return Some("has control characters in its name");
    }
    for name in path.split('/') {
        match name {
            "" => return Some("has an empty name in its path"),
            "." | ".." => return Some("has “.” or “..” in its path"),
            UNFINISHED => return Some("has the name that files have while they are unfinished"),
            name if name.len() > MAX_NAME => return Some("has a name of more than 255 bytes"),
            _ => {}
        }
    }
    match path.strip_prefix("nix/store") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => Some("is in the Nix store, which is for Nix alone"),
        _ if path == "nix" && !directory => Some("has the place of the directory /nix"),
        _ => None,
    }
}

/// Looks at the entries of an archive, one after the other.
#[derive(Debug, Default)]
pub struct Checker {
    /// The names in the last path.
    last: Vec<String>,
    /// So many of them, from the root on, are directories.
    depth: usize,
    count: Count,
    bytes: u64,
}

impl Checker {
    /// Lets the next entry in, whose line is so long, or refuses it.
    ///
    /// # Errors
    /// If it, or its place, is not as it may be, or if it is too much.
    pub fn admit(&mut self, entry: &Entry, line: usize) -> Result<(), Unfit> {
        let path = || entry.path().to_owned();
        let is_directory = matches!(entry, Entry::Directory { .. });
        if let Some(why) = bad_path(entry.path(), is_directory) {
            return Err(Unfit::Path { path: path(), why });
        }
        match entry {
            Entry::Directory { mode, .. } | Entry::File { mode, .. } if mode & !0o777 != 0 => {
                return Err(Unfit::Mode { path: path() });
            }
            Entry::Link { to, .. } if to.is_empty() || to.len() > MAX_LINK || to.chars().any(char::is_control) => {
                return Err(Unfit::Link { path: path() });
            }
            _ => {}
        }
        if self.count.entries() == MAX_ENTRIES {
            return Err(Unfit::TooMany { path: path() });
        }
        let size = u64::try_from(line).ok().and_then(|line| line.checked_add(entry.size()));
        self.bytes = size
            .and_then(|size| self.bytes.checked_add(size))
            .filter(|bytes| *bytes <= MAX_BYTES)
            .ok_or_else(|| Unfit::TooLarge { path: Some(path()) })?;
        self.place(entry.path(), is_directory)?;
        match entry {
            Entry::Directory { .. } => self.count.directories += 1,
            Entry::Link { .. } => self.count.links += 1,
            Entry::File { size, .. } => {
                self.count.files += 1;
                self.count.bytes += size;
            }
        }
        Ok(())
    }

    /// Its directory is one of those that the last path is in, or that path itself, and it comes behind that.
    fn place(&mut self, path: &str, is_directory: bool) -> Result<(), Unfit> {
        let names: Vec<&str> = path.split('/').collect();
        let Some((name, parents)) = names.split_last() else { return Err(Unfit::Order { path: path.to_owned() }) };
        let above = self.last.get(..parents.len()).filter(|_| parents.len() <= self.depth);
        let in_place = above.is_some_and(|above| above.iter().zip(parents).all(|(there, name)| there == name));
        let behind = self.last.get(parents.len()).is_none_or(|before| before.as_str() < *name);
        if !in_place || !behind {
            return Err(Unfit::Order { path: path.to_owned() });
        }
        self.depth = parents.len() + usize::from(is_directory);
        self.last = names.into_iter().map(str::to_owned).collect();
        Ok(())
    }

    /// What was let in.
    #[must_use]
    pub fn count(&self) -> Count {
        self.count
    }
}

/// Reads an archive to its end. Each entry is visited once it is let in, with its bytes; those that nobody reads are skipped.
///
/// # Errors
/// If the archive is not as it may be, or as soon as `visit` fails.
pub fn read<E: From<Unfit>>(
    reader: &mut impl BufRead,
    mut visit: impl FnMut(&Entry, &mut dyn Read) -> Result<(), E>,
) -> Result<Count, E> {
    let mut checker = Checker::default();
    loop {
        let line = match frame::read_line(&mut reader.by_ref().take(MAX_ENTRY)) {
            Ok(line) => line,
            Err(frame::FrameError::Closed) => return Ok(checker.count()),
            Err(_) => return Err(Unfit::Damaged.into()),
        };
        // What is no entry may be a part of a file: it is not quoted.
        let entry: Entry = frame::parse(&line).map_err(|_| Unfit::Damaged)?;
        checker.admit(&entry, line.len() + 1)?;
        let mut bytes = reader.by_ref().take(entry.size());
        visit(&entry, &mut bytes)?;
        let skipped = io::copy(&mut bytes, &mut io::sink());
        if skipped.is_err() || bytes.limit() != 0 {
            return Err(Unfit::Damaged.into());
        }
    }
}

/// Reads a piece. What it complains of, it does not quote.
pub(crate) fn piece<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    at_most(deserializer, MAX_PIECE)
        .map_err(|_| de::Error::custom(format_args!("`bytes` is no base64 of at most {MAX_PIECE} bytes")))
}

#[cfg(test)]
mod tests;
