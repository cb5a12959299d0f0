//! Whose paths come in: what nobody trusted has signed stays out, what a cache has is fetched from there, and Nix's own
//! tools bring paths through the same import.

use super::failures::{Tampered, is_free, verify_store};
use super::push::{Running, number, sizes, summary, warned};
use super::{Scenario, State, World, installing};
use crate::closure::nix::Nix;
use crate::host::run::{run, stdout_of, tool};
use crate::patience;
use crate::pi::net::HOST_ADDRESS;
use crate::pi::{Lan, cache, unpacked};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "push-signatures",
        "what no trusted key has signed stays out; signed, it comes in and keeps its signature",
        State::Waiting,
        signatures,
    ),
    Scenario::new(
        "push-cache",
        "what a binary cache has is fetched from it, and only the rest is sent",
        State::Waiting,
        from_cache,
    ),
    Scenario::new(
        "push-nix-copy",
        "a cache that is gone; then two releases of Nix see the installation through",
        State::Waiting,
        nix_copy,
    ),
];

const PATIENCE: Duration = patience::WORK;
/// Where the binary cache is served.
const PORT: u16 = 8080;

/// A pair of keys, made once, so that signing again adds nothing.
struct Key {
    secret: String,
    public: String,
}

impl Key {
    fn new(world: &World, name: &str) -> Result<Self> {
        let nix = Nix::new(&world.settings.cache)?;
        let directory = cache::entry(&world.settings.cache, "keys", name, "making keys", |out| {
            let files = ["secret", "public"].map(|file| out.join(file));
            run(nix.command("nix-store").args(["--generate-binary-cache-key", name]).args(files))
        })?;
        let public = fs::read_to_string(directory.join("public")).context("reading a public key")?;
        Ok(Self { secret: directory.join("secret").display().to_string(), public: public.trim().to_owned() })
    }
}

/// Paths of the host's store, which have no signature before and after.
struct Unsigned {
    paths: Vec<String>,
}

impl Unsigned {
    fn new<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Result<Self> {
        let unsigned = Self { paths: paths.map(|path| path.display().to_string()).collect() };
        unsigned.strip()?;
        Ok(unsigned)
    }

    /// Nix has no command for it.
    fn strip(&self) -> Result<()> {
        let list = self.paths.iter().map(|path| format!("'{path}'")).collect::<Vec<_>>().join(",");
        let update = format!("UPDATE ValidPaths SET sigs = NULL WHERE path IN ({list});");
        run(tool("sqlite3").args(["-cmd", ".timeout 20000", "/nix/var/nix/db/db.sqlite", &update]))
            .context("removing signatures from the host's Nix database")
    }
}

impl Drop for Unsigned {
    fn drop(&mut self) {
        if let Err(error) = self.strip() {
            eprintln!("{error:#}");
        }
    }
}

fn signatures(world: &mut World) -> Result<()> {
    let closure = world.own_closure("pi-signed")?;
    let (toplevel, disko) = (closure.toplevel.display().to_string(), closure.disko.display().to_string());
    let host = world.host()?;
    let (ours, other) = (Key::new(world, "rig-ours-1")?, Key::new(world, "rig-other-1")?);
    let sizes = sizes(world, &closure)?;
    let _unsigned = Unsigned::new(sizes.keys())?;
    let nix = Nix::new(&world.settings.cache)?;
    let sign = |key: &Key| {
        run(nix.command("nix").args(["store", "sign", "--recursive", "--key-file", &key.secret, &toplevel]))
    };
    let digest = world.digest(&disko)?;
    let install = [
        "install",
        &host,
        "--closure",
        &toplevel,
        "--disko",
        &disko,
        "--yes",
        &digest,
        "--no-reboot",
        "--trust",
        "signatures",
        "--trusted-public-key",
        &ours.public,
    ];
    let fresh = [&install[..], &["--fresh"]].concat();
    let remedy = ["is not signed by a key that is trusted", "/nix/store/", "nix store sign", "--trusted-public-key"];

    // Nothing is touched for what can be known beforehand.
    world.expect(&fresh, 48, &[&remedy[..], &["no signature", "rig-ours-1"]].concat())?;
    let state = world.status()?["state"]["state"].clone();
    ensure!(state != "receiving", "the agent is {state}");
    // The agent's own keys are known to the agent only, so this is its own refusal.
    sign(&other)?;
    world.expect(&fresh, 48, &[&remedy[..], &["signed with rig-other-1", "rig-ours-1"]].concat())?;
    world.expect_state("receiving")?;
    world.expect(&["push", &host, "--closure", &toplevel], 48, &remedy).context("a push that asks for less")?;

    sign(&ours)?;
    world.expect(&install, 0, &[])?;
    world.expect_state("installed")?;
    is_free(world)?;
    verify_store(world)?;
    let known = super::keep::inside(
        world,
        &format!(
            "nix --extra-experimental-features nix-command path-info --sigs --recursive --store 'local?root=/mnt' {toplevel}"
        ),
    )?;
    for line in known.lines() {
        ensure!(line.contains("rig-ours-1:") || line.contains("ca:"), "a signature is lost: {line}");
    }
    ensure!(known.lines().count() == sizes.len(), "not all paths are registered:\n{known}");
    Ok(())
}

