#!/bin/sh
# Stage 1: load the modules, import the pool, mount what the second stage needs, hand over.
# There is no shell to fall into: without a screen nobody could use it, and over a serial line anybody could.
export PATH=/bin:/usr/sbin

say() { echo "stage 1: $*" > /dev/console; }

# stop WHAT CAUSE REMEDY
stop() {
  {
    echo
    echo "stage 1: STOPPED: $1"
    echo "  likely cause: $2"
    echo "  what to do:   $3"
  } > /dev/console
  # As NixOS has it: the end of the first process is a panic, and `panic=` reboots.
  case " $(cat /proc/cmdline) " in
    *" boot.panic_on_fail "*) exit 1 ;;
  esac
  while :; do sleep 3600; done
}

mount -t proc -o nosuid,noexec,nodev proc /proc
mount -t sysfs -o nosuid,noexec,nodev sysfs /sys
mount -t devtmpfs -o nosuid,mode=0755 devtmpfs /dev
mount -t tmpfs -o nosuid,nodev,mode=0755 tmpfs /run
exec < /dev/console > /dev/console 2>&1
echo "<<< NixOS Stage 1 >>>"
hostname "$(cat /etc/hostname)"

init=
for word in $(cat /proc/cmdline); do
  case $word in
    init=*) init=${word#init=} ;;
  esac
done
[ -n "$init" ] || stop "no init= on the kernel command line" "a boot menu that was edited by hand" \
  "add init=/nix/store/...-nixos-system-.../init in extlinux/extlinux.conf on the boot partition"
# Lines of `dataset mountpoint`, the root first: what the second stage's own files lie on.
read -r root _ < /etc/early-file-systems
pool=${root%%/*}

while read -r module; do
  insmod "/lib/modules/$module" || say "module $module could not be loaded"
done < /lib/modules/order
[ -e /sys/module/zfs ] || stop "the ZFS module could not be loaded" "modules and kernel of different versions" \
  "boot an older entry of the menu"

# There is no udev here; pools are made and remembered with names that stay the same.
name_disks() {
  mkdir -p /dev/disk/by-id
  for block in /sys/block/vd*; do
    serial=$(cat "$block/serial" 2>/dev/null)
    [ -n "$serial" ] || continue
    disk=${block##*/}
    ln -sfn "../../$disk" "/dev/disk/by-id/virtio-$serial"
    for part in "$block/$disk"*; do
      [ -e "$part/partition" ] && ln -sfn "../../${part##*/}" "/dev/disk/by-id/virtio-$serial-part$(cat "$part/partition")"
    done
  done
}

# Never with -f: a pool that another machine did not export may still be in use there.
tries=0
imported=
while [ $tries -lt 20 ]; do
  name_disks
  if zpool import -N -d /dev/disk/by-id "$pool" 2> /run/import.log || zpool import -N -d /dev "$pool" 2>> /run/import.log; then
    imported=yes
    break
  fi
  # Only a missing disk is worth waiting for.
  grep -q "no such pool" /run/import.log || break
  tries=$((tries + 1))
  sleep 1
done
if [ -z "$imported" ]; then
  cat /run/import.log
  if grep -qi -e "previously in use" -e "hostid" -e "another system" /run/import.log; then
    stop "pool $pool was last used by another machine and not exported" \
      "the installer was interrupted before its last step" \
      "boot the card and let the installer finish, or there: zpool import -f -N $pool; zpool export $pool"
  else
    stop "pool $pool could not be imported" "the disk is missing or its pool is damaged (see the lines above)" \
      "check cable and power of the disk, then boot the card and run: zpool import"
  fi
fi
say "imported $pool as host $(od -An -tx4 /etc/hostid)"

target=/mnt-root
while read -r dataset mountpoint; do
  mkdir -p "$target$mountpoint"
  mount -t zfs "$dataset" "$target$mountpoint" || stop "$dataset could not be mounted as $mountpoint" \
    "the dataset is missing, or its mountpoint property is not 'legacy'" "boot the card and run: zfs list -r $pool"
done < /etc/early-file-systems

case $init in
  /nix/store/*) ;;
  *) stop "init=$init is not in /nix/store" "a boot menu that was edited by hand" "boot another entry of the menu" ;;
esac
[ -x "$target$init" ] || stop "$init does not exist on $root" "the system was only partly installed" \
  "boot another entry of the menu, or install again from the card"

mkdir -p $target/proc $target/sys $target/dev $target/run
for dir in proc sys dev run; do
  mount --move /$dir $target/$dir
done
exec switch_root $target "$init"
