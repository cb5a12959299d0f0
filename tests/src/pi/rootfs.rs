//! The system on the card: a Debian 13 for arm64, unpacked and finished by hand.
//!
//! What Debian's maintainer scripts would do is done here in a second; emulated on this host they take half an hour.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};

use super::kernel::Kernel;
use super::packages::Deb;
use super::{users, zfs};
use crate::host::run::{run, tool};

/// What the card's system has. Dependencies come by themselves.
pub const PACKAGES: &[&str] = &[
    // a system that boots
    "base-files",
    "base-passwd",
    "bash",
    "dash",
    "coreutils",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "login",
    "mawk",
    "ncurses-base",
    "ncurses-bin",
    "passwd",
    "procps",
    "psmisc",
    "sed",
    "tar",
    "util-linux",
    "mount",
    "zstd",
    "libpam-modules",
    "libpam-runtime",
    "ca-certificates",
    "netbase",
    "init-system-helpers",
    "systemd",
    "systemd-sysv",
    "systemd-resolved",
    "dbus",
    "udev",
    "kmod",
    "busybox-static",
    // a network
    "iproute2",
    "iputils-ping",
    "wpasupplicant",
    "hostapd",
    "iw",
    "rfkill",
    "dnsmasq-base",
    "wireless-regdb",
    "openssh-server",
    "openssh-client",
    // what an installation plan may call
    "gdisk",
    "fdisk",
    "parted",
    "dosfstools",
    "e2fsprogs",
    "xfsprogs",
    "btrfs-progs",
    "cryptsetup-bin",
    "mdadm",
    "lvm2",
    "thin-provisioning-tools",
    "zfsutils-linux",
    "nix-bin",
    "sqlite3",
    "curl",
    "ca-certificates",
];

/// Increased whenever [`finish`] or [`FILES`] would give another result for the same packages.
pub const RECIPE: u32 = 5;

/// Units that only cost time here: the virtual Pi lives for minutes and has no one at its console.
const MASKED: &[&str] = &[
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-tmpfiles-clean.timer",
    "mdcheck_start.timer",
    "mdcheck_continue.timer",
    "mdmonitor-oneshot.timer",
    "xfs_scrub_all.timer",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-update-done.service",
    "ldconfig.service",
    "systemd-machine-id-commit.service",
    "systemd-sysusers.service",
    "systemd-tpm2-setup.service",
    "systemd-tpm2-setup-early.service",
    "systemd-pcrmachine.service",
    "systemd-pcrphase.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-hibernate-clear.service",
    "systemd-binfmt.service",
    "systemd-journal-flush.service",
    "systemd-networkd-wait-online.service",
    "getty@tty1.service",
    "serial-getty@ttyAMA0.service",
    "sshd-keygen.service",
    "lvm2-monitor.service",
    "blk-availability.service",
    "zfs-mount.service",
    "zfs-share.service",
    "zfs-zed.service",
    "zfs-import-cache.service",
    "zfs-import-scan.service",
    "zfs-volume-wait.service",
    "proc-sys-fs-binfmt_misc.automount",
    "modprobe@drm.service",
    "dev-hugepages.mount",
    "systemd-udev-load-credentials.service",
    // Debian's own; the agent has a unit for the supplicant, and two of them would fight for the radio.
    "wpa_supplicant.service",
    "hostapd.service",
];

/// Files of packages that a card doesn't have. A call to the supplicant's bus name must not start Debian's own unit.
const REMOVED: &[&str] = &["usr/share/dbus-1/system-services/fi.w1.wpa_supplicant1.service"];

