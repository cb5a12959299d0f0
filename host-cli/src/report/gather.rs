//! What goes into a report, from a Pi, a card or a layout.

use super::Report;
use crate::card::configure::{self, Found};
use crate::card::fat::Firmware;
use crate::card::medium::{Medium, Purpose};
use crate::card::partitions::{self, Table};
use crate::control::{self, Control, unexpected};
use crate::install;
use crate::nix;
use crate::ssh::Target;
use crate::ui::timeline::line;
use anyhow::{Context, Result};
use cygnet_protocol::card::{CardConfig, HostKey};
use cygnet_protocol::disko;
use cygnet_protocol::fault::Fault;
use cygnet_protocol::message::{Reply, Request, Status};
use cygnet_protocol::online::settings::Key;
use cygnet_protocol::plan::{self, DiskFacts, Mode, Options, Refusal};
use cygnet_protocol::text;
use serde_json::{Value, json};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the agent writes beside the settings.
const AGENTS_REPORT: &str = "REPORT.TXT";
/// The most bytes of a file that is no JSON, and yet was given as a layout.
const MOST_TEXT: usize = 64 * 1024;

impl Report {
    /// What runs here.
    pub fn versions(&mut self) {
        let mut out = format!(
            "cygnet {}\nmachine {} {}\n",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH
        );
        for arguments in [["uname", "-sr"], ["ssh", "-V"], ["nix", "--version"]] {
            out.push_str(&format!("{}\n", said(&arguments)));
        }
        self.add("versions", Ok(out));
    }

    /// The layout, and what would be made of it on blank disks of this size.
    pub fn layout(&mut self, layout: Result<Value>, bytes: u64, board: Option<&str>) {
        match layout {
            Err(error) => self.add("layout", Err(error)),
            Ok(layout) => {
                self.add("layout", serde_json::to_string_pretty(&layout).context("writing the layout"));
                self.add(
                    &format!("plan on blank disks of {}", plan::human_bytes(bytes)),
                    planned(&layout, bytes, board),
                );
            }
        }
    }

    /// A file that was given as a layout, as it is: what can't be read is what the report is about.
    pub fn file(&mut self, path: &Path) {
        let bytes = std::fs::File::open(path)
            .and_then(|file| {
                let mut bytes = vec![0; MOST_TEXT];
                let length = file.read_at(&mut bytes, 0)?;
                bytes.truncate(length);
                Ok(bytes)
            })
            .with_context(|| format!("reading {}", path.display()));
        self.add("the file as it is", bytes.map(|bytes| text::lines(&String::from_utf8_lossy(&bytes))));
    }

    /// A card, or an image of one.
    pub fn card(&mut self, path: &Path) {
        let found = self.open_card(path);
        self.add("card", found);
    }

    fn open_card(&mut self, path: &Path) -> Result<String> {
        let medium = Medium::open(path, Purpose::Read, false)?;
        let length = usize::try_from(medium.size).unwrap_or(usize::MAX).min(partitions::HEAD);
        let mut head = vec![0; length];
        medium.file.read_exact_at(&mut head, 0).with_context(|| format!("reading {}", path.display()))?;
        let mut out = format!("size {}\n", medium.size);
        match partitions::find(&head) {
            Table::None => out.push_str("no partition table\n"),
            Table::Fat => out.push_str("a FAT without a partition table\n"),
            Table::Partitions(places) => {
                for place in places {
                    out.push_str(&format!("partition at {}, {} bytes\n", place.start, place.length));
                }
            }
        }
        // What was found so far is worth something without the rest.
        self.add("card: partitions", Ok(out));
        let firmware = Firmware::open(&medium)?;
        let found = Found::read(&firmware)?;
        let readings = found.settings.iter().chain(found.others.iter().map(|(_, reading)| reading));
        readings.for_each(|reading| self.settings(&reading.config));
        let mut out = format!("FAT “{}”\n", found.label);
        firmware.names().iter().for_each(|name| out.push_str(&format!("  {name}\n")));
        found.told().iter().for_each(|told| out.push_str(&format!("{told}\n")));
        if let Some(reading) = &found.settings {
            self.add("cygnet.toml", pretty(&configure::masked(&reading.config)));
        }
        for (name, reading) in &found.others {
            self.add(name, pretty(&configure::masked(&reading.config)));
        }
        self.add("what the Pi says of its settings", Ok(found.stamp.unwrap_or_default()));
        let report = firmware.read_up_to(AGENTS_REPORT, MOST_TEXT);
        let lossy = |bytes: Vec<u8>| text::lines(&String::from_utf8_lossy(&bytes));
        self.add(AGENTS_REPORT, report.map(|bytes| bytes.map(lossy).unwrap_or_default()));
        Ok(out)
    }

