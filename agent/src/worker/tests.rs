//! Whole conversations: what real Nix has said, and what nobody should.

use super::serve;
use super::wire::{Input, Output};
use crate::agent::Agent;
use crate::agent::tests::receiving;
use cygnet_protocol::event::State;
use nix_archive::nar::{CaseHack, encode_path};
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

const A: &str = "/nix/store/00000000000000000000000000000001-a";
const B: &str = "/nix/store/00000000000000000000000000000002-b";

const LAST: u64 = 0x616c_7473;
const ERROR: u64 = 0x6378_7470;

/// The bytes of a recorded session.
fn recorded(text: &str) -> Vec<u8> {
    let hex: Vec<u8> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split('|').next())
        .flat_map(|line| line.bytes().filter(u8::is_ascii_hexdigit))
        .collect();
    hex.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn copies() -> [Vec<u8>; 2] {
    [recorded(include_str!("recorded/copy-2.8.txt")), recorded(include_str!("recorded/copy-2.26.txt"))]
}

/// A directory in memory: thousands of conversations sync it.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Says these bytes and returns what is answered.
fn say(agent: &Arc<Agent>, bytes: &[u8]) -> Vec<u8> {
    let (bridge, _other_end) = UnixStream::pair().unwrap();
    let mut answer = Vec::new();
    serve(agent, &bridge, bytes, &mut answer);
    answer
}

/// Behind a greeting as of Nix 2.26, of whose answer what comes first is taken off.
fn ask(agent: &Arc<Agent>, request: impl FnOnce(&mut Output<&mut Vec<u8>>) -> std::io::Result<()>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut output = Output::new(&mut bytes);
    [0x6e69_7863, 0x126, 0, 0].into_iter().try_for_each(|number| output.number(number)).unwrap();
    request(&mut output).unwrap();
    say(agent, &bytes).split_off(7 * 8)
}

/// What an error says, and what comes behind it.
fn error(answer: &[u8]) -> (String, Vec<u8>) {
    let mut input = Input::new(answer);
    let mut text = String::new();
    assert_eq!(input.number().unwrap(), ERROR);
    for part in 0..6 {
        match part {
            0 | 2 => assert_eq!(input.text().unwrap().string().unwrap(), "Error"),
            3 => text = String::from_utf8(input.bytes().unwrap()).unwrap(),
            _ => assert_eq!(input.number().unwrap(), 0),
        }
    }
    assert!(text.contains("cause:") && text.contains("remedy:"), "{text}");
    (text, input.raw().to_vec())
}

