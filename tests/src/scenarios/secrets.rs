//! Passphrases and keys: given by file or typed, used by the real cryptsetup and ZFS, and left nowhere.

use super::failures::is_free;
use super::{SSD, Scenario, State, World, installing};
use crate::closure::Variant;
use crate::patience;
use crate::pi::vm::CARD_SERIAL;
use crate::pi::{Pi, pty::Typist};
use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "secret-missing",
        "a secret that is missing, unknown or cannot be right: refused, nothing written",
        State::Waiting,
        missing,
    ),
    Scenario::new(
        "secret-luks",
        "a LUKS root whose passphrase comes from a file; interrupted, gone on with, left nowhere",
        State::Waiting,
        luks,
    )
    .thorough(),
    Scenario::new(
        "secret-key-file",
        "LUKS with key files, which hooks see where the layout says, and which are gone afterwards",
        State::Waiting,
        key,
    )
    .thorough(),
    Scenario::new(
        "secret-zfs",
        "an encrypted pool whose passphrase is typed, with a dataset whose key is a file",
        State::Waiting,
        zfs,
    ),
];

const PATIENCE: Duration = patience::WORK;

/// Unlike anything else that is on a Pi. Line ends behind it do not count.
const LUKS: &str = "hatched-on-a-card-4711";
const ZFS: &str = "grown-up-on-an-ssd-0815";
/// Line ends behind these do.
const KEY: &[u8] = b"this-is-the-key-of-the-key-file\0\xff\n\n";
const SPARE: &[u8] = b"and-this-is-the-spare-key-there\n";
/// 32 bytes, as `keyformat=raw` wants them.
const RAW: &[u8] = b"32-bytes-of-a-raw-key-for-a-test";

/// Where there is no directory yet, and no tmpfs.
const KEY_FILE: &str = "/etc/keys/secret.key";
const SPARE_FILE: &str = "/tmp/additional.key";
const RAW_FILE: &str = "/var/lib/raw.key";

fn hooks(mut node: Value) -> Value {
    for hook in ["preCreate", "postCreate", "preMount", "postMount", "preUnmount", "postUnmount"] {
        let name = format!("{hook}Hook");
        if node[&name].is_null() {
            node[&name] = "".into();
        }
    }
    node
}

/// The layout with its root in LUKS instead of a pool. Deriving a key takes no time, which is no use but here.
fn in_luks(layout: &mut Value, changes: Value) {
    let device = "/dev/disk/by-partlabel/disk-ssd-crypt";
    let root = hooks(json!({
        "type": "filesystem", "format": "ext4", "device": "/dev/mapper/crypted", "mountpoint": "/",
        "mountOptions": ["defaults"], "extraArgs": [],
    }));
    let mut luks = hooks(json!({
        "type": "luks", "name": "crypted", "device": device, "askPassword": false, "passwordFile": null,
        "keyFile": null, "settings": {}, "additionalKeyFiles": [], "initrdUnlock": true, "extraOpenArgs": [],
        "extraFormatArgs": ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"], "content": root,
    }));
    for (key, value) in changes.as_object().into_iter().flatten() {
        luks[key] = value.clone();
    }
    let mut partition = layout["disk"]["ssd"]["content"]["partitions"]["zfs"].take();
    for (key, value) in [("name", "crypt"), ("label", "disk-ssd-crypt"), ("device", device), ("size", "600M")] {
        partition[key] = value.into();
    }
    partition["end"] = "+600M".into();
    partition["content"] = luks;
    partition["priority"] = 1000.into();
    let mut boot = layout["disk"]["ssd"]["content"]["partitions"]["boot"].take();
    boot["size"] = "128M".into();
    boot["end"] = "+128M".into();
    layout["disk"]["ssd"]["content"]["partitions"] = json!({ "boot": boot, "crypt": partition });
    layout["zpool"] = json!({});
}