    /// Notes what of settings must not be in the report.
    fn settings(&mut self, config: &CardConfig) {
        for network in &config.networks {
            self.known.network(&network.ssid.to_string());
            match &network.key {
                Key::Passphrase(text) => self.known.secret(text),
                Key::Pmk(octets) => {
                    self.known.secret(&octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>());
                }
                Key::Open => {}
            }
        }
        let lines = config.host_key.iter().flat_map(|key: &HostKey| key.private().lines());
        lines.filter(|line| !line.starts_with('-')).for_each(|line| self.known.secret(line));
    }

    /// A Pi with its agent; `layout` is planned for it, if there is one.
    pub fn pi(&mut self, target: &Target, layout: Option<&Value>) {
        let (_session, mut control) = match control::connect(target) {
            Ok(connected) => connected,
            Err(error) => return self.add("connection", Err(error)),
        };
        self.add("agent", Ok(format!("{}, protocol {}", control.program(), control.protocol)));
        let status = control.status();
        if let Ok(status) = &status {
            self.networks_of(status);
        }
        self.add("status", status.and_then(|status| pretty(&json!(status))));
        self.add("disks", disks(&mut control));
        let log =
            control.follow(0).map(|(events, _)| events.iter().map(|event| line(event) + "\n").collect::<String>());
        self.add("log", log);
        if let Some(layout) = layout {
            let planned = install::plan(&mut control, layout.clone(), None, (Mode::default(), None));
            self.add("plan", planned.map(|planned| planned.plan.render_with(&planned.secrets, None)));
        }
    }

    fn networks_of(&mut self, status: &Status) {
        // `wlan0 (“home”)`
        let via = status.network.iter().filter_map(|network| network.via.as_deref());
        let names: Vec<&str> = via.filter_map(|via| Some(via.split_once('“')?.1.rsplit_once('”')?.0)).collect();
        names.into_iter().for_each(|name| self.known.network(name));
    }
}

fn disks(control: &mut Control) -> Result<String> {
    match control.request(&Request::Disks)? {
        Reply::Disks(list) => pretty(&json!(list)),
        other => Err(unexpected("disks", &other)),
    }
}

fn pretty(value: &Value) -> Result<String> {
    serde_json::to_string_pretty(value).context("writing JSON")
}

fn planned(layout: &Value, bytes: u64, board: Option<&str>) -> Result<String> {
    let refused = |refusal: Refusal| anyhow::Error::from(Fault::from(&refusal));
    let devices = disko::parse(layout.to_string()).map_err(|error| refused(error.into()))?;
    let disks: Vec<DiskFacts> = devices.disks.values().map(|disk| DiskFacts::blank(&disk.device, bytes)).collect();
    let options =
        Options { passphrases: true, board: board.map(str::to_owned), require_root: false, ..Options::default() };
    Ok(plan::compile(&devices, &disks, &options).map_err(refused)?.render())
}

/// The first line that a program says of itself.
fn said(arguments: &[&str; 2]) -> String {
    let output = Command::new(arguments[0]).arg(arguments[1]).stdin(Stdio::null()).output();
    let first = output.ok().and_then(|output| {
        let all = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&all).lines().next().map(text::line)
    });
    first.unwrap_or_else(|| format!("{}: there is none", arguments[0]))
}

