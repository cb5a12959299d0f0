//! The whole of it in directories, with every step failing in turn.

use super::told::Line;
use super::{Places, host_name, settle};
use crate::online::settings;
use cygnet_protocol::online::settings::Key;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const KEY: &str = include_str!("../../../protocol/src/card/test-host-key");
const PUBLIC: &str = include_str!("../../../protocol/src/card/test-host-key.pub");

fn file() -> String {
    format!(
        "# mine\r\nhostname = \"cupboard\"\r\ncountry = \"DE\"\r\ncontry = \"DE\"\r\nclaim = \"me\"\r\ntarget = \"pi\"\r\n\
         authorized-keys = [\"{} me@laptop\"]\r\nhost-key = '''\r\n{}'''\r\n[[network]]\r\nssid = \"home\"\r\npassphrase = \"hunter2hunter2\"\r\n\
         [[network]]\r\nssid = \"short\"\r\npassphrase = \"hunter3\"\r\n",
        PUBLIC.trim_end(),
        KEY.replace('\n', "\r\n")
    )
}

struct Card {
    room: tempfile::TempDir,
}

impl Card {
    fn new(files: &[(&str, &str)]) -> Self {
        let card = Self { room: tempfile::tempdir().unwrap() };
        for directory in ["fat", "root/etc/ssh"] {
            fs::create_dir_all(card.room.path().join(directory)).unwrap();
        }
        fs::write(card.path("root/etc/hostname"), "nixos\n").unwrap();
        files.iter().for_each(|(name, text)| card.put(name, text));
        card
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.room.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path("fat").join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn places(&self) -> Places {
        Places { state: self.path("state"), root: self.path("root"), firmware: Some(self.path("fat")) }
    }

    fn boot(&self) -> Vec<Line> {
        self.boot_until(usize::MAX).0
    }

    /// With the power cut before the step of that number; also says how many steps there were.
    fn boot_until(&self, cut: usize) -> (Vec<Line>, usize) {
        let mut steps = 0;
        let mut gate = |_: &'static str| {
            steps += 1;
            // Nothing is done any more after the first that fails.
            if steps > cut { Err(io::Error::other("the power is gone")) } else { Ok(()) }
        };
        let lines = settle(&self.places(), &mut gate);
        (lines, steps)
    }

    fn networks(&self) -> Vec<(String, Key)> {
        let given = settings::read(Path::new("/nonexistent"), &self.path("state"));
        assert_eq!(given.problems, []);
        given.settings.networks.into_iter().map(|network| (network.ssid.to_string(), network.key)).collect()
    }

    fn fat(&self) -> String {
        let all = fs::read_dir(self.path("fat")).unwrap();
        all.map(|entry| String::from_utf8_lossy(&fs::read(entry.unwrap().path()).unwrap()).into_owned()).collect()
    }

    /// All that the file says is in place, and its secrets are not on the FAT partition.
    fn is_applied(&self) {
        assert_eq!(self.networks(), [("home".to_owned(), Key::Passphrase("hunter2hunter2".into()))]);
        assert_eq!(self.read("root/etc/ssh/ssh_host_ed25519_key"), KEY);
        assert_eq!(self.read("root/etc/ssh/ssh_host_ed25519_key.pub").trim(), PUBLIC.trim());
        assert!(self.read("state/ssh/authorized_keys").contains(" me@laptop\n"));
        for (name, mode) in [
            ("state/card.json", 0o600),
            ("state/card-state.json", 0o600),
            ("state/ssh/authorized_keys", 0o600),
            ("state/ssh", 0o700),
            ("root/etc/ssh/ssh_host_ed25519_key", 0o600),
            ("root/etc/ssh/ssh_host_ed25519_key.pub", 0o644),
        ] {
            assert_eq!(fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777, mode, "{name}");
        }
        let fat = self.fat();
        assert!(!fat.contains("hunter2") && !fat.contains("OPENSSH") && fat.contains("hunter3"), "{fat}");
        assert!(!self.path("fat/CYGNET.NEW").exists() && !self.path("fat/CYGNET.TMP").exists());
    }
}

fn said(lines: &[Line]) -> String {
    lines.iter().map(|line| format!("{}{}\n", if line.warning { "! " } else { "" }, line.text)).collect()
}

