//! A target with a store that the real Nix has registered: what is whole is not asked for, what is damaged is.

use crate::channel::{follower, interrupted_in, packed, path, push, receiving, until, valid};
use crate::rig::{LIMIT, Place};
use cygnet_protocol::event::{EventKind, Phase, State};
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::message::{Reply, Request};
use cygnet_protocol::plan::Mode;
use cygnet_protocol::store::PathInfo;
use cygnet_protocol::stream::DataReply;
use nix_archive::nar::{CaseHack, restore_reader};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Puts these paths into the target's store and has Nix register them.
fn register(place: &Place, paths: &[&(PathInfo, Vec<u8>)]) {
    let store = place.at("mnt/nix/store");
    fs::create_dir_all(&store).unwrap();
    let mut text = String::new();
    for (info, nar) in paths {
        restore_reader(&mut &nar[..], &store.join(info.path.to_basename()), CaseHack::Disabled).unwrap();
        text += &info.registration();
    }
    load(place, &text);
}

fn load(place: &Place, text: &str) {
    let mut nix = Command::new("nix-store")
        .args(["--load-db", "--store", &format!("local?root={}", place.at("mnt").display())])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nix-store is needed");
    nix.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(nix.wait().unwrap().success());
}

#[test]
fn what_a_kept_store_has_whole_is_valid_and_noted() {
    let (place, install) = interrupted_in(Mode::Mount);
    let kept = path("kept", &[]);
    let user = path("user", &[&kept.0.path]);
    let damaged = path("damaged", &[]);
    let dependent = path("dependent", &[&damaged.0.path]);
    let foreign = path("foreign", &[]);
    register(&place, &[&kept, &user, &damaged, &dependent, &foreign]);
    let file = place.at("mnt/nix/store").join(damaged.0.path.to_basename()).join("file");
    fs::write(&file, "demaged").unwrap();

    let daemon = place.start();
    let mut client = place.client();
    let mut events = follower(&place);
    assert_eq!(client.ask(&install), Reply::Accepted { resumed: true });
    until(&mut events, |kind| matches!(kind, EventKind::Task { text } if text.starts_with("5 store path(s)")));
    until(&mut events, receiving);
    let new = path("new", &[&user.0.path, &dependent.0.path]);
    let ask = [&kept, &user, &damaged, &dependent, &new].map(|(info, _)| &info.path);
    assert_eq!(valid(&mut client, &ask), [kept.0.path.clone(), user.0.path.clone()]);
    until(&mut events, |kind| matches!(kind, EventKind::Task { text } if text.starts_with("Checking 4 ")));
    until(&mut events, |kind| matches!(kind, EventKind::Warning { text } if text.contains("-damaged. They are sent")));

    let rest = [damaged.clone(), dependent.clone(), new.clone()];
    assert!(matches!(push(&place, &packed(&rest, true)), DataReply::Received { paths: 3, .. }));
    assert_eq!(fs::read_to_string(&file).unwrap(), "damaged");
    assert_eq!(valid(&mut client, &ask).len(), 5);
    let journal = fs::read_to_string(place.journal()).unwrap();
    assert!(journal.contains("-user\"") && !journal.contains("-foreign\""), "only what was asked for is looked at");

    // Neither is it hashed a second time.
    drop(daemon);
    let _daemon = place.start();
    let mut client = place.client();
    assert_eq!(client.status().job.unwrap().paths_done, 5);
}

#[test]
fn a_store_that_is_destroyed_is_not_looked_at() {
    let (place, install) = interrupted_in(Mode::Destroy);
    let kept = path("kept", &[]);
    register(&place, &[&kept]);
    let _daemon = place.start();
    let mut client = place.client();
    let mut events = follower(&place);
    assert_eq!(client.ask(&install), Reply::Accepted { resumed: true });
    until(&mut events, receiving);
    assert!(valid(&mut client, &[&kept.0.path]).is_empty());
}

#[test]
fn a_database_of_a_newer_nix_is_a_clear_fault_before_anything_is_sent() {
    let (place, install) = interrupted_in(Mode::Format);
    register(&place, &[&path("kept", &[])]);
    fs::write(place.at("mnt/nix/var/nix/db/schema"), "4711").unwrap();
    let _daemon = place.start();
    let mut client = place.client();
    let mut events = follower(&place);
    assert_eq!(client.ask(&install), Reply::Accepted { resumed: true });
    until(&mut events, |kind| matches!(kind, EventKind::StateChanged { to: State::Failed { .. } }));
    match client.status().state {
        State::Failed { phase: Phase::Receive, fault } => {
            assert!(fault.what.contains("schema is version 4711") && fault.cause.contains("newer"), "{fault}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_abort_ends_the_look_at_a_large_path() {
    let (place, install) = interrupted_in(Mode::Mount);
    let large = path("large", &[]);
    register(&place, &[&large]);
    let file = place.at("mnt/nix/store").join(large.0.path.to_basename()).join("file");
    // Sparse, and more than can be hashed before the abort; its end would be another fault.
    let size = 64 << 30;
    fs::File::options().write(true).open(&file).unwrap().set_len(size).unwrap();
    load(&place, &PathInfo { nar_size: size + 4096, ..large.0.clone() }.registration());

    let _daemon = place.start();
    let mut client = place.client();
    let mut events = follower(&place);
    assert_eq!(client.ask(&install), Reply::Accepted { resumed: true });
    until(&mut events, receiving);
    let mut asking = place.client();
    asking.say(&Request::QueryValid { paths: vec![large.0.path.clone()] });
    until(&mut events, |kind| matches!(kind, EventKind::Progress { total, .. } if *total == size + 4096));
    let begin = Instant::now();
    // Nobody waits for the hashing but who asked.
    assert_eq!(client.status().state, State::Receiving);
    assert_eq!(client.ask(&Request::Abort), Reply::Accepted { resumed: false });
    until(&mut events, |kind| matches!(kind, EventKind::StateChanged { to: State::Failed { .. } }));
    match asking.hear() {
        Reply::Error(fault) => assert!(matches!(fault.code, FaultCode::Aborted | FaultCode::NotNow), "{fault}"),
        other => panic!("{other:?}"),
    }
    assert!(begin.elapsed() < LIMIT / 4);
}