/// A stock HTTP server on the Pi's network.
struct Server(Child);

impl Server {
    fn start(world: &mut World, directory: &Path) -> Result<Self> {
        let pi = world.pi()?;
        let mut command = pi.command("busybox");
        command.args(["httpd", "-f", "-p", &format!("{HOST_ADDRESS}:{PORT}"), "-h"]).arg(directory);
        let server = Self(command.spawn().context("starting busybox httpd")?);
        let deadline = Instant::now() + Duration::from_secs(10);
        let ask = format!("http://{HOST_ADDRESS}:{PORT}/nix-cache-info");
        while run(pi.command("curl").args(["-sf", "-o", "/dev/null", &ask])).is_err() {
            ensure!(Instant::now() < deadline, "the binary cache is not served");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn from_cache(world: &mut World) -> Result<()> {
    let closure = world.own_closure("pi-cached")?;
    let (toplevel, disko) = (closure.toplevel.display().to_string(), closure.disko.display().to_string());
    let host = world.host()?;
    let key = Key::new(world, "rig-cache-1")?;
    let sizes = sizes(world, &closure)?;
    let room = tempfile::tempdir().context("making a directory for the cache")?;
    let nix = Nix::new(&world.settings.cache)?;
    let place = format!("file://{}?compression=xz&secret-key={}", room.path().display(), key.secret);
    run(nix.command("nix").args(["copy", "--to", &place, &toplevel])).context("making a binary cache")?;
    // It lacks what is made anew for each machine.
    let etc = fs::canonicalize(closure.toplevel.join("etc")).context("finding etc")?;
    for path in [&closure.toplevel, &etc] {
        let name = path.file_name().and_then(|name| name.to_str()).context("a store path has a name")?;
        let record = format!("{}.narinfo", name.split('-').next().unwrap_or(name));
        fs::remove_file(room.path().join(record)).context("taking a path out of the cache")?;
    }
    let server = Server::start(world, room.path())?;
    let digest = world.digest(&disko)?;
    let url = format!("http://{HOST_ADDRESS}:{PORT}");
    let install = installing(
        &host,
        &toplevel,
        &disko,
        &digest,
        &["--json", "--substituter", &url, "--trusted-public-key", &key.public],
    );
    let (code, said, told) = Running::start(world, &install)?.end()?;
    drop(server);
    ensure!(code == Some(0), "{code:?}:\n{told}");
    let own = [&closure.toplevel, &etc].iter().filter_map(|path| sizes.get(*path)).sum::<u64>();
    let sent = summary(&said)?;
    let expected = [
        ("paths-fetched", sizes.len() as u64 - 2),
        ("fetched-nar-bytes", sizes.values().sum::<u64>() - own),
        ("paths-sent", 2),
        ("nar-bytes", own),
    ];
    for (name, expected) in expected {
        ensure!(number(sent, name)? == expected, "{name} should be {expected}: {sent}");
    }
    ensure!(number(sent, "fetched-wire-bytes")? < closure.nar_size, "nothing was packed: {sent}");
    world.expect_state("installed")?;
    is_free(world)?;
    verify_store(world)
}

/// A release of Nix on this host.
struct Release {
    lan: Arc<Lan>,
    nix: Nix,
    words: Vec<String>,
    options: String,
}

impl Release {
    /// On the Pi's network, with the ssh options that `--print-nix-copy` says.
    fn command(&self, words: &[String]) -> Result<Command> {
        let mut command = self.lan.command(&words[0]);
        command.args(&words[1..]).envs(self.nix.environment()).env_remove("NIX_REMOTE").env_remove("NIX_CONFIG");
        command.env("NIX_SSHOPTS", &self.options);
        Ok(command)
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let words = self.words.iter().map(String::as_str).chain(arguments.iter().copied());
        let words: Vec<String> = words.map(str::to_owned).collect();
        stdout_of(&mut self.command(&words)?)
    }

    /// Looks at the target store, and copies a path out of it into a store of its own.
    fn look(&self, store: &str, path: &str) -> Result<()> {
        self.run(&["store", "ping", "--store", store])?;
        let known = self.run(&["path-info", "--store", store, path])?;
        ensure!(known.trim() == path, "path-info says {known:?}");
        let room = tempfile::tempdir().context("making a directory for a store")?;
        let own = format!("local?root={}", room.path().display());
        self.run(&["copy", "--no-check-sigs", "--from", store, "--to", &own, path])?;
        self.run(&["store", "verify", "--no-trust", "--store", &own, path])?;
        // Its directories are read-only, which is no hindrance to root.
        room.close().context("removing that store")
    }
}

fn nix_copy(world: &mut World) -> Result<()> {
    let closure = world.own_closure("pi-copied")?;
    let (toplevel, disko) = (closure.toplevel.display().to_string(), closure.disko.display().to_string());
    let host = world.host()?;
    let etc = fs::canonicalize(closure.toplevel.join("etc")).context("finding etc")?;
    let digest = world.digest(&disko)?;
    let url = format!("http://{HOST_ADDRESS}:{PORT}");
    let install = installing(&host, &toplevel, &disko, &digest, &["--json", "--substituter", &url]);
    // Nobody is at that address, so all is sent, up to what is damaged: then the target stays mounted.
    let (code, said, told) = {
        let _tampered = Tampered::new(&etc.join("hostname"))?;
        Running::start(world, &install)?.end()?
    };
    ensure!(code == Some(30), "{code:?}:\n{told}");
    ensure!(warned(&said, &url) && warned(&said, "is sent"), "nobody said that the cache is gone: {said:?}");
    world.expect_state("receiving")?;

    let out = world.expect(&["push", &host, "--closure", &toplevel, "--print-nix-copy", "--json"], 0, &[])?;
    let copy: Value = serde_json::from_str(&out).context("parsing the line for nix copy")?;
    let store = copy["store"].as_str().context("there is no store")?.to_owned();
    let options = copy["ssh-options"].as_str().unwrap_or_default().to_owned();
    let line = world.expect(&["push", &host, "--closure", &toplevel, "--print-nix-copy"], 0, &[])?;
    let nix = Nix::new(&world.settings.cache)?;
    let newer = unpacked::unpack(&world.settings.cache, "nix", "nix-bin").context("unpacking Debian 13's Nix")?;
    let lan = Arc::clone(world.pi()?.lan());
    let newer =
        Release { lan: lan.clone(), nix: nix.clone(), words: newer.words("usr/bin/nix")?, options: options.clone() };
    let own = Release { lan, nix, words: vec!["nix".to_owned()], options };

    // A part of it with one release, the system itself with the other, by the very line.
    let etc = etc.display().to_string();
    newer.run(&["copy", "--to", &store, &etc]).context("nix copy by Debian 13's Nix")?;
    newer.look(&store, &etc)?;
    own.look(&store, &etc)?;
    let line = ["sh", "-c", line.trim()].map(str::to_owned);
    run(&mut own.command(&line)?).context("nix copy by this host's Nix")?;

    let deadline = Instant::now() + PATIENCE;
    while world.status()?["state"]["state"] != "installed" {
        ensure!(Instant::now() < deadline, "the installation did not go on with what Nix has brought");
        std::thread::sleep(Duration::from_secs(1));
    }
    is_free(world)?;
    verify_store(world)
}
