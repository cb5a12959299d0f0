# Every program that a plan, or the agent by itself, may call.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.cygnet;
  supports = kind: config.boot.supportedFilesystems.${kind} or false;
in
{
  options.services.cygnet.tools = lib.mkOption {
    type = lib.types.listOf lib.types.package;
    readOnly = true;
    internal = true;
    description = "The packages that have them.";
  };

  config = lib.mkIf cfg.enable {
    services.cygnet.tools = [
      # Partitions: sgdisk; parted and partprobe; blkid, lsblk, wipefs, sfdisk, blkdiscard, mount, swapon, unshare, choom.
      pkgs.gptfdisk
      pkgs.parted
      pkgs.util-linux
      # udevadm and systemctl.
      config.systemd.package
      # File systems that a layout may ask for.
      pkgs.e2fsprogs
      pkgs.dosfstools
      pkgs.xfsprogs
      pkgs.btrfs-progs
      pkgs.f2fs-tools
      pkgs.exfatprogs
      pkgs.ntfs3g
      # What they may lie on. ZFS's programs must be of the version that its module is of.
      config.boot.zfs.package
      pkgs.cryptsetup
      pkgs.lvm2
      pkgs.mdadm
      # Registering what came, with signatures; fetching from caches; entering the new system.
      config.nix.package
      pkgs.sqlite
      pkgs.curl
      pkgs.kmod
      pkgs.bash
      pkgs.coreutils
      # `cygnet disks` tells how healthy they are.
      pkgs.smartmontools
    ]
    ++ lib.optional (supports "bcachefs") pkgs.bcachefs-tools
    ++ cfg.extraTools;
    environment.systemPackages = cfg.tools;
    # /dev/md/NAME.
    services.udev.packages = [ pkgs.mdadm ];
  };
}
