//! Which board can start which disk once, with its card in, and by what.
//!
//! Sources: raspberrypi/documentation (`bootflow-eeprom.adoc`, `bootflow-legacy.adoc`, `eeprom-bootloader.adoc`),
//! raspberrypi/rpi-eeprom (release notes of 2711 and 2712), u-boot/u-boot (`configs/rpi_*_defconfig`).
//!
//! A Raspberry Pi with its card in starts the card, whatever was installed: up to the Pi 3 and the Zero 2 the boot ROM looks there
//! first, and since the Pi 4 the `BOOT_ORDER` that they are delivered with (0xf41, 0xf461). Only the Pi 5's firmware can be told
//! another order for one start, and of the others only U-Boot on the card can pass on to another disk.

use super::environment::Devices;
use std::fmt;

/// What passes from the card to the SSD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// U-Boot on the card, by `uboot.env` and the switch.
    UBoot(Devices),
    /// The firmware, by `set_reboot_order`, for one start.
    RebootOrder(Order),
    /// Nothing does.
    None(Missing),
}

/// An order of boot modes for one start of a Pi 5, as in `BOOT_ORDER`: read from the right, 1 SD, 4 USB, 6 NVMe, f again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// USB, then the card.
    Usb,
    /// NVMe, then the card.
    Nvme,
}

impl Order {
    /// The value for the firmware.
    #[must_use]
    pub const fn value(self) -> u32 {
        match self {
            Order::Usb => 0xf14,
            Order::Nvme => 0xf16,
        }
    }
}

/// Why there is no way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// U-Boot has no driver for this bus on this board, and its firmware can't be told.
    Bus,
    /// The board is one that no U-Boot of 64 bits, and so no switch, is for.
    Board,
    /// The board is no Raspberry Pi, and how it starts is not known.
    Unknown,
}

/// The boards, by what their firmware and U-Boot can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Pi 3, Zero 2, Compute Module 3, and the Pi 2 with the Pi 3's chip: USB is dwc2.
    Rom,
    /// Pi 4, 400, Compute Modules 4: USB is behind PCIe, or dwc2.
    Eeprom2711,
    /// Pi 5, 500, Compute Module 5, and what comes after them.
    Eeprom2712,
    /// Those of 32 bits.
    Old,
    /// QEMU's `virt`.
    Virt,
    /// Another board.
    Other,
}

fn family(model: &str) -> Family {
    let Some(name) = model.strip_prefix("Raspberry Pi ") else {
        return if model == "linux,dummy-virt" { Family::Virt } else { Family::Other };
    };
    let is =
        |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '+']));
    if is("4") || is("400") || is("Compute Module 4") || is("Compute Module 4S") {
        Family::Eeprom2711
    } else if is("3") || is("Zero 2") || is("Compute Module 3") || is("2 Model B Rev 1.2") || is("2 Model B Rev 1.3") {
        Family::Rom
    } else if is("2") || is("Zero") || is("Model") || is("Compute Module Rev") || name == "Compute Module" {
        Family::Old
    } else {
        Family::Eeprom2712
    }
}

/// What passes from the card to a disk on this bus, as `lsblk` and the plan call it: `usb`, `nvme`, `virtio`.
#[must_use]
pub fn way(model: &str, bus: Option<&str>) -> Way {
    match (family(model), bus) {
        (Family::Rom | Family::Eeprom2711, Some("usb")) => Way::UBoot(Devices::of_pi()),
        (Family::Eeprom2712, Some("usb")) => Way::RebootOrder(Order::Usb),
        (Family::Eeprom2712, Some("nvme")) => Way::RebootOrder(Order::Nvme),
        (Family::Virt, Some("virtio")) => Way::UBoot(Devices::of_virt(VIRT_DISKS)),
        (Family::Rom | Family::Eeprom2711 | Family::Eeprom2712 | Family::Virt, _) => Way::None(Missing::Bus),
        (Family::Old, _) => Way::None(Missing::Board),
        (Family::Other, _) => Way::None(Missing::Unknown),
    }
}

/// So many virtio devices are looked at in QEMU's `virt`, the card included.
const VIRT_DISKS: u8 = 8;

