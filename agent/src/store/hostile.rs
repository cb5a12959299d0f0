//! Archives and streams that nobody would make who means well: refused, with nothing left and nothing touched beside the
//! store. What is not thought of here is left to the fuzz targets.

use crate::fuzzing::{IMPORTED, Place};
use crate::store::import::{SIBLING, import, remove};
use cygnet_protocol::fault::FaultCode;
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use std::fs::{self, File};
use std::os::unix::fs::symlink;

/// Tokens of an archive: each its length, its bytes, zeros up to a multiple of eight.
fn tokens(tokens: &[&[u8]]) -> Vec<u8> {
    let mut all = Vec::new();
    for token in tokens {
        all.extend((token.len() as u64).to_le_bytes());
        all.extend(*token);
        all.resize(all.len().next_multiple_of(8), 0);
    }
    all
}

fn words(text: &str) -> Vec<u8> {
    tokens(&text.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

fn entry(name: &[u8], node: &[u8]) -> Vec<u8> {
    [words("entry ( name"), tokens(&[name]), words("node"), node.to_vec(), words(")")].concat()
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [words("nix-archive-1 ( type directory"), entries.concat(), words(")")].concat()
}

fn file() -> Vec<u8> {
    words("( type regular contents evil )")
}

fn link(target: &[u8]) -> Vec<u8> {
    [words("( type symlink target"), tokens(&[target]), words(")")].concat()
}

fn place() -> (tempfile::TempDir, Place) {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path());
    (directory, place)
}

#[test]
fn names_that_are_none_are_refused() {
    let (_directory, place) = place();
    let (fits, long) = ([b'n'; 255], [b'n'; 256]);
    let huge = vec![b'n'; 2 << 20];
    let bad: [&[u8]; 10] =
        [b"", b".", b"..", b"/", b"a/b", b"../../outside/sentinel", b"/etc/passwd", b"a\0b", &long, &huge];
    for name in bad {
        let shown = String::from_utf8_lossy(&name[..name.len().min(40)]).into_owned();
        // First and last, and as a directory, too.
        let directory = [words("( type directory"), entry(b"x", &file()), words(")")].concat();
        for entries in [vec![entry(name, &file())], vec![entry(b"\x01", &file()), entry(name, &directory)]] {
            let fault = place.import(&archive(&entries)).unwrap_err();
            assert_eq!(fault.code, FaultCode::Garbage, "{shown:?}: {fault}");
            place.judge();
        }
    }
    place.import(&archive(&[entry(&fits, &file())])).unwrap();
    place.judge();
}

#[test]
fn names_that_differ_only_in_case_are_two() {
    let (_directory, place) = place();
    // As Nix does on Linux; only on macOS it adds such a suffix, and takes it away again.
    let names: [&[u8]; 5] = [b"A", b"a", b"a~nix~case~hack~1", "é".as_bytes(), b"\xff"];
    let at = place.import(&archive(&names.map(|name| entry(name, &file())))).unwrap();
    assert_eq!(fs::read_dir(at).unwrap().count(), 5);
    place.judge();
}

#[test]
fn entries_come_in_order_and_once() {
    let (_directory, place) = place();
    for names in [[b"b", b"a"], [b"a", b"a"], [b"a", b"A"]] {
        for node in [file(), link(b"x"), words("( type directory )")] {
            let fault = place.import(&archive(&names.map(|name| entry(name, &node)))).unwrap_err();
            assert_eq!(fault.code, FaultCode::Garbage, "{fault}");
            place.judge();
        }
    }
}

#[test]
fn lengths_that_lie_are_refused_wherever_they_stand() {
    let (_directory, place) = place();
    let good =
        archive(&[entry(b"a", &file()), entry(b"b", &link(b"target")), entry(b"c", &words("( type directory )"))]);
    place.import(&good).unwrap();
    place.judge();
    for at in (0..good.len()).step_by(8) {
        for length in [0, 9, 1 << 20, 1 << 31, 1 << 32, 1 << 62, 1 << 63, u64::MAX - 7, u64::MAX] {
            let mut lying = good.clone();
            lying[at..at + 8].copy_from_slice(&u64::to_le_bytes(length));
            // Some of them are contents, or the targets of links: then it is another good one.
            let _ = place.import(&lying);
            place.judge();
        }
    }
}

#[test]
fn a_link_that_no_file_system_can_have_is_the_archives_fault() {
    let (_directory, place) = place();
    for target in [&b""[..], b"a\0b", &[b'x'; 5000], &[b'x'; 2 << 20]] {
        let fault = place.import(&archive(&[entry(b"a", &link(target))])).unwrap_err();
        // A disk that fails would end more than this path.
        assert_eq!(fault.code, FaultCode::Garbage, "{fault}");
        place.judge();
    }
}

#[test]
fn an_archive_longer_than_its_size_is_not_the_disks_fault() {
    let (_directory, place) = place();
    let nar = archive(&[entry(b"a", &file()), entry(b"b", &link(b"target"))]);
    for size in 0..nar.len() {
        let mut told = crate::fuzzing::told(&nar);
        told.nar_size = size as u64;
        let fault = import(&told, &mut &nar[..], &place.store(), &mut |_| Ok(())).unwrap_err();
        assert!(matches!(fault.code, FaultCode::Garbage | FaultCode::HashMismatch), "{size}: {fault}");
        place.judge();
    }
}

#[test]
fn ten_thousand_directories_in_one_another_are_too_many() {
    let (_directory, place) = place();
    let nested = |levels: usize| {
        let open = [words("( type directory entry ( name d node")].concat().repeat(levels);
        [words("nix-archive-1"), open, words("( type directory )"), words(") )").repeat(levels)].concat()
    };
    place.import(&nested(60)).unwrap();
    place.judge();
    for levels in [64, 65, 10_000] {
        assert_eq!(place.import(&nested(levels)).unwrap_err().code, FaultCode::Garbage, "{levels}");
        place.judge();
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let (directory, place) = place();
    let outside = directory.path().join("outside");
    let target = outside.as_os_str().as_encoded_bytes();
    let inside = [words("( type directory"), entry(b"sentinel", &file()), words(")")].concat();
    for second in [&inside, &file()] {
        assert!(place.import(&archive(&[entry(b"a", &link(target)), entry(b"a", second)])).is_err());
        place.judge();
    }
    // A link to a file, with another file of its name.
    let sentinel = link(outside.join("sentinel").as_os_str().as_encoded_bytes());
    assert!(place.import(&archive(&[entry(b"a", &sentinel), entry(b"a", &file())])).is_err());
    place.judge();
    // That it leads elsewhere is no harm: nothing follows it.
    place.import(&archive(&[entry(b"a", &link(target)), entry(b"b", &sentinel)])).unwrap();
    place.judge();
}

#[test]
fn links_that_were_planted_lead_nowhere() {
    let (directory, place) = place();
    let name = IMPORTED.rsplit('/').next().unwrap();
    for planted in [name.to_owned(), format!("{SIBLING}{name}")] {
        for target in ["outside", "outside/sentinel", "nowhere"] {
            symlink(directory.path().join(target), place.store().join(&planted)).unwrap();
            place.import(&archive(&[entry(b"sentinel", &file())])).unwrap();
            place.judge();
        }
    }
}

#[test]
fn ten_thousand_directories_that_were_planted_break_nothing() {
    // On a disk this takes a minute.
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let planted = directory.path().join("planted");
    fs::create_dir(&planted).unwrap();
    let mut inner = File::open(&planted).unwrap();
    for _ in 0..10_000 {
        mkdirat(&inner, "d", Mode::from_raw_mode(0o755)).unwrap();
        inner = openat(&inner, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap().into();
    }
    // Whether it can be removed depends on how many files may be open; it must only come to an end.
    let _ = remove(&planted);
    std::process::Command::new("rm").arg("-rf").arg(&planted).status().unwrap();
}
