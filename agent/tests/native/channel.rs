//! Store paths on the data channel, and an installation that is gone on with.
//!
//! The plan has no steps, because its layout is empty: the installation goes straight to receiving, into a directory.

use crate::rig::{Client, Place, mode};
use cygnet_protocol::code::Packing;
use cygnet_protocol::disko::Devices;
use cygnet_protocol::event::{EventKind, Phase, State};
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::frame;
use cygnet_protocol::message::{Reply, Request};
use cygnet_protocol::plan::{Mode, Options, compile, layout_hash};
use cygnet_protocol::store::{HashAlgorithm, NixHash, PathInfo, StorePath, parse_store_path};
use cygnet_protocol::stream::{DataHello, DataReply, Record};
use cygnet_protocol::trust::Trust;
use nix_archive::nar::{CaseHack, encode_path};
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Write;
use structured_zstd::encoding::{CompressionLevel, compress_to_vec};

pub const TOPLEVEL: &str = "/nix/store/1c5b8vw40dy178xlpddw65q9gf1h2186-nixos-system-pi-26.05";

fn layout() -> Value {
    json!({ "disk": {} })
}

/// A place where an installation was cut off after it had formatted.
pub fn interrupted() -> (Place, Request) {
    interrupted_in(Mode::Destroy)
}

/// The same in another mode.
pub fn interrupted_in(mode: Mode) -> (Place, Request) {
    let place = Place::new();
    let devices = Devices::default();
    let plan = compile(&devices, &[], &Options { require_root: false, mode, ..Options::default() }).unwrap();
    assert!(plan.steps.is_empty() && plan.disks.is_empty());
    let digest = plan.digest.to_string();
    let hash = layout_hash(&layout(), mode);
    let closure = json!({
        "toplevel": TOPLEVEL, "system": format!("{}-linux", std::env::consts::ARCH), "paths": 3, "nar-size": 4096,
    });
    let options = json!({ "reboot": false, "keep-host-key": false });
    let journal = [
        json!({ "record": "begin", "digest": digest, "layout": hash, "plan": plan, "closure": closure, "options": options }),
        json!({ "record": "done", "phase": "format" }),
    ];
    std::fs::create_dir(place.at("state")).unwrap();
    std::fs::write(place.journal(), format!("{}\n{}\n", journal[0], journal[1])).unwrap();
    let install = json!({
        "type": "install", "disko": layout(), "digest": &digest[..12], "closure": closure, "options": options, "mode": mode,
    });
    (place, serde_json::from_value(install).unwrap())
}

pub fn follower(place: &Place) -> Client {
    let mut client = place.client();
    assert!(matches!(client.ask(&Request::Follow { from: 0 }), Reply::Accepted { .. }));
    client
}

