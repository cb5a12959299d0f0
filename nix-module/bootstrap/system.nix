# What this system is, and what it does without.
{ lib, ... }:
let
  preset = lib.mkOverride 900;
in
{
  services.cygnet.enable = preset true;

  # os-release says what it is: tools that look at VARIANT_ID, like nixos-anywhere, then know that there is no need for kexec,
  # which does not work on these boards.
  system.nixos.variant_id = preset "installer";
  networking.hostName = preset "cygnet";

  # All that is on a card is in its Nix store, so a password would be, too. Keys are enough; with none of them written here, they
  # come from the card's FAT partition, which NixOS cannot know.
  users.mutableUsers = preset false;
  users.allowNoPasswordLogin = preset true;

  # A Pi of 1 GB: what is compressed in memory is not swapped to a card.
  zramSwap.enable = preset true;

  # It builds nothing and is not administered on the spot.
  documentation.enable = preset false;
  documentation.nixos.enable = preset false;
  nix.settings.max-jobs = preset 0;
  # The card ends its life in a drawer: nothing on it is migrated.
  system.stateVersion = preset lib.trivial.release;
}