/// Files that are the same on every card.
const FILES: &[(&str, &str)] = &[
    ("etc/hostname", "pi\n"),
    ("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 pi\n::1 localhost\n"),
    // Empty: systemd makes one up at each boot.
    ("etc/machine-id", ""),
    // The initial RAM disk mounts both partitions.
    ("etc/fstab", ""),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files resolve dns\n"),
    ("etc/modules-load.d/zfs.conf", "zfs\n"),
    ("etc/systemd/journald.conf.d/volatile.conf", "[Journal]\nStorage=volatile\nRateLimitBurst=0\n"),
    // One address for the card's system and for the installed one: the lease goes by the MAC address.
    (
        "etc/systemd/network/20-wired.network",
        "[Match]\nName=en* eth*\n\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=ipv6\nMulticastDNS=no\n\n\
         [DHCPv4]\nClientIdentifier=mac\n",
    ),
    // The agent's announcement is the only mDNS responder on the Pi.
    ("etc/systemd/resolved.conf.d/mdns.conf", "[Resolve]\nMulticastDNS=no\nLLMNR=no\n"),
    (
        "etc/ssh/sshd_config",
        "Include /etc/ssh/sshd_config.d/*.conf\nHostKey /etc/ssh/ssh_host_ed25519_key\n\
         PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n\
         UseDNS no\nPrintMotd no\nSubsystem sftp /usr/lib/openssh/sftp-server\n",
    ),
    // Only root builds here, and there is nowhere to fetch from.
    ("etc/nix/nix.conf", "build-users-group =\nsubstituters =\nexperimental-features = nix-command flakes\n"),
    ("etc/pam.d/common-auth", "auth required pam_unix.so\n"),
    ("etc/pam.d/common-account", "account required pam_unix.so\n"),
    ("etc/pam.d/common-password", "password required pam_unix.so\n"),
    ("etc/pam.d/common-session", "session required pam_unix.so\n"),
    ("etc/pam.d/common-session-noninteractive", "session required pam_unix.so\n"),
    // What the agent says is also what the serial console's log shows.
    (
        "etc/systemd/system/cygnetd.service.d/console.conf",
        "[Service]\nStandardOutput=journal+console\nStandardError=journal+console\n",
    ),
    ("etc/systemd/system.conf.d/quick.conf", "[Manager]\nDefaultTimeoutStopSec=20s\n"),
];

/// Symlinks that enabling units, and installing packages, would have made.
const LINKS: &[(&str, &str)] = &[
    ("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target"),
    ("etc/systemd/system/multi-user.target.wants/ssh.service", "/usr/lib/systemd/system/ssh.service"),
    (
        "etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
        "/usr/lib/systemd/system/systemd-networkd.service",
    ),
    ("etc/systemd/system/dbus-org.freedesktop.network1.service", "/usr/lib/systemd/system/systemd-networkd.service"),
    (
        "etc/systemd/system/sockets.target.wants/systemd-networkd.socket",
        "/usr/lib/systemd/system/systemd-networkd.socket",
    ),
    (
        "etc/systemd/system/sysinit.target.wants/systemd-resolved.service",
        "/usr/lib/systemd/system/systemd-resolved.service",
    ),
    ("etc/systemd/system/dbus-org.freedesktop.resolve1.service", "/usr/lib/systemd/system/systemd-resolved.service"),
    ("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
    ("etc/mtab", "../proc/self/mounts"),
    ("usr/bin/awk", "mawk"),
    // Debian has two of these, and its own is the one that its kernel's key checks.
    ("usr/lib/firmware/regulatory.db", "regulatory.db-debian"),
    ("usr/lib/firmware/regulatory.db.p7s", "regulatory.db.p7s-debian"),
    ("usr/bin/pager", "less"),
    ("usr/bin/which", "which.debianutils"),
];

/// Unpacks the card's system under `root`: packages, kernel modules, and what maintainer scripts would have done.
///
/// # Errors
/// If a package is damaged or `root` can't be written.
pub fn build(root: &Path, debs: &[Deb], kernel: &Kernel) -> Result<()> {
    zfs::unpack_all(debs, root)?;
    let modules = root.join("usr/lib/modules");
    fs::create_dir_all(&modules).with_context(|| format!("creating {}", modules.display()))?;
    run(tool("cp")
        .args(["-r", "--preserve=mode,timestamps,links", "--reflink=auto"])
        .arg(kernel.modules())
        .arg(&modules))
    .context("copying the kernel's modules")?;
    finish(root)
}

fn finish(root: &Path) -> Result<()> {
    users::write(root)?;
    for (path, text) in FILES {
        let path = root.join(path);
        make_parent(&path)?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    for path in REMOVED {
        let path = root.join(path);
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    for unit in MASKED {
        link(root, &format!("etc/systemd/system/{unit}"), "/dev/null")?;
    }
    for (path, target) in LINKS {
        link(root, path, target)?;
    }
    // hostid(3): four bytes, and any pool the card makes carries it.
    fs::write(root.join("etc/hostid"), [0x67, 0x79, 0x63, 0x00]).context("writing /etc/hostid")?;
    for (dir, mode) in [
        ("boot/firmware", 0o755),
        ("mnt", 0o755),
        ("root/.ssh", 0o700),
        ("etc/zfs", 0o755),
        ("tmp", 0o1777),
        ("var/tmp", 0o1777),
    ] {
        let path = root.join(dir);
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("setting the mode of {}", path.display()))?;
    }
    Ok(())
}

fn link(root: &Path, path: &str, target: &str) -> Result<()> {
    let path = root.join(path);
    make_parent(&path)?;
    if path.symlink_metadata().is_ok() {
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    symlink(target, &path).with_context(|| format!("linking {}", path.display()))
}

fn make_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display())),
        None => Ok(()),
    }
}
