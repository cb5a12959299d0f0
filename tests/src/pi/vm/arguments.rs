//! What QEMU's command lines of both boards have in common.

use std::path::Path;

use super::Machine;
use crate::pi::disk::Disk;

/// QEMU separates options by commas, and a comma in a value is written twice.
pub fn comma(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// What both boards begin with. `reboot=shutdown` until a scenario says that the machine reboots by itself: then QEMU's end is
/// seen, and the next boot is somebody's to start.
pub fn common(machine: &Machine) -> Vec<String> {
    let monitor = format!("unix:{},server=on,wait=off", comma(&machine.monitor));
    ["-nodefaults", "-display", "none", "-action", "reboot=shutdown", "-qmp", &monitor].map(str::to_owned).into()
}

/// One disk that devices may come to and go from.
pub fn node(disk: &Disk) -> [String; 2] {
    [
        "-blockdev".into(),
        format!(
            "driver={},node-name={},cache.direct=off,cache.no-flush=on,discard=unmap,detect-zeroes=unmap,file.driver=file,\
             file.filename={}",
            disk.format.word(),
            disk.serial,
            comma(&disk.image)
        ),
    ]
}

/// One drive that is no device yet.
pub fn drive(disk: &Disk, interface: &str) -> [String; 2] {
    [
        "-drive".into(),
        format!(
            "if={interface},id={},format={},cache=unsafe,discard=unmap,detect-zeroes=unmap,file={}",
            disk.serial,
            disk.format.word(),
            comma(&disk.image)
        ),
    ]
}
