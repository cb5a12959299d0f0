# `nixosModules.installed`: `services.cygnet.installed`, on the system that was installed.
{
  imports = [
    ./installed/options.nix
    ./installed/announce.nix
    ./installed/networks.nix
    ./installed/trial.nix
  ];
}
