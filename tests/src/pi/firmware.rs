//! The files that a Pi's firmware reads from the card's FAT partition: Debian's own, fetched and never committed.
//!
//! One card is for all boards, as nixpkgs' image is: the boot ROM's second stage, the firmware of every generation, U-Boot of
//! each board family, and a config.txt that chooses.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use cygnet_protocol::boot::build::Build;
use cygnet_protocol::boot::environment;

use super::kernel::{Kernel, one};
use super::packages::{self, Arch};
use super::{cache, unpacked};

/// Increased whenever what is made of the packages changes.
const RECIPE: u32 = 3;

/// What config.txt says; the filters are Raspberry Pi's (documentation, config.txt, “conditional filters”).
const CONFIG: &str = "\
kernel=u-boot.bin

[pi3]
kernel=u-boot-rpi3.bin

[pi02]
kernel=u-boot-rpi3.bin

[pi4]
kernel=u-boot-rpi4.bin
enable_gic=1

[all]
arm_64bit=1
enable_uart=1
avoid_warnings=1
";

/// U-Boot of QEMU's own board, in its package.
const U_BOOT_VIRT: &str = "usr/lib/u-boot/qemu_arm64/u-boot.bin";
/// The Pi 3's.
const U_BOOT_PI3: &str = "usr/lib/u-boot/rpi_3/u-boot.bin";
/// The image of that board's second flash, which QEMU wants whole.
const FLASH: &str = "environment.img";
const FLASH_SIZE: u64 = 64 << 20;
/// How much of it is the environment: CONFIG_ENV_SIZE of U-Boot's qemu_arm64_defconfig.
const FLASH_ENVIRONMENT: usize = 0x40000;

/// Device trees by their name in Debian's kernel package.
const PI3_TREE: &str = "broadcom/bcm2837-rpi-3-b.dtb";

/// What the FAT partition has, and what QEMU hands over in the firmware's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// Name on the FAT partition, where the file is.
    pub files: Vec<(String, PathBuf)>,
    /// U-Boot of the Pi 3.
    pub u_boot_pi3: PathBuf,
    /// The environment that a Pi 3's card has for it.
    pub environment_pi3: PathBuf,
    /// The Pi 3's device tree.
    pub tree_pi3: PathBuf,
    /// U-Boot of QEMU's own board.
    pub u_boot_virt: PathBuf,
    /// The flash with its environment.
    pub environment_virt: PathBuf,
    /// The versions of all of it.
    pub key: String,
}

