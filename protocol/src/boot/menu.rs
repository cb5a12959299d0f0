//! U-Boot's menu on the SSD (`extlinux/extlinux.conf`): which systems can be started, and which one is.
//!
//! The file is U-Boot's dialect of SYSLINUX's (doc/develop/distro.rst, boot/pxe_utils.c): a keyword and its value on each line, in
//! any case. It comes from a disk: it is bounded, and what is shown of it passes the sanitiser. Only the line `DEFAULT` is ever
//! changed, so that NixOS writes the same file at its next switch as if nothing had been.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The file, from the top of its file system.
pub const FILE: &str = "extlinux/extlinux.conf";
/// The most bytes of it; NixOS writes some 400 for each generation.
pub const MOST: usize = 256 * 1024;
/// The most entries that are taken.
const ENTRIES: usize = 500;
/// The longest value that is shown, characters.
const LONGEST: usize = 200;

/// What the menu says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Menu {
    /// The SHA-256 of the file, in hex: whoever wants it changed says with this which one was seen.
    pub digest: String,
    /// The label that starts.
    pub default: Option<String>,
    /// What can be started, in the order of the file.
    pub entries: Vec<Entry>,
}

/// One system that can be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// By which it is chosen.
    pub label: String,
    /// What a person reads.
    pub title: String,
    /// The kernel, as the file names it.
    pub kernel: Option<String>,
    /// The system, from `init=` on the kernel's command line.
    pub system: Option<String>,
}

impl Entry {
    fn of(raw: &Raw) -> Self {
        let init = raw.append.split_whitespace().find_map(|word| word.strip_prefix("init="));
        Self {
            label: clean(&raw.label),
            title: clean(if raw.title.is_empty() { &raw.label } else { &raw.title }),
            kernel: Some(&raw.kernel).filter(|kernel| !kernel.is_empty()).map(|kernel| clean(kernel)),
            system: init.map(|init| clean(init.strip_suffix("/init").unwrap_or(init))),
        }
    }

    /// The number of the generation, if NixOS has named the entry: `nixos-42-default`, or `nixos-42`.
    #[must_use]
    pub fn generation(&self) -> Option<u32> {
        self.label.strip_prefix("nixos-")?.split('-').next()?.parse().ok()
    }
}

/// Why a menu is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MenuError {
    /// There is no such entry.
    #[error("the menu has no entry {0:?}")]
    NoEntry(String),
    /// It is not text, or too long.
    #[error("it is no menu of U-Boot's")]
    NoMenu,
}

/// One entry as it is in the file, for whoever follows its paths. Nothing of it is cleaned for a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Raw {
    /// By which it is chosen.
    pub label: String,
    /// What a person reads; empty if it has no title of its own.
    pub title: String,
    /// The kernel; empty if it has none.
    pub kernel: String,
    /// The initial RAM disk.
    pub initrd: Option<String>,
    /// The kernel's command line.
    pub append: String,
}

/// The label that DEFAULT names, and all entries.
#[must_use]
pub fn entries(text: &str) -> (Option<String>, Vec<Raw>) {
    let (mut default, mut entries) = (None, Vec::<Raw>::new());
    for line in text.lines() {
        let Some((word, value)) = keyword(line) else { continue };
        let room = entries.len() < ENTRIES;
        match (word.as_str(), entries.last_mut()) {
            // U-Boot takes the last one.
            ("DEFAULT", _) => default = Some(value.to_owned()),
            ("LABEL", _) if room => entries.push(Raw { label: value.to_owned(), ..Raw::default() }),
            ("MENU", Some(entry)) => {
                if let Some((word, title)) = keyword(value)
                    && word == "LABEL"
                {
                    title.clone_into(&mut entry.title);
                }
            }
            ("LINUX" | "KERNEL", Some(entry)) => value.clone_into(&mut entry.kernel),
            ("INITRD", Some(entry)) => entry.initrd = Some(value.to_owned()),
            ("APPEND", Some(entry)) => value.clone_into(&mut entry.append),
            // What does not say which systems there are.
            _ => {}
        }
    }
    (default, entries)
}

/// The entry that U-Boot starts: the one that DEFAULT names, else the first (doc/README.pxe).
///
/// # Errors
/// Why there is none, as the end of a sentence.
pub fn starting(text: &str) -> Result<Raw, &'static str> {
    let (default, entries) = entries(text);
    let wanted = default.or_else(|| entries.first().map(|entry| entry.label.clone()));
    match entries.into_iter().find(|entry| Some(&entry.label) == wanted.as_ref()) {
        Some(entry) if entry.kernel.is_empty() => Err("its default entry has no kernel"),
        Some(entry) => Ok(entry),
        None => Err("it has no default entry"),
    }
}

