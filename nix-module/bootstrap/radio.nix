# The Pi's WiFi: driver, firmware, regulatory database.
{ lib, ... }:
let
  preset = lib.mkOverride 900;
in
{
  # Firmware, its NVRAM file and its CLM blob must be of one package: those of others do not fit together, and then there is no
  # wlan0 (nixpkgs#115652). This option takes all of them from the same.
  hardware.enableRedistributableFirmware = preset true;
  hardware.wirelessRegulatoryDatabase = preset true;

  # By systemd-modules-load, where the root file system with the firmware is mounted. In an initrd there is none: the driver
  # gives up there, and stays without an interface (nixpkgs#186963). The vendors' parts are asked for by name and are nobody's
  # dependency, so whatever packs modules by dependencies leaves them out.
  boot.kernelModules = [
    "brcmfmac"
    "brcmfmac_wcc"
    "brcmfmac_cyw"
    "brcmfmac_bca"
  ];
}
