# The networks that were carried over, for whoever has the radio here.
{
  config,
  lib,
  options,
  ...
}:
let
  cfg = config.services.cygnet.installed;
  kept = cfg.enable && cfg.keepNetworks != null;
  for = who: cfg.enable && cfg.keepNetworks == who;
  # wpa_supplicant's own, which its unit sees; it came with NixOS 26.05.
  file = "/etc/wpa_supplicant/cygnet-carried.conf";
  places = {
    wpa_supplicant = file;
    iwd = "/var/lib/iwd";
    networkmanager = "/run/NetworkManager/system-connections";
  };
  readers = {
    wpa_supplicant =
      if config.networking.wireless.interfaces == [ ] then
        [ "wpa_supplicant.service" ]
      else
        map (name: "wpa_supplicant-${name}.service") config.networking.wireless.interfaces;
    iwd = [ "iwd.service" ];
    networkmanager = [ "NetworkManager.service" ];
  };
  hasExtraFiles = options.networking.wireless ? extraConfigFiles;
in
{
  config = lib.mkMerge [
    (lib.mkIf kept {
      systemd.services.cygnet-carried = {
        description = "Writes down the wireless networks by which this system was installed";
        wantedBy = readers.${cfg.keepNetworks};
        before = readers.${cfg.keepNetworks};
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          UMask = "0077";
          ExecStart = lib.escapeShellArgs (
            [
              "${cfg.package}/bin/cygnetd"
              "carried"
              "--as"
              cfg.keepNetworks
              "--into"
              places.${cfg.keepNetworks}
            ]
            ++ lib.optionals (for "wpa_supplicant") [
              "--owner"
              "wpa_supplicant"
            ]
          );
          # It reads one file with passphrases and writes others; nobody else is to see either.
          CapabilityBoundingSet = [
            "CAP_CHOWN"
            "CAP_DAC_OVERRIDE"
            "CAP_FOWNER"
          ];
          NoNewPrivileges = true;
          PrivateNetwork = true;
          ProtectHome = true;
          LimitCORE = 0;
        };
      };

      assertions = [
        {
          assertion =
            {
              wpa_supplicant = config.networking.wireless.enable;
              iwd = config.networking.wireless.iwd.enable;
              networkmanager = config.networking.networkmanager.enable;
            }
            .${cfg.keepNetworks};
          message = ''
            services.cygnet.installed.keepNetworks: the networks are to be kept for ${cfg.keepNetworks}, which this system does not
            use. Enable it (networking.wireless, networking.wireless.iwd or networking.networkmanager), or name the one that it
            uses; otherwise a machine with nothing but WiFi is lost after the reboot.
          '';
        }
        {
          assertion = for "wpa_supplicant" -> hasExtraFiles;
          message = ''
            services.cygnet.installed.keepNetworks = "wpa_supplicant" needs networking.wireless.extraConfigFiles, which came with
            NixOS 26.05. Take a newer nixpkgs, or keepNetworks = "iwd" or "networkmanager".
          '';
        }
      ];
    })
    (lib.optionalAttrs hasExtraFiles {
      networking.wireless.extraConfigFiles = lib.mkIf (for "wpa_supplicant") [ file ];
    })
  ];
}
