#!@shell@/bin/sh
# Stands for a boot-loader installer that finds its partition full.
echo "install-boot-loader: /boot/nixos: No space left on device" >&2
exit 28
