//! Orders a trial: U-Boot gets its environment, and then the switch says `once`.
//!
//! The environment is first, and on the card, before the switch is: a power cut in between ends on the card, as without any of it.

use super::confirm::note_change;
use super::{file, place, vcio};
use crate::firmware::{Firmware, FirmwareError};
use cygnet_protocol::boot::ENVIRONMENT;
use cygnet_protocol::boot::build::{self, Build, NoSwitch};
use cygnet_protocol::boot::config_txt;
use cygnet_protocol::boot::environment::{Devices, Environment, SIZE};
use cygnet_protocol::boot::switch::{Act, Switch};
use cygnet_protocol::boot::way::{Order, Way, way};
use cygnet_protocol::fault::{Fault, FaultCode, sentence};
use cygnet_protocol::message::BootFrom;
use cygnet_protocol::plan::Plan;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What was armed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Armed {
    /// The switch on the card.
    Switch {
        /// U-Boot's release, if it says.
        release: String,
    },
    /// The firmware's order for the next start.
    Order(Order),
}

/// What passes from the card to the disks of a plan.
pub fn way_of(plan: &Plan, board: &str) -> Way {
    let mut ways = plan.disks.iter().map(|disk| way(board, disk.facts.bus.as_deref()));
    let works = ways.clone().find(|way| !matches!(way, Way::None(_)));
    works.or_else(|| ways.next()).unwrap_or(Way::None(cygnet_protocol::boot::way::Missing::Unknown))
}

/// Whether a trial could be armed: everything but the writing.
pub fn possible(way: &Way, board: &str) -> Result<(), Fault> {
    match way {
        Way::UBoot(devices) => {
            let (fat, _) = place::open(board)?;
            environment(fat.path(), board, devices).map(drop)
        }
        Way::RebootOrder(_) => vcio::is_there(),
        Way::None(_) => Err(no_way(way, board)),
    }
}

/// Whether the card will start the disks of a plan, if it is asked to.
pub fn from_card(wish: Option<BootFrom>, plan: &Plan, board: &str) -> bool {
    match wish {
        Some(BootFrom::Auto | BootFrom::Card) => {
            let way = way_of(plan, board);
            matches!(way, Way::UBoot(_)) && possible(&way, board).is_ok()
        }
        Some(BootFrom::Ssd) | None => false,
    }
}

/// Arms the trial.
pub fn arm(way: &Way, board: &str) -> Result<Armed, Fault> {
    match way {
        Way::UBoot(devices) => {
            let (fat, _) = place::open(board)?;
            arm_at(fat, board, devices)
        }
        Way::RebootOrder(order) => vcio::set_reboot_order(*order).map(|()| Armed::Order(*order)),
        Way::None(_) => Err(no_way(way, board)),
    }
}

fn arm_at(mut fat: Firmware, board: &str, devices: &Devices) -> Result<Armed, Fault> {
    let (build, environment) = environment(fat.path(), board, devices)?;
    fat.make_writable().map_err(not_writable)?;
    file::write_environment(fat.path(), &environment.render())?;
    file::renumber(fat.path())?;
    let now = file::read(fat.path()).map_or(Switch::Card, file::Reading::switch);
    let armed = now.after(Act::Arm).unwrap_or(Switch::Once);
    file::write(fat.path(), armed)?;
    note_change(armed);
    Ok(Armed::Switch { release: build.release.map_or_else(|| "U-Boot".into(), |release| format!("U-Boot {release}")) })
}

/// The environment for the U-Boot that the firmware starts from this partition.
pub fn environment(fat: &Path, board: &str, devices: &Devices) -> Result<(Build, Environment), Fault> {
    let name = kernel(fat, board)?;
    let binary = read_bounded(&fat.join(&name), build::MOST).map_err(|error| {
        Fault::new(
            FaultCode::NoSwitch,
            format!("{name} on the card, which its firmware starts, could not be read: {error}."),
            "The card's config.txt names a file that is not there, or its file system is damaged.",
            "Flash the card anew, or install with `--boot-from ssd` and pull the card afterwards.",
        )
    })?;
    let refused = |refusal: NoSwitch| {
        let (cause, remedy) = refusal.advice();
        Fault::new(
            FaultCode::NoSwitch,
            sentence(&format!("the card cannot pass on to the SSD: {refusal}")),
            cause,
            remedy,
        )
    };
    let build = Build::find(&name, &binary).map_err(refused)?;
    // QEMU's keeps its environment in flash memory, where the one who starts QEMU puts it.
    if devices.usb && !build.in_fat {
        return Err(refused(NoSwitch::OtherPlace(name)));
    }
    // Damaged or missing, U-Boot takes what was compiled in.
    let there = read_bounded(&fat.join(ENVIRONMENT), SIZE).ok().and_then(|file| Environment::parse(&file).ok());
    let environment = Environment::for_card(&build, devices, there.as_ref()).map_err(refused)?;
    match Environment::parse(&environment.render()) {
        Ok(read) if read == environment => Ok((build, environment)),
        Ok(_) | Err(_) => Err(Fault::internal("The environment for U-Boot is not read as it was written.", build.file)),
    }
}

