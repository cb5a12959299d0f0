# A NixOS-shaped closure out of Debian arm64 packages, by plain `derivation` calls: no nixpkgs, no network.
#
# `inputs` is the path of a JSON file written by `tests/src/closure`: what to build, and the files to build it from.
{
  inputs,
  root ? /.,
}:
let
  settings = builtins.fromJSON (builtins.readFile inputs);

  # File names in the JSON are absolute, or relative to `root` when the whole build lies in a flake.
  source =
    name: file:
    builtins.path {
      name = cleanName name;
      path = if builtins.substring 0 1 file == "/" then /. + file else root + "/${file}";
    };

  # Debian's versions may hold characters that a store path's name must not.
  cleanName =
    name:
    builtins.concatStringsSep "" (
      map (part: if builtins.isList part then "-" else part) (builtins.split "[^a-zA-Z0-9+._?=-]" name)
    );

  layout = import ./layout.nix {
    layout = builtins.fromJSON (builtins.readFile ./layout/zfs-root.json);
  };

  build = import ./build.nix { inherit settings source cleanName; };
  packages = import ./packages.nix { inherit settings build source; };
  scripts = import ./scripts.nix { inherit build packages; };
  # For a closure that the target cannot run.
  buildersScripts = import ./scripts.nix {
    inherit build packages;
    shell = build.tools;
  };
  variety = import ./variety.nix { inherit build; };
  installed = import ./installed.nix { inherit settings build source; };
  radio = import ./radio.nix { inherit settings build; };
  sw = import ./sw.nix {
    inherit
      build
      packages
      installed
      radio
      ;
  };
  kernel = import ./kernel.nix { inherit settings build source; };
  initrd = import ./initrd.nix {
    inherit
      settings
      layout
      build
      packages
      scripts
      kernel
      ;
  };
  etc = import ./etc.nix {
    inherit
      settings
      layout
      build
      packages
      installed
      radio
      ;
  };
  toplevel = import ./toplevel.nix { inherit settings build; };

  full = toplevel {
    inherit (kernel) image modules;
    inherit
      scripts
      initrd
      sw
      etc
      ;
    activate = "activate.sh";
    bootLoader = "extlinux.sh";
    system = "aarch64-linux";
    extraDependencies = variety.all;
  };

  tiny = import ./tiny.nix {
    inherit
      settings
      layout
      build
      scripts
      buildersScripts
      toplevel
      variety
      ;
  };

  bench = import ./bench.nix { inherit settings build source; };
in
{
  inherit full;
  benchPackages = bench.packages;
  benchRebuilt = bench.rebuilt;
  benchMany = bench.many;
}
// tiny
