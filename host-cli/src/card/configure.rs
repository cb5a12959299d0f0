//! Settings onto the FAT partition, and from there.

use super::STAMP;
use super::fat::Firmware;
use super::host_key::PublicKey;
use super::medium::Medium;
use super::settings;
use crate::error::fault;
use anyhow::{Context, Result};
use cygnet_protocol::card::{self, CardConfig, Reading};
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::online::settings::{Key, Network};
use cygnet_protocol::text;
use serde_json::{Value, json};

/// What is on the card now.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The FAT partition's label.
    pub label: String,
    /// `cygnet.toml`, if it is there.
    pub settings: Option<Reading>,
    /// What the agent has left.
    pub stamp: Option<String>,
    /// Other programs' files that the Pi reads too, by name, in the order in which they count.
    pub others: Vec<(String, Reading)>,
}

impl Found {
    /// Looks.
    pub fn read(firmware: &Firmware) -> Result<Self> {
        let settings = firmware.read(card::FILE, card::LIMIT)?.map(|bytes| without_taken(&bytes));
        let stamp = firmware.read(STAMP, card::LIMIT)?;
        let stamp = stamp.map(|bytes| text::lines(&String::from_utf8_lossy(&bytes)));
        Ok(Self { label: firmware.label.clone(), settings, stamp, others: others(firmware)? })
    }

    /// What is not as it should be, or not used, each with its file's name; the Pi says it once more.
    pub fn told(&self) -> Vec<String> {
        let ours = self.settings.iter().map(|reading| (card::FILE, reading));
        let others = self.others.iter().map(|(name, reading)| (name.as_str(), reading));
        let told = |(name, reading): (&str, &Reading)| {
            let remarks = reading.config.networks.iter().filter_map(remark).map(|text| format!("{name}: {text}"));
            reading.faults.iter().map(|fault| format!("{name}: {fault}")).chain(remarks).collect::<Vec<_>>()
        };
        ours.chain(others).flat_map(told).collect()
    }

    /// The host key on it.
    pub fn host_key(&self) -> Option<PublicKey> {
        let settings = self.settings.as_ref()?;
        settings.config.host_key.as_ref().map(PublicKey::of)
    }
}

/// What is to be said of a network, with its name.
pub fn remark(network: &Network) -> Option<String> {
    network.remark().map(|text| format!("“{}”: {text}", network.ssid))
}

/// The most files of other programs that are read.
const MOST_OTHERS: usize = 32;

fn others(firmware: &Firmware) -> Result<Vec<(String, Reading)>> {
    let mut names: Vec<(usize, String, card::foreign::Reader)> = Vec::new();
    for name in firmware.names() {
        if let Some((rank, reader)) = card::foreign::reader_of(&name)
            && !name.eq_ignore_ascii_case(card::FILE)
        {
            names.push((rank, name, reader));
        }
    }
    names.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    names.truncate(MOST_OTHERS);
    let mut found = Vec::new();
    for (_, name, reader) in names {
        // One that is longer is told to be so.
        let bytes = firmware.read_up_to(&name, card::LIMIT + 1)?.unwrap_or_default();
        found.push((name, reader(&bytes)));
    }
    Ok(found)
}

/// What a Pi has taken the secrets from lacks them, and that is as it should be.
fn without_taken(bytes: &[u8]) -> Reading {
    let mut reading = card::read(bytes);
    if String::from_utf8_lossy(bytes).contains(card::redact::TAKEN) {
        reading.faults.retain(|fault| !fault.why.starts_with("it needs a passphrase"));
    }
    reading
}

/// Writes the settings, and compares what is on the card then.
pub fn put(medium: &Medium, firmware: Firmware, config: &CardConfig) -> Result<()> {
    let text = settings::compose(config)?;
    firmware.write(card::FILE, text.as_bytes())?;
    // It tells of settings that are there no more.
    firmware.remove(STAMP)?;
    let firmware = firmware.finish(medium)?;
    let there = firmware.read(card::FILE, card::LIMIT)?.context("reading the settings back from the card")?;
    if there == text.as_bytes() {
        return Ok(());
    }
    Err(fault(
        FaultCode::NotWritten,
        format!("The settings that were read back from {} are not what was written.", medium.path.display()),
        "The card or its reader is broken, or the card is write-protected and does not say so.",
        "Look at the slider on the card; take another card or another reader.",
    ))
}

/// A network as it may be shown.
pub fn network(network: &Network) -> Value {
    json!({
        "ssid": network.ssid,
        "key": key_name(&network.key),
        "hidden": network.hidden,
        "priority": network.priority,
    })
}

