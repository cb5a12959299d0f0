//! The built `cygnet`, run as a person would, on images and loop devices: from nothing to a card whose Pi is known.

use serde_json::Value;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A home of its own, so that nobody's keys and known hosts are touched.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().expect("a temporary directory"));
        std::fs::create_dir(home.path(".ssh")).expect("the directory is ours");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), bytes).expect("the directory is ours");
        self.path(name).display().to_string()
    }

    /// With a key, as most people have one.
    fn with_key() -> Self {
        let home = Self::new();
        let key = home.path(".ssh/id_ed25519").display().to_string();
        assert!(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "me@laptop", "-f", &key])
                .status()
                .unwrap()
                .success()
        );
        home
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cygnet"));
        command.args(arguments).env("HOME", self.0.path()).env("XDG_STATE_HOME", self.path("state"));
        command.env_remove("SUDO_USER").env_remove("CYGNET_AGENT_COMMAND").stdin(Stdio::null());
        command
    }

    fn exits(&self, code: i32, arguments: &[&str]) -> (String, String) {
        check(code, arguments, self.command(arguments).output().expect("cygnet was built"))
    }

    fn exits_with(&self, code: i32, stdin: &str, arguments: &[&str]) -> (String, String) {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("cygnet was built");
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).ok();
        check(code, arguments, child.wait_with_output().unwrap())
    }

    /// What a script sees: the last line of stdout.
    fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let (stdout, stderr) = self.exits(code, &[arguments, &["--json"]].concat());
        serde_json::from_str(stdout.lines().last().unwrap_or_default()).unwrap_or_else(|_| panic!("{stdout}{stderr}"))
    }
}

fn check(code: i32, arguments: &[&str], output: Output) -> (String, String) {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "cygnet {arguments:?}\nstdout: {stdout}\nstderr: {stderr}");
    if (3..126).contains(&code) {
        for part in ["error: ", "\n  cause:  ", "\n  remedy: "] {
            assert!(stderr.contains(part), "{stderr:?} lacks {part:?}");
        }
    }
    (stdout, stderr)
}

