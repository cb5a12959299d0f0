# `cygnet.lib`: making an image without writing a configuration.
{ nixpkgs, modules }:
rec {
  # The system on the card, as a nixosSystem. `authorizedKeys`, `country` and `networks` are those of services.cygnet;
  # `extraModules` is for everything else. With `buildPlatform`, it is cross-compiled from there.
  bootstrapSystem =
    {
      hostPlatform ? "aarch64-linux",
      buildPlatform ? hostPlatform,
      authorizedKeys ? [ ],
      country ? null,
      networks ? [ ],
      extraModules ? [ ],
    }:
    nixpkgs.lib.nixosSystem {
      modules = [
        modules.bootstrap
        {
          nixpkgs = { inherit hostPlatform buildPlatform; };
          services.cygnet = { inherit authorizedKeys country networks; };
        }
      ]
      ++ extraModules;
    };

  # Its image: a directory with sd-image/NAME.img.zst, for `cygnet card flash`.
  bootstrapImage = arguments: (bootstrapSystem arguments).config.system.build.sdImage;

  # The newest of nixpkgs' kernels that ZFS supports.
  newestKernel = import ./newest-kernel.nix { inherit (nixpkgs) lib; };
}
