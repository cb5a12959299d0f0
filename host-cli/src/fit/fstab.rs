//! fstab(5), as NixOS writes it (nixpkgs, nixos/modules/tasks/filesystems.nix).

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Device, dataset, `UUID=…`, or what a file system without a device calls its source.
    pub device: String,
    /// Where it is mounted; `none` for swap.
    pub mountpoint: String,
    /// Type, or `auto`.
    pub fstype: String,
    /// Options.
    pub options: Vec<String>,
}

/// Types that need no disk of this machine.
const WITHOUT_DISK: &[&str] = &[
    "tmpfs",
    "ramfs",
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "none",
    "overlay",
    "autofs",
    "bindfs",
    "mergerfs",
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "virtiofs",
    "sshfs",
    "ceph",
    "glusterfs",
    "davfs",
    "afs",
    "debugfs",
    "tracefs",
    "efivarfs",
    "configfs",
    "securityfs",
    "cgroup",
    "cgroup2",
    "mqueue",
    "hugetlbfs",
    "pstore",
    "squashfs",
    "iso9660",
    "vboxsf",
    "prl_fs",
    "vmhgfs",
];

impl Entry {
    /// Whether it has this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|had| had == option)
    }

    /// Whether the system comes up without it (systemd.mount(5), fstab(5)).
    pub fn is_optional(&self) -> bool {
        ["nofail", "noauto", "x-systemd.automount"].iter().any(|option| self.has(option))
    }

    /// Whether it is swap.
    pub fn is_swap(&self) -> bool {
        self.fstype == "swap"
    }

    /// Whether it lies on a disk of this machine: no memory, no network, no other directory, no file.
    pub fn is_on_disk(&self) -> bool {
        let tag = ["UUID=", "LABEL=", "PARTUUID=", "PARTLABEL="].iter().any(|tag| self.device.starts_with(tag));
        let elsewhere = ["bind", "rbind", "_netdev", "loop"].iter().any(|option| self.has(option))
            || WITHOUT_DISK.contains(&self.fstype.as_str())
            || self.fstype.starts_with("fuse")
            || self.device.starts_with("/dev/zram")
            || self.device.starts_with("/dev/ram");
        !elsewhere && (tag || self.device.starts_with("/dev/") || self.fstype == "zfs")
    }
}

/// Reads a table. Lines that mount(8) would not understand are left out.
pub fn parse(text: &str) -> Vec<Entry> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().map(unescaped);
            let (device, mountpoint, fstype) = (fields.next()?, fields.next()?, fields.next()?);
            let options = fields.next().unwrap_or_default();
            let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
            Some(Entry { device, mountpoint, fstype, options })
        })
        .collect()
}

/// Blanks are written as `\040` and their like: three octal digits. A `\x2d` of udev and systemd is none of these.
fn unescaped(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|d| matches!(d, b'0'..=b'7')));
        let byte = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIXOS: &str = "# This is a generated file.  Do not edit!\n\n# Filesystems.\n\
        rpool/root / zfs x-initrd.mount,defaults 0 0\n\
        /dev/disk/by-partlabel/disk-main-ESP /boot vfat umask=0077 0 2\n\
        /dev/disk/by-label/with\\040blank /data ext4 defaults,nofail 0 2\n\
        tmpfs /tmp tmpfs size=1G 0 0\n/persist/x /x none bind 0 0\nserver:/srv /srv nfs defaults 0 0\n\
        /swapfile none swap defaults\n/dev/mapper/dev-disk-by\\x2dpartlabel-swap none swap pri=1\n\ngarbage\n";

    #[test]
    fn what_nixos_writes_is_read() {
        let entries = parse(NIXOS);
        assert_eq!(entries.len(), 8);
        assert_eq!(entries[0].options, ["x-initrd.mount", "defaults"]);
        assert_eq!(entries[2].device, "/dev/disk/by-label/with blank");
        assert!(entries[2].is_optional() && !entries[1].is_optional());
        let on_disk: Vec<bool> = entries.iter().map(Entry::is_on_disk).collect();
        assert_eq!(on_disk, [true, true, true, false, false, false, false, true]);
        assert_eq!(entries[7].device, r"/dev/mapper/dev-disk-by\x2dpartlabel-swap");
        assert!(entries[7].is_swap() && parse("").is_empty());
        assert_eq!(unescaped(r"a\04"), r"a\04");
        assert_eq!(unescaped(r"a\777"), r"a\777");
    }
}
