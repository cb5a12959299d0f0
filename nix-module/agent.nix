# `nixosModules.agent`: `services.cygnet`, the agent on a machine that is to be installed.
#
# Read ./agent/options.nix for what can be set; beside it one file for each thing that is done about it.
{
  imports = [
    ./agent/options.nix
    ./agent/service.nix
    ./agent/network.nix
    ./agent/settings.nix
    ./agent/ssh.nix
    ./agent/substituters.nix
    ./agent/tools.nix
  ];
}
