//! The built `cygnet`, run as a person would, on what goes wrong before there is a Pi to talk to.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A store path that nobody has.
const NOWHERE: &str = "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-nixos-system-nowhere";

fn cygnet(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cygnet"))
        .args(arguments)
        .env_remove("CYGNET_AGENT_COMMAND")
        .stdin(Stdio::null())
        .output()
        .expect("cygnet was built, so it can be run")
}

/// Runs it and expects this exit code; gives stdout and stderr.
fn exits(code: i32, arguments: &[&str]) -> (String, String) {
    let output = cygnet(arguments);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "cygnet {arguments:?}\nstdout: {stdout}\nstderr: {stderr}");
    (stdout, stderr)
}

/// What a person reads has three parts.
fn has_three_parts(stderr: &str) {
    for part in ["error: ", "\n  cause:  ", "\n  remedy: "] {
        assert!(stderr.contains(part), "{stderr:?} lacks {part:?}");
    }
}

/// These tests are of no use without the real tools, so they don't pass without them.
fn need(program: &str) {
    let found =
        Command::new(program).arg("-V").output().is_ok() || Command::new(program).arg("--version").output().is_ok();
    assert!(found, "this test needs {program}: `apt install nix-bin openssh-client` on Debian");
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let file = dir.join(name);
    std::fs::write(&file, text).expect("the directory is ours");
    file.display().to_string()
}

