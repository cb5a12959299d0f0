# The newest kernel that ZFS supports, and what a plan may need of it.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  preset = lib.mkOverride 900;
  newest = import ../lib/newest-kernel.nix { inherit lib; };
in
{
  boot.kernelPackages = preset (
    newest {
      kernels = pkgs.linuxKernel.packages;
      zfs = config.boot.zfs.package.kernelModuleAttribute;
    }
  );

  boot.supportedFilesystems = {
    zfs = preset true;
    vfat = preset true;
    ext4 = preset true;
    xfs = preset true;
    btrfs = preset true;
    f2fs = preset true;
    ntfs = preset true;
  };
  # The card's root is no pool. What is found on other disks is looked at and not imported.
  boot.zfs.forceImportRoot = preset false;
  # ZFS wants one. It is in the labels of the pools only until the agent exports them.
  networking.hostId = preset "6379676e";
  # Of a small Pi's memory ZFS would take half for its cache.
  boot.extraModprobeConfig = ''
    options zfs zfs_arc_max=134217728
  '';

  # SSDs behind USB. The card's own initrd has them so that the same image starts from a stick.
  boot.initrd.availableKernelModules = [
    "uas"
    "usb_storage"
    "xhci_pci"
  ];
}
