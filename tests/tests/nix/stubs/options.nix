# The options of NixOS that our modules set or look at, with its types and defaults.
{ lib, config, ... }:
let
  inherit (lib) mkOption types;
  of =
    type: default:
    mkOption {
      inherit type default;
    };
  on = of types.bool;
  words = of (types.listOf types.str) [ ];
  packages = of (types.listOf types.package) [ ];
  unit = types.submodule {
    freeformType = types.attrsOf types.anything;
    options = {
      enable = on true;
      wantedBy = words;
      before = words;
      path = of (types.listOf (types.oneOf [
        types.package
        types.str
      ])) [ ];
      script = of types.lines "";
      description = of types.str "";
      restartIfChanged = on true;
      serviceConfig = of (types.attrsOf types.anything) { };
    };
  };
  user = types.submodule {
    options = {
      openssh.authorizedKeys.keys = of (types.listOf types.singleLineStr) [ ];
      password = of (types.nullOr types.str) null;
      hashedPassword = of (types.nullOr types.str) null;
      initialPassword = of (types.nullOr types.str) null;
      initialHashedPassword = of (types.nullOr types.str) null;
      hashedPasswordFile = of (types.nullOr types.str) null;
    };
  };
in
{
  options = {
    assertions = of (types.listOf types.unspecified) [ ];
    warnings = words;

    boot = {
      isContainer = on false;
      kernelParams = words;
      kernelModules = words;
      blacklistedKernelModules = words;
      consoleLogLevel = of types.int 4;
      extraModprobeConfig = of types.lines "";
      initrd = {
        kernelModules = words;
        availableKernelModules = words;
        network.enable = on false;
      };
      kernelPackages = of types.raw null;
      loader = {
        grub.enable = on true;
        generic-extlinux-compatible.enable = on false;
        generic-extlinux-compatible.configurationLimit = of types.int 20;
      };
      supportedFilesystems = of (types.coercedTo (types.listOf types.str) (
        names: lib.genAttrs names (_: true)
      ) (types.attrsOf types.bool)) { };
      zfs.package = of types.package null;
      zfs.forceImportRoot = on true;
    };
    documentation.enable = on true;
    documentation.nixos.enable = on true;
    environment.systemPackages = packages;
    environment.etc = of (types.attrsOf (
      types.submodule {
        options.source = mkOption { type = types.path; };
        options.text = of (types.nullOr types.lines) null;
      }
    )) { };
    hardware.enableRedistributableFirmware = on false;
    hardware.wirelessRegulatoryDatabase = on false;
    networking = {
      hostId = of (types.nullOr types.str) null;
      hostName = of types.str "nixos";
      useNetworkd = on false;
      useDHCP = on true;
      firewall.allowedUDPPorts = of (types.listOf types.port) [ ];
      networkmanager.enable = on false;
      wireless = {
        enable = on false;
        interfaces = words;
        extraConfigFiles = words;
        iwd.enable = on false;
      };
    };
    nix.package = of types.package null;
    nix.settings = of (types.submodule { freeformType = types.attrsOf types.anything; }) { };
    nixpkgs.hostPlatform = of types.str "aarch64-linux";
    services = {
      avahi.enable = on false;
      dbus.packages = packages;
      getty.autologinUser = of (types.nullOr types.str) null;
      openssh = {
        enable = on false;
        hostKeys = of (types.listOf types.attrs) [ ];
        authorizedKeysFiles = words;
        settings = of (types.submodule {
          freeformType = types.attrsOf types.anything;
          options.PasswordAuthentication = on true;
          options.KbdInteractiveAuthentication = on true;
          options.PermitRootLogin = of types.str "prohibit-password";
        }) { };
      };
      resolved.enable = on false;
      udev.packages = packages;
    };
    system.nixos.variant_id = of (types.nullOr types.str) null;
    system.stateVersion = mkOption { type = types.str; };
    systemd = {
      package = of types.package null;
      packages = packages;
      services = of (types.attrsOf unit) { };
      # Since NixOS 25.11.
      settings.Manager = of (types.attrsOf types.anything) { };
      network.wait-online.enable = on true;
    };
    users.mutableUsers = on true;
    users.allowNoPasswordLogin = on false;
    users.users = of (types.attrsOf user) { };
    zramSwap.enable = on false;
  };

  config = {
    _module.args.pkgs = lib.mkForce (
      import ./packages.nix {
        inherit lib;
        system = config.nixpkgs.hostPlatform;
      }
    );
  };
  imports = [
    (
      { pkgs, lib, ... }:
      {
        boot.zfs.package = lib.mkDefault pkgs.zfs;
        boot.kernelPackages = lib.mkDefault pkgs.linuxKernel.packages.linux_6_12;
        nix.package = lib.mkDefault pkgs.nix;
        systemd.package = lib.mkDefault pkgs.systemd;
        users.users.root = { };
        services.openssh.authorizedKeysFiles = [
          "%h/.ssh/authorized_keys"
          "/etc/ssh/authorized_keys.d/%u"
        ];
      }
    )
  ];
}
