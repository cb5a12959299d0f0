//! A Raspberry Pi 4's sysfs, as far as we look at it, in a temporary directory.

use super::Sys;
use std::fs;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// The kernel of the tree.
pub const RELEASE: &str = "6.12.107+deb13-arm64";

/// The tree.
pub struct Tree {
    /// What reads it.
    pub sys: Sys,
    _dir: TempDir,
}

impl Tree {
    /// As it is when all is well: Debian's kernel, the card on mmc0, the chip on mmc1.
    pub fn pi_4() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = Self { sys: Sys { root: dir.path().into() }, _dir: dir };
        let board = "sys/firmware/devicetree/base";
        tree.write(&format!("{board}/compatible"), "raspberrypi,4-model-b\0brcm,bcm2711\0");
        tree.write(&format!("{board}/soc/mmcnr@7e300000/status"), "okay\0");
        tree.write(&format!("{board}/soc/mmcnr@7e300000/wifi@1/compatible"), "brcm,bcm4329-fmac\0");
        tree.write(&format!("{board}/emmc2bus/mmc@7e340000/status"), "okay\0");

        let devices = "sys/devices/platform";
        let chip = format!("{devices}/soc/fe300000.mmcnr");
        let card = format!("{devices}/emmc2bus/fe340000.mmc");
        tree.link(&format!("{chip}/of_node"), &format!("{board}/soc/mmcnr@7e300000"));
        tree.link(&format!("{card}/of_node"), &format!("{board}/emmc2bus/mmc@7e340000"));
        for (device, driver, host) in [(&chip, "mmc-bcm2835", "mmc1"), (&card, "sdhci-iproc", "mmc0")] {
            let drivers = format!("sys/bus/platform/drivers/{driver}");
            tree.write(&format!("{drivers}/bind"), "");
            tree.write(&format!("{drivers}/unbind"), "");
            tree.link(&format!("{device}/driver"), &drivers);
            tree.dir(&format!("{device}/mmc_host/{host}"));
            tree.link(&format!("{device}/mmc_host/{host}/device"), device);
            tree.link(&format!("sys/class/mmc_host/{host}"), &format!("{device}/mmc_host/{host}"));
        }
        for function in 1..=3 {
            let name = format!("mmc1:0001:{function}");
            let at = format!("{chip}/mmc_host/mmc1/mmc1:0001/{name}");
            tree.write(&format!("{at}/vendor"), "0x02d0\n");
            tree.write(&format!("{at}/device"), "0xa9a6\n");
            tree.link(&format!("sys/bus/sdio/devices/{name}"), &at);
        }
        tree.write(&format!("{card}/mmc_host/mmc0/mmc0:aaaa/type"), "SD\n");
        let disk = format!("{card}/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0");
        tree.link(&format!("{disk}/device"), &format!("{card}/mmc_host/mmc0/mmc0:aaaa"));
        tree.link("sys/block/mmcblk0", &disk);

        for module in ["brcmfmac", "brcmfmac_wcc", "brcmutil", "cfg80211"] {
            tree.dir(&format!("sys/module/{module}"));
        }
        tree.write("proc/sys/kernel/osrelease", &format!("{RELEASE}\n"));
        let path = "kernel/drivers/net/wireless/broadcom/brcm80211";
        tree.write(
            &format!("lib/modules/{RELEASE}/modules.dep"),
            &format!(
                "{path}/brcmfmac/brcmfmac.ko.xz: {path}/brcmutil/brcmutil.ko.xz kernel/net/wireless/cfg80211.ko.xz\n\
                 {path}/brcmfmac/wcc/brcmfmac-wcc.ko.xz: {path}/brcmfmac/brcmfmac.ko.xz\n\
                 {path}/brcmfmac/cyw/brcmfmac-cyw.ko.xz: {path}/brcmfmac/brcmfmac.ko.xz\n"
            ),
        );
        tree.interface("lo", 1, "772", None);
        tree.interface("end0", 2, "1", None);
        tree.interface("wlan0", 3, "1", Some(("phy0", "brcmfmac")));
        for (index, kind) in [(0, "bluetooth"), (1, "wlan")] {
            for (file, text) in [("type", kind), ("soft", "0"), ("hard", "0")] {
                tree.write(&format!("sys/class/rfkill/rfkill{index}/{file}"), &format!("{text}\n"));
            }
        }
        for (index, name) in [(0, "cpu_thermal"), (1, "rpi_volt")] {
            tree.write(&format!("sys/class/hwmon/hwmon{index}/name"), &format!("{name}\n"));
        }
        tree.write("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n");
        tree
    }

    /// Adds an interface; `radio` are its phy and driver.
    pub fn interface(&self, name: &str, index: u32, kind: &str, radio: Option<(&str, &str)>) {
        let at = format!("sys/class/net/{name}");
        self.write(&format!("{at}/type"), &format!("{kind}\n"));
        self.write(&format!("{at}/ifindex"), &format!("{index}\n"));
        if let Some((phy, driver)) = radio {
            self.link(&format!("{at}/phy80211"), &format!("sys/class/ieee80211/{phy}"));
            self.link(&format!("{at}/device/driver"), &format!("sys/bus/sdio/drivers/{driver}"));
        }
    }

    /// Writes a file.
    pub fn write(&self, path: &str, text: &str) {
        self.dir(path.rsplit_once('/').unwrap().0);
        fs::write(self.sys.path(path), text).unwrap();
    }

    /// Makes a directory.
    pub fn dir(&self, path: &str) {
        fs::create_dir_all(self.sys.path(path)).unwrap();
    }

    /// Makes a link to another place in the tree.
    pub fn link(&self, at: &str, to: &str) {
        self.dir(at.rsplit_once('/').unwrap().0);
        symlink(self.sys.path(to), self.sys.path(at)).unwrap();
    }

    /// Takes something away.
    pub fn remove(&self, path: &str) {
        let path = self.sys.path(path);
        if path.is_symlink() || path.is_file() {
            fs::remove_file(path).unwrap();
        } else {
            fs::remove_dir_all(path).unwrap();
        }
    }
}
