# What cygnet is worked on with. The scenarios in the virtual Pi need Debian besides (README.md).
{
  mkShell,
  rustup,
  nixfmt,
  openssh,
  qemu,
}:
mkShell {
  # rustup and not nixpkgs' Rust: the agent's target and its linker come with it.
  packages = [
    rustup
    nixfmt
    openssh
    qemu
  ];
}
