# The command on the laptop, with its manual pages and completions.
{
  lib,
  stdenv,
  rustPlatform,
  installShellFiles,
}:
rustPlatform.buildRustPackage {
  pname = "cygnet";
  version = (lib.importTOML ../../Cargo.toml).workspace.package.version;
  src = import ./source.nix { inherit lib; };
  cargoLock.lockFile = ../../Cargo.lock;

  nativeBuildInputs = [ installShellFiles ];
  cargoBuildFlags = [
    "--package"
    "cygnet-cli"
  ];
  # They need Nix, ssh and root: `cargo verify` runs them.
  doCheck = false;

  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    "$out/bin/cygnet" man man
    installManPage man/*
    for shell in bash fish zsh; do
      "$out/bin/cygnet" completions "$shell" > "cygnet.$shell"
      installShellCompletion --cmd cygnet "--$shell" "cygnet.$shell"
    done
  '';

  meta = {
    description = "Installs NixOS on a headless Raspberry Pi, from a laptop, over ssh";
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    mainProgram = "cygnet";
    platforms = lib.platforms.linux ++ lib.platforms.darwin;
  };
}
