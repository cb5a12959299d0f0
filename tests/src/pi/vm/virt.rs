//! QEMU's own board for arm64, `-M virt`: no real machine is like it, and none is emulated as fast.
//!
//! Otherwise than on a Pi, card and SSDs are virtio disks, its U-Boot comes with the machine and not from the card, and the board's
//! name is `linux,dummy-virt`. That U-Boot keeps its environment in flash; what is in there does what a Pi's U-Boot does by itself: it takes
//! `uboot.env` from the card's FAT partition if that is whole, and else what was compiled in. As on a Pi, the card comes first.

use std::path::Path;

use super::arguments::{comma, common, drive};
use super::{Machine, SECOND_CABLE};
use crate::pi::rig;

/// Debian's kernel on this board, for the card and for what is installed.
///
/// Without page table isolation (which a kernel at a random address switches on) and address randomisation an emulator
/// translates and looks up much less: together they are worth a quarter of its time.
pub const COMMAND_LINE: &str = "console=ttyAMA0 rw panic=-1 systemd.log_color=0 systemd.show_status=1 \
     mitigations=off nokaslr kpti=off norandmaps init_on_alloc=0";

/// QEMU's arguments.
pub fn arguments(machine: &Machine, u_boot: &Path, environment: &Path) -> Vec<String> {
    let mut arguments = common(machine);
    arguments.extend(
        [
            "-M",
            "virt,gic-version=3",
            "-cpu",
            "cortex-a72",
            "-accel",
            "tcg,thread=multi,tb-size=512",
            "-serial",
            "stdio",
        ]
        .map(str::to_owned),
    );
    let mut add = |pair: [String; 2]| arguments.extend(pair);
    add(["-smp".into(), machine.cores.to_string()]);
    add(["-m".into(), machine.memory.to_string()]);
    for disk in machine.card.iter().chain(&machine.ssds) {
        add(drive(disk, "none"));
        add(["-device".into(), format!("virtio-blk-pci,drive={0},serial={0}", disk.serial)]);
    }
    // Behind the disks: U-Boot's names count every virtio device, and the card's is to be the first.
    add(["-device".into(), "virtio-rng-pci".into()]);
    add(["-netdev".into(), format!("tap,id=net0,ifname={},script=no,downscript=no", machine.port.tap)]);
    // Without a ROM file: network boot isn't installed with QEMU, and isn't wanted.
    add(["-device".into(), format!("virtio-net-pci,netdev=net0,romfile=,mac={}", machine.port.mac)]);
    if let Some(socket) = &machine.extras.rig {
        add(["-device".into(), "virtio-serial-pci".into()]);
        let socket = format!("socket,id=rig,path={},server=on,wait=off", comma(socket));
        add(["-chardev".into(), socket]);
        add(["-device".into(), format!("virtserialport,chardev=rig,name={}", rig::PORT)]);
    }
    if let Some(port) = &machine.extras.second_cable {
        let tap = &port.tap;
        add(["-netdev".into(), format!("tap,id={SECOND_CABLE},ifname={tap},script=no,downscript=no")]);
        let card = format!("virtio-net-pci,netdev={SECOND_CABLE},id=card1,romfile=,mac={}", port.mac);
        add(["-device".into(), card]);
    }
    if machine.extras.led {
        add(["-device".into(), "virtio-keyboard-pci".into()]);
    }
    let flash = format!("if=pflash,unit=1,format=raw,readonly=on,file={}", comma(environment));
    add(["-drive".into(), flash]);
    add(["-bios".into(), u_boot.display().to_string()]);
    arguments
}

#[cfg(test)]
mod tests {
    use super::super::{Board, Extras};
    use super::*;
    use crate::pi::disk::{Disk, Format};
    use crate::pi::net::Port;

    #[test]
    fn the_card_comes_first() {
        let disk =
            |serial: &str| Disk { serial: serial.into(), image: format!("/x,y/{serial}").into(), format: Format::Raw };
        let machine = Machine {
            emulator: vec!["qemu".into()],
            board: Board::Virt { u_boot: "/u-boot.bin".into(), environment: "/env.img".into() },
            memory: 512,
            cores: 1,
            card: Some(disk("CARD")),
            ssds: vec![disk("SSD")],
            port: Port {
                tap: "tap0".into(),
                mac: "52:54:00:00:00:01".into(),
                station_mac: "02:63:79:00:00:01".into(),
                address: std::net::Ipv4Addr::LOCALHOST,
            },
            monitor: "/run/qmp".into(),
            extras: Extras::default(),
        };
        let line = machine.arguments().join(" ");
        assert!(line.find("serial=CARD").unwrap() < line.find("serial=SSD").unwrap());
        assert!(line.contains("file=/x,,y/SSD"), "{line}");
        assert!(line.ends_with("-bios /u-boot.bin"), "{line}");
    }
}