fn asking(world: &mut World) -> Result<String> {
    world.layout(|layout| in_luks(layout, json!({ "askPassword": true })))
}

/// A file with a secret on the host.
fn secret(world: &mut World, name: &str, bytes: &[u8]) -> Result<String> {
    let path = world.file(name, "")?;
    std::fs::write(&path, bytes).with_context(|| format!("writing {path}"))?;
    Ok(path)
}

fn missing(world: &mut World) -> Result<()> {
    let disko = asking(world)?;
    // An earlier scenario may have installed something.
    let before = (world.ends_of(SSD)?, world.status()?["state"].clone());
    let tiny = world.closure(Variant::Tiny)?.toplevel.display().to_string();
    let host = world.host()?;
    let shown = world.expect(&["plan", &host, "--disko", &disko], 0, &[])?;
    ensure!(shown.contains("--secret crypted=FILE"), "the plan names no secret:\n{shown}");
    let out = world.expect(&["plan", &host, "--disko", &disko, "--json"], 0, &[])?;
    let plan: Value = serde_json::from_str(&out).context("parsing the plan")?;
    let wanted = &plan["secrets"][0];
    ensure!(wanted["name"] == "crypted" && wanted["there"] == false, "what is asked for is not told: {plan}");

    let digest = world.digest(&disko)?;
    let good = secret(world, "good", LUKS.as_bytes())?;
    let empty = secret(world, "empty", b"\n")?;
    let large = secret(world, "large", &[7; 65537])?;
    let install =
        ["install", &host, "--closure", &tiny, "--disko", &disko, "--yes", &digest, "--no-reboot"].map(str::to_owned);
    for (given, text) in [
        (None, "--secret crypted=FILE"),
        (Some(format!("crypt={good}")), "It asks for crypted"),
        (Some(format!("crypted={empty}")), "is empty"),
        (Some(format!("crypted={large}")), "65536 bytes"),
        (Some("crypted=/nowhere/file".to_owned()), "No such file"),
    ] {
        let mut arguments: Vec<&str> = install.iter().map(String::as_str).collect();
        arguments.extend(given.iter().flat_map(|given| ["--secret", given.as_str()]));
        world.expect(&arguments, 44, &[text])?;
    }
    // The agent does not rely on the client having looked.
    let closure = json!({"toplevel": tiny, "system": "aarch64-linux", "paths": 1, "nar-size": 1});
    let layout: Value = serde_json::from_str(&std::fs::read_to_string(&disko)?)?;
    let request = json!({"type": "install", "disko": layout, "digest": digest, "closure": closure});
    let hello = json!({"type": "hello", "protocol": 1, "oldest": 1, "program": "test"});
    let said = world.pi()?.sh(&format!(
        "({}; echo; {}; echo; sleep 5) | timeout 60 cygnetd bridge control",
        printed(hello.to_string().as_bytes()),
        printed(request.to_string().as_bytes())
    ))?;
    ensure!(said.contains("bad-secret") && said.contains("crypted"), "the agent did not refuse: {said}");
    let after = (world.ends_of(SSD)?, world.status()?["state"].clone());
    ensure!(after == before, "{SSD} was written to, or the agent's state is another one: {before:?}, {after:?}");
    Ok(())
}

