# The newest of nixpkgs' kernels for which there is a ZFS that builds.
#
# `kernels` is `pkgs.linuxKernel.packages`, `zfs` the name that ZFS's module has in each of them.
{ lib }:
{ kernels, zfs }:
let
  # linux_6_12, but not linux_hardened, linux_latest (an alias), linux_rpi4 or linux_6_12_hardened.
  isPlain = name: builtins.match "linux_[0-9]+_[0-9]+" name != null;
  # A kernel that is out of support throws when it is looked at.
  fits =
    name:
    let
      set = kernels.${name};
      looked = builtins.tryEval (set ? kernel && set ? ${zfs} && !(set.${zfs}.meta.broken or false));
    in
    looked.success && looked.value;
  names = builtins.filter (name: isPlain name && fits name) (builtins.attrNames kernels);
  newer = a: b: lib.versionOlder kernels.${b}.kernel.version kernels.${a}.kernel.version;
in
if names == [ ] then
  throw ''
    cygnet: of nixpkgs' kernels none has the module ${zfs} of ZFS that is not marked as broken.
    Take another nixpkgs, or set boot.zfs.package = pkgs.zfs_unstable, or boot.kernelPackages to one that you know to fit.
  ''
else
  kernels.${builtins.head (builtins.sort newer names)}
