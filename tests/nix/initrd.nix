# The initial RAM disk: busybox, the modules a root file system on ZFS needs, and the tools to import its pool.
{
  settings,
  layout,
  build,
  packages,
  scripts,
  kernel,
}:
let
  # Where the tools' libraries are: in everything zfsutils-linux needs, down to libc.
  libraries = map (name: packages.byName.${name}) (packages.closureOf "zfsutils-linux");
in
build.run {
  name = "initrd-linux-${settings.kernel.version}";
  inherit libraries;
  earlyFileSystems = builtins.concatStringsSep "" (
    map (fs: "${fs.dataset} ${fs.mountpoint}\n") layout.earlyFileSystems
  );
  passAsFile = [ "earlyFileSystems" ];
  inherit (settings) hostId modprobe;
  inherit (settings.kernel) version;
  inherit (kernel) modules;
  busybox = packages.byName.busybox-static;
  zfsutils = packages.byName.zfsutils-linux;
  init = scripts.initrdInit;
  inherit (scripts) applets;
  wanted = [
    "virtio_pci"
    "virtio_mmio"
    "virtio_blk"
    "sd_mod"
    "xhci_pci"
    "usb_storage"
    "uas"
    "zfs"
  ];
  script = ''
    mkdir root
    cd root
    mkdir -p bin dev etc lib/modules proc run sys usr/bin usr/lib usr/sbin mnt-root
    ln -s ../lib/aarch64-linux-gnu usr/lib/aarch64-linux-gnu
    cp $busybox/usr/bin/busybox bin/busybox
    for applet in $applets; do
      ln -s busybox bin/$applet
    done
    cp $init init
    chmod 0755 init

    # In the order in which they must be loaded.
    for module in $wanted; do
      $modprobe -d $modules -S $version --show-depends $module 2>/dev/null || true
    done | while read -r verb file options; do
      [ "$verb" = insmod ] || continue
      name=$(basename "$file")
      target=''${name%.xz}
      [ -e lib/modules/$target ] && continue
      case $name in
        *.xz) unxz -c "$file" > lib/modules/$target ;;
        *) cp "$file" lib/modules/$target ;;
      esac
      echo $target >> lib/modules/order
    done
    grep -qx zfs.ko lib/modules/order

    cp $zfsutils/usr/sbin/zpool $zfsutils/usr/sbin/zfs $zfsutils/usr/sbin/mount.zfs usr/sbin/
    mkdir -p lib/aarch64-linux-gnu
    for package in $libraries; do
      for file in $package/usr/lib/aarch64-linux-gnu/lib*.so.* $package/usr/lib/aarch64-linux-gnu/ld-linux*; do
        if [ -e $file ] || [ -L $file ]; then
          cp -a $file lib/aarch64-linux-gnu/
        fi
      done
    done
    ln -s aarch64-linux-gnu/ld-linux-aarch64.so.1 lib/ld-linux-aarch64.so.1

    # Little-endian, as spl.ko reads it.
    printf "$(echo $hostId | sed 's/\(..\)\(..\)\(..\)\(..\)/\\x\4\\x\3\\x\2\\x\1/')" > etc/hostid
    echo ${settings.hostName} > etc/hostname
    : > etc/mtab
    cp $earlyFileSystemsPath etc/early-file-systems

    mkdir $out
    find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 | gzip -6 > $out/initrd
  '';
}
