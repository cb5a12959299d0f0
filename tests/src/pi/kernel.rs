//! The Pi's kernel: Debian's newest of the long-term line, with ZFS built for exactly that version.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::packages::{self, Arch, Deb};
use super::{cache, zfs};
use crate::host::run::{run, tool};

/// The kernel line of the release; ZFS follows long-term kernels, and so do the images we install.
const LINE: &str = "6.12.";

/// The metapackage that always depends on the newest kernel of the release.
const NEWEST: &str = "linux-image-arm64";

/// A kernel ready to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// What `uname -r` says, such as `6.12.107+deb13-arm64`.
    pub version: String,
    /// The kernel image, for `-kernel` or a boot loader.
    pub image: PathBuf,
    /// A directory with `usr/lib/modules/VERSION`, `updates/spl.ko` and `updates/zfs.ko` among it, indexed by depmod.
    pub root: PathBuf,
}

impl Kernel {
    /// The directory of this kernel's modules.
    pub fn modules(&self) -> PathBuf {
        self.root.join("usr/lib/modules").join(&self.version)
    }
}

/// The newest kernel, from the cache or made now.
///
/// # Errors
/// If packages can't be had or ZFS doesn't build; the error says where the build's log is.
pub fn kernel(cache_dir: &Path) -> Result<Kernel> {
    let version = newest(cache_dir)?;
    let image = one(packages::download(cache_dir, Arch::Arm64, &[&format!("linux-image-{version}")])?)?;
    let source = zfs::Source::find(cache_dir)?;
    let built = zfs::modules(cache_dir, &version, &image.version, &source)?;
    let key = format!("{version}_{}_zfs-{}", image.version, source.version);
    let root = cache::entry(cache_dir, "kernel", &key, "unpacking and indexing modules", |root| {
        image.unpack(root, &["./usr/share/*"])?;
        let modules = root.join("usr/lib/modules").join(&version);
        let updates = modules.join("updates");
        fs::create_dir_all(&updates).with_context(|| format!("creating {}", updates.display()))?;
        for name in zfs::MODULES {
            fs::copy(built.join(name), updates.join(name)).with_context(|| format!("copying {name}"))?;
        }
        // depmod still looks in /lib.
        symlink("usr/lib", root.join("lib")).context("linking lib to usr/lib")?;
        run(tool("depmod").arg("-b").arg(root).arg(&version))
    })?;
    Ok(Kernel { image: root.join(format!("boot/vmlinuz-{version}")), version, root })
}

/// What `uname -r` will say: the metapackage's dependency without its `linux-image-`.
fn newest(cache_dir: &Path) -> Result<String> {
    let depends = packages::direct_depends(cache_dir, Arch::Arm64, NEWEST)?;
    let Some(version) = depends.iter().find_map(|name| name.strip_prefix("linux-image-")) else {
        bail!("{NEWEST} names no kernel among its dependencies: {depends:?}");
    };
    if !version.starts_with(LINE) {
        bail!("the newest kernel of the release is {version}, not of the {LINE}x line that the virtual Pi is made for");
    }
    Ok(version.to_owned())
}

/// The only package of an answer that must have one.
pub(super) fn one(mut debs: Vec<Deb>) -> Result<Deb> {
    match (debs.pop(), debs.is_empty()) {
        (Some(deb), true) => Ok(deb),
        _ => bail!("expected one package from apt"),
    }
}