/// Reads a menu.
///
/// # Errors
/// If it is not text, too long, or has no entry.
pub fn parse(file: &[u8]) -> Result<Menu, MenuError> {
    let (default, entries) = entries(text(file)?);
    let entries: Vec<Entry> = entries.iter().map(Entry::of).collect();
    if entries.is_empty() {
        return Err(MenuError::NoMenu);
    }
    Ok(Menu { digest: hex(file), default: default.as_deref().map(clean), entries })
}

/// The file with another entry to start; all other bytes stay.
///
/// # Errors
/// If it is no menu, or has no such entry.
pub fn with_default(file: &[u8], label: &str) -> Result<Vec<u8>, MenuError> {
    let menu = parse(file)?;
    if !menu.entries.iter().any(|entry| entry.label == label) {
        return Err(MenuError::NoEntry(label.to_owned()));
    }
    let mut written = false;
    let mut changed = String::new();
    for line in text(file)?.split_inclusive('\n') {
        match keyword(line) {
            Some((word, _)) if word == "DEFAULT" => {
                // Once is enough.
                if !written {
                    changed.push_str(&format!("DEFAULT {label}\n"));
                }
                written = true;
            }
            Some(_) | None => changed.push_str(line),
        }
    }
    Ok(if written { changed } else { format!("DEFAULT {label}\n{changed}") }.into_bytes())
}

/// The SHA-256 of a file in hex.
#[must_use]
pub fn hex(file: &[u8]) -> String {
    Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(file: &[u8]) -> Result<&str, MenuError> {
    if file.len() > MOST {
        return Err(MenuError::NoMenu);
    }
    std::str::from_utf8(file).map_err(|_| MenuError::NoMenu)
}

/// The keyword in capitals, and what follows; nothing of a comment or an empty line.
fn keyword(line: &str) -> Option<(String, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (word, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    Some((word.to_ascii_uppercase(), value.trim()))
}

fn clean(value: &str) -> String {
    crate::text::line(&value.chars().take(LONGEST).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIXOS: &str = "# Generated file, all changes will be lost on nixos-rebuild!\n\nDEFAULT nixos-default\n\nMENU TITLE ---\nTIMEOUT 50\n\n\
        LABEL nixos-default\n  MENU LABEL NixOS - Default\n  LINUX ../nixos/k2-Image\n  INITRD ../nixos/i2-initrd\n  \
        APPEND init=/nix/store/b-nixos-system-pi/init loglevel=4\n\nlabel nixos-1-default\n  menu label NixOS - Configuration 1 (x)\n  \
        LINUX ../nixos/k1-Image\n  APPEND loglevel=4 init=/nix/store/a-nixos-system-pi/init\n";

    #[test]
    fn the_menu_of_nixos_is_read() {
        let menu = parse(NIXOS.as_bytes()).unwrap();
        assert_eq!(menu.default.as_deref(), Some("nixos-default"));
        let of = |n: usize| &menu.entries[n];
        assert_eq!((menu.entries.len(), of(0).title.as_str()), (2, "NixOS - Default"));
        assert_eq!(of(1).system.as_deref(), Some("/nix/store/a-nixos-system-pi"));
        assert_eq!((of(0).generation(), of(1).generation()), (None, Some(1)));
        assert_eq!(of(1).kernel.as_deref(), Some("../nixos/k1-Image"));
    }

    #[test]
    fn nothing_but_the_default_changes() {
        let changed = String::from_utf8(with_default(NIXOS.as_bytes(), "nixos-1-default").unwrap()).unwrap();
        assert_eq!(changed, NIXOS.replace("DEFAULT nixos-default", "DEFAULT nixos-1-default"));
        assert_eq!(parse(changed.as_bytes()).unwrap().default.as_deref(), Some("nixos-1-default"));
        let without = NIXOS.replace("DEFAULT nixos-default\n", "");
        let changed = with_default(without.as_bytes(), "nixos-default").unwrap();
        assert_eq!(changed, format!("DEFAULT nixos-default\n{without}").into_bytes());
        let twice = format!("default x\n{NIXOS}");
        let changed = String::from_utf8(with_default(twice.as_bytes(), "nixos-default").unwrap()).unwrap();
        assert_eq!(changed.matches("DEFAULT").count(), 1);
    }

    #[test]
    fn what_is_none_is_refused() {
        for file in [&b""[..], b"\xff\xfe", b"DEFAULT x\n", b"# LABEL x\n"] {
            assert_eq!(parse(file), Err(MenuError::NoMenu), "{file:?}");
        }
        assert_eq!(parse(&vec![b'a'; MOST + 1]), Err(MenuError::NoMenu));
        let missing = with_default(NIXOS.as_bytes(), "nixos-9");
        assert_eq!(missing, Err(MenuError::NoEntry("nixos-9".into())));
    }

    #[test]
    fn what_a_disk_says_is_harmless() {
        let menu = parse(b"LABEL a\x1b[2J\nMENU LABEL \xe2\x80\xaex\n").unwrap();
        assert!(!menu.entries[0].label.contains('\x1b') && !menu.entries[0].title.contains('\u{202e}'));
    }
}
