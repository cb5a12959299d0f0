//! A NixOS-shaped closure for the virtual Pi, built by real Nix.