/// What a word names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// `FLAKE#HOST`
    Flake(String),
    /// A file with a layout.
    Layout,
    /// A card, or an image of one.
    Card,
    /// A Pi.
    Host,
}

/// Goes by what is there, and then by how it is written.
pub fn subject(given: &str) -> Subject {
    let path = Path::new(given);
    let mut head = [0; 512];
    let read = std::fs::File::open(path).and_then(|file| file.read_at(&mut head, 0));
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() && !given.contains('#') => Subject::Host,
        Ok(_) => {
            let ends = [".json", ".nix"].iter().any(|end| given.to_ascii_lowercase().ends_with(end));
            let begins = head.iter().take(read.unwrap_or(0)).find(|byte| !byte.is_ascii_whitespace());
            if ends || begins.is_some_and(|byte| matches!(byte, b'{' | b'[')) { Subject::Layout } else { Subject::Card }
        }
        Err(_) if given.contains('#') => Subject::Flake(given.to_owned()),
        Err(_) if given.starts_with(['/', '.']) => Subject::Card,
        Err(_) => Subject::Host,
    }
}

/// The layout of a file or flake, as it is: what is wrong with it is for the plan to say.
pub fn layout_of(ui: &crate::ui::Ui, subject: &Subject, given: &str) -> Result<Value> {
    match subject {
        Subject::Flake(flake) => nix::flake::FlakeHost::parse(flake)?.layout(ui),
        Subject::Layout | Subject::Card | Subject::Host => nix::layout::read(Path::new(given)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_known_by_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        assert_eq!(subject(&file("devices", "\n {}")), Subject::Layout);
        assert_eq!(subject(&file("disko.nix", "x")), Subject::Layout);
        assert_eq!(subject(&file("card.img", "\u{eb}")), Subject::Card);
        assert_eq!(subject(".#pi"), Subject::Flake(".#pi".into()));
        assert_eq!(subject("/nowhere/card.img"), Subject::Card);
        assert_eq!(subject("root@pi.local"), Subject::Host);
    }

    #[test]
    fn a_layout_comes_with_its_plan_or_with_what_is_wrong_with_it() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/fixtures/field/disko-1.12-json.json");
        let layout: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut report = Report::default();
        report.versions();
        report.layout(Ok(layout.clone()), 64 << 30, None);
        let text = report.text();
        for part in [
            "=== versions ===\ncygnet ",
            "\"zpool\": {",
            "=== plan on blank disks of 64 GiB ===\nDisk “m”",
            "\nDigest ",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let mut bad = layout;
        bad["disk"]["m"]["content"]["type"] = "nonsense".into();
        let mut report = Report::default();
        report.layout(Ok(bad), 64 << 30, None);
        assert!(report.text().contains("error: disk.m.content"), "{}", report.text());
    }

    #[test]
    fn a_card_is_told_without_its_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("card.img");
        let small = crate::card::wide::tests::small_fat32(20_000, b"FIRMWARE   ");
        std::fs::write(&path, small).unwrap();
        let medium = Medium::open(&path, Purpose::Change, false).unwrap();
        let firmware = Firmware::open(&medium).unwrap();
        firmware
            .write("cygnet.toml", b"contry = 1\n[[network]]\nssid = \"my net\"\npassphrase = \"correct horse\"\n")
            .unwrap();
        firmware.write(AGENTS_REPORT, b"joined \xe2\x80\x9cmy net\xe2\x80\x9d with correct horse\n").unwrap();
        drop(firmware.finish(&medium).unwrap());
        let mut report = Report::default();
        report.card(&path);
        let text = report.text();
        for part in [
            "a FAT without a partition table",
            "cygnet.toml: line 1: contry: unknown key",
            "joined “network 1” with (struck out)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("my net") && !text.contains("horse"), "{text}");
        std::fs::write(&path, [0; 1024]).unwrap();
        let mut report = Report::default();
        report.card(&path);
        assert!(report.text().contains("error: There is no FAT partition"), "{}", report.text());
    }
}
