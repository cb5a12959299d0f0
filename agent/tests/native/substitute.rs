//! Binary caches that the real Nix has made, served by busybox: what is right comes, and whatever is wrong with the rest, it is
//! left to the laptop.

use crate::channel::{follower, interrupted, packed, path, push, receiving, until, valid};
use crate::rig::{Client, Daemon, Place};
use cygnet_protocol::event::EventKind;
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::message::{Reply, Request};
use cygnet_protocol::store::{PathInfo, StorePath};
use cygnet_protocol::stream::DataReply;
use nix_archive::nar::{CaseHack, restore_reader};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Item = (PathInfo, Vec<u8>);

/// Like [`path`], but with a hash part of its own: that is what a cache finds a path by.
fn item(name: &str, references: &[&StorePath]) -> Item {
    let (info, nar) = path(name, references);
    let digest = Sha256::digest(name);
    (PathInfo { path: StorePath::from_parts(digest[..20].try_into().unwrap(), name).unwrap(), ..info }, nar)
}

/// Runs a program of Nix to its end and returns what it printed.
fn nix(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(arguments[0]);
    command.args(&arguments[1..]).env("NIX_CONFIG", "experimental-features = nix-command\nsubstitute = false\n");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Nix is needed");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A directory with a key and a store, and the caches that are made of them.
struct Maker<'a> {
    place: &'a Place,
    key: String,
}

impl<'a> Maker<'a> {
    fn new(place: &'a Place, paths: &[&Item]) -> Self {
        let (secret, public) = (text(place.at("secret")), text(place.at("public")));
        nix(&["nix-store", "--generate-binary-cache-key", "test-1", &secret, &public], "");
        let store = place.at("laptop/nix/store");
        fs::create_dir_all(&store).unwrap();
        let mut registration = String::new();
        for (info, nar) in paths {
            restore_reader(&mut &nar[..], &store.join(info.path.to_basename()), CaseHack::Disabled).unwrap();
            registration += &info.registration();
        }
        let maker = Self { place, key: fs::read_to_string(public).unwrap() };
        nix(&["nix-store", "--load-db", "--store", &maker.laptop()], &registration);
        maker
    }

    fn laptop(&self) -> String {
        format!("local?root={}", text(self.place.at("laptop")))
    }

    /// Copies into a cache of this name, packed in this way, signed or not.
    fn cache(&self, name: &str, packing: &str, signed: bool, path: &StorePath) -> PathBuf {
        let directory = self.place.at("www").join(name);
        fs::create_dir_all(&directory).unwrap();
        let mut url = format!("file://{}?compression={packing}", directory.display());
        if signed {
            url += &format!("&secret-key={}", text(self.place.at("secret")));
        }
        let path = path.to_absolute_path();
        nix(&["nix", "copy", "--no-check-sigs", "--from", &self.laptop(), "--to", &url, &path], "");
        directory
    }
}

