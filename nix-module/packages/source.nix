# The sources that a crate is built from: what is not compiled does not make it be built anew. Without .cargo/config.toml: the
# linker that it names comes with rustup, and nixpkgs has its own.
{ lib }:
lib.fileset.toSource {
  root = ../..;
  fileset = lib.fileset.unions [
    ../../Cargo.toml
    ../../Cargo.lock
    ../../protocol
    ../../agent
    ../../host-cli
    ../../tests
  ];
}