/// Reads events until one is such.
pub fn until(follower: &mut Client, such: impl Fn(&EventKind) -> bool) {
    loop {
        match follower.hear() {
            Reply::Event(event) if such(&event.kind) => return,
            Reply::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

pub fn receiving(kind: &EventKind) -> bool {
    matches!(kind, EventKind::StateChanged { to: State::Receiving })
}

/// A store path with one file, its NAR and what is known of it.
pub fn path(name: &str, references: &[&StorePath]) -> (PathInfo, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), name).unwrap();
    let mut nar = Vec::new();
    encode_path(&mut nar, directory.path(), CaseHack::Disabled).unwrap();
    let info = PathInfo {
        path: parse_store_path(&format!("/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-{name}")).unwrap(),
        nar_hash: NixHash::from_algorithm_and_digest(HashAlgorithm::Sha256, &Sha256::digest(&nar)).unwrap(),
        nar_size: nar.len() as u64,
        references: references.iter().map(|path| (*path).clone()).collect(),
        deriver: None,
        signatures: vec![],
        ca: None,
    };
    (info, nar)
}

/// Packs what is sent after the first line; `end` closes it properly.
pub fn packed(paths: &[(PathInfo, Vec<u8>)], end: bool) -> Vec<u8> {
    let mut plain = Vec::new();
    for (info, nar) in paths {
        frame::send(&mut plain, &Record::Nar(info.clone())).unwrap();
        plain.extend(nar);
    }
    if end {
        frame::send(&mut plain, &Record::End { paths: paths.len() as u64 }).unwrap();
    }
    compress_to_vec(&plain[..], CompressionLevel::Fastest)
}

/// Sends it on a data channel of its own and returns the answer.
pub fn push(place: &Place, bytes: &[u8]) -> DataReply {
    push_trusting(place, Trust::default(), bytes)
}

/// The same, with something asked for.
pub fn push_trusting(place: &Place, trust: Trust, bytes: &[u8]) -> DataReply {
    let mut data = place.bridge("data");
    data.say(&DataHello { protocol: 1, compression: "zstd".into(), trust, code: false });
    data.send(bytes);
    data.close();
    let reply = data.hear();
    assert!(data.rest().0.is_empty());
    reply
}

fn refused(reply: DataReply) -> FaultCode {
    match reply {
        DataReply::Error(fault) => fault.code,
        other => panic!("not refused: {other:?}"),
    }
}

pub fn valid(client: &mut Client, paths: &[&StorePath]) -> Vec<StorePath> {
    match client.ask(&Request::QueryValid { paths: paths.iter().map(|path| (*path).clone()).collect() }) {
        Reply::Valid { paths, .. } => paths,
        other => panic!("{other:?}"),
    }
}

#[test]
fn store_paths_are_received_and_bad_ones_are_not() {
    let (place, install) = interrupted();
    let _daemon = place.start();
    let mut client = place.client();
    let mut follower = follower(&place);
    assert!(matches!(client.status().state, State::Interrupted { phase: Phase::Mount }));
    assert_eq!(client.ask(&install), Reply::Accepted { resumed: true });
    until(&mut follower, receiving);
    // Who asks for the same again takes part in it.
    assert_eq!(client.ask(&install), Reply::Accepted { resumed: true });
    for made in ["mnt/nix", "mnt/nix/store"] {
        assert_eq!(mode(&place.at(made)), 0o755, "{made} is for all users of the new system");
    }

    let good = path("good", &[]);
    let user = path("user", &[&good.0.path]);
    let reply = push(&place, &packed(&[good.clone(), user.clone()], true));
    assert_eq!(reply, DataReply::Received { paths: 2, nar_bytes: good.0.nar_size + user.0.nar_size });
    let file = place.at("mnt/nix/store").join(user.0.path.to_basename()).join("file");
    assert_eq!((std::fs::read_to_string(&file).unwrap().as_str(), mode(&file)), ("user", 0o444));

    let mut wrong = path("wrong", &[]);
    let at = wrong.1.windows(5).position(|bytes| bytes == b"wrong").unwrap();
    wrong.1[at] ^= 1;
    let missing = path("missing", &[&wrong.0.path]);
    let cut = packed(&[path("cut", &[])], true);
    let cases = [
        (packed(std::slice::from_ref(&wrong), true), FaultCode::HashMismatch),
        (packed(std::slice::from_ref(&missing), true), FaultCode::BadClosure),
        (packed(&[path("endless", &[])], false), FaultCode::ConnectionLost),
        (b"this is no zstd".to_vec(), FaultCode::Garbage),
        (Vec::new(), FaultCode::ConnectionLost),
    ];
    for (bytes, code) in cases {
        assert_eq!(refused(push(&place, &bytes)), code);
    }
    refused(push(&place, &cut[..cut.len() - 1]));
    let ask = [&good.0.path, &user.0.path, &wrong.0.path, &missing.0.path];
    assert_eq!(valid(&mut client, &ask), [good.0.path.clone(), user.0.path.clone()]);
    // What came whole before its channel broke is kept; nothing half is.
    let names = std::fs::read_dir(place.at("mnt/nix/store")).unwrap();
    assert!(names.map(|entry| entry.unwrap().file_name()).all(|name| !name.to_string_lossy().starts_with('.')));
    assert_eq!(client.status().state, State::Receiving);
}

/// An archive with a program of aarch64 whose code is calls of one function, `size` bytes long.
fn program(size: u32) -> (PathInfo, Vec<u8>) {
    let header: [(usize, &[u8]); 7] =
        [(0, b"\x7fELF\x02\x01\x01"), (18, &[183]), (32, &[64]), (54, &[56]), (56, &[1]), (64, &[1]), (68, &[5])];
    let mut file = vec![0; 120];
    header.iter().for_each(|(at, bytes)| file[*at..*at + bytes.len()].copy_from_slice(bytes));
    file[96..100].copy_from_slice(&size.to_le_bytes());
    file.extend(
        (120..size).step_by(4).flat_map(|at| (0x9400_0000 | at.wrapping_neg() >> 2 & 0x3ff_ffff).to_le_bytes()),
    );
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), file).unwrap();
    let mut nar = Vec::new();
    encode_path(&mut nar, directory.path(), CaseHack::Disabled).unwrap();
    let nar_hash = NixHash::from_algorithm_and_digest(HashAlgorithm::Sha256, &Sha256::digest(&nar)).unwrap();
    (PathInfo { nar_hash, nar_size: nar.len() as u64, ..path("program", &[]).0 }, nar)
}