/// As an image of a card: MBR, a FAT partition of 30 MiB at 8 MiB as NixOS has it, another one.
fn image() -> Vec<u8> {
    let (start, length) = (8 << 20, 30 << 20);
    let mut fat = std::io::Cursor::new(vec![0; length]);
    fatfs::format_volume(&mut fat, fatfs::FormatVolumeOptions::new().volume_label(*b"FIRMWARE   ")).unwrap();
    let mut bytes = vec![0; start + length + (1 << 20)];
    for (number, (kind, first, count)) in
        [(0x0b_u8, 16_384_u32, 61_440_u32), (0x83, 77_824, 2048)].into_iter().enumerate()
    {
        let at = 446 + number * 16;
        bytes[at + 4] = kind;
        bytes[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
    }
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes[start..start + length].copy_from_slice(fat.get_ref());
    bytes
}

#[test]
fn from_an_image_to_a_pinned_connection() {
    let home = Home::with_key();
    let packed = structured_zstd::encoding::compress_to_vec(
        image().as_slice(),
        structured_zstd::encoding::CompressionLevel::Fastest,
    );
    let packed = home.file("bootstrap.img.zst", packed);
    let card = home.path("card.img").display().to_string();
    let flashed = home.json(0, &["card", "flash", &packed, &card]);
    assert_eq!(flashed["bytes"], 39 << 20);
    assert!(std::fs::read(&card).unwrap() == image());

    let secret = home.file("secret", "correct horse battery\r\n");
    let arguments = [
        "card",
        "configure",
        &card,
        "--hostname",
        "pi-cupboard",
        "--country",
        "DE",
        "--network",
        "caf\\xe9",
        "--passphrase-file",
        &secret,
        "--address",
        "127.0.0.1",
        "--claim",
        "me",
    ];
    let (stdout, stderr) = home.exits(0, &arguments);
    assert!(
        stdout.contains("pi-cupboard") && stdout.contains("me@laptop") && stderr.contains("id_ed25519.pub"),
        "{stdout}{stderr}"
    );
    assert!(!format!("{stdout}{stderr}").contains("horse"));

    // Real mtools reads what was written, line by line.
    if let Ok(output) = Command::new("mtype").args(["-i", &format!("{card}@@8M"), "::cygnet.toml"]).output() {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains("passphrase = \"correct horse battery\"\n") && text.contains("ssid-hex = \"636166e9\""),
            "{output:?}"
        );
    }
    let shown = home.json(0, &["card", "show", &card]);
    assert_eq!(
        (shown["label"].as_str(), shown["settings"]["hostname"].as_str()),
        (Some("FIRMWARE"), Some("pi-cupboard"))
    );
    assert!(!shown.to_string().contains("horse") && !shown.to_string().contains("PRIVATE"), "{shown}");
    let age = shown["host-key"]["age"].as_str().unwrap();
    assert!(age.starts_with("age1") && age.len() == 62, "{age}");

    // The same of the card, and of the name before there is a Pi.
    let by_name = home.json(0, &["key", "show", "root@pi-cupboard.local"]);
    let by_card = home.json(0, &["key", "show", &card]);
    assert_eq!((&by_name["public"], &by_name["age"]), (&by_card["public"], &shown["host-key"]["age"]));
    home.exits(27, &["key", "show", "nobody.local"]);
    // What a command behind sudo has noted elsewhere is not used, but told of.
    let usual = home.path(".local/state/cygnet");
    std::fs::create_dir_all(&usual).unwrap();
    std::fs::write(usual.join("known_hosts"), format!("other.local {}\n", by_card["public"].as_str().unwrap()))
        .unwrap();
    let (_, stderr) = home.exits(27, &["key", "show", "other.local"]);
    assert!(stderr.contains("sudo --preserve-env=XDG_STATE_HOME") && stderr.contains(".local/state"), "{stderr}");

    // Written over only if that is wanted; the key is kept if that is wanted.
    let (_, stderr) = home.exits(61, &["card", "configure", &card]);
    assert!(stderr.contains("--force"), "{stderr}");
    let kept = home.json(0, &["card", "configure", &card, "--force", "--keep-host-key", "--hostname", "pi-cupboard"]);
    assert_eq!(kept["settings"]["host-key"]["public"], by_card["public"]);
    let fresh = home.json(0, &["card", "configure", &card, "--force", "--hostname", "pi-cupboard"]);
    assert_ne!(fresh["settings"]["host-key"]["public"], by_card["public"]);
    assert!(!std::fs::read(&card).unwrap().windows(13).any(|window| window == b"correct horse"));
    // A Pi has only one key: the old one is forgotten.
    assert_eq!(home.json(0, &["key", "show", "pi-cupboard"])["public"], fresh["settings"]["host-key"]["public"]);
}

/// A real sshd behind a ProxyCommand: what ssh says of its host key is what a Pi would hear.
#[test]
fn the_first_connection_is_verified_without_a_question() {
    if !Path::new("/usr/sbin/sshd").exists() {
        // `cargo verify` says this, and has installed it.
        assert!(std::env::var_os("CYGNET_TEST_ALL").is_none(), "/usr/sbin/sshd is missing: install openssh-server");
        eprintln!("not run: there is no /usr/sbin/sshd");
        return;
    }
    let home = Home::with_key();
    let card = home.file("card.img", image());
    for name in ["right", "wrong"] {
        let key = home.path(name).display().to_string();
        assert!(
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &key]).status().unwrap().success()
        );
    }
    let right = home.path("right").display().to_string();
    home.exits(0, &["card", "configure", &card, "--hostname", "pi", "--host-key", &right]);
    let config = home.file("sshd_config", "UsePAM no\nStrictModes no\n");
    let status = |key: &str, host: &str, code: i32| {
        std::fs::create_dir_all("/run/sshd").ok();
        let proxy = format!("ProxyCommand=/usr/sbin/sshd -i -f {config} -h {}", home.path(key).display());
        home.exits(code, &["status", host, "-o", &proxy, "-o", "GlobalKnownHostsFile=/dev/null"]).1
    };
    // The key is right: only the login fails, because the key of this home may not log in here.
    let stderr = status("right", "pi.local", 22);
    assert!(stderr.contains("none of our ssh keys"), "{stderr}");
    status("right", "root@pi", 22);
    let stderr = status("wrong", "pi.local", 21);
    assert!(stderr.contains("is not the one that is known") && stderr.contains("state/cygnet/known_hosts"), "{stderr}");
    // Of a Pi that nobody has configured nothing is known.
    let stderr = status("right", "other.local", 21);
    assert!(stderr.contains("could not be verified"), "{stderr}");
}

