# What the system's users see as /usr: all packages merged into one tree of links.
{
  build,
  packages,
  installed,
  radio,
}:
build.run {
  name = "system-path";
  packages = packages.all ++ [
    installed.package
    radio.package
  ];
  script = ''
    mkdir -p $out/bin $out/sbin $out/lib $out/share
    # Plain files become links into their package.
    for package in $packages; do
      for entry in $package/usr/*; do
        if [ -e $entry ] || [ -L $entry ]; then
          cp -rsf $entry $out/
        fi
      done
    done
    # A package's own links stay as they are: systemd reads a unit's aliases from them.
    for package in $packages; do
      if [ -d $package/usr ]; then
        cd $package/usr
        find . -type l | cpio -o -H newc | (cd $out && cpio -i -d -u)
      fi
    done
    cd $out
    # Modules come with the kernel, not with the packages.
    rm -rf $out/lib/modules
    ln -s /run/current-system/kernel-modules/lib/modules $out/lib/modules
  '';
}