#[test]
fn a_card_is_taken_once_and_told_of() {
    let card = Card::new(&[("cygnet.toml", &file())]);
    let told = said(&card.boot());
    for says in [
        "cygnet.toml: taken: hostname cupboard\n",
        "cygnet.toml: taken: 1 network(s) “home”\n",
        "1 key(s) that may log in as root: me@laptop\n",
        "! cygnet.toml: ignored: line 4: contry: unknown key",
        "network 2: the passphrase must have 8 to 63",
        "no longer on the FAT partition",
    ] {
        assert!(told.contains(says), "{says}: {told}");
    }
    assert!(!told.contains("hunter"));
    card.is_applied();
    let stamp = card.read("fat/cygnet.txt");
    assert!(
        stamp.contains("\r\n  ignored: line 4: contry: unknown key") && !stamp.replace("\r\n", "").contains('\n'),
        "{stamp}"
    );
    host_name(&card.places()).unwrap();
    assert_eq!(card.read("root/etc/hostname"), "cupboard\n");

    let before = (card.fat(), card.read("state/card-state.json"));
    let told = said(&card.boot());
    assert_eq!(told, "The settings on the card were taken before: cygnet.toml\n");
    assert_eq!((card.fat(), card.read("state/card-state.json")), before);
    assert!(Card::new(&[]).boot().is_empty());
}

#[test]
fn a_power_cut_leaves_old_or_new() {
    let (_, steps) = Card::new(&[("cygnet.toml", &file())]).boot_until(usize::MAX);
    assert!(steps >= 9, "{steps}");
    for cut in 0..steps {
        let card = Card::new(&[("cygnet.toml", &file())]);
        let (lines, _) = card.boot_until(cut);
        assert!(!said(&lines).contains("hunter"));
        // Whatever is there can be read.
        card.networks();
        card.boot();
        card.is_applied();
        // A second file, when all of the first is there.
        card.put("cygnet.toml", "country = \"AT\"\nhostname = \"attic\"\n");
        card.boot_until(cut);
        card.boot();
        card.is_applied_with("AT", "attic");
    }
}

impl Card {
    fn is_applied_with(&self, country: &str, hostname: &str) {
        let given = settings::read(Path::new("/nonexistent"), &self.path("state")).settings;
        assert_eq!((given.country.as_deref(), given.networks.len()), (Some(country), 1));
        assert!(
            self.read("state/card-state.json").contains(hostname)
                && self.read("state/card-state.json").contains("\"me\"")
        );
        assert!(self.read("state/ssh/authorized_keys").contains("me@laptop"));
    }
}

#[test]
fn what_is_edited_is_taken_and_what_is_missing_stays() {
    let card = Card::new(&[("cygnet.toml", &file())]);
    card.boot();
    let edited =
        card.read("fat/cygnet.toml").replace("contry = \"DE\"", "").replace("ssid = \"short\"", "ssid = \"second\"");
    card.put("cygnet.toml", &edited.replace("hunter3", "hunter3hunter3"));
    let told = said(&card.boot());
    assert!(told.contains("the passphrase that was taken before stays: “home”") && !told.contains('!'), "{told}");
    let names: Vec<String> = card.networks().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["second", "home"]);
    assert!(!card.fat().contains("hunter3"));
    card.put("cygnet.toml", "[[network]]\nssid = \"third\"\nopen = true\n");
    assert!(said(&card.boot()).contains("forgotten, because it is not there any more: “second”, “home”"));
    assert_eq!(card.networks().len(), 1);
    // Nothing is taken of one that is cut off, and nothing of it is lost.
    card.put("cygnet.toml", "[[network]]\nssid = \"x\"\npassphrase = \"hunter4hun");
    assert!(said(&card.boot()).contains("! cygnet.toml: ignored: line 3: it is no TOML"));
    assert!(card.networks().len() == 1 && card.fat().contains("hunter4hun"));
}