fn luks(world: &mut World) -> Result<()> {
    let disko = asking(world)?;
    let toplevel = world.closure(Variant::Tiny)?.toplevel.display().to_string();
    let host = world.host()?;
    let digest = world.digest(&disko)?;
    let file = secret(world, "passphrase", format!("{LUKS}\n\n").as_bytes())?;
    let given = format!("crypted={file}");
    let bare = ["install", &host, "--closure", &toplevel, "--disko", &disko, "--yes", &digest, "--no-reboot"];
    let install = [&bare[..], &["--secret", &given]].concat();
    let search = Search::begin(world, &[LUKS.as_bytes()])?;
    cut_off(world, &install)?;
    wait_for_state(world, "receiving")?;
    let vault = world
        .pi()?
        .sh("stat -c %a /run/cygnet/secrets; stat -f -c %T /run/cygnet/secrets; stat -c %a /run/cygnet/secrets/*")?;
    ensure!(vault == "700\nramfs\n600", "the secrets are not kept as they should be: {vault}");
    world.pi()?.sh("systemctl kill --signal=KILL cygnetd")?;
    world.wait_for_agent()?;
    wait_for_state(world, "interrupted")?;
    no_vault(world.pi()?)?;
    let status = world.status()?;
    ensure!(status["job"]["secrets"][0]["name"] == "crypted", "what is needed to go on is not told: {status}");
    world.expect(&bare, 44, &["--secret crypted=FILE"]).context("going on without the secret")?;
    world.expect_state("interrupted")?;
    // Another passphrase does not open what was made.
    let wrong = secret(world, "wrong", b"another one")?;
    let wrong = format!("crypted={wrong}");
    world.expect(&[&bare[..], &["--secret", &wrong]].concat(), 32, &["No key available"])?;
    no_vault(world.pi()?)?;
    world.expect(&install, 0, &[]).context("going on with the secret")?;
    world.expect_state("installed")?;
    is_free(world)?;
    opens(world.pi()?, LUKS.as_bytes())?;
    search.end(world)
}

fn key(world: &mut World) -> Result<()> {
    // Not on a disk, for nobody else, the same bytes; and still there when the filesystem is made.
    let hook = format!(
        "test \"$(stat -L -c %a {KEY_FILE})\" = 600; test \"$(stat -L -f -c %T {KEY_FILE})\" = ramfs\n\
         test \"$(sha256sum < {KEY_FILE})\" = \"{}\" || exit 7",
        sha256sum(KEY)?
    );
    let disko = world.layout(|layout| {
        in_luks(
            layout,
            json!({
                "settings": { "keyFile": KEY_FILE }, "additionalKeyFiles": [SPARE_FILE], "postCreateHook": hook,
            }),
        );
    })?;
    let toplevel = world.closure(Variant::Tiny)?.toplevel.display().to_string();
    let host = world.host()?;
    // One of them is there already, and stays there.
    world.pi()?.sh(&format!("{} > {SPARE_FILE}", printed(SPARE)))?;
    let shown = world.expect(&["plan", &host, "--disko", &disko], 0, &[])?;
    ensure!(shown.contains(&format!("{KEY_FILE}=FILE")), "the key is not asked for:\n{shown}");
    ensure!(shown.contains("it is on the Pi already"), "the key that is there is not seen:\n{shown}");
    let digest = world.digest(&disko)?;
    let file = secret(world, "key", KEY)?;
    let given = format!("{KEY_FILE}={file}");
    let bare = installing(&host, &toplevel, &disko, &digest, &[]);
    let install = [&bare[..], &["--secret", &given]].concat();
    world.expect(&bare, 44, &[&format!("--secret {KEY_FILE}=FILE")])?;
    let search = Search::begin(world, &[KEY.split(|byte| *byte == 0).next().unwrap_or_default()])?;
    world.expect(&install, 0, &[])?;
    world.expect_state("installed")?;
    is_free(world)?;
    let pi = world.pi()?;
    pi.sh(&format!("! test -L {KEY_FILE} && ! test -e {KEY_FILE} && ! test -e /etc/keys && test -s {SPARE_FILE}"))
        .context("the key that was given is gone, the other is there")?;
    opens(pi, KEY)?;
    opens(pi, SPARE)?;
    pi.sh(&format!("rm {SPARE_FILE}"))?;
    search.end(world)
}

