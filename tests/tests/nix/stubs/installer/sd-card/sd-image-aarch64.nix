# What nixpkgs' module of this name declares, and what it sets that our modules have to get along with.
{ lib, ... }:
{
  options.sdImage.firmwareSize = lib.mkOption {
    type = lib.types.int;
    default = 30;
  };
  options.image.baseName = lib.mkOption { type = lib.types.str; };
  config = {
    boot.kernelParams = [
      "console=ttyS0,115200n8"
      "console=ttyAMA0,115200n8"
      "console=tty0"
    ];
    boot.consoleLogLevel = lib.mkDefault 7;
    # Of profiles/base.nix.
    networking.hostId = lib.mkDefault "8425e349";
    boot.supportedFilesystems = [
      "btrfs"
      "vfat"
      "xfs"
      "ntfs"
    ];
  };
}
