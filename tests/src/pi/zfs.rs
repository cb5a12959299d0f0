//! ZFS kernel modules for the Pi, cross-compiled on this host.
//!
//! The compiler lives in a directory of unpacked amd64 packages and is entered with chroot: nothing emulated takes part,
//! and nothing of it is installed on the host. Only the finished modules are kept.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cache;
use super::kernel::one;
use super::packages::{self, Arch, Deb};
use crate::host::run::{run_logged, tool};

/// The modules that are built, in the order in which they are loaded.
pub const MODULES: [&str; 2] = ["spl.ko", "zfs.ko"];

/// What runs in the build directory. No arm64 compiler and no `linux-headers` from arm64 by dependency: those would pull
/// tools that only run emulated.
const TOOLCHAIN: &[&str] = &[
    "base-files",
    "bash",
    "dash",
    "coreutils",
    "sed",
    "grep",
    "gawk",
    "findutils",
    "diffutils",
    "tar",
    "gzip",
    "xz-utils",
    "make",
    "perl",
    "file",
    "kmod",
    "gcc-14-aarch64-linux-gnu",
    "binutils-aarch64-linux-gnu",
    "libc6-dev-arm64-cross",
];

/// Runs inside the build directory with VERSION, COMMON, SOURCE in the environment.
const BUILD: &str = r#"
set -e
export PATH=/usr/sbin:/usr/bin LC_ALL=C ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- CC=aarch64-linux-gnu-gcc-14
cd "$SOURCE"
./configure --host=aarch64-linux-gnu --with-config=kernel \
  --with-linux="/usr/src/linux-headers-$COMMON" --with-linux-obj="/usr/src/linux-headers-$VERSION"
make -j"$(nproc)" -C module
mkdir /out
cp module/spl.ko module/zfs.ko /out
aarch64-linux-gnu-strip --strip-debug /out/*.ko
"#;

/// Debian's ZFS source package.
pub struct Source {
    /// Its Debian version.
    pub version: String,
    deb: Deb,
}

impl Source {
    /// The newest source of the release.
    ///
    /// # Errors
    /// If it can't be downloaded.
    pub fn find(cache_dir: &Path) -> Result<Source> {
        let deb = one(packages::download(cache_dir, Arch::Arm64, &["zfs-dkms"])?)?;
        Ok(Source { version: deb.version.clone(), deb })
    }
}

/// A directory with [`MODULES`] for the kernel `version` (`uname -r`) of the Debian version `debian`.
///
/// # Errors
/// If the build fails; its log is kept beside the cache entry.
pub fn modules(cache_dir: &Path, version: &str, debian: &str, source: &Source) -> Result<PathBuf> {
    let key = format!("{version}_{debian}_zfs-{}", source.version);
    let slow = "cross-compiling the kernel modules; this takes several minutes, once per kernel";
    cache::entry(cache_dir, "zfs", &key, slow, |out| build(cache_dir, version, source, out))
}

fn build(cache_dir: &Path, version: &str, source: &Source, out: &Path) -> Result<()> {
    let Some((base, _)) = version.rsplit_once('-') else {
        bail!("a kernel version without a flavour: {version}");
    };
    let common = format!("{base}-common");
    let kbuild = format!("linux-kbuild-{base}");
    let mut toolchain = TOOLCHAIN.to_vec();
    toolchain.push(&kbuild);
    let tools = packages::resolve(cache_dir, Arch::Amd64, &toolchain)?;
    let headers = packages::download(
        cache_dir,
        Arch::Arm64,
        &[&format!("linux-headers-{version}"), &format!("linux-headers-{common}")],
    )?;

    let room = cache::workshop(out)?;
    let root = room.path();
    unpack_all(&tools, root)?;
    unpack_all(&headers, root)?;
    unpack_all(std::slice::from_ref(&source.deb), root)?;
    // The links that packages' maintainer scripts would have made.
    if !root.join("usr/bin/awk").exists() {
        symlink("gawk", root.join("usr/bin/awk")).context("linking awk")?;
    }
    for dir in ["dev", "proc", "tmp"] {
        fs::create_dir_all(root.join(dir)).with_context(|| format!("creating {dir}"))?;
    }

    let log = cache_dir.join("zfs").join(format!("{version}.build.log"));
    // The mounts are private to the build and end with it.
    let enter = r#"mount --bind /dev "$1/dev" && mount -t proc proc "$1/proc" && exec chroot "$1" /bin/sh -c "$2""#;
    run_logged(
        tool("setpriv")
            // This thread waits for the build, so the signal can't come before the harness's own end.
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--fork",
                "--kill-child",
            ])
            .args(["nice", "sh", "-c", enter, "sh"])
            .args([root.as_os_str(), OsStr::new(BUILD)])
            .env("VERSION", version)
            .env("COMMON", &common)
            .env("SOURCE", source_dir(root)?),
        &log,
    )
    .context("building ZFS for the Pi's kernel")?;
    for name in MODULES {
        fs::copy(root.join("out").join(name), out.join(name)).with_context(|| format!("copying {name}"))?;
    }
    Ok(())
}

/// Unpacks packages over one root; `base-files` first, because it has the symlinks of the merged `/usr`.
pub(super) fn unpack_all(debs: &[Deb], root: &Path) -> Result<()> {
    let excludes = ["./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "./usr/share/info/*"];
    let (first, rest): (Vec<&Deb>, Vec<&Deb>) = debs.iter().partition(|deb| deb.name == "base-files");
    for deb in first.into_iter().chain(rest) {
        deb.unpack(root, &excludes)?;
    }
    Ok(())
}

/// The path, inside the root, of the only `zfs-*` directory in `/usr/src`.
fn source_dir(root: &Path) -> Result<String> {
    let sources = root.join("usr/src");
    let entries = fs::read_dir(&sources).with_context(|| format!("reading {}", sources.display()))?;
    for entry in entries {
        let name = entry.context("reading a directory entry")?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("zfs-") {
            return Ok(format!("/usr/src/{name}"));
        }
    }
    bail!("zfs-dkms has no /usr/src/zfs-VERSION any more")
}
