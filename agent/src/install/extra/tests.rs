//! What is laid where, and what hostile archives and hostile targets come to.

use super::*;
use cygnet_protocol::frame;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

/// A target, and beside it what nobody may touch.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        for directory in ["mnt/etc", "outside"] {
            fs::create_dir_all(place.directory.path().join(directory)).unwrap();
        }
        fs::write(place.outside("file"), "theirs").unwrap();
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join("mnt").join(path)
    }

    fn outside(&self, path: &str) -> PathBuf {
        self.directory.path().join("outside").join(path)
    }

    fn lay(&self, entries: &[(Entry, &str)]) -> Result<Laid, Fault> {
        let archive = archive(entries);
        let owner = (rustix::process::geteuid(), rustix::process::getegid());
        let laid = lay_over(&self.at(""), &mut archive.as_slice(), owner).map_err(Fault::from);
        assert_eq!(fs::read_to_string(self.outside("file")).unwrap(), "theirs");
        assert_eq!(fs::read_dir(self.outside("")).unwrap().count(), 1, "something was laid outside of the target");
        laid
    }

    fn mode(&self, path: &str) -> u32 {
        fs::symlink_metadata(self.at(path)).unwrap().permissions().mode() & 0o7777
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    /// Whether anything unfinished is left, anywhere.
    fn is_tidy(&self) -> bool {
        fn look(directory: &Path) -> bool {
            fs::read_dir(directory).unwrap().map(Result::unwrap).all(|entry| {
                entry.file_name() != UNFINISHED && (!entry.file_type().unwrap().is_dir() || look(&entry.path()))
            })
        }
        look(&self.at(""))
    }
}

fn directory(path: &str, mode: u32) -> (Entry, &'static str) {
    (Entry::Directory { path: path.into(), mode }, "")
}

fn file<'a>(path: &str, mode: u32, text: &'a str) -> (Entry, &'a str) {
    (Entry::File { path: path.into(), mode, size: text.len() as u64 }, text)
}

fn link(path: &str, to: &str) -> (Entry, &'static str) {
    (Entry::Link { path: path.into(), to: to.into() }, "")
}

