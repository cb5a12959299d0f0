//! What Raspberry Pi Imager wants to know of an image (rpi-imager, doc/json-schema/os-list-schema.json), so that it offers it
//! and asks for its settings.

use super::image::Image;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the person says of it.
#[derive(Debug, Clone)]
pub struct About<'a> {
    /// Where Imager will find it.
    pub url: &'a str,
    /// What it calls it.
    pub name: &'a str,
    /// `YYYY-MM-DD`.
    pub date: Option<&'a str>,
}

/// The whole list, with one entry.
pub fn of(image: &Image, about: &About<'_>, mut progress: impl FnMut(u64, u64)) -> Result<Value> {
    let mut stream = image.stream()?;
    let mut buffer = vec![0; 1 << 20];
    let mut unpacked = Sha256::new();
    let mut size = 0_u64;
    let mut head = Vec::new();
    loop {
        let count = stream.read(&mut buffer).map_err(|error| image.damaged(&error))?;
        if count == 0 {
            break;
        }
        let wanted = super::partitions::HEAD.saturating_sub(head.len()).min(count);
        head.extend_from_slice(&buffer[..wanted]);
        unpacked.update(&buffer[..count]);
        size += count as u64;
        progress(size, image.estimate(size));
    }
    image.check(&head, Some(size))?;
    let mut packed = Sha256::new();
    let path = image.path.display();
    let mut file = std::fs::File::open(&image.path).with_context(|| format!("opening {path}"))?;
    std::io::copy(&mut file, &mut packed).with_context(|| format!("reading {path}"))?;
    let made = file.metadata().and_then(|metadata| metadata.modified()).unwrap_or(UNIX_EPOCH);
    let date = about.date.map_or_else(|| day(made), str::to_owned);
    Ok(json!({
        "os_list": [{
            "name": about.name,
            "description": "NixOS that waits to be installed on the disks of this Raspberry Pi by `cygnet install`",
            "icon": "icons/use_custom.png",
            "url": about.url,
            "extract_size": size,
            "extract_sha256": hex(&unpacked.finalize()),
            "image_download_size": image.packed,
            "image_download_sha256": hex(&packed.finalize()),
            "release_date": date,
            // Imager 1 takes what it does not know for Raspberry Pi OS of old, and its settings come to nothing.
            "init_format": "rpi-preseed",
            "architecture": "armv8",
        }],
    }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The day in UTC, as the Gregorian calendar has it.
fn day(time: SystemTime) -> String {
    let mut days = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::super::image::tests::{image, packed};
    use super::super::partitions::tests::mbr;
    use super::*;
    use std::time::Duration;

    #[test]
    fn sizes_and_hashes_are_those_of_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = mbr(&[(0x0b, 8, 100)]);
        for (name, packed) in packed(&bytes) {
            let opened = Image::open(&image(dir.path(), name, &packed)).unwrap();
            let about = About { url: "https://example.org/x", name: "x", date: Some("2026-05-01") };
            let entry = of(&opened, &about, |_, _| {}).unwrap()["os_list"][0].clone();
            assert_eq!(
                (entry["extract_size"].as_u64(), entry["image_download_size"].as_u64()),
                (Some(65_536), Some(packed.len() as u64))
            );
            assert_eq!(entry["extract_sha256"], hex(&Sha256::digest(&bytes)));
            assert_eq!(entry["image_download_sha256"], hex(&Sha256::digest(&packed)));
            assert_eq!(entry["init_format"], "rpi-preseed");
        }
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let day = |seconds| day(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(951_782_400), "2000-02-29");
        assert_eq!(day(1_735_689_599), "2024-12-31");
        assert_eq!(day(1_795_305_600), "2026-11-22");
    }
}
