//! What Raspberry Pi Imager wants to know of an image (rpi-imager, doc/json-schema/os-list-schema.json), so that it offers it
//! and asks for its settings. Where the image is found is checked ([`url`]): of an entry that can't be fetched it says nothing.

use super::image::Image;
use crate::error::fault;
use anyhow::{Context, Result};
use cygnet_protocol::fault::FaultCode;
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

/// Refuses what Imager can't fetch: it knows http://, https:// and files of the machine that it runs on (curl's libcurl).
pub fn url(text: &str) -> Result<()> {
    match problem(text) {
        None => Ok(()),
        Some(why) => Err(fault(
            FaultCode::BadRequest,
            format!("`--url {text}` is no address from which Raspberry Pi Imager could fetch the image."),
            why,
            "Give where the image will be: https://HOST/PATH, http://HOST/PATH, or file:///PATH for one on the same machine.",
        )),
    }
}

fn problem(text: &str) -> Option<String> {
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic() || "\"<>\\^`{|}".contains(*c)) {
        return Some(format!("There is {odd:?} in it, which has to be written as %HH (RFC 3986)."));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Some("It has no http://, https:// or file:// before it.".to_owned());
    };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match scheme.to_ascii_lowercase().as_str() {
        "file" if !host.is_empty() => Some(format!(
            "After file:// comes a host, which is “{host}” here; a path on the same machine has three slashes."
        )),
        "file" if path.len() > 1 => None,
        "file" => Some("It names no file.".to_owned()),
        "http" | "https" => {
            let host = host.rsplit('@').next().unwrap_or_default();
            let (name, port) = match host.rsplit_once(':') {
                // The colons of an IPv6 address are within brackets.
                Some((name, port)) if !port.contains(']') => (name, Some(port)),
                _ => (host, None),
            };
            match port {
                _ if name.is_empty() => Some("It names no host.".to_owned()),
                Some(port) if port.parse::<u16>().is_err() => Some(format!("“{port}” is no number of a port.")),
                _ if path.len() <= 1 => Some("It names a host and no image there.".to_owned()),
                _ => None,
            }
        }
        other => Some(format!("Imager does not fetch from {other}://.")),
    }
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
    fn an_address_is_one_that_imager_can_fetch_from() {
        for good in [
            "https://example.org/a.img.xz",
            "http://192.0.2.1:8000/a.img",
            "HTTPS://u:p@[2001:db8::1]:8443/x/a%20b.img?token=1",
            "https://example.org?image=a",
            "file:///tmp/a.img",
        ] {
            assert!(url(good).is_ok(), "{good}: {:?}", problem(good));
        }
        for (bad, says) in [
            ("/tmp/a.img", "no http://"),
            ("a.img", "no http://"),
            ("", "no http://"),
            ("ftp://x y", "' '"),
            ("ftp://x/y", "from ftp://"),
            ("file://tmp/a.img", "which is “tmp”"),
            ("file:///", "no file"),
            ("https:///a.img", "no host"),
            ("https://:80/a.img", "no host"),
            ("https://example.org:port/a.img", "no number"),
            ("https://example.org/", "no image"),
            ("https://example.org/ä.img", "%HH"),
        ] {
            let fault = crate::error::fault_of(&url(bad).unwrap_err());
            assert!(fault.cause.contains(says) && fault.remedy.contains("file:///"), "{bad}: {fault}");
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
