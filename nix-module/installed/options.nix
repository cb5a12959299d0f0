# What can be set of it.
{ lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
in
{
  options.services.cygnet.installed = {
    enable = lib.mkEnableOption ''
      the announcement of a freshly installed system, by which `cygnet install` and `cygnet discover` see that it runs
    '';

    package = mkOption {
      type = types.package;
      default = pkgs.pkgsStatic.callPackage ../packages/cygnetd.nix { };
      defaultText = lib.literalExpression "cygnet.packages.\${system}.cygnetd";
      description = "The package with `bin/cygnetd` and its unit files.";
    };

    announceFor = mkOption {
      type = types.strMatching "[1-9][0-9]{0,4}[smh]";
      default = "10m";
      example = "1h";
      description = ''
        For how long after each start it says on the local network that it is installed, with its system's store path and its
        ssh host key. Then it is silent until the next start: whoever looks for it later uses its name or address.
      '';
    };

    keepNetworks = mkOption {
      type = types.nullOr (
        types.enum [
          "wpa_supplicant"
          "iwd"
          "networkmanager"
        ]
      );
      default = null;
      example = "wpa_supplicant";
      description = ''
        For whom the wireless networks by which it was installed are written down at each start, so that a machine that has
        nothing but WiFi stays reachable. `cygnet install` leaves them, with their passphrases and for root only, in
        `/var/lib/cygnet/carried.json`; without this option they lie there unused. `cygnetd carried --help` says in which files
        they end up.
      '';
    };

    trial = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether a start that nobody confirms ends in a reboot, which leads back to the card that was left in. It does so for the
          first start after `cygnet install`, for emergency mode, and for a later start in which nobody can log in. Without a card,
          or without a switch on it, nothing is done.
        '';
      };

      deadline = mkOption {
        type = types.strMatching "[1-9][0-9]{0,4}[smh]";
        default = "10m";
        example = "30m";
        description = ''
          How long after its start a system on trial waits to be confirmed, which `cygnet install` does when it has seen that the right
          system answers with the right ssh host key.
        '';
      };

      confirmAfter = mkOption {
        type = types.nullOr (types.strMatching "[1-9][0-9]{0,4}[smh]");
        default = null;
        example = "5m";
        description = ''
          Whether a system on trial confirms itself when nobody else does, as when the laptop has gone: once it has had an address, and an
          ssh server has listened, for so long without a break. It must be shorter than the deadline. What it can't see is whether you
          have its key, or a way to it.
        '';
      };

      watchdog = mkOption {
        type = types.bool;
        default = true;
        description = "Whether systemd keeps the hardware watchdog, so that a kernel that hangs is a reset after 15 s.";
      };
    };

    openFirewall = mkOption {
      type = types.bool;
      default = true;
      description = "Whether to let mDNS (UDP 5353) in, so that `cygnet discover` is answered.";
    };
  };
}
