//! The chip, its driver, its interface and its switches, as sysfs and the device tree have them.
//!
//! Files here are read without asking the hardware, so this does not hang with it.

pub mod modules;
#[cfg(test)]
pub mod tree;

use cygnet_protocol::online::observation::{Clock, Hardware, ModuleState, Radio, Rfkill};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Vendors of SDIO WiFi chips: Broadcom, and Cypress that bought that part of it (include/linux/mmc/sdio_ids.h).
const VENDORS: &[&str] = &["0x02d0", "0x04b4"];

/// Boards of which some were sold without a chip; on these it is not missed.
const MAYBE: &[&str] = &["raspberrypi,4-compute-module", "raspberrypi,5-compute-module"];

/// Boards that all have one (arch/arm64/boot/dts/broadcom, arch/arm/boot/dts/broadcom).
const ALWAYS: &[&str] = &[
    "raspberrypi,model-zero-w",
    "raspberrypi,model-zero-2-w",
    "raspberrypi,model-zero-2",
    "raspberrypi,3-model-a-plus",
    "raspberrypi,3-model-b",
    "raspberrypi,3-model-b-plus",
    "raspberrypi,4-model-b",
    "raspberrypi,400",
    "raspberrypi,5-model-b",
    "raspberrypi,500",
];

/// Where `/sys`, `/proc` and the modules are.
#[derive(Debug, Clone)]
pub struct Sys {
    /// `/`, but for tests.
    pub root: PathBuf,
}

impl Default for Sys {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl Sys {
    /// A path below the root.
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root.join(below)
    }

    /// What a small file says, without the newline or NUL at its end.
    pub fn text(&self, below: impl AsRef<Path>) -> Option<String> {
        let text = fs::read(self.path(below)).ok()?;
        Some(String::from_utf8_lossy(&text).trim_end_matches(['\n', '\0']).to_owned())
    }

    /// The names in a directory, sorted; none if it is not there.
    pub fn names(&self, below: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(below)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.flatten().filter_map(|entry| entry.file_name().to_str().map(str::to_owned)).collect();
        names.sort();
        names
    }

    /// The last part of where a symbolic link leads.
    pub fn link(&self, below: impl AsRef<Path>) -> Option<String> {
        let target = fs::read_link(self.path(below)).ok()?;
        target.file_name().and_then(OsStr::to_str).map(str::to_owned)
    }

