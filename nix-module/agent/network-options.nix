# One of `services.cygnet.networks`.
{ lib, ... }:
let
  inherit (lib) mkOption types;
in
{
  options = {
    ssid = mkOption {
      type = types.str;
      example = "home";
      description = "The network's name, 1 to 32 octets of UTF-8.";
    };
    passphraseFile = mkOption {
      # A string and not a path: `./secret` as a path would be copied into the store.
      type = types.nullOr types.str;
      default = null;
      example = "/run/secrets/home-wifi";
      description = ''
        A file on the machine whose first line is the passphrase (8 to 63 characters) or the pre-shared key (64 hex digits).
        It is read when the agent starts; agenix, sops-nix or systemd's credentials can provide it. If it is not there, this
        network is left out, and the journal says so.
      '';
    };
    passphrase = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = ''
        Refused, always: a passphrase written here would be in the Nix store, readable by everybody, and in each copy of it.
        This option is only here to say so.
      '';
    };
    open = mkOption {
      type = types.bool;
      default = false;
      description = "Whether the network has no passphrase.";
    };
    hidden = mkOption {
      type = types.bool;
      default = false;
      description = "Whether the network does not tell its name, and has to be asked for by it.";
    };
    priority = mkOption {
      type = types.int;
      default = 0;
      description = "Of several networks that are there, the one with the highest is joined.";
    };
  };
}
