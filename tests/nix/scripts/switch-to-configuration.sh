#!@shell@/bin/sh
# Only `boot`: makes this system the one that boots next. The exit code is the boot-loader installer's.
export PATH=@shell@/bin

case ${1:-} in
  boot) ;;
  *)
    echo "Usage: ${0##*/} boot" >&2
    echo "This system can only be made the default for the next boot." >&2
    exit 1
    ;;
esac

if [ ! -e /etc/NIXOS ]; then
  echo "This is not a NixOS installation!" >&2
  exit 1
fi

mkdir -p /run/nixos

# Asked for by an installer: the boot loader's own files may be missing, not only its menu.
export NIXOS_INSTALL_BOOTLOADER=${NIXOS_INSTALL_BOOTLOADER:-0}
@bootLoader@ @out@ || exit $?

[ "${NIXOS_NO_SYNC:-}" = 1 ] || sync
