# The flake's outputs, with a nixpkgs that tells what it is asked for.
{ lib, root }:
let
  pkgsOf = system: import ./stubs/packages.nix { inherit lib system; };
  nixpkgs = {
    lib = lib // {
      # The modules are evaluated elsewhere (./evaluate.nix).
      nixosSystem = arguments: {
        inherit arguments;
        config.system.build.sdImage = {
          type = "derivation";
          name = "image";
          outPath = "${builtins.storeDir}/00000000000000000000000000000000-image";
          drvPath = "${builtins.storeDir}/00000000000000000000000000000000-image.drv";
        };
      };
    };
    legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ] pkgsOf;
  };
  self = (import (root + "/flake.nix")).outputs { inherit self nixpkgs; };
  names = builtins.mapAttrs (_: builtins.attrNames);
  template = import (self.templates.default.path + "/flake.nix");
  system = self.lib.bootstrapSystem { authorizedKeys = [ "key" ]; };
in
{
  modules = builtins.mapAttrs (_: builtins.pathExists) self.nixosModules;
  lib = builtins.attrNames self.lib;
  packages = names self.packages;
  shells = names self.devShells;
  checks = names self.checks;
  template = {
    inputs = builtins.attrNames template.inputs;
    inherit (self.templates.default) description;
    says = builtins.stringLength self.templates.default.welcomeText > 0;
    files = builtins.attrNames (builtins.readDir self.templates.default.path);
  };
  # The last of its modules has what was given.
  given = (builtins.elemAt system.arguments.modules 1).services.cygnet.authorizedKeys;
  platform = (builtins.elemAt system.arguments.modules 1).nixpkgs;
}
