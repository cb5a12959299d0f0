//! Every message as it stands on the wire. A change that shows here changes the protocol: other versions must cope.
//!
//! `CYGNET_BLESS=1 cargo test -p cygnet-protocol --test messages` writes the files anew; then look at the difference.

use cygnet_protocol::disks::{Content, DiskList, DiskReport, Health, Layer, Verdict};
use cygnet_protocol::event::{Arrival, Event, EventKind, JobStatus, Phase, Source, State};
use cygnet_protocol::extra::{Count, Entry, ExtraFiles};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::handover::{Handover, Mode};
use cygnet_protocol::message::{BootFrom, ClosureSummary, Hello, InstallOptions, Reply, Request, Status};
use cygnet_protocol::online::diagnosis::{Code, Diagnosis};
use cygnet_protocol::online::link::{Link, LinkReport, LinkState, NetworkReport};
use cygnet_protocol::secret::{GivenSecret, Secret};
use cygnet_protocol::store::{Kin, Part, PathInfo, parse_store_path};
use cygnet_protocol::stream::{Base, DataHello, DataReply, Record};
use cygnet_protocol::trust::{Policy, Trust};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::path::Path;

const HELLO: &str = "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-hello-2.12";
const SYSTEM: &str = "/nix/store/1c5b8vw40dy178xlpddw65q9gf1h2186-nixos-system-pi-26.05";

/// Compares with the file, and the file with what it is read as.
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, message: &T) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.json"));
    let text = serde_json::to_string_pretty(message).unwrap() + "\n";
    if std::env::var_os("CYGNET_BLESS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    assert_eq!(text, expected, "{name} has changed on the wire");
    let back: T = serde_json::from_str(&expected).unwrap();
    assert_eq!(&back, message, "{name} is not read as it was written");
}

fn fault() -> Fault {
    Fault::new(FaultCode::DiskChanged, "A disk changed.", "Something wrote to it.", "Look at the plan again.")
}

fn closure() -> ClosureSummary {
    ClosureSummary { toplevel: SYSTEM.into(), system: "aarch64-linux".into(), paths: 2, nar_size: 240 }
}

fn info() -> PathInfo {
    PathInfo {
        path: parse_store_path(SYSTEM).unwrap(),
        nar_hash: cygnet_protocol::store::NixHash::parse("sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=")
            .unwrap(),
        nar_size: 120,
        references: vec![parse_store_path(HELLO).unwrap()],
        deriver: Some(parse_store_path("/nix/store/2c5b8vw40dy178xlpddw65q9gf1h2186-nixos-system-pi.drv").unwrap()),
        signatures: vec!["cache-1:AAAA".into()],
        ca: Some("fixed:r:sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s".into()),
    }
}

fn diagnosis() -> Diagnosis {
    Diagnosis {
        link: Link::Association,
        code: Code::SaeOnly,
        what: "“home” takes WPA3 only.".into(),
        cause: "Only the pre-shared key is known.".into(),
        remedy: "Give the passphrase.".into(),
        next: "tries again within 30 s".into(),
    }
}

fn network() -> NetworkReport {
    NetworkReport {
        online: true,
        via: Some("wlan0 (“home”)".into()),
        links: vec![LinkReport {
            link: Link::Scan,
            state: LinkState::Up,
            detail: "“home” at -52 dBm".into(),
            since: 4711,
        }],
        diagnosis: Some(diagnosis()),
        warnings: vec![],
        tried: vec!["power save off".into()],
    }
}

