//! QEMU's Raspberry Pi 3 Model B: a real SD slot, a USB disk and a USB network card on dwc2, the board's own device tree.
//!
//! Otherwise than a real one: its firmware is not run (QEMU starts U-Boot and hands over the device tree), `/dev/watchdog` resets it at
//! once when it is opened, it has no serial number, no WiFi and no GPIO of the firmware, and its USB is full speed. dwc2
//! reports a connection only once, and U-Boot has taken it, so the disk is replugged each time a kernel starts.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::{Machine, common, drive};
use crate::pi::disk::Disk;
use crate::pi::qmp::Qmp;
use crate::pi::serial::Serial;

/// The card's kernel on this board. Its serial console is the mini UART.
pub const COMMAND_LINE: &str = "console=ttyS1,115200 rw panic=-1 systemd.log_color=0 systemd.show_status=1 \
     mitigations=off nokaslr kpti=off norandmaps init_on_alloc=0";

/// What U-Boot says when a kernel has the machine.
const KERNEL: &str = "Starting kernel";
/// QEMU's name of the SSD's device.
const DEVICE: &str = "ssd0";

/// QEMU's arguments.
pub fn arguments(machine: &Machine, u_boot: &Path, device_tree: &Path) -> Vec<String> {
    let mut arguments = common(machine);
    arguments.extend(
        // One thread: with more of them QEMU is twice as slow on this board.
        ["-M", "raspi3b", "-accel", "tcg,thread=single,tb-size=512", "-serial", "null", "-serial", "stdio"]
            .map(str::to_owned),
    );
    let mut add = |pair: [String; 2]| arguments.extend(pair);
    add(["-kernel".into(), u_boot.display().to_string()]);
    add(["-dtb".into(), device_tree.display().to_string()]);
    if let Some(card) = &machine.card {
        add(drive(card, "sd"));
    }
    if let Some(ssd) = machine.ssds.first() {
        add(drive(ssd, "none"));
        let serial = &ssd.serial;
        add(["-device".into(), format!("usb-storage,bus=usb-bus.0,port=1,drive={serial},id={DEVICE},serial={serial}")]);
    }
    add(["-netdev".into(), format!("tap,id=net0,ifname={},script=no,downscript=no", machine.port.tap)]);
    add(["-device".into(), format!("usb-net,bus=usb-bus.0,netdev=net0,mac={}", machine.port.mac)]);
    arguments
}

/// Pulls the SSD and plugs it in again whenever U-Boot hands over to a kernel, for as long as the machine is on.
///
/// # Errors
/// If no thread can be started.
pub fn replug_at_each_kernel(serial: &Serial, monitor: &Arc<Mutex<Qmp>>, ssd: &Disk) -> Result<()> {
    let (serial, monitor, ssd) = (serial.from_now_on(), Arc::clone(monitor), ssd.serial.clone());
    let replug = move || {
        // Ends when the console does.
        while serial.wait(KERNEL, Duration::from_secs(24 * 60 * 60)).is_ok() {
            let mut qmp = monitor.lock().unwrap_or_else(PoisonError::into_inner);
            let plugged = json!({
                "driver": "usb-storage", "bus": "usb-bus.0", "port": "1", "drive": ssd, "id": DEVICE, "serial": ssd,
            });
            if let Err(error) = qmp.unplug(DEVICE).and_then(|()| qmp.plug(&plugged)) {
                eprintln!("virtual Pi: replugging the SSD: {error:#}");
            }
        }
    };
    std::thread::Builder::new()
        .name("replug".into())
        .spawn(replug)
        .context("starting the thread that replugs")
        .map(drop)
}
