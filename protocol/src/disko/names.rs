//! Names: what udev makes of a partition label, what ZFS and sgdisk accept.

use super::DiskoError;
use std::fmt::Write as _;

/// The path under which udev finds a partition with this label or UUID.
///
/// libblkid's `blkid_encode_string` keeps letters, digits, `#+-.:=@_` and non-ASCII, and writes other bytes as `\xhh` in
/// lower case.
#[must_use]
pub fn partition_path(label: &str, uuid: Option<&str>) -> String {
    if let Some(uuid) = uuid {
        return format!("/dev/disk/by-partuuid/{}", uuid.to_ascii_lowercase());
    }
    let mut path = String::from("/dev/disk/by-partlabel/");
    for c in label.chars() {
        if c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c) || !c.is_ascii() {
            path.push(c);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(path, "\\x{:02x}", u32::from(c));
        }
    }
    path
}

/// The path disko writes for the same partition: upper-case hex, and `,` and `/` kept (its pattern has the range `+-.`).
pub(crate) fn disko_partition_path(label: &str, uuid: Option<&str>) -> String {
    if let Some(uuid) = uuid {
        return format!("/dev/disk/by-partuuid/{uuid}");
    }
    format!("/dev/disk/by-partlabel/{}", disko_escaped(label))
}

/// As disko escapes a label for a path.
pub(super) fn disko_escaped(label: &str) -> String {
    let mut escaped = String::new();
    for c in label.chars() {
        if c.is_ascii_alphanumeric() || "#+,-.:=@_/".contains(c) {
            escaped.push(c);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "\\x{:X}", u32::from(c));
        }
    }
    escaped
}

/// The path of partition `number` of a device that is not found by its label, as the kernel, udev and parted make it.
/// `None` where disko does not know either.
#[must_use]
pub fn numbered(device: &str, number: u32) -> Option<String> {
    let name = device.strip_prefix("/dev/")?;
    let digit = name.ends_with(|c: char| c.is_ascii_digit());
    let letters = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|c| c.is_ascii_lowercase()))
    };
    if letters("sd") || letters("vd") || letters("xvd") {
        Some(format!("{device}{number}"))
    } else if name.starts_with("disk/") || name.starts_with("zvol/") {
        Some(format!("{device}-part{number}"))
    } else if ["nvme", "mmcblk", "loop"].iter().any(|prefix| name.starts_with(prefix))
        || name.starts_with("md/") && digit
    {
        Some(format!("{device}p{number}"))
    } else if name.starts_with("md/") || name.starts_with("mapper/") {
        Some(format!("{device}{number}"))
    } else {
        None
    }
}

/// A partition type of an MBR as sfdisk reads it: hex, or one of its short names.
pub(super) fn is_mbr_type(text: &str) -> bool {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    matches!(hex.len(), 1 | 2) && hex.bytes().all(|c| c.is_ascii_hexdigit())
        || matches!(
            text,
            "L" | "S" | "E" | "X" | "U" | "R" | "V" | "linux" | "swap" | "extended" | "uefi" | "raid" | "lvm"
        )
}

/// A name of a LUKS mapping, an array, a volume group or a logical volume: one component of a path, safe in an argv.
pub(super) fn component(path: &str, what: &str, name: &str) -> Result<(), DiskoError> {
    let good = name.bytes().all(|c| c.is_ascii_alphanumeric() || b"+_.-".contains(&c))
        && !name.is_empty()
        && name.len() < 128
        && !name.starts_with('-')
        && !matches!(name, "." | ".." | "control");
    if good {
        return Ok(());
    }
    let remedy = "use letters, digits, + _ . and -, and do not begin with -";
    Err(DiskoError::new(path, format!("“{name}” is not a name {what} accepts"), remedy))
}

/// A file on the machine that is installed: absolute.
pub(super) fn file(path: &str, file: &str) -> Result<(), DiskoError> {
    if file.starts_with('/') && !file.ends_with('/') {
        return Ok(());
    }
    Err(DiskoError::new(path, format!("“{file}” is not an absolute path of a file"), "write it from the root"))
}

/// A path of a device node: absolute, under `/dev`, without `..`.
pub(super) fn device_path(path: &str, device: &str) -> Result<(), DiskoError> {
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    match device.strip_prefix("/dev/") {
        Some(rest) if !rest.split('/').any(odd) => Ok(()),
        _ => Err(DiskoError::new(
            path,
            format!("“{device}” is not an absolute path under /dev"),
            "give the disk's link, as ls -l /dev/disk/by-id shows it",
        )),
    }
}

/// An absolute mountpoint without `..`.
pub(super) fn mountpoint(path: &str, at: &str) -> Result<(), DiskoError> {
    if at.starts_with('/') && !at.split('/').any(|part| part == "." || part == "..") {
        return Ok(());
    }
    Err(DiskoError::new(path, format!("“{at}” is not an absolute path"), "write it from the root, such as /boot"))
}

