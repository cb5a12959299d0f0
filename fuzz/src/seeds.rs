//! What each corpus begins with: what is really said, and what means ill. Made anew by every run, so that no binary is kept.

use crate::bytes::{CUT, Wire, archive, packed, sample};
use cygnet_protocol::card::fuzzing::{FILES, Reader};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The cache that the target `cache` asks.
pub const CACHE: &str = "http://cache.test";
/// The path that it asks for.
pub const WANTED: &str = "/nix/store/184as4ansdrqycvrial4bzlpkc3942wi-src";

const A: &str = "/nix/store/00000000000000000000000000000001-a";
const B: &str = "/nix/store/00000000000000000000000000000002-b";

/// A name and its bytes.
pub type Seed = (&'static str, Vec<u8>);

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Every message there is, as the golden files have it, a line each; one with too many brackets.
#[must_use]
pub fn messages() -> Vec<Seed> {
    let mut files: Vec<PathBuf> = fs::read_dir(source("protocol/tests/golden"))
        .expect("the golden files are there")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    let line = |path: &PathBuf| {
        let value: Value = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
        Some(format!("{value}\n").into_bytes())
    };
    let lines: Vec<Vec<u8>> = files.iter().filter_map(line).collect();
    assert!(lines.len() > 20, "there are golden files");
    const NAMES: [&str; 8] = ["0", "1", "2", "3", "4", "5", "6", "7"];
    let each = lines.len().div_ceil(NAMES.len());
    let mut seeds: Vec<Seed> = NAMES.into_iter().zip(lines.chunks(each).map(<[_]>::concat)).collect();
    let layout = json!({ "type": "plan", "disko": { "disk": { "main": {
        "type": "disk", "device": "/dev/sda", "content": { "type": "gpt", "partitions": {
            "ESP": { "size": "512M", "type": "EF00", "content": { "type": "filesystem", "format": "vfat", "mountpoint": "/boot" } },
            "zfs": { "size": "100%", "content": { "type": "zfs", "pool": "tank" } },
        } },
    } }, "zpool": { "tank": { "type": "zpool", "datasets": { "root": { "type": "zfs_fs", "mountpoint": "/" } } } } } });
    seeds.push(("layout", format!("{layout}\n").into_bytes()));
    let nested = |count| format!("{{\"type\":\"plan\",\"disko\":{}\n", "[".repeat(count)).into_bytes();
    seeds.push(("brackets", nested(300)));
    seeds
}

/// Recorded conversations of real Nix, and a request of each kind.
#[must_use]
pub fn worker() -> Vec<Seed> {
    const GREETING: [u64; 4] = [0x6e69_7863, 0x126, 0, 0];
    let recorded = |name: &str| {
        let text = fs::read_to_string(source(&format!("agent/src/worker/recorded/{name}.txt"))).expect("a recording");
        let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split('|').next());
        let digits: Vec<u8> = lines.flat_map(|line| line.bytes().filter(u8::is_ascii_hexdigit)).collect();
        let value = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default() as u8;
        digits.chunks(2).map(|pair| value(pair[0]) << 4 | pair.get(1).map_or(0, |low| value(*low))).collect::<Vec<u8>>()
    };
    let copy = recorded("copy-2.26");
    let mut questions = Wire::default().numbers(&GREETING);
    for operation in [1, 5, 6, 10, 18, 21, 26, 38] {
        questions = questions.number(operation).text(A.as_bytes());
    }
    for operation in [9, 40, 46] {
        questions = questions.numbers(&[operation, 2]).texts(&[A, B]);
        questions = if operation == 40 { questions } else { questions.number(0) };
    }
    questions = questions.number(29).text(b"00000000000000000000000000000001").numbers(&[23, 13, 34]);
    questions = questions.numbers(&[31, 1]).text(A.as_bytes()).number(0).numbers(&[45]).text(b"x").numbers(&[0]);
    let lie = Wire::default().numbers(&GREETING).numbers(&[44, 0, 1, 1 << 63]).raw(b"nothing");
    vec![
        ("copy-2.8", recorded("copy-2.8")),
        // What came is asked for by the same client.
        ("copy-2.26", [copy, questions.0[32..].to_vec()].concat()),
        ("info-2.26", recorded("info-2.26")),
        ("from-2.8", recorded("from-2.8")),
        ("questions", questions.0),
        ("lie", lie.0),
    ]
}

