# The closure as a user's flake has it: one host, with its system and its disks. It has no inputs, so that it evaluates
# without a network. `tests/src/closure/flake.rs` puts the files it names beside it.
{
  description = "A NixOS-shaped system for the virtual Pi";

  outputs =
    { self }:
    let
      inputs = builtins.fromJSON (builtins.readFile ./inputs.json);
      systems = import ./nix {
        inputs = ./inputs.json;
        root = ./.;
      };
    in
    {
      nixosConfigurations.pi = {
        config = {
          networking = {
            inherit (inputs) hostName hostId;
          };
          system.build.toplevel = systems.${inputs.attribute};
          disko.devices = import ./disko.nix (
            builtins.fromJSON (builtins.readFile ./nix/layout/zfs-root.json)
          );
        };
      };
    };
}
