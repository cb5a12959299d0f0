# What a person's settings must not take away. Each has been somebody's lost evening.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (config) boot;
  driver = lib.hasPrefix "brcmfmac";
  early = builtins.filter driver (boot.initrd.kernelModules ++ boot.initrd.availableKernelModules);
  without = builtins.filter driver (boot.blacklistedKernelModules or [ ]);

  secrets = [
    "password"
    "hashedPassword"
    "initialPassword"
    "initialHashedPassword"
    "hashedPasswordFile"
  ];
  # "!" and the like let nobody in; an empty one lets everybody in.
  isWayIn = value: value != null && (value == "" || !lib.hasPrefix "!" value && value != "*");
  withPassword = lib.filterAttrs (
    _: user: builtins.any (secret: isWayIn (user.${secret} or null)) secrets
  ) config.users.users;
  zfsModule = boot.kernelPackages.${boot.zfs.package.kernelModuleAttribute} or null;
in
{
  assertions = [
    {
      assertion = pkgs.stdenv.hostPlatform.isAarch64;
      message = ''
        cygnet's card: it is built for ${pkgs.stdenv.hostPlatform.system}, which no Raspberry Pi runs.
        Set nixpkgs.hostPlatform = "aarch64-linux"; `cygnet image build` finds a machine that can build it.
      '';
    }
    {
      assertion = config.services.cygnet.enable;
      message = ''
        cygnet's card: services.cygnet.enable is false, so that nothing on the card would install anything.
        Leave it at true.
      '';
    }
    {
      assertion = early == [ ];
      message = ''
        cygnet's card: ${lib.concatStringsSep ", " early} would be loaded in the initrd, where there is no firmware: the driver
        gives up, and there is no wlan0. Remove it from boot.initrd.kernelModules and boot.initrd.availableKernelModules; it is
        loaded once the root file system is there.
      '';
    }
    {
      assertion = without == [ ];
      message = ''
        cygnet's card: ${lib.concatStringsSep ", " without} is the driver of the Pi's WiFi, and blacklisted.
        Remove it from boot.blacklistedKernelModules.
      '';
    }
    {
      assertion = config.hardware.enableRedistributableFirmware;
      message = ''
        cygnet's card: without hardware.enableRedistributableFirmware the WiFi chip has no firmware.
        Leave it at true.
      '';
    }
    {
      assertion = boot.supportedFilesystems.zfs or (builtins.elem "zfs" boot.supportedFilesystems);
      message = ''
        cygnet's card: it has no ZFS, and a plan with a pool would fail in the middle.
        Leave boot.supportedFilesystems.zfs at true.
      '';
    }
    {
      assertion = zfsModule == null || !(zfsModule.meta.broken or false);
      message = ''
        cygnet's card: ZFS does not support Linux ${boot.kernelPackages.kernel.version} yet.
        Do not set boot.kernelPackages (the newest that ZFS supports is taken), or set boot.zfs.package = pkgs.zfs_unstable.
      '';
    }
    {
      assertion = config.networking.hostId != null;
      message = ''
        cygnet's card: ZFS needs a host id, and networking.hostId is null.
        Do not set it, or set it to 8 hex digits. That of the installed system is another, in its own configuration.
      '';
    }
    {
      assertion = withPassword == { };
      message = ''
        cygnet's card: ${lib.concatStringsSep ", " (builtins.attrNames withPassword)} has a password, which is in the Nix store of
        every copy of the image. Remove it; ssh keys are given with services.cygnet.authorizedKeys or `cygnet card configure`.
      '';
    }
    {
      assertion = !(config.services.getty.autologinUser or null != null);
      message = ''
        cygnet's card: services.getty.autologinUser lets in whoever has a keyboard, also where the agent's screen should be.
        Remove it; services.cygnet.console.shell opens a shell on the console, if that is what you want.
      '';
    }
    {
      assertion = !(boot.initrd.network.enable or false);
      message = ''
        cygnet's card: boot.initrd.network would take addresses before the agent is there to say how it goes.
        Set boot.initrd.network.enable = false.
      '';
    }
  ];
}
