# `nix flake check`: the packages build, the image evaluates, everything is formatted.
{
  pkgs,
  self,
  system,
}:
let
  inherit (pkgs) lib;
  # Evaluates it and builds nothing: a machine that is no Pi can do that, too.
  evaluated = name: derivation: pkgs.writeText name (builtins.unsafeDiscardStringContext derivation.drvPath);
in
{
  inherit (self.packages.${system}) cygnet;
  image-evaluates = evaluated "cygnet-image" self.packages.${system}.image;
  format = pkgs.runCommand "cygnet-nix-format" { nativeBuildInputs = [ pkgs.nixfmt ]; } ''
    find ${lib.cleanSource ./.} ${../flake.nix} -name '*.nix' -exec nixfmt --check {} +
    touch $out
  '';
}
// lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux {
  inherit (self.packages.${system}) cygnetd;
}
