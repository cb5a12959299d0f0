# The consoles: what a person with a cable or a monitor sees.
{
  config,
  lib,
  ...
}:
let
  cfg = config.services.cygnet.bootstrap;
  isConsole = lib.hasPrefix "console=";
in
{
  options.services.cygnet.bootstrap.serialConsoles = lib.mkOption {
    type = lib.types.listOf (lib.types.strMatching "tty[A-Za-z0-9]+");
    default = [
      "ttyS0"
      "ttyS1"
    ];
    example = [ "ttyAMA10" ];
    description = ''
      The serial lines that the kernel may use as consoles; of those that are not there nothing is seen. On a Pi 3 or 4 it is
      the mini UART, ttyS1 or ttyS0 by its kernel; on a Pi 5 the connector between the HDMI ports, ttyAMA10. ttyAMA0 is
      Bluetooth's on a Pi 3 or 4.
    '';
  };

  # nixpkgs' image names ttyAMA0 as well, for QEMU: on a Pi, where it is Bluetooth's, the kernel then talks to that chip, and a
  # login prompt is opened on it (nixpkgs#562651). A list can only be added to, so it is looked over when all is added.
  options.boot.kernelParams = lib.mkOption {
    apply =
      all:
      builtins.filter (word: !isConsole word) all
      ++ map (line: "console=${line},115200n8") cfg.serialConsoles
      # The last is /dev/console.
      ++ [ "console=tty0" ];
  };

  # On the agent's screen only what it shows, and what is the kernel's end.
  config.boot.consoleLogLevel = lib.mkOverride 900 3;
}
