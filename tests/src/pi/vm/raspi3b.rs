//! QEMU's Raspberry Pi 3 Model B: a real SD slot, a USB disk and a USB network card on dwc2, the board's own device tree.
//!
//! Otherwise than a real one: its firmware is not run (QEMU starts U-Boot and hands over the device tree), `/dev/watchdog` resets it at
//! once when it is opened, it has no serial number, no WiFi and no GPIO of the firmware, and its USB is full speed. dwc2 reports a connection
//! only once, and U-Boot has taken it, so the hub with all behind it is replugged each time a kernel starts. Its state can't be saved: QEMU forgets interrupts that wait at its
//! bcm2836_control, and what was asked of the USB.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Machine;
use super::arguments::{common, drive, node};
use crate::pi::disk::Disk;
use crate::pi::qmp::Qmp;
use crate::pi::serial::Serial;

/// The card's kernel on this board. Its serial console is the mini UART.
pub const COMMAND_LINE: &str = "console=ttyS1,115200 rw panic=-1 systemd.log_color=0 systemd.show_status=1 \
     mitigations=off nokaslr kpti=off norandmaps init_on_alloc=0";

/// What U-Boot says when a kernel has the machine.
const KERNEL: &str = "Starting kernel";
/// QEMU's names of the devices, and where they are plugged in.
const HUB: &str = "hub0";
const HUB_PORT: &str = "1";
const SSD: &str = "ssd0";
const SSD_PORT: &str = "1.1";
const NET: &str = "usbnet0";
const NET_PORT: &str = "1.2";

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
        // A drive by `-drive` goes with its device.
        add(node(ssd));
    }
    add(["-netdev".into(), format!("tap,id=net0,ifname={},script=no,downscript=no", machine.port.tap)]);
    for device in hung(machine.ssds.first(), &machine.port.mac) {
        add(["-device".into(), device.to_string()]);
    }
    arguments
}

/// Pulls the hub with all behind it. Whoever is connected is gone then.
fn unplug(qmp: &mut Qmp, machine: &Machine) -> Result<()> {
    let devices = hung(machine.ssds.first(), &machine.port.mac);
    devices.iter().rev().filter_map(|device| device["id"].as_str()).try_for_each(|id| qmp.unplug(id))
}

/// Plugs the hub in with all behind it.
fn plug(qmp: &mut Qmp, machine: &Machine) -> Result<()> {
    hung(machine.ssds.first(), &machine.port.mac).iter().try_for_each(|device| qmp.plug(device))
}

/// What hangs at the USB, in the order in which it is plugged in. A Pi 3's only port of its own leads to a hub on the board, behind
/// which all else is.
fn hung(ssd: Option<&Disk>, mac: &str) -> Vec<Value> {
    let mut devices = vec![json!({ "driver": "usb-hub", "bus": "usb-bus.0", "port": HUB_PORT, "id": HUB })];
    devices.extend(ssd.map(|ssd| {
        json!({
            "driver": "usb-storage", "bus": "usb-bus.0", "port": SSD_PORT, "drive": ssd.serial, "id": SSD, "serial": ssd.serial,
        })
    }));
    devices.push(
        json!({ "driver": "usb-net", "bus": "usb-bus.0", "port": NET_PORT, "netdev": "net0", "id": NET, "mac": mac }),
    );
    devices
}

/// Pulls the hub with all behind it and plugs it in again whenever U-Boot hands over to a kernel, for as long as the machine is on.
///
/// # Errors
/// If no thread can be started.
pub fn replug_at_each_kernel(serial: &Serial, monitor: &Arc<Mutex<Qmp>>, machine: &Machine) -> Result<()> {
    let (serial, monitor, machine) = (serial.from_now_on(), Arc::clone(monitor), machine.clone());
    let replug = move || {
        // Ends when the console does.
        while serial.wait(KERNEL, Duration::from_secs(24 * 60 * 60)).is_ok() {
            let mut qmp = monitor.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = unplug(&mut qmp, &machine).and_then(|()| plug(&mut qmp, &machine)) {
                eprintln!("virtual Pi: replugging USB: {error:#}");
            }
        }
    };
    std::thread::Builder::new()
        .name("replug".into())
        .spawn(replug)
        .context("starting the thread that replugs")
        .map(drop)
}