    /// Whether it is there.
    pub fn has(&self, below: impl AsRef<Path>) -> bool {
        self.path(below).symlink_metadata().is_ok()
    }
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Look {
    /// The chip and its driver; what the kernel's log says of them is not in here.
    pub hardware: Hardware,
    /// The interface; its bands, power save and whether it can do SAE have to be asked elsewhere.
    pub radio: Option<Radio>,
    /// The switches.
    pub rfkill: Rfkill,
    /// True if this board has a chip, or must have one by its device tree.
    pub wants: bool,
}

/// Looks at all of it.
pub fn look(sys: &Sys) -> Look {
    let compatible = sys.text("sys/firmware/devicetree/base/compatible").unwrap_or_default();
    let board = compatible.split('\0').next().unwrap_or_default().to_owned();
    let sdio = sdio(sys);
    let radio = radio(sys);
    let chip = sdio.iter().any(|id| VENDORS.iter().any(|vendor| id.starts_with(vendor)));
    let expects_sdio = expects_sdio(sys, &board);
    let wants = expects_sdio || chip;
    let (driver, vendor_module) = match &radio {
        // Whatever it is, it works.
        Some(radio) if radio.driver != modules::DRIVER => (ModuleState::Loaded, ModuleState::Unknown),
        Some(_) => (ModuleState::Loaded, modules::vendor(sys)),
        None if wants => (modules::state(sys, modules::DRIVER), modules::vendor(sys)),
        None => (ModuleState::Unknown, ModuleState::Unknown),
    };
    let hardware = Hardware {
        compatible: board,
        expects_sdio,
        sdio,
        driver,
        vendor_module,
        kernel: Vec::new(),
        under_voltage: under_voltage(sys),
    };
    Look { hardware, radio, rfkill: rfkill(sys), wants }
}

/// Whether a chip must be there. `dtoverlay=disable-wifi` disables the SDIO controller in the device tree, and then it must
/// not; a board that is no Raspberry Pi has it if its device tree says so.
fn expects_sdio(sys: &Sys, board: &str) -> bool {
    let base = "sys/firmware/devicetree/base";
    let disabled = |node: &str| sys.text(format!("{node}/status")).is_some_and(|status| status == "disabled");
    // `soc/mmcnr@7e300000/wifi@1`, on a Pi 5 `axi/mmc@1100000/wifi@1`.
    let mut nodes = Vec::new();
    for bus in sys.names(base).into_iter().map(|bus| format!("{base}/{bus}")) {
        for host in sys.names(&bus).into_iter().filter(|name| name.starts_with("mmc")) {
            let host = format!("{bus}/{host}");
            for wifi in sys.names(&host).into_iter().filter(|name| name.starts_with("wifi@")) {
                nodes.push(!disabled(&host) && !disabled(&format!("{host}/{wifi}")));
            }
        }
    }
    match nodes.contains(&true) {
        true => !MAYBE.contains(&board),
        // A device tree without such a node, of an older kernel.
        false => nodes.is_empty() && ALWAYS.contains(&board),
    }
}

/// Each function of an SDIO card is a device; the card is told once.
fn sdio(sys: &Sys) -> Vec<String> {
    let base = "sys/bus/sdio/devices";
    let mut found = Vec::new();
    for name in sys.names(base) {
        if let (Some(vendor), Some(device)) =
            (sys.text(format!("{base}/{name}/vendor")), sys.text(format!("{base}/{name}/device")))
        {
            let id = format!("{vendor}:{device}");
            if !found.contains(&id) {
                found.push(id);
            }
        }
    }
    found
}

/// The wireless interface: the chip's own if there are several (somebody's USB stick), and the oldest of these. Monitors
/// are of another link type; access points made beside it are younger.
fn radio(sys: &Sys) -> Option<Radio> {
    let base = "sys/class/net";
    let wireless = sys.names(base).into_iter().filter_map(|interface| {
        let dir = format!("{base}/{interface}");
        let phy = sys.link(format!("{dir}/phy80211"))?;
        // ARPHRD_ETHER.
        if sys.text(format!("{dir}/type"))? != "1" {
            return None;
        }
        let index: u32 = sys.text(format!("{dir}/ifindex"))?.parse().ok()?;
        let driver = sys.link(format!("{dir}/device/driver")).unwrap_or_default();
        let rank = (driver != modules::DRIVER, index);
        Some((rank, Radio { interface, phy, driver, ..Radio::default() }))
    });
    wireless.min_by_key(|(rank, _)| *rank).map(|(_, radio)| radio)
}

/// All switches of type wlan together.
fn rfkill(sys: &Sys) -> Rfkill {
    let base = "sys/class/rfkill";
    let mut all = Rfkill::default();
    for name in sys.names(base) {
        let says = |file: &str| sys.text(format!("{base}/{name}/{file}"));
        if says("type").as_deref() == Some("wlan") {
            all.soft |= says("soft").as_deref() == Some("1");
            all.hard |= says("hard").as_deref() == Some("1");
        }
    }
    all
}

/// drivers/hwmon/raspberrypi-hwmon.c
fn under_voltage(sys: &Sys) -> bool {
    let base = "sys/class/hwmon";
    sys.names(base).iter().any(|name| {
        sys.text(format!("{base}/{name}/name")).as_deref() == Some("rpi_volt")
            && sys.text(format!("{base}/{name}/in0_lcrit_alarm")).as_deref() == Some("1")
    })
}

/// The wall clock. Whoever sets it is believed to be systemd-timesyncd, which leaves this file
/// (systemd-timesyncd.service(8)): adjtimex(2) can't be called without unsafe code.
pub fn clock() -> Clock {
    Clock {
        unix: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        built: env!("CYGNET_BUILT").parse().unwrap_or(0),
        synchronized: Path::new("/run/systemd/timesync/synchronized").exists(),
    }
}

#[cfg(test)]
mod tests {
    use super::tree::Tree;
    use super::*;

