//! Which store paths are let in, with paths that the real Nix has made and signed; and what its database then knows of them.

use crate::channel::{TOPLEVEL, follower, interrupted, packed, path, push, push_trusting, receiving, until, valid};
use crate::rig::Place;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cygnet_protocol::event::{EventKind, Phase};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::message::{Reply, Request};
use cygnet_protocol::store::{NixHash, PathInfo, StorePath, parse_store_path};
use cygnet_protocol::stream::DataReply;
use cygnet_protocol::trust::{Policy, Trust};
use sha2::{Digest, Sha256};
use std::process::Command;

type Item = (PathInfo, Vec<u8>);

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Signed {
    public_key: String,
    paths: Vec<Packed>,
}

#[derive(serde::Deserialize)]
struct Packed {
    info: PathInfo,
    nar: String,
}

/// The public key, and paths with references first.
fn signed() -> (String, Vec<Item>) {
    let text = include_str!("../../../protocol/tests/trust/signed.json");
    let signed: Signed = serde_json::from_str(text).unwrap();
    let mut rest: Vec<Item> =
        signed.paths.into_iter().map(|path| (path.info, STANDARD.decode(path.nar).unwrap())).collect();
    let mut sorted: Vec<Item> = Vec::new();
    while !rest.is_empty() {
        let known = |path: &StorePath| sorted.iter().any(|(info, _)| info.path == *path);
        let at = rest.iter().position(|(info, _)| info.references.iter().all(|path| *path == info.path || known(path)));
        let next = rest.remove(at.unwrap());
        sorted.push(next);
    }
    (signed.public_key, sorted)
}

/// Where the one is that only its signature speaks for.
fn plain(paths: &[Item]) -> usize {
    paths.iter().position(|(info, _)| info.ca.is_none()).unwrap()
}

fn signatures(keys: &[&str]) -> Trust {
    Trust { policy: Policy::Signatures, public_keys: keys.iter().map(|key| (*key).to_owned()).collect() }
}

fn asking_for(install: Request, trust: Trust) -> Request {
    match install {
        Request::Install { disko, digest, closure, mode, mut options, secrets } => {
            options.trust = trust;
            Request::Install { disko, digest, closure, mode, options, secrets }
        }
        other => panic!("{other:?}"),
    }
}

fn refused(reply: DataReply) -> Fault {
    match reply {
        DataReply::Error(fault) => fault,
        other => panic!("not refused: {other:?}"),
    }
}

/// What Nix says of the target's store.
fn known(place: &Place) -> Vec<serde_json::Value> {
    let store = format!("local?root={}", place.at("mnt").display());
    let output = Command::new("nix")
        .args([
            "--extra-experimental-features",
            "nix-command",
            "path-info",
            "--json",
            "--sigs",
            "--all",
            "--store",
            &store,
        ])
        .output()
        .expect("nix is needed");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    match value {
        serde_json::Value::Array(list) => list,
        // Since Nix 2.19 the path is the key.
        serde_json::Value::Object(map) => map
            .into_iter()
            .map(|(path, mut value)| {
                value["path"] = path.into();
                value
            })
            .collect(),
        other => panic!("{other}"),
    }
}

