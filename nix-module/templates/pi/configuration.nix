# The system on the SSD.
{ keys, ... }:
{
  nixpkgs.hostPlatform = "aarch64-linux";
  networking.hostName = "pi";
  # Eight hex digits of its own, for ZFS: head -c4 /dev/urandom | od -A none -t x4
  networking.hostId = "00c0ffee";
  system.stateVersion = "26.05";

  # U-Boot reads extlinux.conf on /boot, where kernel and initrd are.
  boot.loader.grub.enable = false;
  boot.loader.generic-extlinux-compatible.enable = true;
  boot.loader.generic-extlinux-compatible.configurationLimit = 5;
  boot.initrd.availableKernelModules = [
    "uas"
    "usb_storage"
    "xhci_pci"
  ];
  boot.supportedFilesystems.zfs = true;
  boot.zfs.forceImportRoot = false;

  users.users.root.openssh.authorizedKeys.keys = keys;
  services.openssh.enable = true;
  services.openssh.settings.PasswordAuthentication = false;

  # The networks by which it was installed go with it; no passphrase is in this repository.
  networking.wireless.enable = true;
  services.cygnet.installed = {
    enable = true;
    keepNetworks = "wpa_supplicant";
  };
  hardware.enableRedistributableFirmware = true;
}
