# The packages' expressions, called with builders that only tell what they were given.
{ lib, own }:
let
  pkgs = import ./stubs/packages.nix { inherit lib; };
  told = package: {
    inherit (package.arguments) pname version cargoBuildFlags;
    type = package.arguments.buildType or "release";
    # lib.fileset needs Nix 2.14.
    src = if builtins ? readFileType then toString package.arguments.src else null;
    broken = package.arguments.meta.broken or false;
    main = package.arguments.meta.mainProgram;
  };
in
{
  cygnetd = told (pkgs.pkgsStatic.callPackage (own + "/packages/cygnetd.nix") { });
  dynamic = (told (pkgs.callPackage (own + "/packages/cygnetd.nix") { })).broken;
  cygnet = told (pkgs.callPackage (own + "/packages/cygnet.nix") { });
}