/// A program with a bit of everything, at the beginning of an archive and in the middle, and one whose headers lie.
#[must_use]
pub fn code() -> Vec<Seed> {
    let word = |word: u32| word.to_le_bytes();
    let program = |size: u64, table: u64| {
        let header = Wire::default().raw(b"\x7fELF\x02\x01\x01\0").numbers(&[0, 0x0001_00b7_0003, 0, 64, 0]);
        let header = header.raw(&[0; 6]).raw(&[56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        let load = header.numbers(&[0x5_0000_0001, 0, 0x10_0000, 0, size, size, 8]);
        let frames = load.numbers(&[0x4_6474_e550, table, 0, 0, 12 + 8 * 8, 0, 4]);
        let relocations = (0..6).fold(frames, |wire, n| wire.numbers(&[0x2_0000 + 8 * n, 1027, 40 * n]));
        let code: Vec<u8> = (0..20).flat_map(|n| [word(0x9400_1000 - n), word(0xb000_0000 + n)].concat()).collect();
        let table: Vec<u8> = (0..19).flat_map(|n| word(24 * n)).collect();
        relocations.raw(&code).raw(&table).raw(b"and what is behind").0
    };
    let with = |how: [u8; 2], program: Vec<u8>| [&how[..], &program].concat();
    vec![
        ("program", with([0, 255], program(556, 480))),
        ("pieces", with([8, 10], [vec![b'x'; 16], program(556, 480)].concat())),
        ("odd", with([3, 100], [vec![0; 5], program(550, 483)].concat())),
        ("lie", with([0, 23], program(u64::MAX - 3, u64::MAX - 7))),
    ]
}

/// Trees, and archives that nobody would make who means well.
#[must_use]
pub fn nar() -> Vec<Seed> {
    fn named(names: &[&[u8]]) -> Vec<u8> {
        let file: &dyn Fn(Wire) -> Wire = &|wire| wire.file(b"evil", false);
        let entries: Vec<(&[u8], &dyn Fn(Wire) -> Wire)> = names.iter().map(|name| (*name, file)).collect();
        archive(|wire| wire.directory(&entries))
    }
    fn deep(wire: Wire, levels: usize) -> Wire {
        if levels == 0 { wire.file(b"", false) } else { wire.directory(&[(b"d", &|wire| deep(wire, levels - 1))]) }
    }
    let long = [b'n'; 256];
    vec![
        ("sample", sample()),
        ("file", archive(|wire| wire.file(b"x", true))),
        ("link", archive(|wire| wire.link(b"../../outside/sentinel"))),
        ("dots", named(&[b".."])),
        ("slash", named(&[b"../../outside/sentinel"])),
        ("nul", named(&[b"a\0b"])),
        ("long", named(&[&long])),
        ("case", named(&[b"A", b"a", b"a~nix~case~hack~1"])),
        ("unordered", named(&[b"b", b"a"])),
        ("twice", named(&[b"a", b"a"])),
        ("through", {
            let link: &dyn Fn(Wire) -> Wire = &|wire| wire.link(b"../../../outside");
            let inside: &dyn Fn(Wire) -> Wire =
                &|wire| wire.directory(&[(b"sentinel", &|wire| wire.file(b"evil", false))]);
            archive(|wire| wire.directory(&[(b"a", link), (b"a", inside)]))
        }),
        ("deep", archive(|wire| deep(wire, 62))),
        ("deeper", archive(|wire| deep(wire, 70))),
        ("lie", {
            let head = Wire::default().texts(&["nix-archive-1", "(", "type", "regular", "contents"]);
            head.number(1 << 63).raw(b"few bytes").0
        }),
    ]
}

/// A path as it is told on a data channel; the hash is that of nothing in particular unless it is given.
fn record(path: &str, size: usize, hash: &str) -> Value {
    json!({ "type": "nar", "path": path, "nar-hash": hash, "nar-size": size, "references": [] })
}

/// Channels with whole paths, cut ones, ones that go on, and frames that are none.
#[must_use]
pub fn stream() -> Vec<Seed> {
    // SHA-256 of the archive of a file without contents, which stays what it is.
    const EMPTY: &str = "sha256-d6xi4mKdjkX2JFicDIv5niSzpyI0m/Hnm8GGAIU04kY=";
    let archive_of_nothing = archive(|wire| wire.file(b"", false));
    let plain = |how: u8, records: &[(&Value, &[u8])]| {
        let mut bytes = vec![how];
        for (record, nar) in records {
            bytes.extend(format!("{record}\n").bytes());
            bytes.extend(*nar);
        }
        bytes
    };
    let one = record(A, archive_of_nothing.len(), EMPTY);
    let end = json!({ "type": "end", "paths": 1 });
    let good = plain(0, &[(&one, &archive_of_nothing), (&end, b"")]);
    let hello = b"{\"type\":\"data\",\"protocol\":1,\"compression\":\"zstd\"}\n";
    let raw = [&[1][..], hello, &packed(&good[1..])].concat();

    // The beginning of a path that is long enough to be gone on with, then the rest of it.
    let size = 64 * 1024 * 1024 + 512;
    let head = Wire::default().texts(&[
        "nix-archive-1",
        "(",
        "type",
        "directory",
        "entry",
        "(",
        "name",
        "a",
        "node",
        "(",
        "type",
    ]);
    let head = head.texts(&["regular", "contents"]).number(1024 * 1024).raw(&[7; 512]).0;
    let cut = record(B, size, EMPTY);
    let rest = json!({ "type": "rest", "from": head.len(), "info": record(B, size, EMPTY) });
    let again = [&plain(0, &[(&cut, &head)])[..], CUT, &plain(0, &[(&rest, &[7; 512])])[1..]].concat();

    // A bomb: a frame of blocks that each repeat one byte (RFC 8878, 3.1.1.2).
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    for last in [0, 0, 0, 0, 0, 0, 0, 1_u32] {
        bomb.extend(&(last | 1 << 1 | (128 * 1024) << 3).to_le_bytes()[..3]);
        bomb.push(b'[');
    }
    vec![
        ("good", good),
        ("raw", raw),
        ("again", again),
        ("bomb", [&[1][..], hello, &bomb].concat()),
        ("window", [&[1][..], hello, &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 31 << 3]].concat()),
        ("lie", plain(0, &[(&json!({ "type": "nar", "path": A, "nar-hash": EMPTY, "nar-size": u64::MAX }), b"x")])),
    ]
}

/// The path that patches look back on.
pub const BASE: &str = "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-base";

/// What is looked back on, and by whom.
#[must_use]
pub fn patch() -> Vec<Seed> {
    let look_back = |from: u64, length: u64| {
        let line = json!({ "base": BASE, "from": from, "length": length }).to_string();
        let size = u32::try_from(line.len()).unwrap_or(0).to_le_bytes();
        [&[0x50, 0x2A, 0x4D, 0x18][..], &size, line.as_bytes()].concat()
    };
    let frame = packed(b"hello hello hello hello");
    let file = [1; 32];
    let seed = |parts: &[&[u8]]| [&[2][..], &file, &parts.concat()].concat();
    vec![
        ("whole", seed(&[&look_back(0, 144), &frame])),
        ("later", seed(&[&frame, &look_back(96, 32), &frame, &look_back(100, 32), &frame, &frame])),
        ("beyond", seed(&[&look_back(0, 1 << 20), &frame])),
        ("huge", seed(&[&look_back(u64::MAX, u64::MAX), &frame])),
        ("alone", seed(&[&look_back(0, 1)])),
    ]
}

/// A record, files, URLs, configurations; the first byte says which.
#[must_use]
pub fn cache() -> Vec<Seed> {
    let record = "\0StorePath: /nix/store/184as4ansdrqycvrial4bzlpkc3942wi-src\nURL: nar/1f0i6x.nar.xz\nCompression: xz\n\
        FileHash: sha256:0klw9yrq61fx0n5rfp6a9q9p8n5x8fn3ky2wiycaz3b2zvl84lsm\nFileSize: 224\n\
        NarHash: sha256:0addczm9fjxkwraq3rf9z66ndy1w8scg7pi05xdyf4rjpl2h73gj\nNarSize: 288\nReferences: \n\
        CA: fixed:r:sha256:0addczm9fjxkwraq3rf9z66ndy1w8scg7pi05xdyf4rjpl2h73gj\n";
    // The .xz file format: a stream header, a block header (LZMA2 with the smallest window), an uncompressed chunk, an end.
    let mut xz = vec![1, 0xFD, b'7', b'z', b'X', b'Z', 0, 0, 0, 0xFF, 0x12, 0xD9, 0x41];
    xz.extend([2, 0, 0x21, 1, 0, 0, 0, 0, 0x37, 0x27, 0x97, 0xD6, 1, 0, 4, b'h', b'e', b'l', b'l', b'o', 0]);
    vec![
        ("record", record.as_bytes().to_vec()),
        ("xz", xz),
        ("zstd", [&[2][..], &packed(b"hello hello hello hello")].concat()),
        ("url", b"\x03https://[::1]:80/nix?priority=10".to_vec()),
        ("conf", b"\x04trusted-public-keys = a:AAAA # x\nextra-substituters = http://a\ninclude b\n".to_vec()),
    ]
}

/// The file that each reader of settings is for, and some that nobody would write who means well. The first byte says which
/// reader is meant.
#[must_use]
pub fn card() -> Vec<Seed> {
    let seed = |name: &'static str, of: &str, file: &[u8]| {
        let which = FILES.iter().position(|(name, _)| *name == of).expect("a file that is read");
        (name, [&[u8::try_from(which).expect("a few")][..], file].concat())
    };
    let sample = |(name, _): &(&'static str, Reader)| {
        let path = source("protocol/tests/fixtures/card").join(name);
        seed(name, name, &fs::read(path).expect("a sample of each"))
    };
    let mut seeds: Vec<Seed> = FILES.iter().map(sample).collect();
    seeds.extend([
        seed("brackets", "cygnet.toml", format!("network = {}", "[".repeat(300)).as_bytes()),
        seed("dots", "custom.toml", format!("{}ssid = 1", "wlan.".repeat(300)).as_bytes()),
        seed("laughs", "user-data", b"#cloud-config\na: &a [x, x]\nb: &b [*a, *a]\nusers: [*b, *b]\n"),
        seed("flow", "network-config", b"wifis: {w: {access-points: {\"a\\x00b\": {password: \"hunter2\\\n  x\"}}}}"),
        seed("escapes", "wpa_supplicant.conf", b"network={\nssid=P\"\\777\\xf\"\npsk=\"hunter2 and\n}\n"),
        seed("name", "iwd.psk", b"=zz.psk\n[Security]\nPassphrase=hunter2\\q\n"),
    ]);
    seeds
}