fn status(state: State) -> Reply {
    Reply::Status(Box::new(Status {
        version: "0.1.0".into(),
        host_name: "pi".into(),
        board: "Raspberry Pi 4 Model B Rev 1.5".into(),
        serial: "10000000abcdef01".into(),
        system: "aarch64-linux".into(),
        state,
        job: Some(JobStatus {
            digest: "0123456789ab".into(),
            layout: "cdef".into(),
            toplevel: SYSTEM.into(),
            phase: Phase::Receive,
            resumable: true,
            paths_done: 1,
            bytes_done: 120,
            secrets: Vec::new(),
            extra_files: None,
        }),
        running_disk: Some("/dev/mmcblk0".into()),
        uptime_seconds: 61,
        memory_total: 1 << 30,
        memory_available: 1 << 29,
        agent_peak_memory: 12 << 20,
        host_keys: vec!["ssh-ed25519 SHA256:abc".into()],
        addresses: vec!["10.0.0.7".into(), "fe80::1%wlan0".into()],
        network: Some(network()),
        claim: Some("me".into()),
        target: Some("pi-cupboard".into()),
    }))
}

#[test]
fn greetings() {
    let hello = Hello { protocol: 1, oldest: 1, features: vec!["zstd".into()], program: "cygnet 0.1.0".into() };
    golden("hello", &hello);
    golden("handover", &Handover { mode: Mode::Control, peer: "10.0.0.2 50000 10.0.0.7 22".into(), no_hooks: false });
    golden("handover-nix-daemon", &Handover { mode: Mode::NixDaemon, peer: String::new(), no_hooks: false });
    golden(
        "data-hello",
        &DataHello { protocol: 1, compression: "zstd".into(), trust: Default::default(), code: false },
    );
    let keys = vec!["mine-1:wG9VDRQ4d8PjuUxvpAz97sRVPpZkgr9zydzn8dID60s=".into()];
    let trust = Trust { policy: Policy::Signatures, public_keys: keys };
    golden(
        "data-hello-code",
        &DataHello { protocol: 1, compression: "zstd".into(), trust: Default::default(), code: true },
    );
    golden(
        "data-hello-signatures",
        &DataHello { protocol: 1, compression: "zstd".into(), trust: trust.clone(), code: false },
    );
    let alone = InstallOptions { carry_networks: false, ..InstallOptions::default() };
    golden("install-options-no-networks", &alone);
    golden("install-options-signatures", &InstallOptions { trust, ..InstallOptions::default() });
    let extra_files = Some(ExtraFiles { id: 4711, count: extra_files() });
    golden("install-options-extra-files", &InstallOptions { extra_files, ..InstallOptions::default() });
    let boot_from = Some(BootFrom::Card);
    golden("install-options-boot-from", &InstallOptions { boot_from, ..InstallOptions::default() });
    let plan = Request::Plan { disko: serde_json::json!({}), closure: None, mode: Default::default(), boot_from };
    golden("request-plan-boot-from", &plan);
}

fn extra_files() -> Count {
    Count { files: 2, links: 1, directories: 3, bytes: 1234 }
}

#[test]
fn extra() {
    golden("extra-directory", &Entry::Directory { path: "etc/keys".into(), mode: 0o700 });
    golden("extra-file", &Entry::File { path: "etc/keys/age".into(), mode: 0o600, size: 74 });
    golden("extra-link", &Entry::Link { path: "etc/keys/other".into(), to: "age".into() });
    let job = JobStatus {
        digest: "0123456789ab".into(),
        layout: "cdef".into(),
        toplevel: SYSTEM.into(),
        phase: Phase::Activate,
        resumable: true,
        paths_done: 2,
        bytes_done: 240,
        secrets: Vec::new(),
        extra_files: Some(extra_files()),
    };
    golden("job-extra-files", &job);
}