/// A name zpool(8) accepts.
pub(super) fn pool(path: &str, name: &str) -> Result<(), DiskoError> {
    const RESERVED: [&str; 4] = ["mirror", "raidz", "draid", "spare"];
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-:. ".contains(c))
        && !name.ends_with(' ')
        && name.len() < 200
        && name != "log"
        && !RESERVED.iter().any(|word| name.starts_with(word))
        && !(name.starts_with('c') && name.chars().nth(1).is_some_and(|c| c.is_ascii_digit()));
    if good {
        return Ok(());
    }
    let remedy = "start with a letter; use letters, digits, _ - : .; not mirror, raidz, draid, spare, log or c0 to c9";
    Err(DiskoError::new(path, format!("“{name}” is not a name zpool(8) accepts"), remedy))
}

/// A dataset name below a pool.
pub(super) fn dataset(path: &str, name: &str) -> Result<(), DiskoError> {
    let component = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-:. ".contains(c))
    };
    if name.len() < 256 && name.split('/').all(component) {
        return Ok(());
    }
    let what = format!("“{name}” is not a dataset name zfs(8) accepts");
    Err(DiskoError::new(path, what, "use letters, digits, _ - : . and / between levels"))
}

/// A property name of zfs or zpool, with `feature@x` and user properties.
pub(super) fn is_property(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b":+._@-".contains(&c))
}

/// What follows `mkfs.` or `-t`.
pub(super) fn is_filesystem_type(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c))
}

/// A GUID as sgdisk reads it.
pub(super) fn is_guid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.concat().bytes().all(|c| c.is_ascii_hexdigit())
}

/// A partition type: a GUID, or one of the 241 codes sgdisk 1.0.9 knows (`sgdisk --list-types`). sgdisk itself turns an
/// unknown code into a type of its own without an error.
pub(super) fn is_type_code(text: &str) -> bool {
    if is_guid(text) {
        return true;
    }
    text.len() == 4
        && text.bytes().all(|c| c.is_ascii_hexdigit())
        && u16::from_str_radix(text, 16).is_ok_and(|code| TYPE_CODES.binary_search(&code).is_ok())
}

/// What people call the commoner type codes.
pub(crate) fn type_name(code: &str) -> Option<&'static str> {
    Some(match code.to_ascii_uppercase().as_str() {
        "0700" => "Microsoft basic data",
        "0C01" => "Microsoft reserved",
        "8200" => "Linux swap",
        "8300" => "Linux filesystem",
        "8302" => "Linux home",
        "8303" => "Linux x86 root",
        "8305" => "Linux ARM64 root",
        "8309" => "Linux LUKS",
        "8E00" => "Linux LVM",
        "BE00" => "Solaris boot",
        "BF01" => "ZFS",
        "EA00" => "XBOOTLDR",
        "EF00" => "EFI system",
        "EF02" => "BIOS boot",
        "FD00" => "Linux RAID",
        _ => return None,
    })
}

