//! The SD card's image, as nixpkgs' images for the Pi are: an MBR, a FAT partition with the board's firmware and U-Boot that every
//! laptop can write, and a bootable ext4 root with the kernel and the menu that U-Boot reads.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::firmware::Firmware;
use super::kernel::Kernel;
use super::{cache, packages, rootfs};
use crate::host::run::{run, stdout_of, tool, try_output};

const MIB: u64 = 1024 * 1024;

/// Increased whenever the image's shape changes.
const RECIPE: u32 = 1;

/// Where the FAT partition starts, in bytes.
const FAT_START: u64 = MIB;
/// Its size in bytes.
const FAT_SIZE: u64 = 64 * MIB;
/// Where the root partition starts, in bytes.
const ROOT_START: u64 = FAT_START + FAT_SIZE;
/// Its size in bytes; the file is sparse. The whole card has 2 GiB: an SD slot takes only powers of two.
const ROOT_SIZE: u64 = 2048 * MIB - ROOT_START;

/// Where the root has the kernel, the initial RAM disk and U-Boot's menu.
const BOOT: &str = "boot/nixos";
const MENU: &str = "boot/extlinux";

/// The label of the FAT partition, as nixpkgs' images for the Pi have it.
pub const FAT_LABEL: &str = "FIRMWARE";

/// The number of the FAT partition.
pub const FAT_PARTITION: u32 = 1;

/// The number of the root partition.
pub const ROOT_PARTITION: u32 = 2;

/// The card image that every virtual Pi's card starts as, from the cache or made now.
///
/// # Errors
/// If packages can't be had or the image can't be made.
pub fn base(cache_dir: &Path, kernel: &Kernel, firmware: &Firmware) -> Result<PathBuf> {
    let debs = packages::resolve_arm64(cache_dir, rootfs::PACKAGES)?;
    let mut parts: Vec<String> = debs.iter().map(|deb| format!("{}={}", deb.name, deb.version)).collect();
    parts.push(kernel.root.display().to_string());
    parts.push(firmware.key.clone());
    parts.push(format!("{}.{RECIPE}", rootfs::RECIPE));
    let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
    let key = format!("{}-{}", packages::RELEASE, cache::key(&parts));
    let slow = "unpacking the card's system; this takes about a minute";
    let entry = cache::entry(cache_dir, "card", &key, slow, |out| {
        let room = cache::workshop(out)?;
        let root = room.path().join("root");
        fs::create_dir(&root).context("creating the card's root directory")?;
        rootfs::build(&root, &debs, kernel)?;
        for place in [BOOT, MENU] {
            let place = root.join(place);
            fs::create_dir_all(&place).with_context(|| format!("creating {}", place.display()))?;
        }
        fs::copy(&kernel.image, root.join(BOOT).join("kernel")).context("copying the kernel onto the card")?;
        image(&out.join("card.img"), &root, firmware)
    })?;
    Ok(entry.join("card.img"))
}

fn image(path: &Path, root: &Path, firmware: &Firmware) -> Result<()> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    file.set_len(ROOT_START + ROOT_SIZE).with_context(|| format!("sizing {}", path.display()))?;
    partition(path)?;
    run(tool("mkfs.vfat")
        .args(["-F", "32", "-s", "1", "-n", FAT_LABEL, "--offset"])
        .arg((FAT_START / 512).to_string())
        .arg(path)
        .arg((FAT_SIZE / 1024).to_string()))
    .context("making the FAT partition")?;
    for (name, file) in &firmware.files {
        run(tool("mcopy").args(["-i", &fat_of(path)]).arg(file).arg(format!("::{name}")))
            .with_context(|| format!("writing {name} onto the card"))?;
    }
    run(tool("mke2fs")
        .args(["-q", "-t", "ext4", "-L", "CARD", "-m", "0"])
        .arg("-d")
        .arg(root)
        .args(["-E", &format!("offset={ROOT_START},root_owner=0:0,lazy_itable_init=1")])
        .arg(path)
        .arg(format!("{}k", ROOT_SIZE / 1024)))
    .context("making the root partition")
}

