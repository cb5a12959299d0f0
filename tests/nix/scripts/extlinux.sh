#!@shell@/bin/sh
# Copies kernels and initial RAM disks to /boot and writes the menu that U-Boot reads: what generic-extlinux-compatible
# does. Argument: the system that boots by default.
set -e
export PATH=@shell@/bin
umask 0022

default=$1
target=/boot
limit=20
timeout=10 # tenths of a second

if [ ! -d "$default" ]; then
  echo "install-boot-loader: $default is not a system" >&2
  exit 1
fi
mkdir -p "$target/nixos" "$target/extlinux"
rm -f "$target"/extlinux/*.tmp.*

kept=" "

# Sets `copied` to the name under $target/nixos. FAT has no links: every file is written aside, then renamed.
copy() {
  source=$(readlink -f "$1")
  name=${source#/nix/store/}
  copied=$(echo "$name" | tr / -)
  if [ ! -e "$target/nixos/$copied" ]; then
    # `exit`, not `set -e`: that does not hold inside a function whose result is looked at.
    cp "$source" "$target/nixos/$copied.tmp.$$" || exit 1
    mv "$target/nixos/$copied.tmp.$$" "$target/nixos/$copied" || exit 1
  fi
  kept="$kept$copied "
}

# entry SYSTEM TAG
entry() {
  system=$(readlink -f "$1")
  if [ ! -e "$system/kernel" ] || [ ! -e "$system/initrd" ]; then
    echo "install-boot-loader: $system has no kernel or no initrd" >&2
    return 1
  fi
  copy "$system/kernel"
  kernel=$copied
  copy "$system/initrd"
  initrd=$copied
  echo
  echo "LABEL nixos-$2"
  if [ "$2" = default ]; then
    echo "  MENU LABEL NixOS - Default"
  else
    echo "  MENU LABEL NixOS - Configuration $2 ($(cat "$system/nixos-version"))"
  fi
  echo "  LINUX ../nixos/$kernel"
  echo "  INITRD ../nixos/$initrd"
  echo "  APPEND init=$system/init $(cat "$system/kernel-params")"
}

menu=$target/extlinux/extlinux.conf
tmp=$menu.tmp.$$
{
  echo "# Made by the boot-loader installer of $default: it will be overwritten."
  echo "DEFAULT nixos-default"
  echo "MENU TITLE ------------------------------------------------------------"
  echo "TIMEOUT $timeout"
} > "$tmp"

entry "$default" default >> "$tmp"
for generation in $(
  for link in /nix/var/nix/profiles/system-*-link; do
    [ -L "$link" ] || continue
    number=${link##*/system-}
    echo "${number%-link}"
  done | sort -rn | head -n "$limit"
); do
  entry "/nix/var/nix/profiles/system-$generation-link" "$generation" >> "$tmp" || continue
done
sync
mv -f "$tmp" "$menu"

for file in "$target"/nixos/*; do
  name=${file##*/}
  case $kept in
    *" $name "*) ;;
    *) rm -f "$file" ;;
  esac
done
sync
