# What can be set of the agent.
{ lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  network = types.submodule (import ./network-options.nix);
in
{
  options.services.cygnet = {
    enable = lib.mkEnableOption "cygnetd, the agent that installs NixOS on this machine's disks for `cygnet`";

    package = mkOption {
      type = types.package;
      default = pkgs.pkgsStatic.callPackage ../packages/cygnetd.nix { };
      defaultText = lib.literalExpression "cygnet.packages.\${system}.cygnetd";
      description = ''
        The package with `bin/cygnetd` and the unit files. By default it is built statically, as the one for other
        distributions is.
      '';
    };

    authorizedKeys = mkOption {
      type = types.listOf types.singleLineStr;
      default = [ ];
      example = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPjGfS6lWGsMYHjbbkFEjVYOFxEfAYWZNwSRSLpHVJhd you@laptop" ];
      description = ''
        The ssh keys that may log in as root, and so install. Keys that `cygnet card configure` puts on the card hold
        beside these. There is no other way in: passwords are not accepted.
      '';
    };

    restrictKeys = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether {option}`services.cygnet.authorizedKeys` may do nothing but speak to the agent: they become a forced
        command, `cygnetd bridge`. Then nobody gets a shell by them. They are root all the same: hooks of a layout run as root,
        and so does the system that is installed.
      '';
    };

    country = mkOption {
      type = types.nullOr (types.strMatching "[A-Z]{2}");
      default = null;
      example = "DE";
      description = ''
        Where the machine is: the two letters of ISO 3166-1. Without it only what is allowed everywhere may be used of
        the radio, which is no channel above 11 in the 2.4 GHz band and next to nothing at 5 GHz.
      '';
    };

    networks = mkOption {
      type = types.listOf network;
      default = [ ];
      example = lib.literalExpression ''
        [
          {
            ssid = "home";
            passphraseFile = "/run/secrets/home-wifi";
          }
          {
            ssid = "library";
            open = true;
          }
        ]
      '';
      description = ''
        The wireless networks to join. A passphrase is never written here: what is written here is in the Nix store,
        which everybody can read. It comes from a file, or is put onto the card by `cygnet card configure`, or typed on the
        console.
      '';
    };

    console = {
      devices = mkOption {
        type = types.listOf (types.strMatching "[A-Za-z0-9]+");
        default = [ ];
        example = [ "ttyS1" ];
        description = ''
          The terminals that the agent draws its screen on, without `/dev/`. If there are none here, those that the kernel
          uses as consoles, and tty1.
        '';
      };
      shell = mkOption {
        type = types.bool;
        default = false;
        description = ''
          Whether the key `x` opens a root shell on these terminals, without asking who it is. For whoever can hold the
          machine in hands.
        '';
      };
      takeOver = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether there is no login prompt on tty1 and the serial lines, so that the agent's screen is not drawn over.
        '';
      };
    };

    substituters = mkOption {
      type = types.listOf types.singleLineStr;
      default = [ ];
      example = [ "http://nas.local:5000" ];
      description = ''
        Binary caches for this machine's own Nix. The agent asks the caches that the new system names, or that
        `cygnet install --substituter` does, whatever is said here.
      '';
    };

    trustedPublicKeys = mkOption {
      type = types.listOf (types.strMatching "[^:[:space:]]+:[A-Za-z0-9+/=]+");
      default = [ ];
      example = [ "builder-1:wG9VDRQ4d8PjuUxvpAz97sRVPpZkgr9zydzn8dID60s=" ];
      description = ''
        Keys whose signatures on store paths are good, beside cache.nixos.org's: for `cygnet install --trust signatures`, and
        for what comes from binary caches.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = true;
      description = "Whether to let mDNS (UDP 5353) in, so that `cygnet discover` is answered.";
    };

    extraTools = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = lib.literalExpression "[ pkgs.nvme-cli ]";
      description = "Packages whose programs the hooks of your layout call.";
    };

    extraArguments = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "--target"
        "/target"
      ];
      description = "More words for `cygnetd daemon`; `cygnetd --help` lists them.";
    };
  };
}
