# One store path for each Debian package, unpacked and with /usr merged. `nix-support/depends` names the store paths of
# the packages it depends on, which is how Nix comes to record them as references.
{
  settings,
  build,
  source,
}:
let
  # The list comes without cycles (Debian has some, such as libc6 and libgcc-s1; a Nix store cannot).
  byName = builtins.listToAttrs (
    map (package: {
      inherit (package) name;
      value = unpack package;
    }) settings.packages
  );

  unpack =
    package:
    build.run {
      name = "${package.name}-${package.version}";
      deb = source "${package.name}.deb" package.file;
      depends = map (name: byName.${name}) package.depends;
      script = ''
        mkdir -p $out
        dpkg-deb -x $deb $out
        cd $out
        for dir in bin sbin lib lib64; do
          if [ -L $dir ]; then
            rm $dir
          elif [ -d $dir ]; then
            mkdir -p usr/$dir
            cp -a $dir/. usr/$dir/
            rm -rf $dir
          fi
        done
        for kind in doc info lintian locale man bug; do
          rm -rf usr/share/$kind
        done
        mkdir -p nix-support
        for path in $depends; do
          echo $path
        done > nix-support/depends
      '';
    };

  depends = builtins.listToAttrs (
    map (package: {
      inherit (package) name;
      value = package.depends;
    }) settings.packages
  );

  # Names of a package and of everything it needs.
  closureOf =
    name:
    map (item: item.key) (
      builtins.genericClosure {
        startSet = [ { key = name; } ];
        operator = item: map (key: { inherit key; }) depends.${item.key};
      }
    );
in
{
  inherit byName closureOf;
  all = map (package: byName.${package.name}) settings.packages;
}