#[test]
fn bad_settings_never_reach_the_card() {
    let home = Home::with_key();
    let card = home.file("card.img", image());
    let before = std::fs::read(&card).unwrap();
    for (text, says) in [
        ("country = \"DE\"\r\ncontry = \"DE\"\r\n", "line 2: contry: unknown key"),
        (
            "\u{feff}[[network]]\nssid = \"x\"\npassphrase = \"hunter2\"\n",
            "line 1: network 1: the passphrase must have 8 to 63",
        ),
        ("[[network]]\nssid = \"x\"\npassphrase = \"hunter2hunter2", "line 3: it is no TOML"),
        (
            "[[network]]\nssid=\"a\"\nopen=true\npriority=2\n[[network]]\nssid=\"b\"\nopen=true\npriority=2\n",
            "line 8: network 2: priority: another network has the same",
        ),
        ("country = \"deu\"\n", "line 1: country: two letters"),
        ("country = \"uk\"\n", "line 1: country: the United Kingdom is GB"),
        ("authorized-keys = [\"ssh-rsa hunter2\"]\n", "line 1: authorized-keys: it is no public key"),
        ("host-key = \"hunter2\"\n", "line 1: host-key"),
    ] {
        let from = home.file("from.toml", text);
        let (stdout, stderr) = home.exits(61, &["card", "configure", &card, "--from", &from]);
        assert!(stderr.contains(says), "{says}: {stderr}");
        assert!(!format!("{stdout}{stderr}").contains("hunter2"), "{stderr}");
    }
    for (stdin, arguments, says) in [
        ("hunter2\n", &["--network", "x", "--passphrase-file", "-"][..], "8 to 63"),
        ("", &["--network", "x"][..], "no passphrase for “x”"),
        ("0123\n", &["--network", "x", "--pmk", "--passphrase-file", "-"][..], "64 hex digits"),
        ("", &["--country", "Germany"][..], "two letters"),
        ("", &["--country", "UK"][..], "GB"),
        ("", &["--hostname", "My Pi"][..], "hostname: only a to z"),
        ("", &["--authorized-key", "ssh-ed25519 AAAA"][..], "no public key"),
        ("", &["--keep-host-key"][..], "no host key on the card"),
    ] {
        let (stdout, stderr) = home.exits_with(61, stdin, &[&["card", "configure", &card], arguments].concat());
        assert!(stderr.contains(says), "{says}: {stderr}");
        assert!(!format!("{stdout}{stderr}").contains("hunter2"), "{stderr}");
    }
    assert!(std::fs::read(&card).unwrap() == before, "a refusal has changed the card");
    assert!(!home.path("state").exists(), "a refusal has noted a key");

    // 64 hex digits are the key that others make of a passphrase.
    home.exits_with(0, &"ab".repeat(32), &["card", "configure", &card, "--network", "x", "--passphrase-file", "-"]);
    assert_eq!(home.json(0, &["card", "show", &card])["settings"]["networks"][0]["key"], "pmk");

    let nobody = Home::new();
    let (_, stderr) = nobody.exits(61, &["card", "configure", &card, "--force"]);
    assert!(stderr.contains("Nobody could log in"), "{stderr}");
    nobody.exits(0, &["card", "configure", &card, "--force", "--no-authorized-keys"]);
}