#[test]
fn every_command_has_help_with_examples() {
    let (help, _) = exits(0, &["--help"]);
    assert!(help.contains("EXIT STATUS") && help.contains("EXAMPLES"), "{help}");
    for command in
        ["discover", "status", "plan", "install", "push", "image", "logs", "reboot", "abort", "completions", "man"]
    {
        let (help, stderr) = exits(0, &[command, "--help"]);
        assert!(help.contains("EXAMPLES"), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
        assert_eq!(stderr, "");
    }
}

#[test]
fn a_bad_command_line_exits_with_2() {
    for arguments in [
        &["levitate"][..],
        &[],
        &["status"],
        &["status", "pi", "--no-such-flag"],
        &["install", "pi"],
        &["install", "pi", "--flake", ".#a", "--disko", "x"],
        &["install", "pi", "--closure", NOWHERE],
        &["discover", "--timeout", "soon"],
        &["completions", "no-such-shell"],
    ] {
        exits(2, arguments);
    }
}

#[test]
fn a_bad_host_digest_or_flake_is_a_bad_request() {
    for arguments in [
        &["status", "a b"][..],
        &["status", "root@"],
        &["status", "--", "-oProxyCommand=touch x"],
        &["plan", "pi", "--flake", "no-hash-sign"],
        &["install", "pi", "--yes", "yes", "--flake", ".#pi"],
    ] {
        let (stdout, stderr) = exits(3, arguments);
        has_three_parts(&stderr);
        assert_eq!(stdout, "");
    }
}

#[test]
fn a_layout_that_is_none_is_refused_before_anything_else() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let files = [
        dir.path().join("missing.json").display().to_string(),
        write(dir.path(), "empty.json", ""),
        write(dir.path(), "cut.json", r#"{"disk":{"ssd":{"device":"/dev/disk/by-id/x","content":{"type":"gp"#),
        write(dir.path(), "array.json", "[]"),
        write(dir.path(), "nothing.json", "{}"),
        write(dir.path(), "edited.json", r#"{"disk":{"ssd":{"device":"sda","type":"disk","content":null}}}"#),
        write(
            dir.path(),
            "type.json",
            r#"{"disk":{"ssd":{"device":"/dev/disk/by-id/x","content":{"type":"floppy"}}}}"#,
        ),
    ];
    for file in &files {
        // The host does not exist, and is not asked for.
        let (_, stderr) = exits(13, &["plan", "pi.invalid", "--disko", file]);
        has_three_parts(&stderr);
        exits(13, &["install", "pi.invalid", "--disko", file, "--closure", NOWHERE]);
    }
}

#[test]
fn extra_files_that_cannot_be_are_refused_before_anything_else() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let file = write(dir.path(), "file", "hunter2");
    for name in ["empty", "store/nix/store", "pipe"] {
        std::fs::create_dir_all(at(name)).expect("the directory is ours");
    }
    write(&dir.path().join("store/nix/store"), "x", "hunter2");
    let _socket = std::os::unix::net::UnixListener::bind(at("pipe/socket")).expect("the directory is ours");
    for (bad, says) in [
        (&at("missing"), "No such file"),
        (&file, "Not a directory"),
        (&at("empty"), "nothing in"),
        (&at("store"), "nix/store"),
        (&at("pipe"), "socket is a socket"),
    ] {
        // Neither the host nor the layout is there, or asked for.
        for command in [
            &["install", "pi.invalid", "--closure", NOWHERE, "--disko", "x.json", "--extra-files", bad][..],
            &["plan", "pi.invalid", "--disko", "x.json", "--extra-files", bad],
            &["plan", "--blank-disks", "32G", "--disko", "x.json", "--extra-files", bad],
        ] {
            let (stdout, stderr) = exits(45, command);
            has_three_parts(&stderr);
            assert!(stderr.contains(says) && !stderr.contains("hunter2") && stdout.is_empty(), "{stderr}");
        }
    }
}

#[test]
fn extra_files_are_counted_in_a_plan() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/fixtures/disko/simple-efi.json");
    let fixture: serde_json::Value = serde_json::from_slice(&std::fs::read(fixture).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "devices.json", &fixture["devices"].to_string());
    std::fs::create_dir_all(dir.path().join("extra/etc")).unwrap();
    write(&dir.path().join("extra/etc"), "key", "hunter2");
    let plan = |more: &[&str]| exits(0, &[&["plan", "--disko", &file, "--blank-disks", "32G"], more].concat()).0;
    let extra = dir.path().join("extra").display().to_string();
    let text = plan(&["--extra-files", &extra]);
    assert!(text.contains("Lay 1 file, 1 directory (7 bytes) over the root") && !text.contains("hunter2"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&plan(&["--extra-files", &extra, "--json"])).unwrap();
    assert_eq!(json["extra-files"], serde_json::json!({"files": 1, "links": 0, "directories": 1, "bytes": 7}));
    let without: serde_json::Value = serde_json::from_str(&plan(&["--json"])).unwrap();
    assert_eq!(without["digest"], json["digest"], "like secrets, they are not what is done to the disks");
    assert_eq!(without.get("extra-files"), None);
}

#[test]
fn a_closure_that_is_none_is_told_from_one_that_is_missing() {
    need("nix-store");
    need("nix");
    let (_, stderr) = exits(11, &["push", "pi.invalid", "--closure", NOWHERE]);
    has_three_parts(&stderr);
    assert!(stderr.contains(NOWHERE) && stderr.contains("nix-store --realise"), "{stderr}");
    for bad in ["/etc/hostname", "no-such-link", "/nix/store", "/nix/store/x-y"] {
        let (_, stderr) = exits(12, &["push", "pi.invalid", "--closure", bad]);
        has_three_parts(&stderr);
    }
}

#[test]
fn a_refused_connection_is_unreachable() {
    need("ssh");
    let arguments = ["status", "127.0.0.1", "-o", "Port=1", "--json"];
    let (stdout, stderr) = exits(20, &arguments);
    has_three_parts(&stderr);
    assert!(stderr.contains("Connection refused"), "{stderr}");
    let record: serde_json::Value = serde_json::from_str(&stdout).expect("with --json, stdout is JSON");
    assert_eq!(record["type"], "error");
    assert_eq!(record["code"], "unreachable");
    assert_eq!(record["exit-code"], 20);
    for part in ["what", "cause", "remedy"] {
        assert!(record[part].as_str().is_some_and(|text| !text.is_empty()), "{record}");
    }
}

#[test]
fn a_name_without_an_address_is_unreachable() {
    need("ssh");
    let (_, stderr) = exits(20, &["status", "nowhere.invalid"]);
    assert!(stderr.contains("cygnet discover"), "{stderr}");
}

#[test]
fn completions_and_pages_come_from_the_same_definition() {
    for shell in ["bash", "zsh", "fish"] {
        let (script, _) = exits(0, &["completions", shell]);
        assert!(script.contains("known-hosts"), "{shell}: {script}");
    }
    let dir = tempfile::tempdir().expect("a directory can be made");
    let pages = dir.path().join("man");
    exits(0, &["man", &pages.display().to_string()]);
    for page in ["cygnet.1", "cygnet-install.1"] {
        let text = std::fs::read_to_string(pages.join(page)).expect("the page was written");
        assert!(text.contains(".TH"), "{text}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error_to_talk_about() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cygnet"))
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cygnet was built, so it can be run");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(141));
}

#[test]
fn a_layout_can_be_planned_without_a_pi() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/fixtures/disko/luks-lvm.json");
    let fixture: serde_json::Value = serde_json::from_slice(&std::fs::read(fixture).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "devices.json", &fixture["devices"].to_string());
    let plan = |more: &[&str]| exits(0, &[&["plan", "--disko", &file, "--blank-disks", "32G"], more].concat()).0;

    let commands: Vec<Vec<String>> =
        plan(&["--argv"]).lines().map(|line| serde_json::from_str(line).expect("each line is a JSON array")).collect();
    let programs: Vec<&str> = commands.iter().map(|argv| argv[0].as_str()).collect();
    let at = |program: &str| programs.iter().position(|other| *other == program).unwrap_or_else(|| panic!("{program}"));
    assert!(at("sgdisk") < at("cryptsetup") && at("cryptsetup") < at("vgcreate") && at("vgcreate") < at("mkfs.ext4"));
    assert!(at("mkfs.ext4") < at("mount"));

    let json: serde_json::Value = serde_json::from_str(&plan(&["--json"])).unwrap();
    let kinds: Vec<&str> = json["steps"].as_array().unwrap().iter().filter_map(|step| step["type"].as_str()).collect();
    assert!(kinds.contains(&"format-luks") && kinds.contains(&"create-logical-volume"), "{kinds:?}");

    let text = plan(&[]);
    assert!(text.contains("Create volume group “pool” on /dev/mapper/crypted"), "{text}");

    let (stdout, stderr) = exits(14, &["plan", "--disko", &file, "--blank-disks", "100M"]);
    assert_eq!(stdout, "");
    has_three_parts(&stderr);
    assert!(stderr.contains("is too small"), "{stderr}");
}

#[test]
fn a_layout_that_mounts_nothing_or_makes_no_sense_is_refused_without_a_pi() {
    let refused = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/fixtures/disko/refused.json");
    let refused: serde_json::Value = serde_json::from_slice(&std::fs::read(refused).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (name, layout) in refused.as_object().unwrap() {
        let file = write(dir.path(), "devices.json", &layout.to_string());
        let (_, stderr) = exits(13, &["plan", "--disko", &file, "--blank-disks", "32G", "--argv"]);
        has_three_parts(&stderr);
        assert!(stderr.contains("disk") || stderr.contains("mdadm") || stderr.contains("lvm_vg"), "{name}: {stderr}");
    }
}
