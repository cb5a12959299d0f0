# The kernel and its modules, ZFS among them.
{
  settings,
  build,
  source,
}:
let
  inherit (settings.kernel) version;

  image = build.run {
    name = "linux-${version}";
    image = source "kernel-image" settings.kernel.image;
    script = ''
      mkdir -p $out
      cp $image $out/Image
    '';
  };

  # Drivers for hardware that no small board has are left out: they would double what has to be sent.
  modules = build.run {
    name = "linux-${version}-modules";
    inherit version;
    modules = source "kernel-modules" settings.kernel.modules;
    inherit (settings) depmod;
    script = ''
      mkdir -p $out/lib/modules
      cp -r $modules $out/lib/modules/$version
      chmod -R u+w $out
      cd $out/lib/modules/$version
      rm -rf build source kernel/sound kernel/drivers/gpu kernel/drivers/media kernel/drivers/infiniband \
        kernel/drivers/iio kernel/drivers/staging kernel/drivers/scsi/*/ kernel/drivers/net/ethernet/mellanox
      $depmod -b $out $version
    '';
  };
in
{
  inherit image modules;
}