#[test]
fn cards_that_can_not_be_used_are_told() {
    let home = Home::with_key();
    let blank = home.file("blank", vec![0; 1 << 20]);
    for command in ["configure", "show"] {
        let (_, stderr) = home.exits(60, &["card", command, &blank]);
        assert!(stderr.contains("no FAT partition"), "{stderr}");
        home.exits(27, &["card", command, "/dev/cygnet-is-not-there"]);
    }
    let protected = home.file("protected.img", image());
    let mut permissions = std::fs::metadata(&protected).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&protected, permissions).unwrap();
    let (_, stderr) = home.exits(17, &["card", "configure", &protected]);
    assert!(stderr.contains("write-protected"), "{stderr}");
    let source = home.file("source.img", image());
    home.exits(17, &["card", "flash", &source, &protected]);
    let small = home.file("small", vec![7; 20 << 20]);
    let (_, stderr) = home.exits(14, &["card", "flash", &source, &small]);
    assert!(stderr.contains("nothing was written") && std::fs::read(&small).unwrap() == vec![7; 20 << 20], "{stderr}");
    let cut = home.file("cut.img", &image()[..20 << 20]);
    let target = home.path("new").display().to_string();
    let (_, stderr) = home.exits(62, &["card", "flash", &cut, &target]);
    assert!(stderr.contains("cut off") && !Path::new(&target).exists(), "{stderr}");
    home.exits(62, &["card", "flash", &blank, &target]);
    let (_, stderr) = home.exits(3, &["card", "flash", &source]);
    assert!(stderr.contains("no card was named"), "{stderr}");
    // Images that are none.
    let (_, stderr) = home.exits(27, &["card", "flash", &home.path("gone.img").display().to_string(), &target]);
    assert!(stderr.contains("There is no image"), "{stderr}");
    let (_, stderr) = home.exits(62, &["card", "flash", &home.path(".ssh").display().to_string(), &target]);
    assert!(stderr.contains("a directory, with 0 images"), "{stderr}");
    home.exits(62, &["card", "flash", "/dev/null", &target]);
    let unreadable = home.file("unreadable.img", image());
    std::fs::set_permissions(&unreadable, std::os::unix::fs::PermissionsExt::from_mode(0o200)).unwrap();
    // Root may read everything.
    if std::fs::File::open(&unreadable).is_err() {
        let (_, stderr) = home.exits(22, &["card", "flash", &unreadable, &target]);
        assert!(stderr.contains("may not be read"), "{stderr}");
    }
    assert!(!Path::new(&target).exists());
    // The disk that this machine runs from is never a card.
    assert!(home.json(0, &["card", "list"])["cards"].is_array());
    if let Ok(output) = Command::new("findmnt").args(["-no", "SOURCE", "/"]).output() {
        let root = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if root.starts_with("/dev/") && !root.contains('[') && Path::new(&root).exists() {
            let (_, stderr) = home.exits(64, &["card", "flash", &source, &root, "--yes", &root, "--unmount"]);
            assert!(stderr.contains("this machine needs it"), "{stderr}");
        }
    }
}

