//! Extra files on their way to an installation: in memory, and only as long as somebody may still install them.

use crate::rig::{Client, LIMIT, Place, mode};
use cygnet_protocol::extra::{Entry, MAX_BYTES};
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::frame;
use cygnet_protocol::message::{Reply, Request};
use cygnet_protocol::secret::Secret;
use std::path::Path;
use std::time::{Duration, Instant};

const SECRET: &str = "hatched-beside-a-card-4711";

fn archive(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let entry = Entry::File { path: path.into(), mode: 0o600, size: SECRET.len() as u64 };
    frame::send(&mut bytes, &entry).unwrap();
    bytes.extend(SECRET.as_bytes());
    bytes
}

/// Sends what is between these two places of an archive.
fn piece(client: &mut Client, archive: &[u8], from: usize, to: usize) -> Result<(), FaultCode> {
    let (at, total) = (from as u64, archive.len() as u64);
    match client.ask(&Request::ExtraFiles { id: 7, at, total, bytes: Secret::new(archive[from..to].to_vec()) }) {
        Reply::Accepted { .. } => Ok(()),
        Reply::Error(fault) => {
            assert!(!fault.to_string().contains(SECRET), "{fault}");
            Err(fault.code)
        }
        other => panic!("{other:?}"),
    }
}

fn goes(path: &Path) {
    let begin = Instant::now();
    while path.exists() {
        assert!(begin.elapsed() < LIMIT, "{} stays", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn they_are_in_memory_until_whoever_sent_them_has_gone() {
    let place = Place::new();
    let daemon = place.start();
    let directory = place.at("run/extra-files");
    let archive = archive("etc-key");
    let mut client = place.client();
    piece(&mut client, &archive, 0, 20).unwrap();
    piece(&mut client, &archive, 20, archive.len()).unwrap();
    // As the daemon sees it, in its own namespace.
    let proc = Path::new("/proc").join(daemon.pid().to_string());
    let mounts = std::fs::read_to_string(proc.join("mounts")).unwrap();
    let line = format!("ramfs {} ramfs", directory.display());
    assert!(mounts.contains(&line), "{mounts}");
    let inside = proc.join("root").join(directory.strip_prefix("/").unwrap());
    assert_eq!((mode(&inside), mode(&inside.join("archive"))), (0o700, 0o600));
    assert_eq!(std::fs::read(inside.join("archive")).unwrap(), archive);
    // Not where it would survive.
    assert!(!directory.join("archive").exists());
    client.close();
    goes(&directory);
    assert!(!daemon.said().contains(SECRET) && !place.journal().exists());
}

#[test]
fn what_is_no_archive_of_files_or_too_much_is_not_kept() {
    let place = Place::new();
    let _daemon = place.start();
    let directory = place.at("run/extra-files");
    let mut client = place.client();
    for bad in [archive("../etc/x"), archive("/etc/x"), archive("nix/store/x"), SECRET.into()] {
        assert_eq!(piece(&mut client, &bad, 0, bad.len()), Err(FaultCode::BadExtraFiles));
        assert!(!directory.exists());
    }
    let good = archive("x");
    assert_eq!(piece(&mut client, &good, 5, 9), Err(FaultCode::BadExtraFiles));
    for total in [0, MAX_BYTES + 1, u64::MAX] {
        let request = Request::ExtraFiles { id: 7, at: 0, total, bytes: Secret::new(vec![7]) };
        match client.ask(&request) {
            Reply::Error(fault) => assert_eq!(fault.code, FaultCode::BadExtraFiles),
            other => panic!("{total}: {other:?}"),
        }
    }
    assert!(!directory.exists());
    piece(&mut client, &good, 0, good.len()).unwrap();
}

#[test]
fn a_killed_agent_leaves_none_to_the_next() {
    let place = Place::new();
    let mut daemon = place.start();
    let directory = place.at("run/extra-files");
    let archive = archive("x");
    let mut client = place.client();
    piece(&mut client, &archive, 0, archive.len()).unwrap();
    daemon.signal(rustix::process::Signal::KILL);
    daemon.wait();
    drop(client);
    let _next = place.start();
    assert!(!directory.exists());
}
