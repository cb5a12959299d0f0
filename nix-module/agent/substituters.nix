# Whose signatures this machine believes, and which caches its own Nix asks.
{
  config,
  lib,
  ...
}:
let
  cfg = config.services.cygnet;
in
{
  config = lib.mkIf cfg.enable {
    nix.settings = {
      extra-substituters = lib.mkIf (cfg.substituters != [ ]) cfg.substituters;
      extra-trusted-public-keys = lib.mkIf (cfg.trustedPublicKeys != [ ]) cfg.trustedPublicKeys;
    };
    warnings = lib.optional (cfg.substituters != [ ] && cfg.trustedPublicKeys == [ ]) ''
      services.cygnet.substituters names caches, but there is no key for what they have signed: only paths that
      cache.nixos.org has signed come from them. Add their keys to services.cygnet.trustedPublicKeys.
    '';
  };
}