#[test]
fn a_file_that_holds_something_is_not_overwritten_without_a_word() {
    let home = Home::new();
    let source = home.file("source.img", image());
    let mine = home.file("thesis.odt", vec![b'x'; 40 << 20]);
    let (_, stderr) = home.exits(29, &["card", "flash", &source, &mine]);
    assert!(stderr.contains(&format!("--yes {mine}")), "{stderr}");
    home.exits(29, &["card", "flash", &source, &mine, "--yes", &source]);
    assert!(std::fs::read(&mine).unwrap() == vec![b'x'; 40 << 20]);

    // The image itself, by whatever name.
    let (link, hard) = (home.path("link.img").display().to_string(), home.path("hard.img").display().to_string());
    std::os::unix::fs::symlink(&source, &link).unwrap();
    std::fs::hard_link(&source, &hard).unwrap();
    for target in [&source, &link, &hard] {
        let (_, stderr) = home.exits(3, &["card", "flash", &source, target, "--yes", target]);
        assert!(stderr.contains("is the image itself"), "{stderr}");
        home.exits(3, &["card", "flash", target, &source, "--yes", &source]);
    }
    assert!(std::fs::read(&source).unwrap() == image());

    let card = home.file("card", vec![7; 40 << 20]);
    home.exits(0, &["card", "flash", &source, &card, "--yes", &card]);
    assert!(std::fs::read(&card).unwrap()[..39 << 20] == image());
}

/// Text that comes from a card reaches a terminal without what acts on it.
#[test]
fn a_card_does_not_speak_to_the_terminal() {
    let home = Home::with_key();
    let card = home.file("card.img", image());
    // The label is what a FAT holds; the rest is a file that anybody could have put there.
    let (start, hostile) = (8_u64 << 20, "claim = \"x\"\n\u{9b}2Jhostname = 1\u{202e}\n");
    let file = std::fs::File::options().read(true).write(true).open(&card).unwrap();
    let mut bytes = vec![0; 30 << 20];
    file.read_exact_at(&mut bytes, start).unwrap();
    let mut cursor = std::io::Cursor::new(bytes);
    {
        let fat = fatfs::FileSystem::new(&mut cursor, fatfs::FsOptions::new()).unwrap();
        fat.root_dir().create_file("cygnet.toml").unwrap().write_all(hostile.as_bytes()).unwrap();
        fat.root_dir().create_file("cygnet.txt").unwrap().write_all("taken \x1b]0;x\x07\u{202e}\n".as_bytes()).unwrap();
    }
    file.write_all_at(cursor.get_ref(), start).unwrap();
    let hostile = |text: &str| text.chars().any(|c| c != '\n' && cygnet_protocol::text::is_hostile(c));
    let (stdout, stderr) = home.exits(0, &["card", "show", &card]);
    assert!(stdout.contains("taken") && !hostile(&stdout) && !hostile(&stderr), "{stdout:?}{stderr:?}");
    let (stdout, stderr) = home.exits(0, &["card", "show", &card, "--json"]);
    assert!(!hostile(&stdout) && !hostile(&stderr), "{stdout:?}{stderr:?}");
    // Names of files and arguments are words of others, too.
    let (_, stderr) = home.exits(27, &["card", "show", "/no/such\x1b[2J\u{202e}"]);
    assert!(!hostile(&stderr), "{stderr:?}");
}

#[test]
fn networks_travel_from_one_program_to_another() {
    let home = Home::with_key();
    let card = home.file("card.img", image());
    let iwd = home.file("home.psk", "[Security]\nPassphrase=correct horse\n");
    let wpa = home.file(
        "wpa_supplicant.conf",
        "country=GB\r\nnetwork={\r\n\tssid=636166e9\r\n\tpsk=\"battery staple\"\r\n\tpriority=3\r\n}\r\n",
    );
    let nm = home.file("shed.nmconnection", "[connection]\ntype=wifi\nautoconnect-priority=3\n[wifi]\nssid=115;104;101;100;\n[wifi-security]\nkey-mgmt=wpa-psk\npsk=staple battery\n");
    let (toml, stderr) = home.exits(0, &["wifi", "import", "--file", &iwd, "--file", &wpa, "--file", &nm]);
    assert!(!stderr.contains("horse") && !stderr.contains("staple"), "{stderr}");
    let from = home.file("networks.toml", toml);
    let configured = home.json(0, &["card", "configure", &card, "--from", &from]);
    let names: Vec<&str> =
        configured["settings"]["networks"].as_array().unwrap().iter().filter_map(|n| n["ssid"].as_str()).collect();
    assert_eq!(names, ["caf\\xe9", "shed", "home"]);
    assert_eq!(configured["settings"]["country"], "GB");
    home.exits(27, &["wifi", "import", "--file", &iwd, "garden"]);
}