#[test]
fn requests() {
    let disko = serde_json::json!({"disk": {}});
    let plan =
        Request::Plan { disko: disko.clone(), closure: Some(closure()), mode: Default::default(), boot_from: None };
    let install = Request::Install {
        disko,
        digest: "0123456789ab".into(),
        closure: closure(),
        mode: cygnet_protocol::plan::Mode::Format,
        options: InstallOptions::default(),
        secrets: vec![GivenSecret { name: "crypted".into(), value: Secret::new(b"correct horse".into()) }],
    };
    let query = Request::QueryValid { paths: vec![parse_store_path(HELLO).unwrap()] };
    let substitute = Request::Substitute {
        paths: vec![parse_store_path(HELLO).unwrap()],
        substituters: vec!["https://cache.example.org".into()],
        public_keys: vec!["cache.example.org-1:wG9VDRQ4d8PjuUxvpAz97sRVPpZkgr9zydzn8dID60s=".into()],
    };
    let all = [
        ("status", Request::Status),
        ("plan", plan),
        ("install", install),
        ("query-valid", query),
        ("substitute", substitute),
        ("follow", Request::Follow { from: 7 }),
        ("abort", Request::Abort),
        ("reboot", Request::Reboot { force: false }),
        ("disks", Request::Disks),
        ("extra-files", Request::ExtraFiles { id: 4711, at: 512, total: 516, bytes: Secret::new(b"key\n".into()) }),
    ];
    assert_eq!(all.each_ref().map(|(name, _)| *name), Request::TYPES, "every request has its file");
    for (name, request) in &all {
        golden(&format!("request-{name}"), request);
        let line = serde_json::to_vec(request).unwrap();
        assert_eq!(&Request::parse(&line).unwrap(), request);
    }
    // What older clients leave out has a default.
    let old = format!(
        r#"{{"type":"install","disko":{{}},"digest":"x","closure":{}}}"#,
        serde_json::to_string(&closure()).unwrap()
    );
    assert!(Request::parse(old.as_bytes()).is_ok());
}

#[test]
fn replies() {
    golden("reply-accepted", &Reply::Accepted { resumed: true });
    let paths = || vec![parse_store_path(HELLO).unwrap()];
    let kin =
        Kin { path: parse_store_path(SYSTEM).unwrap(), base: info().path, nar_hash: info().nar_hash, nar_size: 120 };
    golden(
        "reply-valid",
        &Reply::Valid { paths: paths(), parts: vec![], empty: false, card_paths: 0, card_bytes: 0, kin: vec![] },
    );
    let part = Part { path: info().path, nar_hash: info().nar_hash, bytes: 100 };
    golden(
        "reply-valid-part",
        &Reply::Valid { paths: paths(), parts: vec![part], empty: false, card_paths: 0, card_bytes: 0, kin: vec![] },
    );
    golden(
        "reply-valid-empty",
        &Reply::Valid { paths: vec![], parts: vec![], empty: true, card_paths: 3, card_bytes: 360, kin: vec![kin] },
    );
    let paths = vec![parse_store_path(HELLO).unwrap()];
    golden("reply-substituted", &Reply::Substituted { paths, fetched: 1, nar_bytes: 120, wire_bytes: 66 });
    golden("reply-error", &Reply::Error(fault()));
    golden("reply-status", &status(State::Receiving));
}

#[test]
fn disks() {
    let part = |path: &str, contents: Vec<Content>| Layer {
        path: path.into(),
        kind: "part".into(),
        size_bytes: 1 << 30,
        name: Some("data".into()),
        contents,
        mounts: vec!["/data".into()],
        children: vec![],
    };
    let other = || vec!["/dev/sdb1".to_owned()];
    let contents = vec![
        Content::Filesystem {
            format: "ext4".into(),
            label: Some("root".into()),
            used_bytes: Some(12 << 30),
            total_bytes: Some(30 << 30),
            others: vec![],
        },
        Content::Swap { label: None },
        Content::Pool {
            name: "tank".into(),
            guid: Some("18206461257597909337".into()),
            state: "exported".into(),
            host: Some("nas".into()),
            others: other(),
            datasets: Some(3),
            used_bytes: Some(41 << 30),
        },
        Content::Raid { name: "nas:0".into(), level: Some("raid1".into()), devices: Some(2), others: other() },
        Content::Lvm { group: Some("vg0".into()), volumes: Some(3), others: vec![] },
        Content::Luks { version: Some("2".into()), label: None },
        Content::Bcache,
        Content::Other { format: "drbd".into(), label: None },
    ];
    let words: Vec<String> = contents.iter().map(Content::words).collect();
    assert_eq!(
        words,
        [
            "ext4 “root”, 12 GiB in use of 30 GiB",
            "swap",
            "member of the ZFS pool tank, last used by host nas, 3 datasets, 41 GiB in use (other member: /dev/sdb1)",
            "member of RAID nas:0, raid1 of 2 (other member: /dev/sdb1)",
            "LVM volume group vg0, 3 volumes",
            "LUKS2 volume",
            "bcache device",
            "drbd",
        ]
    );
    let disk = DiskReport {
        path: "/dev/sda".into(),
        by_id: vec!["/dev/disk/by-id/usb-T7".into()],
        by_path: vec!["/dev/disk/by-path/usb-1".into()],
        model: Some("T7".into()),
        serial: Some("S1".into()),
        bus: Some("usb".into()),
        size_bytes: 1 << 40,
        logical_sector_bytes: 512,
        physical_sector_bytes: 4096,
        health: Health {
            verdict: Verdict::Passed,
            celsius: Some(41),
            hours: Some(99),
            worn_percent: Some(3),
            why: None,
        },
        holds: Layer {
            path: "/dev/sda".into(),
            kind: "disk".into(),
            size_bytes: 1 << 40,
            contents: vec![Content::Table { format: "gpt".into(), partitions: 1 }],
            children: vec![part("/dev/sda1", contents)],
            ..Layer::default()
        },
        objections: vec!["/dev/sda1 is mounted at /data".into()],
        warnings: vec!["its serial number is not its own".into()],
        ..DiskReport::default()
    };
    golden("reply-disks", &Reply::Disks(DiskList { disks: vec![disk], notes: vec!["a note".into()] }));
}

