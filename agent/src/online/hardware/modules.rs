//! Whether a kernel module is loaded, or could be.

use super::Sys;
use cygnet_protocol::online::observation::ModuleState;

/// The driver of the chips on Raspberry Pis.
pub const DRIVER: &str = "brcmfmac";
/// Its vendors' parts. It asks for one by itself as soon as it knows the chip; which one depends on the kernel.
pub const VENDORS: &[&str] = &["brcmfmac_wcc", "brcmfmac_cyw", "brcmfmac_bca"];
/// Since this version there are such parts (drivers/net/wireless/broadcom/brcm80211/brcmfmac/fwvid.c).
const VENDORS_SINCE: (u32, u32) = (6, 2);

/// Where modules are: everywhere; NixOS, as booted and as switched to.
const PLACES: &[&str] =
    &["lib/modules", "run/booted-system/kernel-modules/lib/modules", "run/current-system/kernel-modules/lib/modules"];

/// Whether `module` (with underscores) is loaded or in the image.
pub fn state(sys: &Sys, module: &str) -> ModuleState {
    match loaded(sys, module) {
        true => ModuleState::Loaded,
        false => in_image(sys, &[module]),
    }
}

/// The same of the vendor's part. As long as none is loaded, any that is in the image may be the one.
pub fn vendor(sys: &Sys) -> ModuleState {
    if VENDORS.iter().any(|module| loaded(sys, module)) {
        return ModuleState::Loaded;
    }
    match release(sys).as_deref().and_then(version) {
        Some(version) if version >= VENDORS_SINCE => in_image(sys, VENDORS),
        // Nothing is missing where there is nothing to have.
        _ => ModuleState::Unknown,
    }
}

/// Whether it is in the kernel.
pub fn loaded(sys: &Sys, module: &str) -> bool {
    sys.has(format!("sys/module/{module}"))
}

/// The kernel's release, `6.12.107`.
fn release(sys: &Sys) -> Option<String> {
    sys.text("proc/sys/kernel/osrelease")
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether one of them is in the lists that depmod(8) makes.
fn in_image(sys: &Sys, modules: &[&str]) -> ModuleState {
    let Some(release) = release(sys) else { return ModuleState::Unknown };
    let mut listed = false;
    for place in PLACES {
        if let Some(builtin) = sys.text(format!("{place}/{release}/modules.builtin"))
            && builtin.lines().any(|path| modules.contains(&&*name(path)))
        {
            return ModuleState::Loaded;
        }
        let Some(list) = sys.text(format!("{place}/{release}/modules.dep")) else { continue };
        listed = true;
        // `kernel/…/brcmfmac-wcc.ko.xz: kernel/…/brcmfmac.ko.xz …`
        if list.lines().filter_map(|line| line.split_once(':')).any(|(path, _)| modules.contains(&&*name(path))) {
            return ModuleState::Available;
        }
    }
    if listed { ModuleState::Missing } else { ModuleState::Unknown }
}

/// A file's module, with underscores as in `/sys/module`.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or_default();
    file.split('.').next().unwrap_or_default().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::super::tree::{RELEASE, Tree};
    use super::*;

    #[test]
    fn names_and_versions() {
        assert_eq!(name("kernel/drivers/net/brcmfmac/wcc/brcmfmac-wcc.ko.xz"), "brcmfmac_wcc");
        assert_eq!(name("brcmfmac.ko"), "brcmfmac");
        assert_eq!(version("6.12.107+deb13-arm64"), Some((6, 12)));
        assert_eq!(version("5.15-rc3"), Some((5, 15)));
        assert_eq!(version("tomorrow"), None);
    }

    #[test]
    fn lists_are_looked_for_where_nixos_has_them_too() {
        let tree = Tree::pi_4();
        tree.remove("sys/module/brcmfmac");
        let list = std::fs::read_to_string(tree.sys.path(format!("lib/modules/{RELEASE}/modules.dep"))).unwrap();
        tree.remove("lib/modules");
        assert_eq!(state(&tree.sys, DRIVER), ModuleState::Unknown);
        tree.write(&format!("run/booted-system/kernel-modules/lib/modules/{RELEASE}/modules.dep"), &list);
        assert_eq!(state(&tree.sys, DRIVER), ModuleState::Available);
        assert_eq!(state(&tree.sys, "brcm"), ModuleState::Missing);
        tree.write(&format!("lib/modules/{RELEASE}/modules.builtin"), "kernel/drivers/brcmfmac.ko\n");
        assert_eq!(state(&tree.sys, DRIVER), ModuleState::Loaded);
    }

    #[test]
    fn before_there_were_vendors_none_is_missing() {
        let tree = Tree::pi_4();
        tree.remove("sys/module/brcmfmac_wcc");
        tree.write("proc/sys/kernel/osrelease", "6.1.63-v8+\n");
        assert_eq!(vendor(&tree.sys), ModuleState::Unknown);
    }
}