#[test]
fn a_manifest_for_imager() {
    let home = Home::new();
    let packed = structured_zstd::encoding::compress_to_vec(
        image().as_slice(),
        structured_zstd::encoding::CompressionLevel::Fastest,
    );
    let file = home.file("bootstrap.img.zst", &packed);
    let list = home.json(0, &["image", "manifest", &file, "--url", "https://example.org/b.img.zst"]);
    let entry = &list["os_list"][0];
    assert_eq!((entry["init_format"].as_str(), entry["extract_size"].as_u64()), (Some("rpi-preseed"), Some(39 << 20)));
    assert_eq!(entry["image_download_size"].as_u64(), Some(packed.len() as u64));
}

#[test]
fn a_card_that_was_interrupted_looks_blank() {
    let home = Home::new();
    // A hole costs nothing to read, but is written.
    let source = home.file("source.img", image());
    std::fs::File::options().write(true).open(&source).unwrap().set_len(2 << 30).unwrap();
    let target = home.file("card", image());
    std::fs::File::options().write(true).open(&target).unwrap().set_len(2 << 30).unwrap();
    let mut command = home.command(&["card", "flash", &source, &target, "--yes", &target]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let table = || {
        let mut sector = [0; 512];
        std::fs::File::open(&target).unwrap().read_exact_at(&mut sector, 0).unwrap();
        sector[510..] == [0x55, 0xaa]
    };
    while table() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let (_, stderr) = check(130, &["card", "flash"], child.wait_with_output().unwrap());
    assert!(stderr.contains("is not finished: it has no partition table"), "{stderr}");
    assert!(!table());
}

/// Needs root: what it does in somebody else's directory, it does with that person's rights.
#[test]
fn root_follows_nobodys_links() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    let id = Command::new("id").arg("-u").output().unwrap();
    if String::from_utf8_lossy(&id.stdout).trim() != "0" {
        assert!(std::env::var_os("CYGNET_TEST_ALL").is_none(), "this test needs root");
        eprintln!("not run: it needs root");
        return;
    }
    const PERSON: u32 = 65_534;
    let home = Home::with_key();
    let card = home.file("card.img", image());
    let before = std::fs::read(&card).unwrap();
    let behind_sudo = |code: i32| {
        let mut command = home.command(&["card", "configure", &card, "--hostname", "pi", "--force"]);
        command.env("SUDO_USER", "nobody").env("SUDO_UID", PERSON.to_string()).env("SUDO_GID", PERSON.to_string());
        check(code, &["card", "configure"], command.output().unwrap())
    };
    std::fs::set_permissions(home.0.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let (state, roots) = (home.path("state"), home.path("roots"));
    std::fs::create_dir(&state).unwrap();
    chown(&state, Some(PERSON), Some(PERSON)).unwrap();
    // Where only root may write.
    std::fs::create_dir(&roots).unwrap();
    std::fs::set_permissions(&roots, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(roots.join("known_hosts"), "root's\n").unwrap();

    symlink(&roots, state.join("cygnet")).unwrap();
    let (_, stderr) = behind_sudo(22);
    assert!(stderr.contains("known_hosts") && stderr.contains("ermission denied"), "{stderr}");
    assert_eq!(std::fs::read_dir(&roots).unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(roots.join("known_hosts")).unwrap(), "root's\n");
    assert_eq!(std::fs::metadata(roots.join("known_hosts")).unwrap().uid(), 0);
    assert!(std::fs::read(&card).unwrap() == before, "a card whose key could not be noted was written");

    std::fs::remove_file(state.join("cygnet")).unwrap();
    behind_sudo(0);
    for path in [state.join("cygnet"), state.join("cygnet/known_hosts")] {
        assert_eq!(std::fs::metadata(&path).unwrap().uid(), PERSON, "{}", path.display());
    }
    assert!(std::fs::read_to_string(state.join("cygnet/known_hosts")).unwrap().starts_with("pi,pi.local ssh-ed25519 "));
}

/// Needs root and loop devices: a real block device, mounted and not.
#[test]
fn a_block_device_is_flashed_and_configured() {
    let home = Home::with_key();
    let file = std::fs::File::create(home.path("backing")).unwrap();
    file.set_len(64 << 20).unwrap();
    // What was there before had a copy of its table at the end.
    file.write_all_at(b"EFI PART", (64 << 20) - 512).unwrap();
    let backing = home.path("backing").display().to_string();
    let output = Command::new("losetup").args(["--find", "--show", "--partscan", &backing]).output();
    let device = output.ok().filter(|output| output.status.success());
    let Some(device) = device.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()) else {
        eprintln!("not run: loop devices need root");
        return;
    };
    /// Ours, and gone when the test ends, however it ends.
    struct Loop(String, PathBuf);
    impl Drop for Loop {
        fn drop(&mut self) {
            Command::new("umount").arg("-q").arg(&self.1).stderr(Stdio::null()).status().ok();
            Command::new("losetup").args(["--detach", &self.0]).status().ok();
        }
    }
    let at = home.path("mnt");
    std::fs::create_dir(&at).unwrap();
    let guard = Loop(device.clone(), at.clone());
    let source = home.file("source.img", image());
    let (_, stderr) = home.exits(29, &["card", "flash", &source, &device]);
    assert!(stderr.contains(&format!("--yes {device}")), "{stderr}");
    home.exits(29, &["card", "flash", &source, &device, "--yes", "/dev/sdz"]);
    // The file behind a loop device is in use, and the device made of the image is the image.
    let (_, stderr) = home.exits(17, &["card", "flash", &source, &backing, "--yes", &backing]);
    assert!(stderr.contains(&device), "{stderr}");
    let (_, stderr) = home.exits(3, &["card", "flash", &backing, &device, "--yes", &device]);
    assert!(stderr.contains("is the image itself"), "{stderr}");
    home.exits(0, &["card", "flash", &source, &device, "--yes", &device, "--no-eject"]);
    let now = std::fs::read(&backing).unwrap();
    assert!(now[..39 << 20] == image() && now[63 << 20..].iter().all(|byte| *byte == 0) && now.len() == 64 << 20);
    home.exits(0, &["card", "configure", &device, "--hostname", "pi"]);
    assert_eq!(home.json(0, &["card", "show", &device])["settings"]["hostname"], "pi");

    // Another file system of the card: the kernel of a test machine may know no FAT.
    let part = format!("{device}p2");
    let succeeds = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if !Path::new(&part).exists() {
        succeeds("partx", &["--add", &device]);
    }
    let at_text = at.display().to_string();
    if succeeds("mkfs.ext2", &["-q", &part]) && succeeds("mount", &[&part, &at_text]) {
        let (_, stderr) = home.exits(17, &["card", "configure", &device, "--force"]);
        assert!(stderr.contains("mounted"), "{stderr}");
        home.exits(17, &["card", "flash", &source, &device, "--yes", &device]);
        home.exits(0, &["card", "configure", &device, "--force", "--unmount"]);
        assert!(!Command::new("mountpoint").arg("-q").arg(&at).status().unwrap().success());
    } else {
        eprintln!("not run: mounting {part}");
    }
    // A card that is locked.
    drop(guard);
    let output = Command::new("losetup").args(["--find", "--show", "--read-only", &backing]).output().unwrap();
    let locked = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let _guard = Loop(locked.clone(), at);
    let (_, stderr) = home.exits(17, &["card", "configure", &locked, "--force"]);
    assert!(stderr.contains("write-protected"), "{stderr}");
    home.exits(0, &["card", "show", &locked]);
}
