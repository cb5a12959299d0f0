//! Requests and answers on the control channel.

use crate::rig::{Client, Place};
use cygnet_protocol::event::{EventKind, State};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::frame::MAX_LINE;
use cygnet_protocol::message::{ClosureSummary, Hello, Reply, Request};
use cygnet_protocol::stream::DataReply;
use serde_json::json;
use std::time::Instant;

fn fault(reply: Reply) -> Fault {
    match reply {
        Reply::Error(fault) => fault,
        other => panic!("not refused: {other:?}"),
    }
}

fn closure(system: &str, toplevel: &str) -> ClosureSummary {
    ClosureSummary { toplevel: toplevel.into(), system: system.into(), paths: 1, nar_size: 1 }
}

const TOPLEVEL: &str = "/nix/store/1c5b8vw40dy178xlpddw65q9gf1h2186-nixos-system-pi-26.05";

#[test]
fn it_greets_and_tells_who_it_is() {
    let place = Place::new();
    let daemon = place.start();
    let mut client = place.bridge("control");
    let hello: Hello = client.hear();
    assert!(hello.program.starts_with("cygnetd "), "{hello:?}");
    client.say(&Hello::ours("test"));
    let status = client.status();
    assert_eq!(status.state, State::Waiting);
    assert_eq!(status.system, format!("{}-linux", std::env::consts::ARCH));
    assert!(status.job.is_none() && status.agent_peak_memory > 0 && status.memory_total > status.memory_available);
    client.close();
    let (rest, end) = client.rest();
    assert!(rest.is_empty() && end.success(), "{rest:?} {end}");
    drop(daemon);
}

#[test]
fn a_request_that_makes_no_sense_is_refused_and_the_connection_goes_on() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    for bad in ["{\"type\":\"levitate\"}", "{\"type\":\"plan\"}", "{", "", "[]", "\"status\"", "\u{0}\u{7}é"] {
        client.send(format!("{bad}\n").as_bytes());
        let fault = fault(client.hear());
        assert_eq!(fault.code, FaultCode::BadRequest, "{bad:?}: {fault}");
        assert_eq!(client.status().state, State::Waiting, "{bad:?}");
    }
    client.send(b"\xff\xfe\n");
    assert_eq!(fault(client.hear()).code, FaultCode::BadRequest);
}

#[test]
fn a_line_has_its_limit() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    // As long as allowed, newline included.
    let mut line = b"{\"type\":\"status\",\"ignored\":\"".to_vec();
    line.resize(MAX_LINE - 3, b'x');
    line.extend(b"\"}\n");
    client.send(&line);
    assert!(matches!(client.hear::<Reply>(), Reply::Status(_)));
    line.insert(line.len() - 3, b'x');
    client.send(&line);
    assert_eq!(fault(client.hear()).code, FaultCode::Garbage);
    let (rest, _) = client.rest();
    assert!(rest.is_empty(), "{rest:?}");
    // A message that the connection's end cut is not taken for one.
    let mut client = place.client();
    client.send(b"{\"type\":\"reboot\"}");
    client.close();
    assert_eq!(fault(client.hear()).code, FaultCode::Garbage);
    assert_eq!(place.client().status().state, State::Waiting);
}

#[test]
fn many_talk_to_it_at_once() {
    let place = Place::new();
    let _daemon = place.start();
    let mut clients: Vec<Client> = (0..12).map(|_| place.client()).collect();
    for client in &mut clients {
        client.say(&Request::Status);
        client.say(&Request::Abort);
    }
    for client in clients.iter_mut().rev() {
        assert!(matches!(client.hear::<Reply>(), Reply::Status(_)));
        assert_eq!(fault(client.hear()).code, FaultCode::NotNow);
    }
}

