//! What surrounds the agent is in a bad way: tools hang, the Pi does not reboot, the journal is damaged, clients are silent or
//! many. It answers, and says what is wrong.

use crate::channel::{follower, interrupted, until};
use crate::rig::{Client, LIMIT, Place};
use cygnet_protocol::event::{EventKind, State};
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::frame::MAX_LINE;
use cygnet_protocol::message::{Hello, Reply, Request};
use std::time::Instant;

/// The most memory that the daemon may ever have used here, bytes.
const MEMORY: u64 = 96 * 1024 * 1024;

#[test]
fn a_tool_that_hangs_at_the_start_keeps_nobody_waiting() {
    let (place, install) = interrupted();
    let begin = Instant::now();
    let daemon = place.start_on(&[("umount", "trap '' TERM; sleep 150")]);
    let mut client = place.client();
    let status = client.status();
    assert!(matches!(status.state, State::Interrupted { .. }), "{:?}", status.state);
    assert!(status.job.unwrap().resumable);
    assert!(begin.elapsed() < LIMIT / 2, "{:?}", begin.elapsed());
    // What needs the disks waits for them, and others do not wait for that.
    client.say(&install);
    assert!(matches!(place.client().status().state, State::Interrupted { .. }));
    drop(daemon);
}

#[test]
fn a_reboot_that_fails_is_told_and_all_is_as_before() {
    let place = Place::new();
    let _daemon = place.start_on(&[("systemctl", "echo 'Failed to connect to bus' >&2; exit 1")]);
    let mut follower = follower(&place);
    let mut client = place.client();
    assert_eq!(client.ask(&Request::Reboot { force: false }), Reply::Accepted { resumed: false });
    until(&mut follower, |kind| matches!(kind, EventKind::StateChanged { to: State::Rebooting }));
    until(&mut follower, |kind| {
        matches!(kind, EventKind::Warning { text } if text.contains("was not rebooted") && text.contains("connect to bus")
            && text.contains("--force"))
    });
    until(&mut follower, |kind| matches!(kind, EventKind::StateChanged { to: State::Waiting }));
    assert_eq!(client.status().state, State::Waiting);
    assert_eq!(client.ask(&Request::Reboot { force: false }), Reply::Accepted { resumed: false });
}

#[test]
fn a_damaged_line_of_the_journal_is_told_and_the_rest_of_it_counts() {
    let (place, _install) = interrupted();
    let text = std::fs::read_to_string(place.journal()).unwrap();
    std::fs::write(place.journal(), text.replacen('\n', "\n\0\0\0\0\0\n", 1)).unwrap();
    let _daemon = place.start();
    let status = place.client().status();
    assert!(matches!(status.state, State::Interrupted { .. }), "{:?}", status.state);
    assert!(status.job.unwrap().resumable);
    until(
        &mut follower(&place),
        |kind| matches!(kind, EventKind::Warning { text } if text.contains("1 line(s)") && text.contains("failing")),
    );
}

#[test]
fn the_silent_lock_nobody_out() {
    let place = Place::new();
    let daemon = place.start();
    let mut silent: Vec<Client> = (0..80).map(|_| place.bridge("control")).collect();
    let mut client = place.client();
    assert_eq!(client.status().state, State::Waiting);
    // The last that came is still there, and may still say what it is.
    let last = silent.last_mut().unwrap();
    last.hear::<Hello>();
    last.say(&Hello::ours("late"));
    assert_eq!(last.status().state, State::Waiting);
    assert!(daemon.said().matches("too many are connected").count() <= 2, "{}", daemon.said());
}

#[test]
fn many_large_messages_take_their_turns_and_little_memory() {
    let place = Place::new();
    let _daemon = place.start();
    let mut line = b"{\"type\":\"status\",\"ignored\":\"".to_vec();
    line.resize(MAX_LINE - 3, b'x');
    line.extend(b"\"}\n");
    let clients: Vec<Client> = (0..24).map(|_| place.client()).collect();
    std::thread::scope(|scope| {
        for mut client in clients {
            let line = &line;
            scope.spawn(move || {
                client.send(line);
                assert!(matches!(client.hear::<Reply>(), Reply::Status(_)));
            });
        }
    });
    let status = place.client().status();
    assert!(status.agent_peak_memory < MEMORY, "{} bytes", status.agent_peak_memory);
}

#[test]
fn a_bridge_without_hooks_is_one() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.bridge_with(&["--no-hooks", "control"]);
    client.hear::<Hello>();
    client.say(&Hello::ours("test"));
    assert_eq!(client.status().state, State::Waiting);
    match client.ask(&Request::Abort) {
        Reply::Error(fault) => assert_eq!(fault.code, FaultCode::NotNow),
        other => panic!("{other:?}"),
    }
}
