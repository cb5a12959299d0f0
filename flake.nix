{
  description = "cygnet: a headless Raspberry Pi, from a freshly flashed card to NixOS on a ZFS SSD";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs = { self, nixpkgs }: import ./nix-module/outputs.nix { inherit self nixpkgs; };
}
