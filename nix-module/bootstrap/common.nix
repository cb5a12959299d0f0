# `nixosModules.bootstrapCommon`: a system that lives on a card and waits to install another.
{
  imports = [
    ../agent.nix
    ./system.nix
    ./kernel.nix
    ./radio.nix
    ./console.nix
    ./checks.nix
  ];
}
