//! Tells the firmware of a Pi 5 what to start once: `set_reboot_order`, through the mailbox of the VideoCore.
//!
//! Sources: raspberrypi/linux (`drivers/char/broadcom/vcio.c`: `IOCTL_MBOX_PROPERTY` is `_IOWR(100, 0, char *)`),
//! raspberrypi/firmware wiki (mailbox property interface), raspberrypi/rpi-eeprom (release notes 2712 of 2025-01-14: tag
//! 0x0003808b). The order is gone once it was read, and by a power cut, which is the order of the EEPROM again.

use cygnet_protocol::boot::way::Order;
use cygnet_protocol::fault::{Fault, FaultCode};
use rustix::ioctl::opcode;
use std::fs::OpenOptions;
use std::path::Path;

/// The mailbox for user space; only the Raspberry Pi kernel has it.
const DEVICE: &str = "/dev/vcio";
/// `set_reboot_order`.
const TAG: u32 = 0x0003_808b;
/// The request, and the reply to one that was taken, in the second word of the buffer.
const REQUEST: u32 = 0;
const TAKEN: u32 = 0x8000_0000;
/// In a tag's third word: the firmware has answered it.
const ANSWERED: u32 = 0x8000_0000;

/// Whether the kernel has the mailbox.
pub fn is_there() -> Result<(), Fault> {
    if Path::new(DEVICE).exists() { Ok(()) } else { Err(refused("this kernel has no /dev/vcio")) }
}

/// Has the firmware start in this order, once.
pub fn set_reboot_order(order: Order) -> Result<(), Fault> {
    let device = OpenOptions::new().read(true).write(true).open(DEVICE);
    let device = device.map_err(|error| refused(&format!("opening {DEVICE}: {error}")))?;
    let mut buffer = request(order);
    property(&device, &mut buffer).map_err(|error| refused(&format!("asking the firmware: {error}")))?;
    check(&buffer).map_err(refused)
}

/// The buffer: its size in bytes, the code, one tag (name, size of its value, code, value), the end.
fn request(order: Order) -> [u32; 7] {
    [7 * 4, REQUEST, TAG, 4, 0, order.value(), 0]
}

fn check(reply: &[u32; 7]) -> Result<(), &'static str> {
    match (reply[1], reply[4] & ANSWERED) {
        (TAKEN, ANSWERED) => Ok(()),
        (TAKEN, _) => Err("the firmware does not know set_reboot_order"),
        _ => Err("the firmware did not take the request"),
    }
}

/// The one ioctl.
#[allow(unsafe_code, reason = "there is no other way to the mailbox, and no crate has it")]
fn property(device: &std::fs::File, buffer: &mut [u32; 7]) -> std::io::Result<()> {
    /// `_IOWR(100, 0, char *)`: the number has the size of a pointer, and what it points to has the buffer's own.
    const PROPERTY: rustix::ioctl::Opcode = opcode::read_write::<*mut u8>(100, 0);
    // SAFETY: the driver copies as many bytes from and to the address as the first word says, and that is this array's size,
    // which the firmware does not change. The array lives until the call has returned, and nobody else has it.
    unsafe {
        let call = rustix::ioctl::Updater::<PROPERTY, [u32; 7]>::new(buffer);
        rustix::ioctl::ioctl(device, call)?;
    }
    Ok(())
}

fn refused(why: &str) -> Fault {
    Fault::new(
        FaultCode::NoSwitch,
        format!("The firmware could not be told to start the SSD: {why}."),
        "Only the Raspberry Pi kernel has the mailbox, and only a boot loader of 2025-01-14 or newer in the EEPROM knows the order.",
        "Update the EEPROM (rpi-eeprom-update), or put the SSD first in BOOT_ORDER; or install with `--boot-from ssd` and pull the card when the Pi reboots.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_the_drivers() {
        // _IOC(READ|WRITE, 100, 0, sizeof(char *)), as include/uapi/asm-generic/ioctl.h makes it.
        #[cfg(target_pointer_width = "64")]
        assert_eq!(opcode::read_write::<*mut u8>(100, 0), 0xc008_6400);
    }

    #[test]
    fn the_reply_is_looked_at() {
        let asked = request(Order::Nvme);
        assert_eq!(asked, [28, 0, 0x0003_808b, 4, 0, 0xf16, 0]);
        assert!(check(&asked).is_err(), "nobody answered");
        let mut reply = asked;
        reply[1] = TAKEN;
        assert!(check(&reply).unwrap_err().contains("does not know"));
        reply[4] = 0x8000_0004;
        assert_eq!(check(&reply), Ok(()));
        reply[1] = 0x8000_0001;
        assert!(check(&reply).is_err());
    }

    #[test]
    fn another_device_refuses_the_call() {
        let device = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
        assert!(property(&device, &mut request(Order::Usb)).is_err());
    }
}
