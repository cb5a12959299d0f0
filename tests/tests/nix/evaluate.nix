# Evaluates our modules in the module system of the real `lib`.
#
# Where `nixpkgs` is a whole nixpkgs, with its modules and packages; where it is only its `lib`, against ./stubs, which declare
# with the types of NixOS what our modules set, and nothing else: a name that NixOS does not have is not noticed there.
{
  nixpkgs,
  root,
}:
let
  lib = import (nixpkgs + "/lib");
  whole = builtins.pathExists (nixpkgs + "/nixos/lib/eval-config.nix");
  own = root + "/nix-module";

  withStubs =
    modules:
    lib.evalModules {
      specialArgs.modulesPath = ./stubs;
      modules = [
        ./stubs/options.nix
      ]
      ++ modules;
    };
  withNixos =
    modules:
    import (nixpkgs + "/nixos/lib/eval-config.nix") {
      inherit lib;
      system = null;
      modules = [
        { nixpkgs.hostPlatform = lib.mkDefault "aarch64-linux"; }
        # What every NixOS must have, and a module for one purpose does not give.
        {
          system.stateVersion = lib.mkDefault lib.trivial.release;
          fileSystems."/" = lib.mkDefault {
            device = "none";
            fsType = "tmpfs";
          };
          boot.loader.grub.enable = lib.mkDefault false;
        }
      ]
      ++ modules;
    };
  evaluate = if whole then withNixos else withStubs;

  bases = {
    agent = own + "/agent.nix";
    bootstrap = own + "/bootstrap.nix";
    installed = own + "/installed.nix";
  };

  judge =
    case:
    let
      inherit (evaluate ([ bases.${case.base} ] ++ case.modules)) config;
      # Those of ours: a whole NixOS has others.
      ours = message: lib.hasInfix "cygnet" message;
      failed = builtins.filter (check: !check.assertion && ours check.message) config.assertions;
      found = builtins.tryEval (
        let
          result = {
            refused = map (check: check.message) failed;
            warned = builtins.filter ours config.warnings;
            seen = case.see config;
          };
        in
        builtins.deepSeq result result
      );
    in
    # A value of the wrong type is a `throw` of the module system's.
    if found.success then found.value else { thrown = true; };

  documented =
    let
      evaluated = evaluate [
        bases.bootstrap
        bases.installed
      ];
      mine = option: lib.hasPrefix "services.cygnet" option.name && option.visible && !option.internal;
      # Where it is declared is a path of this machine.
      plain = option: removeAttrs option [ "declarations" ];
    in
    map plain (builtins.filter mine (lib.optionAttrSetToDocList evaluated.options));
in
{
  inherit whole documented;
  release = lib.trivial.release;
  cases = builtins.mapAttrs (_: judge) (import ./cases.nix { inherit lib own; });
  kernels = import ./kernels.nix {
    inherit lib;
    newest = import (own + "/lib/newest-kernel.nix") { inherit lib; };
  };
  packages = import ./packages.nix { inherit lib own; };
  outputs = import ./outputs.nix { inherit lib root; };
}