fn zfs(world: &mut World) -> Result<()> {
    let disko = world.layout(|layout| {
        let pool = &mut layout["zpool"]["rpool"];
        for options in ["/rootFsOptions", "/datasets/__root/options"] {
            let Some(options) = pool.pointer_mut(options) else { continue };
            for (option, value) in [("encryption", "on"), ("keyformat", "passphrase"), ("keylocation", "prompt")] {
                options[option] = value.into();
            }
        }
        let home = &mut pool["datasets"]["safe/home"]["options"];
        let location = format!("file://{RAW_FILE}");
        for (option, value) in [("encryption", "on"), ("keyformat", "raw"), ("keylocation", location.as_str())] {
            home[option] = value.into();
        }
    })?;
    let toplevel = world.closure(Variant::Tiny)?.toplevel.display().to_string();
    let host = world.host()?;
    let digest = world.digest(&disko)?;
    let file = secret(world, "raw", RAW)?;
    let given = format!("{RAW_FILE}={file}");
    let install = installing(&host, &toplevel, &disko, &digest, &["--secret", &given]);
    world.expect(&install, 44, &["--secret rpool=FILE"]).context("without a terminal")?;
    let search = Search::begin(world, &[ZFS.as_bytes(), RAW])?;
    let mut typist = Typist::start(world.command(&install)?)?;
    // Too short, then not the same twice, then right.
    for line in ["short", ZFS, "something else", ZFS, ZFS] {
        typist.answer(": ", line, PATIENCE)?;
    }
    let (status, shown) = typist.end(PATIENCE)?;
    ensure!(status.success(), "cygnet ended with {status}:\n{shown}");
    for text in ["too short", "not the same"] {
        ensure!(shown.contains(text), "it does not say {text:?}:\n{shown}");
    }
    ensure!(!shown.contains(ZFS), "what was typed was shown:\n{shown}");
    world.expect_state("installed")?;
    is_free(world)?;
    let pi = world.pi()?;
    pi.sh(&format!("! test -L {RAW_FILE}")).context("the link is gone")?;
    pi.sh("zpool import -N rpool")?;
    let (passphrase, raw) = (printed(ZFS.as_bytes()), printed(RAW));
    let loaded = pi.sh(&format!(
        "{passphrase} | zfs load-key -n rpool && \
         {raw} | zfs load-key -n -L prompt rpool/safe/home && \
         ! echo wrong-passphrase | zfs load-key -n rpool 2> /dev/null && \
         zfs get -H -o value keylocation rpool rpool/safe/home"
    ));
    pi.sh("zpool export rpool")?;
    let loaded = loaded.context("loading the keys")?;
    let locations: Vec<&str> = loaded.lines().rev().take(2).collect();
    ensure!(locations == [format!("file://{RAW_FILE}").as_str(), "prompt"], "not what the layout says: {loaded}");
    search.end(world)
}

/// Begins an installation, and kills `cygnet` as soon as the agent is about to format: it then waits for the closure.
fn cut_off(world: &mut World, install: &[&str]) -> Result<()> {
    let mut command = world.command(&[install, &["--json"]].concat())?;
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("starting cygnet")?;
    let output = child.stdout.take().context("taking cygnet's output")?;
    let formats = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        event["event"] == "phase-started" && event["phase"] == "format"
    };
    let begun = BufReader::new(output).lines().map_while(Result::ok).any(|line| formats(&line));
    child.kill().context("killing cygnet")?;
    let status = child.wait().context("waiting for cygnet")?;
    ensure!(begun, "it did not come to the formatting ({status})");
    Ok(())
}

