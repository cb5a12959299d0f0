# The trial: what is not confirmed goes back to the card, and a panic is a reboot.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  cfg = config.services.cygnet.installed;
  unit = {
    # lsblk and blkid, by which the card is found.
    path = [ pkgs.util-linux ];
    # `nixos-rebuild switch` is no start.
    restartIfChanged = false;
  };
  # A kernel that hangs is a reset, which on trial leads back to the card. The watchdog of a Raspberry Pi has 15 s at most.
  watchdog = lib.mkIf cfg.trial.watchdog {
    systemd =
      if options.systemd ? settings then
        { settings.Manager.RuntimeWatchdogSec = lib.mkDefault "15s"; }
      else
        # Before NixOS 25.11.
        { watchdog.runtimeTime = lib.mkDefault "15s"; };
  };
in
{
  config = lib.mkIf (cfg.enable && cfg.trial.enable) (
    lib.mkMerge [
      watchdog
      {
        systemd.services.cygnet-trial = unit // {
          # NixOS does not read [Install].
          wantedBy = [ "sysinit.target" ];
          serviceConfig.Environment = [
            "CYGNET_TRIAL=${cfg.trial.deadline}"
          ]
          ++ lib.optional (
            cfg.trial.confirmAfter != null
          ) "\"CYGNET_TRIAL_OPTIONS=--confirm-after ${cfg.trial.confirmAfter}\"";
        };
        systemd.services.cygnet-trial-emergency = unit // {
          wantedBy = [ "emergency.target" ];
        };

        # Nobody is there to read what a panic says, or to press a key in stage 1.
        boot.kernelParams = [
          "panic=10"
          "boot.panic_on_fail"
        ];

        # `cygnet install` runs `cygnetd confirm` here, `cygnet boot` runs `cygnetd switch`.
        environment.systemPackages = [ cfg.package ];

        assertions = [
          {
            assertion = !(lib.elem "boot.shell_on_fail" config.boot.kernelParams);
            message = ''
              services.cygnet.installed.trial: boot.kernelParams has boot.shell_on_fail, with which a system that fails in stage 1 waits
              for somebody at a keyboard instead of going back to the card. Remove it, or set services.cygnet.installed.trial.enable to
              false.
            '';
          }
        ];
      }
    ]
  );
}
