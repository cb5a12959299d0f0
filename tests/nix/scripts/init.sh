#!@shell@/bin/sh
# Stage 2: PID 1 after the first stage has mounted / and /nix. Makes this system the current one, then becomes systemd.
export PATH=@shell@/bin

mounted() { grep -q " $1 " /proc/self/mounts 2>/dev/null; }

mkdir -p /proc /sys /dev /run
mounted /proc || mount -t proc -o nosuid,noexec,nodev proc /proc
mounted /sys || mount -t sysfs -o nosuid,noexec,nodev sysfs /sys
mounted /dev || mount -t devtmpfs -o nosuid,mode=0755 devtmpfs /dev
mounted /run || mount -t tmpfs -o nosuid,nodev,mode=0755 tmpfs /run

echo "<<< NixOS Stage 2 >>>" > /dev/console
@out@/activate > /dev/console 2>&1 || echo "stage 2: the activation failed, going on" > /dev/console
ln -sfn @out@ /run/booted-system

# Only Nix changes the store; it remounts it for itself.
mount --bind /nix/store /nix/store && mount -o remount,ro,bind /nix/store

unset PATH
exec /run/current-system/sw/lib/systemd/systemd "$@"
