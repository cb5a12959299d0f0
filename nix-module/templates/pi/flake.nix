{
  description = "One Raspberry Pi: ZFS on an SSD, installed by cygnet";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    # Where you have cygnet from: git+https://…, github:…, or path:/home/you/cygnet.
    cygnet.url = "path:../cygnet";
    cygnet.inputs.nixpkgs.follows = "nixpkgs";
    disko.url = "github:nix-community/disko";
    disko.inputs.nixpkgs.follows = "nixpkgs";
    # Puts the Pi's firmware onto the FAT partition: nixpkgs by itself does not, and nothing boots from the SSD then.
    nixos-hardware.url = "github:NixOS/nixos-hardware";
  };

  outputs =
    {
      self,
      nixpkgs,
      cygnet,
      disko,
      nixos-hardware,
    }:
    let
      keys = [ "ssh-ed25519 AAAA… you@laptop" ];
    in
    {
      # The system on the SSD: cygnet install HOST --flake .#pi
      nixosConfigurations.pi = nixpkgs.lib.nixosSystem {
        specialArgs = { inherit keys; };
        modules = [
          nixos-hardware.nixosModules.raspberry-pi-4
          disko.nixosModules.disko
          cygnet.nixosModules.installed
          ./configuration.nix
          ./disks.nix
        ];
      };

      # The system on the card: cygnet image build .#card
      packages.aarch64-linux.card = cygnet.lib.bootstrapImage {
        authorizedKeys = keys;
        country = "DE";
      };
      packages.x86_64-linux.card = self.packages.aarch64-linux.card;
      packages.aarch64-darwin.card = self.packages.aarch64-linux.card;
      packages.x86_64-darwin.card = self.packages.aarch64-linux.card;
    };
}
