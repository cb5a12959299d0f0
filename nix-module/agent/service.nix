# The unit, as the package has it: what is written here goes into a drop-in beside it.
#
# What it may do and why is said in cygnetd.service itself, so that every distribution has the same.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.cygnet;
in
{
  config = lib.mkIf cfg.enable {
    systemd.packages = [ cfg.package ];

    systemd.services.cygnetd = {
      # NixOS does not read [Install].
      wantedBy = [ "multi-user.target" ];
      path = [ "/run/wrappers" ] ++ config.services.cygnet.tools;
      # An installation is not for `nixos-rebuild switch` to interrupt.
      restartIfChanged = false;
      serviceConfig = lib.mkIf (cfg.extraArguments != [ ]) {
        ExecStart = [
          ""
          (lib.escapeShellArgs (
            [
              "${cfg.package}/bin/cygnetd"
              "daemon"
            ]
            ++ cfg.extraArguments
          ))
        ];
      };
    };

    # What is on the card's FAT partition; the unit says before whom it is read.
    systemd.services.cygnet-card = {
      wantedBy = [ "multi-user.target" ];
      path = config.services.cygnet.tools;
    };

    # For sshd's `cygnetd bridge`, and for whoever looks at the machine.
    environment.systemPackages = [ cfg.package ];

    # The agent draws on these.
    systemd.services."getty@tty1".enable = lib.mkIf cfg.console.takeOver false;
    systemd.services."serial-getty@".enable = lib.mkIf cfg.console.takeOver false;

    assertions = [
      {
        assertion = pkgs.stdenv.hostPlatform.isLinux;
        message = "services.cygnet: the agent is for Linux. Set nixpkgs.hostPlatform to the Pi's, aarch64-linux.";
      }
      {
        assertion = !(config.boot.isContainer or false);
        message = "services.cygnet: a container has no disks of its own. Take the module out of it.";
      }
    ];
  };
}
