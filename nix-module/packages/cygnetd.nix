# The agent: static, small, with its unit files.
#
# For a Pi it is built as pkgsCross.aarch64-multiplatform-musl.pkgsStatic.callPackage ./cygnetd.nix { }.
{
  lib,
  stdenv,
  rustPlatform,
}:
rustPlatform.buildRustPackage {
  pname = "cygnetd";
  version = (lib.importTOML ../../Cargo.toml).workspace.package.version;
  src = import ./source.nix { inherit lib; };
  cargoLock.lockFile = ../../Cargo.lock;

  buildType = "agent";
  cargoBuildFlags = [
    "--package"
    "cygnet-agent"
  ];
  # They need root, namespaces and loop devices: `cargo verify` runs them.
  doCheck = false;

  postInstall = ''
    install -D -m 0444 -t "$out/lib/systemd/system" agent/systemd/*.service
    install -D -m 0444 -t "$out/lib/systemd/network" agent/systemd/*.network
    sed -i "s,/usr/bin/cygnetd,$out/bin/cygnetd," "$out"/lib/systemd/system/*.service
    if grep -r /usr/bin "$out/lib/systemd"; then
      echo "a unit still names a program below /usr/bin, which NixOS has not" >&2
      exit 1
    fi
  '';

  meta = {
    description = "Agent on a Raspberry Pi's card that installs NixOS on its SSD";
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    mainProgram = "cygnetd";
    platforms = lib.platforms.linux;
    # A program that needs a libc of the store would work here, but not be what the tests have seen.
    broken = !stdenv.hostPlatform.isStatic;
  };
}
