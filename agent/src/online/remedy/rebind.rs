//! The SDIO controller of the WiFi chip, and never another one: its driver is unbound from it and bound again, which also
//! takes the chip's power away for a moment where the board can.

use super::super::hardware::Sys;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why it can't be done.
#[derive(Debug, thiserror::Error)]
pub enum RebindError {
    /// There is neither a chip on the bus nor a place for one in the device tree.
    #[error("no SDIO controller with a WiFi chip was found")]
    NoHost,
    /// The system runs from it, maybe.
    #[error("a memory card is on the same controller ({host}), so it is left alone")]
    Disk {
        /// `mmc0`.
        host: String,
    },
    /// It is not as sysfs should be.
    #[error("the controller {host} has no driver in sysfs: {source}")]
    NoDriver {
        /// `mmc1`.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The driver did not let go or did not take it back.
    #[error("writing {device} to {}: {source}", file.display())]
    Write {
        /// The device.
        device: String,
        /// `bind` or `unbind` of its driver.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A controller and its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// As the driver calls it: `fe300000.mmcnr`.
    pub device: String,
    /// The driver's directory.
    pub driver: PathBuf,
}

/// Finds the controller with the chip.
pub fn find(sys: &Sys) -> Result<Controller, RebindError> {
    let host = with_chip(sys).or_else(|| with_place(sys)).ok_or(RebindError::NoHost)?;
    if disks(sys).contains(&host) {
        return Err(RebindError::Disk { host });
    }
    let no_driver = |source| RebindError::NoDriver { host: host.clone(), source };
    let device = fs::canonicalize(sys.path(format!("sys/class/mmc_host/{host}/device"))).map_err(no_driver)?;
    let driver = fs::canonicalize(device.join("driver")).map_err(no_driver)?;
    let name = device.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| no_driver(io::ErrorKind::InvalidData.into()))?;
    Ok(Controller { device: name.to_owned(), driver })
}

/// Unbinds and binds it. May hang for as long as the controller does.
pub fn rebind(controller: &Controller) -> Result<(), RebindError> {
    for file in ["unbind", "bind"] {
        let file = controller.driver.join(file);
        let mut open = fs::OpenOptions::new();
        let written = open.write(true).open(&file);
        let written = written.and_then(|mut open| io::Write::write_all(&mut open, controller.device.as_bytes()));
        written.map_err(|source| RebindError::Write { device: controller.device.clone(), file, source })?;
    }
    Ok(())
}

/// The host of the first device on the SDIO bus: `mmc1` of `mmc1:0001:1`.
fn with_chip(sys: &Sys) -> Option<String> {
    let devices = sys.names("sys/bus/sdio/devices");
    devices.iter().find_map(|name| name.split_once(':')).map(|(host, _)| host.to_owned())
}

/// The host whose node in the device tree has a place for a chip, for when the chip itself is not seen.
fn with_place(sys: &Sys) -> Option<String> {
    let base = "sys/class/mmc_host";
    sys.names(base).into_iter().find(|host| {
        let node = format!("{base}/{host}/device/of_node");
        sys.names(node).iter().any(|child| child.starts_with("wifi@"))
    })
}

/// The hosts that disks are on: `…/mmc_host/mmc0/mmc0:aaaa` of each `/sys/block/mmcblk*/device`.
fn disks(sys: &Sys) -> Vec<String> {
    let blocks = sys.names("sys/block").into_iter().filter(|name| name.starts_with("mmcblk"));
    let paths = blocks.filter_map(|name| fs::canonicalize(sys.path(format!("sys/block/{name}/device"))).ok());
    paths.filter_map(|path| host_in(&path)).collect()
}

fn host_in(path: &Path) -> Option<String> {
    let mut parts = path.iter().skip_while(|part| *part != "mmc_host");
    parts.nth(1).and_then(|host| host.to_str()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::super::hardware::tree::Tree;
    use super::*;

    fn written(tree: &Tree, file: &str) -> String {
        fs::read_to_string(tree.sys.path(format!("sys/bus/platform/drivers/{file}"))).unwrap()
    }

    #[test]
    fn the_chips_controller_is_unbound_and_bound() {
        let tree = Tree::pi_4();
        let controller = find(&tree.sys).unwrap();
        assert_eq!(controller.device, "fe300000.mmcnr");
        rebind(&controller).unwrap();
        for file in ["unbind", "bind"] {
            assert_eq!(written(&tree, &format!("mmc-bcm2835/{file}")), "fe300000.mmcnr");
            assert_eq!(written(&tree, &format!("sdhci-iproc/{file}")), "");
        }
        // Also when the chip is not to be seen.
        tree.remove("sys/bus/sdio/devices");
        assert_eq!(find(&tree.sys).unwrap(), controller);
        tree.remove("sys/bus/platform/drivers/mmc-bcm2835/unbind");
        let error = rebind(&controller).unwrap_err();
        assert!(matches!(error, RebindError::Write { .. }), "{error}");
    }

    #[test]
    fn the_cards_controller_is_left_alone() {
        let tree = Tree::pi_4();
        // An SDIO device beside the card would be a combination card; nothing is worth the card.
        tree.remove("sys/bus/sdio/devices");
        tree.dir("sys/bus/sdio/devices/mmc0:aaaa:1");
        assert!(matches!(find(&tree.sys), Err(RebindError::Disk { host }) if host == "mmc0"));
    }

    #[test]
    fn where_there_is_no_chip_nothing_is_touched() {
        let tree = Tree::pi_4();
        tree.remove("sys/bus/sdio/devices");
        tree.remove("sys/firmware/devicetree/base/soc/mmcnr@7e300000/wifi@1");
        assert!(matches!(find(&tree.sys), Err(RebindError::NoHost)));
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(find(&Sys { root: dir.path().into() }), Err(RebindError::NoHost)));
    }
}
