//! Whether the serial number in a disk's name tells it apart from others.
//!
//! Links in `/dev/disk/by-id` are made of model and serial number. Many USB adapters report a number that was never
//! changed from the chip maker's example; then two disks claim the same link, and which of them has it is a matter of
//! luck (openmediavault#639 and #746, zfs#3242).

use super::facts::DiskFacts;
use super::refusal::Refusal;

/// Numbers that whole series of adapters report, in upper case.
const SHARED: [&str; 15] = [
    "0123456789ABCDE",
    "0123456789ABCDEF",
    "123456789ABCDEF",
    "123456789012",
    "1234567890123",
    "1234567890ABCDEF",
    "12345678901234567890",
    // JMicron's and its customers'
    "DD56419883891",
    "DD564198838B8",
    "DD564198838E8",
    "DB9876543214E",
    "152D00539000",
    "20170331000C3",
    // Others
    "000000004BA8",
    "35000000000000001",
];

/// Whether adapters are known that all report this.
fn is_known(serial: &str) -> bool {
    let serial = serial.trim().to_ascii_uppercase();
    let mut letters = serial.chars();
    let first = letters.next();
    // 000000000000 and the like, and the first digits of a count.
    let monotonous = serial.len() >= 4 && letters.all(|c| Some(c) == first);
    let counting = serial.len() >= 8 && ["1234567890", "0123456789"].iter().any(|count| count.starts_with(&serial));
    monotonous || counting || SHARED.contains(&serial.as_str())
}

/// udev's links by the serial number, if the disk is named by one.
fn serial_in<'a>(device: &str, facts: &'a DiskFacts) -> Option<&'a str> {
    let serial = facts.serial.as_deref().map(str::trim).filter(|serial| !serial.is_empty())?;
    let id = device.strip_prefix("/dev/disk/by-id/")?;
    // udev replaces blanks and what is no part of a name (util_replace_chars).
    id.contains(&serial.replace(' ', "_")).then_some(serial)
}

fn by_path(facts: &DiskFacts) -> Option<String> {
    facts.links.iter().find(|link| link.starts_with("/dev/disk/by-path/")).cloned()
}

fn same_serial<'a>(facts: &DiskFacts, serial: &str, all: &'a [DiskFacts]) -> Vec<&'a DiskFacts> {
    let has_it = |other: &&DiskFacts| {
        other.kernel_path != facts.kernel_path && other.serial.as_deref().map(str::trim) == Some(serial)
    };
    all.iter().filter(has_it).collect()
}

/// Refuses a disk that is named by a serial number which does not tell it apart.
pub(super) fn is_told_apart(name: &str, device: &str, facts: &DiskFacts, all: &[DiskFacts]) -> Result<(), Refusal> {
    let Some(serial) = serial_in(device, facts) else { return Ok(()) };
    let others = same_serial(facts, serial, all);
    // Namespaces of one NVMe disk and units of one enclosure have links of their own, with a number at the end.
    let own_link = |other: &&DiskFacts| other.links.iter().any(|link| serial_in(link, other).is_some());
    if others.is_empty() || (!is_known(serial) && others.iter().all(own_link)) {
        return Ok(());
    }
    let disks = std::iter::once(facts).chain(others).map(|disk| disk.kernel_path.clone()).collect();
    Err(Refusal::SharedSerial {
        disk: name.to_owned(),
        device: device.to_owned(),
        serial: serial.to_owned(),
        disks,
        by_path: by_path(facts),
    })
}

/// A warning about a name that another disk may have tomorrow.
pub(super) fn doubt(name: &str, device: &str, facts: &DiskFacts) -> Option<String> {
    let serial = serial_in(device, facts).filter(|serial| is_known(serial))?;
    let instead = by_path(facts).map(|link| format!("; {link} tells by the port")).unwrap_or_default();
    Some(format!(
        "disk “{name}” is named by the serial number {serial}, which many USB adapters report for every disk{instead}"
    ))
}

/// What to know of a disk's serial number, if it is not its own.
#[must_use]
pub fn shares_its_serial(facts: &DiskFacts, all: &[DiskFacts]) -> Option<String> {
    let serial = facts.serial.as_deref().map(str::trim).filter(|serial| !serial.is_empty())?;
    let others: Vec<&str> =
        same_serial(facts, serial, all).into_iter().map(|other| other.kernel_path.as_str()).collect();
    let instead = by_path(facts).map(|link| format!("; name it by {link}")).unwrap_or_default();
    if !others.is_empty() {
        return Some(format!("the serial number {serial} is also that of {}{instead}", others.join(", ")));
    }
    is_known(serial).then(|| format!("many USB adapters report the serial number {serial} for every disk{instead}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(path: &str, serial: &str, link: &str) -> DiskFacts {
        DiskFacts {
            kernel_path: path.into(),
            serial: Some(serial.into()),
            links: vec![format!("/dev/disk/by-id/{link}"), format!("/dev/disk/by-path/port-of-{path}")],
            ..DiskFacts::default()
        }
    }

    #[test]
    fn examples_of_chip_makers_are_known() {
        for serial in ["0123456789ABCDEF", "0123456789abcdef", "000000000000", "12345678", "DD56419883891", "FFFF"] {
            assert!(is_known(serial), "{serial}");
        }
        for serial in ["S5SYNS0R700159M", "CYGSSD0", "", "0", "111", "1234567", "2021092211AB"] {
            assert!(!is_known(serial), "{serial}");
        }
    }

    #[test]
    fn a_link_that_two_disks_claim_is_refused() {
        let id = "usb-JMicron_Generic_DD56419883891-0:0";
        let (one, other) = (disk("/dev/sda", "DD56419883891", id), disk("/dev/sdb", "DD56419883891", "x"));
        let device = format!("/dev/disk/by-id/{id}");
        let both = [one.clone(), other];
        let refusal = is_told_apart("ssd", &device, &one, &both).unwrap_err();
        assert!(refusal.what().contains("/dev/sda; /dev/sdb"), "{refusal}");
        assert!(refusal.remedy().contains("by-path/port-of-/dev/sda"), "{}", refusal.remedy());
        // By the port there is no doubt.
        assert!(is_told_apart("ssd", "/dev/disk/by-path/port-of-/dev/sda", &one, &both).is_ok());
        assert!(is_told_apart("ssd", &device, &one, &both[..1]).is_ok());
        assert!(doubt("ssd", &device, &one).unwrap().contains("by-path"));
        assert!(shares_its_serial(&one, &both).unwrap().contains("/dev/sdb"));
        assert!(shares_its_serial(&one, &both[..1]).unwrap().contains("many USB adapters"));
    }

    #[test]
    fn namespaces_of_one_disk_are_told_apart_by_their_links() {
        let (one, two) = (disk("/dev/nvme0n1", "S1X", "nvme-A_S1X_1"), disk("/dev/nvme0n2", "S1X", "nvme-A_S1X_2"));
        let both = [one.clone(), two];
        assert!(is_told_apart("ssd", "/dev/disk/by-id/nvme-A_S1X_1", &one, &both).is_ok());
        assert!(doubt("ssd", "/dev/disk/by-id/nvme-A_S1X_1", &one).is_none());
        let unlinked = [one.clone(), disk("/dev/sdb", "S1X", "other")];
        assert!(is_told_apart("ssd", "/dev/disk/by-id/nvme-A_S1X_1", &one, &unlinked).is_err());
    }
}
