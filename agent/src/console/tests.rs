//! The console on real terminals.

use super::*;
use crate::agent::Places;
use crate::identity::Identity;
use crate::online::Order;
use cygnet_protocol::online::line::Finder;
use cygnet_protocol::online::settings::Key;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::path::{Path, PathBuf};

struct Pty {
    ours: OwnedFd,
    path: PathBuf,
    text: String,
    found: usize,
}

impl Pty {
    fn open() -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let path = PathBuf::from(ptsname(&ours, Vec::new()).unwrap().into_string().unwrap());
        fcntl_setfl(&ours, OFlags::NONBLOCK).unwrap();
        Self { ours, path, text: String::new(), found: 0 }
    }

    /// What came up to `what`, after what the last wait found.
    fn wait(&mut self, what: &str) -> &str {
        let deadline = Instant::now() + Duration::from_secs(60);
        let from = self.found;
        loop {
            if let Some(at) = self.text[from..].find(what) {
                self.found = from + at + what.len();
                return &self.text[from..self.found];
            }
            assert!(Instant::now() < deadline, "{what:?} did not come:\n{}", self.text);
            let patience = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            let _ = poll(&mut [PollFd::new(&self.ours, PollFlags::IN)], Some(&patience));
            let mut buffer = [0; 4096];
            if let Ok(length) = rustix::io::read(&self.ours, &mut buffer) {
                // A character that comes in two pieces is of no interest here.
                self.text.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        }
    }

    fn type_in(&self, text: &str) {
        rustix::io::write(&self.ours, text.as_bytes()).unwrap();
    }
}

fn agent(dir: &Path) -> Arc<Agent> {
    let identity = Identity {
        host_name: "cygnet".into(),
        board: "Raspberry Pi 4 Model B".into(),
        serial: "10000000abcdef01".into(),
        system: "aarch64-linux".into(),
    };
    Agent::new(
        identity,
        Places {
            state: dir.join("state"),
            target: dir.join("mnt"),
            card: dir.join("card"),
            secrets: dir.join("secrets"),
        },
    )
}

fn settings(pty: &Pty, shell: bool) -> settings::Console {
    settings::Console { devices: vec![pty.path.to_string_lossy().into_owned()], shell }
}

#[test]
fn a_person_at_a_serial_line_sees_the_screen_and_enters_a_network() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let mut orders = lock(&agent.order_box).take().unwrap();
    let mut pty = Pty::open();
    // Held open, so that the settings can be compared; a pty forgets them with its last user.
    let theirs = open(&pty.path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let before = tcgetattr(&theirs).unwrap().local_modes;
    let consoles = spawn(agent.clone(), &settings(&pty, false));

    let first = pty.wait("CYGNET1 1 ").to_owned();
    assert!(first.starts_with("\r\n--- cygnet"), "{first:?}");
    pty.wait("\r\n");
    let (seq, report) = Finder::default().push(pty.text.as_bytes()).pop().unwrap();
    assert_eq!((seq, report.serial.as_str(), report.state.as_str()), (1, "10000000abcdef01", "waiting"));
    assert!(!tcgetattr(&theirs).unwrap().local_modes.contains(LocalModes::ECHO));

    pty.type_in("?");
    pty.wait("doctor");
    pty.type_in("nhome\r");
    pty.wait("Passphrase");
    pty.type_in("correct horse\r");
    pty.wait("Joining “home”.");
    assert!(!pty.text.contains("correct"), "{}", pty.text);
    match orders.blocking_recv() {
        Some(Order::Join { network, .. }) => assert_eq!(network.key, Key::Passphrase("correct horse".into())),
        other => panic!("{other:?}"),
    }
    pty.type_in("r");
    pty.wait("Trying again");
    assert!(matches!(orders.blocking_recv(), Some(Order::Retry)));
    pty.type_in("xs");
    pty.wait("do not allow");
    pty.wait("CYGNET1");
    pty.type_in("d");
    pty.wait("WHAT HAPPENED LAST");
    pty.type_in("l");
    agent.set_state(cygnet_protocol::event::State::Installed);
    pty.wait("installed; only the reboot is missing");

    consoles.stop();
    assert_eq!(tcgetattr(&theirs).unwrap().local_modes, before);
}

#[test]
fn a_line_that_takes_nothing_and_one_that_vanishes_hold_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let pty = Pty::open();
    let consoles = spawn(agent.clone(), &settings(&pty, false));
    // Nobody reads: a pty takes 4 KiB, then no more.
    let begin = Instant::now();
    pty.type_in(&"d".repeat(20));
    for _ in 0..100 {
        agent.set_state(cygnet_protocol::event::State::Waiting);
    }
    assert!(begin.elapsed() < Duration::from_secs(5));
    drop(pty);
    consoles.stop();
}

#[test]
fn a_shell_has_the_terminal_and_the_screen_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let mut pty = Pty::open();
    let theirs = open(&pty.path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let consoles = spawn(agent, &settings(&pty, true));
    pty.wait("CYGNET1 ");
    pty.type_in("xyes\r");
    pty.wait("when the shell ends");
    pty.type_in("tty; echo $((40 + 2))\r");
    pty.wait("42");
    let path = pty.path.to_string_lossy().into_owned();
    assert!(pty.text.contains(&path), "{}", pty.text);
    pty.type_in("exit\r");
    pty.wait("CYGNET1 ");
    drop(theirs);
    consoles.stop();
}