fn archive(entries: &[(Entry, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (entry, text) in entries {
        frame::send(&mut bytes, entry).unwrap();
        bytes.extend(text.as_bytes());
    }
    bytes
}

#[test]
fn files_directories_and_links_get_their_places() {
    let place = Place::new();
    fs::set_permissions(place.at("etc"), fs::Permissions::from_mode(0o751)).unwrap();
    let laid = place
        .lay(&[
            directory("etc", 0o700),
            directory("etc/keys", 0o710),
            file("etc/keys/age", 0o600, "hunter2"),
            link("etc/keys/other", "age"),
            directory("etc/ssh", 0o755),
            file("etc/ssh/ssh_host_rsa_key", 0o600, "k"),
            link("etc/ssh/ssh_host_x_key", "/outside"),
            link("etc/ssh/ssh_host_x_key.pub", "/outside"),
            file("readable", 0o664, ""),
        ])
        .unwrap();
    assert_eq!(place.mode("etc"), 0o751, "a directory that is there keeps what it is");
    assert_eq!((place.mode("etc/keys"), place.mode("etc/keys/age"), place.mode("readable")), (0o710, 0o600, 0o664));
    assert_eq!(place.read("etc/keys/age"), "hunter2");
    assert_eq!(fs::read_link(place.at("etc/keys/other")).unwrap(), Path::new("age"));
    assert_eq!(laid.host_keys, ["etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_x_key.pub"]);
    assert!(laid.loose.is_none() && place.is_tidy());
}

#[test]
fn what_is_there_is_replaced_and_never_written_through() {
    let place = Place::new();
    fs::write(place.at("etc/file"), "a much longer text than the new one").unwrap();
    fs::set_permissions(place.at("etc/file"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::hard_link(place.at("etc/file"), place.at("etc/other-name")).unwrap();
    // At the place itself a link is replaced, wherever it leads.
    symlink(place.outside("file"), place.at("etc/link")).unwrap();
    symlink("nowhere", place.at("etc/old")).unwrap();
    // What a power cut left of an earlier try.
    fs::write(place.at("etc").join(UNFINISHED), "half").unwrap();
    fs::create_dir(place.at("").join(UNFINISHED)).unwrap();
    let entries = [
        directory("etc", 0o755),
        file("etc/file", 0o600, "new"),
        file("etc/link", 0o640, "own"),
        link("etc/old", "somewhere"),
        file("top", 0o600, "t"),
    ];
    place.lay(&entries).unwrap();
    assert_eq!((place.read("etc/file"), place.mode("etc/file")), ("new".into(), 0o600));
    assert!(place.read("etc/other-name").starts_with("a much"), "it was not replaced, but written to");
    assert_eq!((place.read("etc/link"), place.mode("etc/link")), ("own".into(), 0o640));
    assert_eq!(fs::read_link(place.at("etc/old")).unwrap(), Path::new("somewhere"));
    let before = fs::metadata(place.at("etc/file")).unwrap().ino();
    // Again, as after an interruption.
    place.lay(&entries).unwrap();
    assert_ne!(fs::metadata(place.at("etc/file")).unwrap().ino(), before);
    assert!(place.is_tidy());
}

#[test]
fn no_link_in_the_target_is_followed() {
    let place = Place::new();
    symlink(place.outside(""), place.at("var")).unwrap();
    symlink("../../outside", place.at("etc/keys")).unwrap();
    for (entries, at) in [
        (&[directory("var", 0o755), file("var/file", 0o600, "ours")][..], "\"var\" is a link"),
        (
            &[directory("etc", 0o755), directory("etc/keys", 0o755), file("etc/keys/file", 0o600, "x")],
            "\"etc/keys\" is a link",
        ),
        (&[directory("etc", 0o755), directory("etc/keys", 0o755), link("etc/keys/new", "x")], "\"etc/keys\" is a link"),
    ] {
        let fault = place.lay(entries).unwrap_err();
        assert_eq!(fault.code, FaultCode::BadExtraFiles, "{fault}");
        assert!(fault.what.contains(at), "{fault}");
    }
    // One that appears after the directory was seen.
    let root = File::open(place.at("")).unwrap();
    let (entry, _) = file("etc/keys/file", 0o600, "ours");
    let owner = (rustix::process::geteuid(), rustix::process::getegid());
    let refused = super::place(&root, &entry, &mut io::empty(), owner);
    assert!(matches!(refused, Err(Obstacle::Is(at, "a link")) if at == "etc/keys"));
    assert!(place.is_tidy());
}

#[test]
fn files_and_directories_do_not_take_each_others_places() {
    let place = Place::new();
    fs::write(place.at("file"), "theirs").unwrap();
    fs::create_dir(place.at("directory")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, place.at("fifo"), Mode::RUSR).unwrap();
    for (entries, at) in [
        (&[directory("file", 0o755), file("file/below", 0o600, "x")][..], "\"file\" is a file"),
        (&[directory("fifo", 0o755)], "\"fifo\" is no directory"),
        (&[file("directory", 0o600, "x")], "\"directory\" is a directory"),
        (&[link("directory", "x")], "\"directory\" is a directory"),
        (&[directory("etc", 0o755), file("etc/../../outside/file", 0o600, "x")], "“..”"),
        (&[file("/etc/file", 0o600, "x")], "absolute"),
        (&[file("a", 0o600, "x"), file("a", 0o600, "y")], "twice"),
        (&[directory("nix", 0o755), directory("nix/store", 0o755)], "Nix store"),
        (&[file("setuid", 0o4755, "x")], "permissions"),
    ] {
        let fault = place.lay(entries).unwrap_err();
        assert_eq!(fault.code, FaultCode::BadExtraFiles, "{fault}");
        assert!(fault.what.contains(at), "{fault} does not say {at}");
    }
    assert_eq!(place.read("file"), "theirs");
    // In the place of something that is neither.
    place.lay(&[file("fifo", 0o600, "x")]).unwrap();
    assert_eq!(place.read("fifo"), "x");
    assert!(place.is_tidy());
}

#[test]
fn an_archive_that_is_cut_leaves_nothing_half() {
    let place = Place::new();
    let whole = archive(&[file("first", 0o600, "1"), file("secret", 0o600, "hunter2")]);
    let owner = (rustix::process::geteuid(), rustix::process::getegid());
    let fault = Fault::from(lay_over(&place.at(""), &mut &whole[..whole.len() - 3], owner).unwrap_err());
    assert!(!fault.to_string().contains("hunter"), "{fault}");
    assert!(place.read("first") == "1" && !place.at("secret").exists() && place.is_tidy());
}