fn wait_for_state(world: &mut World, state: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while world.status()?["state"]["state"] != state {
        ensure!(Instant::now() < deadline, "the agent did not become {state}");
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Whether a key opens the LUKS device that was made.
fn opens(pi: &Pi, key: &[u8]) -> Result<()> {
    let open = "cryptsetup open --test-passphrase --key-file - /dev/disk/by-partlabel/disk-ssd-crypt";
    pi.sh(&format!("{} | {open}", printed(key))).context("opening what was made")?;
    pi.sh(&format!("! ({}; echo) | {open} 2> /dev/null", printed(key)))
        .context("opening it with one byte more")
        .map(drop)
}

fn no_vault(pi: &Pi) -> Result<()> {
    pi.sh("! test -e /run/cygnet/secrets && ! findmnt /run/cygnet/secrets").context("secrets are left").map(drop)
}

fn sha256sum(bytes: &[u8]) -> Result<String> {
    use sha2::{Digest as _, Sha256};
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{hex}  -"))
}

/// Looks for secrets where none should be, during an installation and after it.
struct Search {
    patterns: String,
}

impl Search {
    /// Starts to look at every command line and environment on the Pi, over and over.
    fn begin(world: &mut World, secrets: &[&[u8]]) -> Result<Self> {
        let mut patterns = String::new();
        for secret in secrets {
            let text = std::str::from_utf8(secret).context("a secret to look for is text")?;
            // Without its end, which depends on what follows.
            let wire: String = STANDARD.encode(secret).chars().take(secret.len()).collect();
            patterns.push_str(&format!("{text}\n{wire}\n"));
        }
        let look = "cd /run/look; while ! test -e end; do \
                    grep -a -l -F -f patterns /proc/[0-9]*/cmdline /proc/[0-9]*/environ >> found 2> /dev/null; \
                    echo >> looks; sleep 0.3; done; echo > ended";
        // The patterns are in no command line either, or they would be found there.
        world.pi()?.sh(&format!(
            "rm -rf /run/look; mkdir -m 0700 /run/look; {} > /run/look/patterns; \
             (setsid sh -c '{look}' < /dev/null > /dev/null 2>&1 &)",
            printed(patterns.as_bytes())
        ))?;
        Ok(Self { patterns })
    }

    /// Fails if a secret was seen, or is anywhere now: on the consoles, in logs, on the card, on the new system's disk.
    fn end(self, world: &mut World) -> Result<()> {
        let host = world.host()?;
        let logs = world.expect(&["logs", &host, "--json"], 0, &[])?;
        let pi = world.pi()?;
        no_vault(pi)?;
        let looks = pi.sh(
            "cd /run/look; touch end; while ! test -e ended; do sleep 0.1; done; cat found 2> /dev/null; wc -l < looks",
        )?;
        ensure!(looks.trim().parse::<u32>().is_ok_and(|looks| looks > 3), "seen among the processes:\n{looks}");
        let journal = pi.sh("journalctl -b --no-pager -o export | grep -a -c -F -f /run/look/patterns; \
             grep -r -l -a -F -f /run/look/patterns /var/lib/cygnet /run/cygnet /run/log /var/log /tmp /etc /root || true; sync")?;
        ensure!(journal == "0", "found in the journal or in files: {journal}");
        let serial = pi.serial()?.text();
        let patterns = tempfile::NamedTempFile::new().context("making a file for patterns")?;
        std::fs::write(patterns.path(), &self.patterns)?;
        for (what, text) in [("the serial console", &serial), ("`cygnet logs`", &logs)] {
            ensure!(!self.patterns.lines().any(|line| text.contains(line)), "found in {what}");
        }
        let copies = tempfile::tempdir().context("making a directory for what is on the disks")?;
        pi.copy_disks(copies.path())?;
        for image in [CARD_SERIAL, SSD].map(|serial| copies.path().join(serial)) {
            // With lines that end with zeros, grep leaves out holes; else gigabytes of zeros are one line.
            let found = Command::new("grep")
                .env("LC_ALL", "C")
                .args(["-z", "-a", "-q", "-F", "-f"])
                .arg(patterns.path())
                .arg(&image)
                .status()
                .context("starting grep")?;
            ensure!(found.code() == Some(1), "found in {} ({found})", image.display());
        }
        pi.sh("rm -r /run/look")?;
        Ok(())
    }
}

/// A command that prints these bytes, which are not to be read in it.
fn printed(bytes: &[u8]) -> String {
    let octal: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
    format!("printf '{octal}'")
}
