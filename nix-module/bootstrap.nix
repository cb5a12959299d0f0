# `nixosModules.bootstrap`: the card. nixpkgs' image for aarch64 boards, with the agent in it.
#
# ./bootstrap/common.nix is all of it but the image itself, for boards that nixpkgs' image does not start (a Pi 5): import that
# into an image of your own.
{ modulesPath, ... }:
{
  imports = [
    (modulesPath + "/installer/sd-card/sd-image-aarch64.nix")
    ./bootstrap/common.nix
    ./bootstrap/image.nix
  ];
}