/// Names in the store.
fn store(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory.join("mnt/nix/store")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_real_nix_says_is_understood() {
    for copy in copies() {
        let directory = scratch();
        let agent = receiving(directory.path());
        let answer = say(&agent, &copy);
        // It was asked which are there, and none was; then both came.
        let end: Vec<u8> = [LAST, 0, LAST].into_iter().flat_map(u64::to_le_bytes).collect();
        assert!(answer.ends_with(&end));
        assert_eq!(store(directory.path()), [&A[11..], &B[11..]]);
        assert_eq!(fs::read(directory.path().join("mnt").join(&A[1..])).unwrap(), b"hello");
        // A second time all of it is read over.
        assert!(say(&agent, &copy).ends_with(&LAST.to_le_bytes()));

        let infos = say(&agent, &recorded(include_str!("recorded/info-2.26.txt")));
        let infos = String::from_utf8_lossy(&infos);
        for part in ["06315685f2e92", "test-1:FGt5ySLOFd", A, B] {
            assert!(infos.contains(part), "{part}");
        }
        let back = say(&agent, &recorded(include_str!("recorded/from-2.8.txt")));
        let mut nar = Vec::new();
        encode_path(&mut nar, &directory.path().join("mnt").join(&B[1..]), CaseHack::Disabled).unwrap();
        assert!(back.ends_with(&nar));
    }
}

#[test]
fn a_cut_leaves_whole_paths_or_nothing() {
    for (number, copy) in copies().iter().enumerate() {
        for length in (0..copy.len()).step_by(1 + 4 * number) {
            let directory = scratch();
            let agent = receiving(directory.path());
            say(&agent, &copy[..length]);
            let names = store(directory.path());
            assert!(names.iter().all(|name| !name.starts_with('.')), "{length}: {names:?}");
            assert_eq!(names.len(), agent.valid_paths().len(), "{length}: {names:?}");
        }
    }
}

#[test]
fn any_damage_is_survived() {
    for (number, copy) in copies().iter().enumerate() {
        let directory = scratch();
        // Every byte in one of the two, every seventh in the other.
        for position in (0..copy.len()).step_by(1 + 6 * number) {
            let agent = receiving(directory.path());
            let mut damaged = copy.clone();
            damaged[position] ^= if position % 2 == 0 { 0x80 } else { 0x01 };
            say(&agent, &damaged);
            let names = store(directory.path());
            assert_eq!(names.len(), agent.valid_paths().len(), "{position}: {names:?}");
            for name in names {
                let path = directory.path().join("mnt/nix/store").join(name);
                assert!(!path.file_name().unwrap().to_string_lossy().starts_with('.'), "{position}");
                crate::store::import::remove(&path).unwrap();
            }
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing but state and mnt");
    }
}

/// The NAR of a directory with one file of this name, made by hand: nothing is too odd to be written.
fn nar(names: &[&[u8]]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut token = |bytes: &[u8]| {
        all.extend((bytes.len() as u64).to_le_bytes());
        all.extend(bytes);
        all.resize(all.len().next_multiple_of(8), 0);
    };
    for text in ["nix-archive-1", "(", "type", "directory"] {
        token(text.as_bytes());
    }
    for name in names {
        for text in ["entry", "(", "name"] {
            token(text.as_bytes());
        }
        token(name);
        for text in ["node", "(", "type", "regular", "contents", "evil", ")", ")"] {
            token(text.as_bytes());
        }
    }
    token(b")");
    all
}

/// Sends a path with this NAR, of whose length `lie` is told.
fn send(agent: &Arc<Agent>, path: &str, references: &[&str], nar: &[u8], lie: Option<u64>) -> Vec<u8> {
    let hash = Sha256::digest(nar).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    ask(agent, |output| {
        output.number(39)?;
        [path, "", hash.as_str()].into_iter().try_for_each(|text| output.text(text))?;
        output.texts(references)?;
        [0, lie.unwrap_or(nar.len() as u64), 0].into_iter().try_for_each(|number| output.number(number))?;
        output.texts::<&str>(&[])?;
        output.text("")?;
        [0, 1, nar.len() as u64].into_iter().try_for_each(|number| output.number(number))?;
        output.raw().extend(nar);
        output.number(0)?;
        // Is it still there?
        output.number(1)?;
        output.text(A)
    })
}

#[test]
fn what_means_ill_is_refused_and_the_conversation_goes_on() {
    let directory = scratch();
    let agent = receiving(directory.path());
    let after = [LAST, 0].into_iter().flat_map(u64::to_le_bytes).collect::<Vec<u8>>();
    let refused = |answer: Vec<u8>| {
        let (text, rest) = error(&answer);
        assert_eq!(rest, after, "{text}");
        assert!(store(directory.path()).is_empty(), "{text}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "{text}");
        text
    };
    let long = vec![b'n'; 256];
    let bad: [&[&[u8]]; 9] =
        [&[b".."], &[b"."], &[b""], &[b"a/b"], &[b"/etc/passwd"], &[b"a\0b"], &[&long], &[b"b", b"a"], &[b"a", b"a"]];
    for names in bad {
        refused(send(&agent, B, &[], &nar(names), None));
    }
    let good = nar(&[b"a", b"b"]);
    for lie in [0, 8, good.len() as u64 - 8, good.len() as u64 + 8, 1 << 63, u64::MAX] {
        refused(send(&agent, B, &[], &good, Some(lie)));
    }
    for path in
        ["", "/nix/store/..", "/etc/passwd", "/nix/store/00000000000000000000000000000002-../x", "/nix/store/.links"]
    {
        refused(send(&agent, path, &[], &good, None));
        refused(send(&agent, B, &[path], &good, None));
    }
    let text = refused(send(&agent, B, &[A], &good, None));
    assert!(text.contains("refers to"), "{text}");
    let text = refused(ask(&agent, |output| {
        output.number(34)?;
        output.number(1)?;
        output.text(A)
    }));
    assert!(text.contains("optimising"), "{text}");
    // And when all is well, it comes in.
    assert_eq!(send(&agent, B, &[B], &good, None)[..8], LAST.to_le_bytes());
    assert_eq!(store(directory.path()), [&B[11..]]);
}

#[test]
fn a_planted_link_leads_nowhere() {
    let directory = scratch();
    let agent = receiving(directory.path());
    let outside = directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    for name in [B[11..].to_owned(), format!(".cygnet-{}", &B[11..])] {
        std::os::unix::fs::symlink(&outside, directory.path().join("mnt/nix/store").join(name)).unwrap();
    }
    assert_eq!(send(&agent, B, &[], &nar(&[b"a"]), None)[..8], LAST.to_le_bytes());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(fs::symlink_metadata(directory.path().join("mnt").join(&B[1..])).unwrap().is_dir());
}

#[test]
fn lengths_that_lie_end_the_conversation() {
    let directory = scratch();
    let agent = receiving(directory.path());
    for operation in [1_u64, 6, 7, 9, 10, 19, 23, 26, 29, 30, 31, 32, 37, 38, 39, 40, 44, 45, 46, 47, 99] {
        for length in [1 << 63, u64::MAX, 1 << 32, 200_000] {
            // Whatever is the first thing that can be long: nothing that comes is as much as it says.
            for numbers in 0..3 {
                let answer = ask(&agent, |output| {
                    output.number(operation)?;
                    (0..numbers).try_for_each(|_| output.number(0))?;
                    output.number(length)?;
                    output.raw().extend(b"something");
                    Ok(())
                });
                assert!(answer.len() < 4096, "{operation} {length}: {} bytes", answer.len());
            }
        }
    }
    assert!(store(directory.path()).is_empty());
}

#[test]
fn without_a_target_there_is_only_a_greeting() {
    let directory = scratch();
    let agent = receiving(directory.path());
    agent.set_state(State::Waiting);
    for copy in copies() {
        let answer = String::from_utf8_lossy(&say(&agent, &copy)).into_owned();
        assert!(answer.contains("No target is mounted") && answer.contains("remedy"), "{answer}");
        assert!(store(directory.path()).is_empty());
    }
    for operation in [1, 26, 29, 38] {
        let answer = ask(&agent, |output| {
            output.number(operation)?;
            output.text(A)
        });
        error(&answer);
    }
}
