# What the flake has. Read ./agent.nix, ./bootstrap.nix and ./installed.nix for what it is about.
{ self, nixpkgs }:
let
  inherit (nixpkgs) lib;
  systems = [
    "x86_64-linux"
    "aarch64-linux"
    "x86_64-darwin"
    "aarch64-darwin"
  ];
  each = make: lib.genAttrs systems (system: make system nixpkgs.legacyPackages.${system});
in
{
  nixosModules = {
    agent = ./agent.nix;
    bootstrap = ./bootstrap.nix;
    bootstrapCommon = ./bootstrap/common.nix;
    installed = ./installed.nix;
  };

  lib = import ./lib {
    inherit nixpkgs;
    modules = self.nixosModules;
  };

  packages = each (
    system: pkgs: {
      default = self.packages.${system}.cygnet;
      cygnet = pkgs.callPackage ./packages/cygnet.nix { };
      # For the card, whatever it is built on.
      cygnetd = pkgs.pkgsCross.aarch64-multiplatform-musl.pkgsStatic.callPackage ./packages/cygnetd.nix { };
      # Without keys and networks: `cygnet card configure` puts them on the card. It is the same on each system, and needs a
      # builder for aarch64-linux, which `cygnet image build` looks for.
      image = self.lib.bootstrapImage { };
    }
  );

  devShells = each (
    _: pkgs: {
      default = pkgs.callPackage ./dev-shell.nix { };
    }
  );

  checks = each (
    system: pkgs:
    import ./checks.nix {
      inherit pkgs self system;
    }
  );

  formatter = each (_: pkgs: pkgs.nixfmt-tree);

  templates.default = {
    path = ./templates/pi;
    description = "One Raspberry Pi: ZFS on an SSD, disko, WiFi, installed by cygnet";
    welcomeText = builtins.readFile ./templates/welcome.md;
  };
}