/// A partition table as sfdisk(8) reads it; sizes are in sectors of 512 bytes.
fn partition(path: &Path) -> Result<()> {
    let script = format!(
        "label: dos\nlabel-id: 0x63796731\nstart={}, size={}, type=c\nstart={}, size={}, type=83, bootable\n",
        FAT_START / 512,
        FAT_SIZE / 512,
        ROOT_START / 512,
        ROOT_SIZE / 512
    );
    let mut sfdisk = tool("sfdisk")
        .args(["--quiet", "--no-reread", "--no-tell-kernel"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .context("starting sfdisk")?;
    if let Some(mut input) = sfdisk.stdin.take() {
        input.write_all(script.as_bytes()).context("giving sfdisk the partitions")?;
    }
    let status = sfdisk.wait().context("waiting for sfdisk")?;
    if !status.success() {
        bail!("sfdisk could not partition {} ({status})", path.display());
    }
    Ok(())
}

/// Writes a Pi's own initial RAM disk onto its card's root, and the menu that starts it with this kernel command line.
///
/// # Errors
/// If there is no room, or the root's file system is broken.
pub fn write_boot(card: &Path, initrd: &[u8], command_line: &str) -> Result<()> {
    let room = tempfile::tempdir().context("creating a temporary directory")?;
    let (new_initrd, menu) = (room.path().join("initrd"), room.path().join("extlinux.conf"));
    fs::write(&new_initrd, initrd).context("writing a temporary file")?;
    let entry = format!(
        "DEFAULT card\nTIMEOUT 1\n\nLABEL card\n  LINUX ../nixos/kernel\n  INITRD ../nixos/initrd\n  APPEND {command_line}\n"
    );
    fs::write(&menu, entry).context("writing a temporary file")?;
    let root = format!("{}?offset={ROOT_START}", card.display());
    // After a power cut the journal has what is not in its place yet. Exit code 1 says that something was put in order.
    let checked = try_output(tool("e2fsck").args(["-p", "-E", "journal_only", &root]))?;
    if checked.status.code().is_none_or(|code| code > 1) {
        bail!("the card's root is broken: {}", String::from_utf8_lossy(&checked.stdout));
    }
    let request = format!(
        "rm {BOOT}/initrd\nwrite {} {BOOT}/initrd\nrm {MENU}/extlinux.conf\nwrite {} {MENU}/extlinux.conf\nstat {MENU}/extlinux.conf\n",
        new_initrd.display(),
        menu.display()
    );
    let requests = room.path().join("requests");
    fs::write(&requests, request).context("writing a temporary file")?;
    let said = stdout_of(tool("debugfs").arg("-w").arg("-f").arg(&requests).arg(&root))
        .context("writing onto the card's root")?;
    // debugfs says what went wrong and exits with 0.
    if !said.contains("Type: regular") {
        bail!("debugfs could not write the card's boot files: {said}");
    }
    Ok(())
}

/// Makes one Pi's card from the base image. Blocks that nobody wrote take no room.
///
/// # Errors
/// If there is no room.
pub fn copy(base: &Path, to: &Path) -> Result<()> {
    run(tool("cp").args(["--sparse=always", "--reflink=auto"]).arg(base).arg(to))
        .with_context(|| format!("copying the card image to {}", to.display()))
}

/// Writes a file onto the card's FAT partition, as a person does on a laptop. Directories in `name` must exist there.
///
/// # Errors
/// If the partition is full or the name isn't one FAT allows.
pub fn write_fat(card: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new().context("creating a temporary file")?;
    file.write_all(bytes).context("writing a temporary file")?;
    run(tool("mcopy").arg("-o").args(["-i", &fat_of(card)]).arg(file.path()).arg(format!("::{name}")))
        .with_context(|| format!("writing {name} onto the card's FAT partition"))
}

/// Reads a file from the card's FAT partition.
///
/// # Errors
/// If there is no such file.
pub fn read_fat(card: &Path, name: &str) -> Result<Vec<u8>> {
    let room = tempfile::tempdir().context("creating a temporary directory")?;
    let to = room.path().join("file");
    run(tool("mcopy").args(["-n", "-i", &fat_of(card)]).arg(format!("::{name}")).arg(&to))
        .with_context(|| format!("reading {name} from the card's FAT partition"))?;
    fs::read(&to).with_context(|| format!("reading {}", to.display()))
}

/// The FAT partition as it is, with what no file has any more.
///
/// # Errors
/// If the image can't be read.
pub fn fat(card: &Path) -> Result<Vec<u8>> {
    let reading = || format!("reading the FAT partition of {}", card.display());
    let mut file = File::open(card).with_context(reading)?;
    file.seek(SeekFrom::Start(FAT_START)).with_context(reading)?;
    let mut bytes = Vec::new();
    file.take(FAT_SIZE).read_to_end(&mut bytes).with_context(reading)?;
    Ok(bytes)
}

/// How mtools name a partition inside an image.
fn fat_of(card: &Path) -> String {
    format!("{}@@{FAT_START}", card.display())
}