/// What kind of key it is.
pub fn key_name(key: &Key) -> &'static str {
    match key {
        Key::Open => "open",
        Key::Passphrase(_) => "passphrase",
        Key::Pmk(_) => "pmk",
    }
}

/// Settings as they may be shown.
pub fn masked(config: &CardConfig) -> Value {
    json!({
        "hostname": config.hostname,
        "country": config.country,
        "claim": config.claim,
        "target": config.target,
        "authorized-keys": config.authorized_keys,
        "networks": config.networks.iter().map(network).collect::<Vec<_>>(),
        "host-key": config.host_key.as_ref().map(PublicKey::of),
    })
}

#[cfg(test)]
mod tests {
    use super::super::medium::Purpose;
    use super::super::partitions::tests::mbr;
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};

    const START: u64 = 2048 * 512;

    /// An image with a FAT of so many sectors, and another partition.
    fn image(dir: &Path, sectors: u32, kind: fatfs::FatType) -> PathBuf {
        let mut fat = std::io::Cursor::new(vec![0; sectors as usize * 512]);
        let options =
            fatfs::FormatVolumeOptions::new().volume_label(*b"FIRMWARE   ").fat_type(kind).bytes_per_cluster(512);
        fatfs::format_volume(&mut fat, options).unwrap();
        image_of(dir, fat.get_ref())
    }

    fn image_of(dir: &Path, fat: &[u8]) -> PathBuf {
        let path = dir.join("card.img");
        let sectors = u32::try_from(fat.len() / 512).unwrap();
        let head = mbr(&[(0x83, 100_000, 8), (0x0b, 2048, sectors)]);
        let file = std::fs::File::create(&path).unwrap();
        file.write_all_at(&head, 0).unwrap();
        file.write_all_at(fat, START).unwrap();
        file.set_len(100_008 * 512).unwrap();
        path
    }

    fn open(path: &Path) -> (Medium, Firmware) {
        let medium = Medium::open(path, Purpose::Change, false).unwrap();
        let firmware = Firmware::open(&medium).unwrap();
        (medium, firmware)
    }

    fn config() -> CardConfig {
        let text = "hostname = \"pi\"\n[[network]]\nssid = \"home\"\npassphrase = \"correct horse\"\n";
        card::read(text.as_bytes()).config
    }

    #[test]
    fn settings_go_onto_the_card_and_old_secrets_from_it() {
        let small_fat32 = |sectors: u16| super::super::wide::tests::small_fat32(sectors, b"FIRMWARE   ");
        for (sectors, kind) in [
            (61_440, Some(fatfs::FatType::Fat16)),
            (90_000, Some(fatfs::FatType::Fat32)),
            (4000, Some(fatfs::FatType::Fat12)),
            // FAT32 by its boot sector, and not by the number of its clusters.
            (61_440, None),
            (2000, None),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = match kind {
                Some(kind) => image(dir.path(), sectors, kind),
                None => image_of(dir.path(), &small_fat32(u16::try_from(sectors).unwrap())),
            };
            let before = std::fs::read(&path).unwrap();
            let (medium, firmware) = open(&path);
            assert_eq!((firmware.label.as_str(), firmware.names().len()), ("FIRMWARE", 0));
            firmware.write(STAMP, b"taken\x1b[2J\n").unwrap();
            let firmware = firmware.finish(&medium).unwrap();
            assert_eq!(Found::read(&firmware).unwrap().stamp.as_deref(), Some("taken\u{fffd}[2J\n"));
            put(&medium, firmware, &config()).unwrap();
            let found = Found::read(&open(&path).1).unwrap();
            assert_eq!((found.settings.as_ref().unwrap().config.clone(), found.stamp), (config(), None));
            let other = CardConfig { hostname: Some("other".into()), ..CardConfig::default() };
            let (medium, firmware) = open(&path);
            put(&medium, firmware, &other).unwrap();
            let after = std::fs::read(&path).unwrap();
            assert!(!after.windows(13).any(|window| window == b"correct horse"), "the old passphrase is still there");
            // Nothing outside of the partition was touched.
            let end = START as usize + sectors as usize * 512;
            assert!(after[..START as usize] == before[..START as usize] && after[end..] == before[end..]);
            // dosfstools has another opinion of what is a good FAT.
            let fat = dir.path().join("fat");
            std::fs::write(&fat, &after[START as usize..end]).unwrap();
            if let Ok(output) = std::process::Command::new("fsck.vfat").arg("-n").arg(&fat).output() {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            }
        }
    }

    #[test]
    fn a_full_partition_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        is_left_when_full(&image(dir.path(), 4000, fatfs::FatType::Fat12));
        is_left_when_full(&image_of(dir.path(), &super::super::wide::tests::small_fat32(4000, b"FIRMWARE   ")));
    }

    fn is_left_when_full(path: &Path) {
        let (medium, firmware) = open(path);
        put(&medium, firmware, &config()).unwrap();
        let (medium, firmware) = open(path);
        let mut size = 4000 * 512;
        while firmware.write("FILLER", &vec![7; size]).is_err() {
            size -= 512;
        }
        drop(firmware.finish(&medium).unwrap());
        let before = std::fs::read(path).unwrap();
        let (medium, firmware) = open(path);
        let large = CardConfig {
            claim: Some("x".repeat(60)),
            authorized_keys: vec![include_str!("../../../protocol/src/card/test-host-key.pub").trim_end().into(); 5],
            ..config()
        };
        let error = put(&medium, firmware, &large).unwrap_err();
        let fault = crate::error::fault_of(&error);
        assert_eq!(fault.code, FaultCode::DiskFull, "{error:#}");
        assert!(std::fs::read(path).unwrap() == before);
    }

    #[test]
    fn an_image_without_a_fat_is_told_apart_from_a_blank_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("card");
        for (bytes, says) in [
            (vec![0; 1 << 20], "no partition table"),
            (mbr(&[(0x83, 8, 100)]), "none of them is a FAT"),
            (vec![], "no partition table"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let medium = Medium::open(&path, Purpose::Read, false).unwrap();
            let fault = crate::error::fault_of(&Firmware::open(&medium).err().unwrap());
            assert!(fault.code == FaultCode::BadCard && fault.cause.contains(says), "{fault}");
        }
        assert_eq!(
            crate::error::fault_of(&Medium::open(&dir.path().join("gone"), Purpose::Read, false).unwrap_err()).code,
            FaultCode::NotFound
        );
        assert_eq!(
            crate::error::fault_of(&Medium::open(dir.path(), Purpose::Read, false).unwrap_err()).code,
            FaultCode::BadRequest
        );
    }

    #[test]
    fn other_programs_files_are_read_before_the_card_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let path = image(dir.path(), 61_440, fatfs::FatType::Fat16);
        let (medium, firmware) = open(&path);
        let netplan = b"network:\n  version: 2\n  wifis:\n    wlan0:\n      access-points:\n        \"k\xc3\xbc\": {password: \"b\xc3\xbccher und\", band: 5GHz}\n";
        firmware.write("network-config", netplan).unwrap();
        firmware.write("WPA_SUPPLICANT.CONF", &vec![b'\n'; 70_000]).unwrap();
        firmware.write("._user-data", b"junk").unwrap();
        let found = Found::read(&firmware.finish(&medium).unwrap()).unwrap();
        let told = found.told().join("\n");
        assert_eq!(found.others.len(), 2, "{told}");
        for says in [
            "network-config: line 6: access-points: band: not used",
            "network-config: “kü”: the passphrase has characters that are no ASCII",
            "CONF: line 1: it has more than 64 kB",
        ] {
            assert!(told.contains(says), "{says}: {told}");
        }
        assert!(!told.contains("cher"), "{told}");
    }

    #[test]
    fn what_a_pi_has_taken_is_not_missing() {
        let text = "hostname = \"pi\"\n[[network]]\nssid = \"home\"\npassphrase = \"correct horse\"\n";
        let redacted = card::redact::redact(text.as_bytes(), &config(), card::read).unwrap();
        let reading = without_taken(&redacted);
        assert_eq!((reading.faults, reading.config.hostname.as_deref()), (vec![], Some("pi")));
    }

    #[test]
    fn what_is_shown_has_no_secret() {
        let shown = masked(&config()).to_string();
        assert!(shown.contains("\"passphrase\"") && !shown.contains("horse"));
    }

    #[test]
    fn a_damaged_fat_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = image(dir.path(), 4000, fatfs::FatType::Fat12);
        let good = std::fs::read(&path).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let mut state = 7_u32;
        for _ in 0..200 {
            // The boot sector, the FAT and the root directory.
            let mut bytes = good[START as usize..START as usize + 64 * 1024].to_vec();
            for _ in 0..8 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                bytes[(state >> 8) as usize % 512] = state as u8;
            }
            file.write_all_at(&bytes, START).unwrap();
            let medium = Medium::open(&path, Purpose::Change, false).unwrap();
            if let Ok(firmware) = Firmware::open(&medium) {
                let _ = Found::read(&firmware).map(|_| put(&medium, firmware, &config()));
            }
        }
    }
}