impl Way {
    /// For the plan: how it starts, and what that asks for.
    #[must_use]
    pub fn sentence(&self, model: &str) -> String {
        match self {
            Way::UBoot(_) => format!(
                "from the card: the card stays in, its U-Boot starts the SSD, once on trial and for good when that is confirmed; \
                 otherwise the {model} comes back to the card by itself"
            ),
            Way::RebootOrder(_) => format!(
                "the firmware of the {model} is told to start the SSD once (set_reboot_order, boot loader of 2025-01-14 or newer); for \
                 good, pull the card then, or put the SSD first in BOOT_ORDER"
            ),
            Way::None(Missing::Bus) => format!(
                "nothing on the card of the {model} can pass on to a disk on this bus: it starts the card as long as that is in; pull \
                 the card when the Pi reboots, or put the disk first in BOOT_ORDER where the board has that"
            ),
            Way::None(Missing::Board) => {
                format!("the {model} has no U-Boot that could pass on to the SSD; pull the card when it reboots")
            }
            Way::None(Missing::Unknown) => {
                format!(
                    "how the {model} chooses what it starts is not known here; take the card out if it starts that again"
                )
            }
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_and_bus_has_an_answer() {
        let usb = || Way::UBoot(Devices::of_pi());
        for (model, on_usb, on_nvme) in [
            ("Raspberry Pi 3 Model B Rev 1.2", usb(), Way::None(Missing::Bus)),
            ("Raspberry Pi 3 Model B Plus Rev 1.3", usb(), Way::None(Missing::Bus)),
            ("Raspberry Pi Zero 2 W Rev 1.0", usb(), Way::None(Missing::Bus)),
            ("Raspberry Pi Compute Module 3 Plus Rev 1.0", usb(), Way::None(Missing::Bus)),
            ("Raspberry Pi 2 Model B Rev 1.2", usb(), Way::None(Missing::Bus)),
            ("Raspberry Pi 4 Model B Rev 1.5", usb(), Way::None(Missing::Bus)),
            ("Raspberry Pi 400 Rev 1.0", usb(), Way::None(Missing::Bus)),
            ("Raspberry Pi Compute Module 4 Rev 1.1", usb(), Way::None(Missing::Bus)),
            ("Raspberry Pi Compute Module 4S Rev 1.0", usb(), Way::None(Missing::Bus)),
            ("Raspberry Pi 5 Model B Rev 1.0", Way::RebootOrder(Order::Usb), Way::RebootOrder(Order::Nvme)),
            ("Raspberry Pi 500 Rev 1.0", Way::RebootOrder(Order::Usb), Way::RebootOrder(Order::Nvme)),
            ("Raspberry Pi Compute Module 5 Rev 1.0", Way::RebootOrder(Order::Usb), Way::RebootOrder(Order::Nvme)),
            ("Raspberry Pi 2 Model B Rev 1.1", Way::None(Missing::Board), Way::None(Missing::Board)),
            ("Raspberry Pi Zero W Rev 1.1", Way::None(Missing::Board), Way::None(Missing::Board)),
            ("Raspberry Pi Model B Plus Rev 1.2", Way::None(Missing::Board), Way::None(Missing::Board)),
            ("Radxa ROCK 5B", Way::None(Missing::Unknown), Way::None(Missing::Unknown)),
        ] {
            assert_eq!(way(model, Some("usb")), on_usb, "{model}");
            assert_eq!(way(model, Some("nvme")), on_nvme, "{model}");
            assert!(matches!(way(model, None), Way::None(_)), "{model}");
            for way in [on_usb, on_nvme] {
                assert!(way.sentence(model).contains(model) || matches!(way, Way::UBoot(_)), "{way:?}");
            }
        }
        assert!(matches!(way("linux,dummy-virt", Some("virtio")), Way::UBoot(Devices { usb: false, .. })));
        assert_eq!(way("linux,dummy-virt", Some("usb")), Way::None(Missing::Bus));
        assert_eq!((Order::Usb.value(), Order::Nvme.to_string()), (0xf14, "0xf16".into()));
    }
}