#[test]
fn states() {
    let phase = Phase::Format;
    for state in [
        State::Waiting,
        State::Installing { phase },
        State::Receiving,
        State::Failed { phase, fault: fault() },
        State::Interrupted { phase },
        State::Installed,
        State::Rebooting,
    ] {
        golden(&format!("state-{}", state.name()), &state);
    }
}

#[test]
fn events() {
    let kinds = [
        ("phase-started", EventKind::PhaseStarted),
        ("phase-finished", EventKind::PhaseFinished { took: 1500 }),
        ("skipped", EventKind::Skipped { why: "there is none".into() }),
        ("task", EventKind::Task { text: "Create partition 1".into() }),
        ("output", EventKind::Output { line: "The operation has completed.".into() }),
        ("progress", EventKind::Progress { done: 1, total: 2, unit: "bytes".into(), came: None }),
        (
            "progress-came",
            EventKind::Progress {
                done: 1_000_000,
                total: 2_000_000,
                unit: "bytes".into(),
                came: Some(Arrival { source: Source::Client, paths: 12, bytes: 345_678 }),
            },
        ),
        ("warning", EventKind::Warning { text: "It is slow.".into() }),
        ("failed", EventKind::Failed { fault: fault() }),
        ("state-changed", EventKind::StateChanged { to: State::Receiving }),
        ("link", EventKind::Link { report: network().links[0].clone() }),
        ("diagnosed", EventKind::Diagnosed { diagnosis: diagnosis() }),
        (
            "host-keys",
            EventKind::HostKeys {
                keys: vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIPCFTCmQyABWhrTOOcHKmGfl0ihSoU5j+yXhCvKAd0Z".into()],
            },
        ),
        ("online", EventKind::Online { online: true, via: Some("wlan0 (“home”)".into()) }),
    ];
    for (name, kind) in kinds {
        let event = Event { seq: 3, millis: 1234, phase: Some(Phase::Partition), kind };
        golden(&format!("event-{name}"), &Reply::Event(event));
    }
}

#[test]
fn store_paths() {
    golden("record-nar", &Record::Nar(info()));
    golden("record-rest", &Record::Rest { from: 100, info: info() });
    let base = info().references[0].clone();
    golden("record-patched", &Record::Patched { from: 0, base: base.clone(), info: info() });
    golden("base", &Base { base, from: 0, length: 4096 });
    golden("record-end", &Record::End { paths: 2 });
    golden("data-received", &DataReply::Received { paths: 2, nar_bytes: 240 });
    golden("data-error", &DataReply::Error(fault()));
}
