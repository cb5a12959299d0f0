# The directory that stands for one system: same names and meanings as NixOS' `system.build.toplevel`.
{
  settings,
  build,
}:
{
  scripts,
  image,
  modules,
  initrd,
  sw,
  etc,
  # File names in ./scripts.
  activate,
  bootLoader,
  system,
  extraDependencies,
  name ? "nixos-system-${settings.hostName}-${settings.version}",
}:
let
  inherit (scripts) substitute;
in
build.run {
  inherit
    name
    image
    modules
    initrd
    sw
    etc
    extraDependencies
    ;
  inherit (scripts) shell;
  inherit (settings) hostName hostId version;
  targetSystem = system;
  kernelParams = settings.kernelParams;
  bootLoader = substitute {
    name = "install-boot-loader.sh";
    file = ./scripts + "/${bootLoader}";
  };
  init = ./scripts/init.sh;
  activate = ./scripts + "/${activate}";
  switchToConfiguration = ./scripts/switch-to-configuration.sh;
  script = ''
    mkdir -p $out/bin
    ln -s $image/Image $out/kernel
    ln -s $initrd/initrd $out/initrd
    ln -s $modules $out/kernel-modules
    ln -s $sw $out/sw
    ln -s $etc $out/etc
    printf '%s' "$kernelParams" > $out/kernel-params
    printf '%s' "$targetSystem" > $out/system
    printf '%s' "$version" > $out/nixos-version
    echo "$extraDependencies" > $out/extra-dependencies

    fill() {
      sed -e "s|@out@|$out|g" -e "s|@shell@|$shell|g" -e "s|@bootLoader@|$bootLoader|g" \
        -e "s|@hostName@|$hostName|g" -e "s|@hostId@|$hostId|g" $1 > $2
      chmod 0755 $2
    }
    fill $init $out/init
    fill $activate $out/activate
    fill $switchToConfiguration $out/bin/switch-to-configuration

    params=
    for param in $kernelParams; do
      params="$params''${params:+, }\"$param\""
    done
    cat > $out/boot.json <<END
    {
      "org.nixos.bootspec.v1": {
        "system": "$targetSystem",
        "init": "$out/init",
        "initrd": "$initrd/initrd",
        "kernel": "$image/Image",
        "kernelParams": [$params],
        "label": "NixOS $version (Linux)",
        "toplevel": "$out"
      },
      "org.nixos.specialisation.v1": {}
    }
    END
  '';
}
