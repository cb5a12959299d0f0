//! A card with a store that the real Nix has registered: what is like a path of the closure is offered, and patches against it,
//! made by libzstd, become that path; unless the card is not what its database says.

use crate::channel::path;
use crate::rig::{Client, Place};
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::frame;
use cygnet_protocol::message::{Reply, Request};
use cygnet_protocol::store::{HashAlgorithm, Kin, NixHash, PathInfo, parse_store_path};
use cygnet_protocol::stream::{BASE_MAGIC, Base, DataHello, DataReply, Record};
use cygnet_protocol::trust::Trust;
use nix_archive::nar::{CaseHack, encode_path, restore_reader};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use zstd::zstd_safe::{CCtx, CParameter};

/// A path with one large file that nothing makes shorter but another like it.
fn large(hash: char, name: &str, change: usize) -> (PathInfo, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let mut state = 1_u64;
    let mut content: Vec<u8> = (0..700_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    content.splice(300_000..300_000, vec![b'x'; change]);
    fs::write(directory.path().join("file"), content).unwrap();
    let mut nar = Vec::new();
    encode_path(&mut nar, directory.path(), CaseHack::Disabled).unwrap();
    let info = PathInfo {
        path: parse_store_path(&format!("/nix/store/{hash}c5b8vw40dy178xlpddw65q9gf1h2186-{name}")).unwrap(),
        nar_hash: NixHash::from_algorithm_and_digest(HashAlgorithm::Sha256, &Sha256::digest(&nar)).unwrap(),
        nar_size: nar.len() as u64,
        references: vec![],
        deriver: None,
        signatures: vec![],
        ca: None,
    };
    (info, nar)
}

fn packed(bytes: &[u8], base: &[u8]) -> Vec<u8> {
    let mut context = CCtx::create();
    context.set_parameter(CParameter::WindowLog(25)).unwrap();
    context.set_parameter(CParameter::ContentSizeFlag(false)).unwrap();
    context.ref_prefix(base).unwrap();
    let mut out = vec![0; bytes.len() + 1000];
    let length = context.compress2(&mut out[..], bytes).unwrap();
    out.truncate(length);
    out
}

fn base_line(base: &Base) -> Vec<u8> {
    let line = serde_json::to_vec(base).unwrap();
    [&BASE_MAGIC.to_le_bytes()[..], &(line.len() as u32).to_le_bytes(), &line].concat()
}

fn record(record: &Record) -> Vec<u8> {
    let mut line = Vec::new();
    frame::send(&mut line, record).unwrap();
    packed(&line, b"")
}

fn push(place: &Place, bytes: &[u8]) -> DataReply {
    let mut data = place.bridge("data");
    data.say(&DataHello { protocol: 1, compression: "zstd".into(), trust: Trust::default(), code: false });
    data.send(bytes);
    data.close();
    data.hear()
}

fn offers(client: &mut Client, paths: &[&PathInfo]) -> Vec<Kin> {
    match client.ask(&Request::QueryValid { paths: paths.iter().map(|info| info.path.clone()).collect() }) {
        Reply::Valid { kin, .. } => kin,
        other => panic!("{other:?}"),
    }
}

#[test]
fn paths_are_made_of_others_on_the_card_or_sent_whole() {
    let place = Place::new();
    let card = place.at("card");
    let old = large('0', "large-1.0", 0);
    fs::create_dir_all(card.join("nix/store")).unwrap();
    let at = card.join("nix/store").join(old.0.path.to_basename());
    restore_reader(&mut &old.1[..], &at, CaseHack::Disabled).unwrap();
    let mut nix = Command::new("nix-store")
        .args(["--load-db", "--store", &format!("local?root={}", card.display())])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nix-store is needed");
    nix.stdin.take().unwrap().write_all(old.0.registration().as_bytes()).unwrap();
    assert!(nix.wait().unwrap().success());

    let _daemon = place.start_with(&[OsStr::new("--receive-only"), OsStr::new("--card"), card.as_os_str()]);
    let mut client = place.client();
    let stranger = path("stranger", &[]);
    let new = large('1', "large-1.1", 5000);
    let kin = offers(&mut client, &[&stranger.0, &new.0]);
    let expected = Kin {
        path: new.0.path.clone(),
        base: old.0.path.clone(),
        nar_hash: old.0.nar_hash.clone(),
        nar_size: old.0.nar_size,
    };
    assert_eq!(kin, [expected]);

    // In two frames, the second of which looks back on the end of the base only.
    let patched = |new: &(PathInfo, Vec<u8>)| {
        let base =
            |from: usize| Base { base: old.0.path.clone(), from: from as u64, length: (old.1.len() - from) as u64 };
        let (begin, end) = new.1.split_at(400_000);
        let record_of = Record::Patched { from: 0, base: old.0.path.clone(), info: new.0.clone() };
        let frames = [
            record(&record_of),
            base_line(&base(0)),
            packed(begin, &old.1),
            base_line(&base(200_000)),
            packed(end, &old.1[200_000..]),
            record(&Record::End { paths: 1 }),
        ];
        frames.concat()
    };
    let bytes = patched(&new);
    assert!(bytes.len() < 12_000, "{} bytes are no patch", bytes.len());
    assert_eq!(push(&place, &bytes), DataReply::Received { paths: 1, nar_bytes: new.0.nar_size });
    let mut again = Vec::new();
    let placed = place.at("mnt/nix/store").join(new.0.path.to_basename());
    encode_path(&mut again, &placed, CaseHack::Disabled).unwrap();
    assert!(again == new.1);

    // One bit of the card is another: it is seen, told, and not offered again.
    let file = at.join("file");
    let mut content = fs::read(&file).unwrap();
    content[350_000] ^= 1;
    fs::remove_file(&file).unwrap();
    fs::write(&file, &content).unwrap();
    let newer = large('2', "large-1.2", 6000);
    assert_eq!(offers(&mut client, &[&stranger.0, &newer.0]).len(), 1);
    let fault = match push(&place, &patched(&newer)) {
        DataReply::Error(fault) => fault,
        other => panic!("{other:?}"),
    };
    assert!(fault.code == FaultCode::BadBase && fault.what.contains("large-1.0 on the card"), "{fault}");
    assert!(offers(&mut client, &[&stranger.0, &newer.0]).is_empty());
    assert!(!place.at("mnt/nix/store").join(newer.0.path.to_basename()).exists());

    // So is a base that is gone, and one that would take all memory is no patch at all.
    fs::remove_file(&file).unwrap();
    assert!(matches!(push(&place, &patched(&newer)), DataReply::Error(fault) if fault.code == FaultCode::BadBase));
    let greedy = Base { base: old.0.path.clone(), from: 0, length: u64::MAX };
    let bytes = [base_line(&greedy), packed(b"x", b"")].concat();
    assert!(matches!(push(&place, &bytes), DataReply::Error(fault) if fault.code == FaultCode::Garbage));
    let whole = [record(&Record::Nar(newer.0.clone())), packed(&newer.1, b""), record(&Record::End { paths: 1 })];
    assert_eq!(push(&place, &whole.concat()), DataReply::Received { paths: 1, nar_bytes: newer.0.nar_size });
}
