#!@shell@/bin/sh
# Makes the running (or chrooted) root file system fit this system. May be run any number of times.
systemConfig=@out@
# Files that programs change or want as files of their own; the rest of /etc is links.
copies=$systemConfig/etc/.copies
export PATH=@shell@/bin
umask 0022
_status=0

# Each snippet runs to its end or its first failing command; a failure is named and the next one still runs.
snippet() {
  (
    set -e
    "$1"
  )
  _localstatus=$?
  if [ $_localstatus -ne 0 ]; then
    printf "Activation script snippet '%s' failed (%s)\n" "$1" "$_localstatus" >&2
    _status=1
  fi
}

mounted() { grep -q " $1 " /proc/self/mounts 2>/dev/null; }

specialfs() {
  mkdir -p /proc /sys /dev /run
  [ -e /proc/self/mounts ] || mount -t proc -o nosuid,noexec,nodev proc /proc
  mounted /run || mount -t tmpfs -o nosuid,nodev,mode=0755 tmpfs /run
  [ -c /dev/null ] || mount -t devtmpfs -o nosuid,mode=0755 devtmpfs /dev
  [ -d /sys/kernel ] || mount -t sysfs -o nosuid,noexec,nodev sysfs /sys
}

directories() {
  mkdir -p /etc /home /tmp /var/empty /var/lib /var/log /var/tmp /var/cache /nix/var/nix/gcroots /nix/var/nix/profiles
  mkdir -p -m 0700 /root
  chmod 1777 /tmp /var/tmp
  ln -sfn /run /var/run
}

# Link `$2` to `$1` unless a directory with something in it is in the way.
link() {
  if [ -d "$2" ] && [ ! -L "$2" ]; then
    rmdir "$2"
  fi
  ln -sfn "$1" "$2"
}

# The packages look for their interpreter, libraries and helpers under these names.
fhs() {
  link /run/current-system/sw /usr
  link /run/current-system/sw/bin /bin
  link /run/current-system/sw/sbin /sbin
  link /run/current-system/sw/lib /lib
}

# Every directory is a real one and only files are links: what programs add to /etc must never land in the store.
etc() {
  ln -sfn "$systemConfig/etc" /etc/static
  # What an earlier generation gave and this one does not.
  find -L /etc -path /etc/static -prune -o -type l -print | while read -r entry; do
    case $(readlink "$entry") in
      /etc/static/*) rm -f "$entry" ;;
    esac
  done
  cp -rsf /etc/static/* /etc/
  find /etc -type d -exec chmod u+w {} +
  # Except where links have a meaning of their own: to systemd a link to a unit of another name is an alias.
  for dir in systemd/system systemd/system-generators; do
    link "/etc/static/.directories/$dir" "/etc/$dir"
  done
  touch /etc/NIXOS /etc/.updated /var/.updated
}

# Replace a file in one step: a power cut leaves the old one or the new one.
install_file() {
  cp "$2" "$3.tmp"
  chmod "$1" "$3.tmp"
  mv -f "$3.tmp" "$3"
}

users() {
  install_file 0644 "$copies/passwd" /etc/passwd
  install_file 0644 "$copies/group" /etc/group
  # Passwords set on the machine are kept.
  if [ ! -s /etc/shadow ]; then
    install_file 0600 "$copies/shadow" /etc/shadow
  fi
  # sshd wants every directory above a key file to be writable by its owner only, which the store need not be.
  mkdir -p /etc/ssh/authorized_keys.d
  for keys in "$copies"/authorized_keys.d/*; do
    install_file 0444 "$keys" "/etc/ssh/authorized_keys.d/${keys##*/}"
  done
}

identity() {
  if [ ! -s /etc/machine-id ]; then
    tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id.tmp
    chmod 0444 /etc/machine-id.tmp
    mv -f /etc/machine-id.tmp /etc/machine-id
  fi
}

current() {
  ln -sfn "$systemConfig" /run/current-system
  ln -sfn /run/current-system /nix/var/nix/gcroots/current-system
}

snippet specialfs
snippet directories
snippet fhs
snippet etc
snippet users
snippet identity
snippet current

exit $_status