/// What the firmware starts. Without a `config.txt` there is no such firmware, and U-Boot has its own name.
fn kernel(fat: &Path, board: &str) -> Result<String, Fault> {
    match read_bounded(&fat.join("config.txt"), config_txt::MOST) {
        Ok(text) => config_txt::kernel(&String::from_utf8_lossy(&text), board).ok_or_else(|| {
            Fault::new(
                FaultCode::NoSwitch,
                "The config.txt of the card names no kernel at the top of its partition.",
                "It was edited, or is another system's.",
                "Flash the card anew, or install with `--boot-from ssd` and pull the card afterwards.",
            )
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok("u-boot.bin".to_owned()),
        Err(error) => Err(Fault::internal("The config.txt of the card could not be read.", error)),
    }
}

fn read_bounded(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most { Err(io::Error::other("it is too large")) } else { Ok(bytes) }
}

pub(super) fn not_writable(error: FirmwareError) -> Fault {
    Fault::new(
        FaultCode::NoSwitch,
        sentence(&format!("the card's FAT partition could not be made writable: {error}")),
        "The card is write-protected or worn out, or somebody has mounted it read-only.",
        "Use another card; or install with `--boot-from ssd` and pull the card afterwards.",
    )
}

fn no_way(way: &Way, board: &str) -> Fault {
    Fault::new(
        FaultCode::NoSwitch,
        "The card cannot pass on to the SSD by itself.",
        sentence(&way.sentence(board)),
        "Install with `--boot-from ssd`, and pull the card when the Pi reboots.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const PI: &str = "Raspberry Pi 4 Model B Rev 1.5";

    fn binary(in_fat: &str) -> Vec<u8> {
        let mut bytes = b"\x01\0U-Boot 2025.01 (x)\0\xff\0bootcmd=bootflow scan\0preboot=usb start\0scriptaddr=1\0\
            kernel_addr_r=2\0ramdisk_addr_r=3\0\0\0fatload\0fatwrite\0bootflow\0env export [-t\0env import [-d] [-t\0\
            start - start (scan) USB\0"
            .to_vec();
        bytes.extend(in_fat.as_bytes());
        bytes
    }

    #[test]
    fn the_u_boot_that_the_firmware_starts_is_the_one_that_is_looked_into() {
        let fat = tempfile::tempdir().unwrap();
        let of = |board: &str, devices: &Devices| environment(fat.path(), board, devices);
        assert!(of(PI, &Devices::of_pi()).unwrap_err().what.contains("u-boot.bin"), "nothing is there");
        fs::write(fat.path().join("u-boot.bin"), binary("")).unwrap();
        let (build, environment) = of("linux,dummy-virt", &Devices::of_virt(4)).unwrap();
        assert_eq!((build.file.as_str(), environment.get("scriptaddr")), ("u-boot.bin", Some("1")));
        fs::write(fat.path().join("config.txt"), "[pi4]\nkernel=u-boot-rpi4.bin\n[pi3]\nkernel=../x\n").unwrap();
        fs::write(fat.path().join("u-boot-rpi4.bin"), binary("")).unwrap();
        assert!(of(PI, &Devices::of_pi()).unwrap_err().what.contains("uboot.env"), "its environment is elsewhere");
        fs::write(fat.path().join("u-boot-rpi4.bin"), binary("uboot.env\0")).unwrap();
        assert_eq!(of(PI, &Devices::of_pi()).unwrap().0.file, "u-boot-rpi4.bin");
        assert!(of("Raspberry Pi 3 Model B Rev 1.2", &Devices::of_pi()).is_err(), "a path out of the partition");
        fs::write(fat.path().join("u-boot-rpi4.bin"), "a kernel").unwrap();
        let fault = of(PI, &Devices::of_pi()).unwrap_err();
        assert_eq!(fault.code, FaultCode::NoSwitch);
        assert!(fault.remedy.contains("--boot-from ssd"), "{fault}");
    }

    #[test]
    fn a_board_without_a_way_is_refused_with_what_to_do() {
        let none = way("Raspberry Pi 4 Model B Rev 1.5", Some("nvme"));
        let fault = possible(&none, PI).unwrap_err();
        assert_eq!(arm(&none, PI), Err(fault.clone()));
        assert!(fault.cause.contains("pull") && fault.remedy.contains("--boot-from ssd"), "{fault}");
    }
}
