//! Who means ill, at the real daemon: it refuses, goes on, and its memory stays what it is.

use crate::channel::{follower, interrupted, path, push, receiving, until, valid};
use crate::rig::{Client, Place};
use cygnet_protocol::event::State;
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::frame;
use cygnet_protocol::message::{Reply, Request};
use cygnet_protocol::stream::{DataReply, Record};

/// The most memory that the daemon may ever have used here, bytes: with a window of 32 MiB, a line of 4 MiB and all that a
/// program for tests has in it. What is unpacked would be 4 GiB.
const MEMORY: u64 = 128 * 1024 * 1024;

/// How often a block is repeated in a bomb: 4 GiB of 128 KiB.
const BLOCKS: usize = 32 * 1024;

/// A zstd frame (RFC 8878, 3.1.1) of `begin`, then 4 GiB of one byte in 128 KiB.
fn bomb(begin: &[u8], byte: u8) -> Vec<u8> {
    // The largest window that is let in: 2^(10 + 15) bytes.
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 15 << 3];
    let mut block = |kind: u32, length: usize, content: &[u8]| {
        bytes.extend(&((length as u32) << 3 | kind << 1).to_le_bytes()[..3]);
        bytes.extend(content);
    };
    block(0, begin.len(), begin);
    for _ in 0..BLOCKS {
        block(1, 128 * 1024, &[byte]);
    }
    // The last block, of nothing.
    bytes.extend([1, 0, 0]);
    bytes
}

fn refused(reply: DataReply) -> FaultCode {
    match reply {
        DataReply::Error(fault) => fault.code,
        other => panic!("not refused: {other:?}"),
    }
}

fn store(place: &Place) -> usize {
    std::fs::read_dir(place.at("mnt/nix/store")).unwrap().count()
}

fn waiting() -> (Place, crate::rig::Daemon, Client) {
    let (place, install) = interrupted();
    let daemon = place.start();
    let mut client = place.client();
    let mut follower = follower(&place);
    assert_eq!(client.ask(&install), Reply::Accepted { resumed: true });
    until(&mut follower, receiving);
    (place, daemon, client)
}

#[test]
fn a_bomb_is_stopped_by_what_was_announced() {
    let (place, _daemon, mut client) = waiting();
    let (info, nar) = path("bombed", &[]);
    let mut record = Vec::new();
    frame::send(&mut record, &Record::Nar(info.clone())).unwrap();
    // As a record without an end.
    assert_eq!(refused(push(&place, &bomb(b"", b'['))), FaultCode::Garbage);
    // As an archive, and behind a good one, where a record should come.
    assert!(bomb(&record, 0).len() < 132 * 1024);
    assert!(matches!(refused(push(&place, &bomb(&record, 0))), FaultCode::Garbage | FaultCode::HashMismatch));
    assert_eq!(store(&place), 0);
    assert_eq!(refused(push(&place, &bomb(&[&record[..], &nar].concat(), b' '))), FaultCode::Garbage);
    assert!(valid(&mut client, &[&info.path]).contains(&info.path), "what came before it is kept");
    // As one that is there already, whose size is a lie: what comes is read, and kept nowhere.
    let mut lying = info.clone();
    lying.nar_size = 1 << 28;
    record.clear();
    frame::send(&mut record, &Record::Nar(lying)).unwrap();
    assert_eq!(refused(push(&place, &bomb(&record, 0))), FaultCode::Garbage);
    assert_eq!(store(&place), 1);
    let status = client.status();
    assert_eq!(status.state, State::Receiving);
    assert!(status.agent_peak_memory < MEMORY, "{} bytes", status.agent_peak_memory);
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let (place, _daemon, mut client) = waiting();
    let (info, nar) = path("sized", &[]);
    // To go on at 0 is to begin, so that comes last.
    for size in [1, nar.len() as u64 - 8, nar.len() as u64 + 8, 1 << 62, 1 << 63, u64::MAX, 0] {
        for record in [
            Record::Nar(cygnet_protocol::store::PathInfo { nar_size: size, ..info.clone() }),
            Record::Rest { from: size, info: info.clone() },
            Record::End { paths: size.max(1) },
        ] {
            let mut plain = Vec::new();
            frame::send(&mut plain, &record).unwrap();
            plain.extend(&nar);
            frame::send(&mut plain, &Record::End { paths: 1 }).unwrap();
            let packed = structured_zstd::encoding::compress_to_vec(
                &plain[..],
                structured_zstd::encoding::CompressionLevel::Fastest,
            );
            let whole = matches!(record, Record::Rest { from: 0, .. });
            match push(&place, &packed) {
                DataReply::Received { .. } => assert!(whole, "{record:?}"),
                DataReply::Error(fault) => assert!(!whole, "{record:?}: {fault}"),
            }
            if whole {
                assert_eq!(store(&place), 1);
                return;
            }
            assert_eq!(store(&place), 0, "{record:?}");
        }
        assert_eq!(client.status().state, State::Receiving);
    }
}

#[test]
fn a_million_brackets_are_a_bad_request() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    let many = 1 << 20;
    for begin in ["", "{\"type\":\"plan\",\"disko\":", "{\"type\":\"status\",\"ignored\":", "{\"type\":"] {
        for nested in ["[".repeat(many), "[".repeat(many) + &"]".repeat(many), "{\"a\":".repeat(many / 2)] {
            client.send(format!("{begin}{nested}\n").as_bytes());
            match client.hear() {
                Reply::Error(fault) => assert_eq!(fault.code, FaultCode::BadRequest, "{begin}"),
                other => panic!("{begin}: {other:?}"),
            }
        }
    }
    client.send(format!("{{\"type\":\"plan\",\"disko\":[{}0]}}\n", "0,".repeat(many)).as_bytes());
    assert!(matches!(client.hear(), Reply::Error(fault) if fault.code == FaultCode::BadRequest));
    let status = client.status();
    assert_eq!(status.state, State::Waiting);
    assert!(status.agent_peak_memory < MEMORY, "{} bytes", status.agent_peak_memory);
    assert!(matches!(client.ask(&Request::Status), Reply::Status(_)));
}