#[test]
fn signatures_and_content_addresses_are_asked_for_and_survive() {
    let (place, install) = interrupted();
    let (key, paths) = signed();
    let _daemon = place.start();
    let mut client = place.client();
    let mut events = follower(&place);
    // What is no key is refused before anything is done.
    match client.ask(&asking_for(install.clone(), signatures(&["mine-1:AAAA"]))) {
        Reply::Error(fault) => assert_eq!(fault.code, FaultCode::BadRequest, "{fault}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.ask(&asking_for(install, signatures(&[&key]))), Reply::Accepted { resumed: true });
    until(&mut events, receiving);

    let unsigned = path("unsigned", &[]);
    let fault = refused(push(&place, &packed(std::slice::from_ref(&unsigned), true)));
    assert_eq!(fault.code, FaultCode::Untrusted);
    assert!(fault.what.contains("-unsigned") && fault.cause.contains("test-1"), "{fault}");
    // A wrong content address whose path is right: only the content tells.
    let (mut flat, mut nar) = paths.iter().find(|(info, _)| info.path.name() == "f").unwrap().clone();
    let text = nar.windows(5).position(|bytes| bytes == b"hello").unwrap();
    nar[text] ^= 1;
    flat.nar_hash = NixHash::Sha256(Sha256::digest(&nar).into());
    let fault = refused(push(&place, &packed(&[(flat.clone(), nar)], true)));
    assert!(fault.code == FaultCode::Untrusted && fault.what.contains("content address"), "{fault}");
    assert!(!place.at("mnt/nix/store").join(flat.path.to_basename()).exists());
    // One that was changed after it was signed; what comes before it is let in.
    let at = plain(&paths);
    let mut forged = paths[at].clone();
    let last = forged.1.windows(3).position(|bytes| bytes == b"me:").unwrap();
    forged.1[last] ^= 1;
    forged.0.nar_hash = NixHash::Sha256(Sha256::digest(&forged.1).into());
    assert_eq!(valid(&mut client, &[&unsigned.0.path, &flat.path, &forged.0.path]), []);
    let with_forged = [&paths[..at], &[forged.clone()]].concat();
    let fault = refused(push(&place, &packed(&with_forged, true)));
    assert!(fault.code == FaultCode::Untrusted && fault.cause.contains("does not belong"), "{fault}");
    assert_eq!(valid(&mut client, &[&forged.0.path]), []);

    let reply = push(&place, &packed(&paths, true));
    assert!(matches!(reply, DataReply::Received { .. }), "{reply:?}");
    // Nor is the system itself an exception.
    let (info, nar) = path("top", &[]);
    let toplevel = (PathInfo { path: parse_store_path(TOPLEVEL).unwrap(), ..info }, nar);
    assert_eq!(refused(push(&place, &packed(&[toplevel], true))).code, FaultCode::Untrusted);
}

#[test]
fn what_is_registered_has_its_signatures_and_content_addresses() {
    let (place, install) = interrupted();
    let (_, paths) = signed();
    let _daemon = place.start();
    let mut client = place.client();
    let mut events = follower(&place);
    assert_eq!(client.ask(&install), Reply::Accepted { resumed: true });
    until(&mut events, receiving);
    let toplevel = (PathInfo { path: parse_store_path(TOPLEVEL).unwrap(), ..path("top", &[]).0 }, path("top", &[]).1);
    let all = [paths.clone(), vec![toplevel]].concat();
    assert!(matches!(push(&place, &packed(&all, true)), DataReply::Received { .. }));
    // It is no system, so what comes next fails; by then all is registered.
    until(&mut events, |kind| matches!(kind, EventKind::Failed { .. }));
    let job = client.status().job.unwrap();
    assert!(job.phase > Phase::Register, "{:?}", job.phase);
    let known = known(&place);
    assert_eq!(known.len(), all.len());
    for (info, _) in &all {
        let path = info.path.to_absolute_path();
        let known = known.iter().find(|known| known["path"] == path.as_str()).unwrap();
        let signatures: Vec<String> =
            known.get("signatures").map(|list| serde_json::from_value(list.clone()).unwrap()).unwrap_or_default();
        assert_eq!(signatures, info.signatures, "{known}");
        assert_eq!(known.get("ca").and_then(|ca| ca.as_str()), info.ca.as_deref(), "{known}");
    }
    let store = format!("local?root={}", place.at("mnt").display());
    let verified =
        Command::new("nix-store").args(["--verify", "--check-contents", "--store", &store]).status().unwrap();
    assert!(verified.success());
}

#[test]
fn a_channel_may_ask_for_more_than_the_installation_does() {
    let (place, install) = interrupted();
    let (key, paths) = signed();
    let _daemon = place.start();
    let mut client = place.client();
    let mut events = follower(&place);
    assert_eq!(client.ask(&install), Reply::Accepted { resumed: true });
    until(&mut events, receiving);
    let unsigned = path("unsigned", &[]);
    let bytes = packed(std::slice::from_ref(&unsigned), true);
    assert_eq!(refused(push_trusting(&place, signatures(&[&key]), &bytes)).code, FaultCode::Untrusted);
    assert!(matches!(push(&place, &bytes), DataReply::Received { paths: 1, .. }));
    let signed = packed(&paths[..=plain(&paths)], true);
    let fault = refused(push_trusting(&place, signatures(&[]), &signed));
    assert!(fault.cause.contains("signed with test-1"), "{fault}");
    assert!(matches!(push_trusting(&place, signatures(&[&key]), &signed), DataReply::Received { .. }));
    assert_eq!(refused(push_trusting(&place, signatures(&["x"]), &signed)).code, FaultCode::BadRequest);
}
