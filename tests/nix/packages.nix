# One store path for each Debian package, unpacked and with /usr merged. `nix-support/depends` names the store paths of
# the packages it depends on, which is how Nix comes to record them as references.
{
  settings,
  build,
  source,
  # With an edition, each program and library has its run path at its end, as patchelf leaves it: store paths are in all of
  # them then, and differ from one edition to the next.
  edition ? null,
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
      ''
      + (if edition == null then "" else addRunPath);
    };

  addRunPath = ''
    # Edition ${edition}
    runPath=$out/lib
    for path in $depends; do
      runPath=$runPath:$path/lib
    done
    find . -type f '(' -name '*.so*' -o -perm -0100 ')' > $NIX_BUILD_TOP/programs
    while IFS= read -r file; do
      if [ "$(head -c 4 "$file" | tail -c 3)" = ELF ]; then
        chmod u+w "$file"
        printf '\0%s\0' "$runPath" >> "$file"
      fi
    done < $NIX_BUILD_TOP/programs
  '';

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
