# What `cargo bench-push` pushes: closures that look like systems to whoever copies them, and are never run.
#
# `system` in them is the builder's: the bench's agent runs there, and is asked for no more than to take them.
{
  settings,
  build,
  source,
}:
let
  packages =
    edition:
    (import ./packages.nix {
      inherit
        settings
        build
        source
        edition
        ;
    }).all;

  toplevel =
    name: paths:
    build.run {
      name = "nixos-system-bench-${name}-${settings.version}";
      # By a file: ten thousand names are too many for an environment.
      passAsFile = [ "paths" ];
      inherit paths;
      inherit (settings) version;
      targetSystem = settings.system;
      script = ''
        mkdir -p $out/bin
        printf '%s' "$targetSystem" > $out/system
        printf '%s' "$version" > $out/nixos-version
        for file in init activate bin/switch-to-configuration; do
          printf '#!/bin/sh\nexit 1\n' > $out/$file
          chmod 0755 $out/$file
        done
        tr ' ' '\n' < "$pathsPath" > $out/paths
      '';
    };

  # A hundred groups of a hundred files, each file some 160 bytes: 10 000 paths, 3.4 MB of NARs, half of them what a NAR
  # is made of. A group refers to its files, the toplevel to the groups.
  groups = builtins.genList (
    group:
    builtins.toFile "unit-group-${toString group}" (
      builtins.concatStringsSep "\n" (
        builtins.genList (
          file:
          let
            name = "unit-${toString group}-${toString file}";
          in
          builtins.toFile "${name}.service" ''
            [Unit]
            Description=${name}
            [Service]
            ExecStart=/bin/sh -c 'echo ${builtins.hashString "sha256" name}'
            Type=oneshot
          ''
        ) 99
      )
    )
  ) 101;
in
{
  # A path for each Debian package.
  packages = toplevel "packages" (packages "1");
  # The same, but for store hashes: what an update of what everything is built with leaves.
  rebuilt = toplevel "packages" (packages "2");
  # Many small paths.
  many = toplevel "many" groups;
}