#[test]
fn what_happened_is_told_to_who_comes_later_and_closing_ends_it() {
    let place = Place::new();
    std::fs::create_dir(place.at("state")).unwrap();
    std::fs::write(place.journal(), "this is no journal\n").unwrap();
    let _daemon = place.start();
    let mut client = place.client();
    assert_eq!(client.ask(&Request::Follow { from: 0 }), Reply::Accepted { resumed: false });
    match client.hear() {
        Reply::Event(event) => {
            assert_eq!(event.seq, 1);
            assert!(matches!(&event.kind, EventKind::Warning { text } if text.contains("journal")), "{event:?}");
        }
        other => panic!("{other:?}"),
    }
    // sshd keeps the channel open until the last holder of the pipe is gone; a follower that lingers would hold it.
    let begin = Instant::now();
    client.close();
    let (mut rest, end) = client.rest();
    // The way online is told meanwhile.
    rest.retain(|line| !line.contains(r#""event":"link""#));
    assert!(rest.is_empty() && end.success(), "{rest:?} {end}");
    assert!(begin.elapsed().as_secs() < 25, "the follower held the channel for {:?}", begin.elapsed());
}

#[test]
fn what_is_not_legal_while_waiting_is_refused() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    assert_eq!(fault(client.ask(&Request::Abort)).code, FaultCode::NotNow);
    assert_eq!(fault(client.ask(&Request::QueryValid { paths: vec![] })).code, FaultCode::NotNow);
    let mut data = place.bridge("data");
    match data.hear() {
        DataReply::Error(fault) => assert_eq!(fault.code, FaultCode::NotNow),
        other => panic!("{other:?}"),
    }
    assert!(data.rest().0.is_empty());
}

#[test]
fn an_installation_that_cannot_be_is_refused_by_its_kind() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    let own = client.status().system;
    let layout = json!({ "disk": {} });
    let mut install = |disko: serde_json::Value, closure| {
        let digest = "0123456789ab".into();
        fault(client.ask(&Request::Install {
            disko,
            digest,
            closure,
            mode: Default::default(),
            options: Default::default(),
            secrets: vec![],
        }))
    };
    assert_eq!(install(layout.clone(), closure("riscv64-linux", TOPLEVEL)).code, FaultCode::WrongArchitecture);
    for toplevel in ["", "/etc", "./result", &format!("{TOPLEVEL}/init"), "/nix/store/../../etc"] {
        assert_eq!(install(layout.clone(), closure(&own, toplevel)).code, FaultCode::BadClosure, "{toplevel}");
    }
    for garbled in [json!(null), json!([]), json!({ "disk": 7 }), json!({ "disk": { "a": { "type": "disk" } } })] {
        assert_eq!(install(garbled.clone(), closure(&own, TOPLEVEL)).code, FaultCode::BadLayout, "{garbled}");
    }
    let plan = Request::Plan { disko: json!({ "disk": 7 }), closure: None, mode: Default::default(), boot_from: None };
    assert_eq!(fault(client.ask(&plan)).code, FaultCode::BadLayout);
    assert_eq!(client.status().state, State::Waiting);
    assert!(!place.journal().exists(), "nothing that was refused is in the journal");
}

#[test]
fn a_client_of_another_age_or_none_at_all_is_told_so() {
    let place = Place::new();
    let _daemon = place.start();
    let greetings = [
        (json!({ "type": "hello", "protocol": 9, "oldest": 9, "program": "cygnet 9" }), FaultCode::AgentTooOld),
        (json!({ "type": "hello", "protocol": 0, "oldest": 0, "program": "cygnet 0" }), FaultCode::AgentTooNew),
        (json!({ "type": "status" }), FaultCode::Garbage),
        (json!("SSH-2.0-OpenSSH"), FaultCode::Garbage),
    ];
    for (greeting, code) in greetings {
        let mut client = place.bridge("control");
        client.hear::<Hello>();
        client.say(&greeting);
        assert_eq!(fault(client.hear()).code, code, "{greeting}");
        assert!(client.rest().0.is_empty());
    }
    assert!(place.client().status().job.is_none());
}