    #[test]
    fn a_pi_4_that_is_well() {
        let tree = Tree::pi_4();
        let look = look(&tree.sys);
        assert_eq!(
            look.hardware,
            Hardware {
                compatible: "raspberrypi,4-model-b".into(),
                expects_sdio: true,
                sdio: vec!["0x02d0:0xa9a6".into()],
                driver: ModuleState::Loaded,
                vendor_module: ModuleState::Loaded,
                kernel: vec![],
                under_voltage: false,
            }
        );
        let radio = look.radio.unwrap();
        assert_eq!((&*radio.interface, &*radio.phy, &*radio.driver), ("wlan0", "phy0", "brcmfmac"));
        assert_eq!(look.rfkill, Rfkill::default());
        assert!(look.wants);
    }

    #[test]
    fn links_that_are_missing_are_seen_to_be() {
        let tree = Tree::pi_4();
        tree.remove("sys/class/net/wlan0");
        tree.remove("sys/module/brcmfmac_wcc");
        tree.write("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n");
        let seen = look(&tree.sys);
        assert_eq!(seen.radio, None);
        assert_eq!((seen.hardware.driver, seen.hardware.vendor_module), (ModuleState::Loaded, ModuleState::Available));
        assert!(seen.hardware.under_voltage);

        tree.remove("sys/module/brcmfmac");
        assert_eq!(look(&tree.sys).hardware.driver, ModuleState::Available);
        tree.write(&format!("lib/modules/{}/modules.dep", tree::RELEASE), "kernel/fs/fat/vfat.ko.xz:\n");
        let seen = look(&tree.sys).hardware;
        assert_eq!((seen.driver, seen.vendor_module), (ModuleState::Missing, ModuleState::Missing));

        tree.remove("sys/bus/sdio/devices");
        let seen = look(&tree.sys);
        assert!(seen.hardware.sdio.is_empty() && seen.hardware.expects_sdio && seen.wants);
        let wifi = "sys/firmware/devicetree/base/soc/mmcnr@7e300000";
        tree.write(&format!("{wifi}/status"), "disabled\0");
        assert!(!look(&tree.sys).wants);
        tree.remove(wifi);
        assert!(look(&tree.sys).wants);
    }

    #[test]
    fn switches_are_taken_together_and_bluetooth_is_left_out() {
        let tree = Tree::pi_4();
        tree.write("sys/class/rfkill/rfkill1/soft", "1\n");
        assert_eq!(look(&tree.sys).rfkill, Rfkill { soft: true, hard: false });
        tree.write("sys/class/rfkill/rfkill1/soft", "0\n");
        tree.write("sys/class/rfkill/rfkill0/soft", "1\n");
        assert_eq!(look(&tree.sys).rfkill, Rfkill::default());
    }

    #[test]
    fn the_chips_interface_is_found_by_its_phy_and_before_others() {
        let tree = Tree::pi_4();
        tree.interface("wlan1", 2, "1", Some(("phy1", "rt2800usb")));
        tree.interface("mon0", 7, "803", Some(("phy0", "brcmfmac")));
        tree.interface("uap0", 8, "1", Some(("phy0", "brcmfmac")));
        assert_eq!(look(&tree.sys).radio.unwrap().interface, "wlan0");
        tree.remove("sys/class/net/wlan0");
        tree.interface("internet", 3, "1", Some(("phy0", "brcmfmac")));
        assert_eq!(look(&tree.sys).radio.unwrap().interface, "internet");
        for name in ["internet", "uap0"] {
            tree.remove(&format!("sys/class/net/{name}"));
        }
        let seen = look(&tree.sys);
        assert_eq!(seen.radio.unwrap().driver, "rt2800usb");
        assert_eq!(seen.hardware.driver, ModuleState::Loaded);
    }

    #[test]
    fn where_there_is_nothing_nothing_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(look(&Sys { root: dir.path().into() }), Look::default());
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let seen = look(&Sys::default());
        eprintln!("{seen:?} {:?}", clock());
        assert!(clock().unix > clock().built);
    }
}
