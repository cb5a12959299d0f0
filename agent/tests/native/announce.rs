//! What another machine hears of the announcement, on a cable between two network namespaces.

use crate::rig::{LIMIT, Place};
use mdns_sd::{ServiceDaemon, ServiceEvent};
use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const SERVICE: &str = "CYGNET_TEST_BROWSE";

/// A program in the network namespace of `pid`, which may belong to a user namespace of its own.
fn inside(pid: u32, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--net", "--target", &pid.to_string()]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--preserve-credentials"]);
    }
    command.args(["--", program]).stdin(Stdio::null());
    command
}

fn ip(pid: u32, arguments: &str) {
    let output = inside(pid, "ip").args(arguments.split(' ')).output().expect("nsenter (util-linux) is needed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A process that is killed with this.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Another machine, on the other end of a cable to that of `pid`: `lan0` there, `far0` here.
fn neighbour(pid: u32) -> Kept {
    let mut command = inside(pid, "unshare");
    let there = Kept(command.args(["--net", "--", "sleep", "1000"]).spawn().unwrap());
    let own = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let outer = std::fs::read_link("/proc/self/ns/net").unwrap();
    let begin = Instant::now();
    while std::fs::read_link(format!("/proc/{}/ns/net", there.0.id())).is_ok_and(|at| at == own || at == outer) {
        assert!(begin.elapsed() < LIMIT, "there is no namespace for the neighbour");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let neighbour = there.0.id();
    ip(pid, &format!("link add lan0 type veth peer name far0 netns {neighbour}"));
    ip(neighbour, "link set lo up");
    ip(neighbour, "link set far0 up");
    ip(pid, "link set lo up");
    there
}

/// What is heard in the namespace of `pid`: this very test program browses there, and tells on its stdout.
struct Browser {
    _child: Kept,
    lines: Receiver<String>,
}

fn browse(pid: u32, service: &str) -> Browser {
    let own = std::env::current_exe().unwrap();
    let mut child = inside(pid, &own.to_string_lossy())
        .args(["--ignored", "--exact", "announce::browser", "--nocapture"])
        .env(SERVICE, service)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = channel();
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    Browser { _child: Kept(child), lines }
}

#[test]
#[ignore = "the other tests run it in a namespace"]
fn browser() {
    let Ok(service) = std::env::var(SERVICE) else { return };
    let daemon = ServiceDaemon::new().unwrap();
    for event in daemon.browse(&service).unwrap() {
        match event {
            ServiceEvent::ServiceResolved(service) => {
                let mut addresses: Vec<_> = service.get_addresses().iter().map(ToString::to_string).collect();
                addresses.sort();
                let text: Vec<_> =
                    service.get_properties().iter().map(|p| format!("{}={}", p.key(), p.val_str())).collect();
                let name = service.get_fullname();
                println!("there {name} [{}] {}", addresses.join(" "), text.join(" "));
            }
            ServiceEvent::ServiceRemoved(_, name) => println!("gone {name}"),
            _ => {}
        }
    }
}

impl Browser {
    /// Waits for a line that is as wanted; tells it and how long it took.
    fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> (String, Duration) {
        let begin = Instant::now();
        let mut heard = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(LIMIT.saturating_sub(begin.elapsed())) {
            if wanted(&line) {
                println!("{what}: after {:?}: {line}", begin.elapsed());
                return (line, begin.elapsed());
            }
            heard.push(line);
        }
        panic!("never heard {what}, but {heard:#?}");
    }
}

#[test]
fn an_address_that_comes_late_is_announced_and_one_that_goes_is_taken_back() {
    let place = Place::new();
    let mut daemon = place.start();
    let there = neighbour(daemon.pid());
    let browser = browse(there.0.id(), "_cygnet._tcp.local.");
    let pid = daemon.pid();

    // No DHCP at all: the kernel's own link-local address is enough.
    ip(pid, "link set lan0 up");
    let (line, _) = browser.until("link-local", |line| line.starts_with("there cygnet-") && line.contains("[fe80::"));
    assert!(line.contains("state=waiting") && line.contains("proto=") && !line.contains("192.0.2."), "{line}");

    ip(pid, "addr add 192.0.2.2/24 dev lan0");
    ip(there.0.id(), "addr add 192.0.2.1/24 dev far0");
    browser.until("IPv4", |line| line.contains("192.0.2.2"));

    ip(pid, "addr add 192.0.2.3/24 dev lan0");
    browser.until("a second", |line| line.contains("192.0.2.3"));
    ip(pid, "addr del 192.0.2.3/24 dev lan0");
    let gone = |line: &str| line.starts_with("there") && !line.contains("192.0.2.3");
    let (line, _) = browser.until("the second is gone", gone);
    // It never takes itself for another of its name.
    assert!(!line.contains("(2)"), "{line}");
    if !line.contains("192.0.2.2") {
        // A cache may drop both until the one that stays is announced again.
        browser.until("the first stays", |line| line.contains("192.0.2.2") && !line.contains("192.0.2.3"));
    }
    ip(pid, "addr del 192.0.2.2/24 dev lan0");
    browser.until("no IPv4", |line| line.starts_with("there") && !line.contains("192.0.2."));

    daemon.signal(Signal::TERM);
    // Reads what was not read so far, too: the daemon waits for whom it notifies.
    daemon.notified("STOPPING=1");
    browser.until("goodbye", |line| line.starts_with("gone cygnet-"));
    assert!(daemon.wait().success());
}

/// A machine in a network namespace of its own, with nothing in it.
fn machine() -> Kept {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let there = Kept(command.args(["--net", "--", "sleep", "1000"]).stdin(Stdio::null()).spawn().unwrap());
    let outer = std::fs::read_link("/proc/self/ns/net").unwrap();
    let begin = Instant::now();
    while std::fs::read_link(format!("/proc/{}/ns/net", there.0.id())).is_ok_and(|at| at == outer) {
        assert!(begin.elapsed() < LIMIT, "there is no namespace for the machine");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    there
}

#[test]
fn an_installed_system_says_so_for_a_while_and_steps_aside() {
    let place = tempfile::tempdir().unwrap();
    let link = place.path().join("current-system");
    std::os::unix::fs::symlink("/nix/store/956qdm59yfw09wqyfcl1czijdr2qs9rk-nixos-system-pi-26.05", &link).unwrap();
    let own = machine();
    let pid = own.0.id();
    let there = neighbour(pid);
    // Without an address of its own kind nobody hears of one.
    ip(there.0.id(), "addr add 192.0.2.1/24 dev far0");
    let browser = browse(there.0.id(), "_cygnet._tcp.local.");
    let announce = |time: &str| {
        let mut command = inside(pid, env!("CARGO_BIN_EXE_cygnetd"));
        command.args(["announce", "--installed", "--for", time, "--toplevel"]).arg(&link);
        Kept(command.spawn().unwrap())
    };
    let mut said = announce("20s");
    // The address comes when it is announced already.
    ip(pid, "link set lan0 up");
    ip(pid, "addr add 192.0.2.2/24 dev lan0");
    let (line, _) = browser.until("installed", |line| line.starts_with("there cygnet-") && line.contains("192.0.2.2"));
    assert!(line.contains("state=installed") && line.contains("toplevel=956qdm59yfw09wqyfcl1czijdr2qs9rk"), "{line}");
    browser.until("the end of its time", |line| line.starts_with("gone cygnet-"));
    assert!(said.0.wait().unwrap().success());

    // And at the end of the machine's.
    let mut said = announce("10m");
    browser.until("again", |line| line.starts_with("there cygnet-"));
    rustix::process::kill_process(rustix::process::Pid::from_child(&said.0), Signal::TERM).unwrap();
    browser.until("goodbye", |line| line.starts_with("gone cygnet-"));
    assert!(said.0.wait().unwrap().success());
}