/// Fetches the packages, or takes what was fetched.
///
/// # Errors
/// If they can't be had, or lack a file.
pub fn firmware(cache_dir: &Path, kernel: &Kernel) -> Result<Firmware> {
    let names = ["raspi-firmware", "u-boot-rpi", "u-boot-qemu"];
    let debs = names.map(|name| one(packages::download(cache_dir, Arch::Arm64, &[name])?));
    let debs: Vec<_> = debs.into_iter().collect::<Result<_>>()?;
    let versions: Vec<String> = debs.iter().map(|deb| format!("{}={}", deb.name, deb.version)).collect();
    let key = cache::key(&[versions.join(" ").as_bytes(), CONFIG.as_bytes(), &RECIPE.to_le_bytes()]);
    let entry = cache::entry(cache_dir, "firmware", &key, "unpacking", |out| {
        debs.iter().try_for_each(|deb| deb.unpack(out, &["./usr/share/*"]))?;
        fs::write(out.join("config.txt"), CONFIG).context("writing config.txt")?;
        let binary = fs::read(out.join(U_BOOT_VIRT)).context("reading the virtual board's U-Boot")?;
        write_flash(&out.join(FLASH), &flash(&binary)?)?;
        let binary = fs::read(out.join(U_BOOT_PI3)).context("reading the Pi 3's U-Boot")?;
        fs::write(out.join("uboot-pi3.env"), pi3_environment(&binary)?).context("writing uboot-pi3.env")
    })?;
    let blobs = entry.join("usr/lib/raspi-firmware");
    let mut files = vec![
        ("config.txt".to_owned(), entry.join("config.txt")),
        ("u-boot-rpi3.bin".to_owned(), entry.join(U_BOOT_PI3)),
        ("u-boot-rpi4.bin".to_owned(), entry.join("usr/lib/u-boot/rpi_4/u-boot.bin")),
        // The virtual board's does not come from there, but whoever looks for U-Boot on the card finds the one that runs.
        ("u-boot.bin".to_owned(), entry.join(U_BOOT_VIRT)),
    ];
    let listed = fs::read_dir(&blobs).with_context(|| format!("listing {}", blobs.display()))?;
    for blob in listed {
        let path = blob.with_context(|| format!("listing {}", blobs.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if [".elf", ".dat", ".bin"].iter().any(|end| name.ends_with(end)) {
            files.push((name, path));
        }
    }
    files.sort();
    let firmware = Firmware {
        u_boot_pi3: entry.join(U_BOOT_PI3),
        environment_pi3: entry.join("uboot-pi3.env"),
        u_boot_virt: entry.join(U_BOOT_VIRT),
        environment_virt: entry.join(FLASH),
        tree_pi3: kernel.root.join(format!("usr/lib/linux-image-{}", kernel.version)).join(PI3_TREE),
        files,
        key,
    };
    let all = firmware.files.iter().map(|(_, file)| file).chain([&firmware.u_boot_pi3, &firmware.tree_pi3]);
    for file in all {
        if !file.is_file() {
            bail!("Debian's packages ({}) have no {}", versions.join(", "), file.display());
        }
    }
    Ok(firmware)
}

/// The environment of the virtual board's U-Boot, in its binary form: what was compiled in, but for `bootcmd`, which first does
/// what U-Boot on a Pi does (CONFIG_ENV_IS_IN_FAT): it takes `uboot.env` from the card if its checksum is right.
fn flash(u_boot: &[u8]) -> Result<Vec<u8>> {
    let build = Build::find("u-boot.bin", u_boot).context("looking into the virtual board's U-Boot")?;
    let size = environment::SIZE;
    let bootcmd = format!(
        "virtio scan; if fatload virtio 0:1 ${{scriptaddr}} uboot.env {size:x}; then \
         if env import -d -c ${{scriptaddr}} {size:x}; then run bootcmd; fi; fi; {}",
        build.scan
    );
    binary(&build, &[("bootcmd", &bootcmd)], FLASH_ENVIRONMENT)
}

/// A `uboot.env` for the Pi 3's card, as an image that has this U-Boot and a kernel of today ships one: what was compiled in, but
/// for the addresses. Until v2025.10 there are 37 MiB between kernel and initial RAM disk, and Debian's kernel takes more. The
/// addresses are higher by 48 MiB, as in that release.
fn pi3_environment(u_boot: &[u8]) -> Result<Vec<u8>> {
    let build = Build::find("u-boot-rpi3.bin", u_boot).context("looking into the Pi 3's U-Boot")?;
    let moved = [
        ("scriptaddr", "0x05400000"),
        ("pxefile_addr_r", "0x05500000"),
        ("fdt_addr_r", "0x05600000"),
        ("ramdisk_addr_r", "0x05700000"),
        ("preboot", ""),
    ];
    binary(&build, &moved, environment::SIZE)
}

/// U-Boot's binary form of an environment (tools/mkenvimage.c): its checksum, `name=value` with a NUL behind each.
fn binary(build: &Build, changes: &[(&str, &str)], size: usize) -> Result<Vec<u8>> {
    let kept = build.defaults.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    let kept = kept.map(|(name, value)| (name.as_str(), value.as_str()));
    let variables = kept.chain(changes.iter().copied()).filter(|(_, value)| !value.is_empty());
    let mut data: Vec<u8> = variables.map(|(name, value)| format!("{name}={value}\0")).collect::<String>().into_bytes();
    ensure!(data.len() + 5 < size, "the environment of {} is too long", build.file);
    data.resize(size - 4, 0);
    let mut bytes = crc32fast::hash(&data).to_le_bytes().to_vec();
    bytes.append(&mut data);
    Ok(bytes)
}

fn write_flash(to: &Path, environment: &[u8]) -> Result<()> {
    let writing = || format!("writing {}", to.display());
    fs::write(to, environment).with_context(writing)?;
    fs::File::options().write(true).open(to).and_then(|file| file.set_len(FLASH_SIZE)).with_context(writing)
}

/// The wireless firmware of Debian's package, with its links, unpacked.
///
/// # Errors
/// If the package can't be had.
pub fn wireless(cache_dir: &Path) -> Result<PathBuf> {
    let deb = one(packages::download(cache_dir, Arch::Arm64, &["firmware-brcm80211"])?)?;
    let key = unpacked::plain(&deb.version);
    let entry = cache::entry(cache_dir, "wireless", &key, "unpacking", |out| deb.unpack(out, &["./usr/share/*"]))?;
    Ok(entry.join("usr/lib/firmware"))
}