#[test]
fn other_installers_files_fill_the_gaps() {
    let wifi = "aWIFI_SSID[0]='attic'\r\naWIFI_KEY[0]='hunter5hunter5'\r\naWIFI_KEYMGR[0]='WPA-PSK'\r\n";
    let preseed = "[system]\nhostname = \"other\"\n[wlan]\nssid = \"home\"\npassword = \"hunter2hunter2\"\ncountry = \"GB\"\n[user]\nname = \"pi\"\n";
    let card = Card::new(&[
        ("cygnet.toml", "hostname = \"cupboard\"\n"),
        ("RPI-PRES.TXT", ""),
        ("rpi-preseed.toml", preseed),
        ("dietpi-wifi.txt", wifi),
    ]);
    let told = said(&card.boot());
    for says in [
        "rpi-preseed.toml: not used: hostname",
        "rpi-preseed.toml: taken: country GB",
        "! rpi-preseed.toml: ignored: line 7: user: not used by cygnet",
        "dietpi-wifi.txt: taken: 1 network(s) “attic”",
    ] {
        assert!(told.contains(says), "{says}: {told}");
    }
    assert_eq!(card.networks().len(), 2);
    let fat = card.fat();
    assert!(!fat.contains("hunter") && fat.contains("aWIFI_KEYMGR[0]") && fat.contains("name = \"pi\""), "{fat}");
    assert_eq!(card.boot().len(), 1);
}

#[test]
fn what_is_not_used_is_no_secret_on_the_card_either() {
    let ours = "[[network]]\nssid = \"home\"\npassphrase = \"hunter2hunter2\"\n";
    let netplan = |name: &str| {
        format!(
            "wifis:\n  wlan0:\n    access-points:\n      {name}:\n        password: hunter5hunter5\n      guests: {{}}\n"
        )
    };
    let card = Card::new(&[("cygnet.toml", ours), ("network-config", &netplan("attic"))]);
    let told = said(&card.boot());
    for says in [
        "network-config: not used: network, because cygnet.toml or a file before this one gives it\n",
        "The secrets in cygnet.toml, network-config are no longer on the FAT partition; those that are used are",
    ] {
        assert!(told.contains(says), "{says}: {told}");
    }
    assert!(!card.fat().contains("hunter") && !card.read("state/card.json").contains("hunter5"), "{}", card.fat());
    assert_eq!(card.boot().len(), 1);

    // Without its passphrase a network is not open: nobody may lead the Pi into one of this name.
    fs::remove_file(card.path("fat/cygnet.toml")).unwrap();
    card.put("network-config", &format!("{}# mine\n", card.read("fat/network-config")));
    let told = said(&card.boot());
    assert!(told.contains("! network-config: ignored: “attic” has no passphrase any more"), "{told}");
    assert_eq!(card.networks(), [("home".to_owned(), Key::Passphrase("hunter2hunter2".into()))]);

    // One that was used keeps it.
    card.put("network-config", &netplan("shed"));
    card.boot();
    card.put("network-config", &format!("{}# mine\n", card.read("fat/network-config")));
    let told = said(&card.boot());
    assert!(told.contains("the passphrase that was taken before stays: “shed”") && !told.contains('!'), "{told}");
    let shed = ("shed".to_owned(), Key::Passphrase("hunter5hunter5".into()));
    assert!(card.networks().contains(&shed) && card.networks().contains(&("guests".to_owned(), Key::Open)));
    assert!(!card.fat().contains("hunter"));
}

#[test]
fn what_can_not_be_written_is_told() {
    // The card's own storage: nothing is taken off the FAT partition then.
    let card = Card::new(&[("cygnet.toml", &file())]);
    fs::write(card.path("state"), "in the way").unwrap();
    let told = said(&card.boot());
    assert!(
        told.contains("could not be saved, so they stay on the FAT partition") && card.fat().contains("hunter2hunter2"),
        "{told}"
    );
    // The FAT partition.
    let card = Card::new(&[("cygnet.toml", &file())]);
    fs::set_permissions(card.path("fat"), fs::Permissions::from_mode(0o555)).unwrap();
    for _ in 0..2 {
        let told = said(&card.boot());
        assert!(told.contains("stay on the FAT partition, where whoever has the card can read them"), "{told}");
        assert_eq!(card.networks().len(), 1);
    }
    assert!(card.fat().contains("hunter2hunter2") && !card.path("fat/cygnet.txt").exists());
    fs::set_permissions(card.path("fat"), fs::Permissions::from_mode(0o755)).unwrap();
    card.boot();
    card.is_applied();
}

#[test]
fn a_state_that_is_damaged_is_made_anew() {
    let card = Card::new(&[("cygnet.toml", &file())]);
    fs::create_dir(card.path("state")).unwrap();
    for name in ["state/card.json", "state/card-state.json"] {
        fs::write(card.path(name), "{\"hunter2").unwrap();
    }
    assert_eq!(said(&card.boot()).matches("can't be read and is made anew").count(), 2);
    card.is_applied();
}