#[test]
fn a_program_comes_changed_and_is_as_it_was_after_a_cut_too() {
    let (place, install) = interrupted();
    let _daemon = place.start();
    let mut client = place.client();
    let mut follower = follower(&place);
    assert_eq!(client.ask(&install), Reply::Accepted { resumed: true });
    until(&mut follower, receiving);
    let (info, nar) = program(70 << 20);
    let send = |record: Record, from: u64, length: usize, end: bool| {
        let mut plain = Vec::new();
        frame::send(&mut plain, &record).unwrap();
        let mut packing = Packing::new(&mut plain, from);
        packing.write_all(&nar[from as usize..]).unwrap();
        packing.finish().unwrap();
        plain.truncate(plain.len().min(length));
        if end {
            frame::send(&mut plain, &Record::End { paths: 1 }).unwrap();
        }
        let packed = compress_to_vec(&plain[..], CompressionLevel::Fastest);
        // The calls are one word now; behind a cut nobody knows that they are calls.
        assert!(from > 0 || packed.len() < 200_000, "{}", packed.len());
        let mut data = place.bridge("data");
        data.say(&DataHello { protocol: 1, compression: "zstd".into(), trust: Trust::default(), code: true });
        data.send(&packed);
        data.close();
        data.hear::<DataReply>()
    };
    assert_eq!(refused(send(Record::Nar(info.clone()), 0, 68 << 20, false)), FaultCode::ConnectionLost);
    let part = match client.ask(&Request::QueryValid { paths: vec![info.path.clone()] }) {
        Reply::Valid { mut parts, .. } => parts.remove(0).bytes,
        other => panic!("{other:?}"),
    };
    assert!(part > 1 << 20, "{part}");
    let reply = send(Record::Rest { from: part, info: info.clone() }, part, usize::MAX, true);
    assert_eq!(reply, DataReply::Received { paths: 1, nar_bytes: info.nar_size });
}

#[test]
fn an_abort_ends_the_wait_and_the_same_request_goes_on() {
    let (place, install) = interrupted();
    let _daemon = place.start();
    let mut client = place.client();
    let mut follower = follower(&place);
    for _ in 0..5 {
        assert_eq!(client.ask(&install), Reply::Accepted { resumed: true });
        until(&mut follower, receiving);
        assert_eq!(client.ask(&Request::Abort), Reply::Accepted { resumed: false });
        until(&mut follower, |kind| matches!(kind, EventKind::StateChanged { to: State::Failed { .. } }));
        let status = client.status();
        match status.state {
            State::Failed { phase: Phase::Receive, fault } => assert_eq!(fault.code, FaultCode::Aborted),
            other => panic!("{other:?}"),
        }
        assert!(status.job.unwrap().resumable);
    }
}

#[test]
fn a_crash_loses_nothing_that_was_acknowledged() {
    let (place, install) = interrupted();
    let good = path("good", &[]);
    let mut daemon = place.start();
    let mut client = place.client();
    let mut watch = follower(&place);
    assert_eq!(client.ask(&install), Reply::Accepted { resumed: true });
    until(&mut watch, receiving);
    assert!(matches!(push(&place, &packed(std::slice::from_ref(&good), true)), DataReply::Received { paths: 1, .. }));
    daemon.signal(Signal::KILL);
    daemon.wait();
    // The power also cut the line that was being written.
    let mut journal = std::fs::OpenOptions::new().append(true).open(place.journal()).unwrap();
    std::io::Write::write_all(&mut journal, b"{\"record\":\"pa").unwrap();

    let _daemon = place.start();
    let mut client = place.client();
    let status = client.status();
    assert!(matches!(status.state, State::Interrupted { phase: Phase::Receive }), "{:?}", status.state);
    let job = status.job.unwrap();
    assert_eq!((job.resumable, job.paths_done, job.bytes_done), (true, 1, good.0.nar_size));
    let mut watch = follower(&place);
    assert_eq!(client.ask(&install), Reply::Accepted { resumed: true });
    until(&mut watch, receiving);
    assert_eq!(valid(&mut client, &[&good.0.path]), [good.0.path]);
}
