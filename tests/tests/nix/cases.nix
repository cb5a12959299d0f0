# Configurations, and what is looked at in each. What is expected is in modules.rs.
{ lib, own }:
let
  card = modules: see: {
    base = "bootstrap";
    inherit modules see;
  };
  agent = module: {
    base = "agent";
    modules = [ { services.cygnet.enable = true; } ] ++ lib.toList module;
    see = _: null;
  };
  installed = module: {
    base = "installed";
    modules = [ { services.cygnet.installed.enable = true; } ] ++ lib.toList module;
    see = _: null;
  };
  bad = module: card [ module ] (_: null);
  wrong = base: path: value: {
    inherit base;
    modules = [ (lib.setAttrByPath path value) ];
    see = lib.getAttrFromPath path;
  };
  text = source: source.text or (toString source);
in
{
  # Good ones.
  card-as-it-is = card [ ] (config: {
    params = config.boot.kernelParams;
    modules = config.boot.kernelModules;
    zfs = config.boot.supportedFilesystems.zfs;
    variant = config.system.nixos.variant_id;
    sshd = {
      inherit (config.services.openssh.settings) PasswordAuthentication PermitRootLogin;
      files = config.services.openssh.authorizedKeysFiles;
    };
    wanted = config.systemd.services.cygnetd.wantedBy;
    card = config.systemd.services.cygnet-card.wantedBy;
    size = config.sdImage.firmwareSize;
    etc = builtins.filter (lib.hasInfix "cygnet") (builtins.attrNames config.environment.etc);
    search = baseNameOf (dirOf config.systemd.services.cygnet-supplicant.serviceConfig.ExecSearchPath);
    getty = config.systemd.services."serial-getty@".enable;
  });
  card-with-keys-and-networks =
    card
      [
        {
          services.cygnet = {
            authorizedKeys = [ "ssh-ed25519 AAAA you@laptop" ];
            restrictKeys = true;
            country = "DE";
            networks = [
              {
                ssid = "home";
                passphraseFile = "/run/secrets/home";
                priority = 5;
              }
              {
                ssid = "library";
                open = true;
                hidden = true;
              }
            ];
          };
        }
      ]
      (config: {
        keys = map (builtins.match ".*/bin/(.*)") config.users.users.root.openssh.authorizedKeys.keys;
        settings = text config.environment.etc."cygnet/settings.json".source;
        inherit (config.systemd.services.cygnet-settings) script before;
      });
  card-with-an-open-network =
    card
      [
        {
          services.cygnet.country = "DE";
          services.cygnet.console.shell = true;
          services.cygnet.networks = [
            {
              ssid = "library";
              open = true;
            }
          ];
        }
      ]
      (config: {
        settings = text config.environment.etc."cygnet/settings.json".source;
        composed = config.systemd.services ? cygnet-settings;
      });
  # What a person writes counts more than what we preset.
  card-with-wishes =
    card
      [
        {
          networking.hostId = "00c0ffee";
          networking.hostName = "nest";
          services.cygnet.bootstrap.serialConsoles = [ "ttyAMA10" ];
          services.cygnet.extraArguments = [
            "--target"
            "/my target"
          ];
          boot.kernelParams = [ "console=ttyAMA0,115200n8" ];
        }
      ]
      (config: {
        inherit (config.networking) hostId hostName;
        params = config.boot.kernelParams;
        start = map (word: lib.last (lib.splitString "/bin/" word)) config.systemd.services.cygnetd.serviceConfig.ExecStart;
      });
  installed-as-it-is = installed { } // {
    see = config: {
      unit = {
        inherit (config.systemd.services.cygnet-installed) wantedBy;
        inherit (config.systemd.services.cygnet-installed.serviceConfig) Environment;
      };
      ports = config.networking.firewall.allowedUDPPorts;
      carried = config.systemd.services ? cygnet-carried;
      trial = {
        inherit (config.systemd.services.cygnet-trial) wantedBy;
        inherit (config.systemd.services.cygnet-trial.serviceConfig) Environment;
        emergency = config.systemd.services.cygnet-trial-emergency.wantedBy;
        params = config.boot.kernelParams;
      };
    };
  };
  installed-without-trial = installed { services.cygnet.installed.trial.enable = false; } // {
    see = config: config.systemd.services ? cygnet-trial;
  };
  installed-keeps-networks =
    installed {
      services.cygnet.installed.keepNetworks = "wpa_supplicant";
      networking.wireless.enable = true;
    }
    // {
      see = config: {
        files = config.networking.wireless.extraConfigFiles;
        inherit (config.systemd.services.cygnet-carried) before;
        start = lib.last (lib.splitString "/bin/" config.systemd.services.cygnet-carried.serviceConfig.ExecStart);
      };
    };
  # The template's system, without the modules of others that it imports.
  template = {
    base = "installed";
    modules = [
      (own + "/templates/pi/configuration.nix")
      (own + "/templates/pi/disks.nix")
      (
        { lib, ... }:
        {
          config._module.args.keys = [ "ssh-ed25519 AAAA you@laptop" ];
          options.disko.devices = lib.mkOption { type = lib.types.attrsOf lib.types.anything; };
        }
      )
    ];
    see = config: {
      pools = builtins.attrNames config.disko.devices.zpool;
      partitions = builtins.attrNames config.disko.devices.disk.ssd.content.partitions;
      keys = config.users.users.root.openssh.authorizedKeys.keys;
      files = config.networking.wireless.extraConfigFiles;
    };
  };
  not-enabled = {
    base = "agent";
    modules = [ ];
    see = config: config.systemd.services ? cygnetd;
  };

  # Refused, with a remedy.
  driver-in-initrd = bad { boot.initrd.kernelModules = [ "brcmfmac" ]; };
  driver-blacklisted = bad { boot.blacklistedKernelModules = [ "brcmfmac" ]; };
  no-firmware = bad { hardware.enableRedistributableFirmware = false; };
  no-zfs = bad { boot.supportedFilesystems.zfs = lib.mkForce false; };
  kernel-without-zfs = bad ({ pkgs, ... }: { boot.kernelPackages = pkgs.linuxKernel.packages.linux_6_19; });
  no-host-id = bad { networking.hostId = lib.mkForce null; };
  a-password = bad { users.users.root.initialPassword = "nixos"; };
  an-empty-password = bad { users.users.root.initialHashedPassword = ""; };
  autologin = bad { services.getty.autologinUser = "root"; };
  initrd-network = bad { boot.initrd.network.enable = true; };
  not-aarch64 = bad { nixpkgs.hostPlatform = lib.mkForce "x86_64-linux"; };
  agent-off = bad { services.cygnet.enable = false; };
  passphrase-in-store = agent {
    services.cygnet.networks = [
      {
        ssid = "home";
        passphrase = "correct horse";
      }
    ];
  };
  passphrase-file-in-store = agent {
    services.cygnet.networks = [
      {
        ssid = "home";
        passphraseFile = "${builtins.storeDir}/00000000000000000000000000000000-secret";
      }
    ];
  };
  network-without-a-way-in = agent { services.cygnet.networks = [ { ssid = "home"; } ]; };
  network-with-two-ways-in = agent {
    services.cygnet.networks = [
      {
        ssid = "home";
        open = true;
        passphraseFile = "/run/secrets/home";
      }
    ];
  };
  network-with-a-long-name = agent {
    services.cygnet.networks = [
      {
        ssid = "a network whose name is far too long";
        open = true;
      }
    ];
  };
  network-twice = agent {
    services.cygnet.networks = map (ssid: {
      inherit ssid;
      open = true;
    }) [ "home" "home" ];
  };
  network-manager = agent { networking.networkmanager.enable = true; };
  other-supplicant = agent { networking.wireless.enable = true; };
  iwd = agent { networking.wireless.iwd.enable = true; };
  avahi = agent { services.avahi.enable = true; };
  no-networkd = agent { networking.useNetworkd = false; };
  no-sshd = agent { services.openssh.enable = false; };
  ssh-passwords = agent { services.openssh.settings.PasswordAuthentication = true; };
  ssh-without-root = agent { services.openssh.settings.PermitRootLogin = "no"; };
  private-key = agent { services.cygnet.authorizedKeys = [ "-----BEGIN OPENSSH PRIVATE KEY-----" ]; };
  caches-without-keys = agent { services.cygnet.substituters = [ "http://nas.local:5000" ]; };
  both-modules = {
    base = "installed";
    modules = [
      (
        { lib, ... }:
        {
          options.services.cygnet.enable = lib.mkEnableOption "the agent, elsewhere";
          config.services.cygnet.enable = true;
          config.services.cygnet.installed.enable = true;
        }
      )
    ];
    see = _: null;
  };
  shell-on-fail = installed { boot.kernelParams = [ "boot.shell_on_fail" ]; };
  networks-for-nobody = installed { services.cygnet.installed.keepNetworks = "iwd"; };

  # Of the wrong type: the option itself is looked at, because nothing else may need it.
  country-in-words = wrong "agent" [ "services" "cygnet" "country" ] "Germany";
  key-of-two-lines = wrong "agent" [ "services" "cygnet" "authorizedKeys" ] [ "ssh-ed25519 AAAA\nssh-rsa BBBB" ];
  key-of-a-cache-without-name = wrong "agent" [ "services" "cygnet" "trustedPublicKeys" ] [ "AAAA" ];
  console-with-its-directory = wrong "agent" [ "services" "cygnet" "console" "devices" ] [ "/dev/ttyS0" ];
  console-that-is-none = wrong "bootstrap" [ "services" "cygnet" "bootstrap" "serialConsoles" ] [ "serial0" ];
  unknown-network-option = wrong "agent" [ "services" "cygnet" "networks" ] [
    {
      ssid = "home";
      psk = "correct horse";
    }
  ];
  unknown-supplicant = wrong "installed" [ "services" "cygnet" "installed" "keepNetworks" ] "connman";
  announced-for-ever = wrong "installed" [ "services" "cygnet" "installed" "announceFor" ] "for ever";
  on-trial-for-ever = wrong "installed" [ "services" "cygnet" "installed" "trial" "deadline" ] "for ever";
}