fn text(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

/// `busybox httpd` in the daemon's network namespace.
struct Server(Child);

impl Server {
    fn start(place: &Place, daemon: &Daemon) -> Self {
        fs::create_dir_all(place.at("www")).unwrap();
        let mut command = Command::new("nsenter");
        command.args(["--target", &daemon.pid().to_string(), "--net"]);
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        let script = "ip link set lo up && exec busybox httpd -f -p 127.0.0.1:8080 -h \"$0\"";
        let child = command.args(["sh", "-c", script, &text(place.at("www"))]).spawn();
        let server = Self(child.expect("nsenter (util-linux), ip and busybox are needed"));
        // It listens as soon as curl, in the same namespace, gets anything but a refusal.
        let begun = Instant::now();
        let mut ask = Command::new("nsenter");
        ask.args([
            "--target",
            &daemon.pid().to_string(),
            "--net",
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "http://127.0.0.1:8080/",
        ]);
        while !ask.status().expect("curl is needed").success() {
            assert!(begun.elapsed() < crate::rig::LIMIT, "the server does not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The daemon, waiting for store paths.
fn start(place: &Place, install: &Request) -> (Daemon, Client, Client) {
    let daemon = place.start();
    let mut client = place.client();
    let mut events = follower(place);
    assert_eq!(client.ask(install), Reply::Accepted { resumed: true });
    until(&mut events, receiving);
    (daemon, client, events)
}

fn url(name: &str) -> String {
    format!("http://127.0.0.1:8080/{name}")
}

/// Asks for these and returns which are there then, and how many came.
fn ask(client: &mut Client, caches: &[&str], key: &str, paths: &[&StorePath]) -> (Vec<StorePath>, u64) {
    let request = Request::Substitute {
        paths: paths.iter().map(|path| (*path).clone()).collect(),
        substituters: caches.iter().map(|name| url(name)).collect(),
        public_keys: vec![key.to_owned()],
    };
    match client.ask(&request) {
        Reply::Substituted { paths, fetched, .. } => (paths, fetched),
        other => panic!("{other:?}"),
    }
}

fn warned(events: &mut Client, text: &str) {
    until(events, |kind| matches!(kind, EventKind::Warning { text: said } if said.contains(text)));
}

#[test]
fn what_caches_have_is_fetched_and_the_rest_is_sent() {
    let (place, install) = interrupted();
    let low = item("low", &[]);
    let mid = item("mid", &[&low.0.path]);
    let high = item("high", &[&mid.0.path, &low.0.path]);
    let own = item("own", &[]);
    let top = item("top", &[&high.0.path, &own.0.path]);
    let maker = Maker::new(&place, &[&low, &mid, &high, &own, &top]);
    maker.cache("xz", "xz", true, &low.0.path);
    maker.cache("zstd", "zstd", true, &mid.0.path);
    maker.cache("none", "none", true, &top.0.path);
    let (daemon, mut client, _events) = start(&place, &install);
    let _server = Server::start(&place, &daemon);
    // Some are in one cache only, and what refers to something that is in none comes from the laptop with it.
    for file in fs::read_dir(place.at("www/none")).unwrap() {
        let file = file.unwrap().path();
        let name = own.0.path.to_basename();
        if file.file_stem().is_some_and(|stem| name.starts_with(stem.to_str().unwrap())) {
            fs::remove_file(file).unwrap();
        }
    }
    let all = [&low.0.path, &mid.0.path, &high.0.path, &own.0.path, &top.0.path];
    let (there, fetched) = ask(&mut client, &["xz", "zstd", "none"], &maker.key, &all);
    assert_eq!((there, fetched), (vec![low.0.path.clone(), mid.0.path.clone(), high.0.path.clone()], 3));
    let file = place.at("mnt/nix/store").join(mid.0.path.to_basename()).join("file");
    assert_eq!(fs::read_to_string(file).unwrap(), "mid");
    let journal = fs::read_to_string(place.journal()).unwrap();
    assert_eq!(journal.matches("test-1:").count(), 3, "their signatures are kept");
    assert!(matches!(push(&place, &packed(&[own.clone(), top.clone()], true)), DataReply::Received { paths: 2, .. }));
    // What is there is not fetched again.
    assert_eq!(ask(&mut client, &["xz"], &maker.key, &all).1, 0);
    assert_eq!(valid(&mut client, &all).len(), 5);
}

#[test]
fn a_cache_that_lies_loses_nothing() {
    let (place, install) = interrupted();
    let names = ["good", "cut", "long", "swapped", "garbage", "gone", "other", "unsigned", "bzip"];
    let items: Vec<Item> = names.iter().map(|name| item(name, &[])).collect();
    let of = |name: &str| &items[names.iter().position(|known| *known == name).unwrap()].0.path;
    let maker = Maker::new(&place, &items.iter().collect::<Vec<_>>());
    for name in names {
        maker.cache("c", if name == "bzip" { "bzip2" } else { "xz" }, name != "unsigned", of(name));
    }
    let record = |name: &str| {
        let hash = of(name).to_basename();
        place.at("www/c").join(format!("{}.narinfo", hash.split('-').next().unwrap()))
    };
    let field = |name: &str, field: &str| {
        let text = fs::read_to_string(record(name)).unwrap();
        text.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim().to_owned()
    };
    let file = |name: &str| place.at("www/c").join(field(name, "URL:"));
    let cut = fs::read(file("cut")).unwrap();
    fs::write(file("cut"), &cut[..cut.len() / 2]).unwrap();
    let long = fs::read(file("long")).unwrap();
    fs::write(file("long"), [long, vec![0; 1000]].concat()).unwrap();
    fs::copy(file("good"), file("swapped")).unwrap();
    fs::write(record("garbage"), "<html>Welcome to the hotel</html>").unwrap();
    fs::remove_file(file("gone")).unwrap();
    fs::copy(record("good"), record("other")).unwrap();

    let (daemon, mut client, mut events) = start(&place, &install);
    let server = Server::start(&place, &daemon);
    let all: Vec<&StorePath> = items.iter().map(|(info, _)| &info.path).collect();
    // One at a time, because three failures are enough to leave a cache alone.
    for name in &names {
        let (there, _) = ask(&mut client, &["c"], &maker.key, &[of(name)]);
        assert_eq!(there.len(), usize::from(*name == "good"), "{name}");
    }
    for said in ["no narinfo", "another path", "not signed", "bzip2"] {
        let mut again = follower(&place);
        warned(&mut again, said);
    }
    assert_eq!(valid(&mut client, &all), [of("good").clone()]);
    let left = fs::read_dir(place.at("mnt/nix/store")).unwrap().count();
    assert_eq!(left, 1, "nothing of what was wrong is left");
    // Together: it is given up after three.
    assert_eq!(ask(&mut client, &["c"], &maker.key, &all).1, 0);
    warned(&mut events, "not asked any more");
    drop(server);
    let (there, fetched) = ask(&mut client, &["c"], &maker.key, &all);
    assert_eq!((there.len(), fetched), (1, 0));
    let rest: Vec<Item> = items.iter().filter(|(info, _)| info.path != *of("good")).cloned().collect();
    assert!(matches!(push(&place, &packed(&rest, true)), DataReply::Received { paths: 8, .. }));
}

#[test]
fn what_is_no_cache_is_refused_by_name() {
    let (place, install) = interrupted();
    let (_daemon, mut client, _events) = start(&place, &install);
    for (cache, key) in [("file:///etc", ""), ("http://127.0.0.1:8080/c", "mine-1:AAAA")] {
        let public_keys = if key.is_empty() { vec![] } else { vec![key.to_owned()] };
        let request = Request::Substitute { paths: vec![], substituters: vec![cache.to_owned()], public_keys };
        match client.ask(&request) {
            Reply::Error(fault) => assert_eq!(fault.code, FaultCode::BadRequest, "{fault}"),
            other => panic!("{other:?}"),
        }
    }
}
