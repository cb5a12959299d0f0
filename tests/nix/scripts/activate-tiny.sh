#!@shell@/bin/sh
# The least an activation does: this system becomes the current one.
systemConfig=@out@
export PATH=@shell@/bin
set -e
mkdir -p /etc /run /nix/var/nix/gcroots
ln -sfn "$systemConfig/etc/hostname" /etc/hostname
ln -sfn "$systemConfig" /run/current-system
ln -sfn /run/current-system /nix/var/nix/gcroots/current-system