#[rustfmt::skip]
const TYPE_CODES: [u16; 241] = [
    0x0700, 0x0701, 0x0702, 0x0C01, 0x2700, 0x3000, 0x3001, 0x3900, 0x4100, 0x4200, 0x4201, 0x4202, 0x7501, 0x7F00,
    0x7F01, 0x7F02, 0x7F03, 0x7F04, 0x7F05, 0x8200, 0x8300, 0x8301, 0x8302, 0x8303, 0x8304, 0x8305, 0x8306, 0x8307,
    0x8308, 0x8309, 0x830A, 0x830B, 0x830C, 0x830D, 0x830E, 0x830F, 0x8310, 0x8311, 0x8312, 0x8313, 0x8314, 0x8315,
    0x8316, 0x8317, 0x8318, 0x8319, 0x831A, 0x831B, 0x831C, 0x8400, 0x8401, 0x8500, 0x8501, 0x8502, 0x8503, 0x8E00,
    0xA000, 0xA001, 0xA002, 0xA003, 0xA004, 0xA005, 0xA006, 0xA007, 0xA008, 0xA009, 0xA00A, 0xA00B, 0xA00C, 0xA00D,
    0xA00E, 0xA00F, 0xA010, 0xA011, 0xA012, 0xA013, 0xA014, 0xA015, 0xA016, 0xA017, 0xA018, 0xA019, 0xA01A, 0xA01B,
    0xA01C, 0xA01D, 0xA01E, 0xA01F, 0xA020, 0xA021, 0xA022, 0xA023, 0xA024, 0xA025, 0xA026, 0xA027, 0xA028, 0xA029,
    0xA02A, 0xA02B, 0xA02C, 0xA02D, 0xA02E, 0xA02F, 0xA030, 0xA031, 0xA032, 0xA033, 0xA034, 0xA035, 0xA036, 0xA037,
    0xA038, 0xA039, 0xA03A, 0xA03B, 0xA03C, 0xA03D, 0xA03E, 0xA03F, 0xA040, 0xA200, 0xA500, 0xA501, 0xA502, 0xA503,
    0xA504, 0xA505, 0xA506, 0xA580, 0xA581, 0xA582, 0xA583, 0xA584, 0xA585, 0xA600, 0xA800, 0xA901, 0xA902, 0xA903,
    0xA904, 0xA905, 0xA906, 0xAB00, 0xAF00, 0xAF01, 0xAF02, 0xAF03, 0xAF04, 0xAF05, 0xAF06, 0xAF07, 0xAF08, 0xAF09,
    0xAF0A, 0xAF0B, 0xAF0C, 0xB000, 0xB300, 0xBB00, 0xBC00, 0xBE00, 0xBF00, 0xBF01, 0xBF02, 0xBF03, 0xBF04, 0xBF05,
    0xBF06, 0xBF07, 0xBF08, 0xBF09, 0xBF0A, 0xBF0B, 0xC001, 0xC002, 0xE100, 0xE101, 0xE900, 0xEA00, 0xEB00, 0xED00,
    0xED01, 0xEF00, 0xEF01, 0xEF02, 0xF100, 0xF101, 0xF102, 0xF103, 0xF104, 0xF105, 0xF106, 0xF107, 0xF108, 0xF109,
    0xF10A, 0xF10B, 0xF10C, 0xF10D, 0xF10E, 0xF10F, 0xF110, 0xF111, 0xF112, 0xF113, 0xF114, 0xF115, 0xF116, 0xF117,
    0xF118, 0xF119, 0xF11A, 0xF800, 0xF801, 0xF802, 0xF803, 0xF804, 0xF805, 0xF806, 0xF807, 0xF808, 0xF809, 0xF80A,
    0xF80B, 0xF80C, 0xF80D, 0xF80E, 0xF80F, 0xF810, 0xF811, 0xF812, 0xF813, 0xF814, 0xF815, 0xF816, 0xF817, 0xFB00,
    0xFB01, 0xFC00, 0xFD00,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udev_and_disko_disagree_about_odd_labels() {
        assert_eq!(partition_path("disk-ssd-zfs", None), "/dev/disk/by-partlabel/disk-ssd-zfs");
        assert_eq!(partition_path("a^b~c", None), r"/dev/disk/by-partlabel/a\x5eb\x7ec");
        assert_eq!(disko_partition_path("a^b~c", None), r"/dev/disk/by-partlabel/a\x5Eb\x7Ec");
        assert_eq!(partition_path("a b/c,d", None), r"/dev/disk/by-partlabel/a\x20b\x2fc\x2cd");
        assert_eq!(disko_partition_path("a b/c,d", None), r"/dev/disk/by-partlabel/a\x20b/c,d");
        assert_eq!(partition_path("x", Some("ABCD")), "/dev/disk/by-partuuid/abcd");
    }

    #[test]
    fn partitions_are_numbered_as_the_kernel_does() {
        for (device, partition) in [
            ("/dev/sda", Some("/dev/sda3")),
            ("/dev/xvdb", Some("/dev/xvdb3")),
            ("/dev/nvme0n1", Some("/dev/nvme0n1p3")),
            ("/dev/mmcblk0", Some("/dev/mmcblk0p3")),
            ("/dev/disk/by-id/usb-x", Some("/dev/disk/by-id/usb-x-part3")),
            ("/dev/md/r5", Some("/dev/md/r5p3")),
            ("/dev/md/boot", Some("/dev/md/boot3")),
            ("/dev/mapper/c", Some("/dev/mapper/c3")),
            ("/dev/my-disk", None),
            ("sda", None),
        ] {
            assert_eq!(numbered(device, 3).as_deref(), partition, "{device}");
        }
    }

    #[test]
    fn type_codes_are_those_sgdisk_knows() {
        for good in ["8300", "ef00", "BF01", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"] {
            assert!(is_type_code(good), "{good}");
        }
        for bad in ["EF0", "EF000", "8399", "+300", "", "C12A7328-F81F-11D2-BA4B", "ÀÀ"] {
            assert!(!is_type_code(bad), "{bad}");
        }
    }

    #[test]
    fn names_zfs_would_refuse_are_refused() {
        for good in ["rpool", "tank-2", "my pool"] {
            assert!(pool("", good).is_ok(), "{good}");
        }
        for bad in ["", "-f", "1pool", "mirror", "raidz1x", "log", "c0t0", "a/b", "a@b", "pool ", "é"] {
            assert!(pool("", bad).is_err(), "{bad}");
        }
        assert!(dataset("", "rpool/safe/var lib").is_ok());
        for bad in ["rpool//a", "rpool/", "rpool/a@b", "rpool/../x", "rpool/a%b"] {
            assert!(dataset("", bad).is_err(), "{bad}");
        }
    }
}
