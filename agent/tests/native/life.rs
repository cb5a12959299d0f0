//! How the daemon comes and goes, and what a bridge says without one.

use crate::rig::{CYGNETD, Place, WATCHDOG, mode, wait};
use cygnet_protocol::event::State;
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::message::Reply;
use rustix::process::Signal;
use std::process::{Command, Stdio};
use std::time::Instant;

#[test]
fn only_root_gets_at_the_socket_but_all_at_what_it_makes() {
    let place = Place::new();
    let daemon = place.start();
    assert_eq!(mode(&place.socket()), 0o600);
    assert_eq!(mode(&place.at("run")), 0o700);
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    assert!(status.lines().any(|line| line == "Umask:\t0022"), "{status}");
}

#[test]
fn systemd_hears_of_it_in_time() {
    let place = Place::new();
    let mut daemon = place.start();
    daemon.notified("WATCHDOG=1");
    for _ in 0..2 {
        let begin = Instant::now();
        daemon.notified("WATCHDOG=1");
        assert!(begin.elapsed() < WATCHDOG, "{:?}", begin.elapsed());
    }
    daemon.notified("STATUS=waiting");
}

#[test]
fn told_to_end_it_ends_and_leaves_its_state_alone() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::new();
        std::fs::create_dir(place.at("state")).unwrap();
        std::fs::write(place.journal(), "{\"record\":\"from the future\"}\n").unwrap();
        std::fs::write(place.at("state/other"), "mine").unwrap();
        let mut daemon = place.start();
        let mut client = place.client();
        assert_eq!(client.status().state, State::Waiting);
        daemon.signal(signal);
        daemon.notified("STOPPING=1");
        assert!(daemon.wait().success());
        // Who was connected is let go.
        assert!(client.rest().0.is_empty());
        assert_eq!(std::fs::read_to_string(place.journal()).unwrap(), "{\"record\":\"from the future\"}\n");
        assert_eq!(std::fs::read_to_string(place.at("state/other")).unwrap(), "mine");
        assert_eq!(std::fs::read_dir(place.at("state")).unwrap().count(), 2);
    }
}

#[test]
fn a_second_daemon_does_not_push_the_first_aside() {
    let place = Place::new();
    let mut first = place.start();
    let mut second = place.daemon().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(wait(&mut second).code(), Some(1));
    let said = std::io::read_to_string(second.stderr.take().unwrap()).unwrap();
    assert!(said.contains("another cygnetd"), "{said}");
    assert_eq!(place.client().status().state, State::Waiting);
    // The socket of one that was killed is in nobody's way.
    first.signal(Signal::KILL);
    first.wait();
    assert!(place.socket().exists());
    let _third = place.start();
    assert_eq!(place.client().status().state, State::Waiting);
}

#[test]
fn without_a_daemon_the_bridge_says_so_in_one_line() {
    let place = Place::new();
    for channel in ["control", "data"] {
        let (lines, end) = place.bridge(channel).rest();
        assert_eq!((lines.len(), end.code()), (1, Some(69)));
        match serde_json::from_str(&lines[0]).unwrap() {
            Reply::Error(fault) => assert_eq!(fault.code, FaultCode::NoAgent),
            other => panic!("{other:?}"),
        }
    }
    let unknown = Command::new(CYGNETD).args(["bridge", "canal"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(unknown.stdout.is_empty());
}
