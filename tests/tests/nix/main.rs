//! Our Nix files, by the real Nix: they parse and are formatted ([`files`]); the modules evaluate in the real module system,
//! refuse what contradicts them and say what to do ([`modules`]); the flake is one ([`flake`]); `docs/options.md` is what the
//! options say ([`reference`]).
//!
//! The module system is nixpkgs' `lib`, which is looked for in `CYGNET_NIXPKGS` and `NIX_PATH` ([`tools`]). Whatever cannot be
//! run here is said, on stderr.

mod files;
mod flake;
mod modules;
mod reference;
mod tools;
